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
from bivdiff.compare.semantics import semantic_scores
from bivdiff.compare.steadiness import excess_flicker, steadiness
from bivdiff.errors import BIVDiffError
from bivdiff.models.manager import ModelManager
from bivdiff.pixels import metrics
from bivdiff.pixels.annotators import ANNOTATORS
from bivdiff.types import Control, GenerationRequest
from bivdiff.units import finite

TITLES: Mapping[str, str] = {
    "excess_flicker": "flicker beyond the motion (levels, lower is steadier)",
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

SHORT_TITLES: Mapping[str, str] = {
    "excess_flicker": "Flicker", "background_flicker": "Flicker at rest", "warp_error": "Warp error",
    "true_sharpness": "Sharpness (truth = 1)", "sharpness": "Sharpness (frame by frame = 1)",
    "framewise_psnr": "PSNR to frames", "framewise_ssim": "SSIM to frames",
    "known_psnr": "PSNR outside", "control_agreement": "Control agreement",
    "clip_frame_consistency": "CLIP, frame to next", "clip_frame_consistency_all_pairs": "CLIP, all frames",
    "dino_subject_consistency": "DINO subject", "clip_prompt_alignment": "CLIP to prompt", "psnr": "PSNR to truth",
    "ssim": "SSIM to truth",
}  # fmt: skip
"""Those that stand below a clip, where there is little room. Not there: flicker that counts motion."""

# Of those tried these lose little to the best ratio, and leave little flicker (benchmarks/findings.py).
MOST_SHARPNESS_LOST = 0.02
MOST_SSIM_LOST = 0.04
RULE = (
    "Recommended is the steadiest clip, by warp error, among those that keep the frames: that lose at most "
    f"{MOST_SHARPNESS_LOST:.0%} of the sharpness of the sharpest clip, and at most {MOST_SSIM_LOST:g} of the "
    "similarity (SSIM) to the frame-wise clip that the most similar one has."
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
        """The scores of one clip, each a key of `TITLES`; NaN where there is nothing to measure.

        Args:
            frames: the clip, uint8 `(F, H, W, 3)`.
            framewise: the image model's frames that it was made of, of the same shape.

        Returns:
            `excess_flicker`, see `steadiness`; `background_flicker`, where the truth stands still, or without one the
            source, unless a mask says that part of it is made anew; `temporal_flicker`; `warp_error`, by the flow of
            the source; `sharpness`, `framewise_psnr` and `framewise_ssim`, against the frame-wise clip; `known_psnr`
            where there are masks; `control_agreement` where there are controls; those of `semantic_scores` whose
            weights are on this machine, against the video model's prompt; `psnr`, `ssim` and `true_sharpness` against
            the truth.
            Those that networks measure are left out where that fails: a finished clip is worth more than its score.
        """
        request, truth = self._request, self._truth
        guide = request.frames if truth is None and request.masks is None else truth
        scores = {"excess_flicker": excess_flicker(request, frames, truth)}
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
        return scores

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


def below_a_clip(
    request: GenerationRequest, scores: Mapping[str, float], framewise_scores: Mapping[str, float]
) -> dict[str, float | str | None]:
    """What stands below a clip of a comparison: how calm it is, in words, and its scores, None where there is none.

    Where the truth is known its sharpness is the one to reach, and the frame-wise clip's is left out.

    Args:
        request: of the clip.
        scores, framewise_scores: of the clip, and of the frames it was made of.
    """
    left_out = {"sharpness"} if "true_sharpness" in scores else set()
    flicker, of_frames = (each.get("excess_flicker", math.nan) for each in (scores, framewise_scores))
    shown = {label: scores[name] for name, label in SHORT_TITLES.items() if name in scores.keys() - left_out}
    return {"It is": steadiness(request, flicker, of_frames), **finite(shown)}


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


def recommend(
    rows: Sequence[Mapping[str, float]], name: Callable[[int], str] = lambda index: f"clip {index + 1}",
    sharpness_lost: float = MOST_SHARPNESS_LOST, ssim_lost: float = MOST_SSIM_LOST,
) -> Recommendation:  # fmt: skip
    """Choose one of several clips by `RULE`.

    Args:
        rows: scores of the clips, at least one, as a `Scorer` gives them. A clip with a score missing that the rule
            reads is chosen only if all lack it.
        name: what to call a clip in the sentence.
        sharpness_lost, ssim_lost: what the rule lets go at most.
    """
    similar = np.array([_known(row["framewise_ssim"], -math.inf) for row in rows])
    sharp = np.array([_known(row["sharpness"], -math.inf) for row in rows])
    keeps = (similar >= similar.max() - ssim_lost) & (sharp >= (1 - sharpness_lost) * sharp.max())
    if not keeps.any():
        chosen = int(similar.argmax())
        return Recommendation(chosen, (
            "No clip is both as sharp and as similar to the frames as the rule asks, so the most similar one is "
            f"recommended: {name(chosen)}."
        ))  # fmt: skip
    chosen = min(np.flatnonzero(keeps).tolist(), key=lambda index: _known(_unsteadiness(rows[index]), math.inf))
    row, others = rows[chosen], keeps.sum() - 1
    some = f"Of the {others + 1} of {len(rows)} clips that keep the frames, {name(chosen)} is the steadiest"
    alone = f"Of {len(rows)} clips, {name(chosen)} alone keeps the frames"
    return Recommendation(chosen, (
        f"{some if others else alone}: warp error {row['warp_error']:.3g}, sharpness {row['sharpness']:.2f} and SSIM "
        f"{row['framewise_ssim']:.2f} against the frame-wise clip."
    ))  # fmt: skip


def _unsteadiness(row: Mapping[str, float]) -> float:
    """The warp error; a flicker where there is none, as in pictures too small for a flow."""
    known = (row.get(name, math.nan) for name in ("warp_error", "background_flicker", "temporal_flicker"))
    return next((value for value in known if not math.isnan(value)), math.nan)


def _known(value: float, otherwise: float) -> float:
    return otherwise if math.isnan(value) else value
