"""Sprite sheets: all frames of a clip in one picture, as the page's players take them."""

from __future__ import annotations

import base64
import io
import math
from typing import Any

import numpy as np
from PIL import Image

from bivdiff.errors import InputError

MAX_SIDE = 16383  # pixels of a WebP picture


def fits_sprite_sheet(frames: np.ndarray) -> bool:
    """Whether `(F, H, W, 3)` frames fit into one picture of the sheets' format."""
    count, height, width = frames.shape[:3]
    columns, rows = _sheet_shape(count)
    return max(columns * width, rows * height) <= MAX_SIDE


def sprite_sheet(frames: np.ndarray, *, lossless: bool, quality: int) -> dict[str, Any]:
    """All frames in one picture, row by row, as a data address with what is needed to cut it up again.

    Args:
        frames: uint8 `(F, H, W, 3)`.
        lossless: keep every pixel as it is.
        quality: of the picture where it is not lossless, 0 to 100; where it is, the effort to make it small.

    Raises:
        InputError: they do not fit, see `fits_sprite_sheet`.
    """
    count, height, width = frames.shape[:3]
    if not fits_sprite_sheet(frames):
        raise InputError(
            f"{count} frames of {width}x{height} are too many to be shown side by side. Make a shorter clip."
        )
    columns, rows = _sheet_shape(count)
    canvas = np.zeros((rows * columns, height, width, 3), np.uint8)
    canvas[:count] = frames
    grid = canvas.reshape(rows, columns, height, width, 3).swapaxes(1, 2).reshape(rows * height, columns * width, 3)
    buffer = io.BytesIO()
    Image.fromarray(grid).save(buffer, "WEBP", lossless=lossless, quality=quality, method=2)
    address = "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()
    return {"src": address, "columns": columns, "count": count, "width": width, "height": height}


def _sheet_shape(count: int) -> tuple[int, int]:
    """Columns and rows of a sheet of so many frames."""
    columns = math.ceil(math.sqrt(count))
    return columns, math.ceil(count / columns)
