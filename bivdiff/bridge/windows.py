"""Clips longer than a video model's window: overlapping windows, whose predictions are averaged."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from bivdiff.models.windows import windows_of


def over_windows(
    noise_pred: Callable[[Tensor, Tensor, Any], Tensor], window: int
) -> Callable[[Tensor, Tensor, Any], Tensor]:
    """A prediction for clips of any length from one for clips of at most `window` frames.

    Where windows overlap, a frame's predictions are averaged, each the more the nearer the frame is to the middle of
    its window, and next to nothing at its ends, so that no seam shows where one begins or ends.

    Args:
        noise_pred: `(latents (B, C, F, h, w), timestep, prompt_embeds)` to the noise, or to
            whatever else is averaged as well as noise is.
        window: frames it may be shown at once.

    Source: MultiDiffusion (arXiv:2302.08113), along time.
    """

    def predict(latents: Tensor, timestep: Tensor, prompt_embeds: Any) -> Tensor:
        return joined_windows(lambda part: noise_pred(part, timestep, prompt_embeds), window, latents)

    return predict


def joined_windows(function: Callable[..., Tensor], window: int | None, *clips: Tensor) -> Tensor:
    """What a function makes of clips `(B, C, F, h, w)`, of one length, seen through overlapping windows.

    Args:
        function: takes a window of each clip, and returns one of that shape.
        window: frames it may be shown at once; None is all.
        clips: at least one.
    """
    length = clips[0].shape[2]
    spans = windows_of(length, window or length)
    if len(spans) == 1:
        return function(*clips)
    total, weights = torch.zeros_like(clips[0]), clips[0].new_zeros(length)
    for span in spans:
        part = slice(span.start, span.stop)
        weight = _weights(len(span)).to(clips[0])
        total[:, :, part] += weight.view(-1, 1, 1) * function(*(clip[:, :, part] for clip in clips))
        weights[part] += weight
    return total / weights.view(-1, 1, 1)


def _weights(window: int) -> Tensor:
    """Weights of a window's frames, a Hann window between its ends: two that overlap by half add up to 1.

    Chosen by `benchmarks/long.py borders`: with a tent the warp error is a half higher where windows meet.
    """
    return torch.sin(torch.pi * (torch.arange(window) + 0.5) / window).square()
