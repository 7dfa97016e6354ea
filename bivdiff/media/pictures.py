"""Pictures, through Pillow: stills, animations, and many files that are one clip: a folder, a pattern, a zip."""

from __future__ import annotations

import fnmatch
import io
import json
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple

import numpy as np
from PIL import Image, ImageCms, ImageOps

from bivdiff.errors import InputError, quoted_name
from bivdiff.media import effort, ffmpeg
from bivdiff.media.archives import MAX_TEXT, UnusableArchiveError, opened_zip
from bivdiff.media.colours import HDR, coded_in, filters_of
from bivdiff.media.drawn import Pace, pace_of, times_of
from bivdiff.media.heads import Head
from bivdiff.media.kinds import HEAD, PICTURES, kind_of
from bivdiff.media.source import STILL_FPS, Limits, Source, check_limits, damaged
from bivdiff.media.tiffs import check_directories, check_page, pages_of
from bivdiff.media.writing import MAX_FPS

SEQUENCE_FPS = 8.0
"""The rate of a clip of single pictures where nobody says another."""

ANIMATED = ("WEBP", "AVIF")
"""Kinds of pictures that may be many, one after the other in time."""

_CODED = 2**16  # first bytes of a file, in which it says how its colours are meant
_PNG_START = b"\x89PNG\r\n\x1a\n"
_PNG_TEXTS = (b"tEXt", b"zTXt", b"iTXt")
_UNREADABLE = (KeyError, ValueError, RuntimeError, OSError, EOFError, zipfile.BadZipFile, zlib.error)
"""What Python's reader of zips raises where one is damaged."""

_UNDECODABLE = (
    OSError, EOFError, ValueError, TypeError, LookupError, ArithmeticError, SyntaxError, RuntimeError, struct.error,
    zlib.error,
)  # fmt: skip
"""What Pillow raises where a picture is damaged, which depends on what is damaged."""

_NUMBERED = re.compile(r"%(0\d+)?d")


@dataclass(frozen=True, kw_only=True)
class Animation(Source):
    """One file of one picture or more. `colour`: filters that bring it into the usual range, or nothing."""

    container: str
    limits: Limits
    colour: str = ""

    def frames(self, indices: Sequence[int], deep: bool = False) -> Generator[np.ndarray, None, None]:
        """See `Source.frames`."""
        with self.path.open("rb") as file, opened_picture(file, self.name, self.container, self.limits) as picture:
            place = 0
            for index in indices:
                # Pillow would decode all that lies between at one go.
                for step in range(place, int(index)) if self.container in ANIMATED else ():
                    with effort.counted():
                        picture.seek(step)
                        picture.load()
                place = int(index)
                with effort.counted():
                    if len(self.seconds) > 1:
                        picture.seek(place)
                    frame = _levels(picture) if deep else _pixels(picture, self.colour)
                yield frame


class _Entry(NamedTuple):
    """One picture of many: its name for people, and how to open it."""

    name: str
    open: Callable[[], IO[bytes]]


@dataclass(frozen=True, kw_only=True)
class PictureClip(Source):
    """Many files of one picture each, of one size. `colour`: as for an animation; of all as of the first."""

    entries: tuple[_Entry, ...]
    limits: Limits
    colour: str = ""

    def frames(self, indices: Sequence[int], deep: bool = False) -> Generator[np.ndarray, None, None]:
        """See `Source.frames`."""
        for index in indices:
            name = f"{self.entries[index].name} in {self.name}"
            with effort.counted(), _opened_entry(self.entries[index], name, self.limits) as (_, _, picture):
                frame = _levels(picture) if deep else _pixels(picture, self.colour)
            if frame.shape[:2] != (self.height, self.width):
                raise InputError(
                    f"{name} is {frame.shape[1]}x{frame.shape[0]}, and the first picture is {self.width}x"
                    f"{self.height}. The pictures of a clip must have one size: bring them to it."
                )
            yield frame


# Opening


def open_picture(path: Path, container: str, limits: Limits) -> Source | None:
    """A still or an animation; None for an animated PNG, which is not read here.

    Raises:
        InputError: it cannot be used.
    """
    name = quoted_name(path)
    with path.open("rb") as file:
        if container == "PNG" and _png_parts(file)[0]:
            return None
        with opened_picture(file, name, container, limits) as picture:
            count, pace = _paced(file, picture, container, name, limits)
            upright = ImageOps.exif_transpose(picture)
            alpha, mode = picture.has_transparency_data, picture.mode
            colour, meant, notes = _meaning(file, picture, name)
    still = count == 1
    kind = "picture" if still else "animation" if container in ANIMATED else "of several pages"
    check_limits(name, pace.seconds, upright.width * upright.height, limits)
    return Animation(
        path=path, kind=f"{container} {kind}", container=container, limits=limits,
        width=upright.width, height=upright.height, seconds=pace.seconds, slack=pace.slack, fps=pace.fps, counted=True,
        timed=container in ANIMATED and not still, colour=colour, notes=(*notes, *pace.notes),
        facts={
            "colour": meant, "pixels": mode, "transparency": "possible" if alpha else "none",
            **({} if still else {"pace": pace.pace}),
        },
    )  # fmt: skip


def _paced(file: IO[bytes], picture: Image.Image, container: str, name: str, limits: Limits) -> tuple[int, Pace]:
    """How many pictures of a file are a clip, and how they follow each other."""
    notes: tuple[str, ...] = ()
    if container == "TIFF":
        count, notes = pages_of(picture, name, limits)
    else:
        count = getattr(picture, "n_frames", 1) if container in ANIMATED else 1
    if container in ANIMATED:
        return count, pace_of(*times_of(file, container, count), name)
    fps = STILL_FPS if count == 1 else SEQUENCE_FPS
    return count, Pace(np.arange(count) / fps, 0.0, fps, "even", notes)


def is_pattern(path: Path) -> bool:
    """Whether a path that is no file is a pattern of files: `frames/*.png`, `frame_%05d.png`."""
    return path.parent.is_dir() and bool(_NUMBERED.search(path.name) or any(letter in path.name for letter in "*?["))


def files_of(path: Path) -> list[Path]:
    """The files that a path of a clip stands for, in natural order: itself, a folder's, or those that fit a pattern.

    Raises:
        OSError: the folder cannot be read.
    """
    if path.is_dir():
        return sorted(path.iterdir(), key=_natural)
    if path.exists() or not is_pattern(path):
        return [path]
    if _NUMBERED.search(path.name):
        pieces = [re.escape(piece) for piece in _NUMBERED.sub("\0", path.name).split("\0")]
        fits = re.compile(r"\d+".join(pieces)).fullmatch
    else:
        fits = re.compile(fnmatch.translate(path.name)).fullmatch
    return sorted((file for file in path.parent.iterdir() if fits(file.name)), key=_natural)


def open_several(path: Path, limits: Limits) -> Source | None:
    """The pictures in a folder, or those that fit a pattern, in natural order; None for any other path.

    Raises:
        InputError: there are none, or they cannot be used.
        OSError: the folder cannot be read.
    """
    if path.is_dir():
        return _clip_of_files(path, "folder of pictures", files_of(path), limits)
    if not path.exists() and is_pattern(path):
        return _clip_of_files(path, "pictures by a pattern", files_of(path), limits)
    return None


def open_zip(path: Path, limits: Limits) -> Source:
    """The pictures in a zip, in natural order; of one that this program wrote, the frames at their rate.

    Raises:
        InputError: there are none, or they cannot be used.
    """
    name = quoted_name(path)
    try:
        with path.open("rb") as file, opened_zip(file) as archive:
            if any(info.flag_bits & 1 for info in archive.infolist()):
                raise InputError(f"{name} is locked by a password. Unpack it, and pack the pictures without one.")
            members = _pictures_of(archive)
            rate = _carried_rate(archive)
    except (UnusableArchiveError, *_UNREADABLE) as error:
        raise InputError(
            f"{name} is a zip that is damaged, or holds too much to be read. Pack the pictures again, or unpack them "
            "and choose the folder."
        ) from error
    entries = [
        _Entry(quoted_name(Path(member.name)), partial(_open_member, path, str(member), limits))
        for member in sorted(members, key=_natural)
    ]  # fmt: skip
    folders = len({member.parent for member in members})
    if folders > 1:
        raise InputError(
            f"{name} has pictures in {folders} folders, and which of them are the clip cannot be told. Pack one folder."
        )
    return _clip_of(path, "zip of pictures", entries, limits, rate)


def _pictures_of(archive: zipfile.ZipFile) -> list[PurePosixPath]:
    """The pictures in a zip; of one that this program wrote, without those that the run was given."""
    names = [PurePosixPath(info.filename) for info in archive.infolist() if not info.is_dir()]
    given = PurePosixPath("pictures") if PurePosixPath("pictures/index.json") in names else None
    found = []
    for name in names:
        if not _is_hidden(name) and name.parent != given:
            with archive.open(str(name)) as member:
                if kind_of(member.read(HEAD)) in PICTURES:
                    found.append(name)
    return found


def _clip_of_files(path: Path, kind: str, files: Sequence[Path], limits: Limits) -> Source:
    pictures = [file for file in files if file.is_file() and not _is_hidden(PurePosixPath(file.name))]
    entries = [
        _Entry(quoted_name(file), partial(_open_file, file)) for file in pictures if _kind_of_file(file) in PICTURES
    ]
    return _clip_of(path, kind, entries, limits)


def _clip_of(path: Path, kind: str, entries: Sequence[_Entry], limits: Limits, fps: float | None = None) -> Source:
    name = quoted_name(path)
    if not entries:
        raise InputError(
            f"{name} holds no pictures that can be read here, which are {', '.join(PICTURES)}. Choose a clip, or a "
            "folder or zip of such pictures."
        )
    with _opened_entry(entries[0], f"{entries[0].name} in {name}", limits) as (file, container, picture):
        upright = ImageOps.exif_transpose(picture)
        colour, meant, notes = _meaning(file, picture, name)
        facts = {"pictures": container, "colour": meant, "pixels": picture.mode}
    seconds = np.arange(len(entries)) / (fps or SEQUENCE_FPS)
    check_limits(name, seconds, upright.width * upright.height, limits)
    return PictureClip(
        path=path, kind=kind, width=upright.width, height=upright.height, fps=fps or SEQUENCE_FPS,
        seconds=seconds, counted=True, timed=False, entries=tuple(entries),
        limits=limits, facts=facts, colour=colour, notes=notes,
    )  # fmt: skip


def _natural(path: Path | PurePosixPath) -> list[tuple[int, str]]:
    """A key by which frame_9 comes before frame_10."""
    parts = re.split(r"(\d+)", path.name.casefold())
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts] + [(-1, path.name)]


def _is_hidden(path: PurePosixPath) -> bool:
    """Whether an operating system put a file there, and not a user."""
    return any(part.startswith((".", "__MACOSX")) for part in path.parts)


def _open_file(path: Path) -> IO[bytes]:
    return path.open("rb")


def _kind_of_file(file: Path) -> str | None:
    with file.open("rb") as content:
        return kind_of(content.read(HEAD))


@contextmanager
def _opened_entry(entry: _Entry, name: str, limits: Limits) -> Iterator[tuple[IO[bytes], str, Image.Image]]:
    with entry.open() as file:
        container = kind_of(file.read(HEAD)) or ""
        with opened_picture(file, name, container, limits) as picture:
            yield file, container, picture


def _open_member(path: Path, member: str, limits: Limits) -> IO[bytes]:
    """A file of a zip, in memory, not read at all where it is larger than any picture that is accepted."""
    name = f"{quoted_name(Path(member))} in {quoted_name(path)}"
    try:
        with path.open("rb") as file, opened_zip(file) as archive:
            info = archive.getinfo(member)
            if info.file_size > _most_bytes(limits):
                raise InputError(f"{name} is larger than any picture that is accepted. Shrink it and try again.")
            return io.BytesIO(archive.read(info))
    except (UnusableArchiveError, *_UNREADABLE) as error:
        raise damaged(name) from error


def _most_bytes(limits: Limits) -> int:
    return 8 * limits.pixels + 2**20  # four channels of 16 bits without compression, and what stands around them


def _carried_rate(archive: zipfile.ZipFile) -> float | None:
    """The rate that this program writes into a zip of frames."""
    with suppress(TypeError, *_UNREADABLE):
        info = archive.getinfo("settings.json")
        if info.file_size <= MAX_TEXT:
            rate = float(json.loads(archive.read(info))["settings"]["fps"])
            return rate if 0 < rate <= MAX_FPS else None
    return None


# One picture


@contextmanager
def opened_picture(file: IO[bytes], name: str, kind: str, limits: Limits) -> Iterator[Image.Image]:
    """Open a picture as the one kind that its first bytes announce, within the limits.

    Raises:
        InputError: it is beyond them, or cannot be decoded.
    """
    if kind == "HEIF":
        _learn_heif()
    try:
        if kind == "TIFF":
            check_directories(file)
            file.seek(0)
        with Image.open(_without_texts(file, limits) if kind == "PNG" else file, formats=[kind]) as picture:
            if picture.width * picture.height > limits.pixels:
                raise Image.DecompressionBombError
            if kind == "TIFF":
                check_page(picture, name, limits)
            yield picture
    except Image.DecompressionBombError as error:
        raise InputError(
            f"{name} has more than the {limits.pixels / 1e6:.1f} megapixels that are accepted. Shrink it and try again."
        ) from error
    except _UNDECODABLE as error:
        raise damaged(name) from error


@cache
def _learn_heif() -> None:
    """Let Pillow read phones' photos, which it does not by itself."""
    from pi_heif import register_heif_opener

    register_heif_opener()


def _png_parts(file: IO[bytes]) -> tuple[bool, list[tuple[int, int]], bool]:
    """Whether a PNG is animated, where its parts that are no texts begin and end, and whether it has texts."""
    size = file.seek(0, 2)
    file.seek(0)
    if file.read(8) != _PNG_START:
        return False, [(0, size)], False
    start, spans, animated, texts = 8, [(0, 8)], False, False
    while start + 8 <= size:
        file.seek(start)
        header = file.read(8)
        kind, end = header[4:], min(start + 12 + int.from_bytes(header[:4], "big"), size)
        texts |= kind in _PNG_TEXTS
        animated |= kind == b"acTL"
        if kind not in _PNG_TEXTS:
            spans.append((start, end))
        start = end
    return animated, spans, texts


def _without_texts(file: IO[bytes], limits: Limits) -> IO[bytes]:
    """A PNG without its texts: Pillow refuses pictures with long ones, such as the workflow that made them."""
    _, spans, texts = _png_parts(file)
    file.seek(0)
    if not texts:
        return file
    if sum(end - start for start, end in spans) > _most_bytes(limits):
        raise ValueError
    kept = io.BytesIO()
    for start, end in spans:
        file.seek(start)
        kept.write(file.read(end - start))
    kept.seek(0)
    return kept


def _meaning(file: IO[bytes], picture: Image.Image, name: str) -> tuple[str, str, tuple[str, ...]]:
    """The filters that bring a picture's colours into the usual range, how they are meant, and what is to be said."""
    if picture.info.get("icc_profile"):
        return "", "as its profile says", ()
    file.seek(0)
    primaries, transfer = coded_in(file.read(_CODED))
    head = Head(np.zeros(1), picture.width, picture.height, "gbrp", "gbr", primaries, transfer, "")
    filters, words = filters_of(head, name)
    told = (f"{name} is HDR ({HDR[transfer]}): its light was brought into the usual range.",) if transfer in HDR else ()
    return filters, words if filters else "sRGB", told


def _pixels(picture: Image.Image, colour: str = "") -> np.ndarray:
    """RGBA, uint8, upright and in sRGB, into which the filters `colour` bring it where no profile does."""
    upright = _in_srgb(ImageOps.exif_transpose(picture))
    if upright.mode.startswith("I"):
        # Pillow would clip 16-bit greys at 255 instead of scaling them.
        upright = Image.fromarray((_sixteen_bits(upright) >> 8).astype(np.uint8))
    rgba = np.asarray(upright.convert("RGBA"))
    return np.dstack([ffmpeg.filtered(rgba[..., :3], colour), rgba[..., 3]]) if colour else rgba


def _sixteen_bits(picture: Image.Image) -> np.ndarray:
    """Greys of any number of bits, of which those beyond 16 are cut off."""
    return np.asarray(picture).clip(0, 65535).astype(np.uint16)


def _in_srgb(picture: Image.Image) -> Image.Image:
    """A picture in the colours of a screen: phones write wider ones, with a profile that says so."""
    profile = picture.info.get("icc_profile")
    if not profile or picture.mode not in {"RGB", "RGBA"}:
        return picture
    try:
        theirs = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        converted = ImageCms.profileToProfile(picture, theirs, ImageCms.createProfile("sRGB"))
    except (ImageCms.PyCMSError, OSError, ValueError):
        return picture
    return converted if converted is not None else picture


def _levels(picture: Image.Image) -> np.ndarray:
    """RGBA, uint16, upright, in the file's own levels; where all colours of a palette are one, its numbers."""
    upright = ImageOps.exif_transpose(picture)
    if upright.mode.startswith("I"):
        grey = _sixteen_bits(upright)
        return np.dstack([grey, grey, grey, np.full_like(grey, 65535)])
    if upright.mode == "P" and "transparency" not in upright.info:
        numbers = np.asarray(upright)
        used = np.unique(numbers)
        colours = np.asarray(upright.convert("RGB"))
        if len(used) > 1 and (colours == colours[0, 0]).all():
            grey = numbers.astype(np.uint16) * 257
            return np.dstack([grey, grey, grey, np.full_like(grey, 65535)])
    return np.asarray(upright.convert("RGBA")).astype(np.uint16) * 257
