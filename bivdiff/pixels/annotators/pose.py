"""Body poses, by OpenPose."""

from collections.abc import Generator
from typing import TYPE_CHECKING

import numpy as np

from bivdiff.pixels.annotators.detectors import WORKING_SIZE, each_frame, part

if TYPE_CHECKING:
    from torch.nn import Module


def annotate_pose(
    frames: np.ndarray, *, model: "Module", working_size: int = WORKING_SIZE
) -> Generator[int, None, np.ndarray]:
    """Draw the people of each frame as stick figures, in OpenPose's colours on black.

    Args:
        frames: uint8 `(F, H, W, 3)` RGB, any H and W.
        model: the "body_pose" network.
        working_size: shorter side of the drawing before it is brought to the frames' size, in pixels. The sticks are
            as thick as they are at 512. The network itself always sees the frame 184 pixels high.

    Returns:
        uint8 `(F, H, W, 3)`; all 0 where nobody is seen.
    """
    body_class = part("open_pose.body").Body
    # Its constructor only reads the network from a file; the network is here already.
    body = body_class.__new__(body_class)
    body.model = model
    detector = part("open_pose").OpenposeDetector(body)
    return (yield from each_frame(frames, detector, working_size))
