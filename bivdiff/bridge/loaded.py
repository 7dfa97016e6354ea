"""The models of a run in memory, brought to the device for as long as each of them runs."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bivdiff.bridge import latents
from bivdiff.bridge.prompts import encode_prompt
from bivdiff.catalog.components import Components
from bivdiff.models.video import VideoDenoiser

KEPT_CLIPS = 2  # encoded: the source and the image model's frames


@dataclass(frozen=True)
class LoadedModels:
    """What text and pictures pass through on their way into the denoisers and out of them.

    Attributes:
        parts: the components by their role.
        video: the video model.
        running: brings components to the device while they run, as `ModelManager.running`.
        device: where that is.
        batch_size: frames that the image model and the autoencoder take at once; it changes memory, not the result.
    """

    parts: Components[Any]
    video: VideoDenoiser
    running: Callable[..., AbstractContextManager[None]]
    device: torch.device
    batch_size: int
    _encoded: deque[tuple[np.ndarray, Tensor]] = field(default_factory=partial(deque, maxlen=KEPT_CLIPS))

    def embed(self, prompt: str) -> Tensor:
        """`(1, L, D)`, as the image model reads it."""
        with self.running(self.parts.text_encoder):
            return encode_prompt(self.parts.tokenizer, self.parts.text_encoder, prompt)

    def embed_for_video(self, prompt: str) -> Tensor:
        """`(1, L, D)`, as the video model reads it."""
        with self.running(self.video.text_encoder):
            return encode_prompt(self.video.tokenizer, self.video.text_encoder, prompt)

    def encode(self, frames: np.ndarray) -> Tensor:
        """Scaled latents `(1, C, F, h, w)`, which nobody may change: those of the last clips are kept."""
        for clip, encoded in self._encoded:
            if clip is frames:
                return encoded
        with self.running(self.parts.vae):
            encoded = latents.encode(self.parts.vae, frames, self.batch_size)
        self._encoded.append((frames, encoded))
        return encoded

    def decode(self, clip: Tensor) -> np.ndarray:
        """Frames of scaled latents `(1, C, F, h, w)`, by the family's autoencoder."""
        return self._decoded(self.parts.vae, clip)

    def decode_video(self, clip: Tensor) -> np.ndarray:
        """Frames of scaled latents `(1, C, F, h, w)`, by the decoder of the video model."""
        return self._decoded(self.parts.video_vae, clip)

    def _decoded(self, vae: Any, clip: Tensor) -> np.ndarray:
        with self.running(vae):
            return latents.decode(vae, clip, self.batch_size)
