"""Which pixels of a clip are made anew: making masks, changing them, showing them, putting clips together with them.

Throughout, `masks` are uint8 `(F, H, W)`: 255 = regenerate, 0 = keep, between = blended; `frames` are uint8
`(F, H, W, 3)` RGB. Nothing here changes its arguments, and every result has its own memory.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import cv2
import numpy as np

from bivdiff.errors import InputError
from bivdiff.types import check_frames

Box = tuple[float, float, float, float]
"""left, top, right, bottom, in pixels from the top left corner of the picture."""

SIDE_MULTIPLE = 8  # pixels per latent: every side of a clip to generate is a multiple of it
MAX_GROWTH = 256  # pixels by which a mask may grow or fade
MAX_SIDE = 4096  # pixels that a canvas may have per side
MAX_TOLERANCE = 100.0  # CIELAB units: black to white

_ASPECT_TOLERANCE = 0.02
_LAB_ROUNDING = 1e-3  # CIELAB units by which equal colours may differ in single precision
_TINT = np.array((255, 45, 120), np.float32)
_TINT_STRENGTH = 0.5
_OUTLINE = (255, 255, 255)
_FILL_BLUR = 1 / 24  # of the shorter side: standard deviation that takes the streaks out of repeated border pixels
_NUMBER = r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)"


def fit_masks(
    pictures: np.ndarray, num_frames: int, height: int, width: int, white_regenerates: bool = True
) -> np.ndarray:
    """Masks of the wanted length and size from a mask picture or a mask video.

    Args:
        pictures: uint8 `(n, h, w, 3)` or `(n, h, w)`, of any size with nearly the same aspect ratio. One picture serves
            all frames, and of more pictures than frames the first are used.
        num_frames, height, width: of the clip.
        white_regenerates: False for masks that mark in white what to keep.

    Returns:
        uint8 `(num_frames, height, width)`, 0 or 255: a mean of the channels of 128 or more is white.

    Raises:
        InputError: too few pictures, or an aspect ratio more than 2 % off.
    """
    if (
        not isinstance(pictures, np.ndarray)
        or pictures.dtype != np.uint8
        or not pictures.size
        or not (pictures.ndim == 3 or (pictures.ndim == 4 and pictures.shape[-1] == 3))
    ):
        raise InputError("A mask must be a picture or a video of 8 bits per channel, grey or RGB.")
    count, from_height, from_width = pictures.shape[:3]
    if 1 < count < num_frames:
        raise InputError(
            f"The mask video has {count} frames, the clip {num_frames}. Give one mask picture for all frames, "
            f"or at least {num_frames} frames."
        )
    if abs(from_width * height / (from_height * width) - 1) > _ASPECT_TOLERANCE:
        raise InputError(
            f"The mask is {from_width}x{from_height}, the clip {width}x{height}: another aspect ratio. "
            "Crop the mask like the clip."
        )
    shrinks = from_height * from_width > height * width
    masks = np.empty((min(count, num_frames), height, width), np.uint8)
    for mask, picture in zip(masks, pictures, strict=False):
        levels = picture if picture.ndim == 2 else picture.sum(2, dtype=np.uint16) / np.float32(3)
        white = (levels >= 128).astype(np.uint8) * 255
        resized = cv2.resize(white, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_NEAREST)
        mask[:] = (resized >= 128) * np.uint8(255)
    if not white_regenerates:
        masks = 255 - masks
    return masks if len(masks) == num_frames else np.repeat(masks, num_frames, 0)


def box_masks(boxes: Sequence[Box], num_frames: int, height: int, width: int) -> np.ndarray:
    """The same boxes in every frame; a pixel is inside a box if its centre is. Boxes are cut at the picture's edges.

    Raises:
        InputError: no box, a box that is empty or inverted, or one that covers no pixel of the picture.
    """
    if not boxes:
        raise InputError("There is no box. Give at least one, as in 10,20,60,80.")
    mask = np.zeros((height, width), np.uint8)
    for number, box in enumerate(boxes, 1):
        words = ", ".join(f"{edge:g}" for edge in box)
        if len(box) != 4 or not all(map(math.isfinite, box)):
            raise InputError(f"Box {number} ({words}) must be four finite numbers: left, top, right, bottom.")
        left, top, right, bottom = box
        if right <= left or bottom <= top:
            raise InputError(
                f"Box {number} ({words}) is empty: right must be more than left, and bottom more than top."
            )
        columns, rows = _pixels_between(left, right, width), _pixels_between(top, bottom, height)
        if not mask[rows, columns].size:
            raise InputError(f"Box {number} ({words}) covers no pixel of the picture, which is {width}x{height}.")
        mask[rows, columns] = 255
    return np.repeat(mask[None], num_frames, 0)


def parse_boxes(text: str, width: int, height: int) -> list[Box]:
    """Boxes written as "10,20,60,80; 50%,0,100%,50%": left, top, right, bottom, in pixels or percent of the picture.

    Boxes are separated by semicolons or line breaks. Whether they lie in the picture, `box_masks` checks.
    """
    example = "Write left, top, right, bottom, as in 10,20,60,80 or 50%,0,100%,50%."
    boxes = []
    for number, part in enumerate(filter(None, map(str.strip, re.split(r"[;\n]", text))), 1):
        edges = [edge.strip() for edge in part.split(",")]
        if len(edges) != 4:
            raise InputError(f"Box {number} ('{part[:80]}') has {len(edges)} values instead of four. {example}")
        for edge in edges:
            if not re.fullmatch(rf"{_NUMBER}\s*%?", edge):
                raise InputError(f"'{edge[:40]}' in box {number} is neither pixels nor percent. {example}")
        lengths = (width, height, width, height)
        left, top, right, bottom = (_pixels(edge, length) for edge, length in zip(edges, lengths, strict=True))
        boxes.append((left, top, right, bottom))
    if not boxes:
        raise InputError(f"There is no box. {example}")
    return boxes


def color_key_masks(frames: np.ndarray, color: str, tolerance: float) -> np.ndarray:
    """All pixels whose colour is close to `color`, 0 or 255.

    Args:
        frames: the clip.
        color: "#rrggbb", or "rgb(r, g, b)" as browsers write it; a fourth value, opacity, is ignored.
        tolerance: the largest distance, in CIELAB units from 0 (this colour only) to 100.
    """
    check_frames(frames, "The clip")
    if not isinstance(tolerance, int | float | np.number) or not 0 <= tolerance <= MAX_TOLERANCE:
        raise InputError(f"The tolerance must be a number from 0 to {MAX_TOLERANCE:g}; got {tolerance!r}.")
    key = _lab(np.array([[_parse_color(color)]], np.uint8))
    near = [np.square(_lab(frame) - key).sum(2) <= (tolerance + _LAB_ROUNDING) ** 2 for frame in frames]
    return np.stack(near) * np.uint8(255)


def grow(masks: np.ndarray, pixels: int) -> np.ndarray:
    """Grow every mask by a disc of radius `pixels`; a negative number shrinks it, 0 copies it.

    What is masked at the picture's edge is taken to go on beyond it, so shrinking does not loosen it from there.
    """
    _check_shape(masks)
    radius = _whole("The growth of the mask", pixels, -MAX_GROWTH, MAX_GROWTH)
    if not radius:
        return masks.copy()
    change = cv2.dilate if radius > 0 else cv2.erode
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * abs(radius) + 1,) * 2)
    return np.stack([change(mask, disc) for mask in masks])


def large_parts(mask: np.ndarray, least: float, touching: np.ndarray | None = None) -> np.ndarray:
    """The connected parts of one mask that are no speckle, uint8 `(H, W)`, 0 or 1.

    Args:
        mask: uint8 `(H, W)`; what is not 0 belongs to it.
        least: of the largest part's area, what a part must have.
        touching: another mask, which a part must meet.
    """
    count, labels, statistics, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    areas = statistics[:, cv2.CC_STAT_AREA]
    areas[0] = 0  # what is not the mask
    kept = areas >= max(least * areas.max(), 1)
    if touching is not None:
        kept &= np.bincount(labels[touching > 0], minlength=count) > 0
    return kept.astype(np.uint8)[labels]


def feather(masks: np.ndarray, pixels: int) -> np.ndarray:
    """Let every mask fade out towards the outside, over `pixels` pixels; 0 copies it.

    All that was masked (128 and more) keeps its value, so nothing of what is to go shines through. Outside, a pixel at
    distance d from the masked area gets `255 (1 + cos(pi d / (pixels + 1))) / 2`, close to a Gaussian's flank, or keeps
    its own value where that is higher. A pixel farther away than `pixels` is left as it was.
    """
    _check_shape(masks)
    reach = _whole("The soft edge of the mask", pixels, 0, MAX_GROWTH)
    faded = masks.copy()
    for mask in faded if reach else ():
        outside = (mask < 128).astype(np.uint8)
        if not outside.all():
            distance = cv2.distanceTransform(outside, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
            ramp = 127.5 * (1 + np.cos(np.pi * np.minimum(distance / (reach + 1), 1)))
            soft = (outside > 0) & (distance <= reach)
            mask[soft] = np.maximum(mask, (ramp + 0.5).astype(np.uint8))[soft]
    return faded


def composite(known_frames: np.ndarray, made_frames: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Put what was made into what is known: exactly the one where the mask is 0, exactly the other where it is 255.

    Between, the two are blended with weight `masks / 255` and rounded to the nearest level. All three match in length
    and size.
    """
    check_frames(known_frames, "The known clip")
    check_frames(made_frames, "The made clip")
    if known_frames.shape != made_frames.shape:
        raise InputError(
            f"The known clip has {_size_words(known_frames)}, the made one {_size_words(made_frames)}. "
            "Only clips of one length and size can be put together."
        )
    _check_fit(masks, known_frames)
    frames = np.empty_like(known_frames)
    for frame, known, made, mask in zip(frames, known_frames, made_frames, masks, strict=True):
        weight = mask[..., None].astype(np.uint16)
        frame[:] = (made * weight + known * (255 - weight) + 127) // 255  # at most 255 * 255 + 127: it fits
    return frames


def overlay(frames: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """The frames with the area to regenerate tinted and outlined, to look at before a run.

    The tint is as strong as the mask; the outline, thicker in larger pictures, runs where the mask passes one half.
    """
    check_frames(frames, "The clip")
    _check_fit(masks, frames)
    thickness = max(1, round(min(frames.shape[1:3]) / 256))
    square = np.ones((2 * thickness + 1,) * 2, np.uint8)
    shown = np.empty_like(frames)
    for picture, frame, mask in zip(shown, frames, masks, strict=True):
        weight = mask[..., None].astype(np.float32) * (_TINT_STRENGTH / 255)
        picture[:] = frame + (_TINT - frame) * weight + 0.5
        inside = (mask > 127).astype(np.uint8)
        picture[inside != cv2.erode(inside, square)] = _OUTLINE
    return shown


def extend_canvas(frames: np.ndarray, left: int, top: int, right: int, bottom: int) -> tuple[np.ndarray, np.ndarray]:
    """A larger canvas around a clip, for outpainting.

    Args:
        frames: the clip.
        left, top, right, bottom: pixels to add, at least one of them more than 0. Width and height of the canvas are
            rounded up to multiples of 8: the side that grows takes the rest, and both share it, the right or the bottom
            taking the odd pixel, where both grow or none does.

    Returns:
        The canvas, uint8 `(F, H, W, 3)`, with the frames in their place and their blurred border around them, as a
        start for a model; and its masks, 255 in the new area.

    Raises:
        InputError: nothing to add, a number that is negative or no whole one, or a canvas that is too large.
    """
    check_frames(frames, "The clip")
    names = ("left", "top", "right", "bottom")
    sides = [
        _whole(f"The {name} side", side, 0, MAX_SIDE)
        for name, side in zip(names, (left, top, right, bottom), strict=True)
    ]
    if not any(sides):
        raise InputError("There is nothing to add: give at least one side more than 0 pixels.")
    count, height, width = frames.shape[:3]
    left, right = _rounded_up(sides[0], sides[2], width)
    top, bottom = _rounded_up(sides[1], sides[3], height)
    full_height, full_width = top + height + bottom, left + width + right
    if max(full_height, full_width) > MAX_SIDE:
        raise InputError(
            f"The canvas would be {full_width}x{full_height}; at most {MAX_SIDE} pixels per side. Add less."
        )
    rows, columns = slice(top, top + height), slice(left, left + width)
    canvas = np.empty((count, full_height, full_width, 3), np.uint8)
    for picture, frame in zip(canvas, frames, strict=True):
        repeated = cv2.copyMakeBorder(frame, top, bottom, left, right, cv2.BORDER_REPLICATE)
        picture[:] = cv2.GaussianBlur(repeated, (0, 0), max(1.0, min(height, width) * _FILL_BLUR))
        picture[rows, columns] = frame
    masks = np.full(canvas.shape[:3], 255, np.uint8)
    masks[:, rows, columns] = 0
    return canvas, masks


def _check_shape(masks: np.ndarray) -> None:
    if not isinstance(masks, np.ndarray) or masks.dtype != np.uint8 or masks.ndim != 3 or not masks.size:
        found = f"{masks.dtype} {masks.shape}" if isinstance(masks, np.ndarray) else type(masks).__name__
        raise InputError(f"A mask must be a uint8 array (frames, height, width); got {found}.")


def _check_fit(masks: np.ndarray, frames: np.ndarray) -> None:
    _check_shape(masks)
    if masks.shape != frames.shape[:3]:
        raise InputError(
            f"The mask has {_size_words(masks)}, the clip {_size_words(frames)}. "
            "Give a mask of the same length and size."
        )


def _size_words(clip: np.ndarray) -> str:
    return f"{clip.shape[0]} frames of {clip.shape[2]}x{clip.shape[1]}"


def _whole(what: str, value: float, low: int, high: int) -> int:
    number = isinstance(value, int | float | np.number) and math.isfinite(value)
    if not number or value != int(value) or not low <= value <= high:
        raise InputError(f"{what} must be a whole number of pixels from {low} to {high}; got {value!r}.")
    return int(value)


def _pixels(text: str, length: int) -> float:
    return float(text[:-1]) * length / 100 if text.endswith("%") else float(text)


def _pixels_between(low: float, high: float, length: int) -> slice:
    """The pixels whose centres lie in [low, high)."""
    first, end = (math.ceil(min(max(edge, 0.0), float(length)) - 0.5) for edge in (low, high))
    return slice(first, end)


def _parse_color(text: str) -> tuple[int, ...]:
    text = text.strip() if isinstance(text, str) else ""
    if re.fullmatch(r"#[0-9a-fA-F]{6}", text):
        return tuple(bytes.fromhex(text[1:]))
    levels = re.fullmatch(rf"rgba?\(({_NUMBER}),\s*({_NUMBER}),\s*({_NUMBER})(?:,\s*{_NUMBER})?\)", text)
    color = tuple(round(float(level)) for level in levels.groups()) if levels else ()
    if not color or not all(0 <= level <= 255 for level in color):
        raise InputError(f"'{text[:40]}' is no colour. Write it as #rrggbb, as in #00b140.")
    return color


def _lab(frame: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(frame.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)


def _rounded_up(before: int, after: int, length: int) -> tuple[int, int]:
    """Widen what grows until the whole is a multiple of `SIDE_MULTIPLE`."""
    rest = -(before + length + after) % SIDE_MULTIPLE
    if bool(before) == bool(after):
        return before + rest // 2, after + rest - rest // 2
    return (before + rest, 0) if before else (0, after + rest)
