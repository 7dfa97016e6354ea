"""Between pictures and latents: the only user of the autoencoder and of its scaling factor."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from bivdiff.errors import BIVDiffError


def encode(vae: Any, frames: np.ndarray, batch_size: int) -> Tensor:
    """Encode frames with the mean of the autoencoder's distribution, so that it is repeatable.

    Args:
        vae: an AutoencoderKL.
        frames: uint8 `(F, H, W, 3)`.
        batch_size: frames encoded at once.

    Returns:
        float32 `(1, C, F, h, w)`, scaled by the autoencoder's `scaling_factor`.

    Raises:
        BIVDiffError: they hold NaN or infinity.
    """
    parts = []
    for chunk in np.array_split(frames, range(batch_size, len(frames), batch_size)):
        pixels = torch.from_numpy(np.ascontiguousarray(chunk)).to(vae.device, vae.dtype).permute(0, 3, 1, 2)
        parts.append(vae.encode(pixels / 127.5 - 1).latent_dist.mode())
    encoded = torch.cat(parts).float()
    check_finite(encoded, "while the frames were encoded")
    return unfold_frames(encoded * vae.config.scaling_factor)


def decode(vae: Any, latents: Tensor, batch_size: int) -> np.ndarray:
    """Decode scaled latents `(1, C, F, h, w)` to uint8 frames `(F, H, W, 3)`, `batch_size` frames at once.

    Raises:
        BIVDiffError: the latents, or the pixels that they decode to, hold NaN or infinity.
    """
    folded = fold_frames(latents)
    check_finite(folded, "before the frames were decoded")
    frames = np.empty((0,), np.uint8)
    for start in range(0, len(folded), batch_size):
        chunk = folded[start : start + batch_size]
        pixels = vae.decode((chunk / vae.config.scaling_factor).to(vae.dtype)).sample.float()
        check_finite(pixels, "while the frames were decoded")
        part = ((pixels.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
        if not start:
            frames = np.empty((len(folded), *part.shape[1:]), np.uint8)  # only now is the size known
        frames[start : start + len(part)] = part
    return frames


def check_finite(numbers: Tensor, when: str) -> None:
    """Refuse NaN and infinity, which would end as black frames.

    Raises:
        BIVDiffError: there is one; the sentence says when, as in "while the frames were decoded".
    """
    if not torch.isfinite(numbers).all():
        raise BIVDiffError(
            f"A model's numbers ran over (NaN) {when}, so the clip would be black. Lower the guidance scale, or "
            "compute with full precision (BIVDIFF_DTYPE=float32, or --device cpu)."
        )


def fold_frames(latents: Tensor) -> Tensor:
    """`(B, C, F, h, w)` to `(B F, C, h, w)`: each frame a picture of the batch."""
    return latents.transpose(1, 2).flatten(0, 1)


def unfold_frames(pictures: Tensor) -> Tensor:
    """`(F, C, h, w)` to `(1, C, F, h, w)`, one video."""
    return pictures.transpose(0, 1)[None]


def latent_holes(masks: np.ndarray, like: Tensor) -> Tensor:
    """Masks uint8 `(F, H, W)` at the latents' size, `(F, 1, h, w)` of 0 and 1, device and dtype of `like`.

    A latent is a hole where any of its pixels is one.
    """
    size = like.shape[-2:]
    holes = [F.adaptive_max_pool2d(torch.from_numpy((mask > 0).astype(np.float32))[None], size) for mask in masks]
    return torch.stack(holes).to(like.device, like.dtype)
