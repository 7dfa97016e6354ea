"""What the eye sees of a bridged clip: whether it flickers less than its frames, and whether it is still sharp."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from bivdiff.catalog.image_models import IMAGE_MODELS, frames_name
from bivdiff.pixels import metrics
from bivdiff.pixels.flow import MIN_SIDE
from bivdiff.toybox.truths import truth_of
from bivdiff.types import GenerationRequest, GenerationResult
from bivdiff.units import finite

FLICKER = "Flicker at rest"
"""The one name of the measure, wherever it is shown."""
UNSEEN = 0.2
"""Levels of flicker that are none: the true clips of the samples are up to this far from their sources' own."""
ALIKE = 1.05  # times by which two clips may differ and still be said to flicker alike


class Rest(NamedTuple):
    """Flicker at rest of a clip.

    Attributes:
        level: of the whole clip, in levels (0 to 255); NaN where it cannot be measured.
        heat: of each place, float32 `(H, W)`, at least 0; None where it cannot be measured.
    """

    level: float
    heat: np.ndarray | None


def rests_of(result: GenerationResult) -> dict[str, Rest]:
    """Flicker at rest of a result's clips, `bridged` and `framewise`, see `flicker_at_rest`."""
    clips = {"bridged": result.frames, "framewise": result.framewise_frames}
    rests = flickers_at_rest(result.request, list(clips.values()), truth_of(result.request))
    return dict(zip(clips, rests, strict=True))


def figures_of(result: GenerationResult, rests: Mapping[str, Rest] | None = None) -> dict[str, Any]:
    """What a run is scored by in its record and in the history, ready for JSON.

    Args:
        result: of a run.
        rests: as `rests_of` gives them, where they are measured already.

    Returns:
        `excess_flicker` and `framewise_excess_flicker`, see `flicker_at_rest`, of the bridged and the frame-wise clip;
        `sharpness` of the bridged clip, the frame-wise one's being 1; where the truth is known `true_sharpness` and
        `framewise_true_sharpness`, the truth's being 1; and `steadiness`, in words. None is what could not be measured.
    """
    request, framewise, truth = result.request, result.framewise_frames, truth_of(result.request)
    rests = rests_of(result) if rests is None else rests
    flicker, of_frames = (rests[name].level for name in ("bridged", "framewise"))
    sharpness = {"sharpness": metrics.relative_sharpness(result.frames, framewise)}
    if truth is not None:
        sharpness["true_sharpness"] = metrics.relative_sharpness(result.frames, truth)
        sharpness["framewise_true_sharpness"] = metrics.relative_sharpness(framewise, truth)
    return {
        **finite({"excess_flicker": flicker, "framewise_excess_flicker": of_frames, **sharpness}),
        "steadiness": steadiness(request, flicker, of_frames),
    }


def steadiness_of_scores(
    image_model: str, scores: Mapping[str, float | None], framewise_scores: Mapping[str, float | None]
) -> dict[str, Any]:
    """The same as `figures_of`, of a clip of a comparison and the frames it was made of, by their scores."""
    told = {name: scores[name] for name in ("excess_flicker", "sharpness", "true_sharpness") if name in scores}
    told |= {
        f"framewise_{name}": framewise_scores[name] for name in ("excess_flicker", "true_sharpness")
        if name in framewise_scores
    }  # fmt: skip
    flicker, of_frames = (
        math.nan if level is None else level
        for level in (told.get("excess_flicker"), told.get("framewise_excess_flicker"))
    )
    return {**told, "steadiness": _words(image_model, flicker, of_frames, "nothing of the motion could be followed")}


def excess_flicker(request: GenerationRequest, frames: np.ndarray, truth: np.ndarray | None = None) -> float:
    """The level of `flicker_at_rest`."""
    return flicker_at_rest(request, frames, truth).level


def flicker_at_rest(request: GenerationRequest, frames: np.ndarray, truth: np.ndarray | None = None) -> Rest:
    """How much a clip made of a request flickers beyond the motion it should have, in levels (0 to 255); 0 is none.

    Each frame is held against the one before it, moved along by the flow of the truth, or without one of the source;
    what that clip itself differs by so is taken off. Given frames have no such zero: their source is what flickers.

    Args:
        request: what was asked; its frames are the source.
        frames: the clip, uint8 `(F, H, W, 3)`.
        truth: what it should show, of the same shape, where that is known.

    Returns:
        Nothing is measured where `unmeasured` says why, or where no motion could be followed.
    """
    return flickers_at_rest(request, [frames], truth)[0]


def flickers_at_rest(
    request: GenerationRequest, clips: Sequence[np.ndarray], truth: np.ndarray | None = None
) -> list[Rest]:
    """As `flicker_at_rest`, of several clips of one request, with one flow for all of them."""
    if truth is None and unmeasured(request):
        return [Rest(math.nan, None)] * len(clips)
    guide = request.frames if truth is None else truth
    floored = truth is not None or IMAGE_MODELS[request.image_model].makes_frames
    maps, counts = metrics.moved_difference([*clips, guide] if floored else clips, guide)
    if not counts.any():
        return [Rest(math.nan, None)] * len(clips)
    rests = []
    for own in maps[: len(clips)]:
        beyond = own - maps[-1] if floored else own
        heat = np.maximum(beyond, 0) / np.maximum(counts, 1)
        rests.append(Rest(max(float(beyond.sum() / counts.sum()), 0.0), heat.astype(np.float32)))
    return rests


def unmeasured(request: GenerationRequest) -> str:
    """Why no flicker can be measured without a truth, in words; empty where it can."""
    if len(request.frames) < 2:
        return "one frame cannot flicker"
    if min(request.frames.shape[1:3]) < MIN_SIDE:
        return "the picture is too small for its motion to be found"
    return "" if request.masks is None else "the source does not say how what is new should move"


def steadiness(request: GenerationRequest, flicker: float, of_frames: float) -> str:
    """How much a clip flickers at rest beside the frames it was made of, in words that go on from `FLICKER`.

    Args:
        request: what was asked.
        flicker, of_frames: `excess_flicker` of the clip and of its frames.
    """
    why = unmeasured(request) or "nothing of the motion could be followed"
    return _words(request.image_model, flicker, of_frames, why)


def _words(image_model: str, flicker: float, of_frames: float, why: str) -> str:
    frames = frames_name(image_model).lower()
    if math.isnan(flicker) or math.isnan(of_frames):
        return f"not measured: {why}"
    if max(flicker, of_frames) < UNSEEN:
        return f"none, as {frames}"
    changed = _change(flicker, of_frames)
    return f"{changed} than {frames}" if changed else f"as much as {frames}"


def steadiness_sentence(request: GenerationRequest, flicker: float, of_frames: float) -> str:
    """The same as what follows "It": a clip's name and these make a sentence."""
    frames = frames_name(request.image_model).lower()
    if math.isnan(flicker) or math.isnan(of_frames):
        return "has a flicker at rest that could not be measured"
    if max(flicker, of_frames) < UNSEEN:
        return f"is as free of flicker at rest as {frames}"
    changed = _change(flicker, of_frames)
    return f"has {changed} flicker at rest than {frames}" if changed else f"has as much flicker at rest as {frames}"


def _change(flicker: float, of_frames: float) -> str:
    """How much less or more a clip flickers than its frames; empty where it flickers alike."""
    share = max(flicker, UNSEEN) / max(of_frames, UNSEEN)
    if 1 / ALIKE < share < ALIKE:
        return ""
    least = "at least " if min(flicker, of_frames) < UNSEEN else ""
    return f"{least}{abs(1 - share):.0%} {'less' if share < 1 else 'more'}"
