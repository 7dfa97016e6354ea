"""Charts and figures whose labels are text, as SVG and PDF: drawn by matplotlib.

matplotlib draws and nothing else: it is given arrays and numbers, and gives back bytes.
"""

from __future__ import annotations

import io
import math
import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator, PercentFormatter

from bivdiff.media.slices import time_slice

Format = Literal["svg", "pdf", "png"]

INK = "#18181b"
"""Of all labels; `on_any_ground` lets a page choose it."""
QUIET = "#71717a"
# Seen on white and on a dark page, and told apart by their marks too.
CURVES = (("#d9662b", "o"), ("#3f83d9", "s"), ("#2f9e5f", "^"))
MARKED = {"recommended": "#2f9e5f", "paper": "#8a63c9"}
WIDTH = 7.0
"""Inches: the text of a page with two columns."""
LABELS, TITLES, SPACE = 0.45, 0.25, 0.05  # inches left of the rows, above them, and between pictures
PANEL_WIDE, PANEL_TALL = 3.6, 2.9  # inches of a chart's panel, with its labels; the legend below it is in that
DPI = 300  # of a PNG
CHART = "Chart of the scores over the compared setting"
PAGE_SCALE = 2.1  # pixels of a page for a point of a chart: its labels are then as large as the page's own

_DRAWING = threading.Lock()  # matplotlib's settings are of the process
_SETTINGS = {
    "font.family": "sans-serif", "font.size": 8, "svg.fonttype": "none", "svg.hashsalt": "bivdiff", "pdf.fonttype": 42,
    "text.color": INK, "axes.labelcolor": INK, "xtick.color": INK, "ytick.color": INK, "axes.edgecolor": QUIET,
    "axes.linewidth": 0.6, "text.parse_math": False,
}  # fmt: skip
_UNDATED: dict[str, dict[str, Any]] = {"svg": {"Date": None}, "pdf": {"CreationDate": None}, "png": {}}


class Curve(NamedTuple):
    """A score over the values of a setting: its `title`, what is better of it, and its `values`, NaN where unknown."""

    title: str
    better: str
    values: Sequence[float]


class Mark(NamedTuple):
    """A place on the axis of a panel that is marked: one of `MARKED`."""

    text: str
    place: float


@dataclass(frozen=True)
class Panel:
    """One of a chart's panels.

    Attributes:
        title: over it, or empty.
        across, up: what the axes show.
        places: of the values on the first axis, rising; ticks: what is written there.
        curves: each with a value for each place.
        marks: places that are marked.
    """

    title: str
    across: str
    up: str
    places: Sequence[float]
    ticks: Sequence[str]
    curves: Sequence[Curve]
    marks: Sequence[Mark] = ()


class Strip(NamedTuple):
    """A row of a figure: what stands beside it, and its clip, uint8 `(F, H, W, 3)`."""

    label: str
    frames: np.ndarray


@dataclass(frozen=True)
class Layout:
    """What a figure shows of its rows.

    Attributes:
        frames: numbers of the frames, from 0.
        zoom: left, top, width and height, in pixels, of what is shown enlarged; None shows nothing enlarged.
        column: the column of pixels that is shown over time; None shows none.
        panels: of a chart below the rows.
    """

    frames: Sequence[int]
    zoom: tuple[int, int, int, int] | None = None
    column: int | None = None
    panels: Sequence[Panel] = field(default=())


def chart(panels: Sequence[Panel], kind: Format) -> bytes:
    """A chart of its own, its ground transparent."""
    with _drawing():
        figure = Figure(figsize=(max(PANEL_WIDE, PANEL_WIDE * len(panels)), PANEL_TALL))
        _add_panels(figure, panels)
        return _written(figure, kind)


def rows_figure(rows: Sequence[Strip], layout: Layout, kinds: Sequence[Format]) -> dict[Format, bytes]:
    """A figure for a paper: rows of frames with their labels, enlarged parts, a column of pixels over time, a chart.

    Pictures are in it pixel by pixel, labels as text.

    Args:
        rows: at least one; all of one shape.
        layout: what is shown of them.
        kinds: of files; it is drawn once for all of them.
    """
    height, width = rows[0].frames.shape[1:3]
    columns = len(layout.frames) + (layout.zoom is not None) + (layout.column is not None)
    wide = (WIDTH - LABELS) / max(columns, 3) - SPACE
    tall = wide * height / width
    across = LABELS + columns * (wide + SPACE)
    below = PANEL_TALL if layout.panels else 0.0
    whole = below + TITLES + len(rows) * (tall + SPACE)
    with _drawing():
        figure = Figure(figsize=(across, whole))
        for number, row in enumerate(rows):
            bottom = whole - TITLES - (number + 1) * (tall + SPACE) + SPACE
            lefts = [LABELS + column * (wide + SPACE) for column in range(columns)]
            boxes = [(left / across, bottom / whole, wide / across, tall / whole) for left in lefts]
            _fill_row([figure.add_axes(box) for box in boxes], row, layout, first=number == 0)
        if layout.panels:
            _add_panels(figure, layout.panels)
        return {kind: _written(figure, kind) for kind in kinds}


def on_any_ground(svg: bytes) -> str:
    """An SVG for a page: without the head of a file, as wide as there is room, its labels as the text around it."""
    text = svg.decode()
    text = text[text.index("<svg") :].replace(INK, "currentColor")
    width = float(re.search(r' width="([\d.]+)pt"', text)[1])  # type: ignore[index]  # matplotlib writes one
    looks = f"width: 100%; max-width: {PAGE_SCALE * width:.0f}px; height: auto"
    size = re.compile(r' width="[\d.]+pt" height="[\d.]+pt"')
    return size.sub(f' role="img" aria-label="{CHART}" style="{looks}"', text, count=1)


def _fill_row(places: list[Any], row: Strip, layout: Layout, *, first: bool) -> None:
    """One row: its frames, what is enlarged of them, and its column over time."""
    titles = [f"frame {number + 1}" for number in layout.frames]
    pictures = [row.frames[number] for number in layout.frames]
    if layout.zoom is not None:
        left, top, width, height = layout.zoom
        parts = row.frames[list(layout.frames), top : top + height, left : left + width]
        titles.append("enlarged")
        pictures.append(_tiled(parts))
    if layout.column is not None:
        titles.append(f"column {layout.column + 1} over time")
        pictures.append(time_slice(row.frames, layout.column))
    for place, picture, title in zip(places, pictures, titles, strict=True):
        place.imshow(picture, interpolation="none", aspect="auto")
        place.set_xticks([])
        place.set_yticks([])
        for edge in place.spines.values():
            edge.set_visible(False)
        if first:
            place.set_title(title, fontsize=7, pad=3)
    for place in places[: len(layout.frames)]:
        for color, thick in (("#fff", 1.2), (INK, 0.5)):  # seen on any picture
            if layout.zoom is not None:
                left, top, width, height = layout.zoom
                edges: Any = {"fill": False, "edgecolor": color, "linewidth": thick}
                place.add_patch(Rectangle((left - 0.5, top - 0.5), width, height, **edges))
            if layout.column is not None:
                place.axvline(layout.column, 0, 0.06, color=color, linewidth=thick)
                place.axvline(layout.column, 0.94, 1, color=color, linewidth=thick)
    places[0].set_ylabel(row.label, fontsize=7.5, labelpad=4)


def _tiled(parts: np.ndarray) -> np.ndarray:
    """Parts of frames, uint8 `(N, h, w, 3)`, beside and below each other with white lines between."""
    count, height, width = parts.shape[:3]
    columns = math.ceil(math.sqrt(count))
    canvas = np.full((math.ceil(count / columns) * (height + 1) - 1, columns * (width + 1) - 1, 3), 255, np.uint8)
    for number, part in enumerate(parts):
        top, left = number // columns * (height + 1), number % columns * (width + 1)
        canvas[top : top + height, left : left + width] = part
    return canvas


def _add_panels(figure: Any, panels: Sequence[Panel]) -> None:
    """The panels of a chart at the foot of a figure, beside each other, and one legend below them."""
    across, whole = figure.get_size_inches()
    step = across / len(panels)
    marked = 0.14 * max(len(panel.marks) for panel in panels)
    axes: list[Any] = []
    for number in range(len(panels)):
        inside = (number * step + 0.62, 1.0, step - 0.72, PANEL_TALL - 1.25 - marked)
        left, bottom, wide, tall = inside
        box = (left / across, bottom / whole, wide / across, tall / whole)
        axes.append(figure.add_axes(box, sharey=axes[0] if axes else None))
    for place, panel in zip(axes, panels, strict=True):
        for curve, (color, mark) in zip(panel.curves, CURVES, strict=False):
            place.plot(panel.places, curve.values, color=color, marker=mark, markersize=4, linewidth=1.6,
                       label=f"{curve.title} ({curve.better})")  # fmt: skip
        place.axhline(1, color=QUIET, linewidth=0.8)
        place.set_ylim(bottom=0)
        for number, (text, at) in enumerate(panel.marks):
            place.axvline(at, color=MARKED[text], linewidth=1, linestyle=(0, (4, 3)))
            ends = {panel.places[0]: "left", panel.places[-1]: "right"} if len(panel.places) > 1 else {}
            place.annotate(
                text, (at, 1), xycoords=("data", "axes fraction"), xytext=(0, 3 + 10 * number),
                textcoords="offset points", ha=ends.get(at, "center"), color=MARKED[text], fontsize=7.5,
            )  # fmt: skip
        place.set_xticks(panel.places, panel.ticks)
        place.yaxis.set_major_locator(MaxNLocator(5))
        place.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        place.set_xlabel(panel.across)
        place.set_title(panel.title, fontsize=8, pad=4 + 10 * len(panel.marks))
        place.spines[["top", "right"]].set_visible(False)
        place.grid(axis="y", color=QUIET, alpha=0.25, linewidth=0.5)
    axes[0].set_ylabel(panels[0].up)
    handles, titles = axes[0].get_legend_handles_labels()
    figure.legend(handles, titles, loc="lower left", bbox_to_anchor=(0.4 / across, 0), frameon=False)


@contextmanager
def _drawing() -> Iterator[None]:
    with _DRAWING, mpl.rc_context(_SETTINGS):
        yield


def _written(figure: Any, kind: Format) -> bytes:
    buffer = io.BytesIO()
    ground: dict[str, Any] = {"facecolor": "#fff"} if kind == "png" else {"transparent": True}
    figure.savefig(buffer, format=kind, dpi=DPI, metadata=_UNDATED[kind], **ground)
    return buffer.getvalue()
