"""The truth of what is made of a sample: found by the source's content, and only where the world knows it."""

from __future__ import annotations

import numpy as np
import pytest

from bivdiff.catalog.requests import default_request
from bivdiff.media.reading import read_clip
from bivdiff.pixels.masks import grow
from bivdiff.toybox import world
from bivdiff.toybox.clips import SAMPLES, SIZE, load_index
from bivdiff.toybox.truths import truth_of

CLIPS = load_index()


def request_of(place: int, task: str, prompt: str, stride: int = 1, **changes):
    frames = read_clip(CLIPS[place].file).frames[::stride]
    return default_request(task, "toybox", frames, prompt, **changes)


def rendered(scene) -> np.ndarray:
    return world.render(scene, SIZE, SIZE).frames


@pytest.mark.parametrize("place", range(0, len(CLIPS), 3))
def test_a_samples_own_prompts_have_their_scenes(place):
    clip, sample = CLIPS[place], SAMPLES[CLIPS[place].name]
    edited = world.edit(sample.scene, sample.instruction)
    assert np.array_equal(truth_of(request_of(place, "control", clip.prompt)), rendered(sample.prompted))
    by_words = request_of(place, "edit", clip.instruction, image_model="instruct-pix2pix")
    assert np.array_equal(truth_of(by_words), rendered(edited))
    by_prompts = request_of(
        place, "edit", edited.caption, image_model="prompt2prompt", source_prompt=sample.scene.caption
    )
    assert np.array_equal(truth_of(by_prompts), rendered(edited))
    assert np.array_equal(truth_of(request_of(place, "smooth", "anything")), rendered(sample.scene))


def test_a_trimmed_sample_has_the_frames_of_its_own():
    sample = SAMPLES[CLIPS[1].name]
    truth = truth_of(request_of(1, "control", CLIPS[1].prompt, stride=2))
    assert np.array_equal(truth, rendered(sample.prompted)[::2])


def test_inside_the_masks_the_object_is_gone_and_outside_its_shadow_stays():
    sample = SAMPLES[CLIPS[0].name]
    source = world.render(sample.scene, SIZE, SIZE)
    masks = grow(source.masks[0], 4)
    truth = truth_of(request_of(0, "inpaint", CLIPS[0].erased, masks=masks))
    outside = masks == 0
    assert np.array_equal(truth[outside], source.frames[outside])
    assert np.array_equal(truth[~outside], rendered(sample.erased)[~outside])
    assert (truth != source.frames).any()
    too_small = np.where(np.arange(SIZE) < SIZE // 4, masks, 0).astype(np.uint8)
    assert truth_of(request_of(0, "inpaint", CLIPS[0].erased, masks=too_small)) is None


def test_what_the_world_does_not_know_has_no_truth():
    masks = np.full((8, SIZE, SIZE), 255, np.uint8)
    assert truth_of(request_of(0, "control", "a city of glass")) is None
    assert truth_of(request_of(0, "edit", "make it rain", image_model="instruct-pix2pix")) is None
    assert truth_of(request_of(0, "edit", "a dog", image_model="prompt2prompt", source_prompt="a cat")) is None
    assert truth_of(request_of(0, "inpaint", "a dog", masks=masks)) is None
    assert truth_of(request_of(0, "outpaint", CLIPS[0].caption, masks=masks)) is None


def test_another_clip_has_no_truth():
    request = request_of(0, "control", CLIPS[0].prompt)
    touched = request.frames.copy()
    touched[3, 5, 5] ^= 1
    mixed = np.concatenate([request.frames[:4], read_clip(CLIPS[1].file).frames[4:]])
    for frames in (touched, mixed, request.frames[:, :64]):
        assert truth_of(default_request("control", "toybox", frames, CLIPS[0].prompt)) is None
