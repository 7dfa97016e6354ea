"""A finished comparison, read back from its files: its clips as the mp4s have them, its scores as the JSON has them."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from bivdiff.compare.axes import before_places, framewise_file
from bivdiff.compare.scores import Recommendation
from bivdiff.compare.steadiness import flicker_at_rest
from bivdiff.compare.sweep import Cell, SweepResult
from bivdiff.errors import InputError
from bivdiff.toybox.truths import truth_of
from bivdiff.types import GenerationRequest

GONE = "The files of this comparison are no longer all there, so nothing can be made of it. Run it again."


def read_comparison(
    request: GenerationRequest, axes: Mapping[str, Sequence[Any]], files: Mapping[str, Path],
    read: Callable[[Path], np.ndarray],
) -> SweepResult:  # fmt: skip
    """Read a comparison that `export.export` wrote.

    Args:
        request: of the comparison, with its source.
        axes: what it compared.
        files: by what they are, see `export`.
        read: gives all frames of an mp4.

    Raises:
        InputError: a file is gone, or was written by a version that kept less.
    """
    try:
        told = json.loads(files["scores_json"].read_text("utf-8"))
        places = before_places(axes)
        made = {
            place: read(files[framewise_file(place)]) for place in {places[each["index"]] for each in told["cells"]}
        }
        truth, cells = truth_of(request), []
        heats: dict[int, np.ndarray | None] = {}
        for each in told["cells"]:
            index, own = each["index"], replace(request, **each["values"])
            frames, framewise = read(files[f"cell {index + 1}"]), made[places[index]]
            if places[index] not in heats:
                heats[places[index]] = flicker_at_rest(own, framewise, truth).heat
            cells.append(Cell(
                index, each["values"], each["label"], own, frames, framewise, _numbers(each["scores"]),
                _numbers(each["framewise_scores"]), each["seconds"], each["evaluations"], tuple(each["reused"]),
                flicker_at_rest(own, frames, truth).heat, heats[places[index]],
            ))  # fmt: skip
        chosen = Recommendation(**told["recommended"])
        return SweepResult(request, {name: tuple(values) for name, values in axes.items()}, tuple(cells), chosen,
                           told["seconds"], told["peak_memory_bytes"])  # fmt: skip
    except (KeyError, TypeError, ValueError, IndexError, OSError) as error:
        raise InputError(GONE) from error


def _numbers(scores: Mapping[str, float | None]) -> dict[str, float]:
    return {name: math.nan if value is None else value for name, value in scores.items()}
