"""Which inversions a blend is made of, and how much of the schedule they walk."""

from __future__ import annotations

from typing import Literal

from bivdiff.types import GenerationRequest

Inversion = Literal["image", "frame", "video"]
"""With the image model; with the video model, but each frame alone; with the video model and the whole clip."""


def inversions_of(request: GenerationRequest) -> tuple[Inversion, ...]:
    """The inversions that have a part in the blend of a request, in the order in which they are walked."""
    own: dict[str, Inversion] = {"image": "image", "video": "frame"}
    found: list[Inversion] = []
    if request.mixing_ratio > 0 and request.frame_prior in own:
        found.append(own[request.frame_prior])
    # The clip's own noise has no weight at 1, but its mean may be what is blended, or its strength the bound.
    if request.mixing_ratio < 1 or request.frame_prior == "mean" or request.mixing_rule == "capped":
        found.append("video")
    return tuple(found)


def steps_walked(num_steps: int, start_level: float) -> int:
    """How many of a schedule's steps are walked: its share, at least one."""
    return max(1, round(start_level * num_steps))
