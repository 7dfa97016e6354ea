"""Pictures of unfinished latents that cost next to nothing, to look at during a run."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from bivdiff.catalog.specs import Family
from bivdiff.settings import Settings

AT_ONCE = 16  # frames
Layers: TypeAlias = tuple[tuple[Tensor, Tensor], ...]
"""Weight and bias of convolutions, one after the other."""


def layers_of(chosen: Family, settings: Settings) -> Layers | None:
    """The convolutions that stand in for a family's decoder; None where there are none, and previews are decoded."""
    if isinstance(chosen.preview, str):
        path = settings.toybox_folder / chosen.preview
        return _read(path, path.stat().st_mtime_ns) if path.is_file() else None
    if not chosen.preview:
        return None
    weight = torch.tensor(chosen.preview).T[:, :, None, None].contiguous()
    return ((weight, torch.zeros(3)),)


@cache
def _read(path: Path, changed: int) -> Layers:  # noqa: ARG001 - so that a file that has changed is read again
    tensors = {name: tensor.float() for name, tensor in load_file(path).items()}
    numbers = sorted({int(name.partition(".")[0]) for name in tensors})
    return tuple((tensors[f"{number}.weight"], tensors[f"{number}.bias"]) for number in numbers)


def preview_frames(latents: Tensor, layers: Layers) -> np.ndarray:
    """What scaled latents `(1, C, F, h, w)` show, roughly: uint8 `(F, n h, n w, 3)`.

    The last of the convolutions has 3 n n channels, the n x n pixels of each latent.
    """
    parts = []
    for chunk in latents[0].transpose(0, 1).split(AT_ONCE):
        pixels = convolved(chunk.float(), layers)
        parts.append(((pixels.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).cpu())
    return torch.cat(parts).numpy()


def convolved(pictures: Tensor, layers: Layers) -> Tensor:
    """`(N, C, h, w)` to `(N, 3, n h, n w)` through the convolutions, with SiLU between them."""
    for number, (weight, bias) in enumerate(layers):
        pictures = F.silu(pictures) if number else pictures
        pictures = F.conv2d(
            pictures, weight.to(pictures.device), bias.to(pictures.device), padding=weight.shape[-1] // 2
        )
    return F.pixel_shuffle(pictures, round((pictures.shape[1] / 3) ** 0.5))
