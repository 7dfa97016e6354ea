"""What somebody chooses of a figure for a paper."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

USUAL_FRAMES = 4


@dataclass(frozen=True)
class FigureChoice:
    """What a figure shows, as somebody writes it.

    Attributes:
        frames: numbers between commas, from 1; empty takes `USUAL_FRAMES`, spread over the clip.
        rows: labels; none takes the usual ones.
        zoom: "auto" enlarges where the frames flicker most; "left, top, side" in pixels; empty enlarges nothing.
        column: "auto" takes the middle of what is enlarged; a number from 1; empty shows no column over time.
        chart: whether the chart of a comparison stands below.
    """

    frames: str = ""
    rows: Sequence[str] = field(default=())
    zoom: str = "auto"
    column: str = "auto"
    chart: bool = True
