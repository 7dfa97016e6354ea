"""Pictures that are drawn one by one, as in a GIF: how long each is shown, told to be so and by browsers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import IO, NamedTuple

import numpy as np

from bivdiff.media.packets import frame_rate, is_even, is_paced

DRAWN = ("gif", "apng")
"""ffmpeg's containers of such pictures: a long hold is a title or a pause, not many frames."""

_QUICKEST, _INSTEAD = Fraction(1, 100), Fraction(1, 10)
"""Seconds up to which browsers take a picture's time for no time, and what they take instead."""

_FEWEST = 23  # bytes of a picture's chunk in a WebP up to its time


class Pace(NamedTuple):
    """When pictures are shown.

    `seconds`: of each, from the first. `slack`: by which they may be off. `fps`: the usual rate. `pace`: "even" or
    "variable". `notes`: what is to be said of it, in sentences.
    """

    seconds: np.ndarray
    slack: float
    fps: float
    pace: str
    notes: tuple[str, ...]


def pace_of(lasts: Sequence[int], tick: Fraction, name: str) -> Pace:
    """How pictures follow each other, as browsers show them.

    Args:
        lasts: how long each is shown by its file, in ticks.
        tick: seconds.
        name: the file's, fit for a sentence.
    """
    told = np.array(lasts, np.int64)
    coarser = int(_QUICKEST / tick)
    if coarser > 1 and not (told % coarser).any():
        told, tick = told // coarser, coarser * tick  # as exact as the GIF that they were made of
    quick = (told <= int(_QUICKEST / tick)) & (len(told) > 1)
    ticks = np.cumsum([0, *np.where(quick, max(int(_INSTEAD / tick), 1), told)])
    fps = frame_rate(ticks[:-1], tick, np.diff(ticks), drawn=True)
    notes, even = [], is_paced(ticks[:-1], tick, fps)
    if quick.any():
        which = "The pictures" if quick.all() else f"{int(quick.sum())} of the pictures"
        notes.append(
            f"{which} of {name} are to be shown for a hundredth of a second or less, as it says itself. As in "
            "browsers, each of these is shown for a tenth."
        )
    if not even:
        notes.append(
            f"The pictures of {name} are shown for different times. They are taken one after the other, as they were "
            f"drawn, at {fps:.3g} a second."
        )
    slack = 0.0 if is_even(ticks[:-1]) else float(tick)
    return Pace(ticks[:-1] * float(tick), slack, fps, "even" if even else "variable", tuple(notes))


def times_of(file: IO[bytes], container: str, count: int) -> tuple[list[int], Fraction]:
    """How long each picture of an animated WebP or AVIF is shown, in ticks, and a tick in seconds.

    Where the file does not say, as long as the others usually are, or else a tenth of a second.
    """
    lasts, tick = _webp_times(file) if container == "WEBP" else _avif_times(file, count)
    usual = sorted(lasts)[(len(lasts) - 1) // 2] if lasts else int(_INSTEAD / tick)
    return [*lasts, *[usual] * (count - len(lasts))][:count], tick


def _webp_times(file: IO[bytes]) -> tuple[list[int], Fraction]:
    size, start, lasts = file.seek(0, 2), 12, []
    while start + 8 <= size:
        file.seek(start)
        header = file.read(_FEWEST)
        length = int.from_bytes(header[4:8], "little")
        if header[:4] == b"ANMF" and len(header) == _FEWEST:
            lasts.append(int.from_bytes(header[20:], "little"))
        start += 8 + length + length % 2
    return lasts, Fraction(1, 1000)


def _avif_times(file: IO[bytes], count: int) -> tuple[list[int], Fraction]:
    """Of a sequence, which has the boxes of an mp4: of its first track that says its times."""
    for track in _boxes(file, [b"moov", b"trak"], 0, file.seek(0, 2)):
        clock = next(_boxes(file, [b"mdia", b"mdhd"], *track), None)
        table = next(_boxes(file, [b"mdia", b"minf", b"stbl", b"stts"], *track), None)
        if clock and table:
            file.seek(clock[0])
            head = file.read(24)
            rate = int.from_bytes(head[20:24] if head[:1] == b"\1" else head[12:16], "big")
            return _runs(file, *table, count), Fraction(1, max(rate, 1))
    return [], Fraction(1, 1000)


def _runs(file: IO[bytes], start: int, end: int, count: int) -> list[int]:
    """A table of runs, so many pictures and how long each of them lasts, written out."""
    lasts: list[int] = []
    file.seek(start + 8)
    for _ in range(start + 8, end - 7, 8):
        run = file.read(8)
        lasts += [int.from_bytes(run[4:], "big")] * min(int.from_bytes(run[:4], "big"), count - len(lasts))
        if len(lasts) >= count:
            break
    return lasts


def _boxes(file: IO[bytes], path: Sequence[bytes], start: int, end: int) -> Iterator[tuple[int, int]]:
    """Where the contents of the boxes of a path begin and end, such as moov/trak, in a span of a file."""
    while start + 8 <= end:
        file.seek(start)
        header = file.read(16)
        size, content = int.from_bytes(header[:4], "big"), start + 8
        if size == 1:
            size, content = int.from_bytes(header[8:], "big"), start + 16
        last = end if size == 0 else min(start + size, end)
        if header[4:8] == path[0]:
            yield from _boxes(file, path[1:], content, last) if path[1:] else [(content, last)]
        start = max(last, start + 8)
