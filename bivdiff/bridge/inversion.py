"""DDIM inversion of a clip: every frame alone, or the whole clip in view.

Not here: the blend of the two (see mixing.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from diffusers import DDIMInverseScheduler
from torch import Tensor

from bivdiff.bridge.guidance import guided
from bivdiff.bridge.latents import fold_frames
from bivdiff.bridge.sampling import Step, in_batches, step_through, unfold_step
from bivdiff.catalog.bridging import steps_walked


def invert_frames(
    noise_pred: Callable[[Tensor, Tensor, Tensor], Tensor], scheduler: Any, latents: Tensor, prompt_embeds: Tensor,
    negative_embeds: Tensor, *, guidance_scale: float, num_steps: int, batch_size: int, start_level: float = 1.0,
) -> Iterator[Step]:  # fmt: skip
    """DDIM-invert a clip, every frame a picture of its own.

    Args:
        noise_pred: `(pictures (B, C, h, w), timestep, prompt_embeds)` to the noise: of the plain image model, or of a
            video model that is shown one frame.
        scheduler: the DDIMScheduler of that model; its config makes the inverse one, itself is left as it is.
        latents: clean, `(1, C, F, h, w)`.
        prompt_embeds, negative_embeds: `(1, L, D)`.
        guidance_scale: 1 = off.
        num_steps: predictions of the whole schedule.
        batch_size: frames evaluated at once.
        start_level: share of the schedule that is walked, from the clean end.

    Yields:
        Steps whose latents are `(1, C, F, h, w)`; the last one holds the inverted latents.

    Source: BIVDiff (arXiv:2312.02813); DDIM inversion (arXiv:2010.02502).
    """

    def predict(pictures: Tensor, timestep: Tensor, embeds: Tensor) -> Tensor:
        return in_batches(lambda part, text: noise_pred(part, timestep, text), batch_size, pictures, embeds)

    inverse = DDIMInverseScheduler.from_config(scheduler.config)
    pictures = fold_frames(latents)
    steered = guided(predict, prompt_embeds, negative_embeds, guidance_scale)
    part = slice(steps_walked(num_steps, start_level))
    for step in step_through(steered, pictures, inverse, num_steps, part=part):
        yield unfold_step(step)


def invert_clip(
    noise_pred: Callable[[Tensor, Tensor, Tensor], Tensor], scheduler: Any, latents: Tensor, prompt_embeds: Tensor,
    negative_embeds: Tensor, *, guidance_scale: float, num_steps: int, start_level: float = 1.0,
) -> Iterator[Step]:  # fmt: skip
    """DDIM-invert a clip with a video model that sees all of it.

    Args:
        noise_pred: the model's, `(latents, timestep, prompt_embeds)` to the noise.
        scheduler: the model's own DDIMScheduler.
        latents, prompt_embeds, negative_embeds, guidance_scale, num_steps, start_level: as for `invert_frames`, and so
            are the steps.
    """
    inverse = DDIMInverseScheduler.from_config(scheduler.config)
    steered = guided(noise_pred, prompt_embeds, negative_embeds, guidance_scale)
    part = slice(steps_walked(num_steps, start_level))
    yield from step_through(steered, latents, inverse, num_steps, part=part)
