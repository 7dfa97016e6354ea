"""Sketches by PiDiNet, the edges that the sketch T2I-Adapter was trained on."""

from collections.abc import Generator
from typing import TYPE_CHECKING

import numpy as np

from bivdiff.pixels.annotators.detectors import WORKING_SIZE, black_and_white, each_frame, part

if TYPE_CHECKING:
    from torch.nn import Module


def annotate_sketch(
    frames: np.ndarray, *, model: "Module", working_size: int = WORKING_SIZE
) -> Generator[int, None, np.ndarray]:
    """Draw the pixels that are more an edge than not, white on black.

    Args:
        frames: uint8 `(F, H, W, 3)` RGB, any H and W.
        model: the "pidinet" network.
        working_size: shorter side that the network sees, in pixels.

    Returns:
        uint8 `(F, H, W, 3)`, each value 0 or 255. The adapter takes one of the three channels, which are the same.
    """
    detector = part("pidi").PidiNetDetector(model)
    # At the clip's size, after the resizing: the other way round, thin lines would break.
    return black_and_white((yield from each_frame(frames, detector, working_size)))
