"""Frames brought to another size, and the checks of frames and sizes."""

from __future__ import annotations

import operator

import numpy as np
from PIL import Image

from bivdiff.errors import InputError

FITS = ("crop", "pad")
MAX_SIDE = 16384  # pixels


def fit_frames(frames: np.ndarray, size: tuple[int, int], fit: str, shown: tuple[int, int] | None = None) -> np.ndarray:
    """Bring frames to a size without distorting them, with Lanczos resampling.

    Args:
        frames: uint8 `(F, H, W, 3)`.
        size: `(width, height)` in pixels.
        fit: "crop" fills the size and cuts what stands over, evenly on both sides; "pad" shows everything and
            leaves black bars, evenly on both sides.
        shown: width and height of the picture that the frames show, where their pixels are not those of that picture:
            they are brought to size as it would be. None for their own.

    Returns:
        uint8 `(F, height, width, 3)`; `frames` itself where it has that size already.

    Raises:
        InputError: `size` or `fit` is not usable.
    """
    width, height = checked_size(size, fit)
    own_height, own_width = checked_frames(frames).shape[1:3]
    source_width, source_height = shown or (own_width, own_height)
    if (source_width, source_height) == (width, height) == (own_width, own_height):
        return frames
    if fit == "crop":
        scale = max(width / source_width, height / source_height)
        left, top = (1 - width / scale / source_width) / 2, (1 - height / scale / source_height) / 2
        # Rounding must not carry the box out of the picture.
        left, top = max(left, 0.0) * own_width, max(top, 0.0) * own_height
        box = (left, top, own_width - left, own_height - top)
        return np.stack([_resize(frame, (width, height), box) for frame in frames])
    scale = min(width / source_width, height / source_height)
    inner = (min(max(round(source_width * scale), 1), width), min(max(round(source_height * scale), 1), height))
    left, top = (width - inner[0]) // 2, (height - inner[1]) // 2
    fitted = np.zeros((len(frames), height, width, 3), np.uint8)
    whole = (0.0, 0.0, float(own_width), float(own_height))
    for target, frame in zip(fitted, frames, strict=True):
        target[top : top + inner[1], left : left + inner[0]] = _resize(frame, inner, whole)
    return fitted


def _resize(frame: np.ndarray, size: tuple[int, int], box: tuple[float, float, float, float]) -> np.ndarray:
    """Resample the part `box` (left, top, right, bottom) of one frame to `size` (width, height)."""
    return np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.LANCZOS, box=box))


def checked_size(size: tuple[int, int], fit: str) -> tuple[int, int]:
    """Width and height as plain whole numbers. Raises InputError where they, or `fit`, are not usable."""
    if fit not in FITS:
        raise InputError(f"The way to fit a clip must be one of {', '.join(FITS)}; it is {fit!r}.")
    return whole_number("The width", size[0], MAX_SIDE), whole_number("The height", size[1], MAX_SIDE)


def checked_frames(frames: np.ndarray) -> np.ndarray:
    """The frames themselves. Raises ValueError where they are not uint8 `(F, H, W, 3)`, or empty."""
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[3] != 3 or 0 in frames.shape:
        raise ValueError(f"frames must be uint8 (F, H, W, 3) and not empty, not {frames.dtype} {frames.shape}")
    return frames


def whole_number(name: str, value: int, maximum: int) -> int:
    """`value` as a plain int. Raises InputError, which calls it `name`, outside 1 to `maximum`."""
    try:
        number = operator.index(value)
    except TypeError:
        number = 0
    if not 1 <= number <= maximum:
        raise InputError(f"{name} must be a whole number from 1 to {maximum}; it is {value!r:.60}.")
    return number
