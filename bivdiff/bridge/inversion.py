"""DDIM inversion of a clip, with the image model or with the video model.

Not here: the blend of the two (see mixing.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from diffusers import DDIMInverseScheduler
from torch import Tensor

from bivdiff.bridge.guidance import guided, unet_noise
from bivdiff.bridge.latents import fold_frames
from bivdiff.bridge.sampling import Step, in_batches, step_through, unfold_step


def invert_with_image_model(
    unet: Any, scheduler: Any, latents: Tensor, prompt_embeds: Tensor, negative_embeds: Tensor,
    *, guidance_scale: float, num_steps: int, batch_size: int,
) -> Iterator[Step]:  # fmt: skip
    """DDIM-invert a clip with the image U-Net, every frame a picture of its own.

    Args:
        unet: the plain base UNet2DConditionModel.
        scheduler: the family's DDIMScheduler; its config makes the inverse one, itself is left as it is.
        latents: clean, `(1, C, F, h, w)`.
        prompt_embeds, negative_embeds: `(1, L, D)`.
        guidance_scale: 1 = off.
        num_steps: number of predictions.
        batch_size: frames evaluated at once.

    Yields:
        Steps whose latents are `(1, C, F, h, w)`; the last one holds the inverted latents.

    Source: BIVDiff (arXiv:2312.02813); DDIM inversion (arXiv:2010.02502).
    """

    def predict(pictures: Tensor, timestep: Tensor, embeds: Tensor) -> Tensor:
        return in_batches(lambda part, text: unet_noise(unet, part, timestep, text), batch_size, pictures, embeds)

    inverse = DDIMInverseScheduler.from_config(scheduler.config)
    pictures = fold_frames(latents)
    steered = guided(predict, prompt_embeds, negative_embeds, guidance_scale)
    for step in step_through(steered, pictures, inverse, num_steps):
        yield unfold_step(step)


def invert_with_video_model(
    noise_pred: Callable[[Tensor, Tensor, Tensor], Tensor], scheduler: Any, latents: Tensor, prompt_embeds: Tensor,
    negative_embeds: Tensor, *, guidance_scale: float, num_steps: int,
) -> Iterator[Step]:  # fmt: skip
    """DDIM-invert a clip with a video model.

    Args:
        noise_pred: the model's, `(latents, timestep, prompt_embeds)` to the noise.
        scheduler: the model's own DDIMScheduler.
        latents, prompt_embeds, negative_embeds, guidance_scale, num_steps: as for `invert_with_image_model`, and so
            are the steps.
    """
    inverse = DDIMInverseScheduler.from_config(scheduler.config)
    steered = guided(noise_pred, prompt_embeds, negative_embeds, guidance_scale)
    yield from step_through(steered, latents, inverse, num_steps)
