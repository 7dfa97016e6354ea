"""Every kind of component there is, and how one is read. Importing it loads no model library."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

from bivdiff.catalog.specs import TOYBOX_REPO, ModelSpec
from bivdiff.errors import BIVDiffError, InputError, ModelUnavailableError
from bivdiff.models.architectures import CHANGES, Architecture
from bivdiff.models.loaders import (
    annotators,
    cogvideox,
    control,
    ltx,
    pipelines,
    schedules,
    scoring,
    stable_diffusion,
    t5,
    toybox,
    video,
    wan,
)
from bivdiff.models.loaders.foreign import check_configs
from bivdiff.models.loaders.kind import NOTHING, Footprint, Kind, Source

CONFIG = "config.json"
KINDS: Mapping[str, Kind] = {
    **stable_diffusion.KINDS, **control.KINDS, **pipelines.KINDS, **video.KINDS, **wan.KINDS, **cogvideox.KINDS,
    **ltx.KINDS, **t5.KINDS, **schedules.KINDS, **annotators.KINDS, **scoring.KINDS,
}  # fmt: skip
_FOOTPRINTS: Mapping[str, Footprint] = {**wan.FOOTPRINTS, **cogvideox.FOOTPRINTS}


def footprint_of(spec: ModelSpec) -> Footprint:
    """Of one evaluation of an entry of the catalog: its own where it is of another size than most of its kind."""
    if spec.repo == TOYBOX_REPO:
        return toybox.FOOTPRINTS.get(spec.kind, NOTHING)
    return _FOOTPRINTS.get(spec.key, KINDS[spec.kind].footprint)


def encoding_of(spec: ModelSpec) -> Footprint:
    """Of an autoencoder's other half."""
    if spec.repo == TOYBOX_REPO:
        return toybox.ENCODINGS.get(spec.kind, NOTHING)
    return wan.ENCODINGS.get(spec.key, KINDS[spec.kind].encoding)


def check_config(spec: ModelSpec, root: Path) -> None:
    """Refuse a component whose config says that it is another, whatever of its weights is there.

    Args:
        spec: the component.
        root: of the folder that its config lies in, in its repository's layout.

    Raises:
        ModelUnavailableError: it does.
    """
    kind = KINDS[spec.kind]
    if kind.check is None:
        return
    for folder in (spec.folder, *spec.also):
        try:
            path = root / folder / (schedules.SCHEDULER if kind.holds == "schedule" else CONFIG)
            config = {**json.loads(path.read_text("utf-8")), **dict(spec.config)}
        except (OSError, ValueError, TypeError):
            continue  # whoever loads the component says what is wrong with it
        try:
            kind.check(config)
        except ValueError as error:
            raise ModelUnavailableError(
                f"The model '{spec.repo}/{folder}' cannot be used as {spec.kind}: {error} Choose another repository or "
                "folder."
            ) from error


def load_component(source: Source) -> Any:
    """Load a component on the CPU, ready to infer.

    Raises:
        ModelUnavailableError: what the files hold is broken, of another architecture, or asks for code from elsewhere.
    """
    from safetensors import SafetensorError
    from torch import nn

    # What the libraries raise for files that are damaged, or not what they are taken for.
    unreadable = (
        OSError, EOFError, ValueError, RuntimeError, LookupError, TypeError, AttributeError, UnpicklingError,
        SafetensorError,
    )  # fmt: skip
    spec = source.spec
    kind = KINDS[spec.kind]
    check_config(spec, source.root)
    for folder in (spec.folder, *spec.also):
        part = source._replace(spec=replace(spec, folder=folder))
        check_configs(part, of_all_folders=kind.holds == "pipeline")
    try:
        component = kind.load(source)
    except BIVDiffError:
        raise
    except unreadable as error:
        reason = (str(error).strip() or type(error).__name__).split("\n")[0]
        raise ModelUnavailableError(
            f"The model '{spec.place}' could not be loaded as {spec.kind}: {reason} "
            f"The files in {source.root} are incomplete or of another architecture; fetch them again."
        ) from error
    return component.eval().requires_grad_(False) if isinstance(component, nn.Module) else component


def architecture_of(spec: ModelSpec) -> Architecture:
    """The class and config of an entry of the catalog; of a motion adapter the adapter's, without its image model.

    Raises:
        InputError: it is none of the real networks whose shapes are known here.
    """
    usual = KINDS[spec.kind].architecture if spec.kind in KINDS else None
    if spec.repo == TOYBOX_REPO or usual is None:
        raise InputError(
            f"The shape of '{spec.key}' is not known here, so it cannot be built without its files. Choose other "
            "models, or leave random weights."
        )
    return usual._replace(config={**usual.config, **CHANGES.get(spec.key, {})})
