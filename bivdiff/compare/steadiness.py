"""What the eye sees of a bridged clip: whether it is calmer than its frames, and whether it is still sharp.

The task tabs, the history and a comparison all have their figures and their sentence from here.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from bivdiff.catalog.image_models import IMAGE_MODELS
from bivdiff.pixels import metrics
from bivdiff.pixels.flow import MIN_SIDE
from bivdiff.toybox.truths import truth_of
from bivdiff.types import GenerationRequest, GenerationResult
from bivdiff.units import finite

UNSEEN = 0.2
"""Levels of flicker that are none: the true clips of the samples are up to this far from their sources' own."""
ALIKE = 1.05  # times by which two clips may differ and still be called as calm as each other


def figures_of(result: GenerationResult) -> dict[str, Any]:
    """What a run is scored by in its record and in the history, ready for JSON.

    Returns:
        `excess_flicker` and `framewise_excess_flicker`, see `excess_flicker`, of the bridged and the frame-wise clip;
        `sharpness` of the bridged clip, the frame-wise one's being 1; where the truth is known `true_sharpness` and
        `framewise_true_sharpness`, the truth's being 1; and `steadiness`, in words. None is what could not be measured.
    """
    request, framewise, truth = result.request, result.framewise_frames, truth_of(result.request)
    flicker, of_frames = (excess_flicker(request, frames, truth) for frames in (result.frames, framewise))
    sharpness = {"sharpness": metrics.relative_sharpness(result.frames, framewise)}
    if truth is not None:
        sharpness["true_sharpness"] = metrics.relative_sharpness(result.frames, truth)
        sharpness["framewise_true_sharpness"] = metrics.relative_sharpness(framewise, truth)
    return {
        **finite({"excess_flicker": flicker, "framewise_excess_flicker": of_frames, **sharpness}),
        "steadiness": steadiness(request, flicker, of_frames),
    }


def excess_flicker(request: GenerationRequest, frames: np.ndarray, truth: np.ndarray | None = None) -> float:
    """How much a clip made of a request flickers beyond the motion it should have, in levels (0 to 255); 0 is none.

    Each frame is held against the one before it, moved along by the flow of the truth, or without one of the source;
    what that clip itself differs by so is taken off. Given frames have no such zero: their source is what flickers.

    Args:
        request: what was asked; its frames are the source.
        frames: the clip, uint8 `(F, H, W, 3)`.
        truth: what it should show, of the same shape, where that is known.

    Returns:
        The level; NaN where nothing can be measured, see `unmeasured`.
    """
    if truth is None and unmeasured(request):
        return math.nan
    guide = request.frames if truth is None else truth
    if truth is None and not IMAGE_MODELS[request.image_model].makes_frames:
        return metrics.moved_difference([frames], guide)[0]
    own, other = metrics.moved_difference([guide, frames], guide)
    return math.nan if math.isnan(own) else max(other - own, 0.0)


def unmeasured(request: GenerationRequest) -> str:
    """Why no flicker can be measured without a truth, in words; empty where it can."""
    if len(request.frames) < 2:
        return "one frame cannot flicker"
    if min(request.frames.shape[1:3]) < MIN_SIDE:
        return "the picture is too small for its motion to be found"
    return "" if request.masks is None else "the source does not say how what is new should move"


def steadiness(request: GenerationRequest, flicker: float, of_frames: float) -> str:
    """How calm a clip is beside the frames it was made of, in words that go on from "It is".

    Args:
        request: what was asked.
        flicker, of_frames: `excess_flicker` of the clip and of its frames.
    """
    frames = "frame by frame" if IMAGE_MODELS[request.image_model].makes_frames else "your frames"
    if math.isnan(flicker) or math.isnan(of_frames):
        return f"not measured: {unmeasured(request) or 'nothing of the motion could be followed'}"
    if max(flicker, of_frames) < UNSEEN:
        return f"as free of flicker as {frames}"
    times = max(of_frames, UNSEEN) / max(flicker, UNSEEN)
    if times >= ALIKE:
        return f"{'at least ' if flicker < UNSEEN else ''}{times:.1f} times calmer than {frames}"
    if times > 1 / ALIKE:
        return f"no calmer than {frames}"
    return f"less calm than {frames}: {'at least ' if of_frames < UNSEEN else ''}{1 / times:.1f} times the flicker"
