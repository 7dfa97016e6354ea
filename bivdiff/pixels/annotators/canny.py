"""Canny edges, by controlnet_aux."""

from collections.abc import Generator

import numpy as np

from bivdiff.errors import InputError
from bivdiff.pixels.annotators.detectors import MULTIPLE, part

LOW_THRESHOLD = 40
HIGH_THRESHOLD = 100
"""Lower than the usual 100 and 200, which miss most edges of small and of softly lit clips."""


def annotate_canny(
    frames: np.ndarray, *, low_threshold: float = LOW_THRESHOLD, high_threshold: float = HIGH_THRESHOLD
) -> Generator[int, None, np.ndarray]:
    """Draw the edges of each frame, white on black, one pixel wide, at the frames' own resolution.

    Args:
        frames: uint8 `(F, H, W, 3)` RGB, any H and W.
        low_threshold: gradient above which a pixel that touches an edge belongs to it; above 0.
        high_threshold: gradient above which an edge begins; not below `low_threshold`.

    Returns:
        uint8 `(F, H, W, 3)`, each value 0 or 255.

    Raises:
        InputError: the thresholds are not numbers with `0 < low_threshold <= high_threshold`.
    """
    if not 0 < low_threshold <= high_threshold < float("inf"):
        raise InputError(
            "The Canny thresholds must be above 0, and the high one not below the low one; "
            f"they are {low_threshold!r} and {high_threshold!r}."
        )
    detect = part("canny").CannyDetector()
    height, width = frames.shape[1:3]
    # Repeating the border up to the multiple, and cutting it off the map, replaces the detector's resampling,
    # which would blur the edges and lose fine ones. The repeated border has no edge of its own.
    margin = ((0, -height % MULTIPLE), (0, -width % MULTIPLE), (0, 0))
    maps = np.empty_like(frames)
    for index, frame in enumerate(frames):
        padded = np.pad(frame, margin, mode="edge")
        side = min(padded.shape[:2])
        edges = detect(padded, low_threshold, high_threshold, detect_resolution=side, image_resolution=side)
        maps[index] = edges[:height, :width]
        yield index + 1
    return maps
