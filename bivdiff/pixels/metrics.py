"""What a clip is worth: fidelity to a known truth, the object in it, and its steadiness over time.

Throughout, `frames` and `truth` are uint8 `(F, H, W, 3)` RGB and `masks` uint8 `(F, H, W)`, 255 inside. Every function
raises `InputError` for another shape or type. NaN means that there was nothing to measure (an object that never shows,
one frame where two are needed); `average` leaves it out. Nothing here changes its arguments or draws a random number.
All temporal measures reward blur, so they belong next to `sharpness`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

import cv2
import numpy as np
from skimage.color import deltaE_ciede2000, rgb2lab
from skimage.metrics import structural_similarity

from bivdiff.errors import InputError
from bivdiff.pixels.flow import MIN_SIDE, motions, sample
from bivdiff.pixels.masks import large_parts

# Equal clips have no finite PSNR; a number keeps averages and JSON usable. 8-bit clips that differ stay below it, down
# to one level in one value out of some 150,000.
PSNR_CAP = 100.0
# Fewer pixels of an object than this say nothing about its place or colour.
MIN_OBJECT_PIXELS = 16

SCORES = (
    "psnr",
    "ssim",
    "object_psnr",
    "object_iou",
    "color_error",
    "background_flicker",
    "warp_error",
    "sharpness",
)
# Scores of single tasks; `bivdiff.evaluate.evaluation` says which task has which.
TASK_SCORES = ("unedited_psnr", "known_psnr", "fill_psnr", "seam", "mask_iou", "reconstruction_psnr")

_SSIM_WINDOW = 7  # scikit-image's default
_STATIC_TOLERANCE = 1  # levels: a truth that moves by rounding alone still stands still
_SHADES = 16  # colours that describe the object from its shadow to its highlight
_LIGHTNESS_WEIGHT = 0.75  # below 1, since a generated object is more often too dark or bright than of another hue
_OBJECT_MARGIN = 1.0  # CIELAB units by which the object must win: noise alone must not make one out of background
_MIN_PART = 0.25  # of the largest part's area: less is speckle, while a second copy of the object stays and counts
_TRUE_EDGE = 6.0  # levels between two neighbours above which they lie on two sides of an edge
_SEAM_FLOOR = 1.0  # levels added to every gradient, so that rounding in a flat sky is no texture
_SQUARE_3 = np.ones((3, 3), np.uint8)
_SQUARE_5 = np.ones((5, 5), np.uint8)
_SEAM_BANDS = range(-3, 8)  # distances from a mask's border in pixels; inside, an object may stand right behind these
_SEAM_PEAK = slice(3, 8)  # those of them from 0 to 4


def psnr(frames: np.ndarray, truth: np.ndarray, masks: np.ndarray | None = None) -> float:
    """Peak signal-to-noise ratio in dB over all pixels of the clip, or over those inside the masks.

    The squared error is averaged over the whole clip before the logarithm. `PSNR_CAP` is the highest value, also for
    equal clips; NaN if the masks are empty.
    """
    _check_pair(frames, truth)
    error = np.square(frames.astype(np.float32) - truth)
    if masks is not None:
        error = error[_inside(masks, frames)]
    if not error.size:
        return float("nan")
    mean = float(error.mean(dtype=np.float64))
    return min(PSNR_CAP, float(10 * np.log10(255.0**2 / mean))) if mean else PSNR_CAP


def ssim(frames: np.ndarray, truth: np.ndarray, masks: np.ndarray | None = None) -> float:
    """Structural similarity, at most 1, averaged over the frames.

    With masks, the similarity map is averaged inside the mask of each frame, and frames with an empty mask are left
    out (NaN if all are). The map of a pixel looks 3 pixels far, so a little of what lies outside the mask counts.

    Raises:
        InputError: also for frames smaller than the 7-pixel window.

    Source: scikit-image's `structural_similarity` with its defaults (Wang et al. 2004, uniform 7x7 window).
    """
    _check_pair(frames, truth)
    if min(frames.shape[1:3]) < _SSIM_WINDOW:
        raise InputError(f"SSIM needs frames of {_SSIM_WINDOW}x{_SSIM_WINDOW} pixels or more; got {frames.shape[1:3]}.")
    pairs = zip(frames, truth, strict=True)
    if masks is None:
        return _mean([structural_similarity(a, b, channel_axis=-1) for a, b in pairs])
    maps = (structural_similarity(a, b, channel_axis=-1, full=True)[1] for a, b in pairs)
    return _mean([map_[mask].mean() for map_, mask in zip(maps, _inside(masks, frames), strict=True) if mask.any()])


def object_iou(frames: np.ndarray, truth: np.ndarray, masks: np.ndarray, background: np.ndarray) -> float:
    """Mask agreement in [0, 1]: IoU of the object found in `frames` with its true mask, averaged over frames.

    Frames in which fewer than `MIN_OBJECT_PIXELS` of the object truly show are left out; NaN if all are. See
    `segment_object` for the arguments and for what counts as the object. The truth itself reaches about 0.98, since
    the pixels along an edge are mixtures.
    """
    return mask_iou(segment_object(frames, truth, masks, background), masks)


def mask_iou(found: np.ndarray, masks: np.ndarray) -> float:
    """Intersection over union of two clips of masks, uint8 `(F, H, W)`, averaged over frames; 1 is equal.

    Frames in which `masks`, the true ones, hold fewer than `MIN_OBJECT_PIXELS` are left out; NaN if all do.
    """
    there, inside = _inside(found, masks), _inside(masks, masks)
    visible = inside.sum((1, 2)) >= MIN_OBJECT_PIXELS
    both, either = (there & inside).sum((1, 2)), (there | inside).sum((1, 2))
    return _mean(both[visible] / either[visible])


def segment_object(frames: np.ndarray, truth: np.ndarray, masks: np.ndarray, background: np.ndarray) -> np.ndarray:
    """Find an object in generated frames without a network, since the truth tells what to look for.

    A pixel belongs to the object if its colour is nearer, in CIELAB with a reduced weight of lightness, to one of the
    object's shades anywhere in the true clip than to what may be seen there without the object: the colours around
    that pixel in `background` and, outside the mask, in `truth`, which adds the object's shadow. Small specks are
    dropped. So an object that is missing is not found, and one in the wrong place is found there. An object of quite
    another colour may be missed, and so may one that hardly differs from what lies behind it.

    Args:
        frames: the clip to look at.
        truth: the true clip.
        masks: the object's visible pixels in `truth`.
        background: the true clip without the object and its shadow.

    Returns:
        uint8 `(F, H, W)`, 255 where the object was found; all 0 if `masks` are empty.
    """
    _check_pair(frames, truth)
    _check_pair(background, truth)
    inside = _inside(masks, frames).astype(np.uint8)
    true_colors = [_smooth_lab(frame) for frame in truth]
    shades = _shades(true_colors, inside)
    found = np.zeros(inside.shape, np.uint8)
    if not len(shades):
        return found
    for index, (frame, empty) in enumerate(zip(frames, background, strict=True)):
        lab = _smooth_lab(frame)
        low, high = _background_range(_smooth_lab(empty), true_colors[index], inside[index])
        nearer = _distance_to_shades(lab, shades) + _OBJECT_MARGIN < _distance_to_range(lab, low, high)
        found[index] = large_parts(cv2.medianBlur(nearer.astype(np.uint8), 3), _MIN_PART) * 255
    return found


def color_error(frames: np.ndarray, truth: np.ndarray, masks: np.ndarray) -> float:
    """CIEDE2000 difference between the object's mean colours, averaged over frames; 0 is equal, about 1 just visible.

    The mean colour is the mean of the CIELAB values inside the mask. Frames whose mask holds fewer than
    `MIN_OBJECT_PIXELS` are left out; NaN if all do.

    Source: scikit-image's `deltaE_ciede2000` (Sharma et al. 2005), D65.
    """
    _check_pair(frames, truth)
    visible = [(t, mask) for t, mask in enumerate(_inside(masks, frames)) if mask.sum() >= MIN_OBJECT_PIXELS]
    if not visible:
        return float("nan")
    got, wanted = ([rgb2lab(clip[t][mask]).mean(0) for t, mask in visible] for clip in (frames, truth))
    return _mean(deltaE_ciede2000(np.stack(got), np.stack(wanted)))


def temporal_flicker(frames: np.ndarray) -> float:
    """Mean absolute difference of consecutive frames in levels (0 to 255); motion counts too. NaN for one frame.

    Source: the mean absolute error inside VBench's temporal flickering, arXiv:2311.17982.
    """
    _check_frames(frames)
    return _mean([cv2.absdiff(before, after).mean() for before, after in pairwise(frames)])


def background_flicker(frames: np.ndarray, truth: np.ndarray) -> float:
    """Mean absolute difference of consecutive frames, in levels (0 to 255), where the truth stands still.

    A pixel stands still between two frames if no channel of `truth` changes by more than one level within 2 pixels of
    it; so moving objects, their shadows and their soft edges are left out, and solids at rest are not. NaN for one
    frame, or if nothing stands still.
    """
    _check_pair(frames, truth)
    total, count = 0.0, 0
    for moving, generated in zip(pairwise(truth), pairwise(frames), strict=True):
        changed = (cv2.absdiff(*moving).max(2) > _STATIC_TOLERANCE).astype(np.uint8)
        static = cv2.dilate(changed, _SQUARE_5) == 0
        difference = cv2.absdiff(*generated)[static]
        total += float(difference.sum())
        count += difference.size
    return total / count if count else float("nan")


def warp_error(frames: np.ndarray, guide: np.ndarray) -> float:
    """Squared error, x 1e3 for values in [0, 1], between each frame and the one before it moved along by optical flow.

    The flow is that of `guide` (the source, the control or the true clip, as long and as large as `frames`), so the
    clip is held to the motion it should have. Pixels whose forward and backward flows disagree (occlusions) or that
    come from outside the picture are left out. NaN for one frame, if no pixel is left, or for pictures that are smaller
    than `flow.MIN_SIDE` pixels along a side.

    Source: Lai et al. 2018, arXiv:1808.00449, with OpenCV's DIS flow (arXiv:1603.03590) in its medium preset.
    """
    _check_pair(frames, guide)
    if min(guide.shape[1:3]) < MIN_SIDE:
        return float("nan")
    total, count = 0.0, 0
    for motion, (source, target) in zip(motions(guide), pairwise(frames), strict=True):
        error = sample(source.astype(np.float32), motion.origin)[motion.agreed] - target[motion.agreed]
        total += float(np.square(error, dtype=np.float64).sum())
        count += error.size
    return 1e3 * total / (count * 255.0**2) if count else float("nan")


def moved_difference(clips: Sequence[np.ndarray], guide: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Absolute difference, in levels (0 to 255), between each frame and the one before it moved along by a flow.

    As `warp_error`, but not squared: what a flow leaves over at a moving edge is large and rare, and squared would
    outweigh a flicker of the whole picture. One flow serves all clips.

    Args:
        clips: each uint8 `(F, H, W, 3)`, as long and as large as the guide.
        guide: whose flow it is, of the same shape.

    Returns:
        Of each clip the sum of its differences over all pairs of frames, the mean of the colours, in levels, float64
        `(N, H, W)`; and how many pairs each place counts for, int `(H, W)`: 0 everywhere where `warp_error` is NaN.
    """
    for clip in clips:
        _check_pair(clip, guide)
    sums, counts = np.zeros((len(clips), *guide.shape[1:3])), np.zeros(guide.shape[1:3], int)
    if min(guide.shape[1:3]) < MIN_SIDE:
        return sums, counts
    for number, motion in enumerate(motions(guide)):
        for place, clip in enumerate(clips):
            moved = sample(clip[number].astype(np.float32), motion.origin)
            sums[place] += np.abs(moved - clip[number + 1]).mean(2, dtype=np.float64) * motion.agreed
        counts += motion.agreed
    return sums, counts


def sharpness(frames: np.ndarray) -> float:
    """Variance of the Laplacian of the luma (0 to 255), averaged over frames; larger is sharper, or noisier."""
    _check_frames(frames)
    luma = (cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames)
    return _mean([cv2.Laplacian(frame, cv2.CV_32F).var(dtype=np.float64) for frame in luma])


def relative_sharpness(frames: np.ndarray, reference: np.ndarray) -> float:
    """`sharpness` of the frames over that of a reference, such as the frame-wise video; NaN if that one is flat.

    The two may differ in length, not in size: the Laplacian depends on the scale.
    """
    _check_frames(frames)
    _check_frames(reference)
    if frames.shape[1:] != reference.shape[1:]:
        raise InputError(
            f"Sharpness compares frames of one size; got {frames.shape[1:3]} and a reference of {reference.shape[1:3]}."
        )
    flat = sharpness(reference)
    return sharpness(frames) / flat if flat else float("nan")


def seam(frames: np.ndarray, truth: np.ndarray, masks: np.ndarray) -> float:
    """How much the border of the masks shows: 1 as little as in the truth, above it a seam, below it hardly anything.

    Gradients, the absolute differences of neighbours that lie across the direction of the border, are averaged by their
    distance from it. The highest average, from the border to 4 pixels outside it, where a mask's soft edge blends in,
    is taken over the median from 3 pixels inside to 7 outside, so that texture is no seam; and the same of `truth` is
    divided out. Pairs that straddle an edge of `truth` are left out, for an edge belongs there and may run along the
    border. `_SEAM_FLOOR` is added to all averages, so on a flat truth a hard step of n levels scores n + 1; a feathered
    one scores less, as it shows less.

    Returns:
        The score over the whole clip; NaN if the masks have no border.
    """
    _check_pair(frames, truth)
    sums = np.zeros((3, len(_SEAM_BANDS)))  # by distance: gradients of frames, of truth, and how many there are
    for frame, true, inside in zip(frames, truth, _inside(masks, frames), strict=True):
        if inside.any() and not inside.all():
            distances = _signed_distance(inside)
            for axis in (0, 1):
                sums += _gradients_by_distance(frame, true, distances, axis)
    if not sums[2, _SEAM_PEAK].any():
        return float("nan")
    profiles = sums[:2] / np.where(sums[2], sums[2], np.nan) + _SEAM_FLOOR
    step, true_step = np.nanmax(profiles[:, _SEAM_PEAK], axis=1) / np.nanmedian(profiles, axis=1)
    return float(step / true_step)


def score_clip(
    frames: np.ndarray,
    truth: np.ndarray,
    masks: np.ndarray,
    background: np.ndarray,
    reference: np.ndarray | None = None,
    colored: np.ndarray | None = None,
) -> dict[str, float]:
    """Every score of one clip whose truth is known.

    Args:
        frames: the clip to score.
        truth: what it should show; also the guide of the warp error.
        masks: uint8 `(N, F, H, W)`, one clip of masks per object of `truth`; the first object is the moving one. N may
            be 0.
        background: uint8 `(F, H, W, 3)`, the true clip without the first object.
        reference: frames whose sharpness is 1, such as the frame-wise video; the truth if None.
        colored: like `masks`, what has a colour to get right; the objects if None.

    Returns:
        The keys `SCORES`: `psnr` (dB) and `ssim` of whole frames; `object_psnr` (dB) and `object_iou` of the first
        object; `color_error` (CIEDE2000), the mean over what is coloured; `background_flicker` (levels); `warp_error`
        (x 1e3); `sharpness`, relative to the reference.
    """
    _check_pair(background, truth)
    colored = masks if colored is None else colored
    for sets in (masks, colored):
        if sets.ndim != 4:
            raise InputError(f"The masks of a scored clip must be (N, F, H, W), one set per object; got {sets.shape}.")
    moving = masks[0] if len(masks) else np.zeros(frames.shape[:3], np.uint8)
    return {
        "psnr": psnr(frames, truth),
        "ssim": ssim(frames, truth),
        "object_psnr": psnr(frames, truth, moving),
        "object_iou": object_iou(frames, truth, moving, background),
        "color_error": _mean([color_error(frames, truth, object_masks) for object_masks in colored]),
        "background_flicker": background_flicker(frames, truth),
        "warp_error": warp_error(frames, truth),
        "sharpness": relative_sharpness(frames, truth if reference is None else reference),
    }


def score_fill(frames: np.ndarray, truth: np.ndarray, source: np.ndarray, masks: np.ndarray) -> dict[str, float]:
    """What became of a clip whose masked part was made anew.

    Args:
        frames: the clip to score.
        truth: what it should show.
        source: the clip that the rest was to be kept of.
        masks: uint8 `(F, H, W)`, 255 = made anew.

    Returns:
        `known_psnr` (dB): to the source, outside the masks. `fill_psnr` (dB): to the truth, inside. `seam`.
    """
    return {
        "known_psnr": psnr(frames, source, inverted(masks)),
        "fill_psnr": psnr(frames, truth, masks),
        "seam": seam(frames, truth, masks),
    }


def inverted(masks: np.ndarray) -> np.ndarray:
    """The masks of all that lies outside, uint8."""
    return np.where(masks > 127, np.uint8(0), np.uint8(255))


def average(rows: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Mean of each key over the rows that have a number there; NaN where none has. Keys keep their first order."""
    columns: dict[str, list[float]] = {}
    for row in rows:
        for key, value in row.items():
            columns.setdefault(key, []).append(value)
    return {key: _mean(values) for key, values in columns.items()}


def markdown_table(rows: Mapping[str, Mapping[str, float]]) -> str:
    """Rows of scores, by their label, as a Markdown table with three digits; scores that no row has are left out."""
    known = {key: None for row in rows.values() for key, value in row.items() if not math.isnan(value)}
    columns = [key for key in (*SCORES, *TASK_SCORES) if key in known]
    lines = [["", *columns], ["---"] * (len(columns) + 1)]
    for label, row in rows.items():
        values = [row.get(column, math.nan) for column in columns]
        lines.append([label, *("" if math.isnan(value) else f"{value:.3g}" for value in values)])
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _mean(values: Sequence[float] | np.ndarray) -> float:
    """Mean of what is not NaN; NaN if nothing is left."""
    numbers = np.asarray(values, np.float64)
    numbers = numbers[~np.isnan(numbers)]
    return float(numbers.mean()) if numbers.size else float("nan")


def _check_frames(frames: np.ndarray) -> None:
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] != 3 or not frames.size:
        raise InputError(f"Frames must be uint8 of shape (F, H, W, 3); got {frames.dtype} of shape {frames.shape}.")


def _check_pair(frames: np.ndarray, truth: np.ndarray) -> None:
    _check_frames(frames)
    _check_frames(truth)
    if frames.shape != truth.shape:
        raise InputError(
            f"Two clips are compared frame by frame: they need the same length and size; got {frames.shape} "
            f"and {truth.shape}. Resize or trim one of them first."
        )


def _inside(masks: np.ndarray, frames: np.ndarray) -> np.ndarray:
    """The checked masks as bool `(F, H, W)`."""
    if masks.dtype != np.uint8 or masks.shape != frames.shape[:3]:
        raise InputError(
            f"Masks must be uint8 of shape {frames.shape[:3]}, like the frames; got {masks.dtype} of {masks.shape}."
        )
    return masks > 127


def _smooth_lab(frame: np.ndarray) -> np.ndarray:
    """A frame as float32 CIELAB, lightness weighted; the median takes single-pixel noise and keeps edges."""
    lab = cv2.cvtColor(cv2.medianBlur(frame, 3).astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    return np.asarray(lab, np.float32) * np.array([_LIGHTNESS_WEIGHT, 1, 1], np.float32)


def _shades(true_colors: Sequence[np.ndarray], inside: np.ndarray) -> np.ndarray:
    """The object's colours from dark to bright, `(K, 3)`: the mean of each of `_SHADES` equal steps of lightness.

    Equal steps, unlike clusters, give a small highlight a shade of its own, and need no random start.
    """
    cores = [cv2.erode(mask, _SQUARE_3) for mask in inside]  # without the mixed colours of the edge
    chosen = cores if any(core.any() for core in cores) else inside
    colors = np.concatenate([lab[mask > 0] for lab, mask in zip(true_colors, chosen, strict=True)])
    if not len(colors):
        return colors
    low, high = np.percentile(colors[:, 0], (1, 99))
    step = np.clip((colors[:, 0] - low) / max(high - low, 1e-3) * _SHADES, 0, _SHADES - 1).astype(int)
    count = np.bincount(step, minlength=_SHADES)
    sums = np.stack([np.bincount(step, channel, minlength=_SHADES) for channel in colors.T], 1)
    return (sums[count > 0] / count[count > 0, None]).astype(np.float32)


def _background_range(empty: np.ndarray, true: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest CIELAB values that a pixel may have without the object: `(H, W, 3)` each.

    The range spans the pixel's neighbours, so that mixed colours at the background's own edges, and edges that are
    a pixel off, do not look like something else.
    """
    outside = cv2.dilate(mask, _SQUARE_3)[..., None] == 0
    shadowed = np.where(outside, true, empty)
    return cv2.erode(np.minimum(empty, shadowed), _SQUARE_3), cv2.dilate(np.maximum(empty, shadowed), _SQUARE_3)


def _distance_to_shades(lab: np.ndarray, shades: np.ndarray) -> np.ndarray:
    """Distance of each pixel `(H, W)` to the nearest shade."""
    colors = lab.reshape(-1, 3)
    # |x - s|^2 = |x|^2 + (|s|^2 - 2 x.s): one small matrix product instead of a (pixels, shades, 3) array.
    nearest = (np.square(shades).sum(1) - 2 * colors @ shades.T).min(1) + np.square(colors).sum(1)
    return np.sqrt(np.maximum(nearest, 0)).reshape(lab.shape[:2])


def _distance_to_range(lab: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Distance of each pixel `(H, W)` to its box of colours, 0 inside."""
    beyond = np.maximum(np.maximum(low - lab, lab - high), 0)
    return np.sqrt(np.square(beyond).sum(2))


def _signed_distance(inside: np.ndarray) -> np.ndarray:
    """Each pixel's distance from the border, float32 `(H, W)`: 0.5, 1.5, ... outside it, -0.5, -1.5, ... inside."""
    outwards, inwards = (
        cv2.distanceTransform(part.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE) for part in (~inside, inside)
    )
    return np.where(inside, 0.5 - inwards, outwards - 0.5)


def _gradients_by_distance(frame: np.ndarray, true: np.ndarray, distances: np.ndarray, axis: int) -> np.ndarray:
    """Sums of the steps between neighbours along an axis in both pictures, and their count, `(3, len(_SEAM_BANDS))`."""
    steps, true_steps = (np.abs(np.diff(picture.astype(np.int16), axis=axis)).mean(2) for picture in (frame, true))
    change = np.diff(distances, axis=axis)
    places = np.rint(np.delete(distances, -1, axis) + change / 2) - _SEAM_BANDS[0]
    kept = (np.abs(change) > 0.5) & (true_steps <= _TRUE_EDGE) & (places >= 0) & (places < len(_SEAM_BANDS))
    index = places[kept].astype(int)
    weights = (steps[kept], true_steps[kept], None)
    return np.stack([np.bincount(index, weight, len(_SEAM_BANDS)) for weight in weights])
