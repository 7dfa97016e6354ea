"""How fast this device computes: what runs of a family reached, or a single layer until one has run."""

from __future__ import annotations

import time

import torch
from torch import nn


class Pace:
    """Operations a second, in units of 1e9.

    Args:
        device: where models run.
        dtype: of their weights.
    """

    def __init__(self, device: torch.device, dtype: torch.dtype) -> None:
        self._device, self._dtype = device, dtype
        self._of_family: dict[str, float] = {}
        self._of_layer: float | None = None

    def note(self, family: str, gflop: float, seconds: float) -> None:
        """Remember that a run of a family computed so much in so long."""
        self._of_family[family] = gflop / seconds

    def of(self, family: str) -> float:
        """What runs of a family reach; what a single layer does, until one has run."""
        if self._of_layer is None and family not in self._of_family:
            self._of_layer = measured_speed(self._device, self._dtype)
        return self._of_family.get(family) or self._of_layer or 1.0

    def is_rough(self, family: str) -> bool:
        """Whether no run of a family has shown how fast it is."""
        return family not in self._of_family


def measured_speed(device: torch.device, dtype: torch.dtype) -> float:
    """Operations a second of the device in units of 1e9, on the convolution that U-Nets spend most of their time in."""
    with torch.inference_mode():
        layer = nn.Conv2d(320, 320, 3, padding=1).to(device, dtype)
        picture = torch.randn(1, 320, 32, 32, device=device, dtype=dtype)
        layer(picture)  # the first is slower than any after it
        started = time.perf_counter()
        layer(picture)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        spent = time.perf_counter() - started
    return 2 * 320 * 320 * 9 * 32 * 32 / 1e9 / spent
