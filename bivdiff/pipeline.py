"""The three stages in order: frame by frame, Mixed Inversion, temporal smoothing.

In it: `run`, a generator of events that ends with the result, and `control_maps`, its first part alone.
Not in it: what a stage computes (tasks, inversion.py, smoothing.py), files (media.py).
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from functools import cache as once
from typing import Any

import numpy as np
import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from bivdiff import inversion, latents, masks, smoothing
from bivdiff.annotators import annotate
from bivdiff.catalog import family
from bivdiff.errors import OutOfMemoryError
from bivdiff.metering import Meter, peak_memory_bytes
from bivdiff.models.manager import ModelManager, free_memory
from bivdiff.prompts import cut_off, encode_prompt, inversion_prompt, smoothing_prompt
from bivdiff.reuse import FRAMEWISE_FIELDS, IMAGE_INVERSION_FIELDS, VIDEO_INVERSION_FIELDS, StageCache, stage_key
from bivdiff.sampling import Step
from bivdiff.tasks.framewise import Kit, generate, networks_of
from bivdiff.tasks.inpaint import latent_holes
from bivdiff.types import MAX_SEED, Control, GenerationRequest, GenerationResult, Stage, StepEvent

PREVIEWS = 4  # decoded previews per denoising stage: enough to see it form, too few to cost much


@dataclass(frozen=True)
class _Bench:
    """What the stages of one run share: what makes the frames, the video model with its words, and the clockwork."""

    kit: Kit
    video_unet: Any
    video_text_encoder: Any
    video_tokenizer: Any
    meter: Meter
    cache: StageCache

    @property
    def request(self) -> GenerationRequest:
        return self.kit.request

    def embed_for_video(self, prompt: str) -> Tensor:
        return encode_prompt(self.video_tokenizer, self.video_text_encoder, prompt)

    def decode(self, clip: Tensor) -> np.ndarray:
        return latents.decode(self.kit.vae, clip, self.request.frame_batch_size)


def control_maps(request: GenerationRequest, manager: ModelManager) -> tuple[np.ndarray, ...]:
    """The control maps a run of `request` would use, uint8 `(F, H, W, 3)` for each control.

    Raises:
        ModelUnavailableError: an annotator needs a model that cannot be loaded.
    """
    return tuple(_control_map(control, request, manager) for control in request.controls)


def _control_map(control: Control, request: GenerationRequest, manager: ModelManager) -> np.ndarray:
    if control.frames is not None:
        return control.frames
    options: dict[str, Any] = {}
    if control.control_type == "canny":
        options = {"low_threshold": request.low_threshold, "high_threshold": request.high_threshold}
    annotator = family(request.family).annotator(control)
    with manager.use(*([annotator] if annotator else [])) as models, torch.inference_mode():
        if models:
            options["model"] = models[0]
        return annotate(control.control_type, request.frames, **options)


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
        bench = _prepare(_settled(request), manager, cache or StageCache(), held)
        return _drain(_framewise(bench))


def last(events: Iterator[StepEvent | GenerationResult]) -> GenerationResult:
    """The result at the end of a run's events."""
    for event in events:
        if isinstance(event, GenerationResult):
            return event
    raise RuntimeError("The run ended without a result.")


def _run(
    request: GenerationRequest, manager: ModelManager, cache: StageCache
) -> Iterator[StepEvent | GenerationResult]:
    request = _settled(request)
    with ExitStack() as held:
        yield StepEvent("load", 0, 1, "Loading the models")
        bench = _prepare(request, manager, cache, held)
        yield StepEvent("load", 1, 1, "Models loaded", note=_cut_off_note(bench))
        maps = bench.kit.control_frames
        for number, (control, control_frames) in enumerate(zip(request.controls, maps, strict=True), 1):
            yield StepEvent("control", number, len(maps), f"Control map ({control.control_type})", control_frames)
        framewise = yield from _framewise(bench)
        blended = yield from _mixed_inversion(bench, framewise)
        clip = yield from _watched(bench, "smoothing", "Smoothing", _smoothing(bench, blended))
        with bench.meter.stage("smoothing"):
            frames = _with_known_content(request, bench.decode(clip))

    meter = bench.meter
    yield GenerationResult(
        request=request, control_frames=maps, framewise_frames=framewise, frames=frames,
        seed=request.seed, seconds=meter.seconds, evaluations=meter.evaluations,
        forward_seconds=meter.forward_seconds, peak_memory_bytes=peak_memory_bytes(manager.device),
    )  # fmt: skip


def _settled(request: GenerationRequest) -> GenerationRequest:
    """The request with all that was left open: a seed, drawn where it had none, and the words of the inversion."""
    seed = secrets.randbelow(MAX_SEED + 1) if request.seed is None else request.seed
    return replace(request, seed=seed, inversion_prompt=inversion_prompt(request))


def _prepare(request: GenerationRequest, manager: ModelManager, cache: StageCache, held: ExitStack) -> _Bench:
    """Draw the control maps and take hold of the models until `held` closes."""
    meter = Meter()
    chosen = family(request.family)
    video = chosen.video_models[request.video_model]
    shared = (chosen.vae, chosen.text_encoder, chosen.tokenizer, chosen.scheduler, chosen.unet)
    video_specs = (video.unet, video.text_encoder, video.tokenizer)
    annotators = [spec for spec in map(chosen.annotator, request.controls) if spec]
    with meter.stage("load"):
        networks = networks_of(request, chosen)
        components = held.enter_context(manager.use(*shared, *video_specs, *networks, *annotators))
    vae, text_encoder, tokenizer, scheduler, unet, video_unet, video_text_encoder, video_tokenizer, *rest = components
    own, estimators = tuple(rest[: len(networks)]), rest[len(networks) :]
    # An image model that is a U-Net of its own denoises; what steers the base U-Net only adds to it.
    denoisers = [unet, video_unet, *(network for network in own if isinstance(network, UNet2DConditionModel))]
    others = [vae.encoder, vae.decoder, text_encoder, video_text_encoder, *own, *estimators]
    held.enter_context(meter.watch(denoisers, [part for part in _distinct(others) if part not in denoisers]))
    maps = ()
    if request.controls:
        with meter.stage("control"):
            maps = control_maps(request, manager)
    kit = Kit(request, vae, text_encoder, tokenizer, scheduler, unet, own, maps)
    return _Bench(kit, video_unet, video_text_encoder, video_tokenizer, meter, cache)


def _distinct(parts: Iterable[Any]) -> list[Any]:
    return list({id(part): part for part in parts}.values())


def _framewise(bench: _Bench) -> Iterator[StepEvent]:
    """Make every frame with the image model; returns uint8 `(F, H, W, 3)`."""
    request = bench.request
    if request.image_model == "given":
        return request.frames
    key = stage_key("framewise", request, FRAMEWISE_FIELDS)
    kept = bench.cache.get(key)
    if kept is not None:
        yield StepEvent("framewise", 1, 1, "Frames kept from an earlier run", kept)
        return kept
    clip = yield from _watched(bench, "framewise", "Frame by frame", generate(bench.kit))
    with bench.meter.stage("framewise"):
        frames = _with_known_content(request, bench.decode(clip))
    bench.cache.put(key, frames)
    return frames


def _with_known_content(request: GenerationRequest, made: np.ndarray) -> np.ndarray:
    """The made frames with the source outside the masks, where the request wants that."""
    if request.masks is None or not request.preserve_known:
        return made
    return masks.composite(request.frames, made, masks.feather(request.masks, request.feather))


def _mixed_inversion(bench: _Bench, framewise: np.ndarray) -> Iterator[StepEvent]:
    """Invert the frames with each model that has weight; returns the blend `(1, C, F, h, w)`."""
    request, kit = bench.request, bench.kit
    clean = once(lambda: kit.encode(framewise))
    settings = (request.inversion_guidance_scale, request.num_inversion_steps)
    image_latents = video_latents = None

    def with_image_model() -> Iterator[Step]:
        prompts = (kit.embed(request.inversion_prompt), kit.embed(request.negative_prompt))
        return inversion.invert_with_image_model(
            kit.unet, kit.scheduler, clean(), *prompts, *settings, request.frame_batch_size
        )

    def with_video_model() -> Iterator[Step]:
        prompts = (bench.embed_for_video(request.inversion_prompt), bench.embed_for_video(request.negative_prompt))
        return inversion.invert_with_video_model(bench.video_unet, kit.scheduler, clean(), *prompts, *settings)

    if request.mixing_ratio > 0:
        image_latents = yield from _inverted(bench, "image", IMAGE_INVERSION_FIELDS, with_image_model)
    if request.mixing_ratio < 1:
        video_latents = yield from _inverted(bench, "video", VIDEO_INVERSION_FIELDS, with_video_model)
    return inversion.mix_latents(image_latents, video_latents, request.mixing_ratio, request.mixing_rule)


def _inverted(
    bench: _Bench, model: str, fields: tuple[str, ...], invert: Callable[[], Iterator[Step]]
) -> Iterator[StepEvent]:
    """Walk one inversion, or find it kept; returns its last latents `(1, C, F, h, w)`."""
    key = stage_key(f"{model} inversion", bench.request, fields)
    kept = bench.cache.get(key)
    if kept is not None:
        yield StepEvent("inversion", 1, 1, f"The {model} model's inversion kept from an earlier run")
        return kept
    with bench.meter.stage("inversion"):
        steps = invert()
    inverted = yield from _watched(bench, "inversion", f"Inverting with the {model} model", steps, previews=0)
    bench.cache.put(key, inverted)
    return inverted


def _smoothing(bench: _Bench, blended: Tensor) -> Iterator[Step]:
    """Denoise the blend with the video model, around what the request keeps of its source."""
    request = bench.request
    known = None
    if request.masks is not None and request.preserve_known:
        clean = bench.kit.encode(request.frames)
        holes = latents.unfold_frames(latent_holes(request.masks, latents.fold_frames(clean))) > 0
        known = smoothing.Known(clean, holes)
    yield from smoothing.smooth(
        bench.video_unet, bench.kit.scheduler, blended, bench.embed_for_video(smoothing_prompt(request)),
        bench.embed_for_video(request.negative_prompt), request.smoothing_guidance_scale, request.num_smoothing_steps,
        known,
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
    request = bench.request
    prompts = (request.prompt, request.source_prompt, request.video_prompt, request.negative_prompt)
    lost = [end for end in (cut_off(bench.kit.tokenizer, prompt) for prompt in prompts) if end]
    if not lost:
        return ""
    return f"The prompt is longer than the model reads; this end was ignored: '{lost[0][:120]}'"
