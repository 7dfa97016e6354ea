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

from bivdiff.bridge.paths import Path
from bivdiff.bridge.prompts import encode_prompt
from bivdiff.bridge.spaces import LatentSpace, PictureSpace
from bivdiff.catalog.components import Components
from bivdiff.catalog.prompt_syntax import plain_prompt
from bivdiff.models.video import VideoDenoiser
from bivdiff.models.words import Prompt

KEPT_CLIPS = 2  # encoded: the source and the image model's frames


@dataclass(frozen=True)
class LoadedModels:
    """What text and pictures pass through on their way into the denoisers and out of them.

    Attributes:
        parts: the components by their role.
        video: the video model.
        video_path: of its noise.
        video_space: of its latents.
        running: brings components to the device while they run, as `ModelManager.running`.
        device: where that is.
        batch_size: frames that the image model and the autoencoder take at once; it changes memory, not the result.
    """

    parts: Components[Any]
    video: VideoDenoiser
    video_path: Path
    video_space: LatentSpace
    running: Callable[..., AbstractContextManager[None]]
    device: torch.device
    batch_size: int
    _encoded: deque[tuple[np.ndarray, Tensor]] = field(default_factory=partial(deque, maxlen=KEPT_CLIPS))

    def embed(self, prompt: str) -> Tensor:
        """`(1, L, D)`, as the image model reads it."""
        with self.running(self.parts.text_encoder):
            return encode_prompt(self.parts.tokenizer, self.parts.text_encoder, prompt)

    def embed_for_video(self, prompt: str) -> Prompt:
        """`(1, L, D)`, or a bundle of that, as the video model reads it."""
        video = self.video
        with self.running(video.text_encoder):
            if video.read is not None:
                return video.read(video.tokenizer, video.text_encoder, plain_prompt(prompt))
            return encode_prompt(video.tokenizer, video.text_encoder, prompt)

    def encode(self, frames: np.ndarray) -> Tensor:
        """Scaled latents `(1, C, F, h, w)`, as the image models see them. Change none: the last are kept."""
        for clip, encoded in self._encoded:
            if clip is frames:
                return encoded
        with self.running(self.parts.vae):
            encoded = self._space.encode(frames, self.batch_size)
        self._encoded.append((frames, encoded))
        return encoded

    def encode_for_video(self, frames: np.ndarray) -> Tensor:
        """Scaled latents `(1, C, T, h, w)`, as the video model sees them."""
        if self.shares_space:
            return self.encode(frames)
        with self.running(self.parts.video_vae):
            return self.video_space.encode(frames, self.batch_size)

    def decode(self, clip: Tensor) -> np.ndarray:
        """Frames of scaled latents `(1, C, F, h, w)`, by the family's autoencoder."""
        with self.running(self.parts.vae):
            return self._space.decode(clip, clip.shape[2], self.batch_size)

    def decode_video(self, clip: Tensor, num_frames: int) -> np.ndarray:
        """The first frames of scaled latents `(1, C, T, h, w)`, by the decoder of the video model."""
        with self.running(self.parts.video_vae):
            return self.video_space.decode(clip, num_frames, self.batch_size)

    @property
    def shares_space(self) -> bool:
        """Whether the video model's latents are the image models'."""
        return isinstance(self.video_space, PictureSpace)

    @property
    def _space(self) -> PictureSpace:
        return PictureSpace(self.parts.vae, self.parts.vae)
