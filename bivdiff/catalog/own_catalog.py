"""A catalog file of one's own, in TOML: families, control networks and video models that it adds or changes."""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, get_args

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError, create_model

from bivdiff.catalog.image_models import IMAGE_MODELS, OWN_UNET
from bivdiff.catalog.own import parse_list, parse_loras, with_base
from bivdiff.catalog.specs import Family, ModelSpec, VideoModel
from bivdiff.errors import InputError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_SENTENCES = {
    "extra_forbidden": "'{path}' is not known. Use {known}.",
    "missing": "'{path}' is missing. Add it.",
    "string_type": "{value!r} is not a valid value for '{path}'. Write a text, as in 'owner/name'.",
    "int_type": "{value!r} is not a valid value for '{path}'. Write a whole number.",
    "greater_than": "{value!r} is not a valid value for '{path}'. Write a number above 0.",
    "list_type": "{value!r} is not a valid value for '{path}'. Write a list of width and height, as in [512, 320].",
    "too_short": "{value!r} is not a valid value for '{path}'. Write a list of width and height, as in [512, 320].",
    "too_long": "{value!r} is not a valid value for '{path}'. Write a list of width and height, as in [512, 320].",
    "model_type": "{value!r} is not a valid value for '{path}'. Make it a table of its own, [{path}].",
    "dict_type": "{value!r} is not a valid value for '{path}'. Make it a table of its own, [{path}].",
}
"""What is said of a value that pydantic refuses, by the kind of error."""


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Component(_Table):
    """A component, as in ModelSpec."""

    repo: str
    folder: str = ""
    file: str = ""
    revision: str = "main"
    variant: str = ""
    licence: str = "of its owner"
    bytes: int = 0
    size: Annotated[list[PositiveInt], Field(min_length=2, max_length=2)] | None = None
    num_frames: PositiveInt | None = None

    def spec(self, key: str, kind: str, **inherited: Any) -> ModelSpec:
        """The component as an entry of the catalog; what is not written is inherited, where there is anything."""
        facts = {"licence": self.licence, **inherited, **self.model_dump(exclude_unset=True, exclude={"like"})}
        if self.size is not None:
            facts["size"] = tuple(self.size)
        return ModelSpec(key=key, kind=kind, **facts)


class Video(Component):
    """A video model, shaped like one there is."""

    like: str


class FamilyTable(_Table):
    """A family like one there is, or additions to one; networks stand in a table for each kind, as `controlnets`."""

    like: str | None = None
    title: str | None = None
    base_model: str = ""
    loras: str = ""
    embeddings: str = ""
    image_models: dict[str, Component] = {}
    video_models: dict[str, Video] = {}


def read_catalog(path: Path, families: Mapping[str, Family]) -> dict[str, Family]:
    """The families that a catalog file of one's own adds or changes.

    ```toml
    [families.dreams]                      # a new family, like one there is
    like = "sd15"
    title = "My dreams"
    base_model = "owner/name"              # a repository, a folder, or a file of weights
    loras = "style.safetensors:0.8"
    [families.sd15.controlnets.sketchy]    # another network of a family there is
    repo = "owner/name"                    # with file = "name.safetensors" where it lies in one file
    [families.dreams.image_models.inpainting]   # its own U-Net, which the base model does not reach
    repo = "owner/name"
    [families.sd15.video_models.mine]      # another video model, shaped like one there is
    like = "zeroscope"
    repo = "owner/name"
    size = [512, 320]
    num_frames = 16
    ```

    Raises:
        InputError: the file cannot be read, or one of its values cannot be used; the message names it by its path.
    """
    steered = {image_model: record.steering for image_model, record in IMAGE_MODELS.items() if record.steering}
    groups: Any = {f"{kind}s": (dict[str, Component], {}) for kind in steered.values()}
    family_table: Any = create_model("Family", __base__=FamilyTable, **groups)
    families_of_file: Any = dict[str, family_table]
    file: Any = create_model("File", __base__=_Table, families=(families_of_file, {}))
    try:
        content = tomllib.loads(path.read_text("utf-8"))
        tables: dict[str, FamilyTable] = file.model_validate(content).families
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(f"The catalog file '{path}' cannot be read: {error}. Correct it, or remove it.") from error
    except ValidationError as error:
        raise InputError(f"In the catalog file '{path.name}', {_refusal(error, file)}") from None
    return {name: _family(name, table, steered, families) for name, table in tables.items()}


def _refusal(error: ValidationError, table: type[BaseModel]) -> str:
    """What is wrong with the first value that cannot be used, by its path, and what to write there."""
    first = error.errors()[0]
    place = ".".join(map(str, first["loc"]))
    sentence = _SENTENCES.get(first["type"], "{value!r} is not a valid value for '{path}': {said}.")
    known = ", ".join(_known(table, first["loc"][:-1]))
    return sentence.format(path=place, value=first["input"], known=known, said=first["msg"])


def _known(table: type[BaseModel], place: tuple[int | str, ...]) -> list[str]:
    """The keys of the table at a path; steps that are names of one's own lead to no other kind of table."""
    for step in place:
        field = table.model_fields.get(str(step))
        inner = get_args(field.annotation) if field else ()
        table = next((each for each in inner if isinstance(each, type) and issubclass(each, BaseModel)), table)
    return sorted(table.model_fields)


def _family(name: str, table: FamilyTable, steered: Mapping[str, str], families: Mapping[str, Family]) -> Family:
    like = table.like or name
    if like not in families:
        raise InputError(
            f"In the catalog file, '{like}' is not a valid value for 'families.{name}.like'. "
            f"Use one of: {', '.join(families)}."
        )
    family = families[like]
    networks = dict(family.networks)
    for image_model, kind in steered.items():
        added = {
            control_type: component.spec(f"{name}/{kind}-{control_type}", kind)
            for control_type, component in getattr(table, f"{kind}s").items()
        }
        networks[image_model] = {**networks.get(image_model, {}), **added}
    own = {key for key, record in IMAGE_MODELS.items() if record.denoiser == "own"}
    if table.base_model:  # nothing of it reaches these, and nobody should take the usual ones for it
        networks = {key: each for key, each in networks.items() if key not in own}
    networks |= {key: {OWN_UNET: _own_unet(name, key, unet, own)} for key, unet in table.image_models.items()}
    videos = {key: _video(f"{name}/{key}", video, family) for key, video in table.video_models.items()}
    family = replace(
        family, title=table.title or (family.title if like == name else name), networks=networks,
        video_models={**family.video_models, **videos},
    )  # fmt: skip
    return with_base(family, table.base_model, parse_loras(table.loras), parse_list(table.embeddings))


def _own_unet(family: str, image_model: str, table: Component, known: Collection[str]) -> ModelSpec:
    if image_model not in known:
        raise InputError(
            f"In the catalog file, 'families.{family}.image_models.{image_model}' is not known: these have a U-Net of "
            f"their own: {', '.join(sorted(known))}."
        )
    return table.spec(f"{family}/{image_model}", "unet", folder="" if table.file else "unet")


def _video(key: str, table: Video, family: Family) -> VideoModel:
    if table.like not in family.video_models:
        raise InputError(
            f"In the catalog file, '{table.like}' is not a valid value for `like` of '{key}'. "
            f"Use one of: {', '.join(family.video_models)}."
        )
    model = family.video_models[table.like]
    old = model.unet
    inherited = {name: getattr(old, name) for name in ("folder", "also", "file", "size", "num_frames", "max_frames")}
    unet = table.spec(key, old.kind, **inherited)
    if old.base is not None:
        return replace(model, unet=replace(unet, base=old.base))
    # What it took from elsewhere, its like takes from there, too.
    found = {name: getattr(model, name) for name in ("text_encoder", "tokenizer", "scheduler", "vae")}
    parts = {
        name: replace(
            part, key=f"{key}-{name}", repo=unet.repo, revision=unet.revision, file=unet.file if part.file else ""
        )
        for name, part in found.items()
        if part is not None and part.repo == old.repo
    }
    return replace(model, unet=unet, **parts)
