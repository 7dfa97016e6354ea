"""Writing media files: mp4, GIF, PNG and zip, each whole or not at all, with what it carries of its run."""

from __future__ import annotations

import io
import uuid
import wave
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image, PngImagePlugin

from bivdiff.errors import InputError, quoted_name
from bivdiff.media import ffmpeg
from bivdiff.media.ffmpeg import SCALER_FLAGS, exact_rate
from bivdiff.media.sound import SAMPLE_RATE, Sound
from bivdiff.pixels.fitting import checked_frames

if TYPE_CHECKING:  # which imports moviepy
    from bivdiff.media.film import Film

MAX_FPS = 1000.0
MAX_GIF_FPS = 50.0
"""Browsers slow a GIF down whose frames last less than two hundredths of a second."""

ZIP_DATE = (1980, 1, 1, 0, 0, 0)
"""Of every entry of a zip that is written: the same content gives the same bytes."""

_COLOURS = (
    f"scale=out_color_matrix=bt709:out_range=limited:flags={SCALER_FLAGS},format=yuv420p,"
    "setparams=colorspace=bt709:color_primaries=bt709:color_trc=bt709:range=limited"
)
_AAC = ("-c:a", "aac", "-b:a", "160k", "-flags:a", "+bitexact")

CARRY_BOX = bytes.fromhex("6b1d0f5c3e8a4b7e9c0ad1f2b83a57e4")
"""The identity of the `uuid` box at the end of an mp4 that holds a `Carry`'s archive."""

CARRY_CHUNK = b"bdPx"
"""The PNG chunk with the archive: private, and no editor need understand it to keep the picture right."""

CARRY_NAME = "bivdiff"
"""The keyword of a PNG's text and, as its first sub-block, of a GIF's comment."""


class Carry(NamedTuple):
    """What a file holds beside its pictures, unseen by players: `text`, JSON, and `archive`, a zip archive or nothing.

    An mp4 has the text as its comment and the archive in a box of its own at the end; a PNG has the text in an iTXt
    chunk and the archive in a private one; a GIF has the text as a comment; a zip of pictures has the archive's files.
    """

    text: str
    archive: bytes = b""


def write_mp4(
    path: str | Path, frames: np.ndarray, fps: float, carry: Carry | None = None, sound: Sound | None = None
) -> None:
    """Write H.264 that every browser plays: yuv420p, BT.709, even sides, index at the front.

    The same frames give the same bytes. An odd side grows by one repeated line. The file appears whole or not at all.

    Args:
        path: where to; an existing file is replaced.
        frames: uint8 `(F, H, W, 3)`, F >= 1.
        fps: playback rate.
        carry: what the file carries besides.
        sound: what is heard with the frames, from the first on.

    Raises:
        InputError: the rate is not usable, or the file cannot be written there.
    """
    height, width = checked_frames(frames).shape[1:3]
    even = (np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge") for frame in frames)
    rate = _checked_rate(fps, MAX_FPS)
    with replace_whole(Path(path)) as temporary:
        _encode(even, rate, temporary, "medium", carry, sound)


def write_film(path: str | Path, film: Film, carry: Carry | None = None) -> None:
    """Write a film as `write_mp4` writes a clip, frame by frame as it is composed, with its sound if it has one.

    Args:
        path: where to; an existing file is replaced.
        film: as `media.film.compose` gives it.
        carry: what the file carries besides.

    Raises:
        InputError: the file cannot be written there.
    """
    rate = _checked_rate(film.fps, MAX_FPS)
    with replace_whole(Path(path)) as temporary:
        _encode(film.frames(), rate, temporary, "veryfast", carry, film.sound)


def _encode(
    frames: Iterable[np.ndarray], rate: Fraction, path: Path, preset: str, carry: Carry | None, sound: Sound | None
) -> None:
    heard = path.with_suffix(".wav") if sound else None
    options = [*_h264(preset), *(_AAC if sound else ()), *_comment(carry)]
    try:
        if heard and sound:
            _write_wav(heard, sound)
        ffmpeg.encode(frames, rate, path, options, heard)
    finally:
        if heard:
            heard.unlink(missing_ok=True)
    _append_archive(path, carry)


def _h264(preset: str) -> list[str]:
    # One thread and no version strings: the bytes then depend on the frames alone.
    options = ["-vf", _COLOURS, "-c:v", "libx264", "-preset", preset, "-crf", "16", "-threads", "1"]
    return [*options, "-fflags", "+bitexact", "-flags:v", "+bitexact", "-movflags", "+faststart", "-f", "mp4"]


def _write_wav(path: Path, sound: Sound) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes(sound.samples.astype("<i2").tobytes())


def _comment(carry: Carry | None) -> list[str]:
    return ["-metadata", f"comment={carry.text}"] if carry else []


def _append_archive(path: Path, carry: Carry | None) -> None:
    if carry and carry.archive:
        with path.open("ab") as file:
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
    with replace_whole(Path(path)) as temporary:
        ffmpeg.encode(checked_frames(frames), rate, temporary, options)
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
    checked_frames(frames)
    text = _png_info(Carry(carry.text)) if carry else None
    with replace_whole(Path(path)) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
        for index, frame in enumerate(frames):
            buffer = io.BytesIO()
            Image.fromarray(frame).save(buffer, format="PNG", pnginfo=text)
            archive.writestr(zipfile.ZipInfo(f"frame_{index:05d}.png", date_time=ZIP_DATE), buffer.getvalue())
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
    (checked,) = checked_frames(picture[None])
    with replace_whole(Path(path)) as temporary:
        Image.fromarray(checked).save(temporary, format="PNG", pnginfo=_png_info(carry) if carry else None)


def write_zip(path: Path, files: Mapping[str, Path]) -> None:
    """Write files into a zip, by their names in it."""
    with replace_whole(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, file in files.items():
            entry = zipfile.ZipInfo(name, date_time=ZIP_DATE)
            archive.writestr(entry, file.read_bytes(), zipfile.ZIP_DEFLATED)


@contextmanager
def replace_whole(path: Path) -> Iterator[Path]:
    """Give a new file beside `path` to write to; it takes that name only if all went well."""
    temporary = path.with_name(f".{uuid.uuid4().hex}{path.suffix}")
    try:
        temporary.touch(exist_ok=False)
        yield temporary
        temporary.replace(path)
    except OSError as error:
        raise InputError(
            f"{quoted_name(path)} could not be written: {error.strerror or 'the system refused'}. "
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


def _checked_rate(fps: float, maximum: float) -> Fraction:
    if not (isinstance(fps, (int, float)) and 0 < fps <= maximum):
        raise InputError(f"The playback rate must be above 0 and at most {maximum:g} frames a second; it is {fps!r}.")
    return exact_rate(fps)
