"""Optical flow from frame to frame, and where it can be believed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import cv2
import numpy as np

MIN_SIDE = 16  # pixels: OpenCV's flow raises an error or crashes on smaller pictures

_NOTHING: Any = None  # OpenCV's types do not know that it may be left out


class Motion(NamedTuple):
    """From one frame to the next.

    Attributes:
        origin: float32 `(H, W, 2)`, the x and y where each pixel was before.
        agreed: bool `(H, W)`, see `flows_agree`.
    """

    origin: np.ndarray
    agreed: np.ndarray


def motions(frames: np.ndarray | Sequence[np.ndarray]) -> Iterator[Motion]:
    """The motion into each frame but the first, between neighbours.

    Args:
        frames: uint8 `(F, H, W, 3)`, at least `MIN_SIDE` pixels along each side.

    Source: OpenCV's DIS flow (Kroeger et al. 2016, arXiv:1603.03590) in its medium preset.
    """
    flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    grid = pixel_grid(*frames[0].shape[:2])
    for before, after in pairwise(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames):
        forward, backward = flow.calc(before, after, _NOTHING), flow.calc(after, before, _NOTHING)
        origin = backward + grid
        yield Motion(origin, flows_agree(forward, backward, origin))


def flows_agree(forward: np.ndarray, backward: np.ndarray, origin: np.ndarray) -> np.ndarray:
    """Where going back to `origin` and forth again returns to the pixel, inside the picture, bool `(H, W)`.

    The tolerance grows with the motion. Source: Sundaram, Brox and Keutzer 2010, "Dense point trajectories".
    """
    height, width = origin.shape[:2]
    there = sample(forward, origin)
    gap = np.square(there + backward).sum(2)
    motion = np.square(there).sum(2) + np.square(backward).sum(2)
    inside = ((origin >= 0) & (origin <= (width - 1, height - 1))).all(2)
    agreed: np.ndarray = inside & (gap <= 0.01 * motion + 0.5)
    return agreed


def sample(picture: np.ndarray, points: np.ndarray) -> np.ndarray:
    """A picture's values at points `(H, W, 2)`; 0 beyond its edges."""
    return cv2.remap(picture, points, _NOTHING, cv2.INTER_LINEAR)


def pixel_grid(height: int, width: int) -> np.ndarray:
    """Each pixel's own x and y, float32 `(H, W, 2)`."""
    return np.stack(np.meshgrid(np.arange(width), np.arange(height)), 2).astype(np.float32)
