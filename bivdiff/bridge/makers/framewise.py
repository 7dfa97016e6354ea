"""Which networks an image model needs, and how it makes the frames: the table of all image models."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bivdiff.bridge import latents
from bivdiff.bridge.makers.control import (
    Residuals,
    Steering,
    controlnet_residuals,
    generate_with_control,
    t2i_adapter_residuals,
)
from bivdiff.bridge.makers.inpaint import generate_with_inpainting, latent_holes, with_holes
from bivdiff.bridge.makers.instruct import generate_with_instruct_pix2pix
from bivdiff.bridge.makers.prompt2prompt import edit_with_prompt2prompt
from bivdiff.bridge.prompts import encode_prompt
from bivdiff.bridge.sampling import Step, initial_noise
from bivdiff.catalog.image_models import IMAGE_MODELS
from bivdiff.types import GenerationRequest


@dataclass(frozen=True)
class Kit:
    """What makes the frames: the request with its seed, the family's shared components, the image model's networks.

    `control_frames` are the control maps, uint8 `(F, H, W, 3)` for each of the request's controls. Each component is
    brought to the `device` by `running(*modules)`, for as long as it runs.
    """

    request: GenerationRequest
    vae: Any
    text_encoder: Any
    tokenizer: Any
    scheduler: Any
    unet: Any
    networks: tuple[Any, ...]
    control_frames: tuple[np.ndarray, ...]
    running: Callable[..., AbstractContextManager[None]]
    device: torch.device

    def embed(self, prompt: str) -> Tensor:
        """`(1, L, D)`."""
        with self.running(self.text_encoder):
            return encode_prompt(self.tokenizer, self.text_encoder, prompt)

    def encode(self, frames: np.ndarray) -> Tensor:
        """Scaled latents `(1, C, F, h, w)`."""
        with self.running(self.vae):
            return latents.encode(self.vae, frames, self.request.frame_batch_size)

    def noise(self) -> Tensor:
        """Initial noise of every frame, `(F, C, h, w)`."""
        count, height, width = self.request.frames.shape[:3]
        ratio = 2 ** (len(self.vae.config.block_out_channels) - 1)
        shape = (count, self.vae.config.latent_channels, height // ratio, width // ratio)
        noise = initial_noise(shape, self.request.noise_sharing, self.request.seed)
        return noise.to(self.device)


def generate(kit: Kit) -> Iterator[Step]:
    """Make the frames of a request that are not given; the last step's latents `(1, C, F, h, w)` hold them."""
    own_unet = IMAGE_MODELS[kit.request.image_model].denoiser == "own"
    denoisers = kit.networks if own_unet else (kit.unet, *kit.networks)
    steps = MAKERS[kit.request.image_model](kit)
    with kit.running(*denoisers):
        yield from steps


def _with_control(kit: Kit, residuals: Residuals) -> Iterator[Step]:
    request = kit.request
    controls = [
        Steering(network, frames, control.conditioning_scale, control.start, control.end)
        for network, frames, control in zip(kit.networks, kit.control_frames, request.controls, strict=True)
    ]
    return generate_with_control(
        kit.unet, controls, residuals, kit.scheduler, kit.noise(), kit.embed(request.prompt),
        kit.embed(request.negative_prompt), request.guidance_scale, request.num_inference_steps,
        request.frame_batch_size,
    )  # fmt: skip


def _by_instruction(kit: Kit) -> Iterator[Step]:
    request = kit.request
    source = latents.fold_frames(kit.encode(request.frames)) / kit.vae.config.scaling_factor
    return generate_with_instruct_pix2pix(
        kit.networks[0], kit.scheduler, kit.noise(), source, kit.embed(request.prompt),
        kit.embed(request.negative_prompt), request.guidance_scale, request.image_guidance_scale,
        request.num_inference_steps, request.frame_batch_size,
    )  # fmt: skip


def _by_prompts(kit: Kit) -> Iterator[Step]:
    request = kit.request
    # Now, and not in the midst of the steps, when the U-Net has the device.
    embeds = {text: kit.embed(text) for text in (request.source_prompt, request.prompt, request.negative_prompt)}
    return edit_with_prompt2prompt(
        kit.unet, kit.scheduler, kit.tokenizer, embeds.__getitem__, kit.encode(request.frames), request.source_prompt,
        request.prompt, request.negative_prompt, guidance_scale=request.guidance_scale,
        num_steps=request.num_inference_steps, batch_size=request.frame_batch_size,
        cross_replace_steps=request.cross_replace_steps, self_replace_steps=request.self_replace_steps,
        blend_words=request.blend_words, reweight=request.reweight,
    )  # fmt: skip


def _by_filling(kit: Kit) -> Iterator[Step]:
    request, noise = kit.request, kit.noise()
    known = latents.fold_frames(kit.encode(with_holes(request.frames, request.masks)))
    return generate_with_inpainting(
        kit.networks[0], kit.scheduler, noise, latent_holes(request.masks, noise), known, kit.embed(request.prompt),
        kit.embed(request.negative_prompt), request.guidance_scale, request.num_inference_steps,
        request.frame_batch_size,
    )  # fmt: skip


MAKERS: Mapping[str, Callable[[Kit], Iterator[Step]]] = {
    "controlnet": partial(_with_control, residuals=controlnet_residuals),
    "t2i-adapter": partial(_with_control, residuals=t2i_adapter_residuals),
    "instruct-pix2pix": _by_instruction,
    "prompt2prompt": _by_prompts,
    "inpainting": _by_filling,
}
