"""Which settings can be compared, how they are named, and in what order their values are made."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from typing import Any

from bivdiff.bridge.inputs import framewise_inputs
from bivdiff.catalog.families import models_for
from bivdiff.catalog.image_models import IMAGE_MODELS, frames_name, title_of
from bivdiff.errors import InputError
from bivdiff.fields import table
from bivdiff.types import MAX_AXES, GenerationRequest

AXES: Mapping[str, str] = {
    "mixing_ratio": "ratio",
    "frame_prior": "frame noise",
    "mixing_rule": "rule",
    "start_level": "start level",
    "video_model": "video model",
    "frame_attention": "shared look",
    "smoothing_guidance_scale": "smoothing guidance",
    "num_smoothing_steps": "smoothing steps",
    "seed": "seed",
    "guidance_scale": "guidance",
}
"""Settings that can be compared, and what they are called beside a cell."""

MAX_CELLS = 64
MAKE_FRAMES = ("seed", "guidance_scale", "frame_attention")
"""Their values have frames of their own."""
EARLY = ("video_model", *MAKE_FRAMES, "start_level")  # a value's cells are made together, so that nothing is made twice
BLENDED = ("mixing_ratio", "mixing_rule", "frame_prior", *MAKE_FRAMES)  # they end with the blend that is smoothed
_UNORDERED = ("mixing_rule", "frame_prior", "frame_attention", "video_model", "seed")  # their values have no extremes


def label_of(values: Mapping[str, Any]) -> str:
    """Values of settings in words, as they stand beside a clip."""
    return ", ".join(f"{AXES[name]} {say(value)}" for name, value in values.items())


def values_of_cells(axes: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """The values of each cell of a comparison, in their order."""
    return [dict(zip(axes, cell, strict=True)) for cell in product(*axes.values())]


def making_frames(values: Mapping[str, Any]) -> dict[str, Any]:
    """Of a cell's values those that its frames depend on."""
    return {name: value for name, value in values.items() if name in MAKE_FRAMES}


def before_name(image_model: str, values: Mapping[str, Any]) -> str:
    """What the frames are called that the cell with these values is made of."""
    return ", ".join(filter(None, [frames_name(image_model), label_of(making_frames(values))]))


def before_places(axes: Mapping[str, Sequence[Any]]) -> list[int]:
    """For each cell which of the comparison's frames before the bridge it is made of, counted from 0."""
    keys = [tuple(making_frames(values).values()) for values in values_of_cells(axes)]
    places = {key: place for place, key in enumerate(dict.fromkeys(keys))}
    return [places[key] for key in keys]


def before_names(image_model: str, axes: Mapping[str, Sequence[Any]]) -> list[str]:
    """What a comparison's frames before the bridge are called, by their places."""
    cells, places = values_of_cells(axes), before_places(axes)
    return [before_name(image_model, cells[places.index(place)]) for place in dict.fromkeys(places)]


def clip_names(image_model: str, mixing_ratio: float) -> list[str]:
    """What the clips of a single run are called in its figure and on its contact sheet: source, frames, bridged."""
    frames = frames_name(image_model).lower()
    source = ["source"] if IMAGE_MODELS[image_model].makes_frames else []
    return [*source, frames, f"bridged, ratio {mixing_ratio:g}"]


def framewise_file(place: int) -> str:
    """What those frames are called among the comparison's files."""
    return f"framewise {place + 1}" if place else "framewise"


def say(value: Any) -> str:
    """A value of a setting in a few characters."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def read_values(name: str, text: str) -> list[Any]:
    """The values of a setting that are written between commas, each once.

    Raises:
        InputError: one of them is no number, where the setting wants numbers.
    """
    entry = table(GenerationRequest).get(name)
    kind: type = str
    if entry is not None and entry.kind == "number":
        kind = int if entry.whole else float
    parts = [part.strip() for part in text.split(",") if part.strip()]
    return list(dict.fromkeys(_read_value(name, part, kind) for part in parts))


def _read_value(name: str, text: str, kind: type) -> Any:
    try:
        return kind(text)
    except ValueError:
        wanted = "whole numbers between commas, such as 1, 2" if kind is int else "numbers between commas, as in 0.5, 1"
        raise InputError(f"'{text}' is not a valid value for {name}. Use {wanted}.") from None


def check_axes(request: GenerationRequest, axes: Mapping[str, Sequence[Any]]) -> None:
    """Hold that a request can be compared over the axes.

    Raises:
        InputError: a setting cannot be compared, a value is out of range, or there are too many.
    """
    if not 1 <= len(axes) <= MAX_AXES:
        raise InputError(f"One or two settings can be compared at a time; got {len(axes)}. Fix the others.")
    title, read = title_of(request.image_model), framewise_inputs(request.image_model).fields
    for name, values in axes.items():
        if name in MAKE_FRAMES and name not in read:
            raise InputError(f"'{name}' changes nothing here: {title} does not read it. Compare another setting.")
        if name not in AXES:
            raise InputError(f"The setting '{name}' cannot be compared. Choose one of: {', '.join(AXES)}.")
        if not values:
            raise InputError(f"There is no value of '{name}' to compare. Give at least one.")
    cells = math.prod(len(values) for values in axes.values())
    if cells > MAX_CELLS:
        raise InputError(f"{cells} clips are more than the {MAX_CELLS} that are compared at once. Give fewer values.")
    known = models_for(request).video_models
    for video_model in axes.get("video_model", ()):
        if video_model not in known:
            raise InputError(f"Unknown video model '{video_model}'. Choose one of: {', '.join(known)}.")
    for values in product(*axes.values()):
        replace(request, **dict(zip(axes, values, strict=True)))  # which refuses what is out of range


def order_of(axes: Mapping[str, Sequence[Any]]) -> list[tuple[Any, ...]]:
    """The cells in the order in which they are made, each as its values.

    Extremes come first, then the middle of the widest gap, again and again; in a grid the corners come first. Settings
    that change the frames themselves, or the video model, are the exception: one of their values is finished after the
    other, in the order given, so that nothing is made twice or loaded twice.
    """
    names = list(axes)
    places = {name: {value: place for place, value in enumerate(_extremes_first(name, axes[name]))} for name in names}

    def turn(cell: tuple[Any, ...]) -> tuple[Any, ...]:
        ranks = {name: places[name][value] for name, value in zip(names, cell, strict=True)}
        early = tuple(ranks[name] for name in EARLY if name in ranks)
        late = tuple(rank for name, rank in ranks.items() if name not in EARLY)
        return early, max(late, default=0), late

    return sorted(product(*axes.values()), key=turn)


def _extremes_first(name: str, values: Sequence[Any]) -> list[Any]:
    if name in _UNORDERED or len(values) < 3:
        return list(values)
    left = sorted(values)
    chosen = [left.pop(0), left.pop()]
    while left:
        # Of several equal gaps the lower one, so that the order does not depend on rounding.
        farthest = max(left, key=lambda value: (round(min(abs(value - other) for other in chosen), 9), -value))
        left.remove(farthest)
        chosen.append(farthest)
    return chosen
