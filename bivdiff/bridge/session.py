"""One hold of the models: what the stages of a run, or of the cells of a comparison, share."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from diffusers import UNet2DConditionModel
from torch import Tensor

from bivdiff.bridge.control_maps import control_maps
from bivdiff.bridge.loaded import LoadedModels
from bivdiff.bridge.notes import notes_on
from bivdiff.bridge.paths import path_of
from bivdiff.bridge.previews import Layers, layers_of, preview_frames
from bivdiff.bridge.reuse import Output, StageCache
from bivdiff.bridge.spaces import space_of
from bivdiff.catalog.components import Components, components_of
from bivdiff.catalog.families import models_for
from bivdiff.catalog.image_models import IMAGE_MODELS
from bivdiff.catalog.specs import ModelSpec, VideoModel, with_bases
from bivdiff.errors import InputError, ModelUnavailableError
from bivdiff.models import hub
from bivdiff.models.estimate import activation_bytes
from bivdiff.models.identity import identity_of, numerics_of
from bivdiff.models.loaders import KINDS, check_config
from bivdiff.models.loaders.pipelines import INDEX, check_index
from bivdiff.models.manager import ModelManager
from bivdiff.models.metering import StageMeter
from bivdiff.models.pulling import pulling_all
from bivdiff.models.video import VideoDenoiser
from bivdiff.models.weight_files import contents_of
from bivdiff.models.whole_pipeline import WholePipeline
from bivdiff.settings import Settings
from bivdiff.types import GenerationRequest, StepEvent
from bivdiff.units import say_bytes


@dataclass(frozen=True)
class Session:
    """What the stages work with.

    Attributes:
        request: what is made, with nothing left open; a stage sees what it declares of it (see inputs.py).
        models: in memory.
        control_frames: control maps, uint8 `(F, H, W, 3)` for each of the request's controls.
        meter: counts what each stage takes.
        cache: keeps outputs of stages.
        identities: by stage, the models that its output depends on, as they are named in its key.
        preview_layers: show latents during the run, see previews.py; without them latents are decoded.
        reused: the stages whose output was in the cache before this hold of the models.
        made: keys of the outputs that were made since.
    """

    request: GenerationRequest
    models: LoadedModels
    control_frames: tuple[np.ndarray, ...]
    meter: StageMeter
    cache: StageCache
    identities: Mapping[str, str]
    preview_layers: Layers | None = None
    reused: list[str] = field(default_factory=list)
    made: set[str] = field(default_factory=set)

    def cached(self, stage: str, key: str) -> Output | None:
        """The output of a stage that was made before; None if it was not."""
        output = self.cache.get(key)
        if output is not None and key not in self.made:
            self.reused.append(stage)
        return output

    def store(self, key: str, output: Output) -> None:
        """Keep the output of a stage for whoever needs it next."""
        self.made.add(key)
        self.cache.put(key, output)

    def preview(self, clip: Tensor, decode: Callable[[Tensor], np.ndarray]) -> np.ndarray:
        """Frames of scaled latents `(1, C, F, h, w)`, decoded only where no cheaper way is known for their space."""
        layers = self.preview_layers
        return preview_frames(clip, layers) if layers and clip.shape[1] == layers[0][0].shape[1] else decode(clip)


def entering(
    request: GenerationRequest, manager: ModelManager, cache: StageCache, exits: ExitStack
) -> Generator[StepEvent, None, Session]:
    """Download and load the models, hold them until `exits` closes, and draw the control maps; returns the session.

    Raises:
        InputError: the request's window is wider than the video model can see.
        ModelUnavailableError: a model cannot be loaded, or does not go with the others.
    """
    yield StepEvent("load", 0, 1, "Loading the models")
    needed = components_of(request).every
    _look_into_configs(needed, manager.settings)
    if to_fetch := manager.missing(needed):
        _look_into_files(needed, manager.settings)  # one that is of no use should not cost a download first
    to_fetch.sort(key=lambda spec: KINDS[spec.kind].holds not in {"pipeline", "schedule"})  # may be of no use
    for spec, done, total in pulling_all(to_fetch, manager.settings):
        arrived = f"Downloading '{spec.repo}': {say_bytes(done)} of {say_bytes(total)}"
        yield StepEvent("load", int(100 * done / max(1, total)), 100, arrived)
    session = enter(request, manager, cache, exits)
    yield StepEvent(
        "load", 1, 1, "Models loaded", note=" ".join(notes_on(session.request, session.models.parts, manager.settings))
    )
    maps = session.control_frames
    for number, (control, control_frames) in enumerate(zip(request.controls, maps, strict=True), 1):
        yield StepEvent("control", number, len(maps), f"Control map ({control.control_type})", control_frames)
    return session


def _look_into_files(specs: Iterable[ModelSpec], settings: Settings) -> None:
    """Refuse what is a single file, component or addition to one, that is damaged or no file of weights."""
    roots = (hub.find(each, settings) for spec in specs for each in (spec, *hub.additions(spec)))
    for root in dict.fromkeys(roots):  # several components may be of one file
        if root is not None and root.is_file():
            contents_of(root)


def _look_into_configs(specs: Iterable[ModelSpec], settings: Settings) -> None:
    """Refuse what is there and says of itself that it cannot be used, before anything else is fetched or loaded."""
    for spec in with_bases(specs):
        kind = KINDS[spec.kind]
        is_pipeline = kind.holds == "pipeline"
        root = hub.find(spec, settings) if is_pipeline or kind.check is not None else None
        if root is None:
            continue
        if is_pipeline:
            check_index(root / INDEX, spec)
        else:
            check_config(spec, root)


def enter(request: GenerationRequest, manager: ModelManager, cache: StageCache, exits: ExitStack) -> Session:
    """As `entering`, without events; what is not on this machine is fetched all the same."""
    family, meter, specs = models_for(request), StageMeter(), components_of(request)
    video = family.video_models[request.video_model]
    _check_window(request, video)
    with meter.stage("load"):
        parts = specs.loaded(exits.enter_context(manager.hold(*specs.of_stages)))
    denoiser = VideoDenoiser(
        video, parts.video_unet, parts.video_text_encoder, parts.video_tokenizer, parts.video_scheduler, parts.unet
    )
    _check_base(request, parts)
    exits.enter_context(meter.watch(*_watched_modules(parts)))
    maps: tuple[np.ndarray, ...] = ()
    if request.controls:
        with meter.stage("control"):
            maps = control_maps(request, manager)
    running = partial(manager.running, reserve=activation_bytes(request, manager))
    models = LoadedModels(
        parts, denoiser, path_of(denoiser.scheduler), space_of(parts.vae, parts.video_vae), running, manager.device,
        request.frame_batch_size,
    )  # fmt: skip
    layers = layers_of(family, manager.settings)
    return Session(request, models, maps, meter, cache, stage_identities(specs, video, manager), layers)


def stage_identities(specs: Components[ModelSpec], video: VideoModel, manager: ModelManager) -> dict[str, str]:
    """By stage, the models that its output depends on, and how they compute."""
    shared = f"{numerics_of(manager)} {identity_of(specs.shared, manager)}"
    with_video = f"{shared} {identity_of(video.components, manager)}"
    return {
        "framewise": f"{shared} {identity_of((*specs.networks, *specs.annotators), manager)}",
        "image inversion": shared,
        # The window is the catalog's, and changes what equal weights make of a clip.
        "video inversion": f"{with_video} window {video.window}",
        "frame inversion": with_video,
    }


def _watched_modules(parts: Components[Any]) -> tuple[list[Any], list[Any]]:
    """The denoisers, and the other networks: what steers the base U-Net, text encoders, halves of autoencoders."""
    # An image model that is a U-Net of its own denoises; what steers the base U-Net only adds to it.
    own = [network for network in parts.networks if isinstance(network, UNet2DConditionModel)]
    own += [network.denoiser for network in parts.networks if isinstance(network, WholePipeline)]
    denoisers = _distinct([parts.unet, parts.video_unet, *own])
    coders = [parts.vae.encoder, parts.video_vae.decoder, parts.vae.decoder]
    others = _distinct([*coders, parts.text_encoder, parts.video_text_encoder, *_besides_pipelines(parts.networks)])
    return denoisers, [part for part in others if part not in denoisers]


def _besides_pipelines(networks: Iterable[Any]) -> list[Any]:
    """Networks that work with the family's own; a whole pipeline has all that it needs in itself."""
    return [network for network in networks if not isinstance(network, WholePipeline)]


def _distinct(parts: Iterable[Any]) -> list[Any]:
    return list({id(part): part for part in parts if part is not None}.values())


def _check_window(request: GenerationRequest, video: VideoModel) -> None:
    """Refuse to show a video model more frames at once than it can tell apart."""
    seen, most = min(request.frames.shape[0], request.window or video.window), video.unet.max_frames
    if most is not None and seen > most:
        raise InputError(
            f"The video model '{request.video_model}' can see {most} frames at once, and the window has {seen}. Take a "
            f"window of {most} or less; longer clips are seen in several that overlap."
        )


def _check_base(request: GenerationRequest, parts: Components[Any]) -> None:
    """Refuse a base model that does not go with the models around it."""
    if not parts.with_base:
        return
    predicts = parts.scheduler.config.prediction_type
    if IMAGE_MODELS[request.image_model].denoiser == "own" and predicts != "epsilon":
        raise ModelUnavailableError(
            f"The base model predicts '{predicts}', and the image model '{request.image_model}', which was trained "
            "apart from it, predicts noise. Choose a base model that predicts noise, or another image model."
        )
    for part in parts.networks if IMAGE_MODELS[request.image_model].denoiser == "own" else ():
        wanted, place = IMAGE_MODELS[request.image_model], components_of(request).networks[0].place
        if part.config.in_channels != wanted.channels:
            raise ModelUnavailableError(
                f"The image model '{place}' reads {part.config.in_channels} channels, and {wanted.title} reads "
                f"{wanted.channels}. Choose a checkpoint that was made for that."
            )
    width = parts.unet.config.cross_attention_dim
    beside = [part.config for part in _besides_pipelines(parts.networks)]
    read = [parts.text_encoder.config.hidden_size]
    read += [config.cross_attention_dim for config in beside if "cross_attention_dim" in config]
    needed = next((other for other in read if other != width), width)
    if parts.unet.config.in_channels != 4 or needed != width:
        raise ModelUnavailableError(
            f"The base model '{models_for(request).unet.place}' reads {parts.unet.config.in_channels} channels and "
            f"words of {width} numbers, and the models around it need 4 and {needed}. Choose a plain relative of the "
            f"family's own{_named_elsewhere(parts.unet.config.in_channels)}."
        )


def _named_elsewhere(channels: int) -> str:
    titles = [model.title for model in IMAGE_MODELS.values() if model.denoiser == "own" and model.channels == channels]
    return f"; a checkpoint of {titles[0]} goes into image_checkpoint" if titles else ""
