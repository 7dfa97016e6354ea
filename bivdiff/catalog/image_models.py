"""The image models: what makes the frames that are bridged."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bivdiff.types import GenerationRequest

IMAGE_MODELS: Mapping[str, str] = {
    "controlnet": "ControlNet",
    "t2i-adapter": "T2I-Adapter",
    "instruct-pix2pix": "InstructPix2Pix",
    "prompt2prompt": "Prompt2Prompt",
    "inpainting": "Inpainting model",
    "given": "None: the frames are given",
}

PAPER: Mapping[str, Mapping[str, Any]] = {
    "controlnet": {},
    "t2i-adapter": {},
    "instruct-pix2pix": {},
    "prompt2prompt": {"mixing_ratio": 0.25},
    "inpainting": {"mixing_ratio": 0.1},
    "given": {},
}
"""What an image model starts with in any family, where the paper differs from GenerationRequest's own defaults, which
are its settings for controllable generation and InstructPix2Pix."""


def paper_ratio(image_model: str) -> float:
    """The mixing ratio that the paper has for an image model."""
    return PAPER[image_model].get("mixing_ratio", GenerationRequest.mixing_ratio)
