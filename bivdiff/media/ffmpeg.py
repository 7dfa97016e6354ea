"""The one place that starts ffmpeg: which binary, how it is held back, how frames go in and come out."""

from __future__ import annotations

import errno
import math
import os
import signal
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from functools import cache
from itertools import chain
from pathlib import Path
from typing import IO, cast

import numpy as np
from imageio_ffmpeg import get_ffmpeg_exe

from bivdiff.media import effort

CPU_SECONDS = 600
"""Processor time after which ffmpeg gives up on a file; what strangers send has less (see effort)."""

MAX_MESSAGES = 2**24
"""Bytes of what ffmpeg says that are listened to."""

PICTURES_ONLY = ("-map", "0:V:0")
"""The picture of a video, not the cover of a song."""

_READERS = {"apng": ("-default_fps", "10")}
"""What a container's reader is told: a picture without a time of its own is shown for a tenth, as in a GIF."""

SCALER_FLAGS = "bicubic+accurate_rnd+full_chroma_int+full_chroma_inp"


def reading_command(path: Path, container: str, max_pixels: int, talkative: bool = False) -> list[str]:
    """The start of every ffmpeg command that reads: nothing guessed, no other file, no address, bounded work."""
    seconds = math.ceil(min(max(effort.left(), 1.0), CPU_SECONDS))
    bounds = ["-timelimit", str(seconds), "-max_pixels", str(max_pixels)]
    # Only fatal messages, unless they are asked for: a damaged file can make ffmpeg print without end.
    level = "info" if talkative else "fatal"
    start = [get_ffmpeg_exe(), "-nostdin", "-nostats", "-hide_banner", "-loglevel", level, *bounds]
    # The prefix keeps a name such as "concat:a" from being taken for a protocol.
    reader = ["-protocol_whitelist", "file", "-f", container, *_READERS.get(container, ())]
    return [*start, *reader, "-i", f"file:{path.absolute()}"]


def run(command: Sequence[str]) -> bytes:
    """What a command that reads nothing from its input has put out, whether or not it succeeded.

    Raises:
        InputError: a file took more than it may (see effort).
    """
    with streaming(command) as output:
        put_out = output.read()
    effort.check()
    return put_out


def heard(command: Sequence[str]) -> tuple[bytes, str]:
    """What a command has put out, and what it said of it, of that at most `MAX_MESSAGES` bytes.

    Raises:
        InputError: a file took more than it may (see effort).
    """
    with tempfile.TemporaryFile() as output:
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.PIPE) as process:
            messages = cast("IO[bytes]", process.stderr)
            said = messages.read(MAX_MESSAGES)
            while messages.read(2**20):
                pass  # what is not read would hold the command up
            _await(process)
        effort.check()
        output.seek(0)
        return output.read(), said.decode("utf-8", "replace")


@cache
def filters() -> frozenset[str]:
    """The names of the filters that this ffmpeg has."""
    listed = run([get_ffmpeg_exe(), "-hide_banner", "-loglevel", "fatal", "-filters"]).decode("ascii", "replace")
    return frozenset(fields[1] for line in listed.splitlines() if len(fields := line.split()) > 2)


@contextmanager
def streaming(command: Sequence[str]) -> Iterator[IO[bytes]]:
    """The output of a command while it runs; on leaving, the process is gone, whether or not it had finished."""
    quiet = subprocess.DEVNULL
    with subprocess.Popen(command, stdin=quiet, stdout=subprocess.PIPE, stderr=quiet) as process:
        try:
            yield cast("IO[bytes]", process.stdout)
        finally:
            os.kill(process.pid, signal.SIGKILL)  # not by its own method, which may take its end from `_await`
            _await(process)


def _await(process: subprocess.Popen[bytes]) -> None:
    """Wait until a command has ended, and note the processor time that it took."""
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    effort.took(used.ru_utime + used.ru_stime)


def read_picture(stream: IO[bytes]) -> np.ndarray | None:
    """One picture `(H, W, 4)` of a stream of PAM pictures, which say their size themselves; None at the end."""
    header: dict[bytes, bytes] = {}
    while (line := stream.readline().strip()) != b"ENDHDR":
        if not line:
            return None
        key, _, value = line.partition(b" ")
        header[key] = value
    shape = (int(header[b"HEIGHT"]), int(header[b"WIDTH"]), int(header[b"DEPTH"]))
    level = np.dtype(np.uint8) if int(header[b"MAXVAL"]) < 256 else np.dtype(">u2")
    size = math.prod(shape) * level.itemsize
    data = stream.read(size)
    if len(data) < size:
        return None
    return np.frombuffer(data, level).reshape(shape).astype(level.newbyteorder("="), copy=False)


def filtered(picture: np.ndarray, filters: str) -> np.ndarray:
    """A picture, uint8 `(H, W, 3)`, as filters that keep its size make it.

    Raises:
        ValueError: they could not.
    """
    height, width = picture.shape[:2]
    raw = ["-f", "rawvideo", "-pixel_format", "rgb24", "-video_size", f"{width}x{height}", "-i", "pipe:0"]
    command = [get_ffmpeg_exe(), "-hide_banner", "-loglevel", "quiet", *raw, "-vf", f"{filters},format=rgb24"]
    command += ["-frames:v", "1", "-f", "rawvideo", "pipe:1"]
    done = subprocess.run(command, input=np.ascontiguousarray(picture).data, capture_output=True, check=False)
    return np.frombuffer(done.stdout, np.uint8).reshape(picture.shape)


def encode(
    frames: Iterable[np.ndarray], rate: Fraction, path: Path, options: Sequence[str], sound: Path | None = None
) -> None:
    """Have ffmpeg write frames, uint8 `(H, W, 3)` of one shape, to `path`, as they come.

    Args:
        frames: at least one.
        rate: frames a second.
        path: where to; it is replaced.
        options: of the codec and the container.
        sound: a WAV file of our own, for its second input.

    Raises:
        OSError: it could not.
    """
    coming = iter(frames)
    first = next(coming)
    height, width = first.shape[:2]
    raw = ["-f", "rawvideo", "-pixel_format", "rgb24", "-video_size", f"{width}x{height}", "-framerate", str(rate)]
    heard = ["-protocol_whitelist", "file", "-f", "wav", "-i", f"file:{sound.absolute()}"] if sound else []
    command = [get_ffmpeg_exe(), "-hide_banner", "-loglevel", "quiet", *raw, "-i", "pipe:0", *heard, *options]
    command += ["-y", f"file:{path.absolute()}"]
    quiet = subprocess.DEVNULL
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=quiet, stderr=quiet) as process:
        pixels = cast("IO[bytes]", process.stdin)
        try:
            for frame in chain([first], coming):
                pixels.write(np.ascontiguousarray(frame).data.cast("B"))
            pixels.close()
        except BrokenPipeError:
            process.wait()  # it says below that it failed
        except BaseException:
            process.kill()  # half a clip is not to be finished
            raise
    if process.returncode != 0:
        raise OSError(errno.EIO, "the encoder stopped early, most often because the disk is full")


def exact_rate(fps: float) -> Fraction:
    """The rate as ffmpeg wants it; 1001 is the denominator of the NTSC rates."""
    return max(Fraction(fps).limit_denominator(1001), Fraction(1, 1001))
