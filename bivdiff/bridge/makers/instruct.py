"""Editing by instruction: InstructPix2Pix changes every frame."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from bivdiff.bridge.guidance import guided_by_picture, in_first, unet_noise
from bivdiff.bridge.sampling import Step, denoising_scheduler, in_batches, step_through, unfold_step
from bivdiff.types import Sampler


def generate_with_instruct_pix2pix(
    unet: Any, scheduler: Any, noise: Tensor, *, source: Tensor, prompt_embeds: Tensor, negative_embeds: Tensor,
    guidance_scale: float, image_guidance_scale: float, num_steps: int, batch_size: int,
    sampler: Sampler = "ddim", guided_share: float = 1.0,
) -> Iterator[Step]:  # fmt: skip
    """Edit every frame on its own.

    Args:
        unet: InstructPix2Pix's UNet2DConditionModel, 8 input channels.
        scheduler: the family's, whose schedule is walked; itself is left as it is.
        noise: `(F, C, h, w)`.
        source: latents of the frames to edit, `(F, C, h, w)`, *not* scaled by the autoencoder's scaling factor.
        prompt_embeds: of the instruction, `(1, L, D)`; negative_embeds: `(1, L, D)`.
        guidance_scale: towards the instruction; 1 = off.
        image_guidance_scale: towards the source; 1 = off.
        num_steps: number of predictions.
        batch_size: pictures evaluated at once; it changes memory, not the result.
        sampler: what follows the schedule.
        guided_share: first share of the steps that are guided.

    Yields:
        Steps whose latents are `(1, C, F, h, w)`.

    Source: InstructPix2Pix (arXiv:2211.09800).
    """

    def predict(latents: Tensor, timestep: Tensor, embeds: Tensor, pictures: Tensor) -> Tensor:
        def one_batch(part: Tensor, text: Tensor, picture: Tensor) -> Tensor:
            return unet_noise(unet, torch.cat([part, picture], 1), timestep, text)

        return in_batches(one_batch, batch_size, latents, embeds, pictures)

    walked = denoising_scheduler(scheduler, sampler)
    applies = in_first(guided_share, walked, num_steps)
    steered = guided_by_picture(
        predict, prompt_embeds, negative_embeds, source, guidance_scale, image_guidance_scale, applies
    )  # fmt: skip
    for step in step_through(steered, noise, walked, num_steps):
        yield unfold_step(step)
