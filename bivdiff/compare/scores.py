"""What a comparison shows of each clip, and which clip it recommends."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import cv2
import numpy as np
import torch

from bivdiff.bridge.control_maps import control_maps
from bivdiff.bridge.prompts import smoothing_prompt
from bivdiff.catalog.families import models_for
from bivdiff.catalog.image_models import frames_name
from bivdiff.compare.semantics import semantic_scores
from bivdiff.compare.steadiness import (
    FLICKER,
    flicker_at_rest,
    steadiness,
    steadiness_sentence,
)
from bivdiff.errors import BIVDiffError
from bivdiff.models.manager import ModelManager
from bivdiff.pixels import metrics
from bivdiff.pixels.annotators import ANNOTATORS
from bivdiff.types import Control, GenerationRequest
from bivdiff.units import SHARPNESS

TITLES: Mapping[str, str] = {
    "excess_flicker": f"{FLICKER.lower()} (levels beyond the motion, lower is steadier)",
    "background_flicker": "flicker where the source stands still (levels, lower is steadier)",
    "temporal_flicker": "flicker, motion included (levels, lower is steadier)",
    "warp_error": "warp error (x 1e3, lower is steadier)",
    "true_sharpness": "sharpness (truth = 1)",
    "sharpness": "sharpness (frame-wise = 1)",
    "framewise_psnr": "PSNR to the frame-wise clip (dB)",
    "framewise_ssim": "SSIM to the frame-wise clip",
    "known_psnr": "PSNR to the source outside the mask (dB)",
    "control_agreement": "agreement with the control maps (1 = equal)",
    "clip_frame_consistency": "CLIP frame consistency (cosine of consecutive frames)",
    "clip_frame_consistency_all_pairs": "CLIP frame consistency (cosine of all pairs of frames)",
    "dino_subject_consistency": "DINO subject consistency (cosine to the frame before and to the first, as VBench)",
    "clip_prompt_alignment": "CLIP prompt alignment (100 x cosine, mean over frames)",
    "psnr": "PSNR to the true clip (dB)",
    "ssim": "SSIM to the true clip",
}
"""Every score there is, in the order of their columns."""

BELOW: Mapping[str, tuple[str, str]] = {
    "true_sharpness": (SHARPNESS.format(of="truth"), "{:.0%}"),
    "sharpness": (SHARPNESS.format(of="{before}"), "{:.0%}"),
    "framewise_ssim": ("Likeness to the frames (SSIM)", "{:.2f}"),
    "psnr": ("Likeness to the truth (PSNR)", "{:.1f} dB"),
    "known_psnr": ("Likeness to the source outside the mask (PSNR)", "{:.1f} dB"),
    "clip_prompt_alignment": ("Likeness to the prompt (CLIP)", "{:.1f}"),
}  # fmt: skip
"""Those that stand below a clip beside its flicker at rest, how they are called there, and how they are written. Of all
of them more is better."""

# Of those tried these lose little to the best ratio, and leave little flicker (benchmarks/findings.py).
MOST_SHARPNESS_LOST = 0.05
MOST_SSIM_LOST = 0.04
EQUAL = "equal"
RULE = (
    f"Recommended is the clip with the least {FLICKER.lower()} among those that keep the frames: that lose at most "
    f"{MOST_SHARPNESS_LOST:.0%} of the sharpness of the sharpest clip, and at most {MOST_SSIM_LOST:g} of the likeness "
    f"(SSIM) to the frames that the most similar one has. Where {FLICKER.lower()} cannot be measured, the warp error "
    "decides."
)
_BLUR = 1.5  # pixels by which a line of a control map may be off and still count in part


@dataclass(frozen=True)
class Recommendation:
    """`index` of the recommended clip, and a sentence on `why`."""

    index: int
    why: str


class Scorer:
    """Scores clips that were made of one source.

    Args:
        request: what was asked; its frames are the source.
        control_frames: the control maps that were used, uint8 `(F, H, W, 3)` for each of its controls.
        manager: gives the models of the annotators, and CLIP and DINO. One that is not on this machine is not fetched
            for a score.
        truth: what the clip should show, uint8 `(F, H, W, 3)`, where that is known.

    Attributes:
        missed: scores that could not be measured, each with a sentence on why; they are not tried again.
    """

    def __init__(
        self, request: GenerationRequest, control_frames: tuple[np.ndarray, ...], manager: ModelManager,
        truth: np.ndarray | None = None,
    ) -> None:  # fmt: skip
        self._request, self._maps, self._truth = request, control_frames, truth
        self._manager = manager
        self.missed: dict[str, str] = {}

    def __call__(self, frames: np.ndarray, framewise: np.ndarray) -> dict[str, float]:
        """The scores alone, see `measured`."""
        return self.measured(frames, framewise)[0]

    def measured(self, frames: np.ndarray, framewise: np.ndarray) -> tuple[dict[str, float], np.ndarray | None]:
        """The scores of one clip, each a key of `TITLES`; NaN where there is nothing to measure.

        Args:
            frames: the clip, uint8 `(F, H, W, 3)`.
            framewise: the image model's frames that it was made of, of the same shape.

        Returns:
            `excess_flicker`, see `flicker_at_rest`; `background_flicker`, where the truth stands still, or without one
            the source, unless a mask says that part of it is made anew; `temporal_flicker`; `warp_error`, by the flow
            of the source; `sharpness`, `framewise_psnr` and `framewise_ssim`, against the frame-wise clip; `known_psnr`
            where there are masks; `control_agreement` where there are controls; those of `semantic_scores` whose
            weights are on this machine, against the video model's prompt; `psnr`, `ssim` and `true_sharpness` against
            the truth.
            Those that networks measure are left out where that fails: a finished clip is worth more than its score.
            And where the clip flickers at rest, see `steadiness.Rest`.
        """
        request, truth = self._request, self._truth
        guide = request.frames if truth is None and request.masks is None else truth
        rest = flicker_at_rest(request, frames, truth)
        scores = {"excess_flicker": rest.level}
        scores |= {} if guide is None else {"background_flicker": metrics.background_flicker(frames, guide)}
        scores |= {
            "temporal_flicker": metrics.temporal_flicker(frames),
            "warp_error": metrics.warp_error(frames, request.frames),
            "sharpness": metrics.relative_sharpness(frames, framewise),
            "framewise_psnr": metrics.psnr(frames, framewise),
            "framewise_ssim": metrics.ssim(frames, framewise),
        }
        if request.masks is not None:
            scores["known_psnr"] = metrics.psnr(frames, request.frames, metrics.inverted(request.masks))
        if request.controls:
            scores |= self._unless_missed("control agreement", partial(self._control_agreement, frames))
        scores |= self._unless_missed(
            "CLIP and DINO", partial(semantic_scores, frames, smoothing_prompt(request), self._manager)
        )
        if truth is not None:
            scores |= {"psnr": metrics.psnr(frames, truth), "ssim": metrics.ssim(frames, truth)}
            scores["true_sharpness"] = metrics.relative_sharpness(frames, truth)
        return scores, rest.heat

    def _unless_missed(self, name: str, measure: Callable[[], dict[str, float]]) -> dict[str, float]:
        """What is measured; nothing, and a sentence in `missed`, where it cannot be."""
        if name in self.missed:
            return {}
        try:
            return measure()
        except (BIVDiffError, torch.OutOfMemoryError) as error:
            why = "the device ran out of memory." if isinstance(error, torch.OutOfMemoryError) else str(error)
            self.missed[name] = f"Scores by {name} are left out: {why}"
            return {}

    def _control_agreement(self, frames: np.ndarray) -> dict[str, float]:
        """Mean over the controls that can be drawn anew from the clip itself."""
        found = [
            map_agreement(drawn, used)
            for control, used in zip(self._request.controls, self._maps, strict=True)
            if (drawn := self._drawn(control, frames)) is not None
        ]
        return {"control_agreement": float(np.mean(found)) if found else math.nan}

    def _drawn(self, control: Control, frames: np.ndarray) -> np.ndarray | None:
        anew = replace(control, frames=None)
        if control.control_type not in ANNOTATORS:
            return None
        needed = models_for(self._request).annotator(anew)
        if needed is not None and self._manager.state(needed) == "absent":
            return None
        return control_maps(replace(self._request, frames=frames, masks=None, controls=(anew,)), self._manager)[0]


def below_a_clip(request: GenerationRequest, scores: Mapping[str, float]) -> dict[str, str]:
    """The scores that stand below a clip of a comparison, in words by what they are called there.

    Where the truth is known its sharpness is the one to reach, and the frames' is left out.

    Args:
        request: of the clip.
        scores: of the clip, or of the frames that it was made of.
    """
    before = frames_name(request.image_model).lower()
    return {
        label.format(before=before): EQUAL if scores[name] >= metrics.PSNR_CAP else written.format(scores[name])
        for name, (label, written) in _below(scores).items() if not math.isnan(scores[name])
    }  # fmt: skip


def best_below(request: GenerationRequest, rows: Sequence[Mapping[str, float]]) -> list[list[str]]:
    """Of each of several clips what it is best at, by the names of `below_a_clip` and as `FLICKER`.

    Clips are as good as each other where the same is written below them.
    """
    before, found = frames_name(request.image_model).lower(), [list[str]() for _ in rows]
    measured = {FLICKER: ("{:.3g}", [-row.get("excess_flicker", math.nan) for row in rows])}
    names = _below(rows[0]) if rows else {}
    measured |= {
        label.format(before=before): (written, [row.get(name, math.nan) for row in rows])
        for name, (label, written) in names.items()
    }
    for label, (written, values) in measured.items():
        told = [written.format(value) for value in values]
        if len(set(told)) > 1 and not any(map(math.isnan, values)):
            best = told[values.index(max(values))]
            for names_found, each in zip(found, told, strict=True):
                names_found.extend([label] if each == best else [])
    return found


def _below(scores: Mapping[str, float]) -> dict[str, tuple[str, str]]:
    left_out = {"sharpness"} if "true_sharpness" in scores else set()
    return {name: BELOW[name] for name in BELOW if name in scores.keys() - left_out}


def rest_below(
    request: GenerationRequest, scores: Mapping[str, float], framewise_scores: Mapping[str, float]
) -> dict[str, float | str | None]:
    """Flicker at rest of a clip as the player draws it: two bars, of the clip and of its frames, and words.

    Args:
        request: of the clip.
        scores, framewise_scores: of the clip, and of the frames it was made of.

    Returns:
        `level` and `before`, None where they were not measured; and `words`.
    """
    levels = [each.get("excess_flicker", math.nan) for each in (scores, framewise_scores)]
    level, before = (None if math.isnan(each) else each for each in levels)
    return {"level": level, "before": before, "words": steadiness(request, *levels)}


def map_agreement(drawn: np.ndarray, used: np.ndarray) -> float:
    """How much a clip's own control maps agree with those it was made by: 1 is equal, 0 unrelated, below 0 opposite.

    The correlation of the slightly blurred maps, averaged over the frames whose map shows something: blurred, since the
    lines of a map are a pixel wide, and one that is a pixel off is not wrong. A frame that lost all of it has 0.

    Args:
        drawn, used: uint8 `(F, H, W, 3)`.

    Returns:
        The mean; NaN where no map that was used shows anything.
    """
    found = []
    for pair in zip(drawn, used, strict=True):
        one, other = (cv2.GaussianBlur(each.astype(np.float32).mean(2), (0, 0), _BLUR).ravel() for each in pair)
        if other.std() > 0:
            found.append(np.corrcoef(one, other)[0, 1] if one.std() > 0 else 0.0)
    return float(np.mean(found)) if found else math.nan


def recommendation(
    requests: Sequence[GenerationRequest], rows: Sequence[Mapping[str, float]],
    framewise_rows: Sequence[Mapping[str, float]], names: Sequence[str],
) -> Recommendation:  # fmt: skip
    """Choose one of several clips by `RULE`, and say in a sentence what one gets.

    Args:
        requests, rows, framewise_rows: of the clips, at least one: what was asked, and the scores of the clips and of
            the frames that they were made of.
        names: what to call them.
    """
    index, keeps = recommend(rows)
    request, row, of_frames = requests[index], rows[index], framewise_rows[index]
    levels = [each.get("excess_flicker", math.nan) for each in (row, of_frames)]
    says = steadiness_sentence(request, *levels)
    if any(map(math.isnan, levels)):
        says = "has the least warp error of those that keep the frames"
    kept = _kept(row["sharpness"])
    if keeps or len(rows) == 1:
        why = f"Recommended: {names[index]}. It {says}{kept}."
    else:
        why = (
            f"Recommended: {names[index]}. No clip keeps both the detail of the frames and their look, and this one is "
            "the most like them."
        )
    return Recommendation(index, why)


def _kept(sharpness: float) -> str:
    if math.isnan(sharpness):
        return ""
    return f" and keeps {sharpness:.0%} of the sharpness" if round(sharpness, 2) < 1 else " and is no less sharp"


def recommend(
    rows: Sequence[Mapping[str, float]], sharpness_lost: float = MOST_SHARPNESS_LOST, ssim_lost: float = MOST_SSIM_LOST
) -> tuple[int, bool]:
    """Choose one of several clips by `RULE`.

    Args:
        rows: scores of the clips, at least one, as a `Scorer` gives them. A clip with a score missing that the rule
            reads is chosen only if all lack it.
        sharpness_lost, ssim_lost: what the rule lets go at most.

    Returns:
        Its index, and whether it keeps the frames; where none does, it is the one most like them.
    """
    similar = np.array([_known(row["framewise_ssim"], -math.inf) for row in rows])
    sharp = np.array([_known(row["sharpness"], -math.inf) for row in rows])
    keeps = (similar >= similar.max() - ssim_lost) & (sharp >= (1 - sharpness_lost) * sharp.max())
    if not keeps.any():
        return int(similar.argmax()), False
    measures = ("excess_flicker", "warp_error", "background_flicker", "temporal_flicker")
    # The first that all of them have, or they would be held against each other in different measures.
    measure = next((name for name in measures if not any(math.isnan(row.get(name, math.nan)) for row in rows)), "")
    unsteady = [_known(row.get(measure, math.nan), math.inf) for row in rows]
    return min(np.flatnonzero(keeps).tolist(), key=lambda index: unsteady[index]), True


def _known(value: float, otherwise: float) -> float:
    return otherwise if math.isnan(value) else value
