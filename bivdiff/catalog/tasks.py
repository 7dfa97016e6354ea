"""What can be done with a clip, and which image models do it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bivdiff.catalog.image_models import IMAGE_MODELS


@dataclass(frozen=True)
class Task:
    """A thing to do with a clip: its key, and its title on the page."""

    name: str
    title: str

    @property
    def image_models(self) -> tuple[str, ...]:
        """Those of the families that can make its frames, keys of IMAGE_MODELS, the default first."""
        return tuple(name for name in self.every_image_model if IMAGE_MODELS[name].denoiser != "pipeline")

    @property
    def every_image_model(self) -> tuple[str, ...]:
        """The same, and behind them those that a request must name itself."""
        return tuple(name for name, model in IMAGE_MODELS.items() if self.name in model.tasks)


TASKS: Mapping[str, Task] = {
    task.name: task
    for task in (
        Task("control", "Controllable generation"),
        Task("edit", "Editing"),
        Task("inpaint", "Inpainting"),
        Task("outpaint", "Outpainting"),
        Task("smooth", "Your own frames"),
    )
}
