"""Every model family, task and default in one readable table. Every dropdown and flag reads it.

In it: what there is and what it starts with. Not in it: how a model is loaded (`bivdiff.models`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bivdiff.errors import InputError
from bivdiff.types import GenerationRequest


@dataclass(frozen=True)
class ModelSpec:
    """One loadable component: `folder` is its place inside the family's folder, `kind` its loader's key."""

    folder: str
    kind: str


@dataclass(frozen=True)
class Family:
    """Models that share a latent space.

    Attributes:
        size: width and height the models were trained at, in pixels.
        num_frames: frames of the video model's window.
        vae, text_encoder, tokenizer, unet, scheduler: shared components; `unet` is the plain base image model.
        image_models: task models, by key.
        video_models: video U-Nets, by key.
        control_types: control type -> key of the image model that reads it.
        depth_estimator: the component that estimates depth maps, if any.
    """

    size: tuple[int, int]
    num_frames: int
    vae: ModelSpec
    text_encoder: ModelSpec
    tokenizer: ModelSpec
    unet: ModelSpec
    scheduler: ModelSpec
    image_models: Mapping[str, ModelSpec]
    video_models: Mapping[str, ModelSpec]
    control_types: Mapping[str, str]
    depth_estimator: ModelSpec | None = None


FAMILIES: Mapping[str, Family] = {
    "toybox": Family(
        size=(128, 128),
        num_frames=8,
        vae=ModelSpec("vae", "vae"),
        text_encoder=ModelSpec("text_encoder", "text_encoder"),
        tokenizer=ModelSpec("tokenizer", "tokenizer"),
        unet=ModelSpec("unet", "unet"),
        scheduler=ModelSpec("scheduler", "scheduler"),
        image_models={
            "controlnet-canny": ModelSpec("controlnet-canny", "controlnet"),
            "controlnet-depth": ModelSpec("controlnet-depth", "controlnet"),
        },
        video_models={"toybox-video": ModelSpec("video_unet", "video_unet")},
        control_types={"canny": "controlnet-canny", "depth": "controlnet-depth"},
        depth_estimator=ModelSpec("depth_estimator", "depth_estimator"),
    ),
}

# Settings of a task with a family, where they differ from the paper's, which are GenerationRequest's own defaults.
# The toybox's come from `python -m bivdiff evaluate`; the README holds the table.
PRESETS: Mapping[tuple[str, str], Mapping[str, Any]] = {
    ("control", "toybox"): {
        "mixing_ratio": 0.5,
        "num_inference_steps": 20,
        "num_inversion_steps": 20,
        "num_smoothing_steps": 20,
        "guidance_scale": 4.0,
        "smoothing_guidance_scale": 1.0,
    },
}
TASKS: Mapping[str, str] = {"control": "Controllable generation"}


def family(name: str) -> Family:
    """The family of that name.

    Raises:
        InputError: there is none; the message lists those there are.
    """
    if name not in FAMILIES:
        raise InputError(f"Unknown family '{name}'. Choose one of: {', '.join(FAMILIES)}.")
    return FAMILIES[name]


def default_request(task: str, family_name: str, frames: np.ndarray, prompt: str, **changes: Any) -> GenerationRequest:
    """The request of a task with a family's defaults, and `changes` on top.

    Args:
        task: key of `TASKS`.
        family_name: key of `FAMILIES`.
        frames: source clip, uint8 `(F, H, W, 3)`.
        prompt: for the image model.
        changes: fields of GenerationRequest; None keeps the default.

    Raises:
        InputError: an unknown task, family or control type, or a value out of range.
    """
    if task not in TASKS:
        raise InputError(f"Unknown task '{task}'. Choose one of: {', '.join(TASKS)}.")
    chosen = family(family_name)
    changes = {name: value for name, value in changes.items() if value is not None}
    control_type = changes.get("control_type", "canny")
    if control_type not in chosen.control_types:
        raise InputError(
            f"The family '{family_name}' has no control type '{control_type}'. "
            f"Choose one of: {', '.join(chosen.control_types)}."
        )
    request = GenerationRequest(
        frames=frames, prompt=prompt, task=task, family=family_name,
        image_model=chosen.control_types[control_type], video_model=next(iter(chosen.video_models)),
    )  # fmt: skip
    return replace(request, **{**PRESETS[task, family_name], **changes})
