"""The request of a task with its defaults, and the models that it needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from bivdiff.catalog.families import family_named
from bivdiff.catalog.image_models import IMAGE_MODELS, PAPER
from bivdiff.catalog.specs import Family, ModelSpec
from bivdiff.catalog.tasks import TASKS
from bivdiff.catalog.toybox import PRESETS, TASK_PRESETS
from bivdiff.errors import InputError
from bivdiff.pixels.annotators import ANNOTATORS
from bivdiff.types import Control, GenerationRequest


def settings_of(task: str, image_model: str, family_name: str) -> dict[str, Any]:
    """What a task starts with: the paper's settings, and over them what was measured for the family's models.

    The toybox's ratios come from `benchmarks/findings.py`.
    """
    return {
        **PAPER[image_model], **PRESETS.get((image_model, family_name), {}),
        **TASK_PRESETS.get((task, family_name), {}),
    }  # fmt: skip


def networks_of(request: GenerationRequest, chosen: Family) -> tuple[ModelSpec, ...]:
    """The networks that the request's image model needs beside the family's shared components.

    Raises:
        InputError: the family has none.
    """
    if request.image_model in {"controlnet", "t2i-adapter"}:
        steering = chosen.steering(request.image_model)
        return tuple(steering[control.control_type] for control in request.controls)
    unets = {"instruct-pix2pix": chosen.instruct_pix2pix, "inpainting": chosen.inpainting}
    if request.image_model not in unets:
        return ()
    spec = unets[request.image_model]
    if spec is None:
        raise InputError(
            f"The family '{request.family}' has no model for '{request.image_model}'. Choose another family."
        )
    return (spec,)


def default_request(task: str, family_name: str, frames: np.ndarray, prompt: str, **changes: Any) -> GenerationRequest:
    """The request of a task with a family's defaults, and `changes` on top.

    Args:
        task: key of `TASKS`.
        family_name: key of `FAMILIES`.
        frames: source clip, uint8 `(F, H, W, 3)`.
        prompt: for the image model.
        changes: fields of GenerationRequest; None keeps the default.

    Raises:
        InputError: an unknown task, family, image model, video model or control type, a value out of range, or
            something that the task needs is missing.
    """
    if task not in TASKS:
        raise InputError(f"Unknown task '{task}'. Choose one of: {', '.join(TASKS)}.")
    chosen = family_named(family_name)
    changes = {name: value for name, value in changes.items() if value is not None}
    image_model = _chosen("image model", changes.pop("image_model", None), TASKS[task].image_models)
    video_model = _chosen("video model", changes.pop("video_model", None), tuple(chosen.video_models))
    if task == "control":
        changes.setdefault("controls", (Control(),))
        _check_controls(changes["controls"], chosen.steering(image_model), image_model)
    request = GenerationRequest(
        frames=frames, prompt=prompt, task=task, family=family_name, image_model=image_model, video_model=video_model
    )
    request = replace(request, **{**settings_of(task, image_model, family_name), **changes})
    if image_model == "inpainting" and request.masks is None:
        raise InputError("There is no mask, so there is nothing to regenerate. Mark what should be made anew.")
    if image_model == "prompt2prompt" and not request.source_prompt.strip():
        raise InputError("Prompt2Prompt needs the source prompt: say what the source clip shows.")
    return request


def _chosen(what: str, name: str | None, known: tuple[str, ...]) -> str:
    if name is not None and name not in known:
        raise InputError(f"Unknown {what} '{name}'. Choose one of: {', '.join(known)}.")
    return known[0] if name is None else name


def _check_controls(controls: tuple[Control, ...], networks: Mapping[str, ModelSpec], image_model: str) -> None:
    if not controls:
        raise InputError("Controllable generation needs at least one control. Choose what to keep of the source.")
    for control in controls:
        if control.control_type not in networks:
            raise InputError(
                f"There is no {IMAGE_MODELS[image_model]} for the control type '{control.control_type}'. "
                f"Choose one of: {', '.join(networks)}."
            )
        if control.frames is None and control.control_type not in ANNOTATORS:
            raise InputError(
                f"Maps of the type '{control.control_type}' cannot be drawn here. Give them as a clip of their own, or "
                f"choose one of: {', '.join(name for name in networks if name in ANNOTATORS)}."
            )
