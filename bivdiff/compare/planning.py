"""Before a comparison: what it will take, and the nearest request that fits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from bivdiff.catalog.bridging import inversions_of
from bivdiff.compare.axes import MAKE_FRAMES, values_of_cells
from bivdiff.models.estimate import Estimate, estimate, stage_seconds
from bivdiff.models.manager import ModelManager
from bivdiff.models.planning import Planned, fitted
from bivdiff.types import GenerationRequest, Stage


def expected_of_all(request: GenerationRequest, axes: Mapping[str, Sequence[Any]], manager: ModelManager) -> Estimate:
    """What a comparison will take.

    Its memory is that of its hungriest clip; its time that of one whole run, and for each further clip what that does
    not share.
    """
    cells = _cells_of(request, axes)
    return replace(estimate(_hungriest(cells, manager), manager), stage_seconds=_seconds_of_all(cells, manager))


def _cells_of(request: GenerationRequest, axes: Mapping[str, Sequence[Any]]) -> list[GenerationRequest]:
    return [replace(request, **values) for values in values_of_cells(axes)]


def _seconds_of_all(cells: Sequence[GenerationRequest], manager: ModelManager) -> dict[Stage, float]:
    """The time of each stage, of all clips of a comparison together: what some of them share is made once."""
    total: dict[Stage, float] = {}
    made: set[tuple[Any, ...]] = set()

    def is_new(*output: Any) -> bool:
        before = len(made)
        made.add(output)
        return len(made) > before

    for cell in cells:
        frames = tuple(getattr(cell, name) for name in MAKE_FRAMES)
        new_frames = is_new("framewise", *frames)
        inversions = [
            name for name in inversions_of(cell)
            if is_new(name, *frames, cell.start_level, None if name == "image" else cell.video_model)
        ]  # fmt: skip
        for stage, seconds in stage_seconds(cell, manager, inversions).items():
            if stage != "framewise" or new_frames:
                total[stage] = total.get(stage, 0.0) + seconds
    return total


def fitted_for_all(request: GenerationRequest, axes: Mapping[str, Sequence[Any]], manager: ModelManager) -> Planned:
    """The request of a comparison, changed so that its hungriest clip fits into the memory; see `fitted`.

    Raises:
        OutOfMemoryError: nothing fits.
    """
    smaller, _, note = fitted(_hungriest(_cells_of(request, axes), manager), manager)
    if not note:
        return Planned(request, expected_of_all(request, axes, manager))
    changed = replace(smaller, **{name: getattr(request, name) for name in axes})
    return Planned(changed, expected_of_all(changed, axes, manager), note)  # another clip may be the hungriest now


def planned(
    request: GenerationRequest, manager: ModelManager, to_fit: bool, axes: Mapping[str, Sequence[Any]] | None = None
) -> Planned:
    """What a run or a comparison will take; only where it is made to fit, it is sure to.

    Args:
        request: of a run, or of a comparison.
        manager: knows the budgets.
        to_fit: whether the request may be changed so that it fits.
        axes: what a comparison varies.

    Raises:
        OutOfMemoryError: it is to fit, and nothing does.
    """
    if to_fit:
        return fitted_for_all(request, axes, manager) if axes else fitted(request, manager)
    return Planned(request, expected_of_all(request, axes, manager) if axes else estimate(request, manager))


def _hungriest(cells: Sequence[GenerationRequest], manager: ModelManager) -> GenerationRequest:
    """The clip of a comparison that takes the most memory, and of those the one that takes the longest."""

    def hunger(cell: GenerationRequest) -> tuple[float, ...]:
        found = estimate(cell, manager)
        return found.device_bytes, found.host_bytes, found.seconds

    return max(cells, key=hunger)
