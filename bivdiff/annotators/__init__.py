"""Control maps: what a ControlNet or T2I-Adapter is shown of the source clip.

In it: `annotate`, and the table of the kinds of map there are. Each kind has its own file.
Not in it: loading models. A map that needs one is given it by the caller, and nothing here downloads anything.
Importing this package is cheap; what is heavy is imported when a map is first made.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from bivdiff.annotators.canny import annotate_canny
from bivdiff.annotators.depth import annotate_depth
from bivdiff.errors import InputError

ANNOTATORS: dict[str, Callable[..., np.ndarray]] = {
    "canny": annotate_canny,
    "depth": annotate_depth,
}


def annotate(control_type: str, frames: np.ndarray, **options: Any) -> np.ndarray:
    """Make one control map for each frame.

    Args:
        control_type: a key of `ANNOTATORS`.
        frames: uint8 `(F, H, W, 3)` RGB, any H and W.
        options: the keyword arguments of that kind's function; "depth" must be given its `model`.

    Returns:
        uint8 `(F, H, W, 3)`, the size of `frames`.

    Raises:
        InputError: `control_type` is not known, or an option is out of range.
    """
    if control_type not in ANNOTATORS:
        raise InputError(f"There is no control type {control_type!r}. Choose one of {', '.join(sorted(ANNOTATORS))}.")
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[3] != 3 or 0 in frames.shape:
        raise ValueError(f"frames must be uint8 (F, H, W, 3) and not empty, not {frames.dtype} {frames.shape}")
    return ANNOTATORS[control_type](frames, **options)
