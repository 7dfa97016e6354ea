"""On a CUDA card: what the other tests show on a CPU with budgets that are made up holds there too."""

from __future__ import annotations

import gc
from dataclasses import replace

import numpy as np
import pytest
import torch
from paper import PAPER_BRIDGE, TWO_STEPS

from bivdiff.bridge.pipeline import last, run
from bivdiff.catalog.families import family_named
from bivdiff.catalog.requests import default_request
from bivdiff.models.device import free_memory
from bivdiff.models.manager import ModelManager

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA card")]
MEGA = 10**6


@pytest.fixture
def on_card(settings):
    """Makes a manager on the card."""

    def make(**changes):
        return ModelManager(replace(settings, **{"device": "cuda", "dtype": "float32", **changes}))

    yield make
    gc.collect()
    free_memory(torch.device("cuda"))


def _request(frames, **changes):
    changes = {**PAPER_BRIDGE, **TWO_STEPS, "mixing_ratio": 0.5, **changes}
    return default_request("control", "toybox", frames, "a red cube", seed=1, **changes)


def _allocated():
    gc.collect()
    return torch.cuda.memory_allocated()


def _apart(first, second):
    return np.abs(first.astype(int) - second).mean()


@pytest.mark.parametrize("policy", ["none", "model", "group"])
def test_the_card_makes_what_the_processor_makes(on_card, settings, source_frames, policy):
    on_processor = last(run(_request(source_frames), ModelManager(settings))).frames
    manager = on_card(offload=policy)
    first, second = (last(run(_request(source_frames), manager)).frames for _ in range(2))
    assert np.array_equal(first, second)
    assert _apart(first, on_processor) < 1.5


def test_it_chooses_what_suits_a_card(settings):
    manager = ModelManager(replace(settings, device="auto"))
    assert (manager.device.type, manager.policy) == ("cuda", "model")
    assert manager.dtype in {torch.bfloat16, torch.float16}


def test_a_small_budget_swaps_and_keeps_to_it(on_card, source_frames):
    roomy, tight = on_card(offload="model"), on_card(offload="model", device_memory="90MB")
    wanted = last(run(_request(source_frames), roomy)).frames
    roomy.unload()
    assert np.array_equal(last(run(_request(source_frames), tight)).frames, wanted)
    assert 0 < len(tight.readout().resident) < 4


@pytest.mark.parametrize("policy", ["none", "model", "group"])
def test_unloading_gives_back_the_card_and_pinned_memory(on_card, source_frames, policy):
    manager = on_card(offload=policy)
    before = _allocated()
    last(run(_request(source_frames), manager))
    manager.unload()
    assert _allocated() - before < MEGA
    assert torch.cuda.host_memory_stats()["allocated_bytes.current"] < 70 * MEGA  # what torch keeps small blocks in


def test_cancelling_gives_back_what_the_run_took(on_card, source_frames):
    manager = on_card(offload="model")
    last(run(_request(source_frames), manager))
    before = _allocated()
    for stage in ("framewise", "inversion", "smoothing"):
        events = run(_request(source_frames), manager)
        next(event for event in events if getattr(event, "stage", "") == stage)
        events.close()
        del events
        assert _allocated() - before < MEGA
        assert manager.held() == []


def test_later_runs_take_no_more_memory_than_the_second(on_card, source_frames):
    """The first brings the models one by one, and the others find them all there."""
    manager = on_card(offload="model")
    peaks = [last(run(_request(source_frames), manager)).peak_memory_bytes for _ in range(4)]
    assert max(peaks[2:]) <= peaks[1] <= peaks[0] * 1.2


def test_a_card_that_others_fill_is_met_with_a_leaner_policy(on_card, source_frames):
    """What was free when the manager asked is taken when the run begins; what is left holds its models one by one."""
    wanted = last(run(_request(source_frames), on_card(offload="model"))).frames
    manager = on_card(offload="none")
    gc.collect()
    free_memory(torch.device("cuda"))
    others = torch.empty(torch.cuda.mem_get_info()[0] - 115 * MEGA, dtype=torch.uint8, device="cuda")
    *events, result = run(_request(source_frames), manager)
    del others
    assert any("leaner offload policy" in event.note for event in events)
    assert np.array_equal(result.frames, wanted)
    assert manager.policy == "none"


def test_many_swaps_leak_nothing(on_card):
    manager = on_card(offload="model", device_memory="60MB")
    family = family_named("toybox")
    specs = [family.unet, family.vae, family.text_encoder]

    def turn():
        for spec in specs:
            with manager.use(spec):
                pass

    turn()
    before, pinned = _allocated(), torch.cuda.host_memory_stats()["allocated_bytes.current"]
    for _ in range(100):
        turn()
    assert _allocated() == before
    assert torch.cuda.host_memory_stats()["allocated_bytes.current"] == pinned


@pytest.mark.parametrize("own", [{"dtype": "float16"}, {"dtype": "bfloat16"}, {"dtype": "bfloat16", "fp8": True}])
def test_fewer_digits_stay_near(on_card, source_frames, own):
    wanted = last(run(_request(source_frames), on_card(offload="model"))).frames
    assert _apart(last(run(_request(source_frames), on_card(offload="model", **own))).frames, wanted) < 12
