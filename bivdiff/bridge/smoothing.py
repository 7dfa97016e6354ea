"""Temporal smoothing: the video model denoises the blended latents."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor

from bivdiff.bridge.guidance import guided
from bivdiff.bridge.known import Known
from bivdiff.bridge.mixing import noise_in, noise_level
from bivdiff.bridge.sampling import Step, denoising_scheduler, step_through
from bivdiff.catalog.bridging import steps_walked


def smooth(
    noise_pred: Callable[[Tensor, Tensor, Tensor], Tensor], scheduler: Any, latents: Tensor,
    prompt_embeds: Tensor, negative_embeds: Tensor, *, guidance_scale: float, num_steps: int,
    known: Known | None = None, start_level: float = 1.0,
) -> Iterator[Step]:  # fmt: skip
    """Denoise a clip with a video model and DDIM.

    Args:
        noise_pred: the model's, `(latents, timestep, prompt_embeds)` to the noise.
        scheduler: the model's DDIMScheduler; a copy is walked, itself is left as it is.
        latents: the blended noise, `(1, C, F, h, w)`.
        prompt_embeds, negative_embeds: `(1, L, D)`.
        guidance_scale: 1 = off.
        num_steps: predictions of the whole schedule.
        known: content to keep, put back after every step; None regenerates the whole clip.
        start_level: share of the schedule that is walked, to the clean end; where it begins the latents are noised.

    Yields:
        Steps whose latents are `(1, C, F, h, w)`; the last one holds the smoothed clip's latents.

    Source: BIVDiff (arXiv:2312.02813), Video Temporal Smoothing; Blended Latent Diffusion (arXiv:2206.02779) for
    known content, noised here with the clip's own blended noise, so that what is kept and what is made agree.
    """
    ddim = denoising_scheduler(scheduler)
    part = slice(num_steps - steps_walked(num_steps, start_level), None)
    predict_guided = guided(noise_pred, prompt_embeds, negative_embeds, guidance_scale)
    put_back = None
    if known is not None:
        noise = noise_in(latents, known.latents, noise_level(scheduler, num_steps, start_level))
        put_back = partial(_put_back, known, noise, ddim)
    yield from step_through(predict_guided, latents, ddim, num_steps, put_back, part)


def _put_back(known: Known, noise: Tensor, ddim: Any, clip: Tensor, timestep: Tensor | None) -> Tensor:
    """The clip with what is known around its holes: under the noise of a timestep, or clean where that is None."""
    at_this_noise = known.latents if timestep is None else ddim.add_noise(known.latents, noise, timestep)
    return torch.where(known.holes, clip, at_this_noise)
