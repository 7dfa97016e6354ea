"""Controllable generation: Stable Diffusion with a ControlNet makes every frame from its control map.

In it: the noise prediction of a U-Net with a ControlNet. Not in it: control maps (annotators), the loop (sampling.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from diffusers import DDIMScheduler
from torch import Tensor

from bivdiff.guidance import guided
from bivdiff.sampling import Step, in_batches, unfold_step, walk


def generate_with_controlnet(
    unet: Any, controlnet: Any, scheduler: Any, noise: Tensor, control_frames: np.ndarray,
    prompt_embeds: Tensor, negative_embeds: Tensor, conditioning_scale: float, guidance_scale: float,
    num_steps: int, batch_size: int,
) -> Iterator[Step]:  # fmt: skip
    """Denoise every frame on its own, steered by its control map.

    Args:
        unet: the base UNet2DConditionModel.
        controlnet: a ControlNetModel for that U-Net.
        scheduler: the family's DDIMScheduler; a copy is walked, itself is left as it is.
        noise: `(F, C, h, w)`.
        control_frames: uint8 `(F, H, W, 3)`, H = 8 h.
        prompt_embeds, negative_embeds: `(1, L, D)`.
        conditioning_scale: weight of the control; 0 ignores it.
        guidance_scale: 1 = off.
        num_steps: number of predictions.
        batch_size: frames evaluated at once; it changes memory, not the result.

    Yields:
        Steps whose latents are `(1, C, F, h, w)`.

    Source: ControlNet (arXiv:2302.05543).
    """
    control = torch.from_numpy(np.ascontiguousarray(control_frames)).to(noise.device).permute(0, 3, 1, 2)
    control = (control.float() / 255).to(noise.dtype)

    def predict(pictures: Tensor, timestep: Tensor, embeds: Tensor) -> Tensor:
        def with_control(part: Tensor, text: Tensor, guide: Tensor) -> Tensor:
            down, mid = controlnet(
                part, timestep, text, guide, conditioning_scale=conditioning_scale, return_dict=False
            )
            return unet(
                part, timestep, text, down_block_additional_residuals=down, mid_block_additional_residual=mid
            ).sample

        guides = control.repeat(len(pictures) // len(control), 1, 1, 1)
        return in_batches(with_control, batch_size, pictures, embeds, guides)

    ddim = DDIMScheduler.from_config(scheduler.config)
    for step in walk(guided(predict, prompt_embeds, negative_embeds, guidance_scale), noise, ddim, num_steps):
        yield unfold_step(step)
