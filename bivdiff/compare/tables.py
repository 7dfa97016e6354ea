"""The scores of a comparison as CSV and JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from bivdiff.compare.axes import making_frames
from bivdiff.compare.before import befores
from bivdiff.compare.scores import RULE, TITLES
from bivdiff.compare.sweep import Cell, SweepResult, paper_cell
from bivdiff.spreadsheet import csv_of
from bivdiff.units import finite


def report(result: SweepResult) -> dict[str, Any]:
    """Scores and settings of a comparison, ready for JSON; what could not be measured is None."""
    return {
        "rule": RULE,
        "recommended": asdict(result.recommended),
        "paper": paper_cell(result.request, result.cells),
        "settings": result.request.settings(),
        "axes": {name: list(values) for name, values in result.axes.items()},
        "framewise": finite(result.cells[0].framewise_scores),
        "cells": [
            {
                "index": cell.index, "label": cell.label, "values": dict(cell.values), "scores": finite(cell.scores),
                "framewise_scores": finite(cell.framewise_scores), "settings": cell.request.settings(),
                "seconds": dict(cell.seconds), "evaluations": dict(cell.evaluations), "reused": list(cell.reused),
            }
            for cell in result.cells
        ],
        "seconds": result.seconds,
        "peak_memory_bytes": result.peak_bytes,
    }  # fmt: skip


def scores_csv(result: SweepResult) -> str:
    """A row for each clip: its values, its scores, seconds, marks as the paper's or recommended, other settings.

    The frames before the bridge come first, as cell 0, without the values that only the bridge reads.
    """
    names, others = measured(result.cells), [name for name in result.request.settings() if name not in result.axes]
    paper = paper_cell(result.request, result.cells)
    rows: list[list[Any]] = [["cell", "clip", *result.axes, *names, "seconds", "recommended", "paper", *others]]

    def row(number: int, label: str, values: Mapping[str, Any], scores: Mapping[str, float], seconds: float,
            settings: Mapping[str, Any]) -> list[Any]:  # fmt: skip
        marks = [int(number > 0 and number - 1 == index) for index in (result.recommended.index, paper)]
        told = [value if isinstance(value, str | int | float) else json.dumps(value)
                for value in (settings[name] for name in others)]  # fmt: skip
        found = [digits(scores.get(name, math.nan)) for name in names]
        return [number, label, *(values.get(name, "") for name in result.axes), *found, digits(seconds), *marks, *told]

    for each in befores(result.cells):
        values = making_frames(each.cell.values)
        rows.append(row(0, each.label, values, each.scores, each.seconds, each.cell.request.settings()))
    for cell in result.cells:
        settings, seconds = cell.request.settings(), cell.seconds["total"]
        rows.append(row(cell.index + 1, cell.label, cell.values, cell.scores, seconds, settings))
    return csv_of(rows)


def measured(cells: Sequence[Cell]) -> list[str]:
    """The scores that any of the cells has, in the order of their columns."""
    return [name for name in TITLES if any(name in cell.scores for cell in cells)]


def digits(value: float) -> str:
    """Four of them; nothing for what could not be measured."""
    return f"{value:.4g}" if math.isfinite(value) else ""
