"""Reading and writing media files: the only module that opens one.

How a file is read, and why so:

1. Its first bytes must be those of a known container, and ffmpeg is told that container and may use the file
   protocol only. So ffmpeg guesses nothing, and a playlist named `.mp4` cannot send it to another file or address.
2. One pass over the packets, without decoding, gives the time of every frame. What a header claims about length
   and rate is often wrong (sound longer than the picture, variable rates, recordings cut short) or not there.
3. ffmpeg seeks to the first frame asked for, and hands over only the frames that are used, one at a time.

moviepy's reader can restrict neither the container nor the protocol, repeats the last frame where a file ends early,
and lets a damaged file block on an unread pipe; therefore the ffmpeg that it ships with is called directly.
"""

import base64
import errno
import io
import math
import operator
import os
import subprocess
import uuid
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

import numpy as np
from imageio_ffmpeg import get_ffmpeg_exe
from PIL import Image, ImageOps, PngImagePlugin, UnidentifiedImageError

from bivdiff.errors import InputError

FITS = ("crop", "pad")
STILL_FPS = 1.0
"""The playback rate given to a picture, which has none."""

MAX_SHEET_SIDE = 16383  # pixels of a WebP picture
MAX_FPS = 1000.0
MAX_GIF_FPS = 50.0
"""Browsers slow a GIF down whose frames last less than two hundredths of a second."""

MAX_SIDE = 16384
FFMPEG_CPU_SECONDS = 600
"""Processor time after which ffmpeg gives up on a file, so that a malicious one cannot occupy the machine."""

SEEK_MARGIN = 20.0
"""Seconds by which to jump short in a container without an index, where ffmpeg may land on a key frame too late."""

_INDEXED = ("mov", "matroska", "avi", "gif", "apng")
_ALPHA_DECODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}  # ffmpeg's own decoders of these drop transparency
_NO_TIMESTAMP = -(2**63)
_NO_STREAMS = b"matches no streams"
_PICTURES_ONLY = ("-map", "0:V:0")
_SCALER_FLAGS = "bicubic+accurate_rnd+full_chroma_int+full_chroma_inp"
_PNG_DATE = (1980, 1, 1, 0, 0, 0)
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

CARRY_BOX = bytes.fromhex("6b1d0f5c3e8a4b7e9c0ad1f2b83a57e4")
"""The identity of the `uuid` box at the end of an mp4 that holds a `Carry`'s archive."""

CARRY_CHUNK = b"bdPx"
"""The PNG chunk with the archive: private, and no editor need understand it to keep the picture right."""

CARRY_NAME = "bivdiff"
"""The keyword of a PNG's text and, as its first sub-block, of a GIF's comment."""

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


class Clip(NamedTuple):
    """`frames`: uint8 `(F, H, W, 3)` RGB. `fps`: the rate at which they play at the source's speed."""

    frames: np.ndarray
    fps: float


class Carry(NamedTuple):
    """What a file holds beside its pictures, unseen by players: `text`, JSON, and `archive`, a zip archive or nothing.

    An mp4 has the text as its comment and the archive in a box of its own at the end; a PNG has the text in an iTXt
    chunk and the archive in a private one; a GIF has the text as a comment; a zip of pictures has the archive's files.
    """

    text: str
    archive: bytes = b""


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
        return _name(self.path)

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
    source = _open(Path(path), limits)
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
    size: tuple[int, int] | None = None,
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
        size: `(width, height)` in pixels, or None for the source's own.
        fit: "crop" or "pad", see `fit_frames`.
        limits: the bounds that hold.

    Returns:
        `Clip(frames, fps)`, where `fps` is the source's rate divided by `stride`.

    Raises:
        InputError: the file cannot be used, holds fewer frames than asked for, or an argument is out of range.
    """
    stride = _whole("stride", stride, limits.source_frames)
    num_frames = _whole("num_frames", num_frames, limits.num_frames)
    if not (isinstance(start, (int, float)) and 0 <= start <= limits.seconds):
        raise InputError(f"The start must be a number of seconds from 0 to {limits.seconds:g}; it is {start!r:.60}.")
    if size is not None:
        size = _checked_size(size, fit)
    source = _open(Path(path), limits)
    _check_amount(source, size, num_frames, limits)
    first = _checked_first(source, start, stride, num_frames)
    with closing(_decode(source, first, stride, num_frames, limits)) as decoded:
        frames = [frame if size is None else fit_frames(frame[None], size, fit)[0] for frame in decoded]
    if not frames:
        raise _damaged(source.name)
    if len(frames) < num_frames:
        raise InputError(
            f"Only {len(frames)} of the {num_frames} frames asked for could be decoded from {source.name}: "
            f"it seems to be damaged from there on. Ask for {len(frames)} frames, or convert it to mp4 again."
        )
    return Clip(np.stack(frames), source.fps / stride)


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
    length = probe(path).num_frames
    if length in {1, count}:
        found = read_clip(path, num_frames=length, size=(width, height), fit=fit).frames
        return np.ascontiguousarray(np.broadcast_to(found, frames.shape))
    try:
        return read_clip(path, start=start, stride=stride, num_frames=count, size=(width, height), fit=fit).frames
    except InputError as error:
        raise InputError(f"This clip must go with the source frame by frame, and does not. {error}") from error


def fit_frames(frames: np.ndarray, size: tuple[int, int], fit: str) -> np.ndarray:
    """Bring frames to a size without distorting them, with Lanczos resampling.

    Args:
        frames: uint8 `(F, H, W, 3)`.
        size: `(width, height)` in pixels.
        fit: "crop" fills the size and cuts what stands over, evenly on both sides; "pad" shows everything and
            leaves black bars, evenly on both sides.

    Returns:
        uint8 `(F, height, width, 3)`; `frames` itself where it has that size already.

    Raises:
        InputError: `size` or `fit` is not usable.
    """
    width, height = _checked_size(size, fit)
    source_height, source_width = _checked_frames(frames).shape[1:3]
    if (source_width, source_height) == (width, height):
        return frames
    if fit == "crop":
        scale = max(width / source_width, height / source_height)
        left, top = (source_width - width / scale) / 2, (source_height - height / scale) / 2
        # Rounding must not carry the box out of the picture.
        left, top = max(left, 0.0), max(top, 0.0)
        box = (left, top, source_width - left, source_height - top)
        return np.stack([_resize(frame, (width, height), box) for frame in frames])
    scale = min(width / source_width, height / source_height)
    inner = (min(max(round(source_width * scale), 1), width), min(max(round(source_height * scale), 1), height))
    left, top = (width - inner[0]) // 2, (height - inner[1]) // 2
    fitted = np.zeros((len(frames), height, width, 3), np.uint8)
    whole = (0.0, 0.0, float(source_width), float(source_height))
    for target, frame in zip(fitted, frames, strict=True):
        target[top : top + inner[1], left : left + inner[0]] = _resize(frame, inner, whole)
    return fitted


def write_mp4(path: str | Path, frames: np.ndarray, fps: float, carry: Carry | None = None) -> None:
    """Write H.264 that every browser plays: yuv420p, BT.709, even sides, index at the front.

    The same frames give the same bytes. An odd side grows by one repeated line. The file appears whole or not at all.

    Args:
        path: where to; an existing file is replaced.
        frames: uint8 `(F, H, W, 3)`, F >= 1.
        fps: playback rate.
        carry: what the file carries besides.

    Raises:
        InputError: the rate is not usable, or the file cannot be written there.
    """
    height, width = _checked_frames(frames).shape[1:3]
    even = np.pad(frames, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    filters = (
        f"scale=out_color_matrix=bt709:out_range=limited:flags={_SCALER_FLAGS},format=yuv420p,"
        "setparams=colorspace=bt709:color_primaries=bt709:color_trc=bt709:range=limited"
    )
    # One thread and no version strings: the bytes then depend on the frames alone.
    options = ["-vf", filters, "-c:v", "libx264", "-preset", "medium", "-crf", "16", "-threads", "1"]
    options += ["-fflags", "+bitexact", "-flags:v", "+bitexact", "-movflags", "+faststart", "-f", "mp4"]
    if carry:
        options += ["-metadata", f"comment={carry.text}"]
    with _replacing(Path(path)) as temporary:
        _encode(even, _checked_rate(fps, MAX_FPS), temporary, options)
        if carry and carry.archive:
            with temporary.open("ab") as file:
                file.write((24 + len(carry.archive)).to_bytes(4, "big") + b"uuid" + CARRY_BOX + carry.archive)


def write_gif(path: str | Path, frames: np.ndarray, fps: float, carry: Carry | None = None) -> None:
    """Write an endless GIF with one palette for the whole clip, so that colours do not flicker between frames.

    Args:
        path: where to; an existing file is replaced.
        frames: uint8 `(F, H, W, 3)`, F >= 1.
        fps: playback rate, at most 50; a GIF counts hundredths of a second, so others are met on average.
        carry: what the file carries besides; of it, the text.

    Raises:
        InputError: the rate is not usable, or the file cannot be written there.
    """
    # Ordered dither stays in place from frame to frame; error diffusion would shimmer.
    filters = "split[a][b];[a]palettegen=stats_mode=full[p];[b][p]paletteuse=dither=bayer:bayer_scale=4"
    options = ["-filter_complex", filters, "-threads", "1", "-loop", "0", "-fflags", "+bitexact", "-f", "gif"]
    rate = _checked_rate(fps, MAX_GIF_FPS)
    with _replacing(Path(path)) as temporary:
        _encode(_checked_frames(frames), rate, temporary, options)
        if carry:
            content = temporary.read_bytes()
            first = _gif_blocks_start(content)  # behind the last picture ffmpeg takes a comment for one more
            temporary.write_bytes(content[:first] + _gif_comment(carry.text) + content[first:])


def write_png_zip(path: str | Path, frames: np.ndarray, carry: Carry | None = None) -> None:
    """Write frames without loss as `frame_00000.png`, `frame_00001.png`, ... in a zip file.

    Args:
        path: where to; an existing file is replaced.
        frames: uint8 `(F, H, W, 3)`, F >= 1.
        carry: what the file carries besides: the archive's files stand beside the frames, each of which has the text.

    Raises:
        InputError: the file cannot be written there.
    """
    _checked_frames(frames)
    text = _png_info(Carry(carry.text)) if carry else None
    with _replacing(Path(path)) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
        for index, frame in enumerate(frames):
            buffer = io.BytesIO()
            Image.fromarray(frame).save(buffer, format="PNG", pnginfo=text)
            archive.writestr(zipfile.ZipInfo(f"frame_{index:05d}.png", date_time=_PNG_DATE), buffer.getvalue())
        if carry and carry.archive:
            with zipfile.ZipFile(io.BytesIO(carry.archive)) as carried:
                for entry in carried.infolist():
                    archive.writestr(entry, carried.read(entry))


def write_png(path: str | Path, picture: np.ndarray, carry: Carry | None = None) -> None:
    """Write one picture without loss.

    Args:
        path: where to; an existing file is replaced.
        picture: uint8 `(H, W, 3)`.
        carry: what the file carries besides.

    Raises:
        InputError: the file cannot be written there.
    """
    (checked,) = _checked_frames(picture[None])
    with _replacing(Path(path)) as temporary:
        Image.fromarray(checked).save(temporary, format="PNG", pnginfo=_png_info(carry) if carry else None)


# Checks of arguments


def _name(path: Path) -> str:
    """The file's name, fit for a sentence: no folders of this machine, nothing unprintable, not too long."""
    name = "".join(letter if letter.isprintable() else "?" for letter in path.name)
    return f'"{name if len(name) <= 80 else name[:77] + "..."}"'


def _whole(name: str, value: int, maximum: int) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        number = 0
    if not 1 <= number <= maximum:
        raise InputError(f"{name} must be a whole number from 1 to {maximum}; it is {value!r:.60}.")
    return number


def _checked_size(size: tuple[int, int], fit: str) -> tuple[int, int]:
    if fit not in FITS:
        raise InputError(f"The way to fit a clip must be one of {', '.join(FITS)}; it is {fit!r}.")
    return _whole("The width", size[0], MAX_SIDE), _whole("The height", size[1], MAX_SIDE)


def _checked_frames(frames: np.ndarray) -> np.ndarray:
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[3] != 3 or 0 in frames.shape:
        raise ValueError(f"frames must be uint8 (F, H, W, 3) and not empty, not {frames.dtype} {frames.shape}")
    return frames


def _checked_rate(fps: float, maximum: float) -> Fraction:
    if not (isinstance(fps, (int, float)) and 0 < fps <= maximum):
        raise InputError(f"The playback rate must be above 0 and at most {maximum:g} frames a second; it is {fps!r}.")
    return _rate(fps)


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


# Reading


def _damaged(name: str) -> InputError:
    return InputError(
        f"{name} could not be decoded: it is damaged, incomplete or uses an unknown codec. "
        "Check that it plays, or convert it to mp4 (H.264), and try again."
    )


def _open(path: Path, limits: Limits) -> _Source:
    """Check a file as far as is possible without decoding it."""
    head = _read_head(path, limits)
    container = _sniff(head)
    if container is None:
        raise InputError(
            f"{_name(path)} is not a video or a picture that can be read here, whatever it is named. "
            f"Known kinds are {KNOWN_KINDS}; playlists and text are refused. Convert it to mp4 and try again."
        )
    if container in _PICTURES:
        with _opened_picture(path, container, limits) as picture:
            animated = getattr(picture, "is_animated", False)
            pixels = picture.width * picture.height
        if not animated:
            return _Source(path, container, np.zeros(1), 0.0, STILL_FPS, pixels)
        if container != "PNG":
            raise InputError(f"{_name(path)} is an animated {container}. Convert it to mp4 or gif and try again.")
        container = "apng"
    return _scan(path, container, limits)


def _read_head(path: Path, limits: Limits) -> bytes:
    name = _name(path)
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


def _ffmpeg_input(path: Path, container: str, limits: Limits) -> list[str]:
    """The start of every ffmpeg command that reads: nothing guessed, no other file, no address, bounded work."""
    bounds = ["-timelimit", str(FFMPEG_CPU_SECONDS), "-max_pixels", str(limits.pixels)]
    # Only fatal messages: a damaged file can make ffmpeg print without end.
    start = [get_ffmpeg_exe(), "-nostdin", "-hide_banner", "-loglevel", "fatal", *bounds]
    # The prefix keeps a name such as "concat:a" from being taken for a protocol.
    return [*start, "-protocol_whitelist", "file", "-f", container, "-i", f"file:{path.absolute()}"]


def _scan(path: Path, container: str, limits: Limits) -> _Source:
    """Read the times of all frames from the packets, which costs reading the file but no decoding."""
    command = _ffmpeg_input(path, container, limits)
    count = str(limits.source_frames + 1)
    done = _finished([*command, *_PICTURES_ONLY, "-c", "copy", "-frames:v", count, "-f", "framecrc", "-"])
    if _NO_STREAMS in done.stderr:
        if _NO_STREAMS in _finished([*command, "-map", "0", "-c", "copy", "-t", "0", "-f", "null", "-"]).stderr:
            raise _damaged(_name(path))
        raise InputError(f"{_name(path)} has no picture, only sound or text. Choose a file with a video in it.")
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
        raise _damaged(_name(path))
    if header["dimensions 0"] == "0x0":
        raise InputError(
            f"The size of the frames of {_name(path)} cannot be told: it is damaged, or beyond the "
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


def _finished(command: Sequence[str]) -> subprocess.CompletedProcess[bytes]:
    """What a command that reads nothing from its input has put out, whether or not it succeeded."""
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)


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


def _rate(fps: float) -> Fraction:
    """The rate as ffmpeg wants it; 1001 is the denominator of the NTSC rates."""
    return max(Fraction(fps).limit_denominator(1001), Fraction(1, 1001))


def _decode(source: _Source, first: int, stride: int, count: int, limits: Limits) -> Iterator[np.ndarray]:
    """Yield at most `count` frames `(H, W, 3)`, every `stride`-th from frame `first`; fewer where the file ends."""
    if source.container in _PICTURES:
        yield _read_picture(source, limits)
        return
    command = _ffmpeg_input(source.path, source.container, limits)
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
        f"trim=start={begin:.6f},setpts=PTS-STARTPTS,fps={_rate(source.fps)},select='not(mod(n,{stride}))',"
        f"scale=w='clip(iw*sar,1,{MAX_SIDE})':h=ih:flags={_SCALER_FLAGS},format=rgba"
    )
    command += [*_PICTURES_ONLY, "-vf", filters, "-fps_mode", "passthrough", "-frames:v", str(count)]
    command += ["-c:v", "pam", "-f", "image2pipe", "-"]
    quiet = subprocess.DEVNULL
    with subprocess.Popen(command, stdin=quiet, stdout=subprocess.PIPE, stderr=quiet) as process:
        try:
            output = cast("IO[bytes]", process.stdout)
            while (frame := _read_pam(output)) is not None:
                yield _over_white(frame)
        finally:
            process.kill()


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
            f"{_name(path)} has more than the {limits.pixels / 1e6:.1f} megapixels that are accepted. "
            "Shrink it and try again."
        ) from error
    except (OSError, ValueError, SyntaxError, UnidentifiedImageError) as error:
        raise _damaged(_name(path)) from error


def _read_picture(source: _Source, limits: Limits) -> np.ndarray:
    with _opened_picture(source.path, source.container, limits) as picture:
        upright = ImageOps.exif_transpose(picture)
        if upright.mode.startswith("I"):
            # Pillow would clip 16-bit greys at 255 instead of scaling them.
            upright = Image.fromarray((np.asarray(upright).astype(np.uint16) >> 8).astype(np.uint8))
        if upright.has_transparency_data:
            return _over_white(np.asarray(upright.convert("RGBA")))
        return np.array(upright.convert("RGB"))


def _resize(frame: np.ndarray, size: tuple[int, int], box: tuple[float, float, float, float]) -> np.ndarray:
    """Resample the part `box` (left, top, right, bottom) of one frame to `size` (width, height)."""
    return np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.LANCZOS, box=box))


# Writing


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """Give a new file beside `path` to write to; it takes that name only if all went well."""
    temporary = path.with_name(f".{uuid.uuid4().hex}{path.suffix}")
    try:
        temporary.touch(exist_ok=False)
        yield temporary
        temporary.replace(path)
    except OSError as error:
        raise InputError(
            f"{_name(path)} could not be written: {error.strerror or 'the system refused'}. "
            "Check that its folder exists, may be written to and has free space."
        ) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def _png_info(carry: Carry) -> PngImagePlugin.PngInfo:
    info = PngImagePlugin.PngInfo()
    info.add_itxt(CARRY_NAME, carry.text)
    if carry.archive:
        info.add(CARRY_CHUNK, carry.archive)
    return info


def _gif_blocks_start(content: bytes) -> int:
    """Where a GIF's blocks begin: behind its header, and the palette that it may have for all of them."""
    flags = content[10]
    return 13 + (3 * 2 ** ((flags & 7) + 1) if flags & 0x80 else 0)


def _gif_comment(text: str) -> bytes:
    """A comment extension: a chain of sub-blocks of at most 255 bytes, the first of which is the keyword."""
    data = text.encode()
    blocks = [CARRY_NAME.encode(), *(data[start : start + 255] for start in range(0, len(data), 255))]
    return b"\x21\xfe" + b"".join(bytes([len(block)]) + block for block in blocks) + b"\0"


def _encode(frames: np.ndarray, rate: Fraction, path: Path, options: Sequence[str]) -> None:
    """Have ffmpeg write frames to `path`. Raises OSError where it could not."""
    height, width = frames.shape[1:3]
    raw = ["-f", "rawvideo", "-pixel_format", "rgb24", "-video_size", f"{width}x{height}", "-framerate", str(rate)]
    command = [get_ffmpeg_exe(), "-hide_banner", "-loglevel", "fatal", *raw, "-i", "pipe:0", *options]
    command += ["-y", f"file:{path.absolute()}"]
    pixels = memoryview(np.ascontiguousarray(frames)).cast("B")
    done = subprocess.run(command, input=pixels, capture_output=True, check=False)
    if done.returncode != 0:
        raise OSError(errno.EIO, "the encoder stopped early, most often because the disk is full")


def fits_sprite_sheet(frames: np.ndarray) -> bool:
    """Whether `(F, H, W, 3)` frames fit into one picture of the sheets' format."""
    count, height, width = frames.shape[:3]
    columns, rows = _sheet_shape(count)
    return max(columns * width, rows * height) <= MAX_SHEET_SIDE


def _sheet_shape(count: int) -> tuple[int, int]:
    """Columns and rows of a sheet of so many frames."""
    columns = math.ceil(math.sqrt(count))
    return columns, math.ceil(count / columns)


def sprite_sheet(frames: np.ndarray, *, lossless: bool, quality: int) -> dict[str, Any]:
    """All frames in one picture, row by row, as a data address with what is needed to cut it up again.

    Args:
        frames: uint8 `(F, H, W, 3)`.
        lossless: keep every pixel as it is.
        quality: of the picture where it is not lossless, 0 to 100; where it is, the effort to make it small.

    Raises:
        InputError: they do not fit, see `fits_sprite_sheet`.
    """
    count, height, width = frames.shape[:3]
    if not fits_sprite_sheet(frames):
        raise InputError(
            f"{count} frames of {width}x{height} are too many to be shown side by side. Make a shorter clip."
        )
    columns, rows = _sheet_shape(count)
    canvas = np.zeros((rows * columns, height, width, 3), np.uint8)
    canvas[:count] = frames
    grid = canvas.reshape(rows, columns, height, width, 3).swapaxes(1, 2).reshape(rows * height, columns * width, 3)
    buffer = io.BytesIO()
    Image.fromarray(grid).save(buffer, "WEBP", lossless=lossless, quality=quality, method=2)
    address = "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()
    return {"src": address, "columns": columns, "count": count, "width": width, "height": height}
