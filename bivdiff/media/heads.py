"""The first frames of a video, as ffmpeg decodes them: when they are shown, how colours are meant, and their fields."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bivdiff.errors import quoted_name
from bivdiff.media import ffmpeg
from bivdiff.media.source import Limits, damaged

HEAD_FRAMES = 24
"""Frames decoded to see how a stream is to be read."""

LOOK = ("showinfo=checksum=0", "idet", "metadata=print")  # idet sets the flags that showinfo shows
"""Filters that make ffmpeg say what `head_of` reads."""


def looking(filters: Sequence[str] = LOOK) -> list[str]:
    """What makes ffmpeg decode the first frames for filters that look at them, and put out none."""
    pictures = ["-vf", ",".join(filters), "-fps_mode", "passthrough", "-frames:v", str(HEAD_FRAMES)]
    return [*ffmpeg.PICTURES_ONLY, *pictures, "-f", "null", "-"]


_COMB, _COMBED = 0.5, 0.2
"""Levels by which lines of combed frames differ more from their neighbours than from the lines after these, and the
share of frames that must be combed: of films that TV has stretched it is two in five."""


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
    fields = _fields([frame[6] for frame in frames], said, ffmpeg.reading_command(path, container, limits.pixels))
    matrix, primaries, transfer = colours[0]
    return Head(
        np.array(times), math.floor(int(width) * square), int(height), pixel_format, matrix, primaries, transfer,
        fields,
    )  # fmt: skip


def fields_of(command: Sequence[str], chosen: str) -> str:
    """Whether frames are woven of two fields, as `Head.fields` says it.

    Args:
        command: the start of one, up to its input.
        chosen: a filter that leaves out the frames before those that are meant.
    """
    loud = ["info" if part == "fatal" else part for part in command]
    _, said = ffmpeg.heard([*loud, *looking([chosen, *LOOK])])
    return _fields([frame[6] for frame in _FRAME.findall(said)], said, command, chosen)


def _fields(flags: Sequence[str], said: str, command: Sequence[str], chosen: str = "null") -> str:
    """From the frames' own flags, what ffmpeg has found, and where there is no flag the frames, read again.

    A flag alone is not enough: recorders put whole frames into interlaced streams. Nor is one needed: a file that was
    encoded again may have lost it. But ffmpeg takes some movements for fields, so without a flag the frames must be
    combed, too. Whole frames may stand between: in a film for TV, or where an old recording begins.
    """
    found = {name: float(count) for name, count in _FIELDS.findall(said)}  # of each the last, which is the sum
    woven, whole = {name: found.get(name, 0.0) for name in ("tff", "bff")}, found.get("progressive", 0.0)
    seen = sum(woven.values())
    if seen < whole or not seen:
        return ""
    if sum(flag in "TB" for flag in flags) * 2 > len(flags):
        return "auto"
    return max(woven, key=lambda name: woven[name]) if seen >= len(flags) / 3 and _are_combed(command, chosen) else ""


def _are_combed(command: Sequence[str], chosen: str) -> bool:
    """Whether, in enough of them, lines differ more from the next ones than from those after them."""
    *pictures, _, _, _ = looking([chosen, "format=rgba"])
    combs = []
    with ffmpeg.streaming([*command, *pictures, "-c:v", "pam", "-f", "image2pipe", "-"]) as output:
        while (frame := ffmpeg.read_picture(output)) is not None:
            lines = frame[..., 1].astype(np.int16)
            if len(lines) < 5:
                return False
            near = np.abs(lines[1:-3] - 2 * lines[2:-2] + lines[3:-1]).mean()
            far = np.abs(lines[:-4] - 2 * lines[2:-2] + lines[4:]).mean()
            combs.append(near > far + _COMB)
    return bool(combs) and float(np.mean(combs)) >= _COMBED
