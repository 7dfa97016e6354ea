"""The toybox world: seeded scenes, their captions, what an instruction makes of them, and what the renderer shows."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from bivdiff.errors import InputError
from bivdiff.toybox import data, world
from bivdiff.toybox.world import Scene, Solid

TRAINING_SEEDS = range(2000)
EVALUATION_INDICES = range(200)
SIZE = 48
SCENE = Scene((Solid("cube", "red", -0.7, 0.0, 0.7), Solid("sphere", "blue", 0.8, 0.4, 0.7)), "jumps", "grey", "noon")
ALONE = Scene((Solid("sphere", "white", 0.5, 0.0, 0.7),), "left", "green", "noon")


def pairs(scene: Scene) -> set[tuple[str, str]]:
    return {(solid.color, solid.shape) for solid in scene.solids}


def parsed(caption: str) -> tuple:
    """A caption's pairs, motion words, floor and time, found as a reader would find them."""
    motion = "|".join(world.MOTIONS.values())
    match = re.fullmatch(rf"an? (\w+) (\w+) ({motion})(?: next to an? (\w+) (\w+))? on a (\w+) floor at (\w+)", caption)
    assert match, caption
    first, other = (match[1], match[2]), (match[4], match[5])
    return [first] + ([other] if match[4] else []), match[3], match[6], match[7]


def centers(masks: np.ndarray) -> np.ndarray:
    """Mean column and row of the white pixels of every frame, `(F, 2)`."""
    return np.array([np.argwhere(mask)[:, ::-1].mean(0) for mask in masks])


def test_a_seed_is_a_scene():
    assert [world.sample_scene(seed) for seed in range(20)] == [world.sample_scene(seed) for seed in range(20)]
    assert len({world.sample_scene(seed) for seed in TRAINING_SEEDS}) == len(TRAINING_SEEDS)


def test_a_scene_is_always_rendered_alike():
    first, second = (world.render(world.sample_scene(5), SIZE, SIZE, 2) for _ in range(2))
    for one, other in zip(first, second, strict=True):
        assert np.array_equal(one, other)


def test_training_never_meets_the_held_out_pairs_nor_an_evaluation_scene():
    training = [world.sample_scene(seed) for seed in TRAINING_SEEDS]
    evaluation = [world.evaluation_scene(index) for index in EVALUATION_INDICES]
    assert not any(pairs(scene) & world.HELD_OUT for scene in training)
    assert set().union(*map(pairs, evaluation)) >= world.HELD_OUT
    assert not set(training) & set(evaluation)


def test_every_training_pair_and_word_occurs():
    training = [world.sample_scene(seed) for seed in TRAINING_SEEDS]
    every = {(color, shape) for color in world.COLORS for shape in world.SHAPES}
    assert set().union(*map(pairs, training)) == every - world.HELD_OUT
    assert {scene.motion for scene in training} == set(world.MOTIONS)
    assert {scene.floor for scene in training} == set(world.FLOORS)
    assert {scene.time for scene in training} == set(world.TIMES)


def test_the_two_solids_differ_so_that_each_can_be_named():
    for seed in TRAINING_SEEDS:
        solids = world.sample_scene(seed).solids
        assert len({solid.color for solid in solids}) == len({solid.shape for solid in solids}) == len(solids)


def test_evaluation_scenes_are_numbered_from_zero():
    with pytest.raises(InputError, match="numbered from 0"):
        world.evaluation_scene(-1)


@pytest.mark.parametrize("index", range(30))
def test_a_caption_says_all_that_a_scene_is(index):
    scene = world.evaluation_scene(index)
    named = [(solid.color, solid.shape) for solid in scene.solids]
    assert parsed(scene.caption) == (named, world.MOTIONS[scene.motion], scene.floor, scene.time)
    assert set(scene.caption.split()) <= set(data.vocabulary())


def test_an_empty_scene_has_a_caption_of_known_words():
    caption = world.edit(ALONE, "remove the sphere").caption
    assert caption == "nothing on a green floor at noon"
    assert set(caption.split()) <= set(data.vocabulary())


@pytest.mark.parametrize("seed", range(20))
def test_recoloring_changes_every_color_and_nothing_else(seed):
    scene = world.sample_scene(seed)
    recolored = world.recolored(scene, seed)
    assert recolored == world.recolored(scene, seed)
    assert recolored.floor != scene.floor
    assert len({solid.color for solid in recolored.solids}) == len(scene.solids)
    assert all(new.color != old.color for new, old in zip(recolored.solids, scene.solids, strict=True))
    same_colors = tuple(replace(new, color=old.color) for new, old in zip(recolored.solids, scene.solids, strict=True))
    assert replace(recolored, solids=same_colors, floor=scene.floor) == scene


def with_first(**changes: str) -> Scene:
    return replace(SCENE, solids=(replace(SCENE.solids[0], **changes), SCENE.solids[1]))


@pytest.mark.parametrize(
    ("instruction", "expected"),
    [
        ("make the cube blue", with_first(color="blue")),
        ("make the red cube blue", with_first(color="blue")),
        ("  Make  the red CUBE blue. ", with_first(color="blue")),
        ("turn the cube into a cone", with_first(shape="cone")),
        ("turn the red cube into a sphere", with_first(shape="sphere")),
        ("remove the sphere", replace(SCENE, solids=SCENE.solids[:1])),
        ("remove the blue sphere", replace(SCENE, solids=SCENE.solids[:1])),
        ("remove the cube", replace(SCENE, solids=SCENE.solids[1:], motion="still")),
        ("make the floor green", replace(SCENE, floor="green")),
        ("make it night", replace(SCENE, time="night")),
    ],
)
def test_an_instruction_changes_what_it_names_and_nothing_else(instruction, expected):
    assert world.edit(SCENE, instruction) == expected


@pytest.mark.parametrize(
    "instruction",
    [
        "make the cone blue",  # there is none
        "remove the green cube",  # it is red
        "turn the blue cube into a cone",
        "make the cube brown",  # no colour of an object
        "make the floor red",
        "make it morning",
        "turn the cube into a pyramid",
        "make the cube blue and the sphere red",
        "make it prettier",
        "",
    ],
)
def test_an_instruction_that_names_nothing_is_refused_with_a_sentence(instruction):
    with pytest.raises(InputError) as caught:
        world.edit(SCENE, instruction)
    assert instruction in str(caught.value)
    assert str(caught.value).endswith(".")


@pytest.mark.parametrize(
    ("instruction", "changed"),
    [("make the cube blue", (1, 0, 0, 0)), ("make it night", (1, 1, 1, 1)), ("make the floor pink", (0, 0, 1, 0))],
)
def test_a_recoloring_instruction_leaves_the_geometry_and_all_that_it_does_not_name(instruction, changed):
    """In a picture this small an edge is of both its sides."""
    before, after = (world.render(scene, SIZE, SIZE, 2) for scene in (SCENE, world.edit(SCENE, instruction)))
    assert np.array_equal(before.masks, after.masks)
    assert np.array_equal(before.depth, after.depth)
    cube, sphere = before.masks > 0
    sky = ~np.isfinite(before.depth)
    differs = (before.frames != after.frames).any(-1)
    shares = [differs[part].mean() for part in (cube, sphere, ~cube & ~sphere & ~sky, sky)]
    assert shares == pytest.approx(changed, abs=0.15)


@pytest.mark.parametrize(("width", "height", "num_frames"), [(48, 48, 2), (33, 21, 1), (7, 40, 1), (1, 1, 1)])
def test_any_size_can_be_rendered(width, height, num_frames):
    frames, depth, masks = world.render(SCENE, width, height, num_frames)
    assert (frames.shape, frames.dtype) == ((num_frames, height, width, 3), np.uint8)
    assert (depth.shape, depth.dtype) == ((num_frames, height, width), np.float32)
    assert (masks.shape, masks.dtype) == ((2, num_frames, height, width), np.uint8)


@pytest.mark.parametrize("size", [(0, 8, 8), (8, -1, 8), (8, 8, 0)])
def test_an_empty_clip_is_refused(size):
    with pytest.raises(InputError, match="positive size and length"):
        world.render(SCENE, *size)


def test_a_wider_picture_shows_the_square_one_in_its_middle():
    square, wide = (world.render(SCENE, width, SIZE, 2) for width in (SIZE, 2 * SIZE))
    middle = slice(SIZE // 2, SIZE // 2 + SIZE)
    assert np.array_equal(wide.masks[..., middle], square.masks)
    np.testing.assert_allclose(wide.depth[..., middle], square.depth)
    # The outermost columns may differ: only the wider picture sees an edge between them and their outer neighbours.
    inner = slice(1, -1)
    assert np.array_equal(wide.frames[:, :, middle][:, :, inner], square.frames[:, :, inner])


def test_depth_is_finite_on_the_ground_and_infinite_in_the_sky():
    depth = world.render(replace(SCENE, solids=()), SIZE, SIZE, 1).depth[0]
    sky = np.isinf(depth)
    assert sky[0].all()
    assert not sky[SIZE // 2 :].any()
    assert (np.diff(depth[SIZE // 2 :], axis=0) < 0).all()  # lower in the picture is nearer
    assert (depth > 0).all()


def test_an_object_is_nearer_than_what_it_hides():
    full, empty = (world.render(scene, SIZE, SIZE, 1) for scene in (SCENE, replace(SCENE, solids=())))
    inside = full.masks.any(0)
    assert (full.depth[inside] < empty.depth[inside]).all()
    assert np.array_equal(full.depth[~inside], empty.depth[~inside])


@pytest.mark.parametrize("index", range(8))
def test_masks_show_every_object_and_never_overlap(index):
    masks = world.render(world.evaluation_scene(index), SIZE, SIZE, 2).masks
    assert set(np.unique(masks)) == {0, 255}
    assert ((masks > 0).sum(0) <= 1).all()
    assert masks[0].any(axis=(1, 2)).all()


def test_an_empty_scene_has_one_empty_mask():
    masks = world.render(replace(SCENE, solids=()), 16, 16, 2).masks
    assert masks.shape == (1, 2, 16, 16)
    assert not masks.any()


@pytest.mark.parametrize(("motion", "axis", "sign"), [("left", 0, -1), ("right", 0, 1)])
def test_an_object_moves_sideways_as_the_caption_says(motion, axis, sign):
    path = centers(world.render(replace(ALONE, motion=motion, solids=SCENE.solids), SIZE, SIZE, 4).masks[0])
    assert (sign * np.diff(path[:, axis]) > 0).all()


@pytest.mark.parametrize(("motion", "sign"), [("closer", 1), ("away", -1)])
def test_an_object_grows_when_it_comes_closer(motion, sign):
    masks = world.render(replace(ALONE, motion=motion), SIZE, SIZE, 4).masks[0]
    assert (sign * np.diff((masks > 0).sum(axis=(1, 2))) > 0).all()


def test_a_jump_goes_up_and_comes_down():
    heights = -centers(world.render(replace(ALONE, motion="jumps"), SIZE, SIZE, 5).masks[0])[:, 1]
    assert heights.argmax() == 2
    assert heights[0] == heights[-1]


def test_what_stands_still_gives_equal_frames():
    frames = world.render(replace(ALONE, motion="still"), SIZE, SIZE, 3).frames
    assert (frames == frames[0]).all()


def test_only_the_first_object_moves():
    masks = world.render(replace(SCENE, solids=SCENE.solids[::-1]), SIZE, SIZE, 3).masks
    assert not np.array_equal(masks[0, 0], masks[0, 1])
    assert np.array_equal(masks[1, 0], masks[1, 1])


def test_noon_is_brighter_than_sunset_and_sunset_than_night():
    noon, sunset, night = (world.render(replace(SCENE, time=time), SIZE, SIZE, 1).frames.mean() for time in world.TIMES)
    assert noon > sunset > night > 20


@pytest.mark.parametrize("seed", range(40))
def test_the_moving_object_never_leaves_a_square_picture(seed):
    rendering = world.render(world.sample_scene(seed), 32, 32, 3)
    assert (rendering.masks[0] > 0).sum(axis=(1, 2)).min() > 0.01 * 32 * 32
