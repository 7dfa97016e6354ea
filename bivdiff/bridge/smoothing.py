"""Temporal smoothing: the video model denoises the blended latents."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor

from bivdiff.bridge.guidance import guided
from bivdiff.bridge.paths import Known, Path
from bivdiff.bridge.sampling import Step
from bivdiff.models.words import Prompt


def smooth(
    predict: Callable[[Tensor, Tensor, Any], Tensor], path: Path, latents: Tensor, prompt_embeds: Prompt,
    negative_embeds: Prompt, *, guidance_scale: float, num_steps: int, known: Known | None = None,
    start_level: float = 1.0,
) -> Iterator[Step]:  # fmt: skip
    """Denoise a clip with a video model.

    Args:
        predict: the model's, `(latents, timestep, prompt_embeds)` to what the path takes apart.
        path: the model's own.
        latents: the blended noise, `(1, C, F, h, w)`.
        prompt_embeds, negative_embeds: `(1, L, D)`, or bundles of that.
        guidance_scale: 1 = off.
        num_steps: predictions of the whole schedule.
        known: content to keep, put back after every step; None regenerates the whole clip.
        start_level: share of the schedule that is walked, to the clean end; where it begins the latents are noised.

    Yields:
        Steps whose latents are `(1, C, F, h, w)`; the last one holds the smoothed clip's latents.

    Source: BIVDiff (arXiv:2312.02813), Video Temporal Smoothing.
    """
    steered = guided(predict, prompt_embeds, negative_embeds, guidance_scale)
    yield from path.down(steered, latents, num_steps, start_level, known)
