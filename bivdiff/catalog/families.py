"""The families of models there are, those of a catalog file of one's own among them."""

from __future__ import annotations

from pathlib import Path

from bivdiff.catalog.image_models import IMAGE_MODELS
from bivdiff.catalog.own import with_own_base
from bivdiff.catalog.sd15 import SD15
from bivdiff.catalog.specs import Family
from bivdiff.catalog.toybox import TOYBOX
from bivdiff.errors import InputError
from bivdiff.types import GenerationRequest

FAMILIES: dict[str, Family] = {"toybox": TOYBOX, "sd15": SD15}


def extend(path: Path) -> None:
    """Add the families of a catalog file of one's own, see `own_catalog.read_catalog`, or change those there are.

    Raises:
        InputError: the file cannot be read, or one of its values cannot be used.
    """
    from bivdiff.catalog.own_catalog import read_catalog  # few have such a file, and pydantic takes its time

    FAMILIES.update(read_catalog(path, FAMILIES))


def family_named(name: str) -> Family:
    """The family of that name.

    Raises:
        InputError: there is none; the message lists those there are.
    """
    if name not in FAMILIES:
        raise InputError(f"Unknown family '{name}'. Choose one of: {', '.join(FAMILIES)}.")
    return FAMILIES[name]


def control_types_of(image_model: str, family_name: str) -> tuple[str, ...]:
    """The control types that an image model may be asked for; of a pipeline, which no family knows, all of the family.

    Args:
        image_model: key of `IMAGE_MODELS`, of one that reads controls.
        family_name: key of `FAMILIES`.
    """
    family = family_named(family_name)
    steered = [name for name, model in IMAGE_MODELS.items() if model.steering]
    asked = steered if IMAGE_MODELS[image_model].pipeline else [image_model]
    return tuple(dict.fromkeys(kind for name in asked for kind in family.networks_of(name)))


def list_control_types() -> list[str]:
    """Every control type that some family has a network for, sorted."""
    steered = [name for name, model in IMAGE_MODELS.items() if model.steering]
    return sorted({kind for family in FAMILIES for name in steered for kind in control_types_of(name, family)})


def models_for(request: GenerationRequest) -> Family:
    """The family of a request, with the request's own base model in the place of the family's."""
    return with_own_base(family_named(request.family), request)
