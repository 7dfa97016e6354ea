"""The three stages in order: frame by frame, Mixed Inversion, temporal smoothing.

In it: `run`, a generator of events that ends with the result, and `control_maps`, its first part alone.
Not in it: what a stage computes (tasks, inversion.py, smoothing.py), files (media.py).
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bivdiff import inversion, latents, smoothing
from bivdiff.annotators import annotate
from bivdiff.catalog import family
from bivdiff.errors import OutOfMemoryError
from bivdiff.metering import Meter, peak_memory_bytes
from bivdiff.models.manager import ModelManager, free_memory
from bivdiff.prompts import cut_off, encode_prompt
from bivdiff.reuse import FRAMEWISE_FIELDS, IMAGE_INVERSION_FIELDS, VIDEO_INVERSION_FIELDS, StageCache, stage_key
from bivdiff.sampling import Step, initial_noise
from bivdiff.tasks import control
from bivdiff.types import MAX_SEED, GenerationRequest, GenerationResult, Stage, StepEvent

PREVIEWS = 4  # decoded previews per denoising stage: enough to see it form, too few to cost much


@dataclass(frozen=True)
class _Bench:
    """What the stages of one run share: the request with its seed, and the models it holds."""

    request: GenerationRequest
    vae: Any
    text_encoder: Any
    tokenizer: Any
    scheduler: Any
    unet: Any
    image_model: Any
    video_unet: Any
    meter: Meter
    cache: StageCache

    def embed(self, prompt: str) -> Tensor:
        return encode_prompt(self.tokenizer, self.text_encoder, prompt)

    def decode(self, clip: Tensor) -> np.ndarray:
        return latents.decode(self.vae, clip, self.request.frame_batch_size)


def control_maps(request: GenerationRequest, manager: ModelManager) -> np.ndarray:
    """The control maps a run of `request` would use, uint8 `(F, H, W, 3)`.

    Raises:
        ModelUnavailableError: the annotator needs a model that cannot be loaded.
    """
    if request.control_frames is not None:
        return request.control_frames
    if request.control_type == "depth":
        estimator = family(request.family).depth_estimator
        with manager.use(estimator) as (model,), torch.inference_mode():
            return annotate("depth", request.frames, model=model)
    return annotate("canny", request.frames, low_threshold=request.low_threshold, high_threshold=request.high_threshold)


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
    try:
        yield from _run(request, manager, cache or StageCache())
    except torch.OutOfMemoryError as error:
        frames, height, width = request.frames.shape[:3]
        raise OutOfMemoryError(
            f"The device ran out of memory with {frames} frames of {width}x{height}. Lower the frame batch size "
            f"(now {request.frame_batch_size}), the number of frames or the size."
        ) from error
    finally:
        free_memory(manager.device)


@torch.inference_mode()
def framewise_frames(request: GenerationRequest, manager: ModelManager, cache: StageCache | None = None) -> np.ndarray:
    """The frames of the image model alone, uint8 `(F, H, W, 3)`: what `run` bridges, without the bridge."""
    with ExitStack() as held:
        bench = _prepare(_seeded(request), manager, cache or StageCache(), held)
        return _drain(_framewise(bench, control_maps(request, manager)))


def _run(
    request: GenerationRequest, manager: ModelManager, cache: StageCache
) -> Iterator[StepEvent | GenerationResult]:
    request = _seeded(request)
    with ExitStack() as held:
        yield StepEvent("load", 0, 1, "Loading the models")
        bench = _prepare(request, manager, cache, held)
        yield StepEvent("load", 1, 1, "Models loaded", note=_cut_off_note(bench))

        with bench.meter.stage("control"):
            control_frames = control_maps(request, manager)
        yield StepEvent("control", 1, 1, f"Control maps ({request.control_type})", control_frames)

        framewise = yield from _framewise(bench, control_frames)
        blended = yield from _mixed_inversion(bench, framewise)
        clip = yield from _watched(bench, "smoothing", "Smoothing", _smoothing(bench, blended))
        with bench.meter.stage("smoothing"):
            frames = bench.decode(clip)

    meter = bench.meter
    yield GenerationResult(
        request=request, control_frames=control_frames, framewise_frames=framewise, frames=frames,
        seed=request.seed, seconds=meter.seconds, evaluations=meter.evaluations,
        forward_seconds=meter.forward_seconds, peak_memory_bytes=peak_memory_bytes(manager.device),
    )  # fmt: skip


def _seeded(request: GenerationRequest) -> GenerationRequest:
    """The request with a seed, drawn where it had none."""
    return request if request.seed is not None else replace(request, seed=secrets.randbelow(MAX_SEED + 1))


def _prepare(request: GenerationRequest, manager: ModelManager, cache: StageCache, held: ExitStack) -> _Bench:
    """Take hold of the models until `held` closes."""
    meter = Meter()
    chosen = family(request.family)
    estimates_depth = request.control_type == "depth" and request.control_frames is None
    specs = [
        chosen.vae, chosen.text_encoder, chosen.tokenizer, chosen.scheduler, chosen.unet,
        chosen.image_models[request.image_model], chosen.video_models[request.video_model],
        *([chosen.depth_estimator] if estimates_depth else []),
    ]  # fmt: skip
    with meter.stage("load"):
        components = held.enter_context(manager.use(*specs))
    vae, text_encoder, tokenizer, scheduler, unet, image_model, video_unet, *estimators = components
    others = [vae.encoder, vae.decoder, text_encoder, image_model, *estimators]
    held.enter_context(meter.watch(denoisers=[unet, video_unet], others=others))
    return _Bench(request, vae, text_encoder, tokenizer, scheduler, unet, image_model, video_unet, meter, cache)


def _framewise(bench: _Bench, control_frames: np.ndarray) -> Iterator[StepEvent]:
    """Make every frame with the image model; returns uint8 `(F, H, W, 3)`."""
    request = bench.request
    key = stage_key("framewise", request, FRAMEWISE_FIELDS)
    kept = bench.cache.get(key)
    if kept is not None:
        yield StepEvent("framewise", 1, 1, "Frames kept from an earlier run", kept)
        return kept
    count, height, width = request.frames.shape[:3]
    shape = (count, bench.vae.config.latent_channels, height // 8, width // 8)
    noise = initial_noise(shape, request.noise_sharing, request.seed).to(bench.vae.device, bench.vae.dtype)
    steps = control.generate_with_controlnet(
        bench.unet, bench.image_model, bench.scheduler, noise, control_frames,
        bench.embed(request.prompt), bench.embed(request.negative_prompt), request.controlnet_conditioning_scale,
        request.guidance_scale, request.num_inference_steps, request.frame_batch_size,
    )  # fmt: skip
    clip = yield from _watched(bench, "framewise", "Frame by frame", steps)
    with bench.meter.stage("framewise"):
        frames = bench.decode(clip)
    bench.cache.put(key, frames)
    return frames


def _mixed_inversion(bench: _Bench, framewise: np.ndarray) -> Iterator[StepEvent]:
    """Invert the frames with each model that has weight; returns the blend `(1, C, F, h, w)`."""
    request = bench.request
    with bench.meter.stage("inversion"):
        clean = latents.encode(bench.vae, framewise, request.frame_batch_size)
        shared = (
            bench.scheduler, clean, bench.embed(request.inversion_prompt), bench.embed(request.negative_prompt),
            request.inversion_guidance_scale, request.num_inversion_steps,
        )  # fmt: skip
    image_latents = video_latents = None
    if request.mixing_ratio > 0:
        walked = inversion.invert_with_image_model(bench.unet, *shared, request.frame_batch_size)
        image_latents = yield from _inverted(bench, "image", IMAGE_INVERSION_FIELDS, walked)
    if request.mixing_ratio < 1:
        walked = inversion.invert_with_video_model(bench.video_unet, *shared)
        video_latents = yield from _inverted(bench, "video", VIDEO_INVERSION_FIELDS, walked)
    return inversion.mix_latents(image_latents, video_latents, request.mixing_ratio, request.mixing_rule)


def _inverted(bench: _Bench, model: str, fields: tuple[str, ...], steps: Iterator[Step]) -> Iterator[StepEvent]:
    """Walk one inversion, or find it kept; returns its last latents `(1, C, F, h, w)`."""
    key = stage_key(f"{model} inversion", bench.request, fields)
    kept = bench.cache.get(key)
    if kept is not None:
        yield StepEvent("inversion", 1, 1, f"The {model} model's inversion kept from an earlier run")
        return kept
    inverted = yield from _watched(bench, "inversion", f"Inverting with the {model} model", steps, previews=0)
    bench.cache.put(key, inverted)
    return inverted


def _smoothing(bench: _Bench, blended: Tensor) -> Iterator[Step]:
    request = bench.request
    return smoothing.smooth(
        bench.video_unet, bench.scheduler, blended, bench.embed(request.video_prompt or request.prompt),
        bench.embed(request.negative_prompt), request.smoothing_guidance_scale, request.num_smoothing_steps,
    )  # fmt: skip


def _watched(
    bench: _Bench, stage: Stage, message: str, steps: Iterator[Step], previews: int = PREVIEWS
) -> Iterator[StepEvent]:
    """Turn a stage's steps into events with a preview now and then; returns the last step's latents."""
    reached = None
    with closing(steps):
        while True:
            with bench.meter.stage(stage):
                step = next(steps, None)
                if step is None:
                    return reached
                reached = step.latents
                every = max(1, step.total // previews) if previews else 0
                shown = every and step.number % every == 0 and step.number < step.total
                preview = bench.decode(step.pred_original_sample) if shown else None
            yield StepEvent(stage, step.number, step.total, message, preview)


def _drain(events: Iterator[StepEvent]) -> Any:
    """Run a stage to its end, unwatched; returns what the stage returns."""
    outcome = None

    def run_through() -> Iterator[StepEvent]:
        nonlocal outcome
        outcome = yield from events

    for _ in run_through():
        pass
    return outcome


def _cut_off_note(bench: _Bench) -> str:
    """A sentence on prompts that are longer than the text encoder reads; empty when none is."""
    prompts = (bench.request.prompt, bench.request.video_prompt, bench.request.negative_prompt)
    lost = [end for end in (cut_off(bench.tokenizer, prompt) for prompt in prompts) if end]
    if not lost:
        return ""
    return f"The prompt is longer than the model reads; this end was ignored: '{lost[0][:120]}'"
