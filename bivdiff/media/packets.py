"""The packets of a video, read in one pass in which its first frames are looked at: when each frame is shown."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bivdiff.errors import InputError, quoted_name
from bivdiff.media import ffmpeg
from bivdiff.media.heads import has_looked, looking
from bivdiff.media.source import STILL_FPS, Limits, damaged

_ALPHA_DECODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}  # ffmpeg's own decoders of these drop transparency
_NO_TIMESTAMP = -(2**63)
_NO_STREAMS, _NOTHING = "matches no streams", "does not contain any stream"
_OTHERS = ("-map", "0:a?", "-map", "0:s?")  # a file that was cut has streams of no kind
_KEY = 1
_DISCARDED = 4  # only there for others to be decoded: what a phone leaves before the cut when it trims


class Scan(NamedTuple):
    """What the packets say.

    `ticks`: when each is shown, ascending. `keys`: when those are that need no others. `timed`: whether the first of
    them says so. `lasts`: ticks of each.
    `reordered`: ticks by which one is decoded before it is shown, at most.
    """

    ticks: np.ndarray
    keys: np.ndarray
    tick: Fraction
    lasts: np.ndarray
    timed: bool
    reordered: int
    pixels: int
    codec: str
    decoder: str


def read_packets(path: Path, container: str, limits: Limits) -> tuple[Scan, str]:
    """Read the times of all frames from the packets, and what ffmpeg says of the first, which it decodes."""
    command = ffmpeg.reading_command(path, container, limits.pixels, talkative=True)
    count = str(limits.source_frames + 1)
    packets_out = [*ffmpeg.PICTURES_ONLY, "-c", "copy", "-frames:v", count, "-f", "framecrc", "-"]
    put_out, said = ffmpeg.heard([*command, *packets_out, *looking()])
    if not has_looked(said):
        # The packets alone tell whether there is no picture, or a larger one than ffmpeg may decode.
        put_out, said = ffmpeg.heard([*command, *packets_out])
    if _NO_STREAMS in said:
        _, of_others = ffmpeg.heard([*command, *_OTHERS, "-c", "copy", "-t", "0", "-f", "null", "-"])
        if _NOTHING in of_others:
            raise damaged(quoted_name(path))
        raise InputError(f"{quoted_name(path)} has no picture, only sound or text. Choose a file with a video in it.")
    header: dict[str, str] = {}
    rows: list[tuple[int, int, int, bool]] = []
    has_side_data = begun = False
    # Up to the last line break: ffmpeg may have been stopped within a line.
    for line in put_out.decode("ascii", "replace").rpartition("\n")[0].splitlines():
        if line.startswith("#"):
            key, _, value = line[1:].partition(": ")
            header[key] = value.strip()
        else:
            fields = line.split(",")
            flags = _flags(fields[6:])
            has_side_data |= any(extra.startswith(" S=") for extra in fields[6:])
            if flags & _KEY and not begun:
                begun, rows = True, []  # what stands before the first key frame cannot be decoded
            if not flags & _DISCARDED:
                rows.append((int(fields[1]), int(fields[2]), int(fields[3]), bool(flags & _KEY)))
    if not rows or "dimensions 0" not in header:
        raise damaged(quoted_name(path))
    if header["dimensions 0"] == "0x0":
        raise InputError(
            f"The size of the frames of {quoted_name(path)} cannot be told: it is damaged, or beyond the "
            f"{limits.pixels / 1e6:.1f} megapixels that are accepted. Shrink it, or convert it to mp4, and try again."
        )
    packets = np.array(rows, np.int64)
    stated = packets[:, 1] != _NO_TIMESTAMP
    codec = header.get("codec_id 0", "")
    shown = _display_ticks(packets[:, :3])
    found = Scan(
        ticks=np.unique(shown),
        keys=np.unique(shown[packets[:, 3] > 0]),
        tick=Fraction(header["tb 0"]),
        lasts=packets[:, 2],
        timed=bool(stated[0]),
        reordered=int((packets[stated, 1] - packets[stated, 0]).max(initial=0)),
        pixels=_shown_pixels(header),
        codec=codec,
        # WebM has no codec with transparency: it travels beside the pictures.
        decoder=_ALPHA_DECODERS.get(codec, "") if has_side_data else "",
    )
    return found, said


def _flags(extras: list[str]) -> int:
    """A packet's flags, which are told where they are not those of a key frame."""
    return int(next((extra for extra in extras if extra.startswith(" F=")), " F=0x1")[3:], 16)


def _display_ticks(rows: np.ndarray) -> np.ndarray:
    """Times of display from rows of (decoding time, display time, duration)."""
    decoded, shown, lasts = rows.T
    if (shown == _NO_TIMESTAMP).any():
        # MPEG program streams time only some pictures. The first is a key frame: its times tell the delay, unless
        # pictures that are shown before it follow it, whose times of decoding and display are the same.
        delay = 0 if shown[0] == _NO_TIMESTAMP else shown[0] - decoded[0]
        shown = decoded + (min(delay, lasts[0]) if (shown == decoded).any() else delay)
    return shown


def is_even(ticks: np.ndarray) -> bool:
    """Whether the frames follow each other at exactly the same pace: then coarse ticks have rounded nothing."""
    return len(set(np.diff(ticks).tolist())) <= 1


def is_paced(ticks: np.ndarray, tick: Fraction, fps: float) -> bool:
    """Whether the frames follow each other at the pace of a rate, but for the rounding of their times."""
    return _worst(ticks, Fraction(fps).limit_denominator(10**6) * tick) <= 1


def _worst(ticks: np.ndarray, per_tick: Fraction) -> float:
    """By how many ticks a frame is off, at most, if so many of them are shown in a tick."""
    return float(np.abs(ticks - ticks[0] - np.arange(len(ticks)) / float(per_tick)).max())


def frame_rate(ticks: np.ndarray, tick: Fraction, lasts: np.ndarray, drawn: bool = False) -> float:
    """The mean rate; where coarse ticks (1 ms, 10 ms) blur a round or an NTSC rate, that rate.

    Of pictures that are drawn one by one, where they are shown for different times, the usual one of them.
    """
    if len(ticks) == 1:
        return float(1 / (int(lasts[0]) * tick)) if lasts[0] > 0 and not drawn else STILL_FPS
    steps, span = len(ticks) - 1, int(ticks[-1] - ticks[0]) * tick
    mean = steps / span
    if is_even(ticks) and not drawn:
        return float(mean)
    nominal = min(
        (Fraction(round(mean) or 1), Fraction((round(mean * 1001 / 1000) or 1) * 1000, 1001)),
        key=lambda rate: _worst(ticks, rate * tick),
    )
    if _worst(ticks, nominal * tick) <= 1:
        return float(nominal)
    if drawn and _worst(ticks, mean * tick) > 1:
        held = np.sort(np.append(np.diff(ticks), lasts[-1:]))
        return float(1 / (int(max(held[(len(held) - 1) // 2], 1)) * tick))
    return float(mean)


def _shown_pixels(header: dict[str, str]) -> int:
    """Width times height once pixels are square, from ffmpeg's `64x48` and `4/3`."""
    width, height = (int(side) for side in header["dimensions 0"].split("x"))
    across, down = (int(part) for part in header.get("sar 0", "0/1").split("/"))
    return max(width * height, round(width * height * across / max(down, 1)))
