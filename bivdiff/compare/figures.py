"""Pictures of a comparison: the labelled grid, the contact sheet, and the chart of what is traded for what."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeAlias

import cv2
import numpy as np

from bivdiff.catalog.image_models import frames_name
from bivdiff.compare.axes import AXES, label_of, say
from bivdiff.compare.before import befores
from bivdiff.compare.steadiness import FLICKER
from bivdiff.compare.sweep import Cell, SweepResult, paper_cell
from bivdiff.media import film
from bivdiff.media.film import GAP, PAPER
from bivdiff.media.vector import Curve, Mark, Panel

SHEET_SCALE = 2  # times the clips' own size, so that a contact sheet can be printed
SHEET_FRAMES = 16  # at most on a contact sheet
SHEET_WIDTH = 8400  # pixels at most, where so many frames of 512 pixels have room in their own size

_Labelled: TypeAlias = "tuple[str, np.ndarray] | None"

# Pictures


def labelled_grid(result: SweepResult) -> np.ndarray:
    """All clips beside each other under their labels, uint8 `(F, H, W, 3)`, the frames before the bridge first.

    Two settings make rows and columns, below those of the frames. Of a comparison that was stopped, the places of the
    cells that were not made stay empty.
    """
    before: list[_Labelled] = [(each.label, each.frames) for each in befores(result.cells)]
    made = {cell.index: (cell.label, cell.frames) for cell in result.cells}
    if len(result.axes) == 2:
        columns = len(list(result.axes.values())[1])
        before += [None] * (-len(before) % columns)
    places = [*before, *(made.get(index) for index in range(result.size))]
    if len(result.axes) < 2:
        columns = math.ceil(math.sqrt(len(places)))
        places += [None] * (-len(places) % columns)
    return film.labelled_grid([places[start : start + columns] for start in range(0, len(places), columns)])


def contact_sheet(result: SweepResult) -> np.ndarray:
    """A row for each clip, those before the bridge first, uint8 `(H, W, 3)`, see `sheet_of_rows`."""
    paper, recommended = paper_cell(result.request, result.cells), result.recommended.index
    rows = [(each.label, each.frames) for each in befores(result.cells)]
    for cell in result.cells:
        marks = [mark for mark, index in (("paper", paper), ("recommended", recommended)) if index == cell.index]
        rows.append((" | ".join([cell.label, *marks]), cell.frames))
    return sheet_of_rows(rows)


def sheet_of_rows(rows: Sequence[tuple[str, np.ndarray]]) -> np.ndarray:
    """A row for each labelled clip, uint8 `(F, H, W, 3)`, all of one shape; a column for each frame.

    Of a long clip there are `SHEET_FRAMES`, spread over all of it. They are `SHEET_SCALE` times as large as the clip's,
    or where that is wider than `SHEET_WIDTH` as large, or smaller.
    """
    chosen = np.unique(np.linspace(0, len(rows[0][1]) - 1, SHEET_FRAMES).round().astype(int))
    count = len(chosen)
    height, width = _sheet_size(count, *rows[0][1].shape[1:3])
    header = film.header_height(width)
    strips = []
    for label, frames in rows:
        across = count * (width + GAP) + GAP
        strip = np.full((height + header + GAP, across, 3), PAPER, np.uint8)
        strip[:header, GAP : across - GAP] = film.label(label, across - 2 * GAP, header)
        for number, frame in enumerate(frames[chosen]):
            left = GAP + number * (width + GAP)
            way = cv2.INTER_AREA if width < frame.shape[1] else cv2.INTER_NEAREST
            strip[header : header + height, left : left + width] = cv2.resize(frame, (width, height), interpolation=way)
        strips.append(strip)
    return np.concatenate(strips)


def _sheet_size(count: int, height: int, width: int) -> tuple[int, int]:
    """How high and wide each of `count` frames is on a contact sheet."""
    room = (SHEET_WIDTH - GAP) // count - GAP
    scale = next((float(times) for times in (SHEET_SCALE, 1) if times * width <= room), room / width)
    return max(1, round(scale * height)), round(scale * width)


# The chart


def trade_off(result: SweepResult) -> list[Panel]:
    """Flicker at rest against sharpness and likeness over the first setting; a second one makes panels.

    All curves have one scale, on which the frames before the bridge are at 100%: their flicker at rest, their
    sharpness, their likeness to themselves. Each clip is held against the frames that it was made of. Where flicker at
    rest is not measured of all clips, the warp error stands for it.
    """
    name, *others = result.axes
    across = list(result.axes[name])
    numeric = all(isinstance(value, int | float) for value in across) and name != "seed"
    ordered = sorted(across) if numeric else across
    places = [float(value) if numeric else float(number) for number, value in enumerate(ordered)]
    panels = []
    for fixed in [{}] if not others else [{others[0]: value} for value in result.axes[others[0]]]:
        by_value = {cell.values[name]: cell for cell in result.cells if fixed.items() <= cell.values.items()}
        cells = [by_value.get(value) for value in ordered]
        panels.append(Panel(
            label_of(fixed), AXES[name], f"{frames_name(result.request.image_model).lower()} = 100%", places,
            [say(value) for value in ordered], _curves(result.cells, cells), _marks(result, cells, places),
        ))  # fmt: skip
    return panels


def _curves(measured: Sequence[Cell], cells: Sequence[Cell | None]) -> list[Curve]:
    """The curves of a panel; NaN in the places of the cells that were not made."""
    rest = all(
        math.isfinite(scores.get("excess_flicker", math.nan))
        for cell in measured for scores in (cell.scores, cell.framewise_scores)
    )  # fmt: skip
    unsteady, title = ("excess_flicker", FLICKER) if rest else ("warp_error", "Warp error")

    def share(cell: Cell | None) -> float:
        return cell.scores[unsteady] / (cell.framewise_scores[unsteady] or math.nan) if cell else math.nan

    def of(cell: Cell | None, name: str) -> float:
        return cell.scores[name] if cell else math.nan

    return [
        Curve(title, "less is better", [share(cell) for cell in cells]),
        Curve("Sharpness", "more is better", [of(cell, "sharpness") for cell in cells]),
        Curve("Likeness to the frames (SSIM)", "more is better", [of(cell, "framewise_ssim") for cell in cells]),
    ]


def _marks(result: SweepResult, cells: Sequence[Cell | None], places: Sequence[float]) -> list[Mark]:
    marked = (("recommended", result.recommended.index), ("paper", paper_cell(result.request, result.cells)))
    return [
        Mark(text, place) for text, index in marked
        for cell, place in zip(cells, places, strict=True) if cell and cell.index == index
    ]  # fmt: skip
