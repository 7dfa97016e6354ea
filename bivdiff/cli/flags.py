"""The flags that several commands share, made of the table of fields, and what they give a request."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from bivdiff.catalog.families import FAMILIES, list_control_types
from bivdiff.catalog.image_models import IMAGE_MODELS
from bivdiff.catalog.requests import preset_of
from bivdiff.catalog.tasks import TASKS
from bivdiff.cli.arguments import as_path
from bivdiff.fields import Entry, table
from bivdiff.studio.form import CanvasForm, MaskForm, SourceForm
from bivdiff.types import Control, GenerationRequest

REQUEST_FLAGS: Mapping[str, Entry] = {
    name: entry
    for name, entry in table(GenerationRequest).items()
    if entry.kind != "pictures" and name not in {"prompt", "task", "family", "image_model", "video_model"}
}
"""Flags that bear the names of fields of a request. None, their default, leaves what the task starts with alone."""

SOURCE_FLAGS = {
    "start": "start", "frame_stride": "stride", "num_frames": "num_frames", "fps": "fps", "fit": "fit", "size": "size",
    "turn_maps": "turn_maps", "sound": "sound",
}  # fmt: skip
"""Flags that fill in a SourceForm, and the fields that they fill in."""

MASK_FLAGS = {
    "mask": "clip", "black_regenerates": "black_regenerates", "track": "track", "box": "boxes", "color_key": "color",
    "tolerance": "tolerance", "grow": "grow",
}  # fmt: skip
"""Flags that fill in a MaskForm, and the fields that they fill in."""

CONTROL_FLAGS = {
    "controlnet_conditioning_scale": "conditioning_scale", "control_start": "start", "control_end": "end",
}  # fmt: skip
"""Flags that make the controls, one value for each of them or one for all, and the fields of Control."""


CONTROL_DEFAULTS: Mapping[str, Any] = {
    "control_type": [table(Control)["control_type"].default],
    "control_video": None,
    **{name: [table(Control)[field].default] for name, field in CONTROL_FLAGS.items()},
}
"""What the flags of the controls are where nobody gives them."""


def add_request_flags(parser: argparse.ArgumentParser) -> None:
    """The flags of the request's own fields, and --json."""
    entries = table(GenerationRequest)
    video_models = [name for item in FAMILIES.values() for name in item.video_models]
    parser.add_argument("--task", choices=TASKS, default="control", help=help_of(entries["task"], "control"))
    parser.add_argument("--family", choices=FAMILIES, default="toybox", help=help_of(entries["family"], "toybox"))
    parser.add_argument("--image-model", choices=IMAGE_MODELS, help=help_of(entries["image_model"], "the task's first"))
    parser.add_argument(
        "--video-model", choices=video_models, help=help_of(entries["video_model"], "the family's first")
    )
    presets = sorted({name for item in FAMILIES.values() for name in item.other_presets})
    parser.add_argument(
        "--preset", choices=presets, help="settings to start from instead of the task's own; flags go over them"
    )
    controls = table(Control)
    kind = controls["control_type"]
    parser.add_argument(
        "--control-type", choices=list_control_types(), nargs="+", default=[kind.default],
        help=help_of(kind, kind.default),
    )  # fmt: skip
    for name, field in CONTROL_FLAGS.items():
        _add_flag(parser, name, controls[field], nargs="+", default=[controls[field].default])
    request = parser.add_argument_group("the request")
    for name, entry in REQUEST_FLAGS.items():
        _add_flag(request, name, entry, default=None, help=help_of(entry, _usual(entry)) + _only(name))
    parser.add_argument("--json", action="store_true", help="print the report as JSON")


def add_force_flag(parser: argparse.ArgumentParser) -> None:
    """The flag that lets a command write over what is there."""
    parser.add_argument(
        "--force", action="store_true", help="write over files that are there already; never over an input"
    )


def add_source_flags(parser: argparse.ArgumentParser, *, sound: bool = True) -> None:
    """The flags that say which part of a source is used, and how: trim, size, control maps, masks.

    Args:
        parser: of a command.
        sound: whether the command can write the source's sound; if not, it has no flag for it.
    """
    source, masks = table(SourceForm), table(MaskForm)
    trim = parser.add_argument_group("the source clip")
    for name, field in SOURCE_FLAGS.items():
        if name == "sound" and not sound:
            parser.set_defaults(sound=False)
        else:
            _add_flag(trim, name, source[field])
    trim.add_argument("--control-video", type=as_path, nargs="+", metavar="MAP", help=help_of(table(Control)["frames"]))
    trim.add_argument(
        "--fit-memory", action="store_true", help="make the request fit into the memory, and say what was changed"
    )
    inpainting = parser.add_argument_group("what inpainting makes anew; several ways add up")
    for name, field in MASK_FLAGS.items():
        if masks[field].kind == "switch":
            inpainting.add_argument(flag_of(name), action="store_true", help=help_of(masks[field]))
        else:
            _add_flag(inpainting, name, masks[field])
    _add_flag(parser.add_argument_group("outpainting"), "extend", table(CanvasForm)["extend"])


def _add_flag(parser: argparse._ActionsContainer, name: str, entry: Entry, **options: Any) -> None:
    """Add the flag of one field: its type, its choices, its default and its help are those of the table."""
    default = {"default": entry.default, "help": help_of(entry, entry.default)}
    kinds: dict[str, dict[str, Any]] = {
        "number": {"type": int, "metavar": "N"} if entry.whole else {"type": float, "metavar": "X"},
        "text": {"type": str, "metavar": "TEXT"},
        "choice": {"choices": tuple(entry.choices or ())},
        "switch": {"action": argparse.BooleanOptionalAction},
        "pictures": {"type": as_path, "metavar": "FILE"},
    }
    parser.add_argument(flag_of(name), **{**kinds[entry.kind], **default, **options})


def help_of(entry: Entry, default: Any = None) -> str:
    """The words of a field, its bounds, and what it is where the flag is not given."""
    words = f"{entry.label}: {entry.info[0].lower()}{entry.info[1:]}"
    words += "".join(f"; with {flag_of(entry.depends_on)} {key}, {more}" for key, more in (entry.infos or {}).items())
    known = [entry.bounds if entry.kind == "number" else ""]
    known += [f"default: {_in_words(default)}"] if default not in {None, ""} else []
    said = "; ".join(part for part in known if part)
    return (f"{words} ({said})" if said else words).replace("%", "%%")


def _usual(entry: Entry) -> Any:
    """The default of a request's field, over which a task may have its own."""
    if entry.default in {None, ""}:
        return None
    return f"{_in_words(entry.default)}, or what the task starts with"


def _in_words(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _only(name: str) -> str:
    """Which image models alone read a field, in words."""
    titles = [model.title for model in IMAGE_MODELS.values() if name in model.settings]
    return f"; for {' and '.join(titles)} alone" if titles else ""


def flag_of(name: str) -> str:
    """The flag that bears a field's name: --mixing-ratio for mixing_ratio."""
    return f"--{name.replace('_', '-')}"


def changes_of(args: argparse.Namespace) -> dict[str, Any]:
    """The request's fields as the flags give them; None leaves the task's default alone.

    Raises:
        InputError: the family has no such preset.
    """
    changes = {name: getattr(args, name) for name in ("image_model", "video_model", *REQUEST_FLAGS)}
    if args.preset is not None:
        image_model = args.image_model or TASKS[args.task].image_models[0]
        preset = preset_of(args.preset, args.task, image_model, args.family)
        changes |= {name: value for name, value in preset.items() if changes[name] is None}
    as_none = {name: entry.none_as for name, entry in REQUEST_FLAGS.items() if entry.none_as is not None}
    return {name: None if name in as_none and value == as_none[name] else value for name, value in changes.items()}
