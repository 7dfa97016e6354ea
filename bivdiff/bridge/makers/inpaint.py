"""In- and outpainting: Stable Diffusion's inpainting model fills the holes of every frame."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bivdiff.bridge.guidance import guided, in_first, unet_noise
from bivdiff.bridge.sampling import Step, denoising_scheduler, in_batches, step_through, unfold_step
from bivdiff.types import Sampler

GREY = 128  # the middle of the autoencoder's range: what a hole looks like to the model


def with_holes(frames: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """The frames `(F, H, W, 3)` with everything under the masks `(F, H, W)` painted grey; any mask above 0 counts."""
    return np.where(masks[..., None] > 0, np.uint8(GREY), frames)


def generate_with_inpainting(
    unet: Any, scheduler: Any, noise: Tensor, *, holes: Tensor, known: Tensor, prompt_embeds: Tensor,
    negative_embeds: Tensor, guidance_scale: float, num_steps: int, batch_size: int,
    sampler: Sampler = "ddim", guided_share: float = 1.0,
) -> Iterator[Step]:  # fmt: skip
    """Fill the holes of every frame on its own.

    Args:
        unet: the inpainting UNet2DConditionModel, 9 input channels.
        scheduler: the family's, whose schedule is walked; itself is left as it is.
        noise: `(F, C, h, w)`.
        holes: `(F, 1, h, w)`, 1 = fill.
        known: scaled latents of the frames with grey holes, `(F, C, h, w)`.
        prompt_embeds, negative_embeds: `(1, L, D)`.
        guidance_scale: 1 = off.
        num_steps: number of predictions.
        batch_size: pictures evaluated at once; it changes memory, not the result.
        sampler: what follows the schedule.
        guided_share: first share of the steps that are guided.

    Yields:
        Steps whose latents are `(1, C, F, h, w)`.

    Source: the inpainting model of Latent Diffusion (arXiv:2112.10752).
    """
    shown = torch.cat([holes, known], 1)

    def predict(latents: Tensor, timestep: Tensor, embeds: Tensor) -> Tensor:
        def one_batch(part: Tensor, text: Tensor, extra: Tensor) -> Tensor:
            return unet_noise(unet, torch.cat([part, extra], 1), timestep, text)

        return in_batches(one_batch, batch_size, latents, embeds, shown.repeat(len(latents) // len(shown), 1, 1, 1))

    walked = denoising_scheduler(scheduler, sampler)
    applies = in_first(guided_share, walked, num_steps)
    for step in step_through(
        guided(predict, prompt_embeds, negative_embeds, guidance_scale, applies), noise, walked, num_steps
    ):
        yield unfold_step(step)
