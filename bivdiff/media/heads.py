"""The first frames of a video, as ffmpeg decodes them: when they are shown, how colours are meant, and their fields."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bivdiff.errors import quoted_name
from bivdiff.media import ffmpeg
from bivdiff.media.source import Limits, damaged

HEAD_FRAMES = 24
"""Frames decoded to see how a stream is to be read."""

LOOK = (
    *ffmpeg.PICTURES_ONLY, "-vf", "showinfo=checksum=0,idet,metadata=print",  # idet sets the flags that showinfo shows
    "-fps_mode", "passthrough", "-frames:v", str(HEAD_FRAMES), "-f", "null", "-",
)  # fmt: skip
"""What makes ffmpeg say what `head_of` reads."""

_COMB = 0.5
"""Levels by which lines of combed frames differ more from their neighbours than from the lines after these."""


# At the start of a line, where no text that a file carries can stand.
_TICK = re.compile(r"^\[Parsed_showinfo\S* @ \S+\] config in time_base: (\d+)/(\d+)", re.MULTILINE)
_FRAME = re.compile(
    r"^\[Parsed_showinfo\S* @ \S+\] n: *\d+ pts: *(-?\d+|NOPTS) .*? fmt:(\w+) .*?sar:(\d+)/(\d+) s:(\d+)x(\d+) i:(.)",
    re.ASCII | re.MULTILINE,
)
_COLOUR = re.compile(
    r"^\[Parsed_showinfo\S* @ \S+\] color_range:\S+ color_space:([\w-]+) color_primaries:([\w-]+) color_trc:([\w-]+)",
    re.ASCII | re.MULTILINE,
)
_FIELDS = re.compile(
    r"^\[Parsed_metadata\S* @ \S+\] lavfi\.idet\.multiple\.(tff|bff|progressive)=([\d.]+)", re.ASCII | re.MULTILINE
)


class Head(NamedTuple):
    """What the first decoded frames tell.

    `times`: seconds, as the decoder shows them. `fields`: "" for whole frames, else which comes first, "tff" or "bff",
    or "auto" where each frame says it.
    """

    times: np.ndarray
    width: int
    height: int
    pixel_format: str
    matrix: str
    primaries: str
    transfer: str
    fields: str


def has_looked(said: str) -> bool:
    """Whether ffmpeg could decode a frame."""
    return bool(_FRAME.search(said))


def head_of(said: str, path: Path, container: str, limits: Limits) -> Head:
    """What ffmpeg has said of the first frames."""
    frames, tick, colours = _FRAME.findall(said), _TICK.search(said), _COLOUR.findall(said)
    if not frames or tick is None or not colours:
        raise damaged(quoted_name(path))
    scale = int(tick[1]) / int(tick[2])
    times = [int(frame[0]) * scale for frame in frames if frame[0] != "NOPTS"]
    _, pixel_format, across, down, width, height, _ = frames[0]
    square = int(across) / int(down) if int(across) and int(down) else 1.0
    found = {name: float(count) for name, count in _FIELDS.findall(said)}  # of each the last, which is the sum
    fields = _fields([frame[6] for frame in frames], found)
    if fields in {"tff", "bff"} and not _is_combed(path, container, len(frames), limits):
        fields = ""
    matrix, primaries, transfer = colours[0]
    return Head(
        np.array(times), math.floor(int(width) * square), int(height), pixel_format, matrix, primaries, transfer,
        fields,
    )  # fmt: skip


def _fields(flags: Sequence[str], found: Mapping[str, float]) -> str:
    """Whether frames are woven of two fields, as `Head.fields` says it, from the file's flags and from its pictures.

    A flag alone is not enough: recorders put whole frames into interlaced streams. Nor is one needed: a file that was
    encoded again may have lost it. But ffmpeg takes some movements for fields, so without a flag the frames must be
    combed, too.
    """
    woven, whole = {name: found.get(name, 0.0) for name in ("tff", "bff")}, found.get("progressive", 0.0)
    seen = sum(woven.values())
    if sum(flag in "TB" for flag in flags) * 2 > len(flags):
        return "auto" if seen >= whole else ""
    return max(woven, key=lambda name: woven[name]) if seen >= len(flags) / 3 and not whole else ""


def _is_combed(path: Path, container: str, count: int, limits: Limits) -> bool:
    """Whether lines of the first frames differ more from the next ones than from those after them."""
    command = ffmpeg.reading_command(path, container, limits.pixels)
    command += [*ffmpeg.PICTURES_ONLY, "-vf", "format=rgba", "-fps_mode", "passthrough", "-frames:v", str(count)]
    near = far = 0.0
    with ffmpeg.streaming([*command, "-c:v", "pam", "-f", "image2pipe", "-"]) as output:
        while (frame := ffmpeg.read_picture(output)) is not None:
            lines = frame[..., 1].astype(np.int16)
            if len(lines) < 5:
                return False
            near += float(np.abs(lines[1:-3] - 2 * lines[2:-2] + lines[3:-1]).mean()) / count
            far += float(np.abs(lines[:-4] - 2 * lines[2:-2] + lines[4:]).mean()) / count
    return near > far + _COMB
