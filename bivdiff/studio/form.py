"""A filled-in form as a request, read alike for the page and the command line. Not here: decoding (see media)."""

from __future__ import annotations

import base64
import binascii
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bivdiff.catalog.families import family_named
from bivdiff.catalog.requests import default_request
from bivdiff.catalog.tasks import task_named
from bivdiff.errors import InputError, quoted_name
from bivdiff.fields import choice, count, number, pictures, switch, table, text
from bivdiff.media.reading import Clip, open_source, read_beside, read_clip, read_mask, sound_of
from bivdiff.media.sound import Sound
from bivdiff.media.source import LIMITS, Source
from bivdiff.media.writing import MAX_FPS
from bivdiff.pixels import masks as making
from bivdiff.pixels.canvas import Plan, parse_size, plan_canvas
from bivdiff.pixels.tracking import track
from bivdiff.settings import ASSETS
from bivdiff.types import Control, GenerationRequest

PNG = "data:image/png;base64,"
MAX_PAINT_CHARACTERS = 4 * 2**20
SOURCE_KINDS = "Any video, animation or picture; or many pictures: a zip, a folder, a pattern such as 'frames/*.png'"
LINES = ("canny", "lineart", "lineart-anime", "mlsd", "scribble", "sketch", "softedge")
"""Control types whose maps are white lines on black."""

SAMPLES = ASSETS / "clips"
KEPT_SAMPLES, KEPT_BYTES = 32, 2**20  # decoded clips that stay in memory, and how large one is at most

NEARLY_ALL, NEARLY_NOTHING = 0.95, 0.005
"""Shares of a picture that are made anew so seldom that it is told."""


@dataclass(frozen=True, kw_only=True)
class SourceForm:
    """Which clip is used, which part of it, and how it comes to size. What its fields are is said at them."""

    video: Path = field(metadata=pictures("Source clip", SOURCE_KINDS))
    start: float = field(
        default=0.0, metadata=number("Start", "Seconds into the clip", 0, LIMITS.seconds, 0.1, unit="seconds")
    )
    stride: int = field(
        default=1, metadata=count("Every n-th frame", "2 = twice as fast", 1, LIMITS.source_frames, unit="frames")
    )
    num_frames: int | None = field(
        default=None,
        metadata=count(
            "Frames", "As many as the video model was trained with are usual; more take as much longer", 1,
            LIMITS.source_frames, unit="frames", optional=True,
        ),
    )  # fmt: skip
    size: str = field(
        default="",
        metadata=text("Size", "Width and height, such as 576x320; smaller needs less memory; empty = the family's"),
    )
    fps: float = field(
        default=0.0,
        metadata=number(
            "Frames a second", "Of single pictures, which have no rate of their own; 0 = 8, or what their zip says",
            0, MAX_FPS, 0.1, unit="frames a second",
        ),
    )  # fmt: skip
    sound: bool = field(
        default=True, metadata=switch("Sound", "The source's goes into an mp4 of the result, where it has any")
    )
    fit: str = field(
        default="crop", metadata=choice("Made to size", "By cutting off, or by bars", {"crop": "Crop", "pad": "Pad"})
    )
    turn_maps: bool = field(
        default=False,
        metadata=switch("Turn the map round", "For black lines on white: the models know white lines on black"),
    )


@dataclass(frozen=True, kw_only=True)
class MaskForm:
    """What inpainting makes anew; several ways add up. What its fields are is said at them."""

    clip: Path | None = field(
        default=None, metadata=pictures("Mask", "A clip as long as the source, or a picture for all frames")
    )
    black_regenerates: bool = field(
        default=False, metadata=switch("Turn it round", "What the mask marks stays as it is, and the rest is made anew")
    )
    track: bool = field(
        default=False, metadata=switch("Carry over", "The mask's first frame is carried over the others")
    )
    painted: str = field(default="", metadata=pictures("Painted", "A mask of the first frame, carried over the others"))
    boxes: str = field(
        default="",
        metadata=text("Boxes", "Left, top, right, bottom, in pixels or percent; a semicolon between boxes"),
    )
    color: str = field(default="", metadata=text("Colour", "Whatever has about this colour, such as #c03030"))
    tolerance: float = field(
        default=20.0, metadata=number("Tolerance", "Higher takes in more shades", 0, making.MAX_TOLERANCE, 1)
    )
    grow: int = field(
        default=4,
        metadata=count("Grow", "Pixels; below 0 it shrinks", -making.MAX_GROWTH, making.MAX_GROWTH, unit="pixels"),
    )


@dataclass(frozen=True, kw_only=True)
class CanvasForm:
    """How far outpainting extends a clip. What its field is is said at it."""

    extend: str = field(
        default="25%, 0, 25%, 0",
        metadata=text(
            "Extend the picture",
            "Left, top, right, bottom in pixels or percent, one for all sides, or a shape such as 16:9",
        ),
    )


@dataclass(frozen=True, kw_only=True)
class Form:
    """All that somebody filled in to have a clip made.

    Attributes:
        task, family: keys of the catalog.
        prompt: for the image model.
        source, masks, canvas: what is made of files and drawings; a task reads those that it has a use for.
        controls: what to keep of the source, each without its map.
        maps: clips that are the maps of the controls; None where one is drawn from the source.
        settings: other fields of the request; None keeps the default.
    """

    task: str
    family: str
    prompt: str
    source: SourceForm
    masks: MaskForm = MaskForm()
    canvas: CanvasForm = CanvasForm()
    controls: tuple[Control, ...] = ()
    maps: tuple[Path | None, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)


class Pictures(NamedTuple):
    """What a form's files and drawings hold.

    Attributes:
        clip: the source; for outpainting the whole canvas.
        masks: uint8 `(F, H, W)`, 255 = regenerate, for in- and outpainting.
        controls: each with its map, where one was given.
        plan: of the canvas, where one was made.
        notes: what a user should know of them before a run, in sentences.
    """

    clip: Clip
    masks: np.ndarray | None = None
    controls: tuple[Control, ...] = ()
    plan: Plan | None = None
    notes: tuple[str, ...] = ()


class Earlier(NamedTuple):
    """A run that is made again with changes, the frames a second at which its clip plays, and what is heard with it."""

    request: GenerationRequest
    fps: float
    sound: Sound | None = None


def read_form(form: Form, tell: Callable[[str], None] = lambda _: None) -> tuple[GenerationRequest, float]:
    """The request of a form, and the frames a second at which its clip plays. Every file is opened once.

    Args:
        form: what is filled in.
        tell: is given each sentence that a user should know of the files before a run.

    Raises:
        InputError: a value or a file cannot be used.
    """
    found = read_pictures(form)
    for note in found.notes:
        tell(note)
    return request_of(form, found), found.clip.fps


def read_pictures(form: Form, earlier: Earlier | None = None, clip: Clip | None = None) -> Pictures:
    """What the files and drawings of a form hold, as far as its task has a use for them.

    Args:
        form: what is filled in.
        earlier: a run whose pictures stand in for the form's.
        clip: the source, where it is read already.

    Raises:
        InputError: one cannot be used.
    """
    if earlier is not None:
        return _pictures_again(form, earlier)
    made_of = task_named(form.task).masks
    if made_of == "canvas":
        return read_canvas(form.source, form.canvas, form.family)
    clip = read_source(form.source, form.family) if clip is None else clip
    masks, told = read_masks(form.masks, form.source, clip) if made_of == "drawn" else (None, ())
    controls, more = read_controls(form, clip)
    return Pictures(clip, masks, controls, notes=(*clip.notes, *told, *more))


def _pictures_again(form: Form, earlier: Earlier) -> Pictures:
    """An earlier run's pictures: each control keeps the map that it was given then, if it was given one."""
    clip, masks = Clip(earlier.request.frames, earlier.fps), earlier.request.masks
    told: tuple[str, ...] = ()
    if masks is None and task_named(form.task).masks == "drawn":
        masks, told = read_masks(form.masks, form.source, clip)
    maps = {control.control_type: control.frames for control in reversed(earlier.request.controls)}
    controls = tuple(replace(control, frames=maps.get(control.control_type)) for control in form.controls)
    return Pictures(clip, masks, controls, notes=told)


def request_of(form: Form, found: Pictures, earlier: GenerationRequest | None = None) -> GenerationRequest:
    """The request of a form whose pictures are read: what is filled in, over what an earlier run had.

    Args:
        form: what is filled in; a seed or a window that is None is chosen so, any other None is left out.
        found: its pictures, or those of the earlier run.
        earlier: the run that is made again with changes; it keeps what the form says nothing of.

    Raises:
        InputError: a value cannot be used, or something that the task needs is missing.
    """
    fixed = {"frames", "prompt", "task", "family"}
    names = table(GenerationRequest).keys() - fixed
    before = {} if earlier is None else {name: getattr(earlier, name) for name in names}
    given = {
        name: value for name, value in form.settings.items()
        if name in names and (value is not None or name in {"seed", "window"})
    }  # fmt: skip
    read = {"masks": found.masks, "controls": found.controls or None}
    changes = {**before, **given, **{name: value for name, value in read.items() if value is not None}}
    return default_request(form.task, form.family, found.clip.frames, form.prompt, **changes)


def read_source(source: SourceForm, family: str) -> Clip:
    """The part of the source clip that is used, at the size that the form or else the family says.

    A small part of a sample, with which everybody begins, is decoded once.

    Raises:
        InputError: the clip or the size cannot be used.
    """
    models = family_named(family)
    width, height = parse_size(source.size) if source.size else models.size
    count = models.num_frames if source.num_frames is None else source.num_frames
    if SAMPLES not in source.video.parents or not isinstance(count, int) or 3 * width * height * count > KEPT_BYTES:
        return _read_source(source, family)
    clip = read_sample(source, family)
    return clip._replace(frames=clip.frames.copy())


@lru_cache(maxsize=KEPT_SAMPLES)
def read_sample(source: SourceForm, family: str) -> Clip:
    """The part of a sample clip that a request starts from, decoded once; its frames are not to be changed."""
    return _read_source(source, family)


def _read_source(source: SourceForm, family: str) -> Clip:
    models = family_named(family)
    size = parse_size(source.size) if source.size else models.size
    return read_clip(
        source.video, start=source.start, stride=source.stride, size=size, fit=source.fit, fps=source.fps or None,
        num_frames=models.num_frames if source.num_frames is None else source.num_frames,
    )  # fmt: skip


def read_sound_of(source: SourceForm, num_frames: int, fps: float, opened: Source | None = None) -> Sound | None:
    """The sound that goes with the part of the source clip that is used; None where it has none, or none is wanted.

    Args:
        source: which part.
        num_frames, fps: of the clip that was read of it, whose frames keep their times.
        opened: the source's file, where it is open already.

    Raises:
        InputError: the file cannot be used.
    """
    if not source.sound:
        return None
    return sound_of(opened or open_source(source.video, LIMITS), source.start, num_frames / fps)


def read_canvas(source: SourceForm, canvas: CanvasForm, family: str) -> Pictures:
    """The source clip on the canvas that suits the models, and the masks of what is new on it.

    Raises:
        InputError: the clip cannot be used, or the canvas cannot be made.
    """
    models = family_named(family)
    plans: list[Plan] = []

    def inner_size(width: int, height: int) -> tuple[int, int]:
        plans.append(plan_canvas(canvas.extend, width, height, models.size))
        return plans[0].width, plans[0].height

    clip = read_clip(
        source.video, start=source.start, stride=source.stride, size=inner_size, fit=source.fit, fps=source.fps or None,
        num_frames=models.num_frames if source.num_frames is None else source.num_frames,
    )  # fmt: skip
    frames, masks = making.extend_canvas(clip.frames, *plans[0].sides)
    return Pictures(clip._replace(frames=frames), masks, plan=plans[0], notes=clip.notes)


def read_masks(form: MaskForm, source: SourceForm, clip: Clip) -> tuple[np.ndarray, tuple[str, ...]]:
    """The masks that a form describes, grown as it says, uint8 `(F, H, W)`; its ways add up.

    Returns:
        The masks, and what a user should know of them, in sentences: how a file was understood, how much is made anew.

    Raises:
        InputError: one cannot be used, or nothing is marked.
    """
    frames = clip.frames
    count, height, width = frames.shape[:3]
    found = np.zeros((count, height, width), np.uint8)
    notes: tuple[str, ...] = ()
    if form.clip is not None:
        given, notes = read_mask(form.clip, clip, fit=source.fit, turned=form.black_regenerates)
        found |= track(frames, given[0]) if form.track else given
    if form.painted:
        found |= track(frames, read_painted(form.painted, frames))
    if form.boxes:
        found |= making.box_masks(making.parse_boxes(form.boxes, width, height), count, height, width)
    if form.color:
        found |= making.color_key_masks(frames, form.color, form.tolerance)
    grown = making.grow(found, form.grow)
    if not grown.any():
        raise InputError(
            " ".join(["The mask is empty, so there is nothing to make anew.", *notes, "Mark more of the picture."])
        )
    return grown, (*notes, _amount(found, grown, form.grow))


def _amount(marked: np.ndarray, grown: np.ndarray, pixels: int) -> str:
    """How much of the picture is made anew, and what to do where that is nearly all or nearly nothing."""
    before, share = (float((masks > 0).mean()) for masks in (marked, grown))
    said = f"{100 * share:.3g} % of the picture is made anew"
    if pixels:
        how = "grows" if pixels > 0 else "shrinks"
        said += f": {100 * before:.3g} % is marked, and the mask {how} by {abs(pixels)} pixels"
    if share > NEARLY_ALL:
        return f"{said}. That is nearly all of it: if the mask marks what is to stay, turn it round."
    return f"{said}. That is nearly nothing: mark more, or let the mask grow." if share < NEARLY_NOTHING else f"{said}."


def read_painted(painted: str, frames: np.ndarray) -> np.ndarray:
    """What was painted on the first frame, uint8 `(H, W)` of the size of `frames`, 255 = painted.

    Args:
        painted: the data address of a PNG.
        frames: the clip.

    Raises:
        InputError: it is no picture, or nothing is painted on it.
    """
    height, width = frames.shape[1:3]
    if not isinstance(painted, str) or not painted.startswith(PNG) or len(painted) > MAX_PAINT_CHARACTERS:
        raise InputError("What was painted is not the data address of a PNG. Clear it and paint again.")
    try:
        data = base64.b64decode(painted.removeprefix(PNG), validate=True)
    except binascii.Error as error:
        raise InputError("What was painted arrived damaged. Clear it and paint again.") from error
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "paint.png"
        path.write_bytes(data)
        picture = read_clip(path, num_frames=1, size=(width, height)).frames[0]
    mask = np.where(picture.max(-1) > 127, 255, 0).astype(np.uint8)
    if not mask.any():
        raise InputError("Nothing is painted yet. Paint over what should be made anew.")
    return mask


def _check_lines(control_type: str, path: Path, frames: np.ndarray) -> list[str]:
    """What is to be said of a map of lines that are black on white: the networks know white on black."""
    if control_type not in LINES or np.median(frames) < 192:
        return []
    said = (
        f"The control map {quoted_name(path)} is mostly white. {control_type} wants white lines on black: if these are "
        "black on white, turn the map round."
    )
    return [said]


def read_controls(form: Form, clip: Clip) -> tuple[tuple[Control, ...], tuple[str, ...]]:
    """The controls of a form, each with its map where one is given, and what a user should know of the maps.

    Raises:
        InputError: a map does not go with the clip, or there are fewer or more maps than controls.
    """
    if not form.maps:
        return form.controls, ()
    if len(form.maps) != len(form.controls):
        raise InputError(f"{len(form.controls)} control types need as many maps; got {len(form.maps)}.")
    controls: list[Control] = []
    notes: list[str] = []
    for control, path in zip(form.controls, form.maps, strict=True):
        if path is None:
            controls.append(control)
            continue
        read, told = read_beside(path, clip, fit=form.source.fit)
        frames = 255 - read if form.source.turn_maps else read
        controls.append(replace(control, frames=frames))
        notes += [*told, *_check_lines(control.control_type, path, frames)]
    return tuple(controls), tuple(notes)
