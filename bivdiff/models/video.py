"""Video models as the bridge sees them: one interface, whatever is behind it."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import CogVideoXDDIMScheduler, DDIMScheduler, FlowMatchEulerDiscreteScheduler
from torch import Tensor

from bivdiff.catalog.specs import VideoModel
from bivdiff.errors import ModelUnavailableError
from bivdiff.models.loaders import KINDS
from bivdiff.models.words import Prompt, Words

PREDICTIONS = ("epsilon", "v_prediction", "sample")


class VideoDenoiser:
    """A text-to-video model.

    Attributes:
        unet: its network.
        frame_unet: what sees one frame alone: the network itself, or the image model that it is built into.
        tokenizer, text_encoder: read its prompts.
        scheduler: its noise schedule. Of most models it is a DDIMScheduler that predicts noise: whatever the network
            itself predicts, `predict` gives noise. Flows, and what ends in nothing but noise, have their own, and
            `predict` gives what the network does (see `bridge.paths`).
        read: makes a prompt of words with tokenizer and text encoder; None where that is done as for image models.
        window: frames it was trained to see at once.
        size: width and height it was trained at, in pixels.
    """

    def __init__(
        self, model: VideoModel, unet: Any, text_encoder: Any, tokenizer: Any, scheduler: Any, image_unet: Any
    ) -> None:
        self.unet, self.text_encoder, self.tokenizer = unet, text_encoder, tokenizer
        self.window, self.size = model.window, model.unet.size
        kind = KINDS[model.unet.kind]
        self.frame_unet = image_unet if kind.sees_frames_by_base else unet
        call = kind.call
        if call is None:
            raise ModelUnavailableError(f"'{model.unet.place}' is no video model. Choose one of the family's.")
        self._call = call
        self.read = KINDS[model.text_encoder.kind].read
        if isinstance(scheduler, (FlowMatchEulerDiscreteScheduler, CogVideoXDDIMScheduler)):
            self.scheduler, self._prediction = scheduler, "own"
            return
        self._prediction = scheduler.config.prediction_type
        if self._prediction not in PREDICTIONS:
            raise ModelUnavailableError(
                f"The video model '{model.unet.place}' predicts '{self._prediction}', which DDIM cannot invert. "
                f"Choose one that predicts one of: {', '.join(PREDICTIONS)}."
            )
        self.scheduler = DDIMScheduler.from_config(scheduler.config, prediction_type="epsilon")

    def predict(self, latents: Tensor, timestep: Tensor, prompt_embeds: Prompt) -> Tensor:
        """What the model finds in a clip: noise, or what its path takes apart.

        Args:
            latents: `(B, C, F, h, w)`.
            timestep: of the model's own schedule.
            prompt_embeds: `(B, L, D)`, or a bundle of that.

        Returns:
            `(B, C, F, h, w)`, of the latents' dtype.
        """
        return self._as_noise(
            self._call(self.unet, latents.to(_dtype(prompt_embeds)), timestep, prompt_embeds), latents, timestep
        )

    def predict_frames(self, pictures: Tensor, timestep: Tensor, prompt_embeds: Prompt) -> Tensor:
        """The same of single frames `(B, C, h, w)`, each of them a clip of its own."""
        given = pictures.to(_dtype(prompt_embeds))
        if self.frame_unet is self.unet:
            predicted = self._call(self.unet, given[:, :, None], timestep, prompt_embeds)[:, :, 0]
        else:
            predicted = self.frame_unet(given, timestep, prompt_embeds).sample
        return self._as_noise(predicted, pictures, timestep)

    def _as_noise(self, predicted: Tensor, latents: Tensor, timestep: Tensor) -> Tensor:
        """What the network predicted for latents, of their dtype; as the noise in them, but on paths of its own."""
        predicted = predicted.to(latents.dtype)
        if self._prediction in {"epsilon", "own"}:
            return predicted
        cumulative = self.scheduler.alphas_cumprod[int(timestep)].item()
        if self._prediction == "sample":
            return (latents - cumulative**0.5 * predicted) / (1 - cumulative) ** 0.5
        # v = sqrt(a) noise - sqrt(1 - a) clean (arXiv:2202.00512, appendix D)
        return cumulative**0.5 * predicted + (1 - cumulative) ** 0.5 * latents


def _dtype(prompt: Prompt) -> torch.dtype:
    return prompt.states.dtype if isinstance(prompt, Words) else prompt.dtype
