"""An image model is its record and its maker: one that is added appears wherever one can be chosen, and runs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from diffusers import DDIMScheduler
from fake_run import FakeRun, fake_context
from paper import PAPER_BRIDGE, TWO_STEPS

from bivdiff.bridge.guidance import guided, unet_noise
from bivdiff.bridge.makers.framewise import MAKERS, FrameMaker
from bivdiff.bridge.pipeline import last, run
from bivdiff.bridge.sampling import Step, step_through, unfold_step
from bivdiff.catalog.components import components_of
from bivdiff.catalog.families import FAMILIES
from bivdiff.catalog.image_models import IMAGE_MODELS, OWN_UNET, ImageModel
from bivdiff.catalog.requests import default_request
from bivdiff.catalog.tasks import TASKS
from bivdiff.cli.parser import build_parser
from bivdiff.errors import InputError
from bivdiff.models.cost import evaluations_of
from bivdiff.models.estimate import activation_bytes, estimate
from bivdiff.models.inventory import inventory
from bivdiff.settings import Settings
from tabs import controls
from tabs.progress import RunProgress
from tabs.results import result_tiles

STEPS = {**PAPER_BRIDGE, **TWO_STEPS, "mixing_ratio": 0.5, "seed": 1}


def from_words(maker: FrameMaker) -> Iterator[Step]:
    """Frames of what the prompt says, and nothing of the source: by the base U-Net, or by one of its own."""
    parts, request = maker.models.parts, maker.request
    unet = (*parts.networks, parts.unet)[0]
    ddim = DDIMScheduler.from_config(parts.scheduler.config)
    predict = guided(partial(unet_noise, unet), **maker.embeds, guidance_scale=request.guidance_scale)
    for step in step_through(predict, maker.noise(), ddim, request.num_inference_steps):
        yield unfold_step(step)


@pytest.fixture(params=["base", "own"])
def added(request, monkeypatch) -> str:
    """The name of an image model that was added by its record and its maker; its network, if any, by the family."""
    monkeypatch.setitem(IMAGE_MODELS, "words", ImageModel(title="From words", tasks=("edit",), denoiser=request.param))
    monkeypatch.setitem(MAKERS, "words", from_words)
    if request.param == "own":
        toybox = FAMILIES["toybox"]
        own = replace(toybox.unet, key="toybox/words", revision="words")
        monkeypatch.setitem(FAMILIES, "toybox", replace(toybox, networks={**toybox.networks, "words": {OWN_UNET: own}}))
    return "words"


def test_an_added_image_model_can_be_chosen_everywhere(added):
    assert TASKS["edit"].image_models == ("instruct-pix2pix", "prompt2prompt", added)
    assert ("From words", added) in controls.model_choice(fake_context(FakeRun()), "edit")["image_model"].choices
    arguments = ["run", "--video", "a.mp4", "--prompt", "a cube", "--task", "edit", "--image-model", added]
    assert build_parser().parse_args(arguments).image_model == added


def test_an_added_image_model_runs_as_it_was_planned(added, source_frames, manager):
    request = default_request("edit", "toybox", source_frames, "a blue cube", image_model=added, **STEPS)
    result = last(run(request, manager))
    assert result.frames.shape == source_frames.shape
    assert result.evaluations == evaluations_of(request)
    found = estimate(request, manager)
    assert list(found.stage_seconds) == ["framewise", "inversion", "smoothing"]
    assert found.device_bytes >= activation_bytes(request, manager) > 0
    assert RunProgress(request).panel()["stages"][1]["label"] == "Frame by frame"


def test_the_network_of_an_added_image_model_is_listed_and_loaded(added, source_frames):
    request = default_request("edit", "toybox", source_frames, "", image_model=added)
    networks = components_of(request).networks
    assert len(networks) == (IMAGE_MODELS[added].denoiser == "own")
    assert set(networks) <= {entry.spec for entry in inventory(None, Settings(), "toybox")}


def test_an_added_image_model_says_what_it_misses(added, source_frames, monkeypatch):
    for needed, said in (("masks", "no mask"), ("source_prompt", "From words needs the source prompt")):
        monkeypatch.setitem(IMAGE_MODELS, added, replace(IMAGE_MODELS[added], needs=(needed,)))
        with pytest.raises(InputError, match=said):
            default_request("edit", "toybox", source_frames, "", image_model=added)


def test_a_family_without_the_network_says_so(added, source_frames):
    if IMAGE_MODELS[added].denoiser == "own":
        with pytest.raises(InputError, match="The family 'sd15' has no model for 'words'"):
            default_request("edit", "sd15", source_frames, "", image_model=added)
    else:
        request = default_request("edit", "sd15", source_frames, "", image_model=added)
        assert components_of(request).networks == ()


def test_a_request_with_models_of_ones_own_that_cannot_be_read_is_refused_before_it_waits(source_frames):
    with pytest.raises(InputError, match=r"The LoRA .style:nine:9. cannot be read"):
        default_request("smooth", "toybox", source_frames, "", loras="style:nine:9")


def test_records_tell_of_nothing_that_no_task_and_no_request_has():
    fields = set(default_request("smooth", "toybox", np.zeros((1, 8, 8, 3), np.uint8), "").__dataclass_fields__)
    for model in IMAGE_MODELS.values():
        assert set(model.tasks) <= set(TASKS)
        assert {*model.needs, *model.settings, *model.paper} <= fields
        assert set(model.needs) <= set(model.settings)


def test_a_task_says_of_itself_what_its_image_models_read():
    for task in TASKS.values():
        models = [IMAGE_MODELS[name] for name in task.every_image_model]
        assert [("masks" in model.needs) for model in models] == [bool(task.masks)] * len(models), task
        assert task.starts_from_frames == (not any(model.makes_frames for model in models)), task
        assert task.is_steered == all(model.reads_controls for model in models), task


def test_the_clips_of_a_later_versions_task_are_the_usual_ones():
    assert list(result_tiles("dance", {})) == ["framewise", "bridged", "source"]
