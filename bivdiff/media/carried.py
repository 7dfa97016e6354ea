"""What an output file carries of its run: all settings, and the pictures that the run was given, without loss.

An archive is a zip: `pictures/index.json` names the clips and their size, each frame is a PNG beside it, and
`settings.json` says what was run. What is read may come from anybody. So its size is known before it is read, its
pictures' before they are decoded, and nothing in it is executed. Names of models in it are only data.
"""

from __future__ import annotations

import io
import json
import math
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from PIL import Image

from bivdiff.errors import InputError
from bivdiff.late import importing
from bivdiff.media.archives import MAX_TEXT, UnusableArchiveError, opened_zip
from bivdiff.media.writing import CARRY_BOX, CARRY_CHUNK, CARRY_NAME, MAX_FPS, ZIP_DATE, Carry
from bivdiff.types import MAX_AXES, GenerationRequest

FORMAT = 1  # to be raised when older versions could not restore what is written
MAX_BYTES = 32 * 2**20
"""Of an archive inside another file. Pictures that need more stay at home, and the settings travel alone."""

MAX_PIXELS = 2**26
"""Of all pictures in an archive together, each clip's counted; they take three bytes of memory each."""

MAX_BOXES = 2**16  # parts of a file that are looked at in search of ours
MAX_CONTROLS = 16
MAX_AXIS_VALUES = 64
NO_PICTURES = (
    "The source clip did not travel with these settings: the file has no place for it, or the clip is too large. "
    "Choose the clip again, and its mask or control clips where there were any."
)

_SETTINGS = "settings.json"
_INDEX = "pictures/index.json"
_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_START = _PNG + b"\0\0\0\rIHDR"
_COMMENT = (b"moov", b"udta", b"meta", b"ilst", b"\xa9cmt", b"data")
_EXTRA = ("fps", "axes")  # what settings of a run have beside those of its request


class _DamagedError(Exception):
    """What is carried is not as it was written."""


class Pictures(NamedTuple):
    """The clips of a request: `frames` `(F, H, W, 3)`, `masks` `(F, H, W)`, `control_frames` by the control's place."""

    frames: np.ndarray
    masks: np.ndarray | None
    control_frames: tuple[np.ndarray | None, ...]


@dataclass(frozen=True, eq=False)
class Carried:
    """What a file carried.

    Attributes:
        settings: as `settings_of` gives them; each value is one that a request accepts.
        request: all of it, pictures included; None where the pictures did not travel.
        shows: which of the run's clips the file itself shows, as `Run.files` calls it; empty where it does not say.
    """

    settings: dict[str, Any]
    request: GenerationRequest | None
    shows: str = ""


Check = Callable[[tuple[int, int, int]], None]


def _any(_: tuple[int, int, int]) -> None:
    """Clips of any length and size."""


def settings_of(request: GenerationRequest, fps: float, axes: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The settings of a run: the request's, `fps`, and for a comparison the values that are compared as `axes`."""
    settings = {**request.settings(), "fps": fps}
    return settings if axes is None else {**settings, "axes": {name: list(values) for name, values in axes.items()}}


def request_of(settings: Mapping[str, Any], pictures: Pictures) -> GenerationRequest:
    """The request with settings as `settings_of` gives them.

    Raises:
        InputError: a setting cannot be used, see `GenerationRequest.from_settings`.
    """
    own = {name: value for name, value in settings.items() if name not in _EXTRA}
    return GenerationRequest.from_settings(own, pictures.frames, pictures.masks, pictures.control_frames)


# Writing


def pack(request: GenerationRequest) -> bytes:
    """The request's pictures as an archive: source, masks and the control clips that were given."""
    clips = {"frames": request.frames}
    if request.masks is not None:
        clips["masks"] = request.masks
    for number, control in enumerate(request.controls, 1):
        if control.frames is not None:
            clips[_control_name(number)] = control.frames
    count, height, width = request.frames.shape[:3]
    index = {"names": list(clips), "count": count, "width": width, "height": height}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(zipfile.ZipInfo(_INDEX, ZIP_DATE), json.dumps(index))
        for name, frames in clips.items():
            for number, frame in enumerate(frames):
                archive.writestr(zipfile.ZipInfo(_frame_name(name, number), ZIP_DATE), _png(frame))
    return buffer.getvalue()


def carry(settings: Mapping[str, Any], pictures: bytes = b"", shows: str = "") -> Carry:
    """What a file is given to carry.

    Args:
        settings: as `settings_of` gives them.
        pictures: as `pack` gives them; they are left out where they exceed `MAX_BYTES` or `MAX_PIXELS`.
        shows: see `Carried`.
    """
    text = settings_text(settings, shows)
    if pictures:
        with zipfile.ZipFile(io.BytesIO(pictures)) as archive:
            names, shape = _index(archive)
        if len(pictures) + len(text) > MAX_BYTES or _pixels(names, shape) > MAX_PIXELS:
            pictures = b""
    buffer = io.BytesIO(pictures)
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.writestr(zipfile.ZipInfo(_SETTINGS, ZIP_DATE), text)
    return Carry(text, buffer.getvalue())


def settings_text(settings: Mapping[str, Any], shows: str = "") -> str:
    """Settings as JSON, with the mark and version of this format, and which clip the file shows."""
    written = {CARRY_NAME: FORMAT, "settings": settings, **({"shows": shows} if shows else {})}
    text = json.dumps(written, ensure_ascii=False, default=lambda number: number.item())
    # Half a surrogate pair, which some keyboards send, is no text in UTF-8, but JSON can spell it.
    return text.encode("utf-8", "backslashreplace").decode()


def _png(picture: np.ndarray) -> bytes:
    with importing():
        import cv2  # five times as fast as Pillow here

    # It takes blue first.
    ordered = picture if picture.ndim == 2 else picture[..., ::-1]
    options = [cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE]
    options += [cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_SUB]
    return cv2.imencode(".png", ordered, options)[1].tobytes()


def _control_name(number: int) -> str:
    return f"control-{number}"  # counted from 1


def _frame_name(clip: str, number: int) -> str:
    return f"pictures/{clip}-{number:05d}.png"


def _pixels(names: Sequence[str], shape: tuple[int, int, int]) -> int:
    return len(names) * math.prod(shape)


# Reading


def read(path: str | Path, check: Check = _any) -> Carried:
    """Take out of a file what it carries: an mp4, PNG, GIF or zip, of this machine or a foreign one.

    Args:
        path: the file.
        check: is called with `(F, H, W)` of its clips before they are decoded; raises InputError for what is too much.

    Raises:
        InputError: it carries nothing, or what cannot be restored: damaged, changed, too large, of a newer version.
    """
    try:
        with Path(path).open("rb") as file:
            return _read(file, check)
    except OSError as error:
        raise InputError(
            f"The file could not be opened: {error.strerror or 'the system refused'}. Drop it again."
        ) from error
    except (_DamagedError, struct.error, UnicodeDecodeError) as error:
        raise InputError(
            "The settings in this file are damaged or were changed, so they cannot be restored. "
            "Take the file as the studio wrote it."
        ) from error


def unpack(path: Path) -> Pictures:
    """The pictures of an archive that `pack` made on this machine, of any size.

    Raises:
        InputError: it is not there, or damaged.
    """
    with _packed(path) as archive:
        return _pictures(archive, math.inf)


def packed_shape(path: Path) -> tuple[int, int, int]:
    """`(F, H, W)` of the clips of an archive that `pack` made on this machine; decodes none of them.

    Raises:
        InputError: it is not there, or damaged.
    """
    with _packed(path) as archive:
        return _index(archive)[1]


@contextmanager
def _packed(path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        with path.open("rb") as file, _opened_zip(file) as archive:
            yield archive
    except (OSError, _DamagedError) as error:
        raise InputError(
            "The source clip of this run is no longer there or is damaged, so the run cannot be restored. "
            "Choose the clip again."
        ) from error


def _read(file: IO[bytes], check: Check) -> Carried:
    head = file.read(12)
    finder = {b"\x89PNG": _in_png, b"PK\3\4": _in_zip, b"GIF8": _in_gif}.get(head[:4])
    if finder is None and head[4:8] == b"ftyp":
        finder = _in_mp4
    found = finder(file, check) if finder else None
    if found is None:
        raise InputError(
            "This file carries no settings of a run. Drop an mp4, PNG, GIF or zip that the studio made; "
            "one that another program has saved again may have lost them."
        )
    return found


def _in_mp4(file: IO[bytes], check: Check) -> Carried | None:
    size = file.seek(0, io.SEEK_END)
    for kind, start, end in _boxes(file, 0, size):
        if kind == b"uuid" and _part(file, start, start + 16) == CARRY_BOX:
            return _from_archive(_part(file, start + 16, end), check)
    start, end = 0, size
    for wanted in _COMMENT:
        # A "meta" box counts its version first.
        inside = _boxes(file, start + 4 * (wanted == b"ilst"), end)
        place = next(((first, last) for kind, first, last in inside if kind == wanted), None)
        if place is None:
            return None
        start, end = place
    text = _part(file, start + 8, end)
    return _from_text(text) if CARRY_NAME.encode() in text[:20] else None


def _boxes(file: IO[bytes], start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Kind, and start and end of the content, of each box of an ISO media file between two places.

    No box reaches out of the one that it is in, nor out of the file, whatever it says of its size.
    """
    for _ in range(MAX_BOXES):
        if start + 8 > end:
            return
        header = _part(file, start, start + 8)
        size, kind, content = int.from_bytes(header[:4], "big"), header[4:], start + 8
        if size == 1:
            size, content = int.from_bytes(_part(file, content, content + 8), "big"), content + 8
        last = end if size == 0 else min(start + size, end)
        if last < content:
            return
        yield kind, content, last
        start = last


def _in_png(file: IO[bytes], check: Check) -> Carried | None:
    start, text = len(_PNG), None
    for _ in range(MAX_BOXES):
        header = _part(file, start, start + 8)
        if len(header) < 8:
            break
        content, kind = start + 8, header[4:]
        start = content + int.from_bytes(header[:4], "big") + 4
        if kind == CARRY_CHUNK:
            return _from_archive(_chunk(file, kind, content, start), check)
        if kind == b"iTXt" and _part(file, content, content + len(CARRY_NAME) + 1) == CARRY_NAME.encode() + b"\0":
            text = _chunk(file, kind, content, start)
    if text is None:
        return None
    # Keyword, a flag and a method of compression, language, translated keyword.
    flag, rest = text[len(CARRY_NAME) + 1 :][:2], text[len(CARRY_NAME) + 3 :].split(b"\0", 2)
    if flag != b"\0\0" or len(rest) != 3:
        raise _DamagedError
    return _from_text(rest[2])


def _chunk(file: IO[bytes], kind: bytes, start: int, end: int) -> bytes:
    data = _part(file, start, end)
    content, check = data[:-4], data[-4:]
    if zlib.crc32(kind + content) != int.from_bytes(check, "big"):
        raise _DamagedError
    return content


def _in_gif(file: IO[bytes], _: Check) -> Carried | None:
    size = file.seek(0, io.SEEK_END)
    tail = _part(file, max(size - 2 * MAX_TEXT, 0), size)
    name = CARRY_NAME.encode()
    mark = b"\x21\xfe" + bytes([len(name)]) + name
    place = tail.rfind(mark)
    if place < 0:
        return None
    place, blocks = place + len(mark), []
    while place < len(tail) and tail[place]:
        blocks.append(tail[place + 1 : place + 1 + tail[place]])
        place += 1 + tail[place]
    return _from_text(b"".join(blocks))


def _in_zip(file: IO[bytes], check: Check) -> Carried | None:
    with _opened_zip(file) as archive:
        return _from_zip(archive, check) if _SETTINGS in archive.namelist() else None


def _from_archive(data: bytes, check: Check) -> Carried:
    with _opened_zip(io.BytesIO(data)) as archive:
        return _from_zip(archive, check)


def _from_zip(archive: zipfile.ZipFile, check: Check) -> Carried:
    settings, shows = _settings(_member(archive, _SETTINGS, MAX_TEXT))
    pictures = _pictures(archive, MAX_PIXELS, check) if _INDEX in archive.namelist() else None
    return _checked(settings, pictures, shows)


def _from_text(text: bytes) -> Carried:
    settings, shows = _settings(text)
    return _checked(settings, None, shows)


def _settings(text: bytes) -> tuple[dict[str, Any], str]:
    """The settings, and which clip the file says that it shows."""
    written = _json(text)
    if not isinstance(written, dict) or not isinstance(written.get("settings"), dict):
        raise _DamagedError
    version = written.get(CARRY_NAME)
    if isinstance(version, bool) or not isinstance(version, int) or version < 1:
        raise _DamagedError
    if version > FORMAT:
        raise InputError("This file was made by a newer version of the studio. Update this one and drop it again.")
    shows = written.get("shows")
    return written["settings"], shows if isinstance(shows, str) else ""


def _checked(settings: dict[str, Any], pictures: Pictures | None, shows: str) -> Carried:
    """The settings, once a request has accepted them, with the file's own pictures or with blank ones."""
    fps, axes, controls = settings.get("fps"), settings.get("axes", {}), settings.get("controls", [])
    right = isinstance(fps, int | float) and not isinstance(fps, bool) and 0 < fps <= MAX_FPS
    if not right or not _are_axes(axes) or not isinstance(controls, list) or len(controls) > MAX_CONTROLS:
        raise _DamagedError
    given = pictures or Pictures(np.zeros((1, 8, 8, 3), np.uint8), None, ())
    request = request_of(settings, given)
    return Carried({**settings, **request.settings()}, request if pictures else None, shows)


def _are_axes(axes: Any) -> bool:
    return isinstance(axes, dict) and len(axes) <= MAX_AXES and all(
        isinstance(values, list)
        and len(values) <= MAX_AXIS_VALUES
        and all(isinstance(value, str | int | float) for value in values)
        for values in axes.values()
    )  # fmt: skip


def _pictures(archive: zipfile.ZipFile, max_pixels: float, check: Check = _any) -> Pictures:
    names, shape = _index(archive)
    check(shape)
    if _pixels(names, shape) > max_pixels:
        raise InputError(
            f"The pictures in this file have {_pixels(names, shape) / 1e6:.0f} megapixels, more than the "
            f"{max_pixels / 1e6:.0f} that are read. Choose the source clip itself, and set the settings by hand."
        )
    clips = {name: _clip(archive, name, shape) for name in names}
    last = max((number for number in range(1, MAX_CONTROLS + 1) if _control_name(number) in clips), default=0)
    maps = tuple(clips.get(_control_name(number)) for number in range(1, last + 1))
    return Pictures(clips["frames"], clips.get("masks"), maps)


def _index(archive: zipfile.ZipFile) -> tuple[list[str], tuple[int, int, int]]:
    """The names of an archive's clips, and `(F, H, W)` of each."""
    index = _json(_member(archive, _INDEX, MAX_TEXT))
    if not isinstance(index, dict):
        raise _DamagedError
    names: Any = index.get("names")
    sides: list[Any] = [index.get(key) for key in ("count", "height", "width")]
    whole = all(isinstance(side, int) and not isinstance(side, bool) and side > 0 for side in sides)
    known = ["frames", "masks", *map(_control_name, range(1, MAX_CONTROLS + 1))]
    if not whole or not isinstance(names, list) or "frames" not in names or len(names) != len({*map(str, names)}):
        raise _DamagedError
    if not {*map(str, names)} <= set(known):
        raise _DamagedError
    count, height, width = sides
    return names, (count, height, width)


def _clip(archive: zipfile.ZipFile, name: str, sides: tuple[int, int, int]) -> np.ndarray:
    count, *size = sides
    shape = (*size, 3) if name != "masks" else (*size,)
    bound = 2 * math.prod(shape) + 2**16
    # One by one, so that a count that is not true costs nothing.
    frames = (_member(archive, _frame_name(name, number), bound) for number in range(count))
    return np.stack([_decoded(frame, shape) for frame in frames])


def _decoded(data: bytes, shape: tuple[int, ...]) -> np.ndarray:
    """One PNG, once its header has said that it is of that shape, with 8 bits a channel and not interlaced."""
    kind = 0 if len(shape) == 2 else 2
    header = struct.pack(">2I5B", shape[1], shape[0], 8, kind, 0, 0, 0)
    if data[: len(_PNG_START) + len(header)] != _PNG_START + header:
        raise _DamagedError
    try:
        with Image.open(io.BytesIO(data), formats=["PNG"]) as picture:
            pixels = np.array(picture)
    except (OSError, SyntaxError, ValueError, zlib.error, Image.DecompressionBombError) as error:
        raise _DamagedError from error
    if pixels.shape != shape or pixels.dtype != np.uint8:
        raise _DamagedError
    return pixels


def _opened_zip(file: IO[bytes]) -> zipfile.ZipFile:
    try:
        return opened_zip(file)
    except UnusableArchiveError as error:
        raise _DamagedError from error


def _member(archive: zipfile.ZipFile, name: str, bound: int) -> bytes:
    """A file of an archive, not read at all if it is larger than `bound` bytes."""
    try:
        entry = archive.getinfo(name)
        plain = entry.compress_type in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}
        if entry.file_size > bound or not plain:
            raise _DamagedError
        with archive.open(entry) as file:
            data = file.read(entry.file_size + 1)
    except (KeyError, zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError, OSError) as error:
        raise _DamagedError from error
    if len(data) != entry.file_size:
        raise _DamagedError
    return data


def _json(text: bytes) -> Any:
    if len(text) > MAX_TEXT:
        raise _DamagedError
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _DamagedError from error


def _part(file: IO[bytes], start: int, end: int) -> bytes:
    """The bytes between two places of a file, at most `MAX_BYTES` and what an archive's wrapping adds."""
    if end - start > MAX_BYTES + MAX_TEXT:
        raise _DamagedError
    file.seek(start)
    return file.read(max(end - start, 0))
