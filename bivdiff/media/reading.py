"""Reading media files: the only module that opens a file of a stranger.

How a file is read, and why so:

1. Its first bytes must be those of a known container, and ffmpeg is told that container and may use the file
   protocol only. So ffmpeg guesses nothing, and a playlist named `.mp4` cannot send it to another file or address.
2. One pass over the packets, without decoding, gives the time of every frame. What a header claims about length
   and rate is often wrong (sound longer than the picture, variable rates, recordings cut short) or not there.
3. ffmpeg seeks to the first frame asked for, and hands over only the frames that are used, one at a time.

moviepy's reader can restrict neither the container nor the protocol, repeats the last frame where a file ends early,
and lets a damaged file block on an unread pipe; therefore the ffmpeg that it ships with is called directly.

Not here: the arguments that hold ffmpeg back (see ffmpeg), what a file carries of its run (see carried).
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from bivdiff.errors import InputError, quoted_name
from bivdiff.media import ffmpeg
from bivdiff.media.ffmpeg import SCALER_FLAGS, exact_rate
from bivdiff.media.sound import MAX_SECONDS, SAMPLE_RATE, Sound
from bivdiff.pixels.fitting import MAX_SIDE, checked_size, fit_frames, whole_number

STILL_FPS = 1.0
"""The playback rate given to a picture, which has none."""

SEEK_MARGIN = 20.0
"""Seconds by which to jump short in a container without an index, where ffmpeg may land on a key frame too late."""

_INDEXED = ("mov", "matroska", "avi", "gif", "apng")
_ALPHA_DECODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}  # ffmpeg's own decoders of these drop transparency
_NO_TIMESTAMP = -(2**63)
_NO_STREAMS = b"matches no streams"
_PICTURES_ONLY = ("-map", "0:V:0")
_PICTURES = ("PNG", "JPEG", "WEBP")
_SIGNATURES: dict[str, tuple[tuple[int, bytes], ...]] = {
    "gif": ((0, b"GIF87a"), (0, b"GIF89a")),
    "matroska": ((0, b"\x1a\x45\xdf\xa3"),),
    "flv": ((0, b"FLV\x01"),),
    "ogg": ((0, b"OggS"),),
    "asf": ((0, bytes.fromhex("3026b2758e66cf11")),),
    "mpeg": ((0, b"\x00\x00\x01\xba"),),
    "mov": tuple((4, kind) for kind in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")),
    "PNG": ((0, b"\x89PNG\r\n\x1a\n"),),
    "JPEG": ((0, b"\xff\xd8\xff"),),
}
"""First bytes of the containers that are read, by the name ffmpeg (or, for pictures, Pillow) has for them."""

KNOWN_KINDS = "mp4, m4v, mov, webm, mkv, avi, gif, apng, ts, mts, m2ts, mpg, mpeg, flv, ogv, wmv, png, jpg, jpeg, webp"


@dataclass(frozen=True)
class Limits:
    """What is accepted from a user. Each bound is named in the sentence that refuses.

    Attributes:
        file_bytes: size of the file.
        seconds: length of the whole source, used or not.
        source_frames: number of frames of the whole source.
        pixels: of one source frame, width times height; the default admits 8K.
        num_frames: frames asked for at once.
        clip_pixels: of all frames of one clip together, as they leave this module; three bytes of memory each.
    """

    file_bytes: int = 2**30
    seconds: float = 7200.0
    source_frames: int = 500_000
    pixels: int = 8192 * 4608
    num_frames: int = 512
    clip_pixels: int = 2**28


LIMITS = Limits()


Size = tuple[int, int] | Callable[[int, int], tuple[int, int]]
"""Width and height in pixels, or what makes them of a source's own."""


class Clip(NamedTuple):
    """`frames`: uint8 `(F, H, W, 3)` RGB. `fps`: the rate at which they play at the source's speed."""

    frames: np.ndarray
    fps: float


class ClipInfo(NamedTuple):
    """What a file holds: its size as shown (rotated, square pixels), mean rate, seconds, count of frames.

    `duration` is `num_frames / fps`: neither a longer hold of the last frame nor sound that outlasts it counts.
    """

    width: int
    height: int
    fps: float
    duration: float
    num_frames: int


@dataclass(frozen=True)
class _Source:
    """A file that passed the checks.

    `seconds`: `(N,)`, when each frame is shown, ascending. `slack`: seconds by which these may be off. `decoder`: which
    one to use, or empty for ffmpeg's choice.
    """

    path: Path
    container: str
    seconds: np.ndarray
    slack: float
    fps: float
    pixels: int
    decoder: str = ""

    @property
    def name(self) -> str:
        return quoted_name(self.path)

    def index_at(self, start: float) -> int:
        """The frame on screen `start` seconds after the first."""
        shown = self.seconds - self.seconds[0]
        # A thousandth of a frame more: 0.1 s at 30 fps is frame 3, whatever the last binary digit says.
        return int(np.searchsorted(shown, start + self.slack + 1e-3 / self.fps, side="right")) - 1

    def frames_from(self, index: int) -> int:
        """How many frames at the mean rate there are from frame `index` to the end."""
        return round(float(self.seconds[-1] - self.seconds[index]) * self.fps) + 1


def probe(path: str | Path, *, limits: Limits = LIMITS) -> ClipInfo:
    """Say what a video, GIF or picture holds, by reading its packets and decoding one frame.

    Raises:
        InputError: the file cannot be used; the message says why and what to do.
    """
    source = open_source(Path(path), limits)
    with closing(_decode(source, 0, 1, 1, limits)) as frames:
        first = next(frames, None)
    if first is None:
        raise _damaged(source.name)
    height, width = first.shape[:2]
    count = source.frames_from(0)
    return ClipInfo(width, height, source.fps, count / source.fps, count)


def read_clip(
    path: str | Path,
    *,
    start: float = 0.0,
    stride: int = 1,
    num_frames: int = 8,
    size: Size | None = None,
    fit: str = "crop",
    limits: Limits = LIMITS,
) -> Clip:
    """Read frames at an even pace from a video, GIF or picture (a clip of one frame).

    Rotation is applied, pixels are made square, transparency is laid over white, and a variable rate becomes the
    mean rate by repeating and leaving out frames. Memory is that of the result and of two source frames.

    Args:
        path: the file.
        start: seconds from the first frame; the frame on screen at that moment is the first one read.
        stride: every n-th source frame is taken, >= 1.
        num_frames: how many are returned, always exactly.
        size: `(width, height)` in pixels, or what makes it of the source's own; None keeps the source's own.
        fit: "crop" or "pad", see `fit_frames`.
        limits: the bounds that hold.

    Returns:
        `Clip(frames, fps)`, where `fps` is the source's rate divided by `stride`.

    Raises:
        InputError: the file cannot be used, holds fewer frames than asked for, or an argument is out of range.
    """
    return _read(open_source(Path(path), limits), start, stride, num_frames, size, fit, limits)


def _read(
    source: _Source, start: float, stride: int, num_frames: int, size: Size | None, fit: str, limits: Limits
) -> Clip:
    stride = whole_number("stride", stride, limits.source_frames)
    num_frames = whole_number("num_frames", num_frames, limits.num_frames)
    if not (isinstance(start, (int, float)) and 0 <= start <= limits.seconds):
        raise InputError(f"The start must be a number of seconds from 0 to {limits.seconds:g}; it is {start!r:.60}.")
    wanted = None if size is None or callable(size) else checked_size(size, fit)
    if not callable(size):
        _check_amount(source, wanted, num_frames, limits)
    first = _checked_first(source, start, stride, num_frames)
    frames = []
    with closing(_decode(source, first, stride, num_frames, limits)) as decoded:
        for frame in decoded:
            if wanted is None and callable(size):
                wanted = checked_size(size(frame.shape[1], frame.shape[0]), fit)
                _check_amount(source, wanted, num_frames, limits)
            frames.append(frame if wanted is None else fit_frames(frame[None], wanted, fit)[0])
    if not frames:
        raise _damaged(source.name)
    if len(frames) < num_frames:
        raise InputError(
            f"Only {len(frames)} of the {num_frames} frames asked for could be decoded from {source.name}: "
            f"it seems to be damaged from there on. Ask for {len(frames)} frames, or convert it to mp4 again."
        )
    return Clip(np.stack(frames), source.fps / stride)


def read_sound(path: str | Path, *, start: float = 0.0, seconds: float, limits: Limits = LIMITS) -> Sound | None:
    """Read the sound that goes with frames of a video.

    Args:
        path: the file.
        start: seconds from the first frame, as for `read_clip`.
        seconds: how much; never more than `MAX_SECONDS`.
        limits: the bounds that hold.

    Returns:
        Both channels at `SAMPLE_RATE`, shorter where the sound ends before; None where the file has no sound, or none
        that can be decoded: a clip is no worse for that.

    Raises:
        InputError: the file cannot be used.
    """
    source = open_source(Path(path), limits)
    if source.container in (*_PICTURES, "gif", "apng"):
        return None
    command = ffmpeg.reading_command(source.path, source.container, limits.pixels)
    where, first = command.index("-i"), float(source.seconds[max(source.index_at(start), 0)])
    command[where:where] = ["-ss", f"{first:.6f}"]
    lasts = f"{min(seconds, MAX_SECONDS):.6f}"
    command += ["-map", "0:a:0", "-t", lasts, "-ac", "2", "-ar", str(SAMPLE_RATE), "-f", "s16le", "-"]
    done = ffmpeg.run(command)
    samples = np.frombuffer(done.stdout[: len(done.stdout) // 4 * 4], "<i2").reshape(-1, 2)
    return Sound(samples) if len(samples) else None


def read_beside(
    path: str | Path, frames: np.ndarray, *, start: float = 0.0, stride: int = 1, fit: str = "crop"
) -> np.ndarray:
    """Read a clip that goes with another one frame by frame: control maps, masks.

    It is trimmed as the other was, unless it has exactly as many frames as are wanted; a picture stands for all.

    Args:
        path: the file.
        frames: the clip it goes with, uint8 `(F, H, W, 3)`.
        start, stride, fit: how that one was read, see `read_clip`.

    Returns:
        uint8 of the shape of `frames`.

    Raises:
        InputError: it cannot be used, or is too short.
    """
    count, height, width = frames.shape[:3]
    source = open_source(Path(path), LIMITS)
    length = source.frames_from(0)
    if length in {1, count}:
        found = _read(source, 0, 1, length, (width, height), fit, LIMITS).frames
        return np.ascontiguousarray(np.broadcast_to(found, frames.shape))
    try:
        return _read(source, start, stride, count, (width, height), fit, LIMITS).frames
    except InputError as error:
        raise InputError(f"This clip must go with the source frame by frame, and does not. {error}") from error


def _check_amount(source: _Source, size: tuple[int, int] | None, num_frames: int, limits: Limits) -> None:
    pixels = source.pixels if size is None else size[0] * size[1]
    if pixels * num_frames > limits.clip_pixels:
        raise InputError(
            f"{num_frames} frames of {pixels / 1e6:.1f} megapixels are more than the {limits.clip_pixels / 1e6:.0f} "
            "megapixels that a clip may have in all. Choose fewer frames or a smaller size."
        )


def _checked_first(source: _Source, start: float, stride: int, num_frames: int) -> int:
    """The index of the first frame to read, once it is sure that enough frames follow it."""
    length = source.frames_from(0) / source.fps
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


def _damaged(name: str) -> InputError:
    return InputError(
        f"{name} could not be decoded: it is damaged, incomplete or uses an unknown codec. "
        "Check that it plays, or convert it to mp4 (H.264), and try again."
    )


def open_source(path: Path, limits: Limits) -> _Source:
    """Check a file as far as is possible without decoding it."""
    head = _read_head(path, limits)
    container = _sniff(head)
    if container is None:
        raise InputError(
            f"{quoted_name(path)} is not a video or a picture that can be read here, whatever it is named. "
            f"Known kinds are {KNOWN_KINDS}; playlists and text are refused. Convert it to mp4 and try again."
        )
    if container in _PICTURES:
        with _opened_picture(path, container, limits) as picture:
            animated = getattr(picture, "is_animated", False)
            pixels = picture.width * picture.height
        if not animated:
            return _Source(path, container, np.zeros(1), 0.0, STILL_FPS, pixels)
        if container != "PNG":
            raise InputError(f"{quoted_name(path)} is an animated {container}. Convert it to mp4 or gif and try again.")
        container = "apng"
    return _scan(path, container, limits)


def _read_head(path: Path, limits: Limits) -> bytes:
    name = quoted_name(path)
    try:
        # Asked before opening: opening a pipe or a device could wait for ever.
        if path.is_dir():
            raise InputError(f"{name} is a folder. Choose a video file.")
        if path.exists() and not path.is_file():
            raise InputError(f"{name} is not a regular file. Choose a video file.")
        with path.open("rb") as file:
            head = file.read(1024)
            num_bytes = os.fstat(file.fileno()).st_size
    except FileNotFoundError as error:
        raise InputError(f"{name} is not there: it was moved, deleted or never uploaded. Choose it again.") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "its name is not valid"
        raise InputError(f"{name} cannot be opened ({reason}). Make it readable, or upload it again.") from error
    if not head:
        raise InputError(f"{name} is empty: perhaps its upload or download was cut short. Upload it again.")
    if num_bytes > limits.file_bytes:
        raise InputError(
            f"{name} has {num_bytes / 2**20:.0f} MiB; at most {limits.file_bytes / 2**20:.0f} MiB are accepted. "
            "Cut or compress it and try again."
        )
    return head


def _sniff(head: bytes) -> str | None:
    """The container that the first bytes belong to, or None for anything not known."""
    for container, signatures in _SIGNATURES.items():
        if any(head[offset : offset + len(magic)] == magic for offset, magic in signatures):
            return container
    if head[:4] == b"RIFF":
        return {b"AVI ": "avi", b"WEBP": "WEBP"}.get(head[8:12])
    # Transport streams have no header, but a sync byte every 188 bytes; cameras put 4 bytes before each.
    for first, packet in ((0, 188), (4, 192)):
        if head[first : first + 3 * packet : packet] == b"GGG":
            return "mpegts"
    return None


def _scan(path: Path, container: str, limits: Limits) -> _Source:
    """Read the times of all frames from the packets, which costs reading the file but no decoding."""
    command = ffmpeg.reading_command(path, container, limits.pixels)
    count = str(limits.source_frames + 1)
    done = ffmpeg.run([*command, *_PICTURES_ONLY, "-c", "copy", "-frames:v", count, "-f", "framecrc", "-"])
    if _NO_STREAMS in done.stderr:
        if _NO_STREAMS in ffmpeg.run([*command, "-map", "0", "-c", "copy", "-t", "0", "-f", "null", "-"]).stderr:
            raise _damaged(quoted_name(path))
        raise InputError(f"{quoted_name(path)} has no picture, only sound or text. Choose a file with a video in it.")
    header: dict[str, str] = {}
    rows: list[tuple[int, int, int]] = []
    has_side_data = False
    # Up to the last line break: ffmpeg may have been stopped within a line.
    for line in done.stdout.decode("ascii", "replace").rpartition("\n")[0].splitlines():
        if line.startswith("#"):
            key, _, value = line[1:].partition(": ")
            header[key] = value.strip()
        else:
            fields = line.split(",")
            has_side_data |= any(extra.startswith(" S=") for extra in fields[6:])
            if not _is_discarded(fields[6:]):
                rows.append((int(fields[1]), int(fields[2]), int(fields[3])))
    if not rows or "dimensions 0" not in header:
        raise _damaged(quoted_name(path))
    if header["dimensions 0"] == "0x0":
        raise InputError(
            f"The size of the frames of {quoted_name(path)} cannot be told: it is damaged, or beyond the "
            f"{limits.pixels / 1e6:.1f} megapixels that are accepted. Shrink it, or convert it to mp4, and try again."
        )
    tick = Fraction(header["tb 0"])
    ticks = _display_ticks(np.array(rows, np.int64))
    source = _Source(
        path=path,
        container=container,
        seconds=ticks * float(tick),
        slack=0.0 if _even(ticks) else float(tick),
        fps=_frame_rate(ticks, tick, rows[0][2]),
        pixels=_shown_pixels(header),
        # WebM has no codec with transparency: it travels beside the pictures.
        decoder=_ALPHA_DECODERS.get(header.get("codec_id 0", ""), "") if has_side_data else "",
    )
    _check_limits(source, limits)
    return source


def _is_discarded(extras: list[str]) -> bool:
    """Whether a packet is only there for others to be decoded: what a phone leaves before the cut when it trims."""
    flags = next((extra for extra in extras if extra.startswith(" F=")), " F=0x1")
    return bool(int(flags[3:], 16) & 4)


def _display_ticks(rows: np.ndarray) -> np.ndarray:
    """Times of display from rows of (decoding time, display time, duration), ascending, each once."""
    decoded, shown = rows[:, 0], rows[:, 1]
    if (shown == _NO_TIMESTAMP).any():
        # MPEG program streams time only some pictures. The first is a key frame: its times tell the delay.
        delay = 0 if shown[0] == _NO_TIMESTAMP else shown[0] - decoded[0]
        shown = decoded + delay
    return np.unique(shown)


def _even(ticks: np.ndarray) -> bool:
    """Whether the frames follow each other at exactly the same pace: then coarse ticks have rounded nothing."""
    return len(set(np.diff(ticks).tolist())) <= 1


def _frame_rate(ticks: np.ndarray, tick: Fraction, first_lasts: int) -> float:
    """The mean rate; where coarse ticks (1 ms, 10 ms) blur a round or an NTSC rate, that rate."""
    if len(ticks) == 1:
        return float(1 / (first_lasts * tick)) if first_lasts > 0 else STILL_FPS
    steps, span = len(ticks) - 1, int(ticks[-1] - ticks[0]) * tick
    mean = steps / span
    if _even(ticks):
        return float(mean)

    def worst(rate: Fraction) -> float:
        """By how many ticks a frame is off, at most, if that is the rate."""
        return float(np.abs(ticks - ticks[0] - np.arange(len(ticks)) / float(rate * tick)).max())

    nominal = min((Fraction(round(mean) or 1), Fraction((round(mean * 1001 / 1000) or 1) * 1000, 1001)), key=worst)
    return float(nominal if worst(nominal) <= 1 else mean)


def _shown_pixels(header: dict[str, str]) -> int:
    """Width times height once pixels are square, from ffmpeg's `64x48` and `4/3`."""
    width, height = (int(side) for side in header["dimensions 0"].split("x"))
    across, down = (int(part) for part in header.get("sar 0", "0/1").split("/"))
    return max(width * height, round(width * height * across / max(down, 1)))


def _check_limits(source: _Source, limits: Limits) -> None:
    num_frames, seconds = len(source.seconds), float(source.seconds[-1] - source.seconds[0])
    if num_frames > limits.source_frames:
        reason = f"more than the {limits.source_frames} frames"
    elif seconds > limits.seconds:
        reason = f"{seconds:.0f} seconds, more than the {limits.seconds:.0f} seconds"
    elif source.pixels > limits.pixels:
        reason = f"{source.pixels / 1e6:.1f} megapixels a frame, more than the {limits.pixels / 1e6:.1f} megapixels"
    else:
        return
    raise InputError(f"{source.name} has {reason} that are accepted. Cut or shrink it and try again.")


def _decode(source: _Source, first: int, stride: int, count: int, limits: Limits) -> Generator[np.ndarray, None, None]:
    """Yield at most `count` frames `(H, W, 3)`, every `stride`-th from frame `first`; fewer where the file ends."""
    if source.container in _PICTURES:
        yield _read_picture(source, limits)
        return
    command = ffmpeg.reading_command(source.path, source.container, limits.pixels)
    begin = 0.0
    if first > 0:
        # Between two frames, so that no rounding of a time decides which of them comes first.
        middle = float(source.seconds[first - 1] + source.seconds[first]) / 2
        jump = max(middle - (0 if source.container in _INDEXED else SEEK_MARGIN), 0)
        begin = middle - jump
        where = command.index("-i")
        command[where:where] = ["-ss", f"{jump:.6f}"]
    if source.decoder:
        where = command.index("-i")
        command[where:where] = ["-c:v", source.decoder]
    filters = (
        f"trim=start={begin:.6f},setpts=PTS-STARTPTS,fps={exact_rate(source.fps)},select='not(mod(n,{stride}))',"
        f"scale=w='clip(iw*sar,1,{MAX_SIDE})':h=ih:flags={SCALER_FLAGS},format=rgba"
    )
    command += [*_PICTURES_ONLY, "-vf", filters, "-fps_mode", "passthrough", "-frames:v", str(count)]
    command += ["-c:v", "pam", "-f", "image2pipe", "-"]
    with ffmpeg.streaming(command) as output:
        while (frame := _read_pam(output)) is not None:
            yield _over_white(frame)


def _read_pam(stream: IO[bytes]) -> np.ndarray | None:
    """One picture `(H, W, 4)` of a stream of PAM pictures, which say their size themselves; None at the end."""
    header: dict[bytes, bytes] = {}
    while (line := stream.readline().strip()) != b"ENDHDR":
        if not line:
            return None
        key, _, value = line.partition(b" ")
        header[key] = value
    shape = (int(header[b"HEIGHT"]), int(header[b"WIDTH"]), int(header[b"DEPTH"]))
    data = stream.read(math.prod(shape))
    return np.frombuffer(data, np.uint8).reshape(shape) if len(data) == math.prod(shape) else None


def _over_white(rgba: np.ndarray) -> np.ndarray:
    alpha = rgba[..., 3:]
    if alpha.min() == 255:
        return np.ascontiguousarray(rgba[..., :3])
    # 255 * 255 + 127 fits 16 bits.
    opaque = rgba[..., :3].astype(np.uint16) * alpha + (255 - alpha).astype(np.uint16) * 255
    return ((opaque + 127) // 255).astype(np.uint8)


@contextmanager
def _opened_picture(path: Path, kind: str, limits: Limits) -> Iterator[Image.Image]:
    """Open a picture as the one kind that its first bytes announce, within the limits."""
    try:
        with Image.open(path, formats=[kind]) as picture:
            if picture.width * picture.height > limits.pixels:
                raise Image.DecompressionBombError
            yield picture
    except Image.DecompressionBombError as error:
        raise InputError(
            f"{quoted_name(path)} has more than the {limits.pixels / 1e6:.1f} megapixels that are accepted. "
            "Shrink it and try again."
        ) from error
    except (OSError, ValueError, SyntaxError, UnidentifiedImageError) as error:
        raise _damaged(quoted_name(path)) from error


def _read_picture(source: _Source, limits: Limits) -> np.ndarray:
    with _opened_picture(source.path, source.container, limits) as picture:
        upright = ImageOps.exif_transpose(picture)
        if upright.mode.startswith("I"):
            # Pillow would clip 16-bit greys at 255 instead of scaling them.
            upright = Image.fromarray((np.asarray(upright).astype(np.uint16) >> 8).astype(np.uint8))
        if upright.has_transparency_data:
            return _over_white(np.asarray(upright.convert("RGBA")))
        return np.array(upright.convert("RGB"))
