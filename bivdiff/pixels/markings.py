"""What a picture marks: the rules by which a mask of any kind is read, from an editor, a dataset or a segmenter.

1. Where its transparency varies, what is painted is marked. If black *and* white are painted, white is.
2. Colour on black: all that is not black is marked. Colour on white or grey: what has a colour is marked. Such a ground
   need not be pure: it is the shade of most dark, or most grey, pixels. A picture of many colours is no mask, which is
   said.
3. Grey: the lighter half is marked. Of a few dark shades (0 and 1, labels) all but the darkest are.

Alpha that is the same everywhere says nothing. One shade marks all of the picture where it is light, and nothing where
it is dark. `frames` here are uint16 `(H, W, 4)`, RGBA in the levels that the file has.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

FULL = 65535
_DARK, _LIGHT = FULL * 0.25, FULL * 0.75
_COLOURED = FULL * 0.19  # between the strongest and the weakest channel; lossy grey stays below
_SEEN = FULL * 0.1  # of a colour on black: lossy black stays below
_FAINT_ALPHA = FULL * 0.05
_FEW_SHADES = 16
_FEW_COLOURS = 256  # of 32 levels a channel, that fill all but a hundredth of a picture
_STRAY = 1e-3  # share of coloured pixels in a mask of black and white that may be a speck
_SOFT = 0.15  # share of what is marked that lies between light and dark
Measure = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Marking:
    """A rule for all frames of a mask.

    Attributes:
        level: of each pixel of a frame.
        bound: from which level on a pixel is marked; infinity where none is.
        basis: what is marked, in words; empty where white on black says it.
        softness: share of the marked area that is neither light nor dark.
    """

    level: Measure
    bound: float
    basis: str = ""
    softness: float = 0.0

    def marked(self, frame: np.ndarray) -> np.ndarray:
        """Where a frame is marked, bool `(H, W)`."""
        return self.level(frame) >= self.bound

    def words(self) -> list[str]:
        """How the mask was understood, as sentences without their subject."""
        if math.isinf(self.bound):
            return ["has one dark shade everywhere, so nothing in it is marked."]
        said = [f"was read so: {self.basis} is marked."] if self.basis else []
        if self.softness > _SOFT:
            said.append("has soft edges or greys: from half way on they count as marked, below they do not.")
        return said


class MarkingFinder:
    """Looks at all frames of a mask, and then says by which rule they mark a part of the picture."""

    def __init__(self) -> None:
        self._alphas = np.zeros(FULL + 1, np.int64)
        self._painted = _Colours()  # of frames with transparency
        self._all = _Colours()

    def add(self, frame: np.ndarray) -> None:
        """Look at a frame, uint16 `(H, W, 4)`."""
        alpha = frame[..., 3]
        self._alphas += np.bincount(alpha.ravel(), minlength=FULL + 1)
        self._all.add(frame[..., :3].reshape(-1, 3))
        if alpha.min() < FULL:
            self._painted.add(frame[alpha > FULL // 2, :3])

    def found(self) -> Marking:
        """The rule."""
        alphas = np.flatnonzero(self._alphas)
        colours = self._all
        if alphas[-1] - alphas[0] > _FAINT_ALPHA:
            if self._painted.black_and_white:
                return Marking(_lit, FULL / 2, "white paint")
            return _by_shade(_alpha, self._alphas, "what is painted, and not transparent,")
        if colours.coloured > (_STRAY * colours.count if colours.light else 0):
            return _by_colour(colours)
        return _by_shade(_mean, colours.greys)


class _Colours:
    """Counts of the levels of pixels, `(N, 3)`, as they come.

    `greys`: by their mean. `coloured`, `dark`, `middle`, `light`: how many have a colour, or which shade of grey; a
    grey may have a tint.
    """

    def __init__(self) -> None:
        self.greys = np.zeros(FULL + 1, np.int64)
        self._darks = np.zeros(FULL + 1, np.int64)
        self._tints = np.zeros(FULL + 1, np.int64)
        self._kinds = np.zeros(32**3, np.int64)
        self.coloured = self.dark = self.middle = self.light = self.count = 0

    def add(self, pixels: np.ndarray) -> None:
        if not len(pixels):
            return
        highest, lowest = pixels.max(1), pixels.min(1)
        self.greys += np.bincount(_mean(pixels), minlength=FULL + 1)
        five = (pixels >> 11).astype(np.int64)
        self._kinds += np.bincount((five[:, 0] << 10) | (five[:, 1] << 5) | five[:, 2], minlength=32**3)
        neutral = highest - lowest <= _COLOURED
        self.coloured += int((~neutral).sum())
        self._darks += np.bincount(highest[neutral & (highest < _DARK)], minlength=FULL + 1)
        self._tints += np.bincount((highest - lowest)[neutral & (highest >= _DARK)], minlength=FULL + 1)
        self.dark += int((neutral & (highest < _DARK)).sum())
        self.light += int((neutral & (lowest > _LIGHT)).sum())
        self.middle += int((neutral & (highest >= _DARK) & (lowest <= _LIGHT)).sum())
        self.count += len(pixels)

    @property
    def black_and_white(self) -> bool:
        few = 0.005 * self.count
        return not self.coloured and self.dark > few and self.light > few and self.middle < 10 * few

    @property
    def darkness(self) -> int:
        """The strongest channel of most dark pixels: of the ground on which colours lie."""
        return int(self._darks.argmax())

    @property
    def tint(self) -> int:
        """By how much the channels of most lighter greys differ."""
        return int(self._tints.argmax())

    @property
    def many(self) -> bool:
        """Whether there are more colours than a mask has, in many places."""
        counts = np.sort(self._kinds)[::-1]
        return int(np.searchsorted(np.cumsum(counts), 0.99 * self.count)) + 1 > _FEW_COLOURS


def _by_colour(colours: _Colours) -> Marking:
    """What differs in colour from black, white or grey; of many colours, as of greys."""
    if colours.many:
        basis = "the lighter half of what seems to be a picture of many colours, and no mask,"
        return _by_shade(_mean, colours.greys, basis)
    if colours.dark:
        basis = "what is not black" if colours.darkness < _SEEN else "what is lighter than its dark ground"
        return Marking(_strongest, colours.darkness + _SEEN, basis)
    if colours.light or colours.middle:
        return Marking(_saturation, colours.tint + _SEEN, "what has a colour")
    return _by_shade(_mean, colours.greys, "the lighter of its colours")


def _by_shade(level: Measure, counts: np.ndarray, basis: str = "") -> Marking:
    """The lighter half of the shades of which there are `counts`; of a few dark ones all but the darkest."""
    shades = np.flatnonzero(counts)
    low, high = int(shades[0]), int(shades[-1])
    if low == high and low < FULL / 2:
        return Marking(level, math.inf)
    if low == high:
        return Marking(level, FULL / 2, basis or "all of it, which has one light shade,")
    if high < _DARK and len(shades) <= _FEW_SHADES:
        return Marking(level, int(shades[1]), basis or "all but the darkest of its few dark shades")
    usual = low <= _DARK and high >= _LIGHT
    bound = FULL / 2 if usual else (low + high) / 2
    margin = (high - low) / 10
    touched = counts[int(low + margin) + 1 :].sum()
    between = counts[int(low + margin) + 1 : int(high - margin)].sum()
    return Marking(level, bound, basis or ("" if usual else "the lighter half of its shades"), float(between / touched))


def _mean(frame: np.ndarray) -> np.ndarray:
    return frame[..., :3].sum(-1, dtype=np.uint32) // 3


def _strongest(frame: np.ndarray) -> np.ndarray:
    return frame[..., :3].max(-1)


def _saturation(frame: np.ndarray) -> np.ndarray:
    return frame[..., :3].max(-1) - frame[..., :3].min(-1)


def _alpha(frame: np.ndarray) -> np.ndarray:
    return frame[..., 3]


def _lit(frame: np.ndarray) -> np.ndarray:
    """Light, laid over black."""
    return _mean(frame) * frame[..., 3] // FULL
