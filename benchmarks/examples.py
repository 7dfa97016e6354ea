"""Make the examples that the page shows before the first run anew, with the shipped weights.

    python benchmarks/examples.py [tasks | compare]

Every task is run on the first sample with its tab's first settings; what its player then shows goes to
`assets/examples`, and with it the pictures of "How it works". The example of a comparison is of controllable
generation: the image model's frames, two ways to bridge them, and the truth.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bivdiff.bridge.pipeline import blended_picture, last, run
from bivdiff.bridge.reuse import StageCache
from bivdiff.compare.scores import Scorer, below_a_clip
from bivdiff.media.sheets import sprite_sheet
from bivdiff.models.manager import ModelManager
from bivdiff.settings import Settings
from bivdiff.toybox.truths import truth_of
from bivdiff.types import GenerationRequest, GenerationResult
from tabs import control, edit, inpaint, outpaint, smooth
from tabs.context import AppContext
from tabs.examples import FOLDER
from tabs.results import result_player, scores_of, shown_masks
from tabs.widgets.player import ComparedClip, comparison_value

QUALITY = 82
STRIP_FRAMES = (0, 2, 4, 6)
SEEDS = {"edit": 3}  # 1 for the others; of 1 to 6 the one whose frames are nearest to the truth
NOTE = ("Example", "made with this tab's first settings. Press Generate for your own.")

COMPARED_SAMPLE, COMPARED_SEED = "moonlit chess", 1  # what both bridges do to it is plain to see
PAPERS = {
    "mixing_ratio": 0.5, "frame_prior": "image", "mixing_rule": "linear", "start_level": 1.0, "num_inversion_steps": 20,
    "num_smoothing_steps": 20,
}  # fmt: skip
FRAME_VIEW = {"mixing_ratio": 0.5, "frame_prior": "video", "mixing_rule": "capped", "start_level": 0.6}
BELOW = ("It is", "Flicker", "Sharpness (truth = 1)", "PSNR to truth")


def main() -> None:
    """Make all examples, or those that are asked for."""
    parser = argparse.ArgumentParser(description="Make the examples that the page shows before the first run anew.")
    parser.add_argument("which", nargs="?", choices=("tasks", "compare"), help="all where it is left out")
    which = parser.parse_args().which
    FOLDER.mkdir(exist_ok=True)
    if which != "compare":
        make_tasks()
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
        bridges = PAPERS, FRAME_VIEW
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
        scores = [score(frames, framewise) for frames in clips.values()]
        below = [_below(job.request, each, scores[0]) for each in scores]
        for one in (below[0], below[3]):
            del one["It is"]
        del below[3]["PSNR to truth"]  # it is equal
        shown = comparison_value(
            [ComparedClip(label, None, sublabel, scores=each)
             for (label, sublabel), each in zip(clips, below, strict=True)], job.fps,
        )  # fmt: skip
        for tile, frames in zip(shown["tiles"], clips.values(), strict=True):
            tile["sheet"] = _sheet(frames)
        shown |= {"numFrames": len(framewise), "lossy": True}
        _write("compare.json", {"player": shown, "says": _what_to_see(scores)})


def _below(request: GenerationRequest, scores: dict[str, float], framewise: dict[str, float]) -> dict[str, Any]:
    told = below_a_clip(request, scores, framewise)
    return {name: told[name] for name in BELOW}


def _what_to_see(scores: list[dict[str, float]]) -> str:
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


def make_tasks() -> None:
    """Run every task on the first sample, and write what its player then shows."""
    with tempfile.TemporaryDirectory() as folder:
        context = AppContext.from_settings(replace(Settings(), history_folder=Path(folder), cache_size="0"))
        for tab in (control, edit, inpaint, outpaint, smooth):
            job = tab.read_job(context, _values(context, tab.TASK))
            *_, result = context.run(job.request, False)
            shown = result_player(result, job.fps, scores_of(result), {})
            pictures = _pictures(result)
            for tile, frames in zip(shown["tiles"], pictures, strict=True):
                tile["sheet"] = _sheet(frames)
            kept = ("The bridged clip is", "Mixing ratio")
            shown["facts"] = [
                NOTE,
                *(fact for fact in shown["facts"] if fact[0] in kept),
            ]
            _write(f"{tab.TASK}.json", shown)
            if tab is control:
                _write("how.json", {key: _strip(frames) for key, frames in _stages(result).items()})


def _values(context: AppContext, task: str) -> dict[str, Any]:
    """What a task's tab is filled in with at first."""
    sample = context.samples[0]
    prompts = {"control": sample.prompt, "inpaint": sample.erased}
    return {
        "sample": 0, "prompt": prompts.get(task, sample.caption), "instruction": sample.instruction,
        "source_prompt": sample.caption, "left": "25%", "right": "25%", "random_seed": False,
        "seed": SEEDS.get(task, 1),
    }  # fmt: skip


def _pictures(result: GenerationResult) -> list[np.ndarray]:
    """The clips of a result in the order of its tiles."""
    request, task = result.request, result.request.task
    shown = [] if task == "outpaint" else [request.frames]
    if request.masks is not None:
        shown.append(shown_masks(request.frames, request.masks))
    shown += result.control_frames
    return [*shown, *([] if task == "smooth" else [result.framewise_frames]), result.frames]


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
    (FOLDER / name).write_text(json.dumps(value) + "\n", "utf-8")


if __name__ == "__main__":
    main()
