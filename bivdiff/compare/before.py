"""What the clips of a comparison were made of: the frames before the bridge, which come first wherever clips are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bivdiff.compare.axes import before_name, making_frames
from bivdiff.compare.sweep import Cell


@dataclass(frozen=True, eq=False)
class Before:
    """The frames that some cells were made of.

    Attributes:
        label: "Frame by frame", and the settings that made them where the comparison varies those.
        frames: uint8 `(F, H, W, 3)`.
        scores, heat: see `Cell`.
        seconds: what they took.
        cell: one of those cells.
    """

    label: str
    frames: np.ndarray
    scores: Mapping[str, float]
    heat: np.ndarray | None
    seconds: float
    cell: Cell


def befores(cells: Sequence[Cell]) -> list[Before]:
    """The frames that cells were made of, each once, in the order of the cells."""
    made: dict[tuple[object, ...], list[Cell]] = {}
    for cell in cells:
        made.setdefault(tuple(making_frames(cell.values).values()), []).append(cell)
    return [
        Before(
            before_name(first.request.image_model, first.values), first.framewise_frames, first.framewise_scores,
            first.framewise_heat, sum(cell.seconds.get("framewise", 0.0) for cell in (first, *others)), first,
        )
        for first, *others in made.values()
    ]  # fmt: skip
