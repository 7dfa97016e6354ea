"""BIVDiff (arXiv:2312.02813): three stages, none of them trained, from an image model's frames to a steady clip.

x_t is a clip's latents under noise: x_t = sqrt(alpha_t) x_0 + sqrt(1 - alpha_t) noise, alpha_t falling from 1 to 0.
1. Frame by frame: the image model makes every frame x_0[i] on its own. They show what is wanted, and flicker.
2. Mixed Inversion: DDIM, walked backwards, finds the noise x_T that a model would make x_0 of; with the image model,
   frame by frame, x_T^image, with the video model x_T^video. The blend of the two, by the `mixing_ratio` lambda:
       x_T = lambda x_T^image + (1 - lambda) x_T^video, both over x_0 at the alpha_T where smoothing begins.
   Of x_T^image comes what the frames show, of x_T^video that they hang together.
3. Temporal smoothing: the video model denoises x_T with DDIM to the steady clip x_0'.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from functools import cache as once
from functools import partial
from typing import Any

import numpy as np
import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from bivdiff.bridge import inversion, latents, mixing, smoothing
from bivdiff.bridge.makers.framewise import Kit, generate
from bivdiff.bridge.makers.inpaint import latent_holes
from bivdiff.bridge.memory import with_leaner_policy
from bivdiff.bridge.previews import Layers, layers_of, rough_frames
from bivdiff.bridge.prompts import cut_off, encode_prompt, inversion_prompt, smoothing_prompt
from bivdiff.bridge.reuse import FRAMEWISE_FIELDS, IMAGE_INVERSION_FIELDS, VIDEO_INVERSION_FIELDS, StageCache, stage_key
from bivdiff.bridge.sampling import Step
from bivdiff.bridge.windows import over_windows
from bivdiff.catalog.components import components_of
from bivdiff.catalog.families import models_for
from bivdiff.catalog.image_models import IMAGE_MODELS
from bivdiff.catalog.specs import VideoModel
from bivdiff.errors import InputError, ModelUnavailableError
from bivdiff.models.cost import evaluations_of
from bivdiff.models.estimate import activation_bytes, operations
from bivdiff.models.identity import identity_of, numerics_of
from bivdiff.models.manager import ModelManager
from bivdiff.models.metering import Meter, peak_memory_bytes
from bivdiff.models.pulling import pulling_all
from bivdiff.models.video import VideoDenoiser
from bivdiff.pixels import masks
from bivdiff.pixels.annotators import annotate
from bivdiff.types import MAX_SEED, Control, GenerationRequest, GenerationResult, Stage, StepEvent
from bivdiff.units import say_bytes

PREVIEWS = 4  # per denoising stage: enough to see it form, too few to cost much where they must be decoded


@dataclass(frozen=True)
class Bench:
    """What the stages of one run share: what makes the frames, the video model, its decoder, and the clockwork.

    `models` name for the cache, by stage, what its output depends on beside the request and the frames it reads.
    `rough` is what shows latents during the run, see previews.py; without it they are decoded.
    `reused` grows by a stage's name whenever its output was found in the cache, unless it was made since the models
    were taken hold of: `fresh` has the keys of those.
    """

    kit: Kit
    video: VideoDenoiser
    video_vae: Any
    meter: Meter
    cache: StageCache
    models: Mapping[str, str]
    rough: Layers | None = None
    reused: list[str] = field(default_factory=list)
    fresh: set[str] = field(default_factory=set)

    @property
    def request(self) -> GenerationRequest:
        """What is being made."""
        return self.kit.request

    @property
    def noise_pred(self) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
        """The video model's, for clips of any length."""
        return over_windows(self.video.noise_pred, self.request.window or self.video.window)

    def embed_for_video(self, prompt: str) -> Tensor:
        """`(1, L, D)`, as the video model reads it."""
        with self.kit.running(self.video.text_encoder):
            return encode_prompt(self.video.tokenizer, self.video.text_encoder, prompt)

    def kept(self, stage: str, key: str) -> Any | None:
        """The output of a stage that was made before; None if it was not."""
        output = self.cache.get(key)
        if output is not None and key not in self.fresh:
            self.reused.append(stage)
        return output

    def keep(self, key: str, output: Any) -> None:
        """Keep the output of a stage for whoever needs it next."""
        self.fresh.add(key)
        self.cache.put(key, output)

    def preview(self, clip: Tensor, vae: Any) -> np.ndarray:
        """Frames of scaled latents: rough ones, which cost little, where the family knows how."""
        return rough_frames(clip, self.rough) if self.rough else self.decode(clip, vae)

    def decode(self, clip: Tensor, vae: Any = None) -> np.ndarray:
        """Frames of scaled latents; `vae` is the family's unless another is given."""
        vae = vae or self.kit.vae
        with self.kit.running(vae):
            return latents.decode(vae, clip, self.request.frame_batch_size)


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
    annotator = models_for(request).annotator(control)
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
    request, cache = settled(request), cache or StageCache()
    yield from with_leaner_policy(lambda: _run(request, manager, cache), request, manager)


@torch.inference_mode()
def framewise_frames(request: GenerationRequest, manager: ModelManager, cache: StageCache | None = None) -> np.ndarray:
    """The frames of the image model alone, uint8 `(F, H, W, 3)`: what `run` bridges, without the bridge."""
    with ExitStack() as held:
        bench = _prepare(settled(request), manager, cache or StageCache(), held)
        return _drain(_framewise(bench))


@torch.inference_mode()
def blended_picture(request: GenerationRequest, manager: ModelManager) -> np.ndarray:
    """What the decoder makes of the blend that is smoothed, uint8 `(F, H, W, 3)`: noise, to be looked at."""
    with ExitStack() as held:
        bench = _prepare(settled(request), manager, StageCache(), held)
        _, blended = _drain(blend(bench))
        return bench.decode(blended)


def last(events: Iterator[StepEvent | GenerationResult]) -> GenerationResult:
    """The result at the end of a run's events."""
    for event in events:
        if isinstance(event, GenerationResult):
            return event
    raise RuntimeError("The run ended without a result.")


def _run(
    request: GenerationRequest, manager: ModelManager, cache: StageCache
) -> Iterator[StepEvent | GenerationResult]:
    with ExitStack() as held:
        bench = yield from opened(request, manager, cache, held)
        framewise, blended = yield from blend(bench)
        (frames,) = yield from smoothed(bench, blended)

    meter = bench.meter
    _note_pace(request, manager, meter)
    yield GenerationResult(
        request=request, control_frames=bench.kit.control_frames, framewise_frames=framewise, frames=frames,
        seed=request.seed, seconds=meter.seconds, peak_bytes=meter.peak_bytes, evaluations=meter.evaluations,
        forward_seconds=meter.forward_seconds, peak_memory_bytes=peak_memory_bytes(meter),
    )  # fmt: skip


def opened(
    request: GenerationRequest, manager: ModelManager, cache: StageCache, held: ExitStack
) -> Iterator[StepEvent]:
    """Take hold of the models until `held` closes, and draw the control maps; returns the `Bench` of the stages."""
    yield StepEvent("load", 0, 1, "Loading the models")
    for spec, done, total in pulling_all(manager.missing(components_of(request).every), manager.settings):
        arrived = f"Downloading '{spec.repo}': {say_bytes(done)} of {say_bytes(total)}"
        yield StepEvent("load", int(100 * done / max(1, total)), 100, arrived)
    bench = _prepare(request, manager, cache, held)
    yield StepEvent("load", 1, 1, "Models loaded", note=_cut_off_note(bench))
    maps = bench.kit.control_frames
    for number, (control, control_frames) in enumerate(zip(request.controls, maps, strict=True), 1):
        yield StepEvent("control", number, len(maps), f"Control map ({control.control_type})", control_frames)
    return bench


def blend(bench: Bench) -> Iterator[StepEvent]:
    """The stages before smoothing; returns the frame-wise frames and the blend `(1, C, F, h, w)` to be smoothed."""
    framewise = yield from _framewise(bench)
    blended = yield from _mixed_inversion(bench, framewise)
    return framewise, blended


def smoothed(bench: Bench, blended: Tensor, previews: int = PREVIEWS) -> Iterator[StepEvent]:
    """Smooth blends `(B, C, F, h, w)` of requests that differ in nothing but these; returns B clips of frames.

    About as many previews as asked for show the first of them.
    """
    steps = _smoothing(bench, blended)
    clips = yield from _watched(bench, "smoothing", "Smoothing", steps, previews, bench.video_vae)
    with bench.meter.stage("smoothing"):
        return [_with_known_content(bench.request, bench.decode(clip[None], bench.video_vae)) for clip in clips]


def settled(request: GenerationRequest) -> GenerationRequest:
    """The request with all that was left open: a seed, drawn where it had none, and the words of the inversion."""
    seed = secrets.randbelow(MAX_SEED + 1) if request.seed is None else request.seed
    return replace(request, seed=seed, inversion_prompt=inversion_prompt(request))


def _prepare(request: GenerationRequest, manager: ModelManager, cache: StageCache, held: ExitStack) -> Bench:
    """Draw the control maps and take hold of the models until `held` closes."""
    meter = Meter()
    chosen = models_for(request)
    model = chosen.video_models[request.video_model]
    specs = components_of(request)
    _check_window(request, model)
    with meter.stage("load"):
        parts = specs.loaded(held.enter_context(manager.hold(*specs.of_stages)))
    vae, text_encoder, tokenizer, scheduler, unet = parts.shared
    networks, video_unet, video_vae = parts.networks, parts.video_unet, parts.video_vae
    video = VideoDenoiser(model, video_unet, parts.video_text_encoder, parts.video_tokenizer, parts.video_scheduler)
    _check_base(request, unet, text_encoder, scheduler, networks)
    # An image model that is a U-Net of its own denoises; what steers the base U-Net only adds to it.
    denoisers = [unet, video_unet, *(network for network in networks if isinstance(network, UNet2DConditionModel))]
    others = [vae.encoder, video_vae.decoder, vae.decoder, text_encoder, video.text_encoder, *networks]
    held.enter_context(meter.watch(denoisers, [part for part in _distinct(others) if part not in denoisers]))
    maps = ()
    if request.controls:
        with meter.stage("control"):
            maps = control_maps(request, manager)
    running = partial(manager.running, reserve=activation_bytes(request, manager))
    kit = Kit(request, vae, text_encoder, tokenizer, scheduler, unet, networks, maps, running, manager.device)
    shared = f"{numerics_of(manager)} {identity_of(chosen.shared, manager)}"
    named = {
        "framewise": f"{shared} {identity_of((*specs.networks, *specs.annotators), manager)}",
        "image inversion": shared,
        "video inversion": f"{shared} {identity_of(model.components, manager)}",
    }  # fmt: skip
    return Bench(kit, video, video_vae, meter, cache, named, layers_of(chosen, manager.settings))


def _check_window(request: GenerationRequest, model: VideoModel) -> None:
    """Refuse to show a video model more frames at once than it can tell apart."""
    seen, most = min(request.frames.shape[0], request.window or model.window), model.unet.max_frames
    if most is not None and seen > most:
        raise InputError(
            f"The video model '{request.video_model}' can see {most} frames at once, and the window has {seen}. Take a "
            f"window of {most} or less; longer clips are seen in several that overlap."
        )


def _check_base(
    request: GenerationRequest, unet: Any, text_encoder: Any, scheduler: Any, networks: Iterable[Any]
) -> None:
    """Refuse a base model that does not go with the models around it."""
    predicts = scheduler.config.prediction_type
    if IMAGE_MODELS[request.image_model].denoiser == "own" and predicts != "epsilon":
        raise ModelUnavailableError(
            f"The base model predicts '{predicts}', and the image model '{request.image_model}', which was trained "
            "apart from it, predicts noise. Choose a base model that predicts noise, or another image model."
        )
    width = unet.config.cross_attention_dim
    read = [text_encoder.config.hidden_size]
    read += [network.config.cross_attention_dim for network in networks if "cross_attention_dim" in network.config]
    if unet.config.in_channels != 4 or any(other != width for other in read):
        raise ModelUnavailableError(
            f"The base model '{models_for(request).unet.place}' reads {unet.config.in_channels} channels and words of "
            f"{width} numbers, and the models around it need 4 and {read[-1]}. Choose a plain relative of the "
            "family's own."
        )


def _note_pace(request: GenerationRequest, manager: ModelManager, meter: Meter) -> None:
    """Remember how fast a whole run was: one that found stages kept tells nothing."""
    if meter.evaluations == evaluations_of(request):
        spent = sum(meter.seconds[stage] for stage in meter.evaluations)
        manager.pace.note(request.family, sum(operations(request).values()), spent)


def _distinct(parts: Iterable[Any]) -> list[Any]:
    return list({id(part): part for part in parts}.values())


def _framewise(bench: Bench) -> Iterator[StepEvent]:
    """Make every frame with the image model; returns uint8 `(F, H, W, 3)`."""
    request = bench.request
    if not IMAGE_MODELS[request.image_model].makes_frames:
        return request.frames
    key = stage_key("framewise", request, FRAMEWISE_FIELDS, bench.models["framewise"])
    kept = bench.kept("framewise", key)
    if kept is not None:
        yield StepEvent("framewise", 1, 1, "The frames were there already", kept)
        return kept
    clip = yield from _watched(bench, "framewise", "Frame by frame", generate(bench.kit))
    with bench.meter.stage("framewise"):
        frames = _with_known_content(request, bench.decode(clip))
    bench.keep(key, frames)
    yield StepEvent("framewise", 1, 1, "The frames are ready", frames)
    return frames


def _with_known_content(request: GenerationRequest, made: np.ndarray) -> np.ndarray:
    """The made frames with the source outside the masks, where the request wants that."""
    if request.masks is None or not request.preserve_known:
        return made
    return masks.composite(request.frames, made, masks.feather(request.masks, request.feather))


def _mixed_inversion(bench: Bench, framewise: np.ndarray) -> Iterator[StepEvent]:
    """Invert the frames with each model that has weight; returns the blend `(1, C, F, h, w)` that is to be smoothed."""
    request, kit, video = bench.request, bench.kit, bench.video
    clean = once(lambda: kit.encode(framewise))
    num_steps = request.num_inversion_steps
    settings = (request.inversion_guidance_scale, num_steps)
    wanted = mixing.noise_level(video.scheduler, request.num_smoothing_steps)
    image_latents = video_latents = None

    def with_image_model() -> Iterator[Step]:
        prompts, start = (kit.embed(request.inversion_prompt), kit.embed(request.negative_prompt)), clean()
        with kit.running(kit.unet):
            yield from inversion.invert_with_image_model(
                kit.unet, kit.scheduler, start, *prompts, *settings, request.frame_batch_size
            )

    def with_video_model() -> Iterator[Step]:
        texts, start = (request.inversion_prompt, request.negative_prompt), clean()
        prompts = [bench.embed_for_video(text) for text in texts]
        with kit.running(video.unet):
            yield from inversion.invert_with_video_model(bench.noise_pred, video.scheduler, start, *prompts, *settings)

    if request.mixing_ratio > 0:
        found = yield from _inverted(bench, "image", framewise, with_image_model)
        image_latents = mixing.at_level(found, clean, mixing.noise_level(kit.scheduler, num_steps), wanted)
    if request.mixing_ratio < 1:
        found = yield from _inverted(bench, "video", framewise, with_video_model)
        video_latents = mixing.at_level(found, clean, mixing.noise_level(video.scheduler, num_steps), wanted)
    return mixing.mix_latents(image_latents, video_latents, request.mixing_ratio, request.mixing_rule).contiguous()


def _inverted(
    bench: Bench, model: str, framewise: np.ndarray, invert: Callable[[], Iterator[Step]]
) -> Iterator[StepEvent]:
    """Walk one inversion of the frames, or find it kept; returns its last latents `(1, C, F, h, w)`."""
    stage, fields = f"{model} inversion", IMAGE_INVERSION_FIELDS if model == "image" else VIDEO_INVERSION_FIELDS
    key = stage_key(stage, bench.request, fields, bench.models[stage], framewise)
    kept = bench.kept(stage, key)
    if kept is not None:
        yield StepEvent("inversion", 1, 1, f"The {model} model's inversion was there already")
        return kept.to(bench.kit.device)
    inverted = yield from _watched(bench, "inversion", f"Inverting with the {model} model", invert(), previews=0)
    # Networks round otherwise where the numbers lie in another order, and from the disk they come in this one.
    inverted = inverted.contiguous()
    bench.keep(key, inverted)
    return inverted


def _smoothing(bench: Bench, blended: Tensor) -> Iterator[Step]:
    """Denoise the blend with the video model, around what the request keeps of its source."""
    request = bench.request
    known = None
    if request.masks is not None and request.preserve_known:
        clean = bench.kit.encode(request.frames)
        holes = latents.unfold_frames(latent_holes(request.masks, latents.fold_frames(clean))) > 0
        known = smoothing.Known(clean, holes)
    prompts = [bench.embed_for_video(text) for text in (smoothing_prompt(request), request.negative_prompt)]
    with bench.kit.running(bench.video.unet):
        yield from smoothing.smooth(
            bench.noise_pred, bench.video.scheduler, blended, *prompts, request.smoothing_guidance_scale,
            request.num_smoothing_steps, known,
        )  # fmt: skip


def _watched(
    bench: Bench, stage: Stage, message: str, steps: Iterator[Step], previews: int = PREVIEWS, vae: Any = None
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
                latents.check_finite(reached, f"in step {step.number} of {step.total} of “{message}”")
                every = max(1, step.total // previews) if previews else 0
                shown = every and step.number % every == 0 and step.number < step.total
                preview = bench.preview(step.pred_original_sample[:1], vae) if shown else None
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


def _cut_off_note(bench: Bench) -> str:
    """A sentence on prompts that are longer than the text encoder reads; empty when none is."""
    request = bench.request
    prompts = (request.prompt, request.source_prompt, request.video_prompt, request.negative_prompt)
    lost = [end for end in (cut_off(bench.kit.tokenizer, prompt) for prompt in prompts) if end]
    if not lost:
        return ""
    return f"The prompt is longer than the model reads; this end was ignored: '{lost[0][:120]}'"
