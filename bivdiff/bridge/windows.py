"""Clips longer than a video model's window: overlapping windows, whose predictions are averaged."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from bivdiff.models.windows import windows_of


def over_windows(
    noise_pred: Callable[[Tensor, Tensor, Tensor], Tensor], window: int
) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """A noise prediction for clips of any length from one for clips of at most `window` frames.

    Where windows overlap, a frame's predictions are averaged, each the more the nearer the frame is to the middle of
    its window, so that no seam shows where one ends.

    Args:
        noise_pred: `(latents (B, C, F, h, w), timestep, prompt_embeds)` to the noise.
        window: frames it may be shown at once.

    Source: MultiDiffusion (arXiv:2302.08113), along time.
    """

    def predict(latents: Tensor, timestep: Tensor, prompt_embeds: Tensor) -> Tensor:
        spans = windows_of(latents.shape[2], window)
        if len(spans) == 1:
            return noise_pred(latents, timestep, prompt_embeds)
        total, weights = torch.zeros_like(latents), latents.new_zeros(latents.shape[2])
        for span in spans:
            part = slice(span.start, span.stop)
            weight = _tent(window).to(latents)
            total[:, :, part] += weight.view(-1, 1, 1) * noise_pred(latents[:, :, part], timestep, prompt_embeds)
            weights[part] += weight
        return total / weights.view(-1, 1, 1)

    return predict


def _tent(window: int) -> Tensor:
    """Weights of a window's frames: highest in its middle, above 0 at its ends."""
    places = torch.arange(window, dtype=torch.float32)
    return torch.minimum(places + 1, window - places)
