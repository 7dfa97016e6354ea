"""What the eye sees of a bridged clip: flicker beyond motion, and the words for it."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from bivdiff.compare.scores import below_a_clip, best_below, rest_below
from bivdiff.compare.steadiness import (
    FLICKER,
    excess_flicker,
    figures_of,
    flicker_at_rest,
    steadiness,
    steadiness_of_scores,
    unmeasured,
)
from bivdiff.pixels import metrics
from bivdiff.toybox import world
from bivdiff.toybox.clips import SAMPLES, SIZE
from bivdiff.types import GenerationResult

MOVING = replace(world.sample_scene(3), motion="jumps")


@pytest.fixture(scope="module")
def moving():
    """A clip with motion and no flicker, uint8 `(8, 64, 64, 3)`."""
    return world.render(MOVING, 64, 64, 8).frames


def flickering(frames, by):
    """Every second frame is brighter by so many levels; the clip has room for that."""
    room = np.clip(frames, 0, 255 - by)
    return room + (np.arange(len(frames)) % 2 * by).astype(np.uint8)[:, None, None, None]


def test_motion_is_no_flicker(task_request, moving):
    request = task_request("control", "controlnet", frames=moving)
    assert metrics.temporal_flicker(moving) > 2
    assert excess_flicker(request, moving) == 0


def test_a_flicker_counts_as_many_levels_as_it_has(task_request, moving):
    request = task_request("control", "controlnet", frames=moving)
    found = [excess_flicker(request, flickering(moving, by)) for by in (4, 8, 16)]
    assert found == pytest.approx([4, 8, 16], abs=1)


def moved_difference(clips, guide):
    """The mean over all places and pairs of frames that count, for each clip."""
    maps, counts = metrics.moved_difference(clips, guide)
    return [each.sum() / counts.sum() if counts.any() else math.nan for each in maps]


def test_one_flow_serves_several_clips(moving):
    clips = [moving, flickering(moving, 8)]
    apart = [moved_difference([clip], moving)[0] for clip in clips]
    assert moved_difference(clips, moving) == apart
    still = np.repeat(moving[:1], 4, 0)
    assert moved_difference([still, flickering(still, 8)], still) == pytest.approx([0, 8], abs=0.5)
    assert all(map(math.isnan, moved_difference([moving[:1]] * 2, moving[:1])))
    assert all(map(math.isnan, moved_difference([moving[:, :8]], moving[:, :8])))


def test_given_frames_are_no_zero_of_their_own(task_request, moving):
    given = task_request("smooth", "given", frames=flickering(moving, 8))
    assert excess_flicker(given, given.frames) > 6
    assert excess_flicker(given, moving) < 2


@pytest.mark.parametrize(("changes", "why"), [
    ({"frames": slice(0, 1)}, "one frame cannot flicker"),
    ({"side": 8}, "the picture is too small for its motion to be found"),
])  # fmt: skip
def test_why_nothing_is_measured_is_said(task_request, moving, changes, why):
    side = changes.get("side", 64)
    frames = np.ascontiguousarray(moving[changes.get("frames", slice(None)), :side, :side])
    request = task_request("control", "controlnet", frames=frames)
    assert unmeasured(request) == why
    assert math.isnan(excess_flicker(request, frames))
    assert steadiness(request, math.nan, math.nan) == f"not measured: {why}"


def test_the_source_is_no_guide_where_a_part_is_made_anew(task_request, source_frames):
    request = task_request("inpaint", "inpainting")
    assert math.isnan(excess_flicker(request, source_frames))
    assert steadiness(request, math.nan, math.nan) == (
        "not measured: the source does not say how what is new should move"
    )
    assert excess_flicker(request, source_frames, truth=source_frames) == 0  # the truth says it


@pytest.mark.parametrize(("flicker", "of_frames", "words"), [
    (1.0, 3.2, "69% less than frame by frame"),
    (0.1, 4.0, "at least 95% less than frame by frame"),
    (2.0, 2.05, "as much as frame by frame"),
    (3.0, 2.0, "50% more than frame by frame"),
    (1.0, 0.0, "at least 400% more than frame by frame"),
    (0.0, 0.1, "none, as frame by frame"),
    (math.nan, 2.0, "not measured: nothing of the motion could be followed"),
])  # fmt: skip
def test_how_calm_a_clip_is_in_words(task_request, flicker, of_frames, words):
    assert steadiness(task_request("control", "controlnet"), flicker, of_frames) == words
    yours = words.replace("frame by frame", "your frames")
    assert steadiness(task_request("smooth", "given"), flicker, of_frames) == yours


def test_a_runs_figures_are_ready_for_json(task_request, moving):
    request = task_request("control", "controlnet", frames=moving)
    result = GenerationResult(request, (), flickering(moving, 16), flickering(moving, 4), 1)
    figures = figures_of(result)
    assert list(figures) == ["excess_flicker", "framewise_excess_flicker", "sharpness", "steadiness"]
    assert figures["framewise_excess_flicker"] == pytest.approx(16, abs=1)
    share = 1 - figures["excess_flicker"] / figures["framewise_excess_flicker"]
    assert figures["steadiness"] == f"{share:.0%} less than frame by frame"
    of_scores = [{"excess_flicker": figures[name]} for name in ("excess_flicker", "framewise_excess_flicker")]
    told = steadiness_of_scores("controlnet", *of_scores)
    assert told == {name: figures[name] for name in ("excess_flicker", "framewise_excess_flicker", "steadiness")}
    assert steadiness_of_scores("given", {"excess_flicker": None}, {})["steadiness"].startswith("not measured")
    masked = task_request("inpaint", "inpainting")
    figures = figures_of(GenerationResult(masked, (), masked.frames, masked.frames, 1))
    assert (figures["excess_flicker"], figures["sharpness"]) == (None, 1.0)


def test_sharpness_is_held_against_the_truth_where_that_is_known(task_request, monkeypatch, moving):
    request = task_request("control", "controlnet", frames=moving)
    monkeypatch.setattr("bivdiff.compare.steadiness.truth_of", lambda _: moving)
    noisy = np.random.default_rng(0).integers(0, 256, moving.shape, np.uint8)
    figures = figures_of(GenerationResult(request, (), noisy, moving, 1))
    assert figures["true_sharpness"] == 1
    assert figures["sharpness"] < 0.2  # noise is sharp
    assert figures["framewise_true_sharpness"] > 5


def test_below_a_compared_clip_the_truths_sharpness_goes_before_the_frames(task_request):
    request = task_request("control", "controlnet")
    scores = {"excess_flicker": 1.0, "temporal_flicker": 9.0, "sharpness": 0.8}
    assert below_a_clip(request, scores) == {"Sharpness, frame by frame = 100%": "80%"}
    assert below_a_clip(request, scores | {"true_sharpness": 0.9}) == {"Sharpness, truth = 100%": "90%"}
    assert rest_below(request, scores, {"excess_flicker": 4.0}) == {
        "level": 1.0, "before": 4.0, "words": "75% less than frame by frame"
    }  # fmt: skip
    assert rest_below(request, {}, {})["level"] is None


def test_the_best_of_each_score_is_named_where_all_have_it_and_one_is_better(task_request):
    rows = [
        {"excess_flicker": 2.0, "sharpness": 1.0, "framewise_ssim": 0.9, "psnr": 20.0},
        {"excess_flicker": 1.0, "sharpness": 0.9, "framewise_ssim": 0.9, "psnr": math.nan},
    ]
    assert best_below(task_request("control", "controlnet"), rows) == [["Sharpness, frame by frame = 100%"], [FLICKER]]
    assert best_below(task_request("control", "controlnet"), rows[:1]) == [[]]


def test_clips_below_which_the_same_is_written_are_as_good_as_each_other(task_request):
    rows = [{"excess_flicker": 2.0, "sharpness": 0.981}, {"excess_flicker": 1.0001, "sharpness": 0.982},
            {"excess_flicker": 1.0, "sharpness": 0.983}]  # fmt: skip
    assert best_below(task_request("control", "controlnet"), rows) == [[], [FLICKER], [FLICKER]]


def test_the_map_says_where_it_flickers_and_its_mean_is_the_level(task_request, moving):
    half = moving.copy()
    half[:, :, :32] = flickering(moving, 8)[:, :, :32]
    rest = flicker_at_rest(task_request("control", "controlnet", frames=moving), half)
    assert rest.heat.shape == (64, 64)
    left, right = rest.heat[:, 2:30].mean(), rest.heat[:, 34:].mean()
    assert left == pytest.approx(8, abs=2)  # less where the moving things were hidden
    assert right < 0.5
    assert rest.level == pytest.approx(rest.heat.mean(), abs=0.5)
    still = flicker_at_rest(task_request("control", "controlnet", frames=moving), moving)
    assert (still.level, still.heat.max()) == (0, 0)


def test_a_samples_truth_does_not_flicker_by_the_flow_of_its_source(task_request):
    for sample in SAMPLES.values():
        source, truth = (world.render(scene, SIZE, SIZE).frames for scene in (sample.scene, sample.prompted))
        request = task_request("control", "controlnet", frames=source)
        assert excess_flicker(request, truth) < 0.2
