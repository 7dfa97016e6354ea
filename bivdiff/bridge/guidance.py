"""Classifier-free guidance."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from bivdiff.catalog.image_models import guided_steps
from bivdiff.models.words import Prompt, joined, repeated

Predict = Callable[[Tensor, Tensor], Tensor]
Applies = Callable[[Tensor], bool]


def always(_: Tensor) -> bool:
    """At every timestep."""
    return True


def in_first(share: float, scheduler: Any, num_steps: int) -> Applies:
    """Whether a timestep belongs to the first share of a scheduler's steps, which are set by the time it is asked."""
    if share == 1:
        return always  # and no position has to come from the device in every step

    def applies(timestep: Tensor) -> bool:
        return position_of(timestep, scheduler) < guided_steps(num_steps, share)

    return applies


def position_of(timestep: Tensor, scheduler: Any) -> int:
    """How many of a scheduler's steps go before a timestep of its schedule."""
    return int((scheduler.timesteps == timestep).nonzero()[0])


def unet_noise(unet: Any, latents: Tensor, timestep: Tensor, embeds: Tensor, **extra: Any) -> Tensor:
    """What a U-Net predicts, computed at its weights' precision; latents keep theirs, which is finer.

    Args:
        unet: a UNet2DConditionModel.
        latents: `(B, C, h, w)`.
        timestep: of its schedule.
        embeds: `(B, L, D)`, of the weights' dtype.
        extra: what else its forward takes.

    Returns:
        `(B, C, h, w)`, of the latents' dtype.
    """
    return unet(latents.to(embeds.dtype), timestep, embeds, **extra).sample.to(latents.dtype)


def guided(
    predict: Callable[[Tensor, Tensor, Any], Tensor],
    prompt_embeds: Prompt,
    negative_embeds: Prompt,
    guidance_scale: float,
    applies: Applies = always,
) -> Predict:
    """A prediction steered towards a prompt and away from a negative one.

    Args:
        predict: `(latents, timestep, embeds)` to the noise, or whatever else a network predicts that is linear in it;
            batch sizes of latents and embeds agree.
        prompt_embeds, negative_embeds: `(1, L, D)`, or bundles of that.
        guidance_scale: 1 turns guidance off, and the negative prompt is not evaluated.
        applies: whether there is guidance at a timestep.

    Returns:
        `(latents, timestep)` to the prediction, shaped as the latents.

    Source: Classifier-free diffusion guidance (arXiv:2207.12598), with the scale of Stable Diffusion.
    """

    def steered(latents: Tensor, timestep: Tensor) -> Tensor:
        if guidance_scale == 1 or not applies(timestep):
            return predict(latents, timestep, repeated(prompt_embeds, len(latents)))
        embeds = joined([repeated(half, len(latents)) for half in (negative_embeds, prompt_embeds)])
        negative, prompted = predict(torch.cat([latents, latents]), timestep, embeds).chunk(2)
        return negative + guidance_scale * (prompted - negative)

    return steered


def guided_by_picture(
    predict: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor],
    prompt_embeds: Tensor,
    negative_embeds: Tensor,
    picture: Tensor,
    guidance_scale: float,
    image_guidance_scale: float,
    applies: Applies = always,
) -> Predict:
    """A noise prediction steered towards an instruction and towards the picture it changes.

    Args:
        predict: `(latents, timestep, embeds, picture)` to the noise; all batch sizes agree.
        prompt_embeds, negative_embeds: `(1, L, D)`.
        picture: latents of the source pictures, of the batch and size of what is denoised.
        guidance_scale: towards the instruction; 1 = off.
        image_guidance_scale: towards the picture; 1 = off.
        applies: whether there is guidance at a timestep.

    Returns:
        `(latents, timestep)` to the noise, shaped as the latents. Where there is guidance it evaluates three times as
        much.

    Source: InstructPix2Pix (arXiv:2211.09800), equation 3.
    """

    def steered(latents: Tensor, timestep: Tensor) -> Tensor:
        if not applies(timestep):
            return predict(latents, timestep, prompt_embeds.expand(len(latents), -1, -1), picture)
        embeds = torch.cat(
            [part.expand(len(latents), -1, -1) for part in (prompt_embeds, negative_embeds, negative_embeds)]
        )
        pictures = torch.cat([picture, picture, torch.zeros_like(picture)])
        with_both, with_picture, with_neither = predict(torch.cat([latents] * 3), timestep, embeds, pictures).chunk(3)
        towards_words, towards_picture = with_both - with_picture, with_picture - with_neither
        return with_neither + guidance_scale * towards_words + image_guidance_scale * towards_picture

    return steered
