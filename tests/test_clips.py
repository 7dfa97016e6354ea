"""The sample clips that ship with the app: what the files hold is what the world renders and the index says."""

from __future__ import annotations

import json
from itertools import combinations

import numpy as np
import pytest
from sheets import cut_up

from bivdiff.errors import InputError
from bivdiff.media.reading import probe, read_clip
from bivdiff.pixels.metrics import background_flicker, psnr
from bivdiff.toybox import clips, data, world

INDEX = clips.load_index()
LEAST_PSNR = 30.0
"""H.264 at quarter colour resolution costs about this much at the edges of saturated objects."""
LEAST_IOU = 0.98
"""Of a mask after H.264 and a threshold: a few pixels of its outline may flip."""

FOOTPRINT = {"sphere": 1.0, "cube": 0.85 * 2**0.5, "cylinder": 0.72, "cone": 0.95}
"""Radius of the circle around each shape seen from above, in half-heights."""

every_clip = pytest.mark.parametrize("clip", INDEX, ids=lambda clip: clip.name)


def test_the_index_lists_every_sample_and_the_folder_holds_nothing_else():
    assert [clip.name for clip in INDEX] == list(clips.SAMPLES)
    files = {path for clip in INDEX for path in (clip.file, clip.masks, clip.depth, clip.flickering, clip.sheets)}
    assert set(clips.CLIPS_FOLDER.iterdir()) == {*files, clips.CLIPS_FOLDER / clips.INDEX}


def test_the_samples_are_varied():
    scenes = [sample.scene for sample in clips.SAMPLES.values()]
    assert len(scenes) >= 8
    assert sum(len(scene.solids) == 2 for scene in scenes) > len(scenes) / 2
    assert {scene.time for scene in scenes} == set(world.TIMES)
    assert {scene.motion for scene in scenes} == set(world.MOTIONS) - {"still"}
    assert {scene.floor for scene in scenes} == set(world.FLOORS)
    assert {solid.shape for scene in scenes for solid in scene.solids} == set(world.SHAPES)


@every_clip
def test_the_flickering_clip_is_the_same_one_and_flickers(clip):
    steady, flickers = (read_clip(file).frames for file in (clip.file, clip.flickering))
    assert psnr(flickers, steady) > 28
    assert background_flicker(steady, steady) < 0.5
    assert 3 < background_flicker(flickers, steady) < 8


@every_clip
def test_a_clip_shows_what_the_world_renders(clip):
    read = read_clip(clip.file, num_frames=world.NUM_FRAMES)
    truth = world.render(clips.SAMPLES[clip.name].scene, clips.SIZE, clips.SIZE)
    assert read.frames.shape == (8, 128, 128, 3)
    assert read.fps == world.FPS
    assert probe(clip.file).num_frames == world.NUM_FRAMES
    assert psnr(read.frames, truth.frames) > LEAST_PSNR
    inside = read_clip(clip.masks, num_frames=world.NUM_FRAMES).frames[..., 0] >= 128
    expected = truth.masks[0] > 0
    assert (inside & expected).sum() / (inside | expected).sum() > LEAST_IOU
    depth = read_clip(clip.depth, num_frames=world.NUM_FRAMES).frames[..., 0].astype(float)
    near = truth.depth < 20  # metres: nearer is brighter
    assert np.corrcoef(depth[near], 1 / truth.depth[near])[0, 1] > 0.99
    assert depth.max() > 240
    assert (depth[~np.isfinite(truth.depth)] < 10).mean() > 0.98  # all but what the codec smears around objects


@every_clip
def test_the_sheets_show_the_middle_of_each_frame(clip):
    sheets = json.loads(clip.sheets.read_text("utf-8"))
    assert list(sheets) == list(clips.SHOWN)
    for name, sheet in sheets.items():
        read = read_clip(getattr(clip, name)).frames[:, 21:-21]
        tiles = cut_up(sheet)
        assert tiles.shape == read.shape
        assert psnr(tiles, read) > LEAST_PSNR


@every_clip
def test_a_prompt_describes_the_same_geometry_in_other_colors(clip):
    sample = clips.SAMPLES[clip.name]
    assert clip.caption == sample.scene.caption
    assert clip.prompt == sample.prompted.caption
    assert sample.prompted.floor != sample.scene.floor
    assert all(new.color != old.color for new, old in zip(sample.prompted.solids, sample.scene.solids, strict=True))
    assert sample.prompted.motion == sample.scene.motion
    assert sample.prompted.time == sample.scene.time


@every_clip
def test_an_instruction_is_understood_and_changes_the_scene(clip):
    scene = clips.SAMPLES[clip.name].scene
    edited = world.edit(scene, clip.instruction)
    assert edited != scene
    assert set(clip.prompt.split()) | set(edited.caption.split()) <= set(data.vocabulary())


@every_clip
def test_no_sample_asks_for_what_the_models_never_saw(clip):
    sample = clips.SAMPLES[clip.name]
    for scene in (sample.scene, sample.prompted, world.edit(sample.scene, clip.instruction)):
        assert not {(solid.color, solid.shape) for solid in scene.solids} & world.HELD_OUT


@every_clip
def test_objects_never_run_into_each_other(clip):
    scene = clips.SAMPLES[clip.name].scene
    for time in np.linspace(0, 1, 9):
        bodies = [world._place(scene, index, time) for index in range(len(scene.solids))]
        for one, other in combinations(bodies, 2):
            apart = np.hypot(*(one.center - other.center)[[0, 2]])
            assert apart > FOOTPRINT[one.shape] * one.size + FOOTPRINT[other.shape] * other.size


def test_writing_twice_gives_the_same_bytes_and_the_shipped_index(tmp_path):
    for folder in ("first", "second"):
        clips.write_clips(tmp_path / folder)
    first, second = (sorted((tmp_path / folder).iterdir()) for folder in ("first", "second"))
    assert [path.name for path in first] == sorted(path.name for path in clips.CLIPS_FOLDER.iterdir())
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    assert (tmp_path / "first" / clips.INDEX).read_text() == (clips.CLIPS_FOLDER / clips.INDEX).read_text()


def test_a_folder_without_an_index_is_refused_with_a_sentence(tmp_path):
    with pytest.raises(InputError, match=r"python -m bivdiff\.toybox\.clips"):
        clips.load_index(tmp_path)
    (tmp_path / clips.INDEX).write_text('[{"name": "no file"}]')
    with pytest.raises(InputError, match="no readable"):
        clips.load_index(tmp_path)
