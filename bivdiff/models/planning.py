"""Before a run: what it will take, and the nearest request that fits."""

from __future__ import annotations

from bivdiff.errors import OutOfMemoryError
from bivdiff.models.estimate import estimate, fit
from bivdiff.models.manager import ModelManager
from bivdiff.types import GenerationRequest


def fitted(request: GenerationRequest, manager: ModelManager) -> tuple[GenerationRequest, str]:
    """The request as it fits into the memory, and a sentence on what was changed; empty where nothing was.

    The manager's offload policy may become leaner, see `ModelManager.policy_restored`; then fewer frames are taken at
    once, then the video model's window is shortened, and at last the picture gets smaller.

    Raises:
        OutOfMemoryError: nothing fits.
    """
    found = estimate(request, manager)
    if found.fits:
        return request, ""
    fitting = fit(request, manager)
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
