"""Videos, through ffmpeg: when each frame is shown, how its colours are meant, and the frames themselves.

1. One pass over the packets gives the time of every frame. What a header claims about length and rate is often wrong
   (sound longer than the picture, variable rates, recordings cut short) or not there. In the same pass the first frames
   are decoded. They tell what a decoder makes of those times: containers without times of display (AVI) are shown later
   than they say, and a recording that was cut begins with frames that cannot be decoded. They tell, too, how colours
   are meant, and whether a frame is woven of two fields.
2. ffmpeg seeks to the first frame asked for, and hands over only the frames that are used, one at a time.

moviepy's reader can restrict neither the container nor the protocol, repeats the last frame where a file ends early,
and lets a damaged file block on an unread pipe; therefore the ffmpeg that it ships with is called directly.
"""

from __future__ import annotations

import math
import re
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

from bivdiff.errors import InputError, quoted_name
from bivdiff.media import ffmpeg
from bivdiff.media.ffmpeg import SCALER_FLAGS
from bivdiff.media.source import STILL_FPS, Limits, Source, check_limits, damaged
from bivdiff.pixels.fitting import MAX_SIDE

SEEK_MARGIN = 20.0
"""Seconds by which to jump short in a container without an index, where ffmpeg may land on a key frame too late."""

SHORTEST_JUMP = 1.0
"""Seconds below which nothing is gained, and ffmpeg seeks to the last key frame of some AVI files."""

HEAD_FRAMES = 24
"""Frames decoded to see how a stream is to be read."""

DRAWN = ("gif", "apng")
"""Containers of pictures that are drawn one by one: a long hold is a title or a pause, not many frames."""

_INDEXED = ("mov", "matroska", "avi", "gif", "apng")
_KINDS = {
    "mov": "mp4 or mov", "matroska": "mkv or webm", "mpegts": "transport stream", "mpeg": "MPEG program stream",
    "asf": "wmv", "apng": "animated PNG",
}  # fmt: skip
_ALPHA_DECODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}  # ffmpeg's own decoders of these drop transparency
_NO_TIMESTAMP = -(2**63)
_NO_STREAMS = "matches no streams"
_PICTURES_ONLY = ("-map", "0:V:0")
_KEY = 1
_DISCARDED = 4  # only there for others to be decoded: what a phone leaves before the cut when it trims

_HDR = {"arib-std-b67": "HLG", "smpte2084": "PQ"}
_WIDE = {"bt2020": "BT.2020", "smpte432": "Display P3", "smpte431": "DCI-P3"}
_TRANSFERS = (*_HDR, "bt470m", "bt470bg", "smpte170m", "linear", "log100", "log316", "iec61966-2-1", "iec61966-2-4")
"""Those that zscale knows by ffmpeg's names, beside BT.709 and what equals it."""
_UNKNOWN = ("unknown", "reserved", "unspecified")
_HD = (1280, 577)
"""From which width or height on players take BT.709 where a file does not say; below, BT.601."""
_COMB = 0.5
"""Levels by which lines of combed frames differ more from their neighbours than from the lines after these."""

_WHITE = 203
"""Nits of white in HDR (ITU-R BT.2408); brighter is a light or a reflection."""


class _Head(NamedTuple):
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


@dataclass(frozen=True, kw_only=True)
class Stream(Source):
    """A video.

    `container`: ffmpeg's name of it. `late`: seconds by which the decoder shows a frame later than its packet says.
    `reordered`: seconds by which a frame may be decoded before it is shown: ffmpeg seeks by the time of decoding.
    `decoder`: which one to use, or empty for ffmpeg's choice. `weave`: filters that make whole frames of fields.
    `colour`: filters that bring colours to sRGB, or nothing where ffmpeg does. `matrix`: what to take for the matrix
    of colours where the file does not say.
    """

    container: str
    limits: Limits
    late: float = 0.0
    reordered: float = 0.0
    decoder: str = ""
    weave: str = ""
    colour: str = ""
    matrix: str = ""

    def frames(self, indices: Sequence[int], deep: bool = False) -> Generator[np.ndarray, None, None]:
        """See `Source.frames`."""
        wanted, times = np.unique(np.asarray(indices, int), return_counts=True)
        with ffmpeg.streaming(self._command(wanted, deep)) as output:
            for count in times:
                frame = _read_pam(output)
                if frame is None:
                    return
                for _ in range(count):
                    yield frame

    def _command(self, wanted: np.ndarray, deep: bool) -> list[str]:
        command = ffmpeg.reading_command(self.path, self.container, self.limits.pixels)
        where = command.index("-i")
        # Between two frames, so that no rounding of a time decides which of them comes first.
        middles = (self.seconds[1:] + self.seconds[:-1]) / 2
        edges = np.concatenate([[-math.inf], middles, [math.inf]])
        # The times of frames stay those of the scan, wherever ffmpeg begins.
        command[where:where] = ["-copyts", "-start_at_zero"]
        if wanted[0] > 0:
            margin = self.reordered + (0.0 if self.container in _INDEXED else SEEK_MARGIN)
            jump = float(middles[wanted[0] - 1]) - margin
            command[where:where] = ["-ss", f"{jump:.6f}"] if jump > SHORTEST_JUMP else []
        if self.decoder:
            command[where:where] = ["-c:v", self.decoder]
        matrix = f":in_color_matrix={self.matrix}" if self.matrix else ""
        filters = [
            self.weave, f"select='{_selection(wanted, edges, self.seconds)}'", self.colour,
            f"scale=w='clip(iw*sar,1,{MAX_SIDE})':h=ih:flags={SCALER_FLAGS}{matrix}",
            f"format={'rgba64be' if deep else 'rgba'}",
        ]  # fmt: skip
        command += [*_PICTURES_ONLY, "-vf", ",".join(filter(None, filters)), "-fps_mode", "passthrough"]
        return [*command, "-frames:v", str(len(wanted)), "-c:v", "pam", "-f", "image2pipe", "-"]


def open_stream(path: Path, container: str, limits: Limits) -> Stream:
    """Check a video as far as is possible without decoding all of it.

    Raises:
        InputError: it has no picture, cannot be decoded, or is beyond the limits.
    """
    scan, said = _scan(path, container, limits)
    check_limits(quoted_name(path), scan.ticks * float(scan.tick), scan.pixels, limits)
    head = _head_of(said, path, container, limits)
    ticks, late = _as_decoded(scan, head)
    drawn = container in DRAWN
    fps = _frame_rate(ticks, scan.tick, scan.lasts, drawn)
    seconds = ticks * float(scan.tick)
    width = min(max(math.floor(head.width), 1), MAX_SIDE)
    colour, colour_words = _colours(head, quoted_name(path))
    weave, told = "", []
    if head.fields:
        weave = f"bwdif=mode=send_frame:parity={head.fields}:deint=all"
        told.append(f"{quoted_name(path)} is interlaced: whole frames were made of its fields (bwdif).")
    if head.transfer in _HDR:
        told.append(f"{quoted_name(path)} is HDR ({_HDR[head.transfer]}): its light was brought into the usual range.")
    if drawn and not _is_paced(ticks, scan.tick, fps):
        told.append(
            f"The pictures of {quoted_name(path)} are shown for different times. They are taken one after the other, "
            f"as they were drawn, at {fps:.3g} a second."
        )
    return Stream(
        path=path, container=container, kind=f"{_KINDS.get(container, container)}, {scan.codec}",
        width=width, height=head.height, seconds=seconds, slack=0.0 if _even(ticks) else float(scan.tick),
        fps=fps, counted=drawn or _even(ticks), notes=tuple(told),
        facts={
            "colour": colour_words, "pixels": head.pixel_format,
            "fields": "interlaced" if head.fields else "whole frames",
            "pace": "even" if _is_paced(ticks, scan.tick, fps) else "variable",
        },
        limits=limits, late=late, reordered=2 * late + scan.reordered * float(scan.tick), decoder=scan.decoder,
        weave=weave, colour=colour, matrix=_matrix(head),
    )  # fmt: skip


# The packets


class _Scan(NamedTuple):
    """What the packets say.

    `ticks`: when each is shown, ascending. `timed`: whether the first of them says so. `lasts`: ticks of each.
    `reordered`: ticks by which one is decoded before it is shown, at most.
    """

    ticks: np.ndarray
    tick: Fraction
    lasts: np.ndarray
    timed: bool
    reordered: int
    pixels: int
    codec: str
    decoder: str


def _scan(path: Path, container: str, limits: Limits) -> tuple[_Scan, str]:
    """Read the times of all frames from the packets, and what ffmpeg says of the first, which it decodes."""
    command = ffmpeg.reading_command(path, container, limits.pixels, talkative=True)
    packets_out = [*_PICTURES_ONLY, "-c", "copy", "-frames:v", str(limits.source_frames + 1), "-f", "framecrc", "-"]
    filters = "showinfo=checksum=0,idet,metadata=print"  # in this order: idet sets the flags that showinfo shows
    looked_at = [*_PICTURES_ONLY, "-vf", filters, "-fps_mode", "passthrough", "-frames:v", str(HEAD_FRAMES)]
    put_out, said = ffmpeg.heard([*command, *packets_out, *looked_at, "-f", "null", "-"])
    if not _FRAME.search(said):
        # The packets alone tell whether there is no picture, or a larger one than ffmpeg may decode.
        put_out, said = ffmpeg.heard([*command, *packets_out])
    if _NO_STREAMS in said:
        _, of_any = ffmpeg.heard([*command, "-map", "0", "-c", "copy", "-t", "0", "-f", "null", "-"])
        if _NO_STREAMS in of_any:
            raise damaged(quoted_name(path))
        raise InputError(f"{quoted_name(path)} has no picture, only sound or text. Choose a file with a video in it.")
    header: dict[str, str] = {}
    rows: list[tuple[int, int, int]] = []
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
                rows.append((int(fields[1]), int(fields[2]), int(fields[3])))
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
    scan = _Scan(
        ticks=_display_ticks(packets),
        tick=Fraction(header["tb 0"]),
        lasts=packets[:, 2],
        timed=bool(stated[0]),
        reordered=int((packets[stated, 1] - packets[stated, 0]).max(initial=0)),
        pixels=_shown_pixels(header),
        codec=codec,
        # WebM has no codec with transparency: it travels beside the pictures.
        decoder=_ALPHA_DECODERS.get(codec, "") if has_side_data else "",
    )
    return scan, said


def _flags(extras: list[str]) -> int:
    """A packet's flags, which are told where they are not those of a key frame."""
    return int(next((extra for extra in extras if extra.startswith(" F=")), " F=0x1")[3:], 16)


def _display_ticks(rows: np.ndarray) -> np.ndarray:
    """Times of display from rows of (decoding time, display time, duration), ascending, each once."""
    decoded, shown, lasts = rows.T
    if (shown == _NO_TIMESTAMP).any():
        # MPEG program streams time only some pictures. The first is a key frame: its times tell the delay, unless
        # pictures that are shown before it follow it, whose times of decoding and display are the same.
        delay = 0 if shown[0] == _NO_TIMESTAMP else shown[0] - decoded[0]
        shown = decoded + (min(delay, lasts[0]) if (shown == decoded).any() else delay)
    return np.unique(shown)


def _even(ticks: np.ndarray) -> bool:
    """Whether the frames follow each other at exactly the same pace: then coarse ticks have rounded nothing."""
    return len(set(np.diff(ticks).tolist())) <= 1


def _is_paced(ticks: np.ndarray, tick: Fraction, fps: float) -> bool:
    """Whether the frames follow each other at the pace of a rate, but for the rounding of their times."""
    return _worst(ticks, Fraction(fps).limit_denominator(10**6) * tick) <= 1


def _worst(ticks: np.ndarray, per_tick: Fraction) -> float:
    """By how many ticks a frame is off, at most, if so many of them are shown in a tick."""
    return float(np.abs(ticks - ticks[0] - np.arange(len(ticks)) / float(per_tick)).max())


def _frame_rate(ticks: np.ndarray, tick: Fraction, lasts: np.ndarray, drawn: bool) -> float:
    """The mean rate; where coarse ticks (1 ms, 10 ms) blur a round or an NTSC rate, that rate.

    Of pictures that are drawn one by one, where they are shown for different times, the usual one of them.
    """
    if len(ticks) == 1:
        return float(1 / (int(lasts[0]) * tick)) if lasts[0] > 0 and not drawn else STILL_FPS
    steps, span = len(ticks) - 1, int(ticks[-1] - ticks[0]) * tick
    mean = steps / span
    if _even(ticks) and not drawn:
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


# The first frames


def _head_of(said: str, path: Path, container: str, limits: Limits) -> _Head:
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
    return _Head(
        np.array(times), math.floor(int(width) * square), int(height), pixel_format, matrix, primaries, transfer,
        fields,
    )  # fmt: skip


def _fields(flags: Sequence[str], found: Mapping[str, float]) -> str:
    """Whether frames are woven of two fields, as `_Head.fields` says it, from the file's flags and from its pictures.

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
    command += [*_PICTURES_ONLY, "-vf", "format=rgba", "-fps_mode", "passthrough", "-frames:v", str(count)]
    near = far = 0.0
    with ffmpeg.streaming([*command, "-c:v", "pam", "-f", "image2pipe", "-"]) as output:
        while (frame := _read_pam(output)) is not None:
            lines = frame[..., 1].astype(np.int16)
            if len(lines) < 5:
                return False
            near += float(np.abs(lines[1:-3] - 2 * lines[2:-2] + lines[3:-1]).mean()) / count
            far += float(np.abs(lines[:-4] - 2 * lines[2:-2] + lines[4:]).mean()) / count
    return near > far + _COMB


def _as_decoded(scan: _Scan, head: _Head) -> tuple[np.ndarray, float]:
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


# Colours


def _matrix(head: _Head) -> str:
    """What to take for the matrix of colours where a file of brightness and colour differences does not say."""
    differences = head.pixel_format.startswith(("yuv", "nv", "p0", "p2", "p4", "y2", "uyvy", "yvyu", "vyu", "xv"))
    if not differences or head.matrix not in _UNKNOWN:
        return ""
    if head.primaries == "bt2020" or head.transfer in _HDR:
        return "bt2020"
    return "bt709" if head.width >= _HD[0] or head.height >= _HD[1] else "bt601"


def _colours(head: _Head, name: str) -> tuple[str, str]:
    """The filters that bring the colours of HDR, or of a wide range of colours, to sRGB; and how colours are meant."""
    words = "unlabelled" if head.matrix in _UNKNOWN else head.matrix
    hdr, wide = head.transfer in _HDR, head.primaries in _WIDE
    if not hdr and not wide:
        return "", words
    words = ", ".join(filter(None, (_HDR.get(head.transfer, ""), _WIDE.get(head.primaries, ""))))
    if not {"zscale", "tonemap"} <= ffmpeg.filters():
        raise InputError(
            f"{name} is HDR or has a wide range of colours ({words}), and the ffmpeg of this machine cannot bring it "
            "into the usual one. Convert it to SDR, BT.709, and try again."
        )
    matrix = _matrix(head)
    transfer = head.transfer if head.transfer in _TRANSFERS else "bt709"
    primaries = head.primaries if head.primaries not in _UNKNOWN else "bt2020"
    # First to RGB, which knows no half-size colour and no odd side.
    steps = [f"scale=flags={SCALER_FLAGS}{f':in_color_matrix={matrix}' if matrix else ''}", "format=gbrp16le"]
    into = f"zscale=min=gbr:m=gbr:rin=full:r=full:tin={transfer}:pin={primaries}"
    if hdr:
        steps += [
            f"{into}:p={primaries}:t=linear:npl={_WHITE}",
            "format=gbrpf32le",
            "zscale=p=bt709",
            "tonemap=mobius:desat=0",
        ]
        steps += ["zscale=t=bt709:r=full", "format=gbrp16le"]
    else:
        steps += [f"{into}:p=bt709:t={transfer}", "format=gbrp16le"]
    return ",".join(steps), words


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


def _read_pam(stream: IO[bytes]) -> np.ndarray | None:
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
