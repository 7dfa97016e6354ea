"""Before a run or a comparison: what it will take, and the nearest request that fits.

In it: `expected` and `fitted` of a run, `expected_of_all` and `fitted_for_all` of a comparison. Not in it: the figures
(`bivdiff.models.estimate`), the run (pipeline.py).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from typing import Any

from bivdiff.axes import LATE
from bivdiff.catalog import models_for
from bivdiff.errors import OutOfMemoryError
from bivdiff.models.estimate import Estimate, estimate, fit
from bivdiff.models.manager import ModelManager
from bivdiff.tasks.framewise import networks_of
from bivdiff.types import GenerationRequest


def expected(request: GenerationRequest, manager: ModelManager) -> Estimate:
    """What a run of the request will take."""
    chosen = models_for(request)
    return estimate(request, chosen, networks_of(request, chosen), manager)


def fitted(request: GenerationRequest, manager: ModelManager) -> tuple[GenerationRequest, str]:
    """The request as it fits into the memory, and a sentence on what was changed; empty where nothing was.

    The manager's offload policy may become leaner, see `ModelManager.policy_restored`; then fewer frames are taken at
    once, then the video model's window is shortened, and at last the picture gets smaller.

    Raises:
        OutOfMemoryError: nothing fits.
    """
    found = expected(request, manager)
    if found.fits:
        return request, ""
    chosen = models_for(request)
    fitting = fit(request, chosen, networks_of(request, chosen), manager)
    if fitting is None:
        raise OutOfMemoryError(found.advice)
    smaller, policy = fitting
    changes = []
    if policy != manager.policy:
        manager.set_policy(policy)
        changes.append(f"the offload policy is '{policy}'")
    if smaller.frame_batch_size != request.frame_batch_size:
        changes.append(f"{smaller.frame_batch_size} frames are taken at once")
    if smaller.window != request.window:
        changes.append(f"the video model sees {smaller.window} frames at once")
    height, width = smaller.frames.shape[1:3]
    if (height, width) != request.frames.shape[1:3]:
        changes.append(f"the picture is {width} by {height} pixels")
    return smaller, f"To fit into the memory, {' and '.join(changes)}."


def expected_of_all(request: GenerationRequest, axes: Mapping[str, Sequence[Any]], manager: ModelManager) -> Estimate:
    """What a comparison will take, at most.

    Its memory is that of its hungriest clip; its time that of one whole run, and for each further clip what that does
    not share.
    """
    hungriest = _hungriest(request, axes, manager)
    whole = expected(replace(hungriest, mixing_ratio=0.5), manager)  # so that both inversions count
    cells = math.prod(len(values) for values in axes.values())
    if not set(axes) <= set(LATE):
        return replace(whole, seconds=cells * whole.seconds)
    # Smoothing, and what comes after it, is what a run takes that is given its frames and hardly inverts.
    late = replace(hungriest, image_model="given", mixing_ratio=0.5, num_inversion_steps=1)
    return replace(whole, seconds=whole.seconds + (cells - 1) * expected(late, manager).seconds)


def fitted_for_all(
    request: GenerationRequest, axes: Mapping[str, Sequence[Any]], manager: ModelManager
) -> tuple[GenerationRequest, str]:
    """The request of a comparison, changed so that its hungriest clip fits into the memory; see `fitted`.

    Raises:
        OutOfMemoryError: nothing fits.
    """
    smaller, told = fitted(_hungriest(request, axes, manager), manager)
    return replace(smaller, **{name: getattr(request, name) for name in axes}), told


def _hungriest(
    request: GenerationRequest, axes: Mapping[str, Sequence[Any]], manager: ModelManager
) -> GenerationRequest:
    """The clip of a comparison that takes the most memory, and of those the one that takes the longest."""
    cells = [replace(request, **dict(zip(axes, values, strict=True))) for values in product(*axes.values())]

    def hunger(cell: GenerationRequest) -> tuple[float, ...]:
        found = expected(cell, manager)
        return found.device_bytes, found.host_bytes, found.seconds

    return max(cells, key=hunger)
