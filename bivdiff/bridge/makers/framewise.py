"""How each image model makes the frames: the table of all makers."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import cast

import numpy as np
from torch import Tensor

from bivdiff.bridge import latents
from bivdiff.bridge.attention import FrameLooks
from bivdiff.bridge.loaded import LoadedModels
from bivdiff.bridge.makers.control import (
    Residuals,
    Steering,
    controlnet_residuals,
    generate_with_control,
    t2i_adapter_residuals,
)
from bivdiff.bridge.makers.inpaint import generate_with_inpainting, with_holes
from bivdiff.bridge.makers.instruct import generate_with_instruct_pix2pix
from bivdiff.bridge.makers.prompt2prompt import edit_with_prompt2prompt
from bivdiff.bridge.sampling import Step, initial_noise
from bivdiff.catalog.image_models import IMAGE_MODELS
from bivdiff.types import GenerationRequest


@dataclass(frozen=True)
class FrameMaker:
    """Makes every frame of a request on its own.

    Attributes:
        request: with its seed, as far as the stage declares that it reads it (see `inputs.framewise_inputs`).
        models: in memory.
        control_frames: control maps, uint8 `(F, H, W, 3)` for each of the request's controls.
    """

    request: GenerationRequest
    models: LoadedModels
    control_frames: tuple[np.ndarray, ...]

    def steps(self) -> Generator[Step, None, None]:
        """Make the frames; the last step's latents `(1, C, F, h, w)` hold them."""
        parts = self.models.parts
        own_unet = IMAGE_MODELS[self.request.image_model].denoiser == "own"
        denoisers = parts.networks if own_unet else (parts.unet, *parts.networks)
        steps = MAKERS[self.request.image_model](self)
        with self.models.running(*denoisers), self.looks.put_into(denoisers[0]):
            yield from steps

    @cached_property
    def looks(self) -> FrameLooks:
        """What the frames see of each other."""
        return FrameLooks(self.request.frame_attention, len(self.request.frames))

    def noise(self) -> Tensor:
        """Initial noise of every frame, `(F, C, h, w)`."""
        count, height, width = self.request.frames.shape[:3]
        config = self.models.parts.vae.config
        ratio = 2 ** (len(config.block_out_channels) - 1)
        shape = (count, config.latent_channels, height // ratio, width // ratio)
        seed = cast(int, self.request.seed)  # drawn before any stage runs
        return initial_noise(shape, self.request.noise_sharing, seed).to(self.models.device)

    @property
    def embeds(self) -> dict[str, Tensor]:
        """Of the prompt and of the negative prompt, each `(1, L, D)`, as the functions that make frames take them."""
        return {
            "prompt_embeds": self.models.embed(self.request.prompt),
            "negative_embeds": self.models.embed(self.request.negative_prompt),
        }


def _with_control(maker: FrameMaker, residuals: Residuals) -> Iterator[Step]:
    request, parts = maker.request, maker.models.parts
    controls = [
        Steering(network, frames, control.conditioning_scale, control.start, control.end)
        for network, frames, control in zip(parts.networks, maker.control_frames, request.controls, strict=True)
    ]
    return generate_with_control(
        parts.unet, parts.scheduler, maker.noise(), controls=controls, residuals=residuals, **maker.embeds,
        guidance_scale=request.guidance_scale, num_steps=request.num_inference_steps,
        batch_size=maker.models.batch_size, sampler=request.sampler, guided_share=request.guided_share,
    )  # fmt: skip


def _by_instruction(maker: FrameMaker) -> Iterator[Step]:
    request, parts = maker.request, maker.models.parts
    source = latents.fold_frames(maker.models.encode(request.frames)) / parts.vae.config.scaling_factor
    return generate_with_instruct_pix2pix(
        parts.networks[0], parts.scheduler, maker.noise(), source=source, **maker.embeds,
        guidance_scale=request.guidance_scale, image_guidance_scale=request.image_guidance_scale,
        num_steps=request.num_inference_steps, batch_size=maker.models.batch_size,
        sampler=request.sampler, guided_share=request.guided_share,
    )  # fmt: skip


def _by_prompts(maker: FrameMaker) -> Iterator[Step]:
    request, parts = maker.request, maker.models.parts
    # Now, and not in the midst of the steps, when the U-Net has the device.
    prompts = (request.source_prompt, request.prompt, request.negative_prompt)
    embeds = {text: maker.models.embed(text) for text in prompts}
    return edit_with_prompt2prompt(
        parts.unet, parts.scheduler, maker.models.encode(request.frames), tokenizer=parts.tokenizer,
        embed=embeds.__getitem__, source_prompt=request.source_prompt, prompt=request.prompt,
        negative_prompt=request.negative_prompt, guidance_scale=request.guidance_scale,
        num_steps=request.num_inference_steps, batch_size=maker.models.batch_size,
        cross_replace_steps=request.cross_replace_steps, self_replace_steps=request.self_replace_steps,
        blend_words=request.blend_words, reweight=request.reweight, looks=maker.looks,
    )  # fmt: skip


def _by_filling(maker: FrameMaker) -> Iterator[Step]:
    request, parts, noise = maker.request, maker.models.parts, maker.noise()
    masks = cast(np.ndarray, request.masks)  # without any, `catalog.default_request` makes no request
    known = latents.fold_frames(maker.models.encode(with_holes(request.frames, masks)))
    return generate_with_inpainting(
        parts.networks[0], parts.scheduler, noise, holes=latents.latent_holes(masks, noise), known=known,
        **maker.embeds, guidance_scale=request.guidance_scale, num_steps=request.num_inference_steps,
        batch_size=maker.models.batch_size, sampler=request.sampler, guided_share=request.guided_share,
    )  # fmt: skip


MAKERS: Mapping[str, Callable[[FrameMaker], Iterator[Step]]] = {
    "controlnet": partial(_with_control, residuals=controlnet_residuals),
    "t2i-adapter": partial(_with_control, residuals=t2i_adapter_residuals),
    "instruct-pix2pix": _by_instruction,
    "prompt2prompt": _by_prompts,
    "inpainting": _by_filling,
}
