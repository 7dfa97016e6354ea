"""The stand-in for the pipeline keeps the pipeline's contract: the same events, and a result with the same parts."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
from fake_run import FakeRun
from small_pipelines import save_pipelines

from bivdiff.bridge.pipeline import run
from bivdiff.bridge.reuse import StageCache
from bivdiff.catalog.image_models import IMAGE_MODELS
from bivdiff.types import Control, GenerationResult, StepEvent

STEPS = {"num_inference_steps": 4, "num_inversion_steps": 3, "num_smoothing_steps": 5}
BOTH = Control(control_type="canny"), Control(control_type="depth")
CHANGES = {
    "controlnet": {"controls": BOTH, "mixing_ratio": 0.5},
    "t2i-adapter": {"mixing_ratio": 1.0},
    "instruct-pix2pix": {"mixing_ratio": 0.0},
    "edit-pipeline": {"mixing_ratio": 1.0},
    "fill-pipeline": {"mixing_ratio": 0.5, "frame_prior": "video", "pipeline_strength": 1.0},
}
"""What is asked of some of the image models, so that between them every inversion is walked, and none."""


def said(event: StepEvent) -> tuple[object, ...]:
    return (event.stage, event.step, event.total, event.message, event.preview is not None, event.note)


def parts(result: GenerationResult) -> dict[str, object]:
    """What is there of a result, without what it shows and what it took."""
    values = {item.name: getattr(result, item.name) for item in fields(result)}
    arrays = {name: value for name, value in values.items() if isinstance(value, np.ndarray)}
    return {
        **{name: (value.shape, value.dtype) for name, value in arrays.items()},
        "maps": [(each.shape, each.dtype) for each in result.control_frames], "seed": result.seed,
        "stages": set(result.seconds), "evaluated": set(result.evaluations),
    }  # fmt: skip


@pytest.fixture
def both(manager):
    """Runs a request through the pipeline and its stand-in, each of which remembers what it ran before."""
    fake, cache = FakeRun(), StageCache()

    def turn(request):
        return [list(run(request, manager, cache)), list(fake(request))]

    return turn


@pytest.fixture(scope="module")
def pipelines(tmp_path_factory, manager):
    return save_pipelines(tmp_path_factory.mktemp("pipelines"), manager)


@pytest.mark.parametrize("image_model", IMAGE_MODELS)
def test_the_same_events_and_a_result_of_the_same_parts(both, task_request, pipelines, image_model):
    changes = {"mixing_ratio": 0.25, **pipelines.get(image_model, {}), **CHANGES.get(image_model, {})}
    request = task_request(IMAGE_MODELS[image_model].tasks[0], image_model, **STEPS, **changes)
    (*real, result), (*faked, fake_result) = both(request)
    assert list(map(said, faked)) == list(map(said, real))
    assert parts(fake_result) == parts(result)


def test_frames_that_were_made_before_are_there_already(both, task_request):
    request = task_request("control", "controlnet", **STEPS, mixing_ratio=0.0)
    both(request)
    (*real, result), (*faked, fake_result) = both(replace(request, mixing_ratio=1.0))
    assert list(map(said, faked)) == list(map(said, real))
    assert parts(fake_result) == parts(result)


def test_inversions_that_were_made_before_are_there_already(both, task_request):
    request = task_request("control", "controlnet", **STEPS, mixing_ratio=0.5)
    both(request)
    (*real, _), (*faked, _) = both(replace(request, mixing_ratio=0.75))
    assert list(map(said, faked)) == list(map(said, real))
