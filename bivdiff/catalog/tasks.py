"""What can be done with a clip, and which image models do it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from bivdiff.catalog.image_models import IMAGE_MODELS
from bivdiff.errors import InputError


@dataclass(frozen=True)
class Task:
    """A thing to do with a clip.

    Attributes:
        name: its key.
        title: on the page.
        masks: where its masks come from: drawn over the source, or what a canvas adds to it; empty where it has none.
    """

    name: str
    title: str
    masks: Literal["", "drawn", "canvas"] = ""

    @property
    def image_models(self) -> tuple[str, ...]:
        """Those of the families that can make its frames, keys of IMAGE_MODELS, the default first."""
        return tuple(name for name in self.every_image_model if IMAGE_MODELS[name].denoiser != "pipeline")

    @property
    def every_image_model(self) -> tuple[str, ...]:
        """The same, and behind them those that a request must name itself."""
        return tuple(name for name, model in IMAGE_MODELS.items() if self.name in model.tasks)

    @property
    def is_steered(self) -> bool:
        """Whether control maps steer its image models."""
        return any(IMAGE_MODELS[name].reads_controls for name in self.image_models)

    @property
    def starts_from_frames(self) -> bool:
        """Whether its frames are there already, and none are made."""
        return any(not IMAGE_MODELS[name].makes_frames for name in self.image_models)


TASKS: Mapping[str, Task] = {
    task.name: task
    for task in (
        Task("control", "Controllable generation"),
        Task("edit", "Editing"),
        Task("inpaint", "Inpainting", masks="drawn"),
        Task("outpaint", "Outpainting", masks="canvas"),
        Task("smooth", "Your own frames"),
    )
}


def task_named(name: str) -> Task:
    """One of the tasks.

    Raises:
        InputError: there is no such task.
    """
    if name not in TASKS:
        raise InputError(f"Unknown task '{name}'. Choose one of: {', '.join(TASKS)}.")
    return TASKS[name]
