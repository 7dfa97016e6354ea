"""Surface normals, by Bae's network, trained on ScanNet."""

from collections.abc import Generator
from typing import TYPE_CHECKING

import numpy as np

from bivdiff.pixels.annotators.detectors import WORKING_SIZE, each_frame, part

if TYPE_CHECKING:
    from torch.nn import Module


def annotate_normal(
    frames: np.ndarray, *, model: "Module", working_size: int = WORKING_SIZE
) -> Generator[int, None, np.ndarray]:
    """Draw where each surface faces: red for left, green for up, blue for the camera, each from -1 (0) to 1 (255).

    Args:
        frames: uint8 `(F, H, W, 3)` RGB, any H and W.
        model: the "normalbae" network.
        working_size: shorter side that the network sees, in pixels.

    Returns:
        uint8 `(F, H, W, 3)`.
    """
    detector = part("normalbae").NormalBaeDetector(model)
    return (yield from each_frame(frames, detector, working_size))
