"""Models of one's own: a checkpoint in the base's place, LoRAs and textual inversion on it, and a catalog file."""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from bivdiff.catalog.image_models import IMAGE_MODELS
from bivdiff.catalog.specs import Family, ModelSpec, VideoModel
from bivdiff.errors import InputError
from bivdiff.settings import Settings
from bivdiff.types import GenerationRequest

MAX_LORA_SCALE = 4.0
_FAMILY_KEYS = {"like", "title", "base_model", "loras", "embeddings", "controlnets", "t2i_adapters", "video_models"}
_COMPONENT_KEYS: Mapping[str, type] = {
    "repo": str, "folder": str, "file": str, "revision": str, "variant": str, "licence": str, "bytes": int,
    "size": list, "num_frames": int,
}  # fmt: skip


_WRITTEN = {str: "a text, as in 'owner/name'", int: "a whole number", list: "a list of width and height"}


def with_own_base(family: Family, request: GenerationRequest) -> Family:
    """The family with the request's checkpoint, LoRAs and embeddings in the place of its base model's components."""
    return _rebased(family, request.base_model, parse_loras(request.loras), parse_list(request.embeddings))


def _rebased(
    family: Family, base_model: str, loras: tuple[tuple[str, float], ...], embeddings: tuple[str, ...]
) -> Family:
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
    """Whether who uses the page may name, pull, load and unload models; what nobody has decided, is not allowed."""
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


def read_catalog(path: Path, families: Mapping[str, Family]) -> dict[str, Family]:
    """The families that a catalog file of one's own adds or changes.

    ```toml
    [families.dreams]                      # a new family, like one there is
    like = "sd15"
    title = "My dreams"
    base_model = "owner/name"              # a repository, a folder, or a .safetensors file
    loras = "style.safetensors:0.8"
    [families.sd15.controlnets.sketchy]    # another network of a family there is
    repo = "owner/name"
    [families.sd15.video_models.mine]      # another video model, shaped like one there is
    like = "zeroscope"
    repo = "owner/name"
    size = [512, 320]
    num_frames = 16
    ```

    Raises:
        InputError: the file cannot be read, or names what there is not.
    """
    if sys.version_info >= (3, 11):
        import tomllib  # novermin - guarded by the version
    else:
        import tomli as tomllib
    try:
        content = tomllib.loads(path.read_text("utf-8"))
        _check_keys("top", content, {"families"})
        entries = content.get("families", {})
        return {name: _read_family(name, entry, families) for name, entry in entries.items()}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, TypeError, AttributeError) as error:
        raise InputError(f"The catalog file '{path}' cannot be read: {error}. Mend it, or take it away.") from error


def _read_family(name: str, entry: Mapping[str, Any], families: Mapping[str, Family]) -> Family:
    _check_keys(f"families.{name}", entry, _FAMILY_KEYS)
    like = entry.get("like", name)
    if like not in families:
        raise InputError(f"The catalog file's family '{name}' is like '{like}', which there is not. Choose one of: "
                         f"{', '.join(families)}.")  # fmt: skip
    family = families[like]
    networks = dict(family.networks)
    steered = {image_model: record.steering for image_model, record in IMAGE_MODELS.items() if record.steering}
    for image_model, kind in steered.items():
        added = {
            control_type: _read_component(f"{name}/{kind}-{control_type}", kind, given)
            for control_type, given in entry.get(f"{kind}s", {}).items()
        }
        networks[image_model] = {**networks.get(image_model, {}), **added}
    videos = {key: _read_video(f"{name}/{key}", given, family) for key, given in entry.get("video_models", {}).items()}
    family = replace(
        family, title=entry.get("title", family.title if like == name else name),
        video_models={**family.video_models, **videos}, networks=networks,
    )  # fmt: skip
    loras = parse_loras(entry.get("loras", ""))
    return _rebased(family, entry.get("base_model", ""), loras, parse_list(entry.get("embeddings", "")))


def _read_component(key: str, kind: str, given: Mapping[str, Any], **defaults: Any) -> ModelSpec:
    _check_keys(key, given, _COMPONENT_KEYS)
    if "repo" not in given:
        raise InputError(f"The catalog file's '{key}' names no repo. Give a repository or a folder.")
    for name, value in given.items():
        if type(value) is not _COMPONENT_KEYS[name]:
            raise InputError(
                f"The catalog file's '{key}' has {name} = {value!r}, and {name} is {_WRITTEN[_COMPONENT_KEYS[name]]}."
            )
    facts = {"licence": "of its owner", **defaults, **given}
    if "size" in given:
        facts["size"] = tuple(given["size"])
        if len(facts["size"]) != 2 or not all(type(side) is int and side > 0 for side in facts["size"]):
            raise InputError(f"The catalog file's '{key}' has size = {given['size']}. Write it as in [512, 320].")
    return ModelSpec(key=key, kind=kind, **facts)


def _read_video(key: str, given: Mapping[str, Any], family: Family) -> VideoModel:
    given = dict(given)
    like = given.pop("like", None)
    if like not in family.video_models:
        raise InputError(f"The catalog file's '{key}' needs `like`, one of: {', '.join(family.video_models)}.")
    model = family.video_models[like]
    old = model.unet
    inherited = {name: getattr(old, name) for name in ("folder", "file", "size", "num_frames", "max_frames")}
    unet = _read_component(key, old.kind, given, **inherited)
    if old.base is not None:
        return replace(model, unet=replace(unet, base=old.base))
    parts = {
        name: replace(
            getattr(model, name),
            key=f"{key}-{name}",
            repo=unet.repo,
            revision=unet.revision,
            file=unet.file if getattr(model, name).file else "",
        )
        for name in ("text_encoder", "tokenizer", "scheduler")
        if getattr(model, name).repo == old.repo  # what it took from elsewhere, its like takes from there, too
    }
    return replace(model, unet=unet, **parts)


def _check_keys(where: str, entry: Mapping[str, Any], known: Collection[str]) -> None:
    if unknown := set(entry) - set(known):
        raise InputError(
            f"The catalog file's '{where}' has '{min(unknown)}', which is not known. "
            f"Known are: {', '.join(sorted(known))}."
        )
