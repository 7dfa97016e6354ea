"""Carrying a mask that was painted on the first frame over the rest of a clip, without a network.

Two followers share one optical flow. Where the colours inside the mask tell the object from what surrounds it, the mask
may change its shape: the flow moves it, and a graph cut puts its edge back onto the object's, frame by frame, so errors
do not add up. Elsewhere (a stretch of wall, part of an object) colours would only mislead, and the painted shape is
moved, turned and scaled as a whole. The first frame itself shows which of the two applies.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import cv2
import numpy as np

from bivdiff.errors import InputError
from bivdiff.pixels.flow import MIN_SIDE, motions, pixel_grid, sample
from bivdiff.pixels.masks import large_parts
from bivdiff.types import check_frames

# Shares of the shorter side: how far inside and outside the moved edge the true one is looked for where the flow is
# trusted, and how far outside where it is not; there, no pixel inside is certain, however deep.
_INNER_BAND = 0.05
_OUTER_BAND = 0.03
_FAR_BAND = 0.08
_MAX_MARGIN = 0.15  # share of the shorter side: how loosely an object may be painted
_MIN_PART = 0.05  # of the largest part's area: less is speckle
_MIN_FIT = 0.65  # IoU: if the object, grown by a margin, is so unlike what was painted, something else was meant
_MIN_RECOGNITION = 0.85  # IoU: colours that do not find the object again on its own frame are of no use on others
_MIN_PIXELS = 32  # what two mixtures of five Gaussians each need at the very least
_LEARNING_ROUNDS = 5
_NO_BOX: Any = None  # the labels say what the object is
_SAME_COLOR = 20  # levels by which a pixel that the flow follows may change
_MIN_POINTS = 8
_MAX_POINTS = 2000


class _Appearance(NamedTuple):
    """Gaussian mixtures of the colours outside and inside, as `cv2.grabCut` keeps them."""

    outside: np.ndarray
    inside: np.ndarray


class _Object(NamedTuple):
    """What is followed: its mask on the first frame, 0 or 1; the pixels by which it was painted too large."""

    mask: np.ndarray
    margin: int
    appearance: _Appearance


class _Motion(NamedTuple):
    """From one frame to the next: `origin` `(H, W, 2)`, where each pixel was before; `trusted` `(H, W)` bool."""

    origin: np.ndarray
    trusted: np.ndarray


def track(frames: np.ndarray, first_mask: np.ndarray) -> np.ndarray:
    """Carry a mask painted on the first frame over all frames. The same clip and mask give the same masks.

    An object may be painted with a margin, which it keeps; a shadow painted with it goes with it. It may bend, turn,
    grow, shrink and be hidden in part; once it has left the picture or is hidden altogether, its mask is empty and
    stays so. A mask without an object of its own, such as one of background, moves with what it covers, or stays.

    Method: DIS optical flow moves the mask; GrabCut, with colour mixtures learned on the first frame and then frozen,
    decides in a band around the moved edge, held where forward and backward flow agree. Where those mixtures do not
    find the painted object again on the first frame, a similarity is fitted to the flow by RANSAC instead.

    Measured by `benchmarks/tracking.py` on evaluation scenes 0 to 23 at 128 pixels: mean IoU 0.985, lowest of a clip
    0.944 (the flow alone: 0.910 and 0.658); 0.923 for objects painted 7 pixels too large, mostly since their shadows
    come along. Hardest are objects coloured like what surrounds them: when one leaves the picture, a rest of its mask
    may stay at the edge.

    Args:
        frames: uint8 `(F, H, W, 3)` RGB.
        first_mask: uint8 `(H, W)`, 128 and more inside.

    Returns:
        uint8 `(F, H, W)`, 0 or 255; the first is what was painted.

    Raises:
        InputError: the mask is empty or does not match the frames.

    Source: Kroeger et al. 2016 (arXiv:1603.03590) for the flow, Rother et al. 2004 ("GrabCut") for the cut, Sundaram et
    al. 2010 for the agreement of the flows; their combination is ours.
    """
    check_frames(frames, "The clip to track in")
    painted = _checked(frames, first_mask)
    if painted.all() or min(painted.shape) < MIN_SIDE:
        return np.broadcast_to(painted * np.uint8(255), frames.shape[:3]).copy()
    followed = _learn(frames[0], painted)
    masks = _follow_motion(frames, painted) if followed is None else _follow_object(frames, followed)
    return np.stack([painted, *masks]) * np.uint8(255)


def _checked(frames: np.ndarray, first_mask: np.ndarray) -> np.ndarray:
    """The mask as 0 and 1, uint8."""
    height, width = frames.shape[1:3]
    if not isinstance(first_mask, np.ndarray) or first_mask.dtype != np.uint8 or first_mask.shape != (height, width):
        found = f"{first_mask.dtype} {first_mask.shape}" if isinstance(first_mask, np.ndarray) else "none"
        raise InputError(
            f"The mask of the first frame must be a uint8 array ({height}, {width}), like the frames; got {found}."
        )
    painted = (first_mask > 127).astype(np.uint8)
    if not painted.any():
        raise InputError("There is nothing to track: the mask of the first frame is empty. Paint over the object.")
    return painted


def _learn(frame: np.ndarray, painted: np.ndarray) -> _Object | None:
    """The object under a mask that may be painted loosely; None where its colours do not tell it apart."""
    if not _learnable(painted):
        return None
    labels = np.where(painted, cv2.GC_PR_FGD, cv2.GC_BGD).astype(np.uint8)
    core = large_parts(_first_cut(frame, labels, _LEARNING_ROUNDS)[0], _MIN_PART)
    if not _learnable(core):
        return None
    margin, fit = _margin(core, painted)
    # The colours around a loosely painted object belong to the outside.
    labels = np.where(core, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    _, appearance = _first_cut(frame, labels, 1)
    found = _cut(frame, core, np.zeros(core.shape, bool), appearance)
    if fit < _MIN_FIT or _iou(found, core) < _MIN_RECOGNITION:
        return None
    return _Object(core, margin, appearance)


def _learnable(mask: np.ndarray) -> bool:
    inside = int(mask.sum())
    return min(inside, mask.size - inside) >= _MIN_PIXELS


def _first_cut(frame: np.ndarray, labels: np.ndarray, rounds: int) -> tuple[np.ndarray, _Appearance]:
    appearance = _Appearance(np.zeros((1, 65)), np.zeros((1, 65)))
    cv2.setRNGSeed(0)  # the mixtures start from clusters with random centres
    cv2.grabCut(frame, labels, _NO_BOX, *appearance, rounds, cv2.GC_INIT_WITH_MASK)
    return labels & 1, appearance  # GC_FGD and GC_PR_FGD are odd


def _margin(core: np.ndarray, painted: np.ndarray) -> tuple[int, float]:
    """By how many pixels the object must grow to match best what was painted, and the IoU it then has."""
    distance = _distance_to(core)
    fits = [_iou(distance <= radius, painted > 0) for radius in range(int(_MAX_MARGIN * min(core.shape)) + 1)]
    return int(np.argmax(fits)), max(fits)


def _follow_object(frames: np.ndarray, followed: _Object) -> Iterator[np.ndarray]:
    mask = followed.mask
    for motion, frame in zip(_motions(frames), frames[1:], strict=True):
        moved = (sample(mask.astype(np.float32), motion.origin) > 0.5).astype(np.uint8)
        mask = large_parts(_cut(frame, moved, motion.trusted, followed.appearance), _MIN_PART, touching=moved)
        yield _within(mask, followed.margin)


def _follow_motion(frames: np.ndarray, painted: np.ndarray) -> Iterator[np.ndarray]:
    height, width = painted.shape
    grid, shape = pixel_grid(height, width), painted.astype(np.float32)
    mask, path = painted, np.eye(3)
    for motion in _motions(frames):
        chosen = motion.trusted & (sample(mask.astype(np.float32), motion.origin) > 0.5)
        step = _similarity(motion.origin[chosen], grid[chosen])
        if step is not None:
            path = step @ path
        mask = (cv2.warpAffine(shape, path[:2], (width, height)) > 0.5).astype(np.uint8)
        yield mask


def _similarity(before: np.ndarray, after: np.ndarray) -> np.ndarray | None:
    """The shift, turn and scale, as a 3x3 matrix, that most of the points `(P, 2)` follow; None for too few."""
    if len(before) < _MIN_POINTS:
        return None
    stride = -(-len(before) // _MAX_POINTS)
    source, target = (np.ascontiguousarray(points[::stride]) for points in (before, after))
    matrix, _ = cv2.estimateAffinePartial2D(source, target, ransacReprojThreshold=1.0)
    return None if matrix is None else np.vstack([matrix, (0.0, 0.0, 1.0)])


def _motions(frames: Sequence[np.ndarray] | np.ndarray) -> Iterator[_Motion]:
    """The motion into each frame but the first, found between neighbours."""
    for (before, after), motion in zip(pairwise(frames), motions(frames), strict=True):
        alike = cv2.absdiff(sample(before, motion.origin), after).max(2) < _SAME_COLOR
        yield _Motion(motion.origin, motion.agreed & alike)


def _cut(frame: np.ndarray, moved: np.ndarray, trusted: np.ndarray, appearance: _Appearance) -> np.ndarray:
    """Put the edge of a mask onto the object's: uint8 0 or 1, decided within bands around the edge of `moved`.

    The inside is certain only where the flow is trusted, so that an object which is not there any more can vanish.
    """
    if not moved.any():
        return moved
    inner, outer, far = (max(1, round(band * min(moved.shape))) for band in (_INNER_BAND, _OUTER_BAND, _FAR_BAND))
    # The picture's edge is no edge of the object: `depth` counts from what is seen of the outside.
    depth, distance = _distance_to(1 - moved), _distance_to(moved)
    near = (distance <= far).astype(np.uint8)
    labels = np.where(moved, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    labels[(near == 0) | (trusted & (distance > outer))] = cv2.GC_BGD
    labels[trusted & (depth > inner)] = cv2.GC_FGD
    left, top, width, height = cv2.boundingRect(near)  # the cut's time grows with the area
    window = np.s_[top : top + height, left : left + width]
    part = np.ascontiguousarray(labels[window])
    outside, inside = (model.copy() for model in appearance)
    cv2.grabCut(np.ascontiguousarray(frame[window]), part, _NO_BOX, outside, inside, 1, cv2.GC_EVAL_FREEZE_MODEL)
    cut = np.zeros_like(moved)
    cut[window] = part & 1
    return cut


def _within(mask: np.ndarray, radius: int) -> np.ndarray:
    """The pixels at most `radius` away from the mask."""
    return (_distance_to(mask) <= radius).astype(np.uint8) if mask.any() else mask


def _distance_to(mask: np.ndarray) -> np.ndarray:
    """Pixels from each pixel to the nearest one of a mask that is not empty."""
    return cv2.distanceTransform(1 - mask, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)


def _iou(mask: np.ndarray, other: np.ndarray) -> float:
    return float((mask & other).sum() / max((mask | other).sum(), 1))
