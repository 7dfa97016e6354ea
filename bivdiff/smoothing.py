"""Temporal smoothing: the video model denoises the blended latents.

In it: `smooth`. Not in it: where the latents come from (inversion.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from diffusers import DDIMScheduler
from torch import Tensor

from bivdiff.guidance import guided
from bivdiff.sampling import Step, walk


def smooth(
    unet: Any, scheduler: Any, latents: Tensor, prompt_embeds: Tensor, negative_embeds: Tensor,
    guidance_scale: float, num_steps: int,
) -> Iterator[Step]:  # fmt: skip
    """Denoise a clip with the video U-Net and DDIM.

    Args:
        unet: a UNet3DConditionModel.
        scheduler: the family's DDIMScheduler; a copy is walked, itself is left as it is.
        latents: the blended noise, `(1, C, F, h, w)`.
        prompt_embeds, negative_embeds: `(1, L, D)`.
        guidance_scale: 1 = off.
        num_steps: number of predictions.

    Yields:
        Steps whose latents are `(1, C, F, h, w)`; the last one holds the smoothed clip's latents.

    Source: BIVDiff (arXiv:2312.02813), Video Temporal Smoothing.
    """

    def predict(clip: Tensor, timestep: Tensor, embeds: Tensor) -> Tensor:
        return unet(clip, timestep, embeds).sample

    ddim = DDIMScheduler.from_config(scheduler.config)
    yield from walk(guided(predict, prompt_embeds, negative_embeds, guidance_scale), latents, ddim, num_steps)
