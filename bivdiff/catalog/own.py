"""Models of one's own: a checkpoint in the base's place, LoRAs and textual inversion on it.

Not here: a catalog file of one's own (see own_catalog).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from bivdiff.catalog.bridging import inversions_of
from bivdiff.catalog.image_models import IMAGE_MODELS, OWN_CONTROLNET, OWN_PIPELINE, OWN_UNET
from bivdiff.catalog.specs import WEIGHT_FILES, Family, ModelSpec, VideoModel
from bivdiff.errors import InputError
from bivdiff.settings import Settings
from bivdiff.types import GenerationRequest

MAX_LORA_SCALE = 4.0
OWN_MODELS = ("base_model", "image_checkpoint", "pipeline", "pipeline_controlnet", "loras", "embeddings")
"""Fields of a request that name models by path or repository."""


def with_own_base(family: Family, request: GenerationRequest) -> Family:
    """The family with the request's checkpoint, LoRAs and embeddings in the place of its base model's components."""
    loras, embeddings = parse_loras(request.loras), parse_list(request.embeddings)
    own = with_own_pipeline(with_own_unet(family, request), request)
    return with_base(own, request.base_model, loras, embeddings)


def with_own_pipeline(family: Family, request: GenerationRequest) -> Family:
    """The family with the pipeline that the request names as the network of its image model, if that is one."""
    kind, repo = IMAGE_MODELS[request.image_model].pipeline, request.pipeline.strip()
    if not kind or not repo:
        return family
    steered_by = request.pipeline_controlnet.strip()
    spec = ModelSpec(
        key=f"own/{OWN_PIPELINE}", kind=kind, repo=repo, licence="of its owner",
        base=_controlnet(steered_by) if steered_by and IMAGE_MODELS[request.image_model].reads_controls else None,
    )  # fmt: skip
    return replace(family, networks={**family.networks, request.image_model: {OWN_PIPELINE: spec}})


def _controlnet(repo: str) -> ModelSpec:
    return ModelSpec(key=f"own/{OWN_CONTROLNET}", kind=OWN_CONTROLNET, repo=repo, licence="of its owner")


def with_own_unet(family: Family, request: GenerationRequest) -> Family:
    """The family with the request's image checkpoint in the place of its image model's own U-Net."""
    networks = family.networks_of(request.image_model)
    if not request.image_checkpoint or OWN_UNET not in networks:
        return family
    unet = replace(
        networks[OWN_UNET], repo=request.image_checkpoint, folder="unet", file="", revision="main", variant="", bytes=0,
        licence="of its owner", checked="",
    )  # fmt: skip
    return replace(family, networks={**family.networks, request.image_model: {OWN_UNET: unet}})


def with_base(
    family: Family, base_model: str, loras: tuple[tuple[str, float], ...], embeddings: tuple[str, ...]
) -> Family:
    """The family with a checkpoint, LoRAs and embeddings of one's own, as far as there are any."""
    if not (base_model or loras or embeddings):
        return family
    # Relatives of the base, of its shape but for what they read: what changes the one, changes the others alike.
    networks = {
        name: {kind: replace(spec, loras=loras) if spec.kind == "unet" else spec for kind, spec in each.items()}
        for name, each in family.networks.items()
    }
    new = {name: getattr(family, name) for name in ("unet", "text_encoder", "tokenizer", "vae", "scheduler")}
    if base_model:
        new = {
            name: replace(
                spec, repo=base_model, revision="main", variant="", bytes=0, licence="of its owner", checked=""
            )
            for name, spec in new.items()
        }
        if base_model.endswith(WEIGHT_FILES):
            new |= {"tokenizer": family.tokenizer, "scheduler": family.scheduler}  # such a file holds weights alone
    new["unet"] = replace(new["unet"], loras=loras)
    new["text_encoder"] = replace(new["text_encoder"], loras=loras, embeddings=embeddings)
    new["tokenizer"] = replace(new["tokenizer"], embeddings=embeddings)
    videos = {key: _on_base(video, family, new) for key, video in family.video_models.items()}
    return replace(family, **new, networks=networks, video_models=videos)


def _on_base(video: VideoModel, family: Family, new: Mapping[str, ModelSpec]) -> VideoModel:
    """A video model with those of its components replaced that are the family's base's own."""
    swaps = {getattr(family, name): spec for name, spec in new.items()}
    unet = replace(video.unet, base=swaps.get(video.unet.base, video.unet.base)) if video.unet.base else video.unet
    scheduler = video.scheduler
    if replace(scheduler, config=()) == replace(family.scheduler, config=()):  # what it changes of the base's, stays so
        scheduler = replace(new["scheduler"], key=scheduler.key, config=scheduler.config)
    return replace(
        video, unet=unet, text_encoder=swaps.get(video.text_encoder, video.text_encoder),
        tokenizer=swaps.get(video.tokenizer, video.tokenizer), scheduler=scheduler,
    )  # fmt: skip


def check_heard(family: Family, request: GenerationRequest) -> None:
    """Refuse models of one's own that nothing in a run of the request would read.

    Args:
        family: of the request, without them.
        request: what is to be made.

    Raises:
        InputError: one would change nothing.
    """
    model = IMAGE_MODELS[request.image_model]
    has_own_unet = model.denoiser == "own"
    if request.image_checkpoint.strip() and not has_own_unet:
        others = " and ".join(each.title for each in IMAGE_MODELS.values() if each.denoiser == "own")
        raise InputError(
            f"image_checkpoint is read for {others} alone; {model.title} has no U-Net of its own. Clear it, or name it "
            "as base_model."
        )
    if request.base_model.strip() and has_own_unet and not request.image_checkpoint.strip():
        networks = family.networks_of(request.image_model)
        usual = networks[OWN_UNET].repo if networks else ""
        raise InputError(
            f"{model.title} is a U-Net of its own, which a base model of yours does not reach: its frames would come "
            f"from the usual one. Name one of yours in image_checkpoint"
            + (f" (the usual one is '{usual}')" if usual else "") + ", or clear the base model."
        )  # fmt: skip
    if request.pipeline.strip() and not model.pipeline:
        raise InputError(
            f"pipeline is read for an image model of that kind alone, and the frames are made by {model.title}. Clear "
            f"it, or choose {' or '.join(name for name, each in IMAGE_MODELS.items() if each.pipeline)}."
        )
    if request.pipeline_controlnet.strip() and not (model.pipeline and model.reads_controls):
        raise InputError(
            "pipeline_controlnet is read where a pipeline makes the frames by control maps, and nowhere else. Clear "
            "it, or choose control-pipeline."
        )
    by_base = model.makes_frames and not model.pipeline
    on_base = family.video_models[request.video_model].unet.base is not None
    if request.loras.strip() and not (by_base or on_base or "image" in inversions_of(request)):
        raise InputError(
            "The LoRAs would change nothing: the base model makes no frames, and neither the video model nor the frame "
            "noise is made with it. Clear them, or choose a video model of motion modules or the image model's "
            "frame noise."
        )


def are_allowed(settings: Settings) -> bool:
    """Whether visitors may name, pull, load and unload models; not unless the owner says so."""
    return settings.own_models == "yes"


def check_allowed(request: GenerationRequest, settings: Settings) -> None:
    """Refuse a request from the page that names models by path or repository where the owner does not allow that.

    Raises:
        InputError: it does.
    """
    named = [name for name in OWN_MODELS if getattr(request, name).strip()]
    if named and not are_allowed(settings):
        raise InputError(
            f"This copy of the studio runs the models of its owner alone, so '{named[0]}' must be empty. Clear it, or "
            "run a copy of your own."
        )


def check_may_manage(settings: Settings) -> None:
    """Refuse that a visitor pulls, loads or unloads a model where the owner does not allow it.

    Raises:
        InputError: the owner does not.
    """
    if not are_allowed(settings):
        raise InputError(
            "Only the owner of this copy of the studio may pull, load and unload models. Run a copy of your own, or, "
            "if it is yours, start it with BIVDIFF_OWN_MODELS=yes."
        )


def parse_list(text: str) -> tuple[str, ...]:
    """Names between commas."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def parse_loras(text: str) -> tuple[tuple[str, float], ...]:
    """Read "style.safetensors:0.8, owner/name" as files or repositories, each with its scale, 1 unless it is given.

    Raises:
        InputError: a scale is out of range.
    """
    found = []
    for part in parse_list(text):
        place, _, number = part.rpartition(":")
        try:
            scale = float(number)
        except ValueError:
            place, scale = part, 1.0
        if not place or not -MAX_LORA_SCALE <= scale <= MAX_LORA_SCALE:
            raise InputError(
                f"The LoRA '{part}' cannot be read. Write a file or repository, and a scale from "
                f"-{MAX_LORA_SCALE:g} to {MAX_LORA_SCALE:g} behind a colon, as in 'style.safetensors:0.8'."
            )
        found.append((place, scale))
    return tuple(found)
