"""The request of a task with its defaults."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from bivdiff.catalog.components import components_of
from bivdiff.catalog.families import control_types_of, family_named
from bivdiff.catalog.image_models import IMAGE_MODELS
from bivdiff.catalog.own import check_heard
from bivdiff.catalog.prompt_syntax import check_no_models, is_weighed
from bivdiff.catalog.tasks import task_named
from bivdiff.errors import InputError
from bivdiff.pixels.annotators import ANNOTATORS
from bivdiff.types import MAX_SEED, Control, GenerationRequest

PAPER_PRESET = "paper"  # the one preset whose bridge is each image model's own in the paper
APART: Mapping[str, Any] = {"frame_prior": "video", "mixing_rule": "capped", "smoothing_guidance_scale": 1.0}
"""What a run starts with where the video model's latents are not the image models': there the paper's frame noise is
not to be had, and guidance undoes what the inversion found."""
_BY_PIPELINE: Mapping[str, Any] = {"frame_prior": "video", "mixing_rule": "capped", "mixing_ratio": 0.5}
"""What a run starts with whose frames a pipeline makes: the video model alone, which knows nothing of that pipeline's
base model. Half of the ratio is the middle of the dial, and not measured."""
_NO_FRAMES = np.zeros((1, 8, 8, 3), np.uint8)
_NEEDED = {
    "masks": "There is no mask, so there is nothing to regenerate. Mark what should be made anew.",
    "source_prompt": "{title} needs the source prompt: say what the source clip shows.",
    "controls": "{title} needs at least one control. Choose what to keep of the source.",
    "pipeline": "No pipeline is named. Write a repository or folder with model_index.json into pipeline.",
}


def settings_of(task: str, image_model: str, family_name: str) -> dict[str, Any]:
    """What a task starts with: the paper's settings, and over them what was measured for the family's models."""
    family = family_named(family_name)
    return {
        **IMAGE_MODELS[image_model].paper, **family.presets.get(image_model, {}), **family.task_presets.get(task, {}),
    }  # fmt: skip


def preset_of(name: str, task: str, image_model: str, family_name: str) -> dict[str, Any]:
    """The settings of one of a family's other presets: what a task starts with, and what the preset has over that.

    Raises:
        InputError: there is no such family, or it has no such preset.
    """
    presets = family_named(family_name).other_presets
    if name not in presets:
        known = f"It has: {', '.join(presets)}." if presets else "It has none."
        raise InputError(f"The family '{family_name}' has no preset '{name}'. {known}")
    of_the_paper = IMAGE_MODELS[image_model].paper_bridge if name == PAPER_PRESET else {}
    return {**settings_of(task, image_model, family_name), **presets[name], **of_the_paper}


def blank_request(
    task: str, family_name: str, image_model: str | None = None, video_model: str | None = None
) -> GenerationRequest:
    """The settings that a task starts with, before there is a clip or a word: nothing that could be run.

    Args:
        task: key of the catalog's tasks.
        family_name: key of `FAMILIES`.
        image_model: one of the task's; None is its first.
        video_model: one of the family's; None is its first.

    Raises:
        InputError: there is no such task, family, image model or video model.
    """
    return _request(task, family_name, _NO_FRAMES, "", {"image_model": image_model, "video_model": video_model})


def default_request(task: str, family_name: str, frames: np.ndarray, prompt: str, **changes: Any) -> GenerationRequest:
    """The request of a task with a family's defaults, and `changes` on top.

    Args:
        task: key of the catalog's tasks.
        family_name: key of `FAMILIES`.
        frames: source clip, uint8 `(F, H, W, 3)`.
        prompt: for the image model.
        changes: fields of GenerationRequest; None keeps the default.

    Raises:
        InputError: an unknown task, family, image model, video model or control type, a value out of range, models
            of one's own that cannot be read as such, or something that the task needs is missing.
    """
    request = _request(task, family_name, frames, prompt, changes)
    model = IMAGE_MODELS[request.image_model]
    for name in model.needs:
        if _is_missing(getattr(request, name)):
            raise InputError(_NEEDED[name].format(title=model.title))
    components_of(request)  # now, and not when its turn has come
    check_heard(family_named(family_name), request)
    _check_words(request)
    if model.denoiser == "pipeline" and request.noise_sharing not in {0, 1}:
        raise InputError(
            f"Of a pipeline, frames share all of their noise or none: noise_sharing is {request.noise_sharing:g}. "
            "Take 0 or 1."
        )
    if model.reads_controls:
        _check_maps(request.controls, control_types_of(request.image_model, family_name))
    if model.pipeline and len(request.controls) > 1:
        raise InputError(
            f"A pipeline is steered by one control map, and {len(request.controls)} are asked for. Leave one of them."
        )
    return request


def _request(
    task: str, family_name: str, frames: np.ndarray, prompt: str, changes: Mapping[str, Any]
) -> GenerationRequest:
    known, family = task_named(task), family_named(family_name)
    changes = {name: value for name, value in changes.items() if value is not None}
    image_model = _chosen("image model", changes.pop("image_model", None), known.every_image_model)
    video_model = _chosen("video model", changes.pop("video_model", None), tuple(family.video_models))
    if IMAGE_MODELS[image_model].reads_controls:
        changes.setdefault("controls", (Control(),))
    settings = settings_of(task, image_model, family_name)
    if IMAGE_MODELS[image_model].pipeline:
        settings |= _BY_PIPELINE
    if not family.video_models[video_model].shares_space:
        settings |= APART
    return GenerationRequest(
        frames=frames, prompt=prompt, task=task, family=family_name, image_model=image_model, video_model=video_model,
        **{**settings, **changes},
    )  # fmt: skip


def _check_words(request: GenerationRequest) -> None:
    """Refuse what prompts hold and nothing here would read as it is meant."""
    for words in request.prompts:
        check_no_models(words)
    model = IMAGE_MODELS[request.image_model]
    if "reweight" in model.settings and any(map(is_weighed, (request.prompt, request.source_prompt))):
        raise InputError(
            f"{model.title} compares its prompts word by word, so they hold no weights such as (red:1.4). Write them "
            "into 'Weights of words', as in red:1.4."
        )


def _is_missing(value: Any) -> bool:
    if isinstance(value, str):
        return not value.strip()
    return value is None or (isinstance(value, tuple) and not value)


def with_seed(request: GenerationRequest) -> GenerationRequest:
    """The request with a seed, drawn where it has none: what is to be run again must be known before it runs."""
    return request if request.seed is not None else replace(request, seed=secrets.randbelow(MAX_SEED + 1))


def _chosen(what: str, name: str | None, known: tuple[str, ...]) -> str:
    if name is not None and name not in known:
        raise InputError(f"Unknown {what} '{name}'. Choose one of: {', '.join(known)}.")
    return known[0] if name is None else name


def _check_maps(controls: tuple[Control, ...], control_types: Sequence[str]) -> None:
    """Refuse controls whose maps are not given and cannot be drawn."""
    for control in controls:
        if control.frames is None and control.control_type not in ANNOTATORS:
            raise InputError(
                f"Maps of the type '{control.control_type}' cannot be drawn here. Give them as a clip of their own, or "
                f"choose one of: {', '.join(name for name in control_types if name in ANNOTATORS)}."
            )
