"""Line drawings, by the network of Image-to-Line-Drawings."""

from collections.abc import Generator
from typing import TYPE_CHECKING

import numpy as np

from bivdiff.pixels.annotators.detectors import WORKING_SIZE, each_frame, part

if TYPE_CHECKING:
    from torch.nn import Module


def annotate_lineart(
    frames: np.ndarray, *, model: "Module", working_size: int = WORKING_SIZE
) -> Generator[int, None, np.ndarray]:
    """Draw each frame's lines, white on black: ControlNet was trained on the negative of the network's drawing.

    Args:
        frames: uint8 `(F, H, W, 3)` RGB, any H and W.
        model: the "lineart" network.
        working_size: shorter side that the network sees, in pixels.

    Returns:
        uint8 `(F, H, W, 3)`, the same in all channels.
    """
    # It has a second network for coarse lines, which is used for `coarse=True` alone.
    detector = part("lineart").LineartDetector(model, model)
    return (yield from each_frame(frames, detector, working_size))
