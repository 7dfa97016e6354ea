"""Heat maps of flicker at rest as small pictures, which the player colours."""

from __future__ import annotations

import base64
import io
import math
from typing import Any

import cv2
import numpy as np
from PIL import Image

FULL = 64.0
"""Levels that the brightest shade of a map stands for; the dark half of the shades is spent on the first eight."""

MOST_SIDE = 192  # pixels: where it flickers is seen well enough
QUALITY = 80
HIGH = 0.995  # a few places that flash must not make all others look calm


def heat_picture(heat: np.ndarray, level: float | None) -> dict[str, Any]:
    """A map as a data address with what is needed to read it.

    Args:
        heat: flicker at rest of each place, float `(H, W)`.
        level: of the whole clip, if that was measured.

    Returns:
        `src`, a grey WebP whose shade s of 255 stands for `full` (s / 255) ^ 2 levels; `full`; `high`, the level that
        few places exceed; and `mean`, the clip's level.
    """
    height, width = heat.shape
    scale = min(1.0, MOST_SIDE / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = cv2.resize(heat.astype(np.float32), size, interpolation=cv2.INTER_AREA) if scale < 1 else heat
    shades = np.rint(255 * np.sqrt(np.clip(small / FULL, 0, 1))).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(shades).convert("RGB").save(buffer, "WEBP", quality=QUALITY, method=2)
    high = float(np.quantile(small, HIGH))
    return {
        "src": "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode(), "full": FULL,
        "high": high if math.isfinite(high) else 0.0, "mean": level,
    }  # fmt: skip
