"""What ratio, rule and shared noise do on every toybox task: `python benchmarks/findings.py --clips 8 --state FILE`."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from smoothing import Variant, smoothed

from bivdiff.bridge.control_maps import control_maps
from bivdiff.bridge.outcomes import outcome_of
from bivdiff.bridge.pipeline import blend, framewise_frames, resolved
from bivdiff.bridge.reuse import StageCache
from bivdiff.bridge.session import enter
from bivdiff.catalog.image_models import IMAGE_MODELS, title_of
from bivdiff.catalog.requests import settings_of
from bivdiff.catalog.tasks import TASKS
from bivdiff.compare.scores import MOST_SHARPNESS_LOST, MOST_SSIM_LOST, map_agreement, recommend
from bivdiff.errors import BIVDiffError
from bivdiff.evaluate.evaluation import Case, case_of
from bivdiff.models.manager import ModelManager
from bivdiff.pixels import metrics
from bivdiff.settings import Settings
from bivdiff.types import MIXING_RULES, GenerationRequest

Row = dict[str, Any]

RATIOS = (0.0, 0.1, 0.25, 0.5, 0.75, 1.0)
MIXED = {"inpainting": (0.1, 0.25)}  # ratios at which the other rules are tried; all rules are one at 0 and 1
MIXED_OTHERWISE = (0.25, 0.5)
SHARES = (0.0, 0.5, 1.0)
PARTS = ("grid", "noise")
# Others start from the source, or from nothing.
OWN_NOISE = [name for name, model in IMAGE_MODELS.items() if model.makes_frames and not model.inverts_source]
WAYS = (
    ("control", "controlnet"), ("control", "t2i-adapter"), ("edit", "instruct-pix2pix"), ("edit", "prompt2prompt"),
    ("inpaint", "inpainting"), ("outpaint", "inpainting"), ("smooth", "given"),
)  # fmt: skip
NEAR = 0.5  # dB
SHOWN = {
    "psnr": "PSNR", "fill_psnr": "fill PSNR", "object_iou": "object IoU", "control_agreement": "control",
    "warp_error": "warp error", "background_flicker": "flicker", "sharpness": "sharpness",
}  # fmt: skip
COLORS = {"linear": "#1d4ed8", "variance_preserving": "#c2410c", "slerp": "#15803d"}
DASHES = {"linear": "-", "variance_preserving": "--", "slerp": ":"}


def preset_of(task: str, image_model: str) -> dict[str, Any]:
    """Ratio, rule and share of noise that the toybox starts with."""
    names = ("mixing_ratio", "mixing_rule", "noise_sharing")
    preset = settings_of(task, image_model, "toybox")
    return {name: preset.get(name, getattr(GenerationRequest, name)) for name in names}


def cells_of(task: str, image_model: str, part: str) -> Iterator[dict[str, Any]]:
    """What is tried: of the "grid" ratios with rules; of "noise" shares of noise at the preset, none of them first."""
    preset = preset_of(task, image_model)
    if part == "grid":
        for rule in MIXING_RULES:
            for ratio in RATIOS if rule == "linear" else MIXED.get(image_model, MIXED_OTHERWISE):
                yield {**preset, "mixing_ratio": ratio, "mixing_rule": rule}
    elif image_model in OWN_NOISE:
        for share in SHARES:
            yield {**preset, "noise_sharing": share}


@torch.inference_mode()
def measure(
    task: str, image_model: str, scene: int, cells: Sequence[Mapping[str, Any]], manager: ModelManager
) -> list[Row]:
    """A row for the frame-wise clip of each share of noise, that of none first, and one for every cell."""
    case, cache = case_of(task, scene, "toybox", image_model=image_model), StageCache()
    case = case._replace(request=resolved(case.request))
    rows: list[Row] = []
    plain = framewise_frames(replace(case.request, noise_sharing=0.0), manager, cache)
    with ExitStack() as exits:
        session = enter(case.request, manager, cache, exits)
        maps = session.control_frames
        for cell in cells:
            own = replace(session, request=replace(case.request, **cell))
            source, blended = outcome_of(blend(own))
            share = cell["noise_sharing"]
            if not any(row["kind"] == "framewise" and row["noise_sharing"] == share for row in rows):
                told = scores_of(case, source, plain, source, maps, manager)
                rows.append({"kind": "framewise", "noise_sharing": share, "scores": told})
            frames = smoothed(own, blended, Variant.of(own.request))
            rows.append({"kind": "bridged", **cell, "scores": scores_of(case, frames, plain, source, maps, manager)})
    return rows


def scores_of(
    case: Case, frames: np.ndarray, plain: np.ndarray, source: np.ndarray, maps: Sequence[np.ndarray],
    manager: ModelManager,
) -> dict[str, float]:  # fmt: skip
    """Scores of a clip against the truth; sharpness against `plain`, likeness against `source`, which it bridges."""
    scores = metrics.score_clip(frames, case.truth, case.masks, case.background, plain, case.colored)
    scores["framewise_ssim"] = metrics.ssim(frames, source)
    if case.request.masks is not None:
        scores |= metrics.score_fill(frames, case.truth, case.request.frames, case.request.masks)
    if maps:
        drawn = control_maps(replace(case.request, frames=frames), manager)
        scores["control_agreement"] = float(np.mean([map_agreement(*pair) for pair in zip(drawn, maps, strict=True)]))
    return {name: float(value) for name, value in scores.items()}


def paired(rows: Mapping[str, Row], others: Mapping[str, Row], score: str) -> tuple[float, float]:
    """Mean difference over the scenes that both have, and its standard error; NaN where fewer than two have it."""
    both = [rows[scene]["scores"].get(score, math.nan) - others[scene]["scores"].get(score, math.nan)
            for scene in rows if scene in others]  # fmt: skip
    return _mean_and_error(both)


def _mean_and_error(values: Sequence[float]) -> tuple[float, float]:
    """Of those that are known; NaN where fewer than two are."""
    found = np.array([value for value in values if not math.isnan(value)])
    if len(found) < 2:
        return math.nan, math.nan
    return float(found.mean()), float(found.std(ddof=1) / math.sqrt(len(found)))


def share(rows: Mapping[str, Row], others: Mapping[str, Row], score: str) -> float:
    """Median over the scenes of a score as a share of another clip's.

    Means would be those of the few scenes in which the image model fails, and flickers a hundred times as much.
    """
    both = [(rows[scene]["scores"][score], others[scene]["scores"][score]) for scene in rows if scene in others]
    found = [one / other for one, other in both if other > 0]
    return float(np.median(found)) if found else math.nan


class Way:
    """The rows of one task and image model, by cell and scene."""

    def __init__(self, task: str, image_model: str, scenes: Mapping[str, Sequence[Row]]) -> None:
        self.task, self.image_model, self.scenes = task, image_model, tuple(scenes)
        self.preset = preset_of(task, image_model)
        self.by_scene = scenes

    @property
    def title(self) -> str:
        """What it is called."""
        return f"{TASKS[self.task].title}, {title_of(self.image_model)}"

    def rows(self, kind: str = "bridged", **cell: Any) -> dict[str, Row]:
        """The rows of one cell, by scene."""
        wanted = {"kind": kind, **cell}
        found = ((scene, row) for scene, rows in self.by_scene.items() for row in rows if wanted.items() <= row.items())
        return dict(found)

    def means(self, rows: Mapping[str, Row]) -> dict[str, float]:
        """Mean scores over the scenes."""
        return metrics.average([row["scores"] for row in rows.values()])

    def grid(self) -> list[dict[str, Any]]:
        """The cells of ratio and rule, without shared noise, that were made."""
        return [cell for cell in cells_of(self.task, self.image_model, "grid") if self.rows(**cell)]

    def everywhere(self) -> list[dict[str, Any]]:
        """The cells that were made of every scene: means of others would be those of other scenes."""
        return [cell for cell in self.grid() if len(self.rows(**cell)) == len(self.scenes)]

    def best(self, rule: str) -> dict[str, Any]:
        """The cell of a rule with the highest mean PSNR, among those in which both inversions have a part."""
        cells = [cell for cell in self.grid() if cell["mixing_rule"] == rule and 0 < cell["mixing_ratio"] < 1]
        return max(cells, key=lambda cell: self.means(self.rows(**cell))["psnr"], default={})

    def advice(self, **limits: float) -> list[Advice]:
        """What the app's own rule, which knows no truth, recommends of the paper's linear blend, for each scene."""
        cells = [cell for cell in self.everywhere() if cell["mixing_rule"] == "linear"]
        framewise, preset = self.rows("framewise", noise_sharing=0.0), self.rows(**self.preset)
        found = []
        for scene in self.scenes if cells else ():
            scores = [self.rows(**cell)[scene]["scores"] for cell in cells]
            truth = [each["psnr"] for each in scores]
            chosen = recommend(scores, **limits).index
            flickers = scores[chosen]["background_flicker"], framewise[scene]["scores"]["background_flicker"]
            found.append(Advice(
                cells[chosen]["mixing_ratio"], truth[chosen] - max(truth),
                truth[chosen] - preset[scene]["scores"]["psnr"] if scene in preset else math.nan,
                flickers[0] / flickers[1] if flickers[1] else math.nan,
            ))  # fmt: skip
        return found


class Advice(NamedTuple):
    """A ratio that was recommended.

    Attributes:
        to_best, to_preset: its PSNR to the truth, less the best ratio's and less the preset's, in dB.
        flicker: as a share of the frame-wise clip's.
    """

    ratio: float
    to_best: float
    to_preset: float
    flicker: float


# What is printed


def tables(way: Way) -> str:
    """A way's tables: ratio x rule, what the other rules change, and shares of noise."""
    default = way.rows(**way.preset)
    alone = {"frame by frame": way.rows("framewise", noise_sharing=0.0)}
    grid = alone | {_label(cell): way.rows(**cell) for cell in way.grid()}
    parts = [f"### {way.title}, {len(way.scenes)} scenes", _table(way, grid, _label(way.preset)), _rules(way)]
    shared = {share: way.rows(**{**way.preset, "noise_sharing": share}) for share in SHARES[1:]}
    if any(shared.values()):
        scenes = set().union(*shared.values())
        noise = {"share 0, frame by frame": alone["frame by frame"], "share 0, bridged": default}
        for share, rows in shared.items():
            noise[f"share {share:g}, frame by frame"] = way.rows("framewise", noise_sharing=share)
            noise[f"share {share:g}, bridged"] = rows
        noise = {label: {scene: row for scene, row in rows.items() if scene in scenes} for label, rows in noise.items()}
        parts += [f"Shared noise at the preset, {len(scenes)} scenes:", _table(way, noise, "share 0, bridged")]
    return "\n\n".join(parts)


def summary(ways: Sequence[Way]) -> str:
    """A line for each way: PSNR and flicker of the linear blend at each ratio, against the frame-wise clip."""
    head = ["PSNR - frame-wise, dB; flicker / frame-wise (median)", *(f"ratio {ratio:g}" for ratio in RATIOS), "preset"]
    lines = [head, ["---"] * len(head)]
    for way in ways:
        alone, preset = way.rows("framewise", noise_sharing=0.0), way.preset["mixing_ratio"]
        row = [f"{_short(way)} ({len(way.scenes)} scenes)"]
        for ratio in RATIOS:
            rows = way.rows(**{**way.preset, "mixing_ratio": ratio, "mixing_rule": "linear"})
            told = f"{_say(paired(rows, alone, 'psnr'))}; {share(rows, alone, 'background_flicker'):.2f}"
            fewer = f" ({len(rows)} scenes)" if len(rows) < len(way.scenes) else ""
            row.append(told + fewer if len(rows) > 1 else "")
        lines.append([*row, f"{preset:g}"])
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def rules(ways: Sequence[Way]) -> str:
    """What the other rules change at one ratio, over the scenes of all ways together."""
    head = ["other rule - linear, all tasks", "clips", "PSNR, dB", "flicker, share", "sharpness, share"]
    lines = [head, ["---"] * len(head)]
    cells = {(cell["mixing_rule"], cell["mixing_ratio"]) for way in ways for cell in way.grid()}
    for rule, ratio in sorted(cell for cell in cells if cell[0] != "linear"):
        one, other = ({(way.title, scene): row for way in ways for scene, row in
                       way.rows(**{**way.preset, "mixing_rule": each, "mixing_ratio": ratio}).items()}
                      for each in (rule, "linear"))  # fmt: skip
        told = [f"{share(one, other, score):.3f}" for score in ("background_flicker", "sharpness")]
        lines.append([f"{rule}, ratio {ratio:g}", str(len(one)), _say(paired(one, other, "psnr")), *told])
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def noise(ways: Sequence[Way]) -> str:
    """What shared noise does to the frame-wise and to the bridged clip of each way, against none of it."""
    head = ["PSNR - without, dB; flicker / without (median)",
            *(f"{share_:g}, {what}" for share_ in SHARES[1:] for what in ("frame by frame", "bridged"))]  # fmt: skip
    lines = [head, ["---"] * len(head)]
    for way in ways:
        alone, bridged = way.rows("framewise", noise_sharing=0.0), way.rows(**way.preset)
        pairs = [
            pair for each in SHARES[1:] for pair in (
                (way.rows("framewise", noise_sharing=each), alone),
                (way.rows(**{**way.preset, "noise_sharing": each}), bridged),
            )
        ]  # fmt: skip
        if pairs[0][0]:
            told = [f"{_say(paired(*pair, 'psnr'))}; {share(*pair, 'background_flicker'):.2f}" for pair in pairs]
            lines.append([f"{_short(way)} ({len(pairs[0][0])} scenes)", *told])
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def recommended(ways: Sequence[Way]) -> str:
    """What the app's own rule recommends for the clips of each way, and what following it costs or gains."""
    head = ["recommended ratio, without the truth", "ratios, clips", f"within {NEAR:g} dB of the best, clips",
            "PSNR - best, dB (median; worst)", "PSNR - preset, dB"]  # fmt: skip
    lines = [head, ["---"] * len(head)]
    for way in ways:
        if advice := way.advice():
            ratios = Counter(each.ratio for each in advice)
            to_best = np.array([each.to_best for each in advice])
            lines.append([
                f"{_short(way)} ({len(advice)} scenes)",
                ", ".join(f"{ratio:g} in {ratios[ratio]}" for ratio in sorted(ratios)),
                f"{(to_best > -NEAR).sum()} of {len(advice)}",
                f"{np.median(to_best):+.2g}; {to_best.min():+.2g}",
                _say(_mean_and_error([each.to_preset for each in advice])),
            ])  # fmt: skip
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def limits(ways: Sequence[Way]) -> str:
    """What the rule's two limits are worth, over the clips of all ways together."""
    head = ["most sharpness, SSIM lost", f"within {NEAR:g} dB of the best", "PSNR - best, dB (mean; worst)",
            "flicker / frame-wise (median)"]  # fmt: skip
    lines = [head, ["---"] * len(head)]
    for sharpness_lost, ssim_lost in product((0.02, 0.03, 0.05, 0.1), (0.01, 0.02)):
        advice = [each for way in ways for each in way.advice(sharpness_lost=sharpness_lost, ssim_lost=ssim_lost)]
        if advice:
            to_best = np.array([each.to_best for each in advice])
            ours = (sharpness_lost, ssim_lost) == (MOST_SHARPNESS_LOST, MOST_SSIM_LOST)
            label, flicker = f"{sharpness_lost:.0%}, {ssim_lost:g}", np.nanmedian([each.flicker for each in advice])
            lines.append([
                f"**{label}**" if ours else label, f"{(to_best > -NEAR).mean():.0%} of {len(advice)}",
                f"{to_best.mean():+.2g}; {to_best.min():+.2g}", f"{flicker:.2f}",
            ])  # fmt: skip
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _label(cell: Mapping[str, Any]) -> str:
    rule = f", {cell['mixing_rule']}" if 0 < cell["mixing_ratio"] < 1 else ""
    return f"{cell['mixing_ratio']:g}{rule}"


def _table(way: Way, cells: Mapping[str, Mapping[str, Row]], named: str) -> str:
    """Means, and the difference of PSNR and warp error to the row `named`, scene by scene, with its standard error."""
    default = cells[named]
    known = [name for name in SHOWN if not math.isnan(way.means(default).get(name, math.nan))]
    head = ["", "scenes", *(SHOWN[name] for name in known), f"PSNR - ({named})", f"warp error - ({named})"]
    lines = [head, ["---"] * len(head)]
    for label, rows in cells.items():
        means = way.means(rows)
        differences = [_say(paired(rows, default, name)) for name in ("psnr", "warp_error")]
        told = [
            str(len(rows)),
            *(_digits(means.get(name, math.nan)) for name in known),
            *(differences if label != named else ["", ""]),
        ]
        lines.append([f"**{label}**" if label == named else label, *told])
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _rules(way: Way) -> str:
    """What the other rules change at the same ratio, and each at its best ratio."""
    names = ("psnr", "warp_error", "background_flicker", "sharpness")
    head = ["other rule - linear", "scenes", *(SHOWN[name] for name in names)]
    lines = [head, ["---"] * len(head)]
    pairs = {_label(cell): (cell, {**cell, "mixing_rule": "linear"})
             for cell in way.grid() if cell["mixing_rule"] != "linear"}  # fmt: skip
    for rule in MIXING_RULES[1:]:
        best, linear = way.best(rule), way.best("linear")
        if best:
            pairs[f"best PSNR: ({_label(best)}) - ({_label(linear)})"] = (best, linear)
    for label, (one, other) in pairs.items():
        rows, others = way.rows(**one), way.rows(**other)
        told = [_say(paired(rows, others, name)) for name in names]
        lines.append([label, str(len(rows.keys() & others.keys())), *told])
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _say(difference: tuple[float, float]) -> str:
    mean, error = difference
    return "" if math.isnan(mean) else f"{mean:+.2g} ± {float(f'{error:.1g}'):g}"


def _digits(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.3g}"


# The picture


CURVES = {
    "PSNR over the\nframe-wise clip's, dB": "psnr",
    "flicker, as a share of\nthe frame-wise clip's": "background_flicker",
}


def draw(ways: Sequence[Way], path: Path) -> None:
    """Draw curves over the ratio: PSNR less the frame-wise clip's, and flicker as a share of the frame-wise one's.

    The picture has a ground of its own, so it can be read on a light and on a dark page.
    """
    import matplotlib.pyplot as plt  # of requirements-dev.txt; the tables need none

    plt.rcParams.update({"svg.hashsalt": "findings", "svg.fonttype": "none", "font.family": "sans-serif"})
    figure, rows = plt.subplots(len(CURVES), len(ways), figsize=(2.6 * len(ways) + 0.8, 5), squeeze=False)
    for axes, (name, score) in zip(rows, CURVES.items(), strict=True):
        axes[0].set_ylabel(name, fontsize=9)
        for panel, way in zip(axes, ways, strict=True):
            _draw_panel(panel, way, score)
    for panel, way in zip(rows[0], ways, strict=True):
        panel.set_title(f"{_short(way)}, {len(way.scenes)} scenes", fontsize=10, loc="left")
    found = {text: line for panel in rows.flat for line, text in zip(*panel.get_legend_handles_labels(), strict=True)}
    figure.legend(found.values(), found.keys(), loc="upper left", ncols=len(found), frameon=False, fontsize=9)
    figure.text(0.99, 0.965, "bars: a standard error", ha="right", fontsize=9)
    figure.supxlabel("mixing ratio", fontsize=9)
    figure.tight_layout(rect=(0, 0, 1, 0.93))
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
    plt.close(figure)


def _draw_panel(panel: Any, way: Way, score: str) -> None:
    lines = _lines(way, score)
    for rule, points in lines.items():
        errors = [[point.value - point.low for point in points], [point.high - point.value for point in points]]
        ratios, values = [point.ratio for point in points], [point.value for point in points]
        looks = {"color": COLORS[rule], "linestyle": DASHES[rule], "elinewidth": 1}
        panel.errorbar(ratios, values, yerr=errors, label=rule.replace("_", " "), **looks)
    panel.axvline(way.preset["mixing_ratio"], color="#6d28d9", linestyle="--", linewidth=1, label="the preset")
    level = 0.0 if score == "psnr" else 1.0
    panel.axhline(level, color="#71717a", linestyle=":", linewidth=1, label="the frame-wise clip")
    ratios = sorted({point.ratio for points in lines.values() for point in points})
    panel.set_xticks(ratios, [f"{ratio:g}" for ratio in ratios])
    panel.tick_params(labelsize=8)
    if score != "psnr":
        panel.set_ylim(bottom=0)


def _short(way: Way) -> str:
    return title_of(way.image_model) if way.task in {"control", "edit"} else TASKS[way.task].title


class _Point(NamedTuple):
    """Where a curve passes, and as far as a standard error goes on either side."""

    ratio: float
    value: float
    low: float
    high: float


def _lines(way: Way, score: str) -> dict[str, list[_Point]]:
    """The curve of each rule: mean differences in dB to the frame-wise clip, or median shares of its score."""
    alone, cells = way.rows("framewise", noise_sharing=0.0), way.everywhere()
    found: dict[str, list[_Point]] = {}
    for rule in MIXING_RULES:
        if not any(cell["mixing_rule"] == rule for cell in cells):
            continue
        for cell in sorted(cells, key=lambda cell: cell["mixing_ratio"]):
            if cell["mixing_rule"] == rule or cell["mixing_ratio"] in {0.0, 1.0}:
                rows = way.rows(**cell)
                value, error = paired(rows, alone, score) if score == "psnr" else (share(rows, alone, score), 0.0)
                found.setdefault(rule, []).append(_Point(cell["mixing_ratio"], value, value - error, value + error))
    return found


# Running


def gather(
    ways: Sequence[tuple[str, str]], wanted: Callable[[str, str], list[dict[str, Any]]], scenes: range,
    state: Path | None,
) -> dict[str, dict[str, list[Row]]]:  # fmt: skip
    """Rows by way, "task/image model", and scene; cells that `state` holds are not made again. It is kept current."""
    rows: dict[str, dict[str, list[Row]]] = json.loads(state.read_text("utf-8")) if state and state.exists() else {}
    manager = ModelManager(Settings.from_env())
    for scene in scenes:
        for task, image_model in ways:
            mine = rows.setdefault(f"{task}/{image_model}", {}).setdefault(str(scene), [])
            cells = wanted(task, image_model)
            missing = [cell for cell in cells if not any(cell.items() <= row.items() for row in mine)]
            if not missing:
                continue
            mine += measure(task, image_model, scene, missing, manager)
            if state:
                whole = state.with_suffix(".part")
                whole.write_text(json.dumps(rows), "utf-8")
                whole.replace(state)
            print(f"scene {scene}: {len(missing)} cells of {task}/{image_model} done", file=sys.stderr, flush=True)
    return rows


def main() -> int:
    """Measure what is missing, and print the tables; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--task", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--part", nargs="+", choices=PARTS, default=list(PARTS), help="ratio x rule, shared noise")
    parser.add_argument("--ratios", nargs="+", type=float, default=list(RATIOS), help="fewer ratios, more scenes")
    parser.add_argument("--rules", nargs="+", choices=MIXING_RULES, default=list(MIXING_RULES))
    parser.add_argument("--clips", type=int, default=8)
    parser.add_argument("--first-scene", type=int, default=200, help="away from the scenes that evaluate reports")
    parser.add_argument("--state", type=Path, help="where rows are kept after each scene, to go on from")
    parser.add_argument("--json", type=Path, help="where to write the rows")
    parser.add_argument("--svg", type=Path, help="where to draw the curves, by matplotlib")
    args = parser.parse_args()
    ways = [way for way in WAYS if way[0] in args.task]
    scenes = range(args.first_scene, args.first_scene + args.clips)

    def wanted(task: str, image_model: str) -> list[dict[str, Any]]:
        grid = [cell for cell in cells_of(task, image_model, "grid") if "grid" in args.part]
        grid = [cell for cell in grid if cell["mixing_rule"] in args.rules and cell["mixing_ratio"] in args.ratios]
        shared = [cell for cell in cells_of(task, image_model, "noise") if "noise" in args.part]
        return grid + [cell for cell in shared if cell not in grid]

    try:
        rows = gather(ways, wanted, scenes, args.state)
    except BIVDiffError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    found = [Way(*way, {str(scene): rows["/".join(way)][str(scene)] for scene in scenes}) for way in ways]
    for told in (summary, rules, noise, recommended, limits):
        print(f"{told(found)}\n", flush=True)
    for way in found:
        print(f"{tables(way)}\n", flush=True)
    if args.json:
        told = {f"{way.task}/{way.image_model}": way.by_scene for way in found}
        args.json.write_text(json.dumps(told, indent=1), "utf-8")
    if args.svg:
        draw(found, args.svg)
    return 0


if __name__ == "__main__":
    sys.exit(main())
