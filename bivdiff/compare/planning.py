"""Before a comparison: what it will take, and the nearest request that fits."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from typing import Any

from bivdiff.compare.axes import MAKE_FRAMES, MAKE_INVERSIONS
from bivdiff.models.estimate import Estimate, estimate
from bivdiff.models.manager import ModelManager
from bivdiff.models.planning import Planned, fitted
from bivdiff.types import GenerationRequest


def expected_of_all(request: GenerationRequest, axes: Mapping[str, Sequence[Any]], manager: ModelManager) -> Estimate:
    """What a comparison will take, at most.

    Its memory is that of its hungriest clip; its time that of one whole run, and for each further clip what that does
    not share.
    """
    return _expected_with(_hungriest(request, axes, manager), axes, manager)


def _expected_with(
    hungriest: GenerationRequest, axes: Mapping[str, Sequence[Any]], manager: ModelManager
) -> Estimate:  # fmt: skip
    whole = estimate(replace(hungriest, mixing_ratio=0.5), manager)  # so that both inversions count
    made = {"framewise": MAKE_FRAMES, "inversion": MAKE_INVERSIONS, "smoothing": tuple(axes)}
    times = {
        stage: math.prod(len(values) for name, values in axes.items() if name in own) for stage, own in made.items()
    }
    seconds = {stage: seconds * times.get(stage, 1) for stage, seconds in whole.stage_seconds.items()}
    return replace(whole, stage_seconds=seconds)


def fitted_for_all(request: GenerationRequest, axes: Mapping[str, Sequence[Any]], manager: ModelManager) -> Planned:
    """The request of a comparison, changed so that its hungriest clip fits into the memory; see `fitted`.

    Raises:
        OutOfMemoryError: nothing fits.
    """
    hungriest = _hungriest(request, axes, manager)
    smaller, _, note = fitted(hungriest, manager)
    if not note:
        return Planned(request, _expected_with(hungriest, axes, manager))
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


def _hungriest(
    request: GenerationRequest, axes: Mapping[str, Sequence[Any]], manager: ModelManager
) -> GenerationRequest:
    """The clip of a comparison that takes the most memory, and of those the one that takes the longest."""
    cells = [replace(request, **dict(zip(axes, values, strict=True))) for values in product(*axes.values())]

    def hunger(cell: GenerationRequest) -> tuple[float, ...]:
        found = estimate(cell, manager)
        return found.device_bytes, found.host_bytes, found.seconds

    return max(cells, key=hunger)
