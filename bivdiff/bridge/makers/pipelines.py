"""Whole pipelines of diffusers as frame makers: each frame is one call, whatever is inside."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from PIL import Image

from bivdiff.bridge.outcomes import changed
from bivdiff.bridge.stepwise import stepwise
from bivdiff.catalog.image_models import IMAGE_MODELS
from bivdiff.errors import InputError
from bivdiff.models.cost import is_previewed
from bivdiff.models.loaders.pipelines import parameters_of, shows_maps_as
from bivdiff.pixels.fitting import fit_frames
from bivdiff.types import Control, GenerationRequest

MULTIPLE = 16  # of pixels that every pipeline's sides may be; those of a clip are of 8


class PictureStep(NamedTuple):
    """A step of one frame's call.

    Attributes:
        number, total: of all steps of all frames.
        frames: those that are made, uint8 `(F, H, W, 3)`, and the source's where they are not yet; None but for the
            previews, as many as other stages have.
        note: what the user should know, once.
    """

    number: int
    total: int
    frames: np.ndarray | None = None
    note: str = ""


def frames_by_pipeline(
    pipeline: Any, request: GenerationRequest, control_frames: Sequence[np.ndarray] = ()
) -> Generator[PictureStep, None, np.ndarray]:
    """Make every frame by a call of its own. Closing this generator stops within a call, at its next step.

    Args:
        pipeline: of diffusers, on the device.
        request: with its seed. Each frame is drawn from a seed of its own, or all from one where noise is shared.
        control_frames: the maps, uint8 `(F, H, W, 3)`, of the one control that it may have.

    Returns:
        uint8 `(F, H, W, 3)` at the source's size, whatever size the pipeline works at.

    Raises:
        InputError: the pipeline refuses what it is given, or its own safety checker has blackened a frame.
    """
    each, total = request.num_inference_steps, request.num_inference_steps * len(request.frames)
    made, notes = request.frames.copy(), _unread(pipeline, request)
    for number in range(len(made)):
        done = number * each
        steps = _picture(pipeline, request, control_frames, number)
        made[number], resized = yield from changed(steps, partial(_step, done, each, total))
        notes |= {resized} if resized else set()
        note = " ".join(sorted(notes)) if number == len(made) - 1 else ""
        shown = is_previewed(number + 1, len(made))  # every frame would copy the whole clip as often as it is long
        yield PictureStep(done + each, total, made.copy() if shown else None, note)
    return made


def _step(done: int, most: int, total: int, step: int) -> PictureStep:
    """A step of one frame, counted from 0, as one of all; a call may take more than it was asked for."""
    return PictureStep(done + min(step + 1, most), total)


def _picture(
    pipeline: Any, request: GenerationRequest, control_frames: Sequence[np.ndarray], number: int
) -> Generator[int, None, tuple[np.ndarray, str]]:
    """One frame, uint8 `(H, W, 3)`, and a sentence where the pipeline made it at another size."""
    height, width = request.frames.shape[1:3]
    padded = ((0, -height % MULTIPLE), (0, -width % MULTIPLE))
    shown = np.pad(request.frames[number], (*padded, (0, 0)), mode="edge")
    mask = None if request.masks is None else np.pad(request.masks[number], padded, mode="edge")
    maps = [np.pad(each[number], (*padded, (0, 0)), mode="edge") for each in control_frames]

    def call(report: Callable[[int], None]) -> Any:
        by_maps = {name: value for each in maps for name, value in _steering(pipeline, request.controls[0], each)}
        return pipeline(**{**_arguments(pipeline, request, number, shown, mask, report), **by_maps})

    try:
        output = yield from stepwise(call)
    except ValueError as error:
        reason = str(error).strip().rstrip(".") or type(error).__name__
        raise InputError(
            f"{type(pipeline).__name__} refuses what it is given: {reason}. Change what it names, and run again."
        ) from error
    if any(getattr(output, "nsfw_content_detected", None) or ()):
        raise InputError(
            f"The pipeline's own safety checker has blackened frame {number + 1}. Change the prompt or the clip, or "
            "name a pipeline without one."
        )
    picture = np.asarray(output.images[0].convert("RGB"))
    note = ""
    if picture.shape != shown.shape:
        note = (
            f"The pipeline works at {picture.shape[1]}x{picture.shape[0]}, so its frames were brought back to "
            f"{width}x{height}."
        )
        picture = fit_frames(picture[None], (shown.shape[1], shown.shape[0]), "crop")[0]
    return picture[:height, :width], note


def _arguments(
    pipeline: Any, request: GenerationRequest, number: int, shown: np.ndarray, mask: np.ndarray | None,
    report: Callable[[int], None],
) -> dict[str, Any]:  # fmt: skip
    """What a call is given of all that it can take."""
    takes = parameters_of(pipeline)
    height, width = shown.shape[:2]
    by_true_guidance = _guides_truly(takes)
    wanted = {
        "prompt": request.prompt, "image": Image.fromarray(shown), "height": height, "width": width,
        "negative_prompt": request.negative_prompt or (" " if by_true_guidance else None),
        "num_inference_steps": request.num_inference_steps,
        "true_cfg_scale" if by_true_guidance else "guidance_scale": request.guidance_scale,
        "generator": torch.Generator("cpu").manual_seed(seed_of(request, number)), "output_type": "pil",
        "max_area": height * width, "_auto_resize": False,
        "callback_on_step_end": partial(_reported, report),
        "callback": lambda step, _timestep, _latents: report(step), "callback_steps": 1,
    }  # fmt: skip
    if mask is not None:
        wanted["mask_image"] = Image.fromarray(np.where(mask > 0, np.uint8(255), np.uint8(0)))
    # What not every use of a pipeline may read.
    for field, name in (("pipeline_strength", "strength"), ("image_guidance_scale", "image_guidance_scale")):
        if name in takes:
            wanted[name] = getattr(request, field)
    if "callback_on_step_end" in takes:  # the older one is deprecated where there are both
        wanted = {name: value for name, value in wanted.items() if not name.startswith("callback") or "end" in name}
    return {name: value for name, value in wanted.items() if name in takes}


def _steering(pipeline: Any, control: Control, control_map: np.ndarray) -> Iterator[tuple[str, Any]]:
    """What a call is given of a control and its map, uint8 `(H, W, 3)`, as far as it can take it."""
    takes = parameters_of(pipeline)
    yield shows_maps_as(takes), Image.fromarray(control_map)
    yield from ((name, value) for name, (value, _) in _strengths(control).items() if name in takes)


def _strengths(control: Control) -> dict[str, tuple[float, float]]:
    """How strongly and when a control steers, by the names that pipelines have for it; each with what it usually is."""
    return {
        # As floats, which diffusers insists on: a page sends a whole number without its point.
        "controlnet_conditioning_scale": (float(control.conditioning_scale), Control.conditioning_scale),
        "control_guidance_start": (float(control.start), Control.start),
        "control_guidance_end": (float(control.end), Control.end),
    }


def _reported(report: Callable[[int], None], _: Any, step: int, __: Any, given: dict[str, Any]) -> dict[str, Any]:
    report(step)
    return given


def seed_of(request: GenerationRequest, number: int) -> int:
    """What a frame is drawn from: the request's seed where frames share their noise, else one of its own."""
    seed = cast(int, request.seed)  # drawn before any stage runs
    return seed if request.noise_sharing else int(np.random.SeedSequence([seed, number]).generate_state(1)[0])


def _guides_truly(takes: Mapping[str, Any]) -> bool:
    """Whether guidance goes by its longer name, as in Qwen-Image, where the shorter is for distilled models."""
    default = takes["true_cfg_scale"].default if "true_cfg_scale" in takes else 1
    return bool(default and default > 1)


def _unread(pipeline: Any, request: GenerationRequest) -> set[str]:
    """Sentences on what is asked and the pipeline cannot be given."""
    takes, title = parameters_of(pipeline), type(pipeline).__name__
    unread = set()
    if request.negative_prompt.strip() and "negative_prompt" not in takes:
        unread.add(f"{title} takes no negative prompt; the video model alone has read it.")
    for control in request.controls if IMAGE_MODELS[request.image_model].reads_controls else ():
        asked = (name for name, (value, usual) in _strengths(control).items() if value != usual)
        if lost := [name for name in asked if name not in takes]:
            unread.add(f"{title} takes no {' or '.join(lost)}, so that is as the pipeline has it.")
    return unread
