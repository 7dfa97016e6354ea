"""A sweep: the bits of single runs, nothing made twice, extremes first, and scores that point the right way."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from paper import PAPER_BRIDGE, TWO_STEPS

from bivdiff.bridge import session
from bivdiff.bridge.pipeline import framewise_frames, run
from bivdiff.bridge.pipeline import last as last_of_run
from bivdiff.bridge.reuse import StageCache
from bivdiff.catalog.requests import default_request
from bivdiff.compare import planning
from bivdiff.compare import scores as scoring
from bivdiff.compare import sweep as sweeping
from bivdiff.compare.axes import order_of
from bivdiff.compare.planning import expected_of_all
from bivdiff.compare.scores import (
    MOST_SHARPNESS_LOST,
    MOST_SSIM_LOST,
    RULE,
    TITLES,
    Recommendation,
    Scorer,
    map_agreement,
    recommend,
    recommendation,
)
from bivdiff.compare.sweep import Cell, CellEvent, SweepResult, last, paper_cell, result_of, sweep
from bivdiff.errors import InputError, ModelUnavailableError
from bivdiff.evaluate.bench import Load, bench_sweep
from bivdiff.models.cost import walks_of
from bivdiff.pixels import metrics
from bivdiff.toybox import world
from bivdiff.types import Control

RATIOS = (0.0, 0.25, 0.5, 1.0)
FRAMES, STEPS = 2, 2
STAGE = FRAMES * STEPS  # single-frame evaluations of a stage without guidance


@pytest.fixture(scope="module")
def request_small(source_frames):
    base = default_request(
        "control", "toybox", np.ascontiguousarray(source_frames[:FRAMES, :32, :32]), "a red cube", seed=1
    )
    return replace(base, **PAPER_BRIDGE, **TWO_STEPS, guidance_scale=1.0)


@pytest.fixture(scope="module")
def swept(request_small, manager):
    """All that a sweep over ratios yields."""
    return list(sweep(request_small, {"mixing_ratio": RATIOS}, manager))


def cells_of(events):
    return [event for event in events if isinstance(event, Cell)]


def spent(cells):
    """Evaluations of all cells together, by stage."""
    stages = ("framewise", "inversion", "smoothing")
    return {stage: sum(cell.evaluations.get(stage, 0) for cell in cells) for stage in stages}


def test_cells_have_the_bits_of_single_runs(swept, request_small, manager):
    cells = swept[-1].cells
    for cell in (cells[0], cells[1], cells[3]):
        alone = last_of_run(run(replace(request_small, mixing_ratio=cell.values["mixing_ratio"]), manager))
        assert np.array_equal(cell.frames, alone.frames)
        assert np.array_equal(cell.framewise_frames, alone.framewise_frames)
    assert len({cell.frames.tobytes() for cell in cells}) == len(RATIOS)


def test_ratios_share_one_frame_wise_pass_and_one_pair_of_inversions(swept):
    cells = cells_of(swept)
    assert spent(cells) == {"framewise": STAGE, "inversion": 2 * STAGE, "smoothing": len(RATIOS) * STAGE}
    assert {cell.reused for cell in cells} == {()}  # nothing was there before


def test_extremes_come_first_and_the_result_is_in_order(swept, request_small):
    assert [cell.values["mixing_ratio"] for cell in cells_of(swept)] == [0.0, 1.0, 0.5, 0.25]
    result = swept[-1]
    assert isinstance(result, SweepResult)
    assert [cell.values["mixing_ratio"] for cell in result.cells] == list(RATIOS)
    assert [cell.index for cell in result.cells] == [0, 1, 2, 3]
    assert [cell.label for cell in result.cells] == ["ratio 0", "ratio 0.25", "ratio 0.5", "ratio 1"]
    assert result.axes == {"mixing_ratio": RATIOS}
    assert paper_cell(request_small, result.cells) == 3


def test_events_name_their_cell(swept):
    events = [event for event in swept if isinstance(event, CellEvent)]
    smoothed = [event.cell for event in events if event.stage == "smoothing" and event.step == STEPS]
    assert smoothed == [0, 3, 2, 1]
    assert {event.cells for event in events} == {len(RATIOS)}
    assert all("ratio" in event.message for event in events)
    shown = {event.stage for event in events if event.preview is not None}
    assert shown == {"control", "framewise"}  # nobody sees a clip of a comparison before it is whole


@pytest.mark.parametrize(("ratio", "image", "video"), [(1.0, STAGE, 0), (0.0, 0, STAGE)])
def test_a_single_extreme_costs_no_other_inversion(request_small, manager, ratio, image, video):
    cell = last(sweep(request_small, {"mixing_ratio": [ratio, ratio]}, manager)).cells[0]
    assert cell.evaluations["inversion"] == image + video
    assert cell.reused == ()


def test_a_second_sweep_only_smooths(request_small, manager, swept, peaks):
    cache = StageCache()
    last(sweep(request_small, {"mixing_ratio": [0.5]}, manager, cache))
    warm = last(sweep(request_small, {"mixing_ratio": RATIOS}, manager, cache))
    assert spent(warm.cells) == {"framewise": 0, "inversion": 0, "smoothing": len(RATIOS) * STAGE}
    everything = ("framewise", "image inversion", "video inversion")
    assert [cell.reused for cell in warm.cells] == [
        ("framewise", "video inversion"), everything, everything, ("framewise", "image inversion")
    ]  # fmt: skip
    for cell, cold in zip(warm.cells, swept[-1].cells, strict=True):
        assert np.array_equal(cell.frames, cold.frames)
    assert warm.peak_bytes == peaks[-1]


def test_a_grid_shares_what_it_can(request_small, manager):
    result = last(sweep(request_small, {"seed": [7, 3], "mixing_ratio": [0.0, 1.0]}, manager))
    assert [cell.label for cell in result.cells] == [
        "seed 7, ratio 0", "seed 7, ratio 1", "seed 3, ratio 0", "seed 3, ratio 1"
    ]  # fmt: skip
    assert spent(result.cells) == {"framewise": 2 * STAGE, "inversion": 4 * STAGE, "smoothing": 4 * STAGE}
    frames = [cell.framewise_frames for cell in result.cells]
    assert np.array_equal(frames[0], frames[1])
    assert np.array_equal(frames[2], framewise_frames(replace(request_small, seed=3), manager))


def test_other_settings_run_again_what_depends_on_them(request_small, manager):
    cache, request_small = StageCache(), replace(request_small, mixing_ratio=0.5)
    axes = {"smoothing_guidance_scale": [1.0, 2.0], "num_smoothing_steps": [1, 2]}
    result = last(sweep(request_small, axes, manager, cache))
    assert spent(result.cells) == {"framewise": STAGE, "inversion": 2 * STAGE, "smoothing": FRAMES * (1 + 2 + 2 + 4)}
    rules = last(sweep(request_small, {"mixing_rule": ["linear", "slerp"], "guidance_scale": [1.0]}, manager, cache))
    assert spent(rules.cells) == {"framewise": 0, "inversion": 0, "smoothing": 2 * STAGE}
    for cell, rule in zip(rules.cells, ("linear", "slerp"), strict=True):
        alone = last_of_run(run(replace(request_small, mixing_rule=rule), manager))
        assert np.array_equal(cell.frames, alone.frames)


def test_order_in_a_line_and_in_a_grid():
    assert order_of({"mixing_ratio": [0.5, 1.0, 0.25, 0.0, 0.75]}) == [(0.0,), (1.0,), (0.5,), (0.25,), (0.75,)]
    assert order_of({"mixing_rule": ["slerp", "linear"]}) == [("slerp",), ("linear",)]
    corners = order_of({"mixing_ratio": [0.0, 0.5, 1.0], "num_smoothing_steps": [5, 10, 20]})[:4]
    assert set(corners) == {(0.0, 5), (0.0, 20), (1.0, 5), (1.0, 20)}
    seeds = order_of({"mixing_ratio": [0.0, 0.5, 1.0], "seed": [9, 2]})
    assert seeds == [(0.0, 9), (1.0, 9), (0.5, 9), (0.0, 2), (1.0, 2), (0.5, 2)]


@pytest.mark.parametrize(
    ("axes", "sentence"),
    [
        ({}, "One or two"),
        ({"mixing_ratio": [0], "seed": [1], "mixing_rule": ["slerp"]}, "One or two"),
        ({"prompt": ["a"]}, "cannot be compared"),
        ({"mixing_ratio": []}, "no value"),
        ({"mixing_ratio": [0, 7]}, "from 0 to 1"),
        ({"video_model": ["zeroscope"]}, "Unknown video model"),
        ({"seed": list(range(65))}, "65 clips"),
    ],
)
def test_what_cannot_be_compared_is_said_before_anything_runs(request_small, manager, axes, sentence):
    with pytest.raises(InputError, match=sentence):
        next(sweep(request_small, axes, manager))


def test_cancelling_keeps_finished_cells_and_frees_the_rest(request_small, manager, swept):
    events, finished = sweep(request_small, {"mixing_ratio": RATIOS}, manager), []
    for event in events:
        assert not torch.is_inference_mode_enabled()
        if isinstance(event, Cell):
            finished.append(event)
        if len(finished) == 2 and isinstance(event, CellEvent):
            break
    events.close()
    assert manager.held() == []
    assert [cell.values["mixing_ratio"] for cell in finished] == [0.0, 1.0]
    assert np.array_equal(finished[1].frames, swept[-1].cells[3].frames)


def test_several_ratios_smoothed_at_once_are_the_same_clips(request_small, manager, swept, monkeypatch):
    """What a CUDA device would do; a batch is summed in another order, so a rounding may fall the other way."""
    monkeypatch.setattr(sweeping, "clips_at_once", lambda *_: 3)
    events = list(sweep(request_small, {"mixing_ratio": RATIOS}, manager))
    assert spent(events[-1].cells)["smoothing"] == pytest.approx(len(RATIOS) * STAGE)
    for cell, alone in zip(events[-1].cells, swept[-1].cells, strict=True):
        assert np.abs(cell.frames.astype(int) - alone.frames).max() <= 1
    passes = [event.cell for event in events if isinstance(event, CellEvent) and event.stage == "smoothing"]
    assert passes == [0, 0, 1, 1]  # three at once, then the one that is left; two steps each


@pytest.mark.parametrize(
    ("name", "values"), [("num_smoothing_steps", [1, 2]), ("smoothing_guidance_scale", [1.0, 2.0])]
)
def test_only_what_is_smoothed_alike_is_smoothed_at_once(request_small, manager, monkeypatch, name, values):
    """Cells that differ after the blend would get the settings of the first."""
    whole, batches = sweeping.smooth_clips, []

    def watched(own, blended, *more):
        batches.append((getattr(own.request, name), len(blended)))
        return (yield from whole(own, blended, *more))

    monkeypatch.setattr(sweeping, "smooth_clips", watched)
    monkeypatch.setattr(sweeping, "clips_at_once", lambda *_: 4)
    result = last(sweep(request_small, {"mixing_ratio": [0.0, 1.0], name: values}, manager))
    assert sorted(batches) == [(value, 2) for value in values]
    for cell in result.cells:
        alone = last_of_run(run(replace(request_small, **cell.values), manager))
        assert np.abs(cell.frames.astype(int) - alone.frames).max() <= 1


def test_room_is_kept_for_all_clips_that_are_smoothed_at_once(request_small, manager, monkeypatch):
    """A run computes with 10 here, and each clip that is smoothed besides with 3."""
    whole, reserved = manager.running, []

    def watched(*modules, reserve=0):
        reserved.append(reserve)
        return whole(*modules)

    monkeypatch.setattr(manager, "running", watched)
    monkeypatch.setattr(session, "activation_bytes", lambda *_: 10)
    monkeypatch.setattr(sweeping, "activation_bytes", lambda *_: 10)
    monkeypatch.setattr(sweeping, "smoothing_bytes", lambda *_: 3)
    monkeypatch.setattr(sweeping, "clips_at_once", lambda *_: 3)
    for ratios, room in (([0.0, 0.5, 1.0], 10 + 2 * 3), ([0.0, 1.0], 10 + 3), ([0.5], 10)):
        reserved.clear()
        last(sweep(replace(request_small, controls=()), {"mixing_ratio": ratios}, manager))
        assert set(reserved) == {room}


def test_the_time_of_a_cell_is_that_of_its_stages_and_of_its_scores(request_small, manager, monkeypatch):
    ticks = iter(range(100))
    monkeypatch.setattr(sweeping, "time", SimpleNamespace(perf_counter=lambda: next(ticks)))
    result = last(sweep(request_small, {"mixing_ratio": [0.5]}, manager))
    assert result.seconds == next(ticks) - 1  # the first tick was 0
    (cell,) = result.cells
    stages = {name: seconds for name, seconds in cell.seconds.items() if name != "total"}
    assert set(stages) == {"framewise", "inversion", "smoothing"}
    assert cell.seconds["total"] == pytest.approx(sum(stages.values()) + 1)  # one tick from before the scores to after


@pytest.mark.parametrize(
    ("device", "budget", "clips"), [("cpu", None, 1), ("cuda", None, 4), ("cuda", 11.5, 2), ("cuda", 9, 1)]
)
def test_as_many_are_smoothed_at_once_as_the_memory_bound_allows(
    request_small, manager, monkeypatch, device, budget, clips
):
    """A single run takes 10 here, each clip that is smoothed besides takes 1, and the bound is at 13."""
    monkeypatch.setattr(manager, "device", torch.device(device))
    monkeypatch.setattr(manager.budget, "device", budget)
    monkeypatch.setattr(sweeping, "estimate", lambda *_: SimpleNamespace(device_bytes=10))
    monkeypatch.setattr(sweeping, "smoothing_bytes", lambda *_: 1)
    assert sweeping.clips_at_once(request_small, manager) == clips


def test_out_of_memory_goes_on_with_the_cells_that_are_left(request_small, manager, swept, monkeypatch):
    whole, policies, tries = sweeping.smooth_clips, [], []

    def full_the_second_time(*given):
        tries.append(1)
        if len(tries) == 2:
            raise torch.OutOfMemoryError
        return (yield from whole(*given))

    monkeypatch.setattr(sweeping, "smooth_clips", full_the_second_time)
    monkeypatch.setattr(manager, "leaner_policy", lambda: "group")
    monkeypatch.setattr(manager, "set_policy", policies.append)
    events = list(sweep(request_small, {"mixing_ratio": [0.0, 1.0]}, manager))
    assert policies == ["group"]
    assert [event.cell for event in events if isinstance(event, CellEvent) and "policy" in event.note] == [1]
    assert [cell.values["mixing_ratio"] for cell in cells_of(events)] == [0.0, 1.0]
    assert cells_of(events)[1].reused == ("framewise", "image inversion")
    assert np.array_equal(events[-1].cells[1].frames, swept[-1].cells[3].frames)


def test_fewer_are_smoothed_at_once_where_the_device_runs_out_of_memory(request_small, manager, swept, monkeypatch):
    whole, batches, freed = sweeping.smooth_clips, [], []

    def full_above_two(bench, blended, *more):
        batches.append(len(blended))
        if len(blended) > 2:
            raise torch.OutOfMemoryError
        return (yield from whole(bench, blended, *more))

    monkeypatch.setattr(sweeping, "smooth_clips", full_above_two)
    monkeypatch.setattr(sweeping, "free_memory", lambda _: freed.append(batches[-1]))
    monkeypatch.setattr(sweeping, "clips_at_once", lambda *_: 4)
    result = last(sweep(request_small, {"mixing_ratio": RATIOS}, manager))
    assert batches == [4, 2, 2]
    assert freed == [4]
    for cell, alone in zip(result.cells, swept[-1].cells, strict=True):
        np.testing.assert_allclose(cell.frames.astype(int), alone.frames.astype(int), atol=1)


def test_clips_are_held_against_the_frames_that_they_were_made_of(request_small, manager):
    result = last(sweep(request_small, {"seed": [1, 2]}, manager))
    one, other = (cell.framewise_scores["temporal_flicker"] for cell in result.cells)
    assert one != other
    for cell in result.cells:
        alone = Scorer(replace(cell.request, controls=()), (), manager)
        own = alone(cell.framewise_frames, cell.framewise_frames)
        assert {name: cell.framewise_scores[name] for name in own} == pytest.approx(own, nan_ok=True)


def test_a_score_that_cannot_be_measured_costs_no_clip(request_small, manager, monkeypatch):
    tries = []

    def damaged(*_):
        tries.append(1)
        raise ModelUnavailableError("The file of CLIP is cut off.")

    monkeypatch.setattr(scoring, "semantic_scores", damaged)
    events = list(sweep(request_small, {"mixing_ratio": [0.0, 1.0]}, manager))
    assert len(events[-1].cells) == 2
    (noted,) = [event for event in events if isinstance(event, CellEvent) and event.note]
    assert noted.note == "Scores by CLIP and DINO are left out: The file of CLIP is cut off."
    assert (noted.stage, noted.step, noted.total, noted.cell, noted.cells) == ("smoothing", 1, 1, 0, 2)
    assert len(tries) == 1


def test_scores_that_the_device_is_too_small_for_are_left_out_and_that_is_said(request_small, manager, monkeypatch):
    def full(*_):
        raise torch.OutOfMemoryError

    monkeypatch.setattr(scoring, "semantic_scores", full)
    score = Scorer(replace(request_small, controls=()), (), manager)
    assert "clip_prompt_alignment" not in score(request_small.frames, request_small.frames)
    assert score.missed == {
        "CLIP and DINO": "Scores by CLIP and DINO are left out: the device ran out of memory."
    }  # fmt: skip


def test_what_a_stopped_sweep_had_made_is_a_result_of_its_own(swept, request_small):
    ready = cells_of(swept)[:2]
    result = result_of(request_small, {"mixing_ratio": RATIOS}, ready, 3.0)
    assert [cell.index for cell in result.cells] == [0, 3]
    assert result.best in ready
    assert result.recommended.index == result.best.index
    assert (result.size, result.seconds, result.peak_bytes) == (4, 3.0, None)
    assert result_of(request_small, {"mixing_ratio": RATIOS}, ready).seconds == sum(
        cell.seconds["total"] for cell in ready
    )


def test_a_result_has_the_settings_that_were_asked_for_and_the_seed_that_was_used(swept, request_small):
    asked = replace(request_small, seed=None, mixing_ratio=0.125)
    axes = {"mixing_ratio": RATIOS, "mixing_rule": ["linear", "slerp"]}
    result = result_of(asked, axes, cells_of(swept))
    assert (result.request.seed, result.request.mixing_ratio) == (request_small.seed, 0.125)
    assert result.axes == {"mixing_ratio": RATIOS, "mixing_rule": ("linear", "slerp")}
    assert result.size == len(RATIOS) * 2


def test_a_sweep_that_ends_without_a_result_is_a_programming_mistake(swept):
    with pytest.raises(RuntimeError, match="without a result"):
        last(iter(swept[:-1]))


def bridged(index, request, **values):
    return SimpleNamespace(index=index, values=values, request=replace(request, **values))


def test_the_papers_cell_is_the_one_that_is_bridged_as_the_paper_does_it(request_small):
    cells = [bridged(index, request_small, mixing_ratio=ratio) for index, ratio in enumerate(RATIOS)]
    assert paper_cell(request_small, cells) == 3
    assert paper_cell(request_small, cells[:3]) is None
    other = replace(request_small, frame_prior="mean", mixing_ratio=1.0)
    assert paper_cell(other, [bridged(0, other, mixing_ratio=1.0)]) is None
    # Not what a cell is called decides, but all of its bridge.
    assert paper_cell(other, [bridged(5, other, frame_prior="image")]) == 5
    # Where the bridge is not compared, no clip stands out for it.
    assert paper_cell(request_small, [bridged(0, request_small, seed=2)]) is None


def test_of_several_cells_of_the_papers_the_one_with_the_requests_own_settings_is_it(request_small):
    cells = [bridged(seed, request_small, seed=seed, mixing_ratio=1.0) for seed in (0, 1, 2)]
    assert paper_cell(replace(request_small, seed=1), cells) == 1
    assert paper_cell(replace(request_small, seed=7), cells) == 0


def test_cells_are_made_one_video_model_after_the_other(request_small, manager, monkeypatch):
    names = ("zeroscope", "modelscope", "zeroscope")
    plans = [sweeping._Plan(index, {}, replace(request_small, video_model=name)) for index, name in enumerate(names)]
    progress, groups = sweeping._Progress(plans), []

    def made(group, progress, *_):
        groups.append([plan.index for plan in group])
        progress.left = [plan for plan in progress.left if plan not in group]
        yield from ()

    monkeypatch.setattr(sweeping, "_with_one_video_model", made)
    assert list(sweeping._attempt(progress, 3, manager, StageCache(), None)) == []
    assert groups == [[0, 2], [1]]


def test_what_several_cells_share_is_booked_on_each_in_equal_parts_and_nothing_else_is():
    meter = SimpleNamespace(seconds={"load": 1.0, "inversion": 2.0}, evaluations={"inversion": 8})
    costs = [sweeping._Cost(), sweeping._Cost()]
    with sweeping._shared_by(costs, meter):
        meter.seconds |= {"inversion": 5.0, "smoothing": 4.0}
        meter.evaluations |= {"smoothing": 6}
    for cost in costs:
        assert cost.seconds == {"inversion": 1.5, "smoothing": 2.0}
        assert cost.evaluations == {"smoothing": 3}


# Scores


@pytest.fixture(scope="module")
def still():
    """A scene in which nothing moves, `(4, 48, 48, 3)`."""
    scene = replace(world.sample_scene(3), motion="still")
    return world.render(scene, 48, 48, 4).frames


def flickered(frames, by=12):
    signs = np.array([1, -1, 1, -1]).reshape(-1, 1, 1, 1)
    return np.clip(frames.astype(int) + by * signs, 0, 255).astype(np.uint8)


def blurred(frames):
    return np.stack([cv2.GaussianBlur(frame, (0, 0), 2) for frame in frames])


def test_scores_point_the_right_way(still, manager):
    masks = np.zeros(still.shape[:3], np.uint8)
    masks[:, :24] = 255
    request = default_request("control", "toybox", still, "", controls=(Control(),))
    maps = np.stack([np.repeat(cv2.Canny(frame, 40, 100)[..., None], 3, 2) for frame in still])
    score = Scorer(replace(request, masks=masks), (maps,), manager, still)
    noise = np.random.default_rng(0).integers(0, 256, still.shape, np.uint8)
    same, unsteady, soft, other = (score(clip, still) for clip in (still, flickered(still), blurred(still), noise))
    assert set(same) <= set(TITLES)
    assert same["background_flicker"] == 0 < unsteady["background_flicker"] < other["background_flicker"]
    assert same["warp_error"] < unsteady["warp_error"] < other["warp_error"]
    assert soft["sharpness"] < 0.5 < same["sharpness"] == 1
    assert same["framewise_psnr"] == same["psnr"] == same["known_psnr"] == 100
    assert other["framewise_psnr"] < unsteady["framewise_psnr"] < 30
    assert other["framewise_ssim"] < soft["framewise_ssim"] < same["framewise_ssim"] == pytest.approx(1)
    assert other["known_psnr"] < 15
    assert other["control_agreement"] < 0.5 < same["control_agreement"]
    without_truth = Scorer(request, (maps,), manager)(flickered(still), still)
    assert without_truth["background_flicker"] == unsteady["background_flicker"]  # the source stands still, too
    assert without_truth["temporal_flicker"] == unsteady["temporal_flicker"] > 0
    assert "background_flicker" not in Scorer(replace(request, masks=masks), (maps,), manager)(still, still)


def test_a_clip_is_held_against_the_motion_of_the_source_and_the_looks_of_its_frames(source_frames, manager):
    """Source, frames and clip are three different ones, as in every real run."""
    framewise, clip = np.ascontiguousarray(source_frames[:, :, ::-1]), 255 - source_frames
    scores = Scorer(default_request("smooth", "toybox", source_frames, ""), (), manager)(clip, framewise)
    assert scores["warp_error"] == metrics.warp_error(clip, source_frames) != metrics.warp_error(clip, framewise)
    assert scores["background_flicker"] == pytest.approx(metrics.background_flicker(clip, source_frames), nan_ok=True)
    assert scores["framewise_psnr"] == metrics.psnr(clip, framewise)
    assert scores["framewise_ssim"] == metrics.ssim(clip, framewise)
    assert scores["sharpness"] == metrics.relative_sharpness(clip, framewise)


def test_a_control_that_cannot_be_drawn_anew_has_no_agreement(still, manager):
    request = default_request("control", "toybox", still, "")
    given = replace(request, controls=(Control(control_type="segmentation", frames=still),))
    assert math.isnan(Scorer(given, (still,), manager)(still, still)["control_agreement"])


def test_maps_agree_as_far_as_their_lines_meet():
    lines = np.zeros((2, 32, 32, 3), np.uint8)
    lines[:, :, 16] = 255
    assert map_agreement(lines, lines) == pytest.approx(1)
    assert 0.5 < map_agreement(lines, np.roll(lines, 1, 2)) < 1
    assert map_agreement(lines, np.roll(lines, 12, 2)) < 0.1
    assert map_agreement(lines, 255 - lines) == pytest.approx(-1)
    assert map_agreement(np.zeros_like(lines), lines) == 0  # all lines are lost
    half = np.where(np.arange(2)[:, None, None, None] == 0, lines, 0).astype(np.uint8)
    assert map_agreement(half, lines) == pytest.approx(0.5)
    assert math.isnan(map_agreement(lines, np.zeros_like(lines)))  # nothing was to be kept


def row(warp, sharp=1.0, similar=0.9):
    return {"warp_error": warp, "sharpness": sharp, "framewise_ssim": similar, "temporal_flicker": warp}


def test_the_steadiest_clip_that_keeps_the_frames_is_recommended():
    too_soft, too_far = 1 - MOST_SHARPNESS_LOST - 0.01, 0.9 - MOST_SSIM_LOST - 0.01
    rows = [row(2.0), row(1.0), row(0.5, sharp=too_soft), row(0.4, similar=too_far)]
    assert recommend(rows) == (1, True)
    assert "SSIM" in RULE
    assert "5%" in RULE
    assert recommend(rows, sharpness_lost=MOST_SHARPNESS_LOST + 0.02) == (2, True)
    assert recommend(rows, ssim_lost=MOST_SSIM_LOST + 0.02) == (3, True)
    assert recommend([row(2.0), row(0.4, similar=too_far)]) == (0, True)


def test_flicker_at_rest_decides_where_all_clips_have_it():
    rows = [{**row(1.0), "excess_flicker": 0.5}, {**row(0.5), "excess_flicker": 2.0}]
    assert recommend(rows) == (0, True)
    assert recommend([rows[0], {**rows[1], "excess_flicker": math.nan}]) == (1, True)


def test_the_recommendation_is_one_plain_sentence(request_of):
    requests = [request_of(mixing_ratio=ratio) for ratio in (0.0, 0.5)]
    rows = [{**row(2.0), "excess_flicker": 3.0}, {**row(1.0, sharp=0.985), "excess_flicker": 1.0}]
    frames = [{"excess_flicker": 4.0}] * 2
    names = ["ratio 0", "ratio 0.5"]
    assert recommendation(requests, rows, frames, names) == Recommendation(
        1, "Recommended: ratio 0.5. It has 75% less flicker at rest than frame by frame and keeps 98% of the sharpness."
    )
    sharp = [rows[0], {**rows[1], "sharpness": 1.06}]
    assert recommendation(requests, sharp, frames, names).why == (
        "Recommended: ratio 0.5. It has 75% less flicker at rest than frame by frame and is no less sharp."
    )
    unmeasured = [{**each, "excess_flicker": math.nan} for each in rows]
    assert recommendation(requests, unmeasured, frames, names).why == (
        "Recommended: ratio 0.5. It has the least warp error of those that keep the frames and keeps 98% of the "
        "sharpness."
    )
    apart = [{**rows[0], "sharpness": 0.5}, {**rows[1], "framewise_ssim": 0.1}]
    assert "most like them" in recommendation(requests, apart, frames, names).why


def test_a_clip_that_loses_just_as_much_as_the_rule_lets_go_keeps_the_frames():
    rows = [row(2.0, 1.0, 1.0), row(1.0, 1.0 - MOST_SHARPNESS_LOST, 1.0 - MOST_SSIM_LOST)]
    assert recommend(rows) == (1, True)


def test_the_rule_names_a_clip_whatever_the_scores():
    apart = recommend([row(1.0, sharp=0.5, similar=0.9), row(0.1, sharp=1.0, similar=0.5)])
    assert apart == (0, False)
    unknown = [{**row(math.nan), "temporal_flicker": flicker} for flicker in (3.0, 1.0)]
    assert recommend(unknown) == (1, True)
    assert recommend([row(math.nan, math.nan, math.nan)]) == (0, True)


# Its benchmark


def test_bench_times_a_comparison_beside_a_run(settings, peaks):
    steps = {"num_inference_steps": 1, "num_inversion_steps": 1, "num_smoothing_steps": 1}
    told = bench_sweep("smooth", "toybox", 3, 1, settings, Load(size=64, num_frames=2), **steps)
    assert told["ratios"] == [0, 0.5, 1]
    assert 0 < told["smoothing_seconds"] < told["single_seconds"]
    assert told["sweep_bound_seconds"] == pytest.approx(told["single_seconds"] + 2 * told["smoothing_seconds"])
    assert told["warm_sweep_bound_seconds"] == pytest.approx(3 * told["smoothing_seconds"])
    assert min(told["sweep_seconds"], told["warm_sweep_seconds"]) > 0
    # What is told rises: the run came before the comparison, and the warm comparison, after it, is not counted.
    assert 0 < told["single_peak_bytes"] < told["sweep_peak_bytes"] < peaks[-1]
    with pytest.raises(InputError, match="2 ratios or more"):
        bench_sweep("smooth", "toybox", 1, 1, settings)


# What a comparison takes


def work_of(result):
    """Evaluations of a whole comparison by stage, those in which nothing ran left out."""
    return {stage: count for stage, count in spent(result.cells).items() if count}


def at_a_second_for_each_evaluation(request, _manager, inversions=None):
    seconds = Counter()
    for walk in walks_of(request, inversions):
        seconds[walk.stage] += walk.evaluations
    return dict(seconds)


TWO_AND_FIVE = {"num_inversion_steps": 5, "num_smoothing_steps": 5}  # at level 0.4 two of the five are walked
SHARED = [
    # Three inversions, each once: with the image model, with the video model frame by frame, and with the whole clip.
    ({"mixing_ratio": 0.5}, {"frame_prior": ["image", "video", "mean"]}, 1, 3 * STAGE, 3 * STAGE),
    # Capped at ratio 1 needs the clip's own noise beside the frames'.
    ({"mixing_ratio": 1.0}, {"mixing_rule": ["linear", "capped"]}, 1, 2 * STAGE, 2 * STAGE),
    # At the ends one of two inversions has no weight; the mean has but one.
    ({}, {"mixing_ratio": [0.0, 1.0], "frame_prior": ["image", "mean"]}, 1, 2 * STAGE, 4 * STAGE),
    # Other levels are inverted and smoothed anew, of the same frames.
    ({"mixing_ratio": 0.5, **TWO_AND_FIVE}, {"start_level": [0.4, 1.0]}, 1, 2 * FRAMES * (2 + 5), FRAMES * (2 + 5)),
    ({"mixing_ratio": 0.5}, {"frame_attention": ["none", "first"]}, 2, 4 * STAGE, 2 * STAGE),
    ({"mixing_ratio": 0.5}, {"seed": [1, 2], "frame_prior": ["video", "mean"]}, 2, 4 * STAGE, 4 * STAGE),
    ({"mixing_ratio": 1.0}, {"smoothing_guidance_scale": [1.0, 2.0]}, 1, STAGE, 3 * STAGE),
]  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "axes", "framewise", "inverted", "smoothed"), SHARED, ids=["-".join(axes) for _, axes, *_ in SHARED]
)
def test_nothing_is_made_twice_and_just_that_is_expected(
    request_small, manager, monkeypatch, changes, axes, framewise, inverted, smoothed
):
    request = replace(request_small, **changes)
    result = last(sweep(request, axes, manager))
    assert work_of(result) == {"framewise": framewise * STAGE, "inversion": inverted, "smoothing": smoothed}
    monkeypatch.setattr(planning, "stage_seconds", at_a_second_for_each_evaluation)
    assert expected_of_all(request, axes, manager).stage_seconds == work_of(result)
