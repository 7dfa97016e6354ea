"""Parts of clips in which flicker is seen in a still picture."""

from __future__ import annotations

import numpy as np


def time_slice(frames: np.ndarray, column: int) -> np.ndarray:
    """One column of pixels of every frame beside each other, first frame left: what flickers has stripes.

    Args:
        frames: uint8 `(F, H, W, 3)`.
        column: from 0.

    Returns:
        uint8 `(H, F * n, 3)`, each column repeated so that it is about as wide as the clip.
    """
    repeats = max(1, round(frames.shape[2] / len(frames)))
    return np.repeat(frames[:, :, column].swapaxes(0, 1), repeats, axis=1)


def calmed_column(frames: np.ndarray, calm: np.ndarray) -> int:
    """The column that changes most from frame to frame, and least in a calmer clip, of the middle half of the picture.

    Args:
        frames, calm: uint8 `(F, H, W, 3)`, of one shape.
    """
    width = frames.shape[2]
    changes, others = (np.abs(np.diff(clip.astype(np.int16), axis=0)).sum((0, 1, 3)) for clip in (frames, calm))
    return width // 4 + int(np.argmax((changes - others)[width // 4 : width - width // 4]))


def busiest_part(heat: np.ndarray, side: int) -> tuple[int, int, int, int]:
    """Where a part of a picture has the most heat: its left, top, width and height.

    Args:
        heat: float `(H, W)`.
        side: of the part, in pixels, at most the picture's shorter side.
    """
    height, width = heat.shape
    side = min(side, height, width)
    totals = np.pad(np.cumsum(np.cumsum(heat, 0, np.float64), 1), ((1, 0), (1, 0)))
    sums = totals[side:, side:] - totals[:-side, side:] - totals[side:, :-side] + totals[:-side, :-side]
    # Rounding must not decide between parts that are alike.
    top, left = np.unravel_index(np.argmax(np.round(sums, 6)), sums.shape)
    return int(left), int(top), side, side
