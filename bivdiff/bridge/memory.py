"""A run that does not fit the device: once more under a leaner offload policy, or advice on what to change."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

import torch

from bivdiff.errors import OutOfMemoryError
from bivdiff.models.device import free_memory
from bivdiff.models.manager import ModelManager
from bivdiff.types import GenerationRequest, StepEvent

Event = TypeVar("Event")


def with_leaner_policy(
    attempt: Callable[[], Iterator[Event]], request: GenerationRequest, manager: ModelManager, *,
    announced: Callable[[StepEvent], Event],
) -> Iterator[Event]:  # fmt: skip
    """The events of an attempt; where the device runs out of memory, of a second one under a leaner offload policy.

    Whatever ends them, memory that nothing refers to any more is given back.

    Args:
        attempt: makes the events, from the start or from where it has come to.
        request: what is made.
        manager: has the policies.
        announced: the event that says that there is a second attempt, as an event of this stream.

    Raises:
        OutOfMemoryError: there is no leaner policy, or it did not help.
    """
    with manager.policy_restored():
        try:
            try:
                yield from attempt()
            except (torch.OutOfMemoryError, OutOfMemoryError) as error:
                leaner = manager.leaner_policy()
                if leaner is None:
                    raise _out_of_memory(request) from error
            else:
                return
            # Outside the handler: while an error is handled, all that its frames refer to stays in memory.
            manager.set_policy(leaner)
            yield announced(StepEvent("load", 0, 1, f"Starting over with the offload policy '{leaner}'", note=(
                f"The device ran out of memory, so the run went on with the leaner offload policy '{leaner}', which "
                "is slower. Fewer frames at once, a shorter window or a smaller size would spare the next one that."
            )))  # fmt: skip
            try:
                yield from attempt()
            except torch.OutOfMemoryError as error:
                raise _out_of_memory(request) from error
        finally:
            free_memory(manager.device)


def _out_of_memory(request: GenerationRequest) -> OutOfMemoryError:
    frames, height, width = request.frames.shape[:3]
    return OutOfMemoryError(
        f"The device ran out of memory with {frames} frames of {width}x{height}. Lower the frame batch size (now "
        f"{request.frame_batch_size}), the window of the video model, the number of frames or the size."
    )
