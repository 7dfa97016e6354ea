"""Clips that flicker as if an image model had made each of their frames on its own."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from bivdiff.pixels.flow import pixel_grid


def flickering(frames: np.ndarray, seed: int) -> np.ndarray:
    """A clip as if an image model had made each of its frames on its own: steady in content, not from frame to frame.

    Every frame gets a brightness, a tint, soft blotches of both and a slight warp of its own, all seeded. On the
    world's clips this comes to a `metrics.background_flicker` of 4 to 6 levels.

    Args:
        frames: uint8 `(F, H, W, 3)`.
        seed: decides the flicker.

    Returns:
        uint8, of the same shape.
    """
    rng = np.random.default_rng((seed, 3))
    height, width = frames.shape[1:3]
    grid = pixel_grid(height, width)
    one_map: Any = None  # the places lie in one array
    made = []
    for frame in frames:
        places = grid + width * 0.004 * _soft_noise(rng, (height, width, 2), width / 10)
        warped = cv2.remap(
            frame.astype(np.float32), places, one_map, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101
        )
        gain = 1 + rng.normal(0, 0.014) + rng.normal(0, 0.009, 3)
        blotches = 2 * _soft_noise(rng, frame.shape, width / 10) + 1.5 * _soft_noise(rng, frame.shape, width / 50)
        made.append(warped * gain + rng.normal(0, 1.2) + rng.normal(0, 0.8, 3) + blotches)
    return (np.clip(made, 0, 255) + 0.5).astype(np.uint8)


def _soft_noise(rng: np.random.Generator, shape: tuple[int, ...], radius: float) -> np.ndarray:
    """Noise with unit deviation whose blotches are some `radius` pixels wide, float32."""
    noise = cv2.GaussianBlur(rng.standard_normal(shape, np.float32), (0, 0), radius)
    return noise / noise.std()
