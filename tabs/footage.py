"""What a clip of one's own holds, and what is used of it: said before a run, and not after."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr

from bivdiff.catalog.families import family_named
from bivdiff.media.reading import ClipInfo, probe, read_clip
from bivdiff.media.sheets import sprite_sheet
from bivdiff.pixels.canvas import parse_size
from bivdiff.studio.limits import check_request
from bivdiff.units import say_seconds
from tabs.binding import Values, bind
from tabs.context import AppContext
from tabs.events import PRIVATE, QUICK, READING
from tabs.requests import ReadJob, whole
from tabs.task_tab import TaskTab

THUMBS = 7
THUMB_HEIGHT = 44  # pixels
QUALITY = 70
TRIM = ("start", "stride", "num_frames", "fps", "fit", "size")
COSTLY = ("image_model", "video_model", "num_inference_steps", "num_inversion_steps", "num_smoothing_steps")
"""Controls that decide most of how long a run takes."""


def wire_footage(context: AppContext, strip: gr.HTML, built: TaskTab, watched: Sequence[str]) -> None:
    """Show what an upload holds whenever it, or what is made of it, changes; its buttons set the source's controls.

    Args:
        context: knows how long a run takes.
        strip: shows it.
        built: the tab that has the upload.
        watched: further controls of its source.
    """
    controls = built.controls
    names = [name for name in dict.fromkeys((*TRIM, *COSTLY, *watched)) if name in controls]
    video, show = controls["video"], bind(partial(show_footage, context, built.read), controls)
    changes = [video.upload, video.clear, video.change, *(controls[name].change for name in names)]
    gr.on(changes, show, list(controls.values()), strip, trigger_mode="always_last", show_progress="hidden",
          **READING, **PRIVATE)  # fmt: skip
    set_by = [name for name in ("start", "stride", "num_frames") if name in controls]
    strip.trim(partial(_set, set_by), strip, [controls[name] for name in set_by], **QUICK, **PRIVATE)


def _set(names: Sequence[str], shown: Mapping[str, Any] | None) -> Any:
    """What the strip asks for, for the controls of the source; the others stay."""
    asked = (shown or {}).get("asked") or {}
    updates = [gr.update(value=asked[name]) if name in asked else gr.skip() for name in names]
    return updates if len(updates) > 1 else updates[0]


def show_footage(context: AppContext, read: ReadJob, values: Values) -> Iterator[dict[str, Any] | None]:
    """The strip's value at once, and again with how long the whole clip takes, where that can be said."""
    shown = footage_value(context, values)
    yield shown
    if shown is None or not any(offer["takes"] for offer in shown["offers"]):
        return
    try:
        request = read(context, values).request
        check_request(request, context.settings)  # what is expected is looked up in the models that it names
        seconds = {offer["words"]: context.expected_seconds(request, offer["set"]["num_frames"])
                   for offer in shown["offers"] if offer["takes"]}  # fmt: skip
    except Exception:  # noqa: BLE001 - whoever presses Generate is told what is missing
        return
    yield {**shown, "offers": [_timed(offer, seconds.get(offer["words"])) for offer in shown["offers"]]}


def _timed(offer: dict[str, Any], seconds: float | None) -> dict[str, Any]:
    return offer if seconds is None else {**offer, "takes": f"about {say_seconds(seconds)}"}


def footage_value(context: AppContext, values: Values) -> dict[str, Any] | None:
    """The strip's value: what the clip holds and what is used of it, in words, in thumbnails, and what else there is.

    None where there is no clip of one's own, or none that can be read: the preview says why.
    """
    video = values.get("video")
    if not video:
        return None
    try:
        with context.decoding():
            info = probe(video, fps=values.get("fps") or None)
            start, stride, count = _part(context, values, info)
            thumbs = _thumbs(Path(video), info)
    except Exception:  # noqa: BLE001 - the preview of the same clip says what is wrong with it
        return None
    first = math.ceil(start * info.fps - 1e-6)
    last = min(first + (count - 1) * stride, info.num_frames - 1)
    used = (last - first) // stride + 1
    width, height = _target(context, values)
    return {
        "holds": f"{Path(video).name}: {_frames(info.num_frames)}, {info.duration:.1f} s at {info.fps:g} fps, "
                 f"{info.width} by {info.height}.",
        "says": f"Used: {_span(first, last, stride, used)}, {_shaped(info, width, height, values.get('fit'))}.",
        "thumbs": thumbs, "seconds": info.duration, "used": [start, (last + 1) / info.fps],
        "kept": _kept(info, width, height) if values.get("fit") != "pad" else None, "bars": values.get("fit") == "pad",
        "offers": _offers(context, info, used, stride, count),
    }  # fmt: skip


def _part(context: AppContext, values: Values, info: ClipInfo) -> tuple[float, int, int]:
    """Start in seconds, stride, and how many frames are asked for."""
    usual = family_named(context.family).num_frames
    start = min(float(values.get("start") or 0), info.duration)
    return start, int(whole(values.get("stride")) or 1), int(whole(values.get("num_frames")) or usual)


def _target(context: AppContext, values: Values) -> tuple[int, int]:
    """Width and height that the models get; the family's where none is chosen."""
    size = str(values.get("size") or "")
    return parse_size(size) if size else family_named(context.family).size


def _frames(count: int) -> str:
    return f"{count:,} frame" if count == 1 else f"{count:,} frames"


def _span(first: int, last: int, stride: int, used: int) -> str:
    if used == 1:
        return f"frame {first + 1}"
    every = "" if stride == 1 else f", every {stride}{ {2: 'nd', 3: 'rd'}.get(stride, 'th') }"
    return f"{_frames(used)}, {first + 1} to {last + 1}{every}"


def _shaped(info: ClipInfo, width: int, height: int, fit: Any) -> str:
    if abs(info.width * height - info.height * width) < max(width, height):
        return f"at {width} by {height}"
    cut = "the sides" if info.width * height > info.height * width else "top and bottom"
    how = f"with bars at {cut}" if fit == "pad" else f"{cut} cut off"
    return f"{how}, at {width} by {height}"


def _kept(info: ClipInfo, width: int, height: int) -> list[float] | None:
    """Which share of the picture is kept across and down where it is cropped; None where all is."""
    across = min(1.0, info.height * width / (height * info.width))
    down = min(1.0, info.width * height / (width * info.height))
    return None if min(across, down) > 0.99 else [across, down]


def _offers(context: AppContext, info: ClipInfo, used: int, stride: int, count: int) -> list[dict[str, Any]]:
    """Other parts of the clip that can be used by one press: all frames, or as many as now from all of it."""
    offers, most = [], context.settings.max_frames
    times = info.num_frames / max(used, 1)
    if stride != 1 or used < info.num_frames:
        if not most or info.num_frames <= most:
            takes = f"about {times:.0f} times as long" if times >= 1.5 else ""
            offers.append({
                "words": f"Use all {info.num_frames} frames", "takes": takes,
                "set": {"start": 0, "stride": 1, "num_frames": info.num_frames},
            })  # fmt: skip
        spread = max(1, info.num_frames // count)
        if spread != stride and spread > 1:
            words = f"Spread {count} frames over the whole clip"
            offers.append({"words": words, "takes": "", "set": {"start": 0, "stride": spread, "num_frames": count}})
    return offers


def _thumbs(path: Path, info: ClipInfo) -> dict[str, Any]:
    """Frames of the whole clip, small, in one picture."""
    width = max(2, round(THUMB_HEIGHT * info.width / info.height))
    count = min(THUMBS, info.num_frames)
    clip = read_clip(path, stride=max(1, info.num_frames // count), num_frames=count, size=(width, THUMB_HEIGHT))
    return sprite_sheet(clip.frames, lossless=False, quality=QUALITY)
