"""The canvas of outpainting: how far a clip is extended, and at what size, so that the models can do it well."""

from __future__ import annotations

import math
import re
from typing import NamedTuple

from bivdiff.errors import InputError

MAX_GROWTH = 9.0  # a canvas of more than so many times the pixels of the source is nearly all invention


class Sides(NamedTuple):
    """Pixels added to a picture on each side."""

    left: int
    top: int
    right: int
    bottom: int


class Plan(NamedTuple):
    """The source comes to `width` x `height`, and `sides` are added to it; the canvas is a multiple of 8 both ways."""

    width: int
    height: int
    sides: Sides

    @property
    def canvas(self) -> tuple[int, int]:
        """Width and height of the canvas."""
        return self.width + self.sides.left + self.sides.right, self.height + self.sides.top + self.sides.bottom


def parse_size(text: str) -> tuple[int, int]:
    """Read "576x320", or "512" for a square, as width and height in pixels.

    Raises:
        InputError: it is written otherwise, or a side is no multiple of 8 from 64 to 1024.
    """
    sides = text.lower().replace(" ", "").split("x")
    numbers = [int(side) for side in sides if side.isdecimal()]
    if len(numbers) != len(sides) or len(sides) > 2 or any(side % 8 or not 64 <= side <= 1024 for side in numbers):
        raise InputError(
            f"'{text}' is not a valid size. Use width and height as in '576x320', each a multiple of 8 from 64 to 1024."
        )
    return numbers[0], numbers[-1]


def plan_canvas(extend: str, width: int, height: int, model_size: tuple[int, int]) -> Plan:
    """Choose the source's size so that the canvas has about the area that the models were trained at.

    Args:
        extend: "left, top, right, bottom" in pixels of the source or percent of its side ("0, 0, 64, 25%"), one such
            value for all sides, or the canvas's aspect ratio ("16:9").
        width, height: of the source, in pixels.
        model_size: width and height the models were trained at.

    Raises:
        InputError: it cannot be read, adds nothing, or has more than `MAX_GROWTH` times the pixels of the source.
    """
    left, top, right, bottom = _shares(extend, width, height)
    across, down = 1 + left + right, 1 + top + bottom
    if max(across, down) == 1:
        raise InputError("The canvas is no larger than the clip. Extend at least one side.")
    if across * down > MAX_GROWTH:
        raise InputError(
            f"The canvas would have {across * down:,.0f} times the pixels of the clip; at most {MAX_GROWTH:g} times as "
            "many are made. Extend it less."
        )
    scale = math.sqrt(model_size[0] * model_size[1] / (width * across * height * down))
    canvas_width, canvas_height = (max(8, 8 * round(side * scale / 8)) for side in (width * across, height * down))
    inner_width, before, after = _split(canvas_width, left, right)
    inner_height, above, below = _split(canvas_height, top, bottom)
    return Plan(inner_width, inner_height, Sides(before, above, after, below))


def _split(length: int, first: float, last: float) -> tuple[int, int, int]:
    """Pixels of the source and of either addition, which share a side as 1 : first : last."""
    inner = max(1, round(length / (1 + first + last)))
    before = round((length - inner) * first / (first + last)) if first + last else 0
    if not first + last:
        return length, 0, 0
    return inner, before, length - inner - before


def _shares(extend: str, width: int, height: int) -> tuple[float, float, float, float]:
    """What is added left, above, right and below, as shares of the source's sides."""
    text = extend.strip()
    if match := re.fullmatch(r"(\d+(?:\.\d+)?)\s*[:x/]\s*(\d+(?:\.\d+)?)", text):
        wanted = float(match[1]) / float(match[2]) if float(match[2]) else 0.0
        if not wanted:
            raise InputError(f"'{extend}' is not a valid aspect ratio. Use one such as 16:9.")
        now = width / height
        across, down = max(0.0, wanted / now - 1) / 2, max(0.0, now / wanted - 1) / 2
        return across, down, across, down
    parts = [part.strip() for part in text.split(",")]
    if len(parts) not in {1, 4}:
        raise InputError(
            f"'{extend}' names {len(parts)} sides. Give left, top, right and bottom, or one value for all."
        )
    values = parts * 4 if len(parts) == 1 else parts
    left, above, right, below = (_share(part, side) for part, side in zip(values, (width, height) * 2, strict=True))
    return left, above, right, below


def _share(text: str, side: int) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(%|px)?", text)
    if not match:
        raise InputError(f"'{text}' is not a valid length. Use pixels, such as 64, or percent, such as 25%.")
    return float(match[1]) / (100 if match[2] == "%" else side)
