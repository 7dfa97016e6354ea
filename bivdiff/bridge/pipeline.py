"""BIVDiff (arXiv:2312.02813): three stages, none of them trained, from an image model's frames to a steady clip.

x_t is a clip's latents under noise: x_t = sqrt(alpha_t) x_0 + sqrt(1 - alpha_t) noise, alpha_t falling from 1 to 0.
1. Frame by frame: the image model makes every frame x_0[i] on its own. They show what is wanted, and flicker.
2. Mixed Inversion: DDIM, walked backwards, finds the noise x_T that a model would make x_0 of; with the video model
   that sees the whole clip, x_T^video, and frame by frame, x_T^frame: with the image model (the paper), or with the
   video model that is shown one frame. The blend of the two, by the `mixing_ratio` lambda:
       x_T = lambda x_T^frame + (1 - lambda) x_T^video, both over x_0 at the alpha_T where smoothing begins.
3. Temporal smoothing: the video model denoises x_T with DDIM to the steady clip x_0'.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any, TypeAlias, cast

import numpy as np
import torch
from torch import Tensor

from bivdiff.bridge import latents, mixing
from bivdiff.bridge.guidance import unet_noise
from bivdiff.bridge.inputs import (
    FRAME_INVERSION,
    IMAGE_INVERSION,
    MIXING,
    SMOOTHING,
    VIDEO_INVERSION,
    StageInputs,
    framewise_inputs,
)
from bivdiff.bridge.inversion import invert_clip, invert_frames
from bivdiff.bridge.known import known_content, with_known_content
from bivdiff.bridge.loaded import LoadedModels
from bivdiff.bridge.makers.framewise import FrameMaker
from bivdiff.bridge.makers.pipelines import frames_by_pipeline
from bivdiff.bridge.memory import with_leaner_policy
from bivdiff.bridge.outcomes import outcome_of
from bivdiff.bridge.paths import DiffusionPath, Path, at_level
from bivdiff.bridge.prompts import inversion_prompt, smoothing_prompt
from bivdiff.bridge.reuse import StageCache
from bivdiff.bridge.sampling import Step
from bivdiff.bridge.session import Session, enter, entering
from bivdiff.bridge.smoothing import smooth
from bivdiff.bridge.windows import over_windows
from bivdiff.catalog.bridging import Inversion, inversions_of
from bivdiff.catalog.image_models import IMAGE_MODELS
from bivdiff.catalog.requests import with_seed
from bivdiff.models.cost import PREVIEWS, evaluations_of, is_previewed
from bivdiff.models.estimate import operations
from bivdiff.models.manager import ModelManager
from bivdiff.models.metering import StageMeter, peak_memory_bytes
from bivdiff.models.words import Prompt
from bivdiff.types import GenerationRequest, GenerationResult, Stage, StepEvent


@torch.inference_mode()
def run(
    request: GenerationRequest, manager: ModelManager, cache: StageCache | None = None
) -> Iterator[StepEvent | GenerationResult]:
    """Make a clip.

    Closing the generator between any two events cancels the run and frees what it took. The same seed on the same
    device gives the same bits, whether or not a stage was found in the cache.

    Args:
        request: what to make.
        manager: gives the models.
        cache: keeps the outputs of stages, so that a later run with another mixing ratio, say, only smooths again.

    Yields:
        A StepEvent after every step, and at last the GenerationResult.

    Raises:
        ModelUnavailableError: a model cannot be loaded.
        OutOfMemoryError: the device is too small for the request.
        BIVDiffError: a model's numbers ran over.

    Source: BIVDiff (arXiv:2312.02813).
    """
    request, cache = resolved(request), cache or StageCache()
    yield from with_leaner_policy(
        lambda: _run(request, manager, cache), request, manager, announced=lambda event: event
    )


def _run(
    request: GenerationRequest, manager: ModelManager, cache: StageCache
) -> Iterator[StepEvent | GenerationResult]:
    with ExitStack() as exits:
        session = yield from entering(request, manager, cache, exits)
        framewise, blended = yield from blend(session)
        (frames,) = yield from smooth_clips(session, blended)

    meter = session.meter
    _note_pace(request, manager, meter)
    yield GenerationResult(
        request=request, control_frames=session.control_frames, framewise_frames=framewise, frames=frames,
        seed=cast(int, request.seed), seconds=meter.seconds, peak_bytes=meter.peak_bytes, evaluations=meter.evaluations,
        forward_seconds=meter.forward_seconds, peak_memory_bytes=peak_memory_bytes(meter),
    )  # fmt: skip


def resolved(request: GenerationRequest) -> GenerationRequest:
    """The request with all that was left open: a seed, drawn where it had none, and the words of the inversion."""
    return replace(with_seed(request), inversion_prompt=inversion_prompt(request))


def blend(session: Session) -> Generator[StepEvent, None, tuple[np.ndarray, Tensor]]:
    """The stages before smoothing; returns the frame-wise frames and the blend `(1, C, F, h, w)` to be smoothed."""
    framewise = yield from _framewise(session)
    blended = yield from _mixed_inversion(session, framewise)
    return framewise, blended


# 1. Frame by frame


def _framewise(session: Session) -> Generator[StepEvent, None, np.ndarray]:
    """Make every frame with the image model; returns uint8 `(F, H, W, 3)`."""
    inputs = framewise_inputs(session.request.image_model)
    request = inputs.view(session.request)
    if not IMAGE_MODELS[request.image_model].makes_frames:
        return request.frames
    key = inputs.key(session.request, session.identities["framewise"])
    found = session.cached("framewise", key)
    if isinstance(found, np.ndarray):
        yield StepEvent("framewise", 1, 1, "The frames were there already", found)
        return found
    if IMAGE_MODELS[request.image_model].denoiser == "pipeline":
        made = yield from _by_pipeline(session, request)
    else:
        steps = FrameMaker(request, session.models, session.control_frames).steps()
        clip = yield from _watched(session, "framewise", "Frame by frame", steps, PREVIEWS, session.models.decode)
        with session.meter.stage("framewise"):
            made = session.models.decode(clip)
    frames = with_known_content(request, made)
    session.store(key, frames)
    yield StepEvent("framewise", 1, 1, "The frames are ready", frames)
    return frames


def _by_pipeline(session: Session, request: GenerationRequest) -> Generator[StepEvent, None, np.ndarray]:
    """Make every frame with a whole pipeline; returns uint8 `(F, H, W, 3)`."""
    (whole,) = session.models.parts.networks
    steps = frames_by_pipeline(whole.pipeline, request, session.control_frames)
    with session.models.running(whole), closing(steps):
        while True:
            with session.meter.stage("framewise"):
                try:
                    step = next(steps)
                except StopIteration as end:
                    made: np.ndarray = end.value
                    return made
            yield StepEvent("framewise", step.number, step.total, "Frame by frame", step.frames, step.note)


# 2. Mixed Inversion


def _mixed_inversion(session: Session, framewise: np.ndarray) -> Generator[StepEvent, None, Tensor]:
    """Walk the inversions that have weight; returns the blend `(1, C, F, h, w)` that is to be smoothed."""
    request, models = MIXING.view(session.request), session.models
    clean = cache(partial(models.encode_for_video, framewise))
    level = models.video_path.level(request.num_smoothing_steps, request.start_level)
    found: dict[Inversion, Tensor] = {}
    for name in inversions_of(request):
        walk = _WALKS[name]
        inverted = yield from _inverted(session, walk, framewise, clean)
        reached = walk.path(models).level(request.num_inversion_steps, request.start_level)
        found[name] = at_level(inverted, clean, reached, level)
    return mixing.blend_latents(
        found.get("video"), found.get("image", found.get("frame")), clean, level, mixing_ratio=request.mixing_ratio,
        mixing_rule=request.mixing_rule, frame_prior=request.frame_prior, window=_window(request, models),
    ).contiguous()  # fmt: skip


def _window(request: GenerationRequest, models: LoadedModels) -> int:
    """Latents that the video model sees at once."""
    return models.video_space.length(request.window or models.video.window)


Steps: TypeAlias = Generator[Step, None, None]


@dataclass(frozen=True)
class _Walk:
    """One inversion: what it reads, the path it follows, and what walks it from the clean latents."""

    inputs: StageInputs
    message: str
    path: Callable[[LoadedModels], Path]
    steps: Callable[[GenerationRequest, LoadedModels, Tensor], Steps]


def _inverted(
    session: Session, walk: _Walk, framewise: np.ndarray, clean: Callable[[], Tensor]
) -> Generator[StepEvent, None, Tensor]:
    """Walk one inversion of the frames, or find it in the cache; returns its last latents `(1, C, F, h, w)`."""
    inputs = walk.inputs
    key = inputs.key(session.request, session.identities[inputs.stage], framewise)
    found = session.cached(inputs.stage, key)
    if isinstance(found, Tensor):
        yield StepEvent("inversion", 1, 1, f"{walk.message}: was there already")
        return found.to(session.models.device)
    steps = walk.steps(inputs.view(session.request), session.models, clean())
    inverted = yield from _watched(session, "inversion", walk.message, steps)
    # Networks round otherwise where the numbers lie in another order, and from the disk they come in this one.
    inverted = inverted.contiguous()
    session.store(key, inverted)
    return inverted


def _with_image_model(request: GenerationRequest, models: LoadedModels, clean: Tensor) -> Steps:
    parts = models.parts
    path = DiffusionPath(parts.scheduler)
    return _alone(request, models, clean, parts.unet, partial(unet_noise, parts.unet), path, models.embed)


def _with_video_model_alone(request: GenerationRequest, models: LoadedModels, clean: Tensor) -> Steps:
    video, embed = models.video, models.embed_for_video
    return _alone(request, models, clean, video.frame_unet, video.predict_frames, models.video_path, embed)


def _alone(
    request: GenerationRequest, models: LoadedModels, clean: Tensor, network: Any,
    predict: Callable[[Tensor, Tensor, Any], Tensor], path: Path, embed: Callable[[str], Prompt],
) -> Steps:  # fmt: skip
    """Invert each frame alone, with a network that is brought to the device for it."""
    prompts = [embed(text) for text in (request.inversion_prompt, request.negative_prompt)]
    with models.running(network):
        yield from invert_frames(
            predict, path, clean, *prompts, guidance_scale=request.inversion_guidance_scale,
            num_steps=request.num_inversion_steps, batch_size=models.batch_size, start_level=request.start_level,
        )  # fmt: skip


def _with_video_model(request: GenerationRequest, models: LoadedModels, clean: Tensor) -> Steps:
    video = models.video
    prompts = [models.embed_for_video(text) for text in (request.inversion_prompt, request.negative_prompt)]
    with models.running(video.unet):
        yield from invert_clip(
            over_windows(video.predict, _window(request, models)), models.video_path, clean, *prompts,
            guidance_scale=request.inversion_guidance_scale, num_steps=request.num_inversion_steps,
            start_level=request.start_level,
        )  # fmt: skip


_WALKS: Mapping[Inversion, _Walk] = {
    "image": _Walk(
        IMAGE_INVERSION, "Inverting with the image model", lambda models: DiffusionPath(models.parts.scheduler),
        _with_image_model,
    ),
    "frame": _Walk(
        FRAME_INVERSION, "Inverting with the video model, frame by frame", lambda models: models.video_path,
        _with_video_model_alone,
    ),
    "video": _Walk(
        VIDEO_INVERSION, "Inverting with the video model", lambda models: models.video_path, _with_video_model
    ),
}  # fmt: skip


# 3. Temporal smoothing


def smooth_clips(
    session: Session, blended: Tensor, previews: int = PREVIEWS
) -> Generator[StepEvent, None, list[np.ndarray]]:
    """Smooth blends `(B, C, F, h, w)` of requests that differ in nothing but these; returns B clips of frames.

    About as many previews as asked for show the first of them.
    """
    request, models = SMOOTHING.view(session.request), session.models
    steps = _smoothing(request, session, blended)
    decode = partial(models.decode_video, num_frames=len(session.request.frames))
    clips = yield from _watched(session, "smoothing", "Smoothing", steps, previews, decode)
    with session.meter.stage("smoothing"):
        return [with_known_content(request, decode(clip[None])) for clip in clips]


def _smoothing(request: GenerationRequest, session: Session, blended: Tensor) -> Steps:
    """Denoise the blend with the video model, around what the request keeps of its source."""
    models, video = session.models, session.models.video
    known = known_content(request, models)
    prompts = [models.embed_for_video(text) for text in (smoothing_prompt(request), request.negative_prompt)]
    with models.running(video.unet):
        yield from smooth(
            over_windows(video.predict, _window(request, models)), models.video_path, blended, *prompts,
            guidance_scale=request.smoothing_guidance_scale, num_steps=request.num_smoothing_steps, known=known,
            start_level=request.start_level,
        )  # fmt: skip


def _watched(
    session: Session, stage: Stage, message: str, steps: Steps, previews: int = 0,
    decode: Callable[[Tensor], np.ndarray] | None = None,
) -> Generator[StepEvent, None, Tensor]:  # fmt: skip
    """Turn a stage's steps into events, with as many previews as asked for; returns the last step's latents."""
    reached: Any = None
    with closing(steps):
        while True:
            with session.meter.stage(stage):
                step = next(steps, None)
                if step is None:
                    return reached
                reached = step.latents
                latents.check_finite(reached, f"in step {step.number} of {step.total} of “{message}”")
                preview = None
                if decode is not None and is_previewed(step.number, step.total, previews):
                    preview = session.preview(step.pred_original_sample[:1], decode)
            yield StepEvent(stage, step.number, step.total, message, preview)


def _note_pace(request: GenerationRequest, manager: ModelManager, meter: StageMeter) -> None:
    """Remember how fast a whole run was: one that found stages in the cache says nothing."""
    if meter.evaluations == evaluations_of(request):
        spent = sum(meter.seconds[stage] for stage in meter.evaluations)
        manager.pace.note(request.family, sum(operations(request).values()), spent)


# Parts of a run


@torch.inference_mode()
def framewise_frames(request: GenerationRequest, manager: ModelManager, cache: StageCache | None = None) -> np.ndarray:
    """The frames of the image model alone, uint8 `(F, H, W, 3)`: what `run` bridges, without the bridge."""
    with ExitStack() as exits:
        return outcome_of(_framewise(enter(resolved(request), manager, cache or StageCache(), exits)))


@torch.inference_mode()
def blended_picture(request: GenerationRequest, manager: ModelManager) -> np.ndarray:
    """What the decoder makes of the blend that is smoothed, uint8 `(F, H, W, 3)`: noise, to be looked at."""
    with ExitStack() as exits:
        session = enter(resolved(request), manager, StageCache(), exits)
        _, blended = outcome_of(blend(session))
        return session.models.decode_video(blended, len(request.frames))


def last(events: Iterator[StepEvent | GenerationResult]) -> GenerationResult:
    """The result at the end of a run's events."""
    for event in events:
        if isinstance(event, GenerationResult):
            return event
    raise RuntimeError("The run ended without a result.")
