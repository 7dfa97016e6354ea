"""The cases of every task, held against the world that knows the answer; what an evaluation reports; the scripts on it.

The models here are random and take one step: only what is measured, and against what, is tested, not how good it is.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from scripts import script

from bivdiff.catalog.families import FAMILIES, family_named
from bivdiff.catalog.image_models import IMAGE_MODELS
from bivdiff.catalog.tasks import TASKS
from bivdiff.errors import InputError
from bivdiff.evaluate import bench, evaluation
from bivdiff.evaluate.evaluation import EDITS, Case, case_of, evaluate
from bivdiff.pixels import metrics
from bivdiff.toybox import world
from bivdiff.types import Control, GenerationResult

SIZE = (128, 128)
MIXED = 8  # levels: where a shadow begins, more samples are taken of the floor's own edges too
ONE_STEP = {"num_inference_steps": 1, "num_inversion_steps": 1, "num_smoothing_steps": 1}
WAYS = [(task, image_model) for task, known in TASKS.items() for image_model in known.image_models]
FILL = ("known_psnr", "fill_psnr", "seam")
OWN_SCORES = {
    "controlnet": (),
    "t2i-adapter": (),
    "instruct-pix2pix": ("unedited_psnr",),
    "prompt2prompt": ("unedited_psnr", "reconstruction_psnr"),
    "given": (),
}


@cache
def case(task: str, index: int) -> Case:
    return case_of(task, index, "toybox")


@cache
def rendered(scene: world.Scene) -> world.Rendering:
    return world.render(scene, *SIZE)


def scene_of(index: int) -> world.Scene:
    return world.evaluation_scene(index)


def inside(masks: np.ndarray) -> np.ndarray:
    return masks[..., None] > 0


@pytest.mark.parametrize("task", TASKS)
def test_every_task_has_cases_whose_parts_fit(task):
    for index in (2, 3):
        made = case(task, index)
        clip = made.request.frames.shape
        assert made.request.task == task
        assert made.request.seed == index
        assert made.truth.shape == made.background.shape == clip == (8, 128, 128, 3)
        for masks in (made.masks, *([] if made.colored is None else [made.colored])):
            assert masks.shape[1:] == clip[:3]
            assert set(np.unique(masks)) <= {0, 255}


@pytest.mark.parametrize("task", TASKS)
def test_cases_repeat_and_differ_from_scene_to_scene(task):
    one, again, other = case(task, 3), case_of(task, 3, "toybox"), case(task, 2)
    for name in ("truth", "masks", "background"):
        assert np.array_equal(getattr(one, name), getattr(again, name))
    assert np.array_equal(one.request.frames, again.request.frames)
    assert one.request.settings() == again.request.settings()
    assert not np.array_equal(one.request.frames, other.request.frames)


def test_changes_reach_the_request_and_none_changes_nothing():
    made = case_of(
        "inpaint", 2, "toybox", seed=9, mixing_ratio=0.25, masks=None, source_prompt=None, guidance_scale=None
    )
    assert (made.request.seed, made.request.mixing_ratio) == (9, 0.25)
    assert np.array_equal(made.request.masks, case("inpaint", 2).request.masks)
    edited = case_of("edit", 3, "toybox", source_prompt=None, image_model="prompt2prompt")
    assert edited.request.source_prompt == scene_of(3).caption


def test_control_takes_any_controls():
    controls = (Control(control_type="depth", conditioning_scale=0.5), Control(control_type="canny"))
    made = case_of("control", 2, "toybox", controls=controls, image_model="t2i-adapter")
    assert made.request.controls == controls
    assert made.request.image_model == "t2i-adapter"
    wanted = world.recolored(scene_of(2), 2)
    assert made.request.prompt == wanted.caption
    assert np.array_equal(made.truth, rendered(wanted).frames)


def test_unknown_tasks_and_no_clips_are_refused(manager):
    with pytest.raises(InputError, match="Unknown task 'paint'"):
        evaluate("paint", "toybox", 1, 0, manager, print)
    with pytest.raises(InputError, match="at least 1 clip"):
        evaluate("control", "toybox", 0, 0, manager, print)


def test_edits_take_turns():
    instructions = [evaluation.instruction_of(scene_of(index), index) for index in range(24)]
    kinds = Counter(next(start for start in EDITS if text.startswith(start)) for text in instructions)
    assert kinds == dict.fromkeys(EDITS, 6)
    assert not any(text.startswith("remove") for text in instructions)
    for index, instruction in enumerate(instructions):
        assert world.edit(scene_of(index), instruction) != scene_of(index)


@pytest.mark.parametrize("index", [0, 1, 2, 3, 6, 7])
def test_the_truth_of_an_edit_is_the_scene_that_the_instruction_asks_for(index):
    made, before = case("edit", index), scene_of(index)
    after = world.edit(before, made.request.prompt)
    assert np.array_equal(made.truth, rendered(after).frames)
    assert np.array_equal(made.request.frames, rendered(before).frames)
    assert made.request.source_prompt == before.caption
    changed = [number for number, pair in enumerate(zip(before.solids, after.solids, strict=True)) if len({*pair}) > 1]
    assert len(changed) == (index % 4 > 1)  # floor and time come first
    if not changed:
        assert made.touched is None
        assert np.array_equal(made.masks, rendered(after).masks)
        return
    number = changed[0]
    assert made.masks.shape[0] == 1
    assert np.array_equal(made.masks[0], rendered(after).masks[number])
    assert (made.touched[rendered(before).masks[number] > 0] == 255).all()
    assert (made.touched[made.masks[0] > 0] == 255).all()
    if index % 4 == 3:  # of a colour: nothing else changes but the mixed pixels of the edge
        differs = (made.truth != made.request.frames).any(-1)
        assert differs[made.touched > 0].mean() > 0.9
        assert (differs & (made.touched == 0)).mean() < 0.01


def test_a_new_floor_is_what_the_color_error_of_its_edit_looks_at():
    made = case("edit", 0)
    assert made.request.prompt.startswith("make the floor")
    assert made.colored.shape == (1, *made.truth.shape[:3])
    assert not (made.colored[0] & made.masks.max(0)).any()
    assert made.colored[0, :, -1].all()  # the nearest floor
    assert not made.colored[0, :, 0].any()  # the sky
    unchanged = metrics.score_clip(made.request.frames, made.truth, made.masks, made.background, colored=made.colored)
    assert unchanged["color_error"] > 5
    assert case("edit", 1).colored is None


def test_prompt2prompt_gets_two_prompts():
    made = case_of("edit", 2, "toybox", image_model="prompt2prompt")
    instruction = case("edit", 2).request.prompt
    assert made.request.source_prompt == scene_of(2).caption
    assert made.request.prompt == world.edit(scene_of(2), instruction).caption
    assert np.array_equal(made.truth, case("edit", 2).truth)


@pytest.mark.parametrize("index", range(4))
def test_inpainting_keeps_the_source_outside_generous_masks(index):
    made, source = case("inpaint", index), rendered(scene_of(index))
    masks = made.request.masks
    assert np.array_equal(made.request.frames, source.frames)
    assert np.array_equal(made.erased, source.masks[0])
    assert (masks[made.erased > 0] == 255).all()
    assert made.erased.sum() < masks.sum() < 3 * made.erased.sum()
    assert np.array_equal(np.where(inside(masks), 0, made.truth), np.where(inside(masks), 0, source.frames))
    # The world's own picture differs there by nothing but the object's shadow, which the masks leave out.
    alone = rendered(world.without(scene_of(index))).frames
    brighter = (made.truth.astype(int) - alone)[masks == 0]
    assert brighter.max() <= MIXED
    assert (brighter > 1).mean() < 0.01


@pytest.mark.parametrize("index", [0, 2, 6])
def test_even_scenes_lose_their_moving_object(index):
    made, scene = case("inpaint", index), scene_of(index)
    after = replace(scene, solids=scene.solids[1:], motion="still")
    assert made.request.prompt == after.caption
    shown = inside(made.request.masks)
    assert np.array_equal(np.where(shown, made.truth, 0), np.where(shown, rendered(after).frames, 0))
    assert np.array_equal(made.truth, made.background)
    assert len(made.masks) == 0


@pytest.mark.parametrize("index", [1, 3, 5])
def test_odd_scenes_get_another_object_that_fits_the_masks(index):
    made, scene = case("inpaint", index), scene_of(index)
    assert made.request.prompt != scene.caption
    assert scene.solids[0].color not in made.request.prompt.split(" on a ")[0].split()[1]
    assert len(made.masks) == 1
    assert made.masks.any()
    assert not (made.masks[0] > made.request.masks).any()
    assert metrics.color_error(made.request.frames, made.truth, made.masks[0]) > 5


@pytest.mark.parametrize("index", range(6))
def test_outpainting_shows_the_true_scene_and_cuts_its_sides(index):
    made = case("outpaint", index)
    masks = made.request.masks
    assert np.array_equal(made.truth, rendered(scene_of(index)).frames)
    assert np.array_equal(np.where(inside(masks), 0, made.request.frames), np.where(inside(masks), 0, made.truth))
    assert made.request.prompt == scene_of(index).caption
    hidden = masks[0, 0] > 0
    assert (masks == masks[0, 0]).all()  # whole columns, in every frame
    left, right = int((~hidden).argmax()), int((~hidden)[::-1].argmax())
    assert hidden.sum() == left + right
    assert [left > 0, right > 0] == [[True, False], [False, True], [True, True]][index % 3]
    assert all(24 <= cut <= 40 for cut in (left, right) if cut)


@pytest.mark.parametrize("index", range(4))
def test_frames_to_smooth_flicker_like_those_of_an_image_model(index):
    made = case("smooth", index)
    assert np.array_equal(made.truth, rendered(scene_of(index)).frames)
    assert 3 < metrics.background_flicker(made.request.frames, made.truth) < 6
    assert 28 < metrics.psnr(made.request.frames, made.truth) < 38
    assert 0.6 < metrics.relative_sharpness(made.request.frames, made.truth) < 1.1
    assert metrics.object_iou(made.request.frames, made.truth, made.masks[0], made.background) > 0.85
    assert made.request.prompt == scene_of(index).caption


def test_flickering_repeats_with_its_seed_and_leaves_the_clip_alone():
    clip = rendered(scene_of(0)).frames
    before = clip.copy()
    first = evaluation.flickering(clip, 4)
    assert np.array_equal(first, evaluation.flickering(clip, 4))
    assert not np.array_equal(first, evaluation.flickering(clip, 5))
    assert np.array_equal(clip, before)
    assert (first.dtype, first.shape) == (clip.dtype, clip.shape)


def answer(monkeypatch: pytest.MonkeyPatch, frames: np.ndarray) -> None:
    """Let every run answer with these frames."""

    def run(request, *_):
        yield GenerationResult(
            request=request, control_frames=(), framewise_frames=frames, frames=frames, seed=request.seed
        )

    monkeypatch.setattr(evaluation, "run", run)
    monkeypatch.setattr(evaluation, "framewise_frames", lambda request, *_: request.frames)


@pytest.mark.parametrize(("task", "image_model"), WAYS)
@pytest.mark.parametrize("index", [2, 3])
def test_a_perfect_answer_is_scored_so(task, image_model, index, monkeypatch, manager):
    made = case(task, index)
    made = made._replace(request=replace(made.request, image_model=image_model))
    answer(monkeypatch, made.truth)
    scores = evaluation.score(made, manager, evaluation.StageCache())["bridged"]
    for name in ("psnr", "object_psnr", "known_psnr", "fill_psnr", "unedited_psnr", "reconstruction_psnr"):
        assert math.isnan(scores.get(name, math.nan)) or scores[name] == metrics.PSNR_CAP
    assert scores["ssim"] == pytest.approx(1)
    assert scores["background_flicker"] <= 1
    assert scores.get("seam", 1) == 1
    if len(made.masks):
        assert scores["object_iou"] > 0.9
        assert scores["color_error"] == 0


@pytest.mark.parametrize("index", [2, 3])
def test_an_edit_that_did_nothing_is_found_out(index, monkeypatch, manager):
    made = case("edit", index)
    answer(monkeypatch, made.request.frames)
    scores = evaluation.score(made, manager, evaluation.StageCache())["bridged"]
    assert scores["unedited_psnr"] > scores["object_psnr"] + 5
    if index == 3:
        assert scores["color_error"] > 10


def test_holes_that_were_not_filled_are_found_out(monkeypatch, manager):
    made = case("inpaint", 2)
    frames = np.where(inside(made.request.masks), np.uint8(128), made.request.frames)
    answer(monkeypatch, frames)
    scores = evaluation.score(made, manager, evaluation.StageCache())["bridged"]
    assert scores["known_psnr"] == metrics.PSNR_CAP
    assert scores["fill_psnr"] < 20
    assert scores["seam"] > 5


def test_masks_are_scored_where_they_were_tracked(monkeypatch, manager):
    made = case("inpaint", 2)
    answer(monkeypatch, made.truth)
    lost = np.zeros_like(made.erased)
    lost[0] = made.erased[0]
    for carried, expected in ((made.erased, 1.0), (lost, 0.0)):
        monkeypatch.setattr(evaluation, "track", lambda _frames, first, given=carried: given + 0 * first)
        scores = evaluation.score(made, manager, evaluation.StageCache())
        assert scores["bridged"]["mask_iou"] == scores["framewise"]["mask_iou"] == expected


@pytest.fixture
def small_family(monkeypatch) -> str:
    """The toybox at a quarter of its size and half its length, which is enough for random models."""
    monkeypatch.setitem(FAMILIES, "small", replace(family_named("toybox"), size=(64, 64), num_frames=4))
    return "small"


@pytest.mark.parametrize(("task", "image_model"), WAYS)
def test_an_evaluation_reports_every_score_of_its_task(task, image_model, manager, small_family):
    told = []
    report = evaluate(task, small_family, 1, 3, manager, told.append, image_model=image_model, **ONE_STEP)
    assert set(report) == {"settings", "framewise", "bridged", "clips"}
    own = (*FILL, "mask_iou") if task == "inpaint" else FILL if task == "outpaint" else OWN_SCORES[image_model]
    for kind in ("framewise", "bridged"):
        assert set(report[kind]) == {*metrics.SCORES, *own}
        assert not [name for name, value in report[kind].items() if math.isnan(value)]
        assert report[kind] == report["clips"][0][kind]
    assert report["framewise"]["sharpness"] == 1
    assert report["settings"]["image_model"] == image_model
    assert report["settings"]["source_prompt"] is None
    assert report["clips"][0]["scene"] == 3
    assert json.loads(json.dumps(report)) == report
    assert len(told) == 1


def test_given_frames_are_their_own_baseline(manager, small_family):
    report = evaluate("smooth", small_family, 1, 2, manager, str, **ONE_STEP)
    made = case_of("smooth", 2, small_family)
    assert report["framewise"]["psnr"] == metrics.psnr(made.request.frames, made.truth)


def test_a_benchmark_times_the_first_case_of_its_task(settings, monkeypatch):
    asked, made = [], case("outpaint", 2)

    def first_case(*names, **changes):
        asked.append((names, changes))
        return made

    def run(request, _):
        asked.append(request)
        yield GenerationResult(
            request=request, control_frames=(), framewise_frames=request.frames, frames=request.frames,
            seed=request.seed, seconds={"load": 0.1, "smoothing": 0.2},
        )  # fmt: skip

    monkeypatch.setattr(bench, "case_of", first_case)
    monkeypatch.setattr(bench, "run", run)
    report = bench.bench("outpaint", "toybox", 2, settings, mixing_ratio=0.75)
    assert asked == [(("outpaint", 0, "toybox"), {"mixing_ratio": 0.75}), *[made.request] * 3]
    assert report["stages"] == {"load": 0.1, "smoothing": 0.2}
    assert report["settings"]["task"] == "outpaint"


def test_the_table_has_every_image_model_and_control():
    ways = {task: list(script("table").ways(task, "toybox")) for task in TASKS}
    family = family_named("toybox")
    for task, known in TASKS.items():
        assert {changes["image_model"] for _, changes in ways[task]} == set(known.image_models)
    assert len(ways["control"]) == len(family.networks["controlnet"]) + len(family.networks["t2i-adapter"])
    assert all(len(dict(group)) == len(group) for group in ways.values())  # every row has a label of its own


def test_every_default_that_is_tried_fits_a_request():
    defaults = script("defaults")
    image_models = {name for name, model in IMAGE_MODELS.items() if model.denoiser != "pipeline"}  # not the toybox's
    assert set(defaults.OWN) == image_models
    request = case("smooth", 2).request
    for image_model in image_models:
        for name, values in defaults.variants([], image_model).items():
            for value in values:
                assert getattr(replace(request, **{name: value}), name) == value


def test_values_to_try_are_read_with_the_type_of_their_setting():
    defaults = script("defaults")
    named = ["feather=0,4", "mixing_ratio=1", "mixing_rule=slerp,linear", "preserve_known=true,False", "guidance_scale"]
    tried = defaults.variants(named, "inpainting")
    assert tried["feather"] == (0, 4)
    assert tried["mixing_ratio"] == (1.0,)
    assert tried["mixing_rule"] == ("slerp", "linear")
    assert tried["preserve_known"] == (True, False)
    assert len(tried["guidance_scale"]) > 1
    for wrong in ("frames=1", "feather=x", "preserve_known=maybe", "prompt", "reweight"):
        with pytest.raises(ValueError, match=r"."):
            defaults.variants([wrong], "inpainting")
