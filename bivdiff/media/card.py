"""A still picture of a result for where its address is posted: frames, and one column of each over time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from bivdiff.media.film import BACKGROUND, NOTE, TITLE, drawable
from bivdiff.media.slices import calmed_column, time_slice

SIZE = (1200, 630)
EDGE, GAP = 24, 10
LABEL, SAYS = 30, 34  # pixels of the letters above the pictures, and of those below
SLICE_SHARE = 0.34  # of a panel's width: the column over time, in which flicker is stripes


def card(clips: Sequence[tuple[str, np.ndarray]], says: str) -> Image.Image:
    """Two clips beside each other, each as its middle frame and as one column over time, with what is to be seen.

    Args:
        clips: two labels with frames, uint8 `(F, H, W, 3)`, both of one shape; the column is where the second is most
            calmer than the first.
        says: one line below them.
    """
    made = Image.new("RGB", SIZE, BACKGROUND)
    pen = ImageDraw.Draw(made)
    column = calmed_column(clips[0][1], clips[-1][1])
    panel = (SIZE[0] - EDGE * (len(clips) + 1)) // len(clips)
    top, tall = EDGE + LABEL + GAP, SIZE[1] - 2 * EDGE - LABEL - SAYS - 3 * GAP
    for number, (label, frames) in enumerate(clips):
        left = EDGE + number * (panel + EDGE)
        pen.text((left, EDGE - 6), drawable(label), TITLE, ImageFont.load_default(LABEL))
        strip = round(SLICE_SHARE * panel)
        _paste(made, frames[len(frames) // 2], (left, top, panel - strip - GAP, tall))
        stripes = Image.fromarray(time_slice(frames, column)).resize((strip, tall), Image.Resampling.NEAREST)
        made.paste(stripes, (left + panel - strip, top))
    line, font = drawable(says), ImageFont.load_default(SAYS)
    while line and font.getlength(line) > SIZE[0] - 2 * EDGE:
        line = line.rsplit(" ", 1)[0] if " " in line else ""
    pen.text((EDGE, top + tall + 2 * GAP), line, NOTE, font)
    return made


def _paste(card: Image.Image, picture: np.ndarray, place: tuple[int, int, int, int]) -> None:
    """A picture that fills a place, cut at its sides where it is wider, or above and below."""
    left, top, width, height = place
    height_there, width_there = picture.shape[:2]
    scale = max(width / width_there, height / height_there)
    larger = Image.fromarray(picture).resize(
        (max(width, round(width_there * scale)), max(height, round(height_there * scale))), Image.Resampling.BICUBIC
    )
    across, down = (larger.width - width) // 2, (larger.height - height) // 2
    card.paste(larger.crop((across, down, across + width, down + height)), (left, top))
