"""Before a run: what it will take, and the nearest request that fits."""

from __future__ import annotations

from typing import NamedTuple

from bivdiff.errors import OutOfMemoryError
from bivdiff.models.estimate import Estimate, estimate, fit
from bivdiff.models.manager import ModelManager
from bivdiff.types import GenerationRequest


class Planned(NamedTuple):
    """A request, and what it will take.

    Attributes:
        request: as it will run.
        expected: its estimate, or that of a whole comparison.
        note: a sentence on what was changed so that it fits; empty where nothing was.
    """

    request: GenerationRequest
    expected: Estimate
    note: str = ""


def fitted(request: GenerationRequest, manager: ModelManager) -> Planned:
    """The request as it fits into the memory.

    The manager's offload policy may become leaner, see `ModelManager.policy_restored`; then fewer frames are taken at
    once, then the video model's window is shortened, and at last the picture gets smaller.

    Raises:
        OutOfMemoryError: nothing fits.
    """
    found = estimate(request, manager)
    if found.fits:
        return Planned(request, found)
    fitting = fit(request, manager)
    if fitting is None:
        raise OutOfMemoryError(found.advice)
    smaller, policy, expected = fitting
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
    return Planned(smaller, expected, f"To fit into the memory, {' and '.join(changes)}.")
