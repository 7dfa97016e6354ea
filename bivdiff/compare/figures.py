"""Pictures of a comparison: the labelled grid, the contact sheet, and the plot of what is traded for what."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from html import escape
from itertools import cycle
from typing import Any, NamedTuple

import numpy as np

from bivdiff.compare.axes import AXES, label_of, say
from bivdiff.compare.sweep import Cell, SweepResult, paper_cell
from bivdiff.media import film
from bivdiff.media.film import GAP, PAPER

# Pictures


def labelled_grid(result: SweepResult) -> np.ndarray:
    """All cells beside each other under their labels, uint8 `(F, H, W, 3)`; two settings make rows and columns.

    Of a comparison that was stopped, the places of the cells that were not made stay empty.
    """
    columns = len(list(result.axes.values())[1]) if len(result.axes) == 2 else math.ceil(math.sqrt(result.size))
    made = {cell.index: (cell.label, cell.frames) for cell in result.cells}
    starts = range(0, result.size, columns)
    return film.labelled_grid([[made.get(start + column) for column in range(columns)] for start in starts])


def contact_sheet(result: SweepResult) -> np.ndarray:
    """A row for each cell, a column for each frame, uint8 `(H, W, 3)`; the frame-wise clip above, if it is one."""
    paper, recommended = paper_cell(result.request, result.cells), result.recommended.index
    rows: list[tuple[str, np.ndarray]] = []
    framewise = shared_framewise(result.cells)
    if framewise is not None:
        rows.append(("frame by frame", framewise))
    for cell in result.cells:
        marks = [mark for mark, index in (("paper", paper), ("recommended", recommended)) if index == cell.index]
        rows.append((" | ".join([cell.label, *marks]), cell.frames))
    count, height, width = rows[0][1].shape[:3]
    header = film.header_height(width)
    strips = []
    for label, frames in rows:
        across = count * (width + GAP) + GAP
        strip = np.full((height + header + GAP, across, 3), PAPER, np.uint8)
        strip[:header, GAP : across - GAP] = film.label(label, across - 2 * GAP, header)
        for number, frame in enumerate(frames):
            left = GAP + number * (width + GAP)
            strip[header : header + height, left : left + width] = frame
        strips.append(strip)
    return np.concatenate(strips)


def shared_framewise(cells: Sequence[Cell]) -> np.ndarray | None:
    """The frame-wise clip that all cells were made of; None if there are several."""
    first = cells[0].framewise_frames
    return first if all(np.array_equal(first, cell.framewise_frames) for cell in cells) else None


# The plot

_WIDE, _TALL, _TOP, _MARGIN = 420.0, 240.0, 80.0, 56.0


class _Line(NamedTuple):
    """One score over the values of a setting: how it is called, its colour, and its numbers."""

    title: str
    color: str
    values: list[float]


class _Panel(NamedTuple):
    """Where a plot is drawn: its left end, and what is on its axes."""

    left: float
    places: list[float]
    highest: float

    def x(self, place: float) -> float:
        low, high = min(self.places), max(self.places)
        return self.left + _WIDE * ((place - low) / (high - low) if high > low else 0.5)

    def y(self, value: float) -> float:
        return _TOP + _TALL * (1 - value / self.highest)


def trade_off_svg(result: SweepResult) -> str:
    """Smoothness against fidelity and sharpness over the first setting, as SVG; a second one makes panels.

    All lines have one scale, on which the frame-wise clip is at 1: its warp error and flicker, its sharpness, its
    likeness to itself. Each clip is held against the frames that it was made of.
    """
    name, *others = result.axes
    across = list(result.axes[name])
    numeric = all(isinstance(value, int | float) for value in across) and name != "seed"
    ordered = sorted(across) if numeric else across
    places = [float(value) if numeric else float(number) for number, value in enumerate(ordered)]
    panels = [{}] if not others else [{others[0]: value} for value in result.axes[others[0]]]
    width = len(panels) * (_WIDE + _MARGIN) + _MARGIN
    drawn = [_legend(_lines(result.cells))]
    for number, fixed in enumerate(panels):
        by_value = {cell.values[name]: cell for cell in result.cells if fixed.items() <= cell.values.items()}
        cells = [by_value.get(value) for value in ordered]
        lines = _lines(cells)
        highest = max([1.1, *(1.05 * value for line in lines for value in line.values if math.isfinite(value))])
        panel = _Panel(_MARGIN + number * (_WIDE + _MARGIN), places, highest)
        title = label_of(fixed)
        drawn += [_axes_svg(panel, ordered, AXES[name], title), *(_line_svg(panel, line) for line in lines)]
        drawn += _marks_svg(panel, result, cells)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} 384" width="{width:g}" height="384" '
        'font-family="system-ui, sans-serif" font-size="12" role="img" aria-label="Smoothness, sharpness and fidelity">'
        f'<rect width="100%" height="100%" fill="#fff"/>{"".join(drawn)}</svg>'
    )


def _lines(cells: Sequence[Cell | None]) -> list[_Line]:
    """The scores of cells, NaN in the places of those that were not made."""
    made = [cell for cell in cells if cell]
    flickers = [name for name in ("excess_flicker", "background_flicker") if _all_have(name, made)]

    def line(title: str, color: str, name: str, *, relative: bool) -> _Line:
        references = [(cell.framewise_scores[name] or math.nan) if cell and relative else 1.0 for cell in cells]
        values = [cell.scores[name] if cell else math.nan for cell in cells]
        return _Line(title, color, [value / reference for value, reference in zip(values, references, strict=True)])

    return [
        line("warp error", "#a21caf", "warp_error", relative=True),
        line("flicker", "#c2410c", next(iter(flickers), "temporal_flicker"), relative=True),
        line("sharpness", "#1d4ed8", "sharpness", relative=False),
        line("SSIM to the frames", "#15803d", "framewise_ssim", relative=False),
    ]


def _all_have(name: str, cells: Sequence[Cell]) -> bool:
    return bool(cells) and all(math.isfinite(cell.scores.get(name, math.nan)) for cell in cells)


def _legend(lines: Iterable[_Line]) -> str:
    entries = []
    for number, line in enumerate(lines):
        left = _MARGIN + number * 110
        entries.append(
            f'<path d="M{left:g} 18h22" stroke="{line.color}" stroke-width="2.5"/>'
            f'<text x="{left + 28:g}" y="22" fill="#18181b">{line.title}</text>'
        )
    return "".join(entries)


def _axes_svg(panel: _Panel, values: Sequence[Any], name: str, title: str) -> str:
    bottom, middle = _TOP + _TALL, panel.left + _WIDE / 2
    parts = [f'<text x="{panel.left:g}" y="46" font-weight="600" fill="#18181b">{escape(title)}</text>']
    for tick in np.arange(0, panel.highest + 1e-9, _tick_step(panel.highest)):
        y = panel.y(float(tick))
        parts.append(
            f'<path d="M{panel.left:g} {y:.1f}h{_WIDE:g}" stroke="{"#71717a" if tick in {0, 1} else "#e4e4e7"}"/>'
            f'<text x="{panel.left - 6:g}" y="{y + 4:.1f}" text-anchor="end" fill="#52525b">{tick:g}</text>'
        )
    for value, place in zip(values, panel.places, strict=True):
        parts.append(
            f'<text x="{panel.x(place):.1f}" y="{bottom + 18:g}" text-anchor="middle" fill="#52525b">'
            f"{escape(say(value))}</text>"
        )
    parts.append(f'<text x="{middle:g}" y="{bottom + 40:g}" text-anchor="middle" fill="#18181b">{escape(name)}</text>')
    return "".join(parts)


def _tick_step(highest: float) -> float:
    """The distance of ticks, so that there are 12 at most: 0.25, 0.5, 1, 2.5, 5, 10, ..."""
    step, factors = 0.25, cycle((2, 2, 2.5))
    while highest / step > 12:
        step *= next(factors)
    return step


def _line_svg(panel: _Panel, line: _Line) -> str:
    points = [
        (panel.x(place), panel.y(value))
        for place, value in zip(panel.places, line.values, strict=True) if math.isfinite(value)
    ]  # fmt: skip
    dots = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{line.color}"/>' for x, y in points)
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<polyline points="{path}" fill="none" stroke="{line.color}" stroke-width="2.5"/>{dots}'


def _marks_svg(panel: _Panel, result: SweepResult, cells: Sequence[Cell | None]) -> list[str]:
    marked = (
        (result.recommended.index, "recommended", 0, "#6d28d9"),
        (paper_cell(result.request, result.cells), "paper", 12, "#71717a"),
    )
    drawn = []
    for cell, place in zip(cells, panel.places, strict=True):
        for index, text, drop, color in marked:
            if cell and cell.index == index:
                x = panel.x(place)
                drawn.append(
                    f'<path d="M{x:.1f} {_TOP:g}v{_TALL:g}" stroke="{color}" stroke-dasharray="4 3"/>'
                    f'<text x="{x:.1f}" y="{_TOP - 6 - drop:g}" text-anchor="middle" fill="{color}">{text}</text>'
                )
    return drawn
