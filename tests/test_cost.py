"""The one count of work: what is planned is what is measured."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from bivdiff.bridge.pipeline import last, run
from bivdiff.catalog.image_models import IMAGE_MODELS
from bivdiff.catalog.requests import blank_request, default_request
from bivdiff.catalog.tasks import TASKS
from bivdiff.models.cost import evaluations_of, is_previewed, walks_of
from bivdiff.models.estimate import SLACK, activation_bytes, operations
from bivdiff.models.loaders import KINDS
from bivdiff.models.manager import ModelManager
from bivdiff.types import FRAME_PRIORS, MIXING_RULES, Control

EVERY_IMAGE_MODEL = [(name, model) for name, task in TASKS.items() for model in task.image_models]


@pytest.mark.parametrize(("task", "image_model"), EVERY_IMAGE_MODEL)
@pytest.mark.parametrize("guidance", [1.0, 4.0])
def test_what_is_planned_is_what_is_evaluated(task_request, manager, task, image_model, guidance):
    for ratio in (0.0, 0.5, 1.0):
        request = task_request(
            task, image_model, mixing_ratio=ratio, guidance_scale=guidance, inversion_guidance_scale=guidance,
            smoothing_guidance_scale=guidance, num_inference_steps=3, num_smoothing_steps=1,
        )  # fmt: skip
        assert last(run(request, manager)).evaluations == evaluations_of(request)


@pytest.mark.parametrize(("task", "image_model"), [way for way in EVERY_IMAGE_MODEL if "pipeline" not in way[1]])
def test_a_default_run_of_the_toybox_evaluates_at_most_half_of_what_it_once_did(task, image_model):
    each = sum(evaluations_of(blank_request(task, "toybox", image_model)).values())  # of its one frame
    assert 8 * each <= 320


@pytest.mark.parametrize("rule", MIXING_RULES)
@pytest.mark.parametrize("prior", FRAME_PRIORS)
def test_what_is_planned_of_every_bridge_is_what_is_evaluated(task_request, manager, source_frames, prior, rule):
    few = {"num_inversion_steps": 5, "num_smoothing_steps": 3, "smoothing_guidance_scale": 1.0}
    for ratio, start_level in product((0.0, 0.5, 1.0), (1.0, 0.4)):
        request = task_request(
            "smooth", "given", frames=np.ascontiguousarray(source_frames[:2, :16, :16]), mixing_ratio=ratio,
            mixing_rule=rule, frame_prior=prior, start_level=start_level, **few,
        )  # fmt: skip
        inversions = (ratio > 0 and prior != "mean") + (ratio < 1 or prior == "mean" or rule == "capped")
        inverted, smoothed = {1.0: (5, 3), 0.4: (2, 1)}[start_level]
        expected = {"inversion": 2 * inverted * inversions, "smoothing": 2 * smoothed}
        assert last(run(request, manager)).evaluations == evaluations_of(request) == expected


@pytest.mark.parametrize(("task", "image_model"), EVERY_IMAGE_MODEL)
def test_what_is_planned_of_partly_guided_steps_is_what_is_evaluated(task_request, manager, task, image_model):
    request = task_request(task, image_model, guided_share=0.4, num_inference_steps=5, guidance_scale=4.0)
    planned = evaluations_of(request)
    assert last(run(request, manager)).evaluations == planned
    guided = {"controlnet": 2, "t2i-adapter": 2, "inpainting": 2, "instruct-pix2pix": 3}.get(image_model)
    if guided:
        assert planned["framewise"] == len(request.frames) * (2 * guided + 3)


@pytest.mark.parametrize(
    "changes",
    [
        {"cross_replace_steps": 0.0, "self_replace_steps": 0.0},
        {"cross_replace_steps": 0.5, "self_replace_steps": 0.25},
        {"cross_replace_steps": 0.0, "self_replace_steps": 0.0, "reweight": "blue:2"},
        {"prompt": "A red cube  on a green floor at noon"},
        {"prompt": "a red cube on a green floor at noon", "reweight": "red:2"},
    ],
    ids=["never", "for half of the steps", "for a word's weight", "no edit", "a weight alone"],
)
def test_prompt2prompt_counts_the_source_as_long_as_it_is_looked_at(task_request, manager, changes):
    request = task_request("edit", "prompt2prompt", **{"num_inference_steps": 4, **changes})
    assert last(run(request, manager)).evaluations == evaluations_of(request)


def test_frames_that_several_windows_show_count_as_often_as_they_are_shown(task_request, manager):
    request = task_request("smooth", "given", window=2, mixing_ratio=0.5)
    result = last(run(request, manager))
    assert result.evaluations == evaluations_of(request) == {"inversion": 2 * (4 + 6), "smoothing": 2 * 6}


def test_a_share_of_the_steps_is_a_share_of_the_work_where_steps_cost_alike_and_not_elsewhere(task_request):
    (alike, *_), (uneven, *_) = (
        walks_of(
            task_request(
                task, model, num_inference_steps=4, guidance_scale=4.0, cross_replace_steps=0.4, self_replace_steps=0.0
            )
        )
        for task, model in (("control", "controlnet"), ("edit", "prompt2prompt"))
    )
    assert [alike.evaluations_after(share) for share in (0, 0.5, 1)] == [0, alike.evaluations / 2, alike.evaluations]
    # Four steps invert at one pass each, two go beside the source at three, and two without it at two.
    assert [uneven.evaluations_after(share) / 4 for share in (0, 0.5, 0.75, 1)] == [0, 4, 10, 14]


@pytest.mark.parametrize(("image_model", "kind"), [("controlnet", "controlnet"), ("t2i-adapter", "t2i_adapter")])
def test_the_networks_of_every_control_take_memory(settings, image_model, kind):
    """Of a clip so short that making the frames is what takes the most."""
    manager = ModelManager(replace(settings, dtype="float16"))
    frames = np.zeros((4, 512, 512, 3), np.uint8)
    controls = [Control(control_type=control_type) for control_type in ("canny", "depth")]
    for count in (1, 2):
        request = default_request(
            "control", "sd15", frames, "", image_model=image_model, controls=tuple(controls[:count]),
            smoothing_guidance_scale=1.0, frame_batch_size=8,
        )  # fmt: skip
        pictures = 4 * 2  # with guidance
        each = KINDS["unet"].footprint.activations + count * KINDS[kind].footprint.activations
        manager.slices = True
        assert activation_bytes(request, manager) == int(SLACK * pictures * each)


def test_the_operations_of_every_stage_are_told_apart(task_request):
    request = task_request("control", "controlnet", mixing_ratio=0.5)
    work = operations(request)
    assert list(work) == ["framewise", "inversion", "smoothing"]
    without = operations(replace(request, image_model="given", task="smooth", controls=()))
    assert without == {stage: work[stage] for stage in ("inversion", "smoothing")}


def test_every_image_model_plans_no_less_than_one_evaluation_of_each_frame(task_request):
    for task, image_model in EVERY_IMAGE_MODEL:
        request = task_request(task, image_model)
        planned = evaluations_of(request).get("framewise", 0)
        assert planned >= len(request.frames) * 2 * IMAGE_MODELS[image_model].makes_frames


@pytest.mark.parametrize(
    ("total", "shown"), [(1, []), (2, [1]), (4, [1, 2, 3]), (10, [2, 4, 6, 8]), (50, [12, 24, 36, 48])]
)
def test_a_stage_has_a_few_previews_and_none_at_its_end(total, shown):
    assert [step for step in range(1, total + 1) if is_previewed(step, total)] == shown
    assert not any(is_previewed(step, total, previews=0) for step in range(1, total + 1))
