"""What can be done with a clip, and which image models do it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Task:
    """A thing to do with a clip: its title, and the image models that can make its frames, the default first."""

    title: str
    image_models: tuple[str, ...]


TASKS: Mapping[str, Task] = {
    "control": Task("Controllable generation", ("controlnet", "t2i-adapter")),
    "edit": Task("Editing", ("instruct-pix2pix", "prompt2prompt")),
    "inpaint": Task("Inpainting", ("inpainting",)),
    "outpaint": Task("Outpainting", ("inpainting",)),
    "smooth": Task("Your own frames", ("given",)),
}
