"""The stand-in for the pipeline keeps the pipeline's contract: the same events, and a result with the same parts."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
from fake_run import FakeRun

from bivdiff.bridge.pipeline import run
from bivdiff.bridge.reuse import StageCache
from bivdiff.types import Control, GenerationResult, StepEvent

STEPS = {"num_inference_steps": 4, "num_inversion_steps": 3, "num_smoothing_steps": 5}
BOTH = Control(control_type="canny"), Control(control_type="depth")
REQUESTS = {
    "controlnet": ("control", {"controls": BOTH, "mixing_ratio": 0.5}),
    "t2i-adapter": ("control", {"mixing_ratio": 1.0}),
    "instruct-pix2pix": ("edit", {"mixing_ratio": 0.0}),
    "prompt2prompt": ("edit", {"mixing_ratio": 0.25}),
    "inpainting": ("inpaint", {"mixing_ratio": 0.25}),
    "given": ("smooth", {"mixing_ratio": 0.25}),
}


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


@pytest.mark.parametrize("image_model", REQUESTS)
def test_the_same_events_and_a_result_of_the_same_parts(both, task_request, image_model):
    task, changes = REQUESTS[image_model]
    request = task_request(task, image_model, **STEPS, **changes)
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
