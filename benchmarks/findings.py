"""What the bridge's settings do on every toybox task, against the truth.

`python benchmarks/findings.py --clips 24 --state rows.json` measures what `rows.json` does not hold yet, and prints it.
"""

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

from bivdiff.bridge.control_maps import control_maps
from bivdiff.bridge.outcomes import outcome_of
from bivdiff.bridge.pipeline import blend, resolved, smooth_clips
from bivdiff.bridge.reuse import StageCache
from bivdiff.bridge.session import enter
from bivdiff.catalog.image_models import IMAGE_MODELS, title_of
from bivdiff.catalog.requests import blank_request
from bivdiff.catalog.tasks import TASKS
from bivdiff.compare.scores import MOST_SHARPNESS_LOST, MOST_SSIM_LOST, map_agreement, recommend
from bivdiff.errors import BIVDiffError
from bivdiff.evaluate.evaluation import Case, case_of
from bivdiff.models.cost import evaluations_of
from bivdiff.models.manager import ModelManager
from bivdiff.pixels import metrics
from bivdiff.settings import Settings

Row = dict[str, Any]
Cell = dict[str, Any]

WAYS = (
    ("control", "controlnet"), ("control", "t2i-adapter"), ("edit", "instruct-pix2pix"), ("edit", "prompt2prompt"),
    ("inpaint", "inpainting"), ("outpaint", "inpainting"), ("smooth", "given"),
)  # fmt: skip
RATIOS = (0.0, 0.1, 0.25, 0.5, 0.75, 1.0)
PAPER_RATIOS = (0.0, 0.25, 0.5, 1.0)
PAPER: Cell = {"frame_prior": "image", "mixing_rule": "linear", "start_level": 1.0}
PRIORS = (("image", "linear"), ("image", "capped"), ("video", "linear"), ("video", "capped"), ("mean", "linear"))
LEVELS = (1.0, 0.8, 0.6, 0.4)
BRIDGE = ("mixing_ratio", "frame_prior", "mixing_rule", "start_level", "num_inversion_steps", "num_smoothing_steps")
FRAMES = ("sampler", "num_inference_steps", "guided_share", "frame_attention", "noise_sharing")
NEAR = 0.5  # dB


def preset_of(task: str, image_model: str) -> Cell:
    """What the toybox starts with, of all that is tried here."""
    preset = blank_request(task, "toybox", image_model)
    return {name: getattr(preset, name) for name in (*BRIDGE, *FRAMES)}


def ratio_cells(preset: Cell) -> Iterator[Cell]:
    """The dial at the preset."""
    for ratio in RATIOS:
        yield {**preset, "mixing_ratio": ratio}


def paper_cells(preset: Cell) -> Iterator[Cell]:
    """The paper's dial, in as many steps."""
    for ratio in PAPER_RATIOS:
        yield {**preset, **PAPER, "mixing_ratio": ratio}


def prior_cells(preset: Cell) -> Iterator[Cell]:
    """Each frame noise by each rule, at each start level."""
    for level, (prior, rule), ratio in product(LEVELS, PRIORS, (0.5, 1.0)):
        changed = {"start_level": level, "frame_prior": prior, "mixing_rule": rule, "mixing_ratio": ratio}
        yield {**preset, **changed}
    for level in LEVELS:
        yield {**preset, "start_level": level, "mixing_ratio": 0.0}


def step_cells(preset: Cell) -> Iterator[Cell]:
    """As many steps as the paper's share of the schedule would have, and fewer."""
    for steps in (20, 10, 8, 5):
        yield {**preset, "num_inversion_steps": steps, "num_smoothing_steps": steps}


def frame_cells(preset: Cell) -> Iterator[Cell]:
    """Ways to make the frames, all bridged alike: first the paper's in 20 steps."""
    paper = {"sampler": "ddim", "num_inference_steps": 20, "guided_share": 1.0, "frame_attention": "none"}
    yield {**preset, **paper}
    for attention in ("first", "previous", "both"):
        yield {**preset, **paper, "frame_attention": attention}
    for sampler, steps, share in (("ddim", 12, 1.0), ("ddim", 12, 0.5), ("unipc", 12, 0.5), ("dpm++", 8, 0.5)):
        yield {**preset, **paper, "sampler": sampler, "num_inference_steps": steps, "guided_share": share}
    for share in (1.0, 0.67, 0.5, 0.34):
        yield {**preset, **paper, "sampler": "dpm++", "num_inference_steps": 12, "guided_share": share}
    for shared in (0.5, 1.0):
        yield {**preset, "noise_sharing": shared}
    yield preset


PARTS: Mapping[str, Callable[[Cell], Iterator[Cell]]] = {
    "ratio": ratio_cells, "paper": paper_cells, "prior": prior_cells, "steps": step_cells, "frames": frame_cells,
}  # fmt: skip


# Measuring


@torch.inference_mode()
def measure(task: str, image_model: str, scene: int, cells: Sequence[Cell], manager: ModelManager) -> list[Row]:
    """A row for every cell, fields of the request, of one case of the evaluation; and one for the frames it bridges."""
    case, cache = case_of(task, scene, "toybox", image_model=image_model), StageCache(64)
    request = resolved(case.request)
    rows: list[Row] = []
    with ExitStack() as exits:
        session = enter(request, manager, cache, exits)
        score = _Scores(case, session.control_frames, manager)
        plain = outcome_of(blend(session))[0]
        for cell in cells:
            own = enter(replace(request, **cell), manager, cache, exits)  # the models of a cell are its own
            frames, blended = outcome_of(blend(own))
            (clip,) = outcome_of(smooth_clips(own, blended, 0))
            counted = evaluations_of(own.request)
            made = {name: cell[name] for name in FRAMES}
            if not any(row["kind"] == "framewise" and made.items() <= row.items() for row in rows):
                evaluations = counted.get("framewise", 0)
                rows.append({"kind": "framewise", **made, "evaluations": evaluations, "scores": score(frames, plain)})
            found = {**score(clip, plain), "framewise_ssim": metrics.ssim(clip, frames)}
            rows.append({"kind": "bridged", **cell, "evaluations": sum(counted.values()), "scores": found})
    return rows


class _Scores:
    """Scores of clips of one case against its truth."""

    def __init__(self, case: Case, maps: Sequence[np.ndarray], manager: ModelManager) -> None:
        self._case, self._maps, self._manager = case, maps, manager

    def __call__(self, frames: np.ndarray, plain: np.ndarray) -> dict[str, float]:
        """Of uint8 frames `(F, H, W, 3)`; sharpness is relative to those of `plain`."""
        case = self._case
        scores = metrics.score_clip(frames, case.truth, case.masks, case.background, plain, case.colored)
        scores["true_sharpness"] = metrics.relative_sharpness(frames, case.truth)
        if case.request.masks is not None:
            scores |= metrics.score_fill(frames, case.truth, case.request.frames, case.request.masks)
        if self._maps:
            drawn = control_maps(replace(case.request, frames=frames), self._manager)
            agreements = [map_agreement(*pair) for pair in zip(drawn, self._maps, strict=True)]
            scores["control_agreement"] = float(np.mean(agreements))
        return {name: float(value) for name, value in scores.items()}


def gather(
    ways: Sequence[tuple[str, str]], parts: Sequence[str], scenes: range, state: Path | None
) -> dict[str, dict[str, list[Row]]]:
    """Rows by way, "task/image model", and scene; cells that `state` holds are not made again. It is kept current."""
    rows: dict[str, dict[str, list[Row]]] = json.loads(state.read_text("utf-8")) if state and state.exists() else {}
    manager = ModelManager(Settings.from_env())
    for scene, (task, image_model) in product(scenes, ways):
        mine = rows.setdefault(f"{task}/{image_model}", {}).setdefault(str(scene), [])
        cells = cells_of(task, image_model, parts)
        missing = [cell for cell in cells if not any(cell.items() <= row.items() for row in mine)]
        if missing:
            found = measure(task, image_model, scene, missing, manager)
            mine += [row for row in found if row["kind"] == "bridged" or not _has(mine, row)]
            if state:
                whole = state.with_suffix(".part")
                whole.write_text(json.dumps(rows), "utf-8")
                whole.replace(state)
            print(f"scene {scene}: {len(missing)} cells of {task}/{image_model} done", file=sys.stderr, flush=True)
    return rows


def cells_of(task: str, image_model: str, parts: Sequence[str]) -> list[Cell]:
    """The cells of some parts, each once; an image model has no cells that change what it does not read."""
    preset, model = preset_of(task, image_model), IMAGE_MODELS[image_model]
    cells = [cell for part in parts for cell in PARTS[part](preset)]
    if not model.makes_frames:
        cells = [cell for cell in cells if all(cell[name] == preset[name] for name in FRAMES)]
    elif model.inverts_source:
        own = ("sampler", "guided_share", "noise_sharing")
        cells = [cell for cell in cells if all(cell[name] == preset[name] for name in own)]
    return [cell for number, cell in enumerate(cells) if cell not in cells[:number]]


def _has(rows: Sequence[Row], row: Row) -> bool:
    return any(row["kind"] == other["kind"] and all(row[name] == other[name] for name in FRAMES) for other in rows)


# What is printed


class Way:
    """The rows of one task and image model, by scene."""

    def __init__(self, task: str, image_model: str, scenes: Mapping[str, Sequence[Row]]) -> None:
        self.task, self.image_model, self.scenes = task, image_model, scenes
        self.preset = preset_of(task, image_model)

    @property
    def title(self) -> str:
        """What it is called."""
        return title_of(self.image_model) if self.task in {"control", "edit"} else TASKS[self.task].title

    def rows(self, cell: Cell, kind: str = "bridged") -> dict[str, Row]:
        """The rows of one cell, or of the frames that it bridges, by scene."""
        names = FRAMES if kind == "framewise" else cell
        wanted = {"kind": kind, **{name: cell[name] for name in names}}
        return {scene: row for scene, rows in self.scenes.items() for row in rows if wanted.items() <= row.items()}

    def line(self, label: str, rows: Mapping[str, Row]) -> list[str]:
        """What a row of the table says of a cell: differences to the preset's frames, and shares of their flicker."""
        frames = self.rows(self.preset, "framewise")
        told = [_say(differences(rows, frames, score)) for score in DIFFERENCES]
        told += [_digits(share(rows, frames, score)) for score in SHARES]
        told += [_digits(mean(rows, score)) for score in MEANS]
        counts = {row["evaluations"] for row in rows.values()}
        return [label, str(len(rows)), "/".join(map(str, sorted(counts))), *told]


DIFFERENCES = {
    "psnr": "PSNR", "object_psnr": "object PSNR", "fill_psnr": "fill PSNR", "object_iou": "object IoU",
    "color_error": "colour error",
}  # fmt: skip
SHARES = {"background_flicker": "flicker, share", "warp_error": "warp error, share"}
MEANS = {"sharpness": "sharpness", "true_sharpness": "of the truth's", "control_agreement": "control"}
HEAD = ("", "scenes", "evaluations", *DIFFERENCES.values(), *SHARES.values(), *MEANS.values())


def table(way: Way, part: str) -> str:
    """One part of a way, against the preset's frames.

    PSNR and the like less theirs, as mean ± standard error (median); flicker and warp error as median shares of theirs;
    sharpness over theirs, and over the truth's.
    """
    lines = [list(HEAD), ["---"] * len(HEAD)]
    lines.append(way.line("the preset's frames", way.rows(way.preset, "framewise")))
    for cell in cells_of(way.task, way.image_model, [part]):
        rows = way.rows(cell)
        if not rows:
            continue
        if part == "frames":
            lines.append(way.line(f"{_label(cell, FRAMES)}", way.rows(cell, "framewise")))
        label = "… bridged" if part == "frames" else _label(cell, BRIDGE)
        lines.append(way.line(f"**{label}**" if cell == way.preset else label, rows))
    kept = [place for place in range(len(HEAD)) if any(line[place] for line in lines[2:])]
    return "\n".join(f"| {' | '.join(line[place] for place in kept)} |" for line in lines)


def beside(ways: Sequence[Way], part: str) -> str:
    """One part of all ways, of the scenes that all of them have: a row for each setting, a column for each way.

    PSNR less that of the preset's frames, as mean ± standard error (median), and the median share of their flicker.
    """
    common = set.intersection(*(set(way.scenes) for way in ways))
    shown = [
        Way(way.task, way.image_model, {scene: way.scenes[scene] for scene in way.scenes if scene in common})
        for way in ways
    ]
    by_label: dict[str, list[str]] = {}
    for place, way in enumerate(shown):
        frames = way.rows(way.preset, "framewise")
        for cell in cells_of(way.task, way.image_model, [part]):
            if rows := way.rows(cell):
                line = by_label.setdefault(_label(cell, BRIDGE), [""] * len(shown))
                found = differences(rows, frames, "psnr")
                told = f"{found.mean:+.1f} ± {found.error:.1f} ({found.median:+.1f})"
                line[place] = f"{told}; {share(rows, frames, 'background_flicker'):.2f}"
    head = [f"{len(common)} scenes", *(way.title for way in shown)]
    lines = [head, ["---"] * len(head), *([label, *line] for label, line in by_label.items())]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _label(cell: Cell, names: Sequence[str]) -> str:
    said = {
        "mixing_ratio": "ratio {:g}", "frame_prior": "{}", "mixing_rule": "{}", "start_level": "level {:g}",
        "num_smoothing_steps": "{} steps", "num_inference_steps": "{} steps", "sampler": "{}",
        "guided_share": "guided {:g}", "frame_attention": "sees {}", "noise_sharing": "noise shared {:g}",
    }  # fmt: skip
    quiet = {("frame_attention", "none"), ("noise_sharing", 0.0), ("guided_share", 1.0)}
    return ", ".join(
        said[name].format(cell[name]) for name in names if name in said and (name, cell[name]) not in quiet
    )


class Difference(NamedTuple):
    """Of scores over scenes: mean, standard error of it, and median."""

    mean: float
    error: float
    median: float


def differences(rows: Mapping[str, Row], others: Mapping[str, Row], score: str) -> Difference:
    """Scene by scene, over those that both have; NaN where fewer than two have it."""
    both = [_of(rows[scene], score) - _of(others[scene], score) for scene in rows if scene in others]
    found = np.array([value for value in both if math.isfinite(value)])
    if len(found) < 2:
        return Difference(math.nan, math.nan, math.nan)
    return Difference(float(found.mean()), float(found.std(ddof=1) / math.sqrt(len(found))), float(np.median(found)))


def share(rows: Mapping[str, Row], others: Mapping[str, Row], score: str) -> float:
    """Median over the scenes of a score as a share of another clip's.

    Means would be those of the few scenes in which the image model fails, and flickers a hundred times as much.
    """
    both = [(_of(rows[scene], score), _of(others[scene], score)) for scene in rows if scene in others]
    found = [one / other for one, other in both if other > 0]
    return float(np.median(found)) if found else math.nan


def mean(rows: Mapping[str, Row], score: str) -> float:
    """Over the scenes that have it; NaN where none has."""
    found = [value for row in rows.values() if math.isfinite(value := _of(row, score))]
    return float(np.mean(found)) if found else math.nan


def _of(row: Row, score: str) -> float:
    value: float = row["scores"].get(score, math.nan)
    return value


def _say(found: Difference) -> str:
    return "" if math.isnan(found.mean) else f"{found.mean:+.2g} ± {found.error:.1g} ({found.median:+.2g})"


def _digits(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.3g}"


# The recommendation


class Advice(NamedTuple):
    """A ratio that was recommended, and its PSNR to the truth, less the best ratio's and less the preset's, in dB."""

    ratio: float
    to_best: float
    to_preset: float


def advice(way: Way, **limits: float) -> list[Advice]:
    """What the app's own rule, which knows no truth, recommends of the dial at the preset, for each scene."""
    by_ratio = {cell["mixing_ratio"]: way.rows(cell) for cell in ratio_cells(way.preset)}
    found = []
    for scene in way.scenes:
        if not all(scene in rows for rows in by_ratio.values()):
            continue
        scores = [rows[scene]["scores"] for rows in by_ratio.values()]
        truth, ratios = [each["psnr"] for each in scores], list(by_ratio)
        chosen, _ = recommend(scores, **limits)
        preset = _of(way.rows(way.preset)[scene], "psnr")
        found.append(Advice(ratios[chosen], truth[chosen] - max(truth), truth[chosen] - preset))
    return found


def recommended(ways: Sequence[Way]) -> str:
    """What following the app's own rule costs or gains in each way, and with other limits in all of them together."""
    head = ["", "ratios, clips", f"within {NEAR:g} dB of the best", "PSNR - best, dB (median; worst)", "PSNR - preset"]
    lines = [head, ["---"] * len(head)]
    lines += [[way.title, *_advised(told)] for way in ways if (told := advice(way))]
    for sharpness_lost, ssim_lost in product((0.02, 0.03, 0.05, 0.1), (0.01, 0.02, 0.04)):
        told = [each for way in ways for each in advice(way, sharpness_lost=sharpness_lost, ssim_lost=ssim_lost)]
        if told:
            ours = (sharpness_lost, ssim_lost) == (MOST_SHARPNESS_LOST, MOST_SSIM_LOST)
            label = f"all; {sharpness_lost:.0%} sharpness, {ssim_lost:g} SSIM"
            lines.append([f"**{label}**" if ours else label, *_advised(told)])
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _advised(told: Sequence[Advice]) -> list[str]:
    ratios, to_best = Counter(each.ratio for each in told), np.array([each.to_best for each in told])
    return [
        ", ".join(f"{ratio:g}: {ratios[ratio]}" for ratio in sorted(ratios)),
        f"{(to_best > -NEAR).sum()} of {len(told)}", f"{np.median(to_best):+.2g}; {to_best.min():+.2g}",
        f"{np.mean([each.to_preset for each in told]):+.2g}",
    ]  # fmt: skip


# The picture

CURVES = {
    "PSNR over the\nframe-wise clip's, dB": "psnr",
    "flicker, as a share of\nthe frame-wise clip's": "background_flicker",
}
DIALS = {"the paper's": (paper_cells, "#c2410c", "--"), "the preset's": (ratio_cells, "#1d4ed8", "-")}


def draw(ways: Sequence[Way], path: Path) -> None:
    """Draw both dials: PSNR less the frame-wise clip's, and flicker as a share of the frame-wise one's.

    The picture has a ground of its own, so it can be read on a light and on a dark page.
    """
    import matplotlib.pyplot as plt  # of requirements-dev.txt; the tables need none

    plt.rcParams.update({"svg.hashsalt": "findings", "svg.fonttype": "none", "font.family": "sans-serif"})
    figure, panels = plt.subplots(len(CURVES), len(ways), figsize=(2.6 * len(ways) + 0.8, 5), squeeze=False)
    for axes, (name, score) in zip(panels, CURVES.items(), strict=True):
        axes[0].set_ylabel(name, fontsize=9)
        for panel, way in zip(axes, ways, strict=True):
            _draw_panel(panel, way, score)
    for panel, way in zip(panels[0], ways, strict=True):
        panel.set_title(f"{way.title}, {len(way.scenes)} scenes", fontsize=10, loc="left")
    found = {text: line for panel in panels.flat for line, text in zip(*panel.get_legend_handles_labels(), strict=True)}
    figure.legend(found.values(), found.keys(), loc="upper left", ncols=len(found), frameon=False, fontsize=9)
    figure.text(0.99, 0.965, "medians", ha="right", fontsize=9)
    figure.supxlabel("mixing ratio", fontsize=9)
    figure.tight_layout(rect=(0, 0, 1, 0.93))
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
    plt.close(figure)


def _draw_panel(panel: Any, way: Way, score: str) -> None:
    frames = way.rows(way.preset, "framewise")
    for name, (cells, color, dash) in DIALS.items():
        points = []
        for cell in cells(way.preset):
            if rows := way.rows(cell):
                value = differences(rows, frames, score).median if score == "psnr" else share(rows, frames, score)
                points.append((cell["mixing_ratio"], value))
        if points:
            panel.plot(*zip(*points, strict=True), color=color, linestyle=dash, marker="o", markersize=3, label=name)
    panel.axvline(way.preset["mixing_ratio"], color="#6d28d9", linestyle=":", linewidth=1, label="the preset")
    panel.axhline(0.0 if score == "psnr" else 1.0, color="#71717a", linewidth=1, label="the frame-wise clip")
    panel.set_xticks(RATIOS, [f"{ratio:g}" for ratio in RATIOS])
    panel.tick_params(labelsize=7)
    if score != "psnr":
        panel.set_ylim(bottom=0)


def main() -> int:
    """Measure what is missing, and print the tables; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--task", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--image-model", nargs="+", choices=IMAGE_MODELS, default=list(IMAGE_MODELS))
    parser.add_argument("--part", nargs="+", choices=PARTS, default=["ratio"])
    parser.add_argument("--clips", type=int, default=24)
    parser.add_argument("--first-scene", type=int, default=400, help="away from those that settings were chosen on")
    parser.add_argument("--state", type=Path, nargs="+", help="where rows are kept after each scene, to go on from; "
                        "with --only-show several, that were measured side by side")  # fmt: skip
    parser.add_argument("--only-show", action="store_true", help="measure nothing")
    parser.add_argument("--svg", type=Path, help="where to draw the dials, by matplotlib")
    args = parser.parse_args()
    chosen = [way for way in WAYS if way[0] in args.task and way[1] in args.image_model]
    scenes = range(args.first_scene, args.first_scene + args.clips)
    try:
        if args.only_show:
            rows = _joined(args.state)
        else:
            rows = gather(chosen, args.part, scenes, args.state[0] if args.state else None)
    except BIVDiffError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    ways = [Way(*way, rows["/".join(way)]) for way in chosen if "/".join(way) in rows]
    for way in ways:
        for part in args.part:
            print(f"### {way.title}: {part}\n\n{table(way, part)}\n", flush=True)
    if "prior" in args.part and len(ways) > 1:
        print(f"### All of them: prior\n\n{beside(ways, 'prior')}\n", flush=True)
    if "ratio" in args.part:
        print(f"### What is recommended\n\n{recommended(ways)}\n", flush=True)
    if args.svg:
        draw(ways, args.svg)
    return 0


def _joined(states: Sequence[Path]) -> dict[str, dict[str, list[Row]]]:
    joined: dict[str, dict[str, list[Row]]] = {}
    for state in states:
        for way, scenes in json.loads(state.read_text("utf-8")).items():
            for scene, rows in scenes.items():
                joined.setdefault(way, {}).setdefault(scene, []).extend(rows)
    return joined


if __name__ == "__main__":
    sys.exit(main())
