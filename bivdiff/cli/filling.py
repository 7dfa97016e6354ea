"""The form that the flags fill in."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from bivdiff.catalog.image_models import IMAGE_MODELS
from bivdiff.catalog.tasks import TASKS
from bivdiff.cli.flags import (
    CONTROL_DEFAULTS,
    CONTROL_FLAGS,
    MASK_FLAGS,
    REQUEST_FLAGS,
    SOURCE_FLAGS,
    changes_of,
    flag_of,
)
from bivdiff.cli.output import note
from bivdiff.compare.axes import read_values
from bivdiff.errors import InputError
from bivdiff.fields import table
from bivdiff.media.targets import Targets
from bivdiff.studio.form import CanvasForm, Form, MaskForm, SourceForm
from bivdiff.types import Control, GenerationRequest


def form_of(args: argparse.Namespace) -> Form:
    """What the flags of a command with a source clip describe.

    Raises:
        InputError: there are not as many values as controls.
    """
    return Form(
        task=args.task, family=args.family, prompt=args.prompt, settings=changes_of(args),
        source=SourceForm(video=args.video, **_filled(args, SOURCE_FLAGS)), masks=MaskForm(**_filled(args, MASK_FLAGS)),
        canvas=CanvasForm(extend=args.extend), controls=controls_of(args) or (), maps=tuple(args.control_video or ()),
    )  # fmt: skip


def targets_of(args: argparse.Namespace) -> Targets:
    """What a command may write, whose flags name what it reads."""
    inputs = {"the source clip": args.video, "the mask": args.mask, "a control map": args.control_video}
    return Targets(inputs, args.force)


def controls_of(args: argparse.Namespace) -> tuple[Control, ...] | None:
    """The controls that the flags describe, one for each control type, without their maps; None where a task has none.

    Raises:
        InputError: a number is given neither once nor once for each of them, or is out of range.
    """
    if not TASKS[args.task].is_steered:
        return None
    count = len(args.control_type)
    columns = {field: getattr(args, flag) for flag, field in CONTROL_FLAGS.items()}
    if any(len(values) not in {1, count} for values in columns.values()):
        raise InputError(f"{count} control types need as many strengths, starts and ends, or one for all.")
    return tuple(
        Control(control_type=kind, **{name: values[at % len(values)] for name, values in columns.items()})
        for at, kind in enumerate(args.control_type)
    )


def note_unread(args: argparse.Namespace, request: GenerationRequest) -> None:
    """Say which flags were given and change nothing, since nothing in a run of the request reads them."""
    from bivdiff.bridge.inputs import fields_read

    model, read = IMAGE_MODELS[request.image_model], fields_read(request.image_model)
    unread = [name for name in REQUEST_FLAGS if getattr(args, name) is not None and name not in read]
    masks = TASKS[request.task].masks
    if masks != "drawn":
        entries = table(MaskForm)
        unread += [name for name, field in MASK_FLAGS.items() if getattr(args, name) != entries[field].default]
    if masks != "canvas" and args.extend != CanvasForm.extend:
        unread.append("extend")
    if not model.reads_controls:
        unread += [name for name, usual in CONTROL_DEFAULTS.items() if getattr(args, name) != usual]
    if unread:
        flags = ", ".join(map(flag_of, unread))
        made = f" with {model.title}" if model.makes_frames else ""
        note(f"Not read in the task '{request.task}'{made}, so without effect: {flags}.")


def _filled(args: argparse.Namespace, flags: dict[str, str]) -> dict[str, Any]:
    return {field: getattr(args, flag) for flag, field in flags.items()}


def varied(given: Sequence[str], axes: Mapping[str, list[Any]] = MappingProxyType({})) -> dict[str, list[Any]]:
    """The values of each setting that `--vary FIELD=V1,V2,...` names, added to those that it has already.

    Raises:
        InputError: one is no setting with values.
    """
    found = dict(axes)
    for each in given:
        name, has_values, values = each.partition("=")
        if not has_values:
            raise InputError(
                f"'{each}' is not a valid value for --vary. Use a setting and its values, such as seed=1,2."
            )
        name = name.strip().replace("-", "_")
        found[name] = [*found.get(name, []), *read_values(name, values)]
    return found
