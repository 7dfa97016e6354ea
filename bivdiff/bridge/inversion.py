"""Inversion of a clip: every frame alone, or the whole clip in view."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor

from bivdiff.bridge.guidance import guided
from bivdiff.bridge.latents import fold_frames
from bivdiff.bridge.paths import Path
from bivdiff.bridge.sampling import Step, in_batches, unfold_step
from bivdiff.models.words import Prompt


def invert_frames(
    predict: Callable[[Tensor, Tensor, Any], Tensor], path: Path, latents: Tensor, prompt_embeds: Prompt,
    negative_embeds: Prompt, *, guidance_scale: float, num_steps: int, batch_size: int, start_level: float = 1.0,
) -> Iterator[Step]:  # fmt: skip
    """Invert a clip, every frame a picture of its own.

    Args:
        predict: `(pictures (B, C, h, w), timestep, prompt_embeds)` to what the path takes apart: of the plain image
            model, or of a video model that is shown one frame.
        path: of that model.
        latents: clean, `(1, C, F, h, w)`.
        prompt_embeds, negative_embeds: `(1, L, D)`, or bundles of that.
        guidance_scale: 1 = off.
        num_steps: predictions of the whole schedule.
        batch_size: frames evaluated at once.
        start_level: share of the schedule that is walked, from the clean end.

    Yields:
        Steps whose latents are `(1, C, F, h, w)`; the last one holds the inverted latents.

    Source: BIVDiff (arXiv:2312.02813).
    """

    def together(pictures: Tensor, timestep: Tensor, embeds: Any) -> Tensor:
        return in_batches(lambda part, text: predict(part, timestep, text), batch_size, pictures, embeds)

    steered = guided(together, prompt_embeds, negative_embeds, guidance_scale)
    for step in path.up(steered, fold_frames(latents), num_steps, start_level):
        yield unfold_step(step)


def invert_clip(
    predict: Callable[[Tensor, Tensor, Any], Tensor], path: Path, latents: Tensor, prompt_embeds: Prompt,
    negative_embeds: Prompt, *, guidance_scale: float, num_steps: int, start_level: float = 1.0,
) -> Iterator[Step]:  # fmt: skip
    """Invert a clip with a video model that sees all of it.

    Args:
        predict: the model's, `(latents, timestep, prompt_embeds)` to what the path takes apart.
        path: the model's own.
        latents, prompt_embeds, negative_embeds, guidance_scale, num_steps, start_level: as for `invert_frames`, and so
            are the steps.
    """
    steered = guided(predict, prompt_embeds, negative_embeds, guidance_scale)
    yield from path.up(steered, latents, num_steps, start_level)
