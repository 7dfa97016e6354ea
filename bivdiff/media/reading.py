"""The only door to media files of a stranger: clips, what goes with a clip frame by frame, masks, sound.

A file is judged by its first bytes and never by its name, by one list (see kinds). ffmpeg is told its container and may
use the file protocol only, so it guesses nothing, and a playlist named `.mp4` cannot send it to another file or address
(see streams, ffmpeg). Pillow is told the one kind of picture that it is to expect (see pictures).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bivdiff.errors import InputError, quoted_name
from bivdiff.media import ffmpeg
from bivdiff.media.kinds import HEAD, KNOWN_KINDS, PICTURES, ZIP, kind_of
from bivdiff.media.pictures import open_picture, open_several, open_zip
from bivdiff.media.sound import SAMPLE_RATE, Sound
from bivdiff.media.source import LIMITS, Limits, Size, Source, damaged
from bivdiff.media.streams import Stream, open_stream
from bivdiff.media.writing import MAX_FPS
from bivdiff.pixels.fitting import checked_size, fit_frames, whole_number
from bivdiff.pixels.markings import Marking, MarkingFinder

SAME_RATE = 0.01
"""By how much two rates may differ to be one: 29.97 is 30, and 24 is not 25."""

NEAR_SHAPE, LIKE_SHAPE = 0.02, 0.07
"""By how much a shape may differ from the source's: what rounding to whole pixels does, and what tools do that bring a
picture to multiples of 64 pixels."""


class Taken(NamedTuple):
    """Which frames of a source a clip is made of: what goes with it frame by frame is read by them."""

    source: Source
    indices: np.ndarray


class Clip(NamedTuple):
    """Frames that were read.

    `frames`: uint8 `(F, H, W, 3)` RGB. `fps`: the rate at which they play at the source's speed. `taken`: where they
    are from. `notes`: what was done to them that a user should know, in sentences.
    """

    frames: np.ndarray
    fps: float
    taken: Taken | None = None
    notes: tuple[str, ...] = ()


class ClipInfo(NamedTuple):
    """What a file holds: its size as shown (rotated, square pixels), mean rate, seconds, count of frames.

    `duration` is `num_frames / fps`: neither a longer hold of the last frame nor sound that outlasts it counts.
    """

    width: int
    height: int
    fps: float
    duration: float
    num_frames: int


class Beside(NamedTuple):
    """What was read beside a clip. `frames`: uint8 of the clip's length and size; of masks without channels."""

    frames: np.ndarray
    notes: tuple[str, ...] = ()


def probe(path: str | Path, *, fps: float | None = None, limits: Limits = LIMITS) -> ClipInfo:
    """Say what a video, GIF or picture holds, by reading its packets and decoding its first frames.

    Args:
        path, fps: as for `read_clip`.
        limits: the bounds that hold.

    Raises:
        InputError: the file cannot be used; the message says why and what to do.
    """
    source = _opened(path, fps, limits)
    with closing(source.frames([0])) as frames:
        first = next(frames, None)
    if first is None:
        raise damaged(source.name)
    height, width = first.shape[:2]
    return ClipInfo(width, height, source.fps, source.duration, source.frames_from(0))


def read_clip(
    path: str | Path,
    *,
    start: float = 0.0,
    stride: int = 1,
    num_frames: int = 8,
    size: Size | None = None,
    fit: str = "crop",
    fps: float | None = None,
    limits: Limits = LIMITS,
) -> Clip:
    """Read frames at an even pace from a video, an animation, a picture (a clip of one frame) or many pictures.

    Rotation is applied, pixels are made square, transparency is laid over white, HDR and wide ranges of colours are
    brought to sRGB, fields are made whole frames, and a variable rate becomes the mean rate by repeating and leaving
    out frames. Memory is that of the result and of two source frames.

    Args:
        path: the file; or a folder of pictures, a pattern of them (`frames/*.png`, `frame_%05d.png`), a zip of them.
        start: seconds from the first frame; the frame on screen at that moment is the first one read.
        stride: every n-th source frame is taken, >= 1.
        num_frames: how many are returned, always exactly.
        size: `(width, height)` in pixels, or what makes it of the source's own; None keeps the source's own.
        fit: "crop" or "pad", see `fit_frames`.
        fps: the rate of pictures, which have none of their own; None for what a zip says, or else 8.
        limits: the bounds that hold.

    Returns:
        The clip, whose `fps` is the source's rate divided by `stride`.

    Raises:
        InputError: the file cannot be used, holds fewer frames than asked for, or an argument is out of range.
    """
    return _read(_opened(path, fps, limits), start, stride, num_frames, size, fit, limits)


def _opened(path: str | Path, fps: float | None, limits: Limits) -> Source:
    """A source, at a rate that was given to it, if one was."""
    source = open_source(Path(path), limits)
    if fps is None:
        return source
    if not (isinstance(fps, (int, float)) and 0 < fps <= MAX_FPS):
        raise InputError(f"The rate of a clip must be above 0 and at most {MAX_FPS:g} a second; it is {fps!r:.40}.")
    if source.timed:
        raise InputError(
            f"{source.name} has a rate of its own, {source.fps:.4g} frames a second. A rate can be given to pictures "
            "only, which have none: leave it out."
        )
    return replace(source, fps=float(fps), seconds=np.arange(len(source.seconds)) / float(fps))


def _read(
    source: Source, start: float, stride: int, num_frames: int, size: Size | None, fit: str, limits: Limits
) -> Clip:
    stride = whole_number("stride", stride, limits.source_frames)
    num_frames = whole_number("num_frames", num_frames, limits.source_frames)
    if not (isinstance(start, (int, float)) and 0 <= start <= limits.seconds):
        raise InputError(f"The start must be a number of seconds from 0 to {limits.seconds:g}; it is {start!r:.60}.")
    wanted = None if size is None or callable(size) else checked_size(size, fit)
    if not callable(size):
        _check_amount(source, wanted, num_frames, limits)
    first = _checked_first(source, start, stride, num_frames)
    indices = source.indices(first, stride, num_frames)
    source = source.used(indices.tolist())
    count, frames = 0, np.empty((0,), np.uint8)
    with closing(source.frames(indices.tolist())) as decoded:
        for frame in decoded:
            if wanted is None and callable(size):
                wanted = checked_size(size(frame.shape[1], frame.shape[0]), fit)
                _check_amount(source, wanted, num_frames, limits)
            shown = _over_white(frame)
            picture = shown if wanted is None else fit_frames(shown[None], wanted, fit)[0]
            if not count:
                frames = np.empty((num_frames, *picture.shape), np.uint8)  # only now is the size known
            frames[count] = picture
            count += 1
    _check_complete(source, count, num_frames)
    return Clip(frames, source.fps / stride, Taken(source, indices), source.notes)


def read_sound(path: str | Path, *, start: float = 0.0, seconds: float, limits: Limits = LIMITS) -> Sound | None:
    """Read the sound that goes with frames of a video.

    Args:
        path: the file.
        start: seconds from the first frame, as for `read_clip`.
        seconds: how much.
        limits: the bounds that hold.

    Returns:
        Both channels at `SAMPLE_RATE`, shorter where the sound ends before; None where the file has no sound, or none
        that can be decoded: a clip is no worse for that.

    Raises:
        InputError: the file cannot be used.
    """
    return sound_of(open_source(Path(path), limits), start, seconds)


def sound_of(source: Source, start: float, seconds: float) -> Sound | None:
    """As `read_sound`, of a source that is open."""
    if not isinstance(source, Stream) or not source.heard:
        return None
    command = ffmpeg.reading_command(source.path, source.container, source.limits.pixels)
    shown = float(source.seconds[max(source.index_at(start), 0)]) - source.late
    where = command.index("-i")
    command[where:where] = ["-ss", f"{max(shown, 0.0):.6f}"]
    lasts = f"{min(seconds, source.limits.seconds):.6f}"
    command += ["-map", "0:a:0", "-t", lasts, "-ac", "2", "-ar", str(SAMPLE_RATE), "-f", "s16le", "-"]
    heard = ffmpeg.run(command)
    samples = np.frombuffer(heard[: len(heard) // 4 * 4], "<i2").reshape(-1, 2)
    return Sound(samples) if len(samples) else None


# Beside a clip


def read_beside(path: str | Path, clip: Clip, *, fit: str = "crop") -> Beside:
    """Read a clip that goes with another one frame by frame, such as a control map.

    Args:
        path: the file.
        clip: the clip it goes with.
        fit: how that one was brought to size, see `read_clip`.

    Returns:
        Frames uint8 of the shape of the clip's. Frames are paired by number where both sources have as many, or where
        this one has as many as the clip; by time where their rates explain the difference. A picture stands for all.

    Raises:
        InputError: it cannot be used, or does not go with the clip.
    """
    source = open_source(Path(path), LIMITS)
    indices, notes = _paired(source, clip)
    shown = _shape_of(source, clip)
    size = (clip.frames.shape[2], clip.frames.shape[1])
    frames = (fit_frames(_over_white(frame)[None], size, fit, shown)[0] for frame in _decoded(source, indices))
    return Beside(_spread(frames, indices), notes)


def read_mask(path: str | Path, clip: Clip, *, fit: str = "crop", turned: bool = False) -> Beside:
    """Read which part of a clip is marked, from whatever marks it: see `pixels.markings`.

    Args:
        path: the file.
        clip: the clip it goes with, as for `read_beside`.
        fit: how that one was brought to size, see `read_clip`.
        turned: give what is not marked.

    Returns:
        Masks uint8 `(F, H, W)`, 255 where marked and 0 elsewhere, or turned, and how the file was understood.

    Raises:
        InputError: it cannot be used, or does not go with the clip.
    """
    source = open_source(Path(path), LIMITS)
    indices, notes = _paired(source, clip)
    shown = _shape_of(source, clip)
    marking = _find_marking(source, indices)
    size = (clip.frames.shape[2], clip.frames.shape[1])

    def fitted(frame: np.ndarray) -> np.ndarray:
        marked = marking.marked(frame)
        grey = np.repeat((~marked if turned else marked)[..., None] * np.uint8(255), 3, axis=-1)
        return (fit_frames(grey[None], size, fit, shown)[0, ..., 0] >= 128) * np.uint8(255)

    masks = _spread((fitted(frame) for frame in _decoded(source, indices, deep=True)), indices)
    told = tuple(f"The mask {source.name} {words}" for words in marking.words())
    return Beside(masks, (*notes, *told))


def _find_marking(source: Source, indices: np.ndarray) -> Marking:
    """How frames of a source mark a part of the picture.

    Raises:
        InputError: they cannot be decoded.
    """
    finder = MarkingFinder()
    for frame in _decoded(source, indices, deep=True):
        finder.add(frame)
    return finder.found()


def _decoded(source: Source, indices: np.ndarray, deep: bool = False) -> Iterator[np.ndarray]:
    """Each of the frames of these numbers once, RGBA `(H, W, 4)`."""
    wanted = np.unique(indices)
    count = 0
    with closing(source.frames(wanted.tolist(), deep)) as frames:
        for frame in frames:
            count += 1
            yield frame
    _check_complete(source, count, len(wanted))


def _spread(frames: Iterator[np.ndarray], indices: np.ndarray) -> np.ndarray:
    """Frames of which there is one of each number, as often and in such an order as the numbers stand there."""
    return np.stack(list(frames))[np.unique(indices, return_inverse=True)[1]]


def _paired(beside: Source, clip: Clip) -> tuple[np.ndarray, tuple[str, ...]]:
    """Which frames of what lies beside a clip go with its frames, and what is to be said of that.

    Raises:
        InputError: that cannot be told.
    """
    count, used = len(beside.seconds), len(clip.frames)
    if count == 1:
        return np.zeros(used, int), beside.notes
    if clip.taken is None:
        if count == used:
            return np.arange(used), beside.notes
        raise _unpaired(beside, f"{used} frames of {clip.frames.shape[2]}x{clip.frames.shape[1]}")
    source, indices = clip.taken
    if count == len(source.seconds):
        return indices, (*beside.notes, *_of_other_rate(beside, source))
    if count == used:
        return np.arange(used), beside.notes
    same_rate = abs(beside.fps / source.fps - 1) < SAME_RATE
    longest = max(1 / beside.fps, 1 / source.fps)
    same_length = abs(beside.duration - source.duration) <= 1.5 * longest
    if not (beside.timed and source.timed and (same_rate or same_length)):
        raise _unpaired(beside, source.described())
    seconds = source.seconds[indices] - source.seconds[0]
    if beside.seconds[-1] - beside.seconds[0] + 1.5 * longest < seconds[-1]:
        raise _unpaired(beside, source.described())
    by_time = np.array([beside.index_at(float(second)) for second in seconds])
    said = f"{beside.name} has {beside.described()}, the source {source.described()}: they are paired by time."
    return by_time, (*beside.notes, *(() if same_rate else (said,)))


def _of_other_rate(beside: Source, source: Source) -> tuple[str, ...]:
    """What is to be said of two clips that are paired by number, where their rates would pair them otherwise."""
    if not (beside.timed and source.timed) or abs(beside.fps / source.fps - 1) < SAME_RATE:
        return ()
    said = (
        f"{beside.name} plays at {beside.fps:.4g} frames a second and the source at {source.fps:.4g}; both have "
        f"{len(source.seconds)} frames, so they are paired frame by frame."
    )
    return (said,)


def _unpaired(beside: Source, source: str) -> InputError:
    return InputError(
        f"{beside.name} must go with the source frame by frame, and does not: it has {beside.described()}, the source "
        f"{source}. Choose a clip of as many frames, one of the same rate and length, or a picture for all frames."
    )


def _shape_of(beside: Source, clip: Clip) -> tuple[int, int]:
    """Width and height of the picture that frames beside a clip show: the source's, or the clip's own.

    Raises:
        InputError: they have neither shape.
    """
    own = (clip.frames.shape[2], clip.frames.shape[1])
    whole = own if clip.taken is None else (clip.taken.source.width, clip.taken.source.height)
    for bound in (NEAR_SHAPE, LIKE_SHAPE):
        for shape in (whole, own):
            if abs(beside.width * shape[1] / (beside.height * shape[0]) - 1) <= bound:
                return shape
    turned = abs(beside.width * whole[0] / (beside.height * whole[1]) - 1) <= NEAR_SHAPE
    hint = "Turn it by 90 degrees" if turned else "Cut it as the source is cut"
    raise InputError(
        f"{beside.name} is {beside.width}x{beside.height} and the source {whole[0]}x{whole[1]}, another shape, so they "
        f"cannot be laid over each other. {hint}, and try again."
    )


# Checks


def _check_amount(source: Source, size: tuple[int, int] | None, num_frames: int, limits: Limits) -> None:
    pixels = source.width * source.height if size is None else size[0] * size[1]
    if pixels * num_frames > limits.clip_pixels:
        raise InputError(
            f"{num_frames} frames of {pixels / 1e6:.1f} megapixels are more than the {limits.clip_pixels / 1e6:.0f} "
            "megapixels that a clip may have in all. Choose fewer frames or a smaller size."
        )


def _checked_first(source: Source, start: float, stride: int, num_frames: int) -> int:
    """The index of the first frame to read, once it is sure that enough frames follow it."""
    length = max(source.duration, float(source.seconds[-1] - source.seconds[0]) + 1 / source.fps)
    if start >= length:
        raise InputError(f"The start, {start:g} s, is past the end of {source.name}, which lasts {length:.2f} s.")
    first = source.index_at(start)
    available = source.frames_from(first)
    needed = (num_frames - 1) * stride + 1
    if available < needed:
        at_most = (available - 1) // stride + 1
        raise InputError(
            f"{source.name} has {available} frame{'s' if available > 1 else ''} from {start:g} s on, but {num_frames} "
            f"frames at a stride of {stride} need {needed}. Choose at most {at_most} at this stride, a smaller stride "
            "or an earlier start."
        )
    return first


def _check_complete(source: Source, count: int, wanted: int) -> None:
    if not count:
        raise damaged(source.name)
    if count < wanted:
        raise InputError(
            f"Only {count} of the {wanted} frames asked for could be decoded from {source.name}: "
            f"it seems to be damaged from there on. Ask for {count} frames, or convert it to mp4 again."
        )


# Opening


def open_source(path: Path, limits: Limits) -> Source:
    """Check a file, a folder of pictures or a pattern as far as is possible without decoding all of it.

    Raises:
        InputError: it cannot be used; the message says why and what to do.
    """
    try:
        several = open_several(path, limits)
    except (OSError, ValueError) as error:
        raise _unopened(path, error) from error
    if several is not None:
        return several
    container = kind_of(_read_head(path, limits))
    if container is None:
        raise InputError(
            f"{quoted_name(path)} is not a video or a picture that can be read here, whatever it is named. "
            f"Known kinds are {KNOWN_KINDS}; playlists and text are refused. Convert it to mp4 and try again."
        )
    if container == ZIP:
        return open_zip(path, limits)
    picture = open_picture(path, container, limits) if container in PICTURES else None
    return picture or open_stream(path, "apng" if container == "PNG" else container, limits)


def _read_head(path: Path, limits: Limits) -> bytes:
    name = quoted_name(path)
    try:
        # Asked before opening: opening a pipe or a device could wait for ever.
        if path.exists() and not path.is_file():
            raise InputError(f"{name} is not a regular file. Choose a video file.")
        with path.open("rb") as file:
            head = file.read(HEAD)
            num_bytes = os.fstat(file.fileno()).st_size
    except FileNotFoundError as error:
        raise InputError(f"{name} is not there: it was moved, deleted or never uploaded. Choose it again.") from error
    except (OSError, ValueError) as error:
        raise _unopened(path, error) from error
    if not head:
        raise InputError(f"{name} is empty: perhaps its upload or download was cut short. Upload it again.")
    if num_bytes > limits.file_bytes:
        raise InputError(
            f"{name} has {num_bytes / 2**20:.0f} MiB; at most {limits.file_bytes / 2**20:.0f} MiB are accepted. "
            "Cut or compress it and try again."
        )
    return head


def _unopened(path: Path, error: OSError | ValueError) -> InputError:
    reason = getattr(error, "strerror", None) or "its name is not valid"
    return InputError(f"{quoted_name(path)} cannot be opened ({reason}). Make it readable, or upload it again.")


def _over_white(rgba: np.ndarray) -> np.ndarray:
    alpha = rgba[..., 3:]
    if alpha.min() == 255:
        return np.ascontiguousarray(rgba[..., :3])
    # 255 * 255 + 127 fits 16 bits.
    opaque = rgba[..., :3].astype(np.uint16) * alpha + (255 - alpha).astype(np.uint16) * 255
    return ((opaque + 127) // 255).astype(np.uint8)
