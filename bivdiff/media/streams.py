"""Videos, through ffmpeg: when each frame is shown, how its colours are meant, and the frames themselves.

1. One pass over the packets gives the time of every frame. What a header claims about length and rate is often wrong
   (sound longer than the picture, variable rates, recordings cut short) or not there. In the same pass the first frames
   are decoded. They tell what a decoder makes of those times: containers without times of display (AVI) are shown later
   than they say, and a recording that was cut begins with frames that cannot be decoded. They tell, too, how colours
   are meant, and whether a frame is woven of two fields.
2. ffmpeg seeks to the first frame asked for, and hands over only the frames that are used, one at a time. Where a film
   goes on for long between two of them, it seeks once more.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from bivdiff.errors import quoted_name
from bivdiff.media import effort, ffmpeg
from bivdiff.media.colours import HDR, filters_of, matrix_of
from bivdiff.media.drawn import DRAWN, Pace, pace_of
from bivdiff.media.ffmpeg import SCALER_FLAGS
from bivdiff.media.heads import HEAD_FRAMES, Head, fields_of, head_of
from bivdiff.media.packets import Scan, frame_rate, is_even, is_paced, read_packets
from bivdiff.media.source import Limits, Source, check_limits
from bivdiff.pixels.fitting import MAX_SIDE

SEEK_MARGIN = 20.0
"""Seconds by which to jump short in a container without an index, where ffmpeg may land on a key frame too late."""

LOOKS = 3
"""Places in the part of a video that is used where fields are looked for: its start, its middle and its end."""

SHORTEST_JUMP = 1.0
"""Seconds below which nothing is gained, and ffmpeg seeks to the last key frame of some AVI files."""

WORTH_A_JUMP = 5.0
"""Seconds of a film that are decoded sooner than ffmpeg is started once more."""

_INDEXED = ("mov", "matroska", "avi", "gif", "apng")
_KINDS = {
    "mov": "mp4 or mov", "matroska": "mkv or webm", "mpegts": "transport stream", "mpeg": "MPEG program stream",
    "asf": "wmv", "apng": "animated PNG",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Stream(Source):
    """A video.

    `container`: ffmpeg's name of it. `clock`: `(N,)`, when ffmpeg shows each frame, in seconds. `late`: seconds by
    which the decoder shows a frame later than its packet says. `reordered`: seconds by which a frame may be decoded
    before it is shown: ffmpeg seeks by the time of decoding. `decoder`: which one to use, or empty for ffmpeg's choice.
    `weave`: filters that make whole frames of fields.
    `colour`: filters that bring colours to sRGB, or nothing where ffmpeg does. `matrix`: what to take for the matrix
    of colours where the file does not say. `keys`: `(K,)`, about when frames are shown that need no others, in seconds.
    `heard`: whether there may be sound.
    """

    container: str
    limits: Limits
    clock: np.ndarray
    late: float = 0.0
    reordered: float = 0.0
    decoder: str = ""
    weave: str = ""
    colour: str = ""
    matrix: str = ""
    heard: bool = True
    keys: np.ndarray = field(default_factory=lambda: np.zeros(0))

    def frames(self, indices: Sequence[int], deep: bool = False) -> Generator[np.ndarray, None, None]:
        """See `Source.frames`."""
        wanted, times = np.unique(np.asarray(indices, int), return_counts=True)
        coming = iter(times)
        for part in self._parts(wanted):
            given = 0
            with ffmpeg.streaming(self._command(part, deep)) as output:
                while given < len(part) and (frame := ffmpeg.read_picture(output)) is not None:
                    given += 1
                    for _ in range(next(coming)):
                        yield frame
            effort.check()
            if given < len(part):
                return

    def _parts(self, wanted: np.ndarray) -> list[np.ndarray]:
        """The wanted frames in parts, so that ffmpeg decodes nothing of what lies between two of them."""
        if not len(self.keys):
            return [wanted]
        shown = self.clock[wanted]
        # From there on ffmpeg would begin for the frame that is next.
        begins = np.searchsorted(self.keys, shown[1:] - self._margin, side="right") - 1
        skipped = np.where(begins >= 0, self.keys[begins], -math.inf) - shown[:-1]
        return np.split(wanted, np.flatnonzero(skipped > WORTH_A_JUMP) + 1)

    @property
    def _margin(self) -> float:
        """Seconds by which to jump short of a frame, so as to land before it."""
        return self.reordered + (0.0 if self.container in _INDEXED else SEEK_MARGIN)

    def used(self, indices: Sequence[int]) -> Stream:
        """See `Source.used`: fields may begin behind what was looked at when the file was opened."""
        if self.weave or max(indices) < HEAD_FRAMES:
            return self
        places = np.linspace(min(indices), max(min(indices), max(indices) - HEAD_FRAMES), LOOKS).astype(int)
        found = (
            fields_of(self._seeking(int(place)), f"select='gte(t,{self._before(int(place)):.6f})'")
            for place in np.unique(places[places > 0])
        )
        fields = next(filter(None, found), "")
        if not fields:
            return self
        return replace(
            self, weave=_weave(fields), notes=(*self.notes, _woven(self.name)),
            facts={**self.facts, "fields": "interlaced"},
        )  # fmt: skip

    def _seeking(self, first: int) -> list[str]:
        """The start of a command that reads from shortly before a frame on."""
        command = ffmpeg.reading_command(self.path, self.container, self.limits.pixels)
        where = command.index("-i")
        # The times of frames stay those of the scan, wherever ffmpeg begins.
        command[where:where] = ["-copyts", "-start_at_zero"]
        if first > 0:
            jump = self._before(first) - self._margin
            command[where:where] = ["-ss", f"{jump:.6f}"] if jump > SHORTEST_JUMP else []
        if self.decoder:
            command[where:where] = ["-c:v", self.decoder]
        return command

    def _before(self, index: int) -> float:
        """A time between a frame and the one before, so that no rounding decides which of them comes first."""
        return float(self.clock[index - 1] + self.clock[index]) / 2

    def _command(self, wanted: np.ndarray, deep: bool) -> list[str]:
        # Between two frames, so that no rounding of a time decides which of them comes first.
        middles = (self.clock[1:] + self.clock[:-1]) / 2
        edges = np.concatenate([[-math.inf], middles, [math.inf]])
        matrix = f":in_color_matrix={self.matrix}" if self.matrix else ""
        filters = [
            self.weave, f"select='{_selection(wanted, edges, self.clock)}'", self.colour,
            f"scale=w='clip(iw*sar,1,{MAX_SIDE})':h=ih:flags={SCALER_FLAGS}{matrix}",
            f"format={'rgba64be' if deep else 'rgba'}",
        ]  # fmt: skip
        command = [*self._seeking(int(wanted[0])), *ffmpeg.PICTURES_ONLY, "-vf", ",".join(filter(None, filters))]
        command += ["-fps_mode", "passthrough", "-frames:v", str(len(wanted))]
        return [*command, "-c:v", "pam", "-f", "image2pipe", "-"]


def open_stream(path: Path, container: str, limits: Limits) -> Stream:
    """Check a video as far as is possible without decoding all of it.

    Raises:
        InputError: it has no picture, cannot be decoded, or is beyond the limits.
    """
    scan, said = read_packets(path, container, limits)
    check_limits(quoted_name(path), scan.ticks * float(scan.tick), scan.pixels, limits)
    head = head_of(said, path, container, limits)
    ticks, late = _as_decoded(scan, head)
    drawn = _pace_of_drawn(ticks, scan, quoted_name(path)) if container in DRAWN else None
    fps = drawn.fps if drawn else frame_rate(ticks, scan.tick, scan.lasts)
    clock = ticks * float(scan.tick)
    slack = 0.0 if is_even(ticks) else float(scan.tick)
    width = min(max(math.floor(head.width), 1), MAX_SIDE)
    colour, colour_words = filters_of(head, quoted_name(path))
    weave, told = "", []
    if head.fields:
        weave = _weave(head.fields)
        told.append(_woven(quoted_name(path)))
    if head.transfer in HDR:
        told.append(f"{quoted_name(path)} is HDR ({HDR[head.transfer]}): its light was brought into the usual range.")
    told += drawn.notes if drawn else ()
    return Stream(
        path=path, container=container, kind=f"{_KINDS.get(container, container)}, {scan.codec}",
        width=width, height=head.height, seconds=drawn.seconds if drawn else clock, clock=clock,
        slack=drawn.slack if drawn else slack, fps=fps, counted=bool(drawn) or is_even(ticks), notes=tuple(told),
        facts={
            "colour": colour_words, "pixels": head.pixel_format,
            "fields": "interlaced" if head.fields else "whole frames",
            "pace": drawn.pace if drawn else "even" if is_paced(ticks, scan.tick, fps) else "variable",
        },
        limits=limits, late=late, reordered=2 * late + scan.reordered * float(scan.tick), decoder=scan.decoder,
        weave=weave, colour=colour, matrix=matrix_of(head),
        heard=": Audio: " in said, keys=np.zeros(0) if drawn else scan.keys * float(scan.tick) + late,
    )  # fmt: skip


def _weave(fields: str) -> str:
    """The filter that makes whole frames of fields, of which the first is the top one, "tff", or the other."""
    return f"bwdif=mode=send_frame:parity={fields}:deint=all"


def _woven(name: str) -> str:
    return f"{name} is interlaced: whole frames were made of its fields (bwdif)."


def _pace_of_drawn(ticks: np.ndarray, scan: Scan, name: str) -> Pace:
    """How pictures follow each other; the last is shown for as long as it says, or else as the one before."""
    lasts = np.diff(ticks).tolist()
    return pace_of([*lasts, int(scan.lasts[-1]) if scan.lasts[-1] > 0 else (lasts or [0])[-1]], scan.tick, name)


def _as_decoded(scan: Scan, head: Head) -> tuple[np.ndarray, float]:
    """The times at which a decoder shows the frames, in ticks, and the seconds by which that is later than scanned."""
    shown = np.unique(np.round(head.times / float(scan.tick)).astype(np.int64))
    if not len(shown):
        return scan.ticks, 0.0
    ticks = scan.ticks
    if scan.timed and np.isin(shown, ticks).all():
        missing = (ticks < shown[0]) | ((ticks <= shown[-1]) & ~np.isin(ticks, shown))
        return ticks[~missing], 0.0
    late = int(shown[0] - ticks[0])
    return ticks + late, max(late, 0) * float(scan.tick)


# The frames


def _selection(wanted: np.ndarray, edges: np.ndarray, seconds: np.ndarray) -> str:
    """An expression of ffmpeg that is true for the wanted frames: each has its span of time, which `edges` bound."""
    breaks = np.flatnonzero(np.diff(wanted) > 1) + 1
    spans = ((run[0], run[-1] + 1) for run in np.split(wanted, breaks))
    within = "+".join(_within(edges[first], edges[last]) for first, last in spans)
    if len(seconds) < 2:
        return within
    # Never two frames of the same time, of which the scan has counted one.
    apart = float(np.diff(seconds).min()) / 2
    return f"({within})*(isnan(prev_selected_t)+gte(t-prev_selected_t,{apart:.9f}))"


def _within(low: float, high: float) -> str:
    bounds = [f"gte(t,{low:.6f})"] if math.isfinite(low) else []
    bounds += [f"lt(t,{high:.6f})"] if math.isfinite(high) else []
    return "*".join(bounds) or "1"
