"""Video models as the bridge sees them: one interface, whatever is behind it."""

from __future__ import annotations

from typing import Any

from diffusers import DDIMScheduler
from torch import Tensor

from bivdiff.catalog.specs import VideoModel
from bivdiff.errors import ModelUnavailableError
from bivdiff.models.loaders import KINDS

PREDICTIONS = ("epsilon", "v_prediction", "sample")


class VideoDenoiser:
    """A text-to-video model.

    Attributes:
        unet: its network.
        frame_unet: what sees one frame alone: the network itself, or the image model that it is built into.
        tokenizer, text_encoder: read its prompts.
        scheduler: its noise schedule, as a DDIMScheduler that predicts noise: whatever the network itself predicts,
            `noise_pred` is noise.
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
        self._prediction = scheduler.config.prediction_type
        if self._prediction not in PREDICTIONS:
            raise ModelUnavailableError(
                f"The video model '{model.unet.place}' predicts '{self._prediction}', which DDIM cannot invert. "
                f"Choose one that predicts one of: {', '.join(PREDICTIONS)}."
            )
        self.scheduler = DDIMScheduler.from_config(scheduler.config, prediction_type="epsilon")

    def noise_pred(self, latents: Tensor, timestep: Tensor, prompt_embeds: Tensor) -> Tensor:
        """The noise in a clip.

        Args:
            latents: `(B, C, F, h, w)`.
            timestep: of the model's own schedule.
            prompt_embeds: `(B, L, D)`.

        Returns:
            `(B, C, F, h, w)`, of the latents' dtype.
        """
        return self._as_noise(self._call(self.unet, latents.to(prompt_embeds.dtype), timestep, prompt_embeds), latents,
                              timestep)  # fmt: skip

    def frame_noise_pred(self, pictures: Tensor, timestep: Tensor, prompt_embeds: Tensor) -> Tensor:
        """The noise in single frames `(B, C, h, w)`, each of them a clip of its own; otherwise as `noise_pred`."""
        given = pictures.to(prompt_embeds.dtype)
        if self.frame_unet is self.unet:
            predicted = self._call(self.unet, given[:, :, None], timestep, prompt_embeds)[:, :, 0]
        else:
            predicted = self.frame_unet(given, timestep, prompt_embeds).sample
        return self._as_noise(predicted, pictures, timestep)

    def _as_noise(self, predicted: Tensor, latents: Tensor, timestep: Tensor) -> Tensor:
        """What the network predicted for latents, as the noise in them, of their dtype."""
        predicted = predicted.to(latents.dtype)
        if self._prediction == "epsilon":
            return predicted
        cumulative = self.scheduler.alphas_cumprod[int(timestep)].item()
        if self._prediction == "sample":
            return (latents - cumulative**0.5 * predicted) / (1 - cumulative) ** 0.5
        # v = sqrt(a) noise - sqrt(1 - a) clean (arXiv:2202.00512, appendix D)
        return cumulative**0.5 * predicted + (1 - cumulative) ** 0.5 * latents
