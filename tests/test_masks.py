"""L1: masks pixel by pixel, what is refused and how it is said, and the tracker against the world's true masks.

Not here: what the models make of a mask.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest

from bivdiff.errors import InputError
from bivdiff.pixels import masks as mk
from bivdiff.pixels.tracking import track
from bivdiff.toybox import world

# One jumps, one crosses in front of a second object, one grows, one shrinks at night.
TRACKED_SCENES = (8, 12, 6, 2)
ENOUGH_IOU = 0.9  # these reach 0.95 and more; the flow alone falls to 0.76
ONE_LEVEL = 1


@pytest.fixture
def noise() -> np.ndarray:
    return np.random.default_rng(7).integers(0, 256, (3, 32, 48, 3), np.uint8)


def _mask(*areas: tuple[slice, slice], count: int = 1, height: int = 32, width: int = 48) -> np.ndarray:
    masks = np.zeros((count, height, width), np.uint8)
    for rows, columns in areas:
        masks[:, rows, columns] = 255
    return masks


def _iou(found: np.ndarray, truth: np.ndarray) -> float:
    """Mean over the frames after the first."""
    a, b = found[1:] > 127, truth[1:] > 127
    return float(np.mean((a & b).sum((1, 2)) / (a | b).sum((1, 2))))


# --- checking


# --- from pictures


def test_one_picture_serves_every_frame():
    picture = np.zeros((1, 8, 12, 3), np.uint8)
    picture[0, 2:5, 3:9] = 255
    masks = mk.fit_masks(picture, 4, 8, 12)
    assert masks.dtype == np.uint8
    assert np.array_equal(masks, np.repeat(picture[..., 0], 4, 0))


def test_the_mean_of_the_channels_counts_from_128_on():
    row = np.array([(128, 128, 128), (127, 128, 128), (255, 129, 0), (255, 128, 0), (0, 0, 0), (255, 255, 255)])
    pictures = np.repeat(row[None, None].astype(np.uint8), 4, 1)
    assert mk.fit_masks(pictures, 1, 4, 6)[0, 0].tolist() == [255, 0, 255, 0, 0, 255]
    grey = np.array([[[127, 128]]], np.uint8)
    assert mk.fit_masks(grey, 1, 1, 2).tolist() == [[[0, 255]]]


def test_the_other_polarity_is_the_exact_opposite(noise):
    white = mk.fit_masks(noise, 3, 24, 36)
    black = mk.fit_masks(noise, 3, 24, 36, white_regenerates=False)
    assert set(np.unique(white)) == {0, 255}
    assert np.array_equal(black, 255 - white)


def test_a_longer_mask_video_gives_its_first_frames():
    pictures = np.stack([np.full((4, 4, 3), level, np.uint8) for level in (255, 0, 255, 0)])
    assert mk.fit_masks(pictures, 2, 4, 4)[:, 0, 0].tolist() == [255, 0]


@pytest.mark.parametrize("scale", [0.25, 0.5, 2, 4])
def test_masks_of_another_size_are_brought_to_size(scale):
    masks = _mask(np.s_[8:24, 16:40])
    other = cv2.resize(masks[0], None, fx=scale, fy=scale, interpolation=cv2.INTER_NEAREST)
    assert np.array_equal(mk.fit_masks(other[None], 1, 32, 48), masks)


def test_shrinking_averages_instead_of_picking():
    fine = np.zeros((1, 8, 8), np.uint8)
    fine[0, :4, 1:4] = 255  # three of four columns: most of the left upper pixel
    fine[0, 4:, :4:4] = 255  # one of four
    assert mk.fit_masks(fine, 1, 2, 2).tolist() == [[[255, 0], [0, 0]]]


@pytest.mark.parametrize(
    ("pictures", "words"),
    [
        (np.zeros((2, 32, 48, 3), np.uint8), "mask video has 2 frames, the clip 3.*at least 3 frames"),
        (np.zeros((1, 48, 48), np.uint8), "mask is 48x48, the clip 48x32: another aspect ratio"),
        (np.zeros((1, 32, 50), np.uint8), "mask is 50x32, the clip 48x32"),
        (np.zeros((1, 32, 48), np.float32), "picture or a video of 8 bits"),
        (np.zeros((1, 32, 48, 4), np.uint8), "picture or a video of 8 bits"),
        (np.zeros((0, 32, 48), np.uint8), "picture or a video of 8 bits"),
    ],
)
def test_pictures_that_are_no_mask_of_the_clip_are_refused(pictures, words):
    with pytest.raises(InputError, match=words):
        mk.fit_masks(pictures, 3, 32, 48)


def test_an_aspect_ratio_within_two_percent_is_accepted():
    assert mk.fit_masks(np.full((1, 100, 149), 255, np.uint8), 1, 32, 48).min() == 255


# --- boxes


def test_boxes_cover_the_pixels_whose_centres_they_hold():
    masks = mk.box_masks([(10, 4, 20, 8), (30.5, 2, 31.6, 3), (40.6, 0, 47.4, 1)], 2, 32, 48)
    wanted = _mask(np.s_[4:8, 10:20], np.s_[2:3, 30:32], np.s_[0:1, 41:47], count=2)
    assert np.array_equal(masks, wanted)


def test_boxes_are_cut_at_the_edges():
    assert np.array_equal(mk.box_masks([(-10, -5, 6, 1e9)], 1, 32, 48), _mask(np.s_[:, :6]))


@pytest.mark.parametrize(
    ("boxes", "words"),
    [
        ([], "no box"),
        ([(1, 2, 3, 4), (20, 10, 20, 30)], r"Box 2 \(20, 10, 20, 30\) is empty: right must be more than left"),
        ([(10, 30, 20, 5)], "bottom more than top"),
        ([(48, 0, 60, 5)], "covers no pixel of the picture, which is 48x32"),
        ([(3.6, 0, 4.4, 5)], "covers no pixel"),
        ([(math.nan, 0, 4, 5)], r"Box 1 \(nan, 0, 4, 5\) must be four finite numbers"),
        ([(0, 0, math.inf, 5)], "four finite numbers"),
        ([(1, 2, 3)], "four finite numbers: left, top, right, bottom"),
    ],
)
def test_boxes_without_a_pixel_are_refused(boxes, words):
    with pytest.raises(InputError, match=words):
        mk.box_masks(boxes, 1, 32, 48)


def test_boxes_are_read_in_pixels_and_percent():
    text = " 10,20,60,80;50%, 0 ,100 %,50%;\n-1.5,.5,+3.,4 "
    assert mk.parse_boxes(text, 200, 100) == [(10, 20, 60, 80), (100, 0, 200, 50), (-1.5, 0.5, 3, 4)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "There is no box.*10,20,60,80"),
        (" ; ;\n", "There is no box"),
        ("1,2,3,4; 5,6,7", r"Box 2 \('5,6,7'\) has 3 values instead of four. Write left, top, right, bottom"),
        ("1,2,3,4,", "has 5 values"),
        ("1,2,three,4", "'three' in box 1 is neither pixels nor percent"),
        ("1,2,1e3,4", "'1e3' in box 1"),
        ("nan,2,3,4", "'nan' in box 1"),
        ("1,%,3,4", "'%' in box 1"),
    ],
)
def test_boxes_that_cannot_be_read_are_refused(text, words):
    with pytest.raises(InputError, match=words):
        mk.parse_boxes(text, 200, 100)


# --- key colours


def test_a_key_colour_without_tolerance_takes_that_colour_alone(noise):
    noise[noise[..., 0] == 0] = 1
    noise[:, 4:9, 5:30] = (0, 177, 64)
    noise[:, 20, 20] = (0, 177, 65)
    assert np.array_equal(mk.color_key_masks(noise, "#00b140", 0), _mask(np.s_[4:9, 5:30], count=3))
    assert np.array_equal(mk.color_key_masks(noise, "rgba(0, 177.2, 64, 0.5)", 0), _mask(np.s_[4:9, 5:30], count=3))


def test_the_tolerance_is_a_distance_in_cielab():
    greys = np.repeat(np.arange(256, dtype=np.uint8)[None, None, :, None], 3, 3)
    lightness = cv2.cvtColor(greys[0].astype(np.float32) / 255, cv2.COLOR_RGB2LAB)[..., 0]
    for tolerance in (5, 30.5, 100):
        near = mk.color_key_masks(greys, "#FFFFFF", tolerance)[0] == 255
        assert np.array_equal(near, lightness >= 100 - tolerance - mk._LAB_ROUNDING)


@pytest.mark.parametrize(
    ("color", "tolerance", "words"),
    [
        ("green", 10, "'green' is no colour. Write it as #rrggbb"),
        ("#12345", 10, "'#12345' is no colour"),
        ("#12345g", 10, "is no colour"),
        ("rgb(1, 2, 256)", 10, "is no colour"),
        (None, 10, "is no colour"),
        ("#00ff00", -1, "tolerance must be a number from 0 to 100; got -1"),
        ("#00ff00", 100.5, "from 0 to 100"),
        ("#00ff00", math.nan, "from 0 to 100; got nan"),
        ("#00ff00", "much", "got 'much'"),
    ],
)
def test_key_colours_that_mean_nothing_are_refused(noise, color, tolerance, words):
    with pytest.raises(InputError, match=words):
        mk.color_key_masks(noise, color, tolerance)


# --- growing and softening


def test_growing_a_point_gives_a_disc():
    masks = _mask(np.s_[16:17, 24:25])
    grown = mk.grow(masks, 5)[0] > 0
    rows, columns = np.nonzero(grown)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (11, 21, 19, 29)
    assert np.array_equal(grown, grown[:, ::-1] if grown.shape[1] % 2 else np.roll(grown[:, ::-1], 1, 1))
    distance = np.hypot(rows - 16, columns - 24)
    assert distance.max() < 6
    assert grown.sum() == pytest.approx(math.pi * 5.5**2, rel=0.2)


def test_growing_and_shrinking_move_straight_edges_by_as_much():
    masks = _mask(np.s_[8:24, 0:20])
    assert np.array_equal(mk.grow(masks, 3)[0, 16], _mask(np.s_[:, :23])[0, 16])
    # At the picture's left edge the mask is taken to go on.
    assert np.array_equal(mk.grow(masks, -3)[0, 16], _mask(np.s_[:, :17])[0, 16])
    assert not mk.grow(masks, -8).any()


def test_speckle_and_what_meets_nothing_is_no_large_part():
    mask, other = np.zeros((2, 16, 16), np.uint8)
    mask[:4, :4], mask[8:10, 8:10], mask[15, 15] = 255, 255, 255  # 16, 4 and 1 pixels
    other[9, 9] = 255
    assert mk.large_parts(mask, 0.25).sum() == 20
    assert mk.large_parts(mask, 0.26).sum() == 16
    assert mk.large_parts(mask, 0.01).sum() == 21
    assert mk.large_parts(mask, 0.25, touching=other).sum() == 4
    assert not mk.large_parts(other * 0, 0.25).any()


def test_no_growth_and_no_softness_copy():
    masks = _mask(np.s_[8:24, 10:20])
    for copy in (mk.grow(masks, 0), mk.feather(masks, 0)):
        assert np.array_equal(copy, masks)
        assert not np.shares_memory(copy, masks)


def test_a_soft_edge_fades_outwards_and_ends():
    masks = _mask(np.s_[:, 0:20])
    soft = mk.feather(masks, 4)
    steps = [round(127.5 * (1 + math.cos(math.pi * distance / 5))) for distance in range(1, 5)]
    assert soft[0, 16, 17:27].tolist() == [255, 255, 255, *steps, 0, 0, 0]
    assert steps == sorted(steps, reverse=True)
    assert np.array_equal(masks, _mask(np.s_[:, 0:20]))


def test_a_soft_edge_leaves_what_is_far_away_and_what_is_masked(noise):
    masks = noise[..., 0] // 4
    masks[:, 10:14, 10:14] = 200
    soft = mk.feather(masks, 6)
    far = cv2.distanceTransform((masks[0] < 128).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE) > 6
    assert np.array_equal(soft[:, far], masks[:, far])
    assert (soft[:, 10:14, 10:14] == 200).all()
    assert (soft >= masks).all()
    assert (soft > masks).any()
    assert not mk.feather(_mask(), 6).any()


@pytest.mark.parametrize("change", [mk.grow, mk.feather])
@pytest.mark.parametrize("pixels", [1.5, 257, -257, math.nan, math.inf, None, "3"])
def test_growth_that_is_no_number_of_pixels_is_refused(change, pixels):
    with pytest.raises(InputError, match=r"must be a whole number of pixels from .* to 256; got"):
        change(_mask(), pixels)


def test_a_soft_edge_cannot_be_negative():
    with pytest.raises(InputError, match="soft edge of the mask must be a whole number of pixels from 0 to 256"):
        mk.feather(_mask(), -1)


@pytest.mark.parametrize("change", [mk.grow, mk.feather])
def test_only_masks_are_changed(change, noise):
    with pytest.raises(InputError, match="must be a uint8 array"):
        change(noise, 3)


# --- putting together, and showing


def test_a_composite_is_exact_at_both_ends_and_rounded_between(noise):
    made = noise[::-1].copy()
    ramp = np.tile(np.arange(256, dtype=np.uint8), 6)[: 32 * 48].reshape(32, 48)
    masks = np.stack([ramp, np.zeros_like(ramp), np.full_like(ramp, 255)])
    together = mk.composite(noise, made, masks)
    assert np.array_equal(together[1], noise[1])
    assert np.array_equal(together[2], made[2])
    weight = ramp[..., None] / 255
    assert np.array_equal(together[0], np.rint(made[0] * weight + noise[0] * (1 - weight)))
    white = np.full_like(noise, 255)
    assert (mk.composite(white, white, masks) == 255).all()


def test_clips_that_do_not_match_are_not_put_together(noise):
    with pytest.raises(InputError, match="known clip has 3 frames of 48x32, the made one 2 frames of 48x32"):
        mk.composite(noise, noise[:2], _mask(count=3))
    with pytest.raises(InputError, match="mask has 2 frames of 48x32"):
        mk.composite(noise, noise, _mask(count=2))


def test_the_overlay_tints_what_is_regenerated_only(noise):
    masks = _mask(np.s_[8:24, 10:30], count=3)
    shown = mk.overlay(noise, masks)
    assert np.array_equal(shown[masks == 0], noise[masks == 0])
    inside = mk.grow(masks, -2) > 0
    tinted = noise[inside] + (np.array([255, 45, 120]) - noise[inside]) * 0.5
    assert np.abs(shown[inside] - tinted).max() <= ONE_LEVEL
    assert (shown[:, 8, 10:30] == 255).all()
    assert (shown[:, 8:24, 29] == 255).all()


def test_the_outline_is_thicker_in_larger_pictures():
    frames = np.zeros((1, 512, 512, 3), np.uint8)
    masks = _mask(np.s_[100:300, 100:300], height=512, width=512)
    white = (mk.overlay(frames, masks)[0, 200] == 255).all(-1)
    assert np.flatnonzero(white).tolist() == [100, 101, 298, 299]


# --- the larger canvas


def test_the_canvas_keeps_the_clip_and_masks_the_rest(noise):
    before = noise.copy()
    canvas, masks = mk.extend_canvas(noise, 8, 0, 16, 24)
    assert canvas.shape == (3, 56, 72, 3)
    assert np.array_equal(canvas[:, :32, 8:56], noise)
    wanted = np.full((3, 56, 72), 255, np.uint8)
    wanted[:, :32, 8:56] = 0
    assert np.array_equal(masks, wanted)
    assert np.array_equal(noise, before)


def test_the_new_area_goes_on_with_the_border():
    frames = np.zeros((1, 32, 32, 3), np.uint8)
    frames[:, :16] = (200, 100, 50)
    canvas, _ = mk.extend_canvas(frames, 0, 0, 32, 0)
    assert (canvas[0, :10, 32:] == (200, 100, 50)).all()
    assert (canvas[0, 22:, 32:] == 0).all()


@pytest.mark.parametrize(
    ("size", "sides", "placed"),
    [
        ((32, 48), (3, 0, 0, 0), (8, 0, 56, 32)),  # left, top, width and height of the canvas
        ((32, 48), (0, 0, 3, 9), (0, 0, 56, 48)),
        ((32, 48), (1, 0, 2, 0), (3, 0, 56, 32)),
        ((30, 45), (0, 4, 0, 0), (1, 10, 48, 40)),
        ((30, 45), (0, 2, 0, 0), (1, 2, 48, 32)),
    ],
)
def test_the_canvas_is_rounded_up_at_the_side_that_grows(size, sides, placed):
    height, width = size
    frames = np.full((1, height, width, 3), 9, np.uint8)
    canvas, masks = mk.extend_canvas(frames, *sides)
    left, top, full_width, full_height = placed
    assert canvas.shape == (1, full_height, full_width, 3)
    rows, columns = np.nonzero(masks[0] == 0)
    assert (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) == (left, top, left + width, top + height)
    assert rows.size == height * width


@pytest.mark.parametrize(
    ("sides", "words"),
    [
        ((0, 0, 0, 0), "nothing to add: give at least one side more than 0"),
        ((8, -1, 0, 0), "The top side must be a whole number of pixels from 0 to 4096; got -1"),
        ((0, 0, 0.5, 0), "The right side must be a whole number"),
        ((0, 0, 0, math.nan), "The bottom side must be a whole number"),
        ((4096, 0, 0, 0), "canvas would be 4144x32; at most 4096 pixels per side"),
    ],
)
def test_a_canvas_that_cannot_be_is_refused(noise, sides, words):
    with pytest.raises(InputError, match=words):
        mk.extend_canvas(noise, *sides)


# --- tracking


@pytest.mark.parametrize("index", TRACKED_SCENES)
def test_the_mask_follows_the_object(index):
    clip = world.render(world.evaluation_scene(index))
    first = clip.masks[0, 0]
    found = track(clip.frames, first)
    assert np.array_equal(found[0], first)
    assert set(np.unique(found)) <= {0, 255}
    assert _iou(found, clip.masks[0]) > ENOUGH_IOU
    assert np.array_equal(found, track(clip.frames, first))


def test_a_loosely_painted_object_keeps_its_margin():
    clip = world.render(world.evaluation_scene(2))
    wide = mk.grow(clip.masks[0], 6)
    found = track(clip.frames, wide[0])
    assert np.array_equal(found[0], wide[0])
    assert _iou(found, wide) > ENOUGH_IOU
    assert ((found > 0) | (clip.masks[0] == 0)).all()


def _scenery(height: int, width: int) -> np.ndarray:
    """A still background with structure at several scales."""
    generator = np.random.default_rng(3)
    layers = [
        cv2.resize(generator.integers(60, 140, (n, n, 3)).astype(np.float32), (width, height)) for n in (4, 16, 48)
    ]
    return np.mean(layers, 0).astype(np.uint8)


def test_the_mask_is_empty_once_the_object_has_left():
    frames = np.repeat(_scenery(128, 128)[None], 8, 0)
    for t, frame in enumerate(frames):
        left = 60 + 12 * t
        frame[40:72, left : left + 32] = (240, 40, 30)
    truth = (frames == (240, 40, 30)).all(-1) * np.uint8(255)
    found = track(frames, truth[0])
    assert _iou(found[:5], truth[:5]) > ENOUGH_IOU
    assert not found[6:].any()


def test_a_mask_of_still_background_stays():
    frames = np.repeat(_scenery(64, 96)[None], 4, 0)
    masks = _mask(np.s_[10:40, 20:70], count=4, height=64, width=96)
    assert _iou(track(frames, masks[0]), masks) > 0.99


def test_a_mask_of_background_moves_with_the_camera():
    scenery = _scenery(96, 160)
    frames = np.stack([scenery[10:90, 5 * t : 5 * t + 120] for t in range(5)])
    masks = np.stack([_mask(np.s_[20:60, 50 - 5 * t : 90 - 5 * t], height=80, width=120)[0] for t in range(5)])
    assert _iou(track(frames, masks[0]), masks) > 0.95


@pytest.mark.parametrize("shape", [(1, 64, 64), (3, 12, 60), (3, 64, 64)])
def test_odd_clips_keep_the_mask(shape):
    frames = np.full((*shape, 3), 90, np.uint8)
    first = np.zeros(shape[1:], np.uint8)
    first[4:10, 4:10] = 255
    assert np.array_equal(track(frames, first), np.repeat(first[None], shape[0], 0))
    everything = np.full(shape[1:], 255, np.uint8)
    assert (track(frames, everything) == 255).all()


@pytest.mark.parametrize(
    ("first", "words"),
    [
        (np.zeros((32, 48), np.uint8), "nothing to track: the mask of the first frame is empty"),
        (np.full((48, 32), 255, np.uint8), r"must be a uint8 array \(32, 48\), like the frames; got uint8 \(48, 32\)"),
        (np.ones((32, 48), bool), "got bool"),
        (None, "got none"),
    ],
)
def test_a_first_mask_that_does_not_fit_is_refused(noise, first, words):
    with pytest.raises(InputError, match=words):
        track(noise, first)
