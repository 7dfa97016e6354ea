"""Before a comparison: what it will take, and the nearest request that fits."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from typing import Any

from bivdiff.compare.axes import LATE
from bivdiff.models.estimate import Estimate, estimate
from bivdiff.models.manager import ModelManager
from bivdiff.models.planning import fitted
from bivdiff.types import GenerationRequest


def expected_of_all(request: GenerationRequest, axes: Mapping[str, Sequence[Any]], manager: ModelManager) -> Estimate:
    """What a comparison will take, at most.

    Its memory is that of its hungriest clip; its time that of one whole run, and for each further clip what that does
    not share.
    """
    hungriest = _hungriest(request, axes, manager)
    whole = estimate(replace(hungriest, mixing_ratio=0.5), manager)  # so that both inversions count
    cells = math.prod(len(values) for values in axes.values())
    repeated = {"smoothing"} if set(axes) <= set(LATE) else set(whole.stage_seconds)
    seconds = {stage: seconds * (cells if stage in repeated else 1) for stage, seconds in whole.stage_seconds.items()}
    return replace(whole, stage_seconds=seconds)


def fitted_for_all(
    request: GenerationRequest, axes: Mapping[str, Sequence[Any]], manager: ModelManager
) -> tuple[GenerationRequest, str]:
    """The request of a comparison, changed so that its hungriest clip fits into the memory; see `fitted`.

    Raises:
        OutOfMemoryError: nothing fits.
    """
    smaller, note = fitted(_hungriest(request, axes, manager), manager)
    return replace(smaller, **{name: getattr(request, name) for name in axes}), note


def _hungriest(
    request: GenerationRequest, axes: Mapping[str, Sequence[Any]], manager: ModelManager
) -> GenerationRequest:
    """The clip of a comparison that takes the most memory, and of those the one that takes the longest."""
    cells = [replace(request, **dict(zip(axes, values, strict=True))) for values in product(*axes.values())]

    def hunger(cell: GenerationRequest) -> tuple[float, ...]:
        found = estimate(cell, manager)
        return found.device_bytes, found.host_bytes, found.seconds

    return max(cells, key=hunger)
