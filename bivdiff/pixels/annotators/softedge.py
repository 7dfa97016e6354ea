"""Soft edges and scribbles, both by HED, ControlNet's own edge network."""

from collections.abc import Generator
from typing import TYPE_CHECKING

import numpy as np

from bivdiff.pixels.annotators.detectors import WORKING_SIZE, black_and_white, each_frame, part

if TYPE_CHECKING:
    from torch.nn import Module


def annotate_softedge(
    frames: np.ndarray, *, model: "Module", safe: bool = True, working_size: int = WORKING_SIZE
) -> Generator[int, None, np.ndarray]:
    """Draw how much of an edge each pixel is, white on black.

    Args:
        frames: uint8 `(F, H, W, 3)` RGB, any H and W.
        model: the "hed" network.
        safe: round to black, grey and white. The fine levels hide a grey copy of the frame, which a ControlNet finds;
            with them the result keeps more of the source's look, and is better where that is no harm.
        working_size: shorter side that the network sees, in pixels.

    Returns:
        uint8 `(F, H, W, 3)`, the same in all channels.
    """
    detector = part("hed").HEDdetector(model)
    return (yield from each_frame(frames, detector, working_size, safe=safe))


def annotate_scribble(
    frames: np.ndarray, *, model: "Module", working_size: int = WORKING_SIZE
) -> Generator[int, None, np.ndarray]:
    """Draw the strong edges as if by hand with a thick pen, white on black.

    Args:
        frames: uint8 `(F, H, W, 3)` RGB, any H and W.
        model: the "hed" network.
        working_size: shorter side that the network sees, in pixels. The pen is as thick as it is at 512.

    Returns:
        uint8 `(F, H, W, 3)`, each value 0 or 255.
    """
    detector = part("hed").HEDdetector(model)
    return black_and_white((yield from each_frame(frames, detector, working_size, scribble=True)))
