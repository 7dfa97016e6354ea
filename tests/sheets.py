"""The sheets in which the player is given its clips, cut up again."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image


def cut_up(sheet: Mapping[str, Any]) -> np.ndarray:
    """The frames of a sheet, uint8 `(F, H, W, 3)`."""
    picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(sheet["src"].partition(",")[2]))).convert("RGB"))
    height, width = sheet["height"], sheet["width"]
    places = (divmod(number, sheet["columns"]) for number in range(sheet["count"]))
    return np.stack([picture[row * height :, column * width :][:height, :width] for row, column in places])
