"""The scores of a comparison as CSV and JSON."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from bivdiff.compare.scores import RULE, TITLES
from bivdiff.compare.sweep import Cell, SweepResult, paper_cell
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
                "label": cell.label, "values": dict(cell.values), "scores": finite(cell.scores),
                "framewise_scores": finite(cell.framewise_scores), "settings": cell.request.settings(),
                "seconds": dict(cell.seconds), "evaluations": dict(cell.evaluations), "reused": list(cell.reused),
            }
            for cell in result.cells
        ],
        "seconds": result.seconds,
        "peak_memory_bytes": result.peak_bytes,
    }  # fmt: skip


def scores_csv(result: SweepResult) -> str:
    """One row for each cell: its values, its scores, seconds, marks as the paper's or recommended, other settings."""
    names, others = measured(result.cells), [name for name in result.request.settings() if name not in result.axes]
    paper = paper_cell(result.request, result.cells)
    table = io.StringIO()
    rows = csv.writer(table, lineterminator="\n")
    rows.writerow(["cell", *result.axes, *names, "seconds", "recommended", "paper", *others])
    for cell in result.cells:
        scores = [digits(cell.scores.get(name, math.nan)) for name in names]
        marks = [int(cell.index == index) for index in (result.recommended.index, paper)]
        settings = cell.request.settings()
        told = [value if isinstance(value, str | int | float) else json.dumps(value)
                for value in (settings[name] for name in others)]  # fmt: skip
        rows.writerow([cell.index + 1, *cell.values.values(), *scores, digits(cell.seconds["total"]), *marks, *told])
    return table.getvalue()


def measured(cells: Sequence[Cell]) -> list[str]:
    """The scores that any of the cells has, in the order of their columns."""
    return [name for name in TITLES if any(name in cell.scores for cell in cells)]


def digits(value: float) -> str:
    """Four of them; nothing for what could not be measured."""
    return f"{value:.4g}" if math.isfinite(value) else ""
