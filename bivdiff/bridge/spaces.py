"""Latent spaces: how a model's autoencoder turns frames into latents, and latents into frames.

Pictures have a latent each. Autoencoders of clips compress in time as well: the first frame is one latent, and each
later latent a group of frames; so a clip is made long enough by standing still at its end, and cut after decoding.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from bivdiff.bridge import latents as pictures
from bivdiff.catalog.specs import latents_of

DECODING_SEED = 0  # of the trace of noise that some decoders want
DECODING_LEVEL, DECODING_NOISE = 0.05, 0.025  # as the documentation of LTX-Video has them


class LatentSpace(Protocol):
    """What latents of a clip are, `(1, C, T, h, w)`, normalised as the denoiser sees them."""

    def encode(self, frames: np.ndarray, batch_size: int) -> Tensor:
        """Latents of uint8 frames `(F, H, W, 3)`, float32; the same each time.

        Raises:
            BIVDiffError: they hold NaN or infinity.
        """
        ...

    def decode(self, latents: Tensor, num_frames: int, batch_size: int) -> np.ndarray:
        """The first `num_frames` frames of latents, uint8 `(F, H, W, 3)`.

        Raises:
            BIVDiffError: the latents, or the pixels that they decode to, hold NaN or infinity.
        """
        ...

    def length(self, num_frames: int) -> int:
        """How many latents T so many frames take."""
        ...

    def holes(self, masks: np.ndarray, like: Tensor) -> Tensor:
        """Where masks uint8 `(F, H, W)` touch latents like these: bool `(1, 1, T, h, w)`."""
        ...


@dataclass(frozen=True)
class PictureSpace:
    """An AutoencoderKL's, a latent for each frame.

    Attributes:
        encoder: the autoencoder that reads frames.
        decoder: the one that makes them: another of the same space, or the same.
    """

    encoder: Any
    decoder: Any

    def encode(self, frames: np.ndarray, batch_size: int) -> Tensor:
        """As in `LatentSpace`, `batch_size` frames at once."""
        return pictures.encode(self.encoder, frames, batch_size)

    def decode(self, latents: Tensor, num_frames: int, batch_size: int) -> np.ndarray:
        """As in `LatentSpace`, `batch_size` frames at once."""
        return pictures.decode(self.decoder, latents[:, :, :num_frames], batch_size)

    def length(self, num_frames: int) -> int:
        """One each."""
        return num_frames

    def holes(self, masks: np.ndarray, like: Tensor) -> Tensor:
        """As in `LatentSpace`."""
        return pictures.unfold_frames(pictures.latent_holes(masks, pictures.fold_frames(like))) > 0


class Normalisation(NamedTuple):
    """Latents as the denoiser sees them are `(encoded - mean) * scale`; both `(C, 1, 1, 1)` or numbers."""

    mean: Tensor | float
    scale: Tensor | float


def _by_config(vae: Any) -> Normalisation:
    mean, std = (torch.tensor(values).view(-1, 1, 1, 1) for values in (vae.config.latents_mean, vae.config.latents_std))
    return Normalisation(mean, 1 / std)


def _by_buffers(vae: Any) -> Normalisation:
    mean, std = (values.float().view(-1, 1, 1, 1) for values in (vae.latents_mean, vae.latents_std))
    return Normalisation(mean, vae.config.scaling_factor / std)


def _by_factor(vae: Any) -> Normalisation:
    return Normalisation(0.0, vae.config.scaling_factor)


class Codec(NamedTuple):
    """What differs between autoencoders of clips.

    Attributes:
        normalisation: of their latents.
        group: frames of each latent after the first.
        together: latents after the first that are decoded together: a clip's number of them is a multiple.
    """

    normalisation: Callable[[Any], Normalisation]
    group: Callable[[Any], int]
    together: int = 1


CODECS: Mapping[str, Codec] = {
    "AutoencoderKLWan": Codec(_by_config, lambda vae: vae.config.scale_factor_temporal),
    "AutoencoderKLLTXVideo": Codec(_by_buffers, lambda vae: vae.temporal_compression_ratio),
    # Of an even number of latents it makes a group of the first one, too.
    "AutoencoderKLCogVideoX": Codec(_by_factor, lambda vae: int(vae.config.temporal_compression_ratio), together=2),
}
"""By the class of the autoencoder."""


@dataclass(frozen=True)
class ClipSpace:
    """That of an autoencoder of clips, causal in time.

    Attributes:
        vae: the autoencoder, of a class in `CODECS`.
    """

    vae: Any

    @property
    def group(self) -> int:
        """Frames of each latent after the first."""
        return CODECS[type(self.vae).__name__].group(self.vae)

    def encode(self, frames: np.ndarray, batch_size: int) -> Tensor:  # noqa: ARG002 - a clip is encoded in its groups
        """As in `LatentSpace`."""
        padded = np.ascontiguousarray(self._padded(frames))
        pixels = torch.from_numpy(padded).to(self.vae.device, self.vae.dtype).permute(3, 0, 1, 2)[None]
        encoded = self.vae.encode(pixels / 127.5 - 1).latent_dist.mode().float()
        pictures.check_finite(encoded, "while the frames were encoded")
        mean, scale = self._normalisation(encoded)
        return (encoded - mean) * scale

    def decode(self, latents: Tensor, num_frames: int, batch_size: int) -> np.ndarray:  # noqa: ARG002 - as above
        """As in `LatentSpace`."""
        pictures.check_finite(latents, "before the frames were decoded")
        mean, scale = self._normalisation(latents)
        encoded = (latents / scale + mean).to(self.vae.dtype)
        if getattr(self.vae.config, "timestep_conditioning", False):
            generator = torch.Generator().manual_seed(DECODING_SEED)
            noise = torch.randn(encoded.shape, generator=generator).to(encoded)
            level = torch.full((len(encoded),), DECODING_LEVEL, device=encoded.device, dtype=encoded.dtype)
            pixels = self.vae.decode((1 - DECODING_NOISE) * encoded + DECODING_NOISE * noise, level).sample
        else:
            pixels = self.vae.decode(encoded).sample
        pixels = pixels[0, :, :num_frames].float()
        pictures.check_finite(pixels, "while the frames were decoded")
        return ((pixels.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(1, 2, 3, 0).cpu().numpy()

    def length(self, num_frames: int) -> int:
        """See `LatentSpace`."""
        return latents_of(num_frames, self.group, self.group * CODECS[type(self.vae).__name__].together)

    def holes(self, masks: np.ndarray, like: Tensor) -> Tensor:
        """As in `LatentSpace`: a latent is a hole where any pixel of its group is one."""
        padded = torch.from_numpy((self._padded(masks) > 0).astype(np.float32))[:, None]
        places = F.adaptive_max_pool2d(padded, like.shape[-2:])
        groups = [places[:1], *places[1:].split(self.group)]
        return torch.stack([group.amax(0) for group in groups], 1)[None].to(like.device) > 0

    def _normalisation(self, like: Tensor) -> Normalisation:
        found = CODECS[type(self.vae).__name__].normalisation(self.vae)
        return Normalisation(*(part.to(like.device) if isinstance(part, Tensor) else part for part in found))

    def _padded(self, frames: np.ndarray) -> np.ndarray:
        """With the last frame repeated until there are whole latents enough."""
        missing = 1 + (self.length(len(frames)) - 1) * self.group - len(frames)
        return np.concatenate([frames, np.repeat(frames[-1:], missing, 0)]) if missing else frames


def space_of(encoder: Any, decoder: Any) -> LatentSpace:
    """The space of a video model: its decoder's own, or that of the image models where this one is of their kind."""
    return ClipSpace(decoder) if type(decoder).__name__ in CODECS else PictureSpace(encoder, decoder)
