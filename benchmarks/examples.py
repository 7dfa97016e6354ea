"""Make the examples that the page shows before the first run anew, with the shipped weights.

    python benchmarks/examples.py [tasks | compare] [--task TASK ...]

Every task is run on every sample with its tab's first settings and at several mixing ratios; what its player then shows
goes to `assets/examples`, and with it the clip that the page opens with and the pictures of "How it works". The example
of a comparison is of controllable generation: the image model's frames, two ways to bridge them, and the truth.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bivdiff.bridge.inputs import framewise_inputs
from bivdiff.bridge.pipeline import blended_picture, last, run
from bivdiff.bridge.reuse import StageCache
from bivdiff.catalog.requests import PAPER_PRESET, preset_of
from bivdiff.catalog.tasks import TASKS
from bivdiff.compare.scores import EQUAL, Scorer, below_a_clip, rest_below
from bivdiff.compare.steadiness import FLICKER
from bivdiff.media.card import card
from bivdiff.media.heat import heat_picture
from bivdiff.media.sheets import sprite_sheet
from bivdiff.models.manager import ModelManager
from bivdiff.settings import ASSETS, Settings
from bivdiff.toybox.truths import truth_of
from bivdiff.types import GenerationRequest, GenerationResult
from bivdiff.units import SHARPNESS
from tabs import control, edit, inpaint, outpaint, smooth
from tabs.context import AppContext
from tabs.examples import FOLDER
from tabs.requests import Submission
from tabs.results import heat_of, rest_of, result_player, scores_by_clip, scores_of, shown_masks
from tabs.widgets.player import ComparedClip, comparison_value

QUALITY = 82
STRIP_FRAMES = (0, 2, 4, 6)
SEEDS = range(1, 7)
ENOUGH = 2 / 3  # of the frame-by-frame clip's flicker, at most
PLAINLY = 1 / 3
RATIOS = (0.0, 0.25, 0.5, 0.75, 1.0)
NOTE = ("Example", "of the built-in models, at this tab's first settings. Press Generate for your own.")

COMPARED_SAMPLE, COMPARED_SEED = "moonlit chess", 1  # what both bridges do to it is plain to see
HALF = {"mixing_ratio": 0.5}
FRAME_VIEW = {"frame_prior": "video", "mixing_rule": "capped"}
BELOW = (SHARPNESS.format(of="truth"), "Likeness to the truth (PSNR)")


def main() -> None:
    """Make all examples, or those that are asked for."""
    parser = argparse.ArgumentParser(description="Make the examples that the page shows before the first run anew.")
    parser.add_argument("which", nargs="?", choices=("tasks", "compare"), help="all where it is left out")
    parser.add_argument("--task", nargs="+", choices=TASKS, default=list(TASKS), help="of the tasks only these")
    args = parser.parse_args()
    which = args.which
    FOLDER.mkdir(exist_ok=True)
    if which != "compare":
        make_tasks(args.task)
    if which != "tasks":
        make_comparison()


def make_comparison() -> None:
    """Bridge the same frames as the paper does and by the frame view, and write both beside frames and truth."""
    with tempfile.TemporaryDirectory() as folder:
        context = AppContext.from_settings(replace(Settings(), history_folder=Path(folder), cache_size="0"))
        names = [sample.name for sample in context.samples]
        number = names.index(COMPARED_SAMPLE)
        sample = context.samples[number]
        job = control.read_job(
            context, {"sample": number, "prompt": sample.prompt, "random_seed": False, "seed": COMPARED_SEED}
        )
        truth = truth_of(job.request)
        if truth is None:
            raise SystemExit("The world does not know what this sample should show.")
        manager, cache = ModelManager(Settings()), StageCache()
        paper_bridge = papers(job.request) | HALF
        bridges = paper_bridge, paper_bridge | FRAME_VIEW  # which differ in nothing else
        made = [last(run(replace(job.request, **bridge), manager, cache)) for bridge in bridges]
        framewise = made[0].framewise_frames
        score = Scorer(job.request, made[0].control_frames, manager, truth)
        paper, view = (f"ratio {bridge['mixing_ratio']:g}, {noise}" for bridge, noise in zip(
            bridges, ("noise of the image model", "noise of the video model"), strict=True
        ))  # fmt: skip
        clips = {
            ("Frame by frame", "the image model alone"): framewise, ("The paper's blend", paper): made[0].frames,
            ("The frame view", view): made[1].frames, ("The truth", "what the prompt describes"): truth,
        }  # fmt: skip
        scores, heats = zip(*(score.measured(frames, framewise) for frames in clips.values()), strict=True)
        tones = ("image", "blend", "blend", "")
        first, *others = [
            ComparedClip(
                label, None, sublabel, scores=_below(job.request, each), tone=tone,
                rest=rest_below(job.request, each, scores[0]),
            )
            for (label, sublabel), each, tone in zip(clips, scores, tones, strict=True)
        ]  # fmt: skip
        shown = comparison_value(others, job.fps, befores=[first])
        for tile, frames, heat in zip(shown["tiles"], clips.values(), heats, strict=True):
            tile["sheet"] = _sheet(frames)
            tile["heat"] = None if heat is None else heat_picture(heat, tile["rest"]["level"])
        shown |= {"numFrames": len(framewise), "lossy": True}
        _write("compare.json", {"player": shown, "says": _what_to_see(scores)})
        says = f"{FLICKER}: {others[1].rest['words']}" if others[1].rest else ""
        card([("Frame by frame", framewise), ("Bridged", made[1].frames)], says).save(ASSETS / "card.jpg", quality=90)


def papers(request: GenerationRequest) -> dict[str, Any]:
    """The preset "paper", but for what makes the frames: these are the same under both bridges."""
    preset = preset_of(PAPER_PRESET, request.task, request.image_model, request.family)
    return {name: value for name, value in preset.items() if name not in framewise_inputs(request.image_model).fields}


def _below(request: GenerationRequest, scores: dict[str, float]) -> dict[str, str]:
    told = below_a_clip(request, scores)
    return {name: told[name] for name in BELOW if name in told and told[name] != EQUAL}


def _what_to_see(scores: Sequence[dict[str, float]]) -> str:
    """One sentence on the example, made of its numbers: of the frames and of the two bridged clips."""
    frames, paper, view = scores[:3]

    def against(bridged: dict[str, float]) -> str:
        gained = bridged["psnr"] - frames["psnr"]
        return f"{'gains' if gained >= 0 else 'loses'} {abs(gained):.1f} dB against the truth"

    return (
        f"Look at what stands still: frame by frame it flickers by {frames['excess_flicker']:.1f} levels; the paper's "
        f"blend leaves {paper['excess_flicker']:.1f} of them and {against(paper)}; the frame view leaves "
        f"{view['excess_flicker']:.1f} and {against(view)}."
    )


def make_tasks(tasks: Sequence[str]) -> None:
    """Run tasks on every sample at several mixing ratios, and write what its player then shows."""
    shown: dict[int, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        context = AppContext.from_settings(replace(Settings(), history_folder=Path(folder), cache_size="0"))
        manager = ModelManager(Settings())
        for tab in (control, edit, inpaint, outpaint, smooth):
            if tab.TASK not in tasks:
                continue
            for sample in range(len(context.samples)):
                job, result = _best(context, tab, sample, manager)
                example = _example(job, result, manager)
                _write(f"{tab.TASK}/{sample}.json", example)
                if tab is control:
                    shown[sample] = example
                    if sample == 0:
                        _write("how.json", {key: _strip(frames) for key, frames in _stages(result).items()})
    if shown:
        _write("hero.json", _hero(shown))


def _best(context: AppContext, tab: Any, sample: int, manager: ModelManager) -> tuple[Submission, GenerationResult]:
    """A sample's run with the first seed whose flicker the bridge lowers enough, else with that it lowers most."""
    found = []
    for seed in SEEDS:
        job = tab.read_job(context, _values(context, tab.TASK, sample) | {"seed": seed})
        result = last(run(job.request, manager, StageCache()))
        scores = scores_of(result)
        before, after = scores["framewise_excess_flicker"], scores["excess_flicker"]
        if before is None:  # nobody knows how what is new beyond the edges should move
            return job, result
        share = after / max(before, 1e-6)
        found.append((share, job, result))
        print(f"{tab.TASK}, {context.samples[sample].name}, seed {seed}: {share:.2f} of the flicker stays", flush=True)
        if share <= ENOUGH or tab is smooth:
            break
    return min(found, key=lambda each: each[0])[1:]


def _example(job: Submission, result: GenerationResult, manager: ModelManager) -> dict[str, Any]:
    """The player's value of a run, with its clips at other ratios."""
    scores, cache = scores_of(result), StageCache()
    shown = result_player(result, job.fps, scores, {})
    for tile, frames in zip(shown["tiles"], _pictures(result), strict=True):
        tile["sheet"] = _sheet(frames)
    kept = ("Flicker at rest", "Mixing ratio")
    shown["facts"] = [NOTE, *(fact for fact in shown["facts"] if fact[0] in kept)]
    shown["flicker"] = [scores["framewise_excess_flicker"], scores["excess_flicker"]]
    shown["ratios"] = []
    for ratio in sorted({*RATIOS, result.request.mixing_ratio} - {result.request.mixing_ratio}):
        other = last(run(replace(result.request, mixing_ratio=ratio), manager, cache))
        own = scores_of(other)
        below = scores_by_clip(own, other.request.image_model)["bridged"]
        heat = heat_of(other.request, other.frames, own["excess_flicker"])
        shown["ratios"].append({
            "ratio": ratio, "sheet": _sheet(other.frames), "scores": below, "rest": rest_of(own), "heat": heat,
        })  # fmt: skip
    del shown["job"]
    return shown


def _hero(examples: Mapping[int, dict[str, Any]]) -> dict[str, Any]:
    """What the page opens with: of controllable generation, the first sample that is calmed plainly."""
    sample, example = next(
        item for item in sorted(examples.items()) if item[1]["flicker"][1] <= PLAINLY * item[1]["flicker"][0]
    )
    framewise, bridged = (tile["sheet"] for tile in example["tiles"][:2])
    return {
        "framewise": framewise, "bridged": bridged, "flicker": example["flicker"], "fps": example["fps"],
        "sample": sample,
    }  # fmt: skip


def _values(context: AppContext, task: str, number: int) -> dict[str, Any]:
    """What a task's tab is filled in with when a sample is chosen."""
    sample = context.samples[number]
    prompts = {"control": sample.prompt, "inpaint": sample.erased}
    return {
        "sample": number, "prompt": prompts.get(task, sample.caption), "instruction": sample.instruction,
        "source_prompt": sample.caption, "left": "25%", "right": "25%", "random_seed": False,
    }  # fmt: skip


def _pictures(result: GenerationResult) -> list[np.ndarray]:
    """The clips of a result in the order of its tiles."""
    request, task = result.request, result.request.task
    given = [] if task in {"outpaint", "smooth"} else [request.frames]
    if request.masks is not None:
        given.append(shown_masks(request.frames, request.masks))
    return [result.framewise_frames, result.frames, *given, *result.control_frames]


def _stages(result: GenerationResult) -> dict[str, np.ndarray]:
    """The clips of "How it works"; the inversion is shown as what the decoder makes of its noise."""
    noise = blended_picture(result.request, ModelManager(Settings()))
    return {
        "source": result.request.frames, "framewise": result.framewise_frames, "inverted": noise,
        "bridged": result.frames,
    }  # fmt: skip


def _sheet(frames: np.ndarray) -> dict[str, Any]:
    return sprite_sheet(frames, lossless=False, quality=QUALITY)


def _strip(frames: np.ndarray) -> str:
    """Some frames beside each other, as a data address."""
    return _sheet(np.concatenate(list(frames[list(STRIP_FRAMES)]), axis=1)[None])["src"]


def _write(name: str, value: Any) -> None:
    (FOLDER / name).parent.mkdir(parents=True, exist_ok=True)
    (FOLDER / name).write_text(json.dumps(value) + "\n", "utf-8")


if __name__ == "__main__":
    main()
