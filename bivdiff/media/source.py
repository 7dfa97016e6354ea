"""What a file that was opened comes to: frames that can be had by their number, and when each of them is shown."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from bivdiff.errors import InputError, quoted_name

STILL_FPS = 1.0
"""The playback rate given to a picture, which has none."""


@dataclass(frozen=True)
class Limits:
    """What is accepted from a user. Each bound is named in the sentence that refuses.

    Attributes:
        file_bytes: size of the file.
        seconds: length of the whole source, used or not.
        source_frames: number of frames of the whole source.
        pixels: of one source frame, width times height; the default admits 8K.
        clip_pixels: of all frames of one clip together, as they leave this room; three bytes of memory each.
            The default admits 8192 frames of 512x512.
    """

    file_bytes: int = 2**30
    seconds: float = 7200.0
    source_frames: int = 500_000
    pixels: int = 8192 * 4608
    clip_pixels: int = 2**31


LIMITS = Limits()
Size = tuple[int, int] | Callable[[int, int], tuple[int, int]]
"""Width and height in pixels, or what makes them of a source's own."""


@dataclass(frozen=True, kw_only=True)
class Source(ABC):
    """A file, or several, that passed the checks.

    Attributes:
        path: of the file, the folder or the pattern.
        kind: what it is, in words.
        width, height: of a frame as it is shown: rotated, with square pixels.
        seconds: `(N,)`, when each frame is shown, ascending.
        fps: its rate; the mean, where its frames do not follow each other at one pace.
        slack: seconds by which the times may be off.
        counted: whether frames are taken one after the other, whatever their times say, as those of drawn pictures are.
        timed: whether the rate is the file's own, and not one that was given to it.
        notes: what was done to its frames that a user should know, in sentences.
        facts: what else is known of it, in words: colour, interlacing and so on.
    """

    path: Path
    kind: str
    width: int
    height: int
    seconds: np.ndarray
    fps: float
    slack: float = 0.0
    counted: bool = False
    timed: bool = True
    notes: tuple[str, ...] = ()
    facts: Mapping[str, str] = field(default_factory=dict)

    @abstractmethod
    def frames(self, indices: Sequence[int], deep: bool = False) -> Generator[np.ndarray, None, None]:
        """Yield the frames of these numbers, which ascend, as RGBA `(H, W, 4)`; fewer where they cannot be decoded.

        Args:
            indices: of frames, each 0 or more and less than N; one that stands there twice is given twice.
            deep: in 16 bits, uint16, with the levels of the file itself, instead of uint8 in sRGB.
        """

    def used(self, _: Sequence[int]) -> Source:
        """The source as it is to be read where frames of these numbers, which ascend, are used."""
        return self

    @property
    def name(self) -> str:
        """The file's name, fit for a sentence."""
        return quoted_name(self.path)

    def index_at(self, start: float) -> int:
        """The frame on screen `start` seconds after the first."""
        shown = self.seconds - self.seconds[0]
        # A thousandth of a frame more: 0.1 s at 30 fps is frame 3, whatever the last binary digit says.
        return int(np.searchsorted(shown, start + self.slack + 1e-3 / self.fps, side="right")) - 1

    def frames_from(self, index: int) -> int:
        """How many frames at the source's rate there are from frame `index` to the end."""
        if self.counted:
            return len(self.seconds) - index
        return round(float(self.seconds[-1] - self.seconds[index]) * self.fps) + 1

    def indices(self, first: int, stride: int, count: int) -> np.ndarray:
        """The numbers of `count` frames at the source's rate, every `stride`-th from frame `first` on.

        Of a source with a variable rate these are the frames on screen at an even pace: some twice, some not at all.
        """
        steps = np.arange(count) * stride
        if self.counted:
            return first + steps
        # The place of each frame at the even pace: the nearest, and the later of two frames that share one.
        places = np.floor((self.seconds[first:] - self.seconds[first]) * self.fps + 0.5 + 1e-6)
        return first + np.searchsorted(places, steps, side="right") - 1

    @property
    def duration(self) -> float:
        """Seconds that all its frames take at its rate."""
        return self.frames_from(0) / self.fps

    def described(self) -> str:
        """Its length, size and rate in words: "72 frames of 640x480 at 24 a second (3 s)"."""
        count = len(self.seconds)
        shape = f"{count} frame{'s' if count != 1 else ''} of {self.width}x{self.height}"
        return f"{shape} at {self.fps:.4g} a second ({self.duration:.3g} s)" if count > 1 and self.timed else shape


def damaged(name: str) -> InputError:
    """The refusal of a file that cannot be decoded."""
    return InputError(
        f"{name} could not be decoded: it is damaged, incomplete or uses an unknown codec. "
        "Check that it plays, or convert it to mp4 (H.264), and try again."
    )


def check_limits(name: str, seconds: np.ndarray, pixels: int, limits: Limits) -> None:
    """Refuse a source with more frames, seconds or pixels than are accepted.

    Args:
        name: fit for a sentence.
        seconds: when each frame is shown.
        pixels: of a frame.
        limits: the bounds that hold.

    Raises:
        InputError: it has.
    """
    lasts = float(seconds[-1] - seconds[0])
    if len(seconds) > limits.source_frames:
        reason = f"more than the {limits.source_frames} frames"
    elif lasts > limits.seconds:
        reason = f"{lasts:.0f} seconds, more than the {limits.seconds:.0f} seconds"
    elif pixels > limits.pixels:
        reason = f"{pixels / 1e6:.1f} megapixels a frame, more than the {limits.pixels / 1e6:.1f} megapixels"
    else:
        return
    raise InputError(f"{name} has {reason} that are accepted. Cut or shrink it and try again.")
