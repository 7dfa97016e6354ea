"""L1: every score against known values, scikit-image and the properties it must have; the object finder on scenes.

Not here: scores of what the models make of these scenes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import cv2
import numpy as np
import pytest
from skimage.color import deltaE_ciede2000, rgb2lab
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from bivdiff.errors import InputError
from bivdiff.pixels import flow, metrics
from bivdiff.pixels.masks import composite, feather
from bivdiff.toybox import world

# One and two objects, every time of day, blue on blue (7) and the hardest of all, white on grey at night (19).
SCENES = (0, 2, 6, 7, 14, 19)
EXACT = 1e-9  # both sides compute the same in double precision
SINGLE = 1e-5  # relative; one side computes in single precision
SHIFT = 8
FRAMES = np.zeros((3, 16, 16, 3), np.uint8)
MASKS = np.zeros((3, 16, 16), np.uint8)


class Case(NamedTuple):
    """A rendered scene: the true clip, the masks of all objects, and the clip without the first object."""

    truth: np.ndarray
    masks: np.ndarray
    background: np.ndarray


Change = Callable[[Case], np.ndarray]


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    return [_render(index) for index in SCENES]


@pytest.fixture
def noise() -> np.ndarray:
    return np.random.default_rng(7).integers(0, 256, (4, 32, 40, 3), np.uint8)


def _render(index: int) -> Case:
    scene = world.evaluation_scene(index)
    truth = world.render(scene)
    # The motion belongs to the first solid: left as it is, it would move the second one.
    empty = replace(scene, solids=scene.solids[1:], motion="still")
    return Case(truth.frames, truth.masks, world.render(empty).frames)


def _plain(*levels: int, size: int = 16) -> np.ndarray:
    """One grey frame per level."""
    return np.stack([np.full((size, size, 3), level, np.uint8) for level in levels])


def _full_masks(frames: np.ndarray) -> np.ndarray:
    return np.full(frames.shape[:3], 255, np.uint8)


def _blurred(frames: np.ndarray, sigma: float) -> np.ndarray:
    return np.stack([cv2.GaussianBlur(frame, (0, 0), sigma) for frame in frames])


def _noisy(frames: np.ndarray, sigma: float) -> np.ndarray:
    noise = np.random.default_rng(3).normal(0, sigma, frames.shape)
    return np.clip(frames + noise + 0.5, 0, 255).astype(np.uint8)


def _moved_object(case: Case) -> np.ndarray:
    """The first object pasted `SHIFT` pixels to the right of where it belongs."""
    inside = np.roll(case.masks[0] > 127, SHIFT, axis=2)
    inside[:, :, :SHIFT] = False
    return np.where(inside[..., None], np.roll(case.truth, SHIFT, axis=2), case.background)


def _dimmed_object(case: Case) -> np.ndarray:
    """The first object at 0.8 of its values, with a soft seam."""
    alpha = _blurred((case.masks[0] > 127).astype(np.float32), 0.6)[..., None]
    return (case.truth * (1 - 0.2 * alpha) + 0.5).astype(np.uint8)


def _iou(case: Case, frames: np.ndarray) -> float:
    return metrics.object_iou(frames, case.truth, case.masks[0], case.background)


def _pan(num_frames: int, step: int) -> np.ndarray:
    """A smooth random picture that moves `step` pixels to the left per frame."""
    texture = np.random.default_rng(1).integers(0, 256, (64, 64 + step * num_frames, 3), np.uint8)
    texture = cv2.GaussianBlur(texture, (0, 0), 2.5)
    texture = cv2.normalize(texture, None, 0, 255, cv2.NORM_MINMAX)
    return np.stack([texture[:, t * step : t * step + 64] for t in range(num_frames)])


def test_psnr_equals_scikit_image(noise: np.ndarray) -> None:
    truth = noise[::-1]
    assert metrics.psnr(noise, truth) == pytest.approx(peak_signal_noise_ratio(truth, noise), rel=SINGLE)


def test_psnr_of_a_known_error() -> None:
    assert metrics.psnr(_plain(100, 100), _plain(116, 116)) == pytest.approx(20 * math.log10(255 / 16))


def test_psnr_of_equal_clips_is_the_cap(noise: np.ndarray) -> None:
    assert metrics.psnr(noise, noise) == metrics.PSNR_CAP


def test_psnr_inside_masks_ignores_the_rest() -> None:
    truth = _plain(100, 100)
    frames = truth.copy()
    frames[:, :4] += 16
    frames[:, 4:] = 0
    masks = np.zeros(frames.shape[:3], np.uint8)
    masks[:, :4] = 255
    assert metrics.psnr(frames, truth, masks) == pytest.approx(20 * math.log10(255 / 16))
    assert math.isnan(metrics.psnr(frames, truth, np.zeros_like(masks)))


def test_ssim_equals_scikit_image(noise: np.ndarray) -> None:
    truth = _blurred(noise, 1)
    expected = np.mean([structural_similarity(a, b, channel_axis=-1) for a, b in zip(noise, truth, strict=True)])
    assert metrics.ssim(noise, truth) == pytest.approx(expected, abs=EXACT)
    assert metrics.ssim(noise, noise) == pytest.approx(1.0)


def test_ssim_inside_masks_is_the_mean_of_the_map_there(noise: np.ndarray) -> None:
    truth = _blurred(noise, 1)
    masks = np.zeros(noise.shape[:3], np.uint8)
    masks[1, 5:9, 6:20] = 255  # the other frames have nothing inside
    _, map_ = structural_similarity(noise[1], truth[1], channel_axis=-1, full=True)
    assert metrics.ssim(noise, truth, masks) == pytest.approx(map_[5:9, 6:20].mean(), abs=EXACT)
    assert math.isnan(metrics.ssim(noise, truth, np.zeros_like(masks)))


def test_ssim_inside_masks_ignores_what_is_far_outside(noise: np.ndarray) -> None:
    frames = noise.copy()
    frames[:, :, 20:] = 0
    masks = np.zeros(noise.shape[:3], np.uint8)
    masks[:, :, :16] = 255
    assert metrics.ssim(frames, noise, masks) == pytest.approx(1.0)
    assert metrics.ssim(frames, noise) < 0.8


def test_ssim_refuses_frames_smaller_than_its_window() -> None:
    with pytest.raises(InputError, match="7x7"):
        metrics.ssim(_plain(1, 2, size=6), _plain(1, 2, size=6))


def test_color_error_equals_scikit_image_for_plain_colors() -> None:
    frames, truth = _plain(0, 0), _plain(0, 0)
    frames[:], truth[:] = (200, 30, 40), (180, 60, 20)
    expected = deltaE_ciede2000(rgb2lab(frames[0, 0, 0] / 255.0), rgb2lab(truth[0, 0, 0] / 255.0))
    assert metrics.color_error(frames, truth, _full_masks(frames)) == pytest.approx(float(expected), abs=EXACT)


def test_color_error_compares_means_and_only_inside(noise: np.ndarray) -> None:
    shuffled = noise[:, ::-1, ::-1].copy()
    masks = np.zeros(noise.shape[:3], np.uint8)
    masks[:, 4:-4, 4:-4] = 255
    outside = masks == 0
    shuffled[outside] = 0
    assert metrics.color_error(shuffled, noise, masks) == pytest.approx(0.0, abs=1e-6)


def test_color_error_leaves_out_frames_where_too_little_shows() -> None:
    frames, truth = _plain(90, 90), _plain(100, 200)
    masks = _full_masks(frames)
    masks[1] = 0
    masks[1, 0, : metrics.MIN_OBJECT_PIXELS - 1] = 255
    alone = metrics.color_error(frames[:1], truth[:1], masks[:1])
    assert metrics.color_error(frames, truth, masks) == pytest.approx(alone, abs=EXACT)
    assert math.isnan(metrics.color_error(frames[1:], truth[1:], masks[1:]))


def test_temporal_flicker_of_known_steps() -> None:
    assert metrics.temporal_flicker(_plain(10, 20, 10, 40)) == pytest.approx((10 + 10 + 30) / 3)
    assert metrics.temporal_flicker(_plain(10, 10)) == 0.0


def test_noise_raises_every_temporal_score(cases: list[Case]) -> None:
    truth = cases[0].truth
    noisy = _noisy(truth, 6)
    assert metrics.temporal_flicker(noisy) > metrics.temporal_flicker(truth)
    assert metrics.background_flicker(noisy, truth) > metrics.background_flicker(truth, truth) + 3
    assert metrics.warp_error(noisy, truth) > metrics.warp_error(truth, truth)


def test_background_flicker_of_still_clips_is_zero_and_of_a_pulse_its_height() -> None:
    still = _plain(80, 80, 80)
    assert metrics.background_flicker(still, still) == 0.0
    assert metrics.background_flicker(_plain(100, 107, 100), still) == pytest.approx(7.0)


def test_background_flicker_of_a_truth_is_at_most_its_tolerance(cases: list[Case]) -> None:
    for case in cases:
        assert metrics.background_flicker(case.truth, case.truth) <= 1.0


def test_background_flicker_leaves_out_what_moves_and_its_surroundings() -> None:
    truth = _plain(80, 80)
    truth[1, 6:10, 6:10] = 200
    frames = truth.copy()
    frames[1, 4:12, 4:12] = 255  # within two pixels of the motion
    assert metrics.background_flicker(frames, truth) == 0.0
    frames[1, 0, 0] = 81
    static = 16 * 16 - 8 * 8
    assert metrics.background_flicker(frames, truth) == pytest.approx(1 / static)


def test_background_flicker_needs_something_at_rest() -> None:
    assert math.isnan(metrics.background_flicker(_plain(1, 2), _plain(10, 90)))


def test_warp_error_of_a_pulse_on_a_still_guide() -> None:
    guide = np.repeat(_pan(1, 1), 3, axis=0)
    pulse = np.stack([np.full_like(guide[0], level) for level in (100, 151, 100)])
    assert metrics.warp_error(pulse, guide) == pytest.approx(1e3 * (51 / 255) ** 2, rel=SINGLE)
    assert metrics.warp_error(guide, guide) == pytest.approx(0.0, abs=1e-2)


def test_warp_error_follows_the_motion_of_the_guide() -> None:
    moving = _pan(4, 3)
    still = np.repeat(moving[:1], 4, axis=0)
    unguided = 1e3 * float(np.square((moving[1:] / 255.0) - moving[:-1] / 255.0).mean())
    assert metrics.warp_error(moving, moving) < 0.05 * unguided
    assert metrics.warp_error(still, moving) > 0.5 * unguided


def test_warp_error_tells_the_right_order_of_frames(cases: list[Case]) -> None:
    truth = cases[0].truth
    assert metrics.warp_error(truth, truth) < 0.2 * metrics.warp_error(truth[[3, 0, 5, 1, 6, 2, 7, 4]], truth)


def test_warp_error_keeps_only_pixels_that_flow_there_and_back() -> None:
    to_right = np.zeros((8, 8, 2), np.float32)
    to_right[..., 0] = 3
    grid = flow.pixel_grid(8, 8)
    kept = flow.flows_agree(to_right, -to_right, grid - to_right)
    assert not kept[:, :3].any()  # these come from outside the picture
    assert kept[:, 3:].all()
    assert not flow.flows_agree(0 * to_right, -to_right, grid - to_right).any()


@pytest.mark.parametrize("score", ["temporal_flicker", "background_flicker", "warp_error"])
def test_temporal_scores_of_one_frame_are_nan(score: str, noise: np.ndarray) -> None:
    one = noise[:1]
    arguments = (one,) if score == "temporal_flicker" else (one, one)
    assert math.isnan(getattr(metrics, score)(*arguments))


def test_sharpness_of_a_known_picture() -> None:
    frames = _plain(0)
    frames[0, 8, 8] = 100
    kernel = np.array([100.0, 100, 100, 100, -400])  # OpenCV's 4-neighbour Laplacian around the dot, 0 elsewhere
    expected = (kernel**2).sum() / 256 - (kernel.sum() / 256) ** 2
    assert metrics.sharpness(frames) == pytest.approx(expected, rel=SINGLE)


def test_blur_lowers_sharpness_step_by_step(cases: list[Case]) -> None:
    truth = cases[0].truth
    ratios = [metrics.relative_sharpness(_blurred(truth, sigma), truth) for sigma in (0.5, 1, 2)]
    assert 1 > ratios[0] > ratios[1] > ratios[2] > 0
    assert metrics.relative_sharpness(truth, truth) == 1.0


def test_relative_sharpness_needs_one_size_and_a_reference_that_is_not_flat(noise: np.ndarray) -> None:
    assert metrics.relative_sharpness(noise, noise[:1]) == pytest.approx(1.0, rel=0.1)
    assert math.isnan(metrics.relative_sharpness(noise, np.zeros_like(noise)))
    with pytest.raises(InputError, match="one size"):
        metrics.relative_sharpness(noise, noise[:, ::2])


# Limits on the mean over the scenes and on the worst of them; the scene at night has next to no contrast.
@pytest.mark.parametrize(
    ("change", "mean", "worst"),
    [
        pytest.param(lambda case: case.truth, 0.97, 0.93, id="truth"),
        pytest.param(_dimmed_object, 0.95, 0.90, id="value-0.8"),
        pytest.param(lambda case: _blurred(case.truth, 1), 0.95, 0.90, id="blur"),
        pytest.param(lambda case: _noisy(case.truth, 6), 0.95, 0.80, id="noise"),
    ],
)
def test_the_object_is_found_where_it_is(cases: list[Case], change: Change, mean: float, worst: float) -> None:
    scores = [_iou(case, change(case)) for case in cases]
    assert np.mean(scores) > mean
    assert min(scores) > worst


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda case: case.background, id="clean"),
        pytest.param(lambda case: _noisy(case.background, 6), id="noise"),
        pytest.param(lambda case: _blurred(case.background, 1), id="blur"),
        pytest.param(lambda case: (case.background * 0.9).astype(np.uint8), id="value-0.9"),
    ],
)
def test_a_missing_object_is_not_found(cases: list[Case], change: Change) -> None:
    assert max(_iou(case, change(case)) for case in cases) < 0.1


def test_a_misplaced_object_is_found_in_the_wrong_place(cases: list[Case]) -> None:
    for case in cases:
        shifted = np.zeros_like(case.masks[0])
        shifted[:, :, SHIFT:] = case.masks[0][:, :, :-SHIFT]
        inside, there = case.masks[0] > 127, shifted > 127
        visible = inside.sum((1, 2)) >= metrics.MIN_OBJECT_PIXELS
        expected = ((inside & there).sum((1, 2)) / (inside | there).sum((1, 2)))[visible].mean()
        assert _iou(case, _moved_object(case)) == pytest.approx(expected, abs=0.06)
        assert expected < 0.8


def test_a_second_copy_of_the_object_counts_against_it(cases: list[Case]) -> None:
    case = cases[SCENES.index(2)]  # a small object with room beside it
    copy = np.roll(case.masks[0] > 127, -50, axis=2)
    assert not (copy & (case.masks[0] > 127)).any()
    frames = np.where(copy[..., None], np.roll(case.truth, -50, axis=2), case.truth)
    assert _iou(case, frames) == pytest.approx(0.5, abs=0.05)


def test_the_object_behind_another_one_is_told_from_it(cases: list[Case]) -> None:
    case = cases[SCENES.index(6)]
    found = metrics.segment_object(case.truth, case.truth, case.masks[0], case.background) > 127
    other = case.masks[1] > 127
    assert (found & other).sum() < 0.02 * other.sum()


def test_an_object_that_looks_like_the_background_is_not_imagined(cases: list[Case]) -> None:
    case = cases[0]
    assert not metrics.segment_object(case.background, case.background, case.masks[0], case.background).any()


def test_object_that_never_shows_has_no_scores(cases: list[Case]) -> None:
    case = cases[0]
    nothing = np.zeros_like(case.masks[0])
    assert not metrics.segment_object(case.truth, case.truth, nothing, case.background).any()
    assert math.isnan(metrics.object_iou(case.truth, case.truth, nothing, case.background))


def test_a_tiny_object_has_shades_too() -> None:
    background = _plain(60, 60, size=32)
    masks = np.zeros(background.shape[:3], np.uint8)
    masks[:, 10:30, 12:14] = 255  # too thin to have a core
    truth = background.copy()
    truth[masks > 0] = (220, 40, 30)
    assert metrics.object_iou(truth, truth, masks, background) > 0.75  # its ends are rounded off


def test_score_clip_of_the_truth_is_perfect(cases: list[Case]) -> None:
    case = cases[SCENES.index(6)]
    scores = metrics.score_clip(case.truth, case.truth, case.masks, case.background)
    assert tuple(scores) == metrics.SCORES
    assert scores["psnr"] == scores["object_psnr"] == metrics.PSNR_CAP
    assert scores["ssim"] == pytest.approx(1.0)
    assert scores["object_iou"] > 0.97
    assert scores["color_error"] == 0.0
    assert scores["background_flicker"] < 0.05
    assert scores["sharpness"] == 1.0
    assert all(type(value) is float for value in scores.values())
    assert json.loads(json.dumps(scores, allow_nan=False)) == scores


def test_score_clip_takes_the_first_object_and_the_color_of_all(cases: list[Case]) -> None:
    case = cases[SCENES.index(6)]
    frames = np.where(case.masks[1][..., None] > 127, 255 - case.truth, case.truth)
    scores = metrics.score_clip(frames, case.truth, case.masks, case.background, reference=frames)
    assert scores["object_psnr"] == metrics.PSNR_CAP
    second = metrics.color_error(frames, case.truth, case.masks[1])
    assert scores["color_error"] == pytest.approx(second / 2)
    assert scores["sharpness"] == 1.0


def test_score_clip_without_objects(cases: list[Case]) -> None:
    case = cases[0]
    scores = metrics.score_clip(case.background, case.background, case.masks[:0], case.background)
    of_objects = ("object_psnr", "object_iou", "color_error")
    assert all(math.isnan(scores[key]) for key in of_objects)
    assert not any(math.isnan(value) for key, value in scores.items() if key not in of_objects)


def test_scores_leave_their_arguments_alone_and_repeat(cases: list[Case]) -> None:
    case = cases[1]
    noisy = _noisy(case.truth, 4)
    given = (noisy, case.truth, case.masks, case.background)
    before = [array.copy() for array in given]
    assert metrics.score_clip(*given) == metrics.score_clip(*given)
    assert all(np.array_equal(array, copy) for array, copy in zip(given, before, strict=True))


def test_score_clip_takes_the_color_of_what_is_coloured(cases: list[Case]) -> None:
    case = cases[0]
    frames = case.truth.copy()
    frames[:, :20] = 0
    sky = np.zeros_like(case.masks[:1])
    sky[:, :, :20] = 255
    scores = metrics.score_clip(frames, case.truth, case.masks, case.background, colored=sky)
    assert scores["color_error"] == pytest.approx(metrics.color_error(frames, case.truth, sky[0]))
    assert scores["color_error"] > 10
    with pytest.raises(InputError, match="one set per object"):
        metrics.score_clip(frames, case.truth, case.masks, case.background, colored=sky[0])


def test_mask_iou_of_known_squares() -> None:
    masks = np.zeros((3, 16, 16), np.uint8)
    masks[:2, :8, :8] = 255
    found = np.zeros_like(masks)
    found[0, :8, :4] = 255
    found[1] = 255
    found[2, 0, 0] = 255  # nothing is to be found there, so it does not count
    assert metrics.mask_iou(found, masks) == pytest.approx((0.5 + 0.25) / 2)
    assert metrics.mask_iou(masks, masks) == 1.0
    assert math.isnan(metrics.mask_iou(found, np.zeros_like(masks)))


@pytest.mark.parametrize("bad", [MASKS > 0, MASKS[:2], MASKS[..., None]])
def test_mask_iou_refuses_other_shapes_and_types(bad: np.ndarray) -> None:
    for pair in ((bad, MASKS), (MASKS, bad)):
        with pytest.raises(InputError, match="Masks must be"):
            metrics.mask_iou(*pair)


def _left_half(frames: np.ndarray) -> np.ndarray:
    masks = np.zeros(frames.shape[:3], np.uint8)
    masks[:, :, : frames.shape[2] // 2] = 255
    return masks


@pytest.mark.parametrize("step", [0, 1, 10, 40])
def test_seam_of_a_step_on_a_flat_picture_is_its_height(step: int) -> None:
    truth = _plain(100, 100)
    masks = _left_half(truth)
    frames = np.where(masks[..., None] > 0, truth + np.uint8(step), truth)
    assert metrics.seam(frames, truth, masks) == pytest.approx(step + 1)


@pytest.mark.parametrize("turned", [False, True])
def test_seam_looks_across_the_border_in_its_direction(turned: bool) -> None:
    rows = np.arange(100, 164, 4, dtype=np.uint8)  # they differ by 4 levels
    frames = np.repeat(np.repeat(rows[:, None], 16, axis=1)[..., None], 3, axis=2)[None]
    masks = _left_half(frames)
    if turned:
        masks = masks.swapaxes(1, 2).copy()
    stepped = np.where(masks[..., None] > 0, frames - np.uint8(8), frames)
    # Upright, the border runs where all is flat; turned, it crosses the slope, which the step makes steeper.
    assert metrics.seam(stepped, frames, masks) == pytest.approx((4 + 8 + 1) / (4 + 1) if turned else 8 + 1)
    assert metrics.seam(frames, frames, masks) == 1.0


def test_seam_of_the_truth_is_one_and_grows_with_the_step(cases: list[Case]) -> None:
    for case in cases:
        masks = np.zeros_like(case.masks[0])
        masks[:, 30:100, 40:90] = 255
        steps = [(case.truth + np.where(masks > 0, step, 0)[..., None]).clip(0, 255) for step in (0, 4, 16, 64)]
        scores = [metrics.seam(frames.astype(np.uint8), case.truth, masks) for frames in steps]
        assert scores[0] == 1.0
        assert scores == sorted(scores)
        assert scores[2] > 2.5


def test_seam_leaves_out_edges_of_the_truth() -> None:
    flat = _plain(100, 100)
    masks = _left_half(flat)
    split = np.where(masks[..., None] > 0, np.uint8(160), flat)  # a true edge all along the border
    assert metrics.seam(flat, split, masks) == 1.0
    split[:, :4] = flat[:, :4]  # a quarter of the border is flat
    frames = split.copy()
    frames[:, :4][masks[:, :4] > 0] += 10
    assert metrics.seam(frames, split, masks) == pytest.approx(11.0)


@pytest.mark.parametrize("pixels", [2, 4, 8])
def test_a_feathered_seam_scores_less_than_a_hard_one_but_is_seen(pixels: int) -> None:
    truth = np.repeat(_pan(1, 1), 2, axis=0) // 4 + 50
    masks = _left_half(truth)
    hard, soft = (composite(truth, truth + np.uint8(40), share) for share in (masks, feather(masks, pixels)))
    assert metrics.seam(hard, truth, masks) > 1.5 * metrics.seam(soft, truth, masks)
    assert metrics.seam(soft, truth, masks) > 1.2


def test_the_border_of_a_round_mask_counts_all_around() -> None:
    truth = _plain(100, size=48)
    masks = np.zeros(truth.shape[:3], np.uint8)
    cv2.circle(masks[0], (24, 24), 12, 255, -1)
    frames = np.where(masks[..., None] > 0, np.uint8(120), truth)
    assert metrics.seam(frames, truth, masks) == pytest.approx(21, rel=0.05)


def test_seam_needs_a_border() -> None:
    frames = _plain(1, 2)
    for masks in (np.zeros(frames.shape[:3], np.uint8), _full_masks(frames)):
        assert math.isnan(metrics.seam(frames, frames, masks))
    with pytest.raises(InputError, match="Masks must be"):
        metrics.seam(FRAMES, FRAMES, MASKS[:2])


def test_score_fill_compares_outside_with_the_source_and_inside_with_the_truth() -> None:
    source, truth = _plain(100, 100), _plain(50, 50)
    masks = _left_half(source)
    frames = np.where(masks[..., None] > 0, np.uint8(54), np.uint8(102))
    scores = metrics.score_fill(np.broadcast_to(frames, source.shape).copy(), truth, source, masks)
    assert scores["fill_psnr"] == pytest.approx(20 * math.log10(255 / 4))
    assert scores["known_psnr"] == pytest.approx(20 * math.log10(255 / 2))
    assert scores["seam"] == pytest.approx(48 + 1)
    assert set(scores) <= set(metrics.TASK_SCORES)


def test_inverted_masks_are_what_lies_outside() -> None:
    masks = np.array([[[0, 127, 128, 255]]], np.uint8)
    assert metrics.inverted(masks).tolist() == [[[255, 255, 0, 0]]]
    assert metrics.inverted(masks).dtype == np.uint8


def test_a_table_has_the_columns_that_hold_numbers() -> None:
    rows = {
        "edit": {"psnr": 20.0, "object_iou": math.nan, "unedited_psnr": 31.234},
        "smooth": {"psnr": 30.0, "object_iou": math.nan},
    }
    assert metrics.markdown_table(rows).splitlines() == [
        "|  | psnr | unedited_psnr |",
        "| --- | --- | --- |",
        "| edit | 20 | 31.2 |",
        "| smooth | 30 |  |",
    ]


def test_average_ignores_nan_and_missing_keys() -> None:
    rows = [
        {"psnr": 20.0, "object_iou": math.nan},
        {"psnr": 30.0, "object_iou": 0.5},
        {"psnr": 40.0, "extra": math.nan},
    ]
    mean = metrics.average(rows)
    assert list(mean) == ["psnr", "object_iou", "extra"]
    assert (mean["psnr"], mean["object_iou"]) == (30.0, 0.5)
    assert math.isnan(mean["extra"])
    assert metrics.average([]) == {}


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param(FRAMES.astype(np.float32), id="dtype"),
        pytest.param(FRAMES[0], id="one-picture"),
        pytest.param(FRAMES[..., :1], id="grey"),
        pytest.param(FRAMES[:0], id="empty"),
        pytest.param(FRAMES[:2], id="length"),
        pytest.param(FRAMES[:, :8], id="size"),
    ],
)
def test_clips_that_do_not_fit_are_refused(bad: np.ndarray) -> None:
    for score in (metrics.psnr, metrics.ssim, metrics.background_flicker, metrics.warp_error):
        for pair in ((bad, FRAMES), (FRAMES, bad)):
            with pytest.raises(InputError):
                score(*pair)
    for arguments in ((bad, FRAMES, MASKS, FRAMES), (FRAMES, bad, MASKS, FRAMES), (FRAMES, FRAMES, MASKS, bad)):
        with pytest.raises(InputError):
            metrics.object_iou(*arguments)
        with pytest.raises(InputError):
            metrics.score_clip(arguments[0], arguments[1], MASKS[None], arguments[3])


@pytest.mark.parametrize("bad", [FRAMES[:, :, :, 0] > 0, MASKS[:2], MASKS[:, :8], MASKS[None]])
def test_masks_that_do_not_fit_are_refused(bad: np.ndarray) -> None:
    for score in (metrics.psnr, metrics.ssim, metrics.color_error):
        with pytest.raises(InputError, match="Masks must be"):
            score(FRAMES, FRAMES, bad)
    with pytest.raises(InputError, match="Masks must be"):
        metrics.object_iou(FRAMES, FRAMES, bad, FRAMES)


def test_score_clip_asks_for_one_set_of_masks_per_object() -> None:
    with pytest.raises(InputError, match="one set per object"):
        metrics.score_clip(FRAMES, FRAMES, MASKS, FRAMES)


@pytest.mark.parametrize("score", [metrics.temporal_flicker, metrics.sharpness])
def test_single_clips_are_checked(score: Callable[[np.ndarray], float]) -> None:
    with pytest.raises(InputError, match="uint8 of shape"):
        score(FRAMES.astype(np.float64))


def test_pictures_too_small_for_the_flow_have_no_warp_error():
    """OpenCV's flow would end the process."""
    small = np.random.default_rng(0).integers(0, 256, (3, 12, 64, 3), np.uint8)
    assert np.isnan(metrics.warp_error(small, small))
