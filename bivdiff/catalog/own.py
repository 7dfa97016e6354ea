"""Models of one's own: a checkpoint in the base's place, LoRAs and textual inversion on it.

Not here: a catalog file of one's own (see own_catalog).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from bivdiff.catalog.specs import Family, ModelSpec, VideoModel
from bivdiff.errors import InputError
from bivdiff.settings import Settings
from bivdiff.types import GenerationRequest

MAX_LORA_SCALE = 4.0


def with_own_base(family: Family, request: GenerationRequest) -> Family:
    """The family with the request's checkpoint, LoRAs and embeddings in the place of its base model's components."""
    return with_base(family, request.base_model, parse_loras(request.loras), parse_list(request.embeddings))


def with_base(
    family: Family, base_model: str, loras: tuple[tuple[str, float], ...], embeddings: tuple[str, ...]
) -> Family:
    """The family with a checkpoint, LoRAs and embeddings of one's own, as far as there are any."""
    if not (base_model or loras or embeddings):
        return family
    new = {name: getattr(family, name) for name in ("unet", "text_encoder", "tokenizer", "vae", "scheduler")}
    if base_model:
        new = {
            name: replace(
                spec, repo=base_model, revision="main", variant="", bytes=0, licence="of its owner", checked=""
            )
            for name, spec in new.items()
        }
        if base_model.endswith(".safetensors"):
            new |= {"tokenizer": family.tokenizer, "scheduler": family.scheduler}  # such a file holds weights alone
    new["unet"] = replace(new["unet"], loras=loras)
    new["text_encoder"] = replace(new["text_encoder"], loras=loras, embeddings=embeddings)
    new["tokenizer"] = replace(new["tokenizer"], embeddings=embeddings)
    videos = {key: _on_base(video, family, new) for key, video in family.video_models.items()}
    return replace(family, **new, video_models=videos)


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


def are_allowed(settings: Settings) -> bool:
    """Whether visitors may name, pull, load and unload models; not unless the owner says so."""
    return settings.own_models == "yes"


def check_allowed(request: GenerationRequest, settings: Settings) -> None:
    """Refuse a request from the page that names models by path or repository where the owner does not allow that.

    Raises:
        InputError: it does.
    """
    named = [name for name in ("base_model", "loras", "embeddings") if getattr(request, name).strip()]
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
