"""The request: what it accepts and what it refuses, with which sentence."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bivdiff.catalog.components import components_of
from bivdiff.catalog.families import FAMILIES
from bivdiff.catalog.requests import default_request
from bivdiff.catalog.tasks import TASKS
from bivdiff.catalog.toybox import TOYBOX
from bivdiff.errors import InputError
from bivdiff.fields import MAX_PROMPT_CHARACTERS
from bivdiff.models.loaders import KINDS
from bivdiff.types import Control


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("mixing_ratio", 1.01),
        ("mixing_ratio", -0.01),
        ("mixing_ratio", float("nan")),
        ("mixing_ratio", "0.5"),
        ("noise_sharing", 2),
        ("num_inference_steps", 0),
        ("num_inversion_steps", 2.5),
        ("num_smoothing_steps", 10**6),
        ("guidance_scale", 0.5),
        ("smoothing_guidance_scale", float("inf")),
        ("seed", -1),
        ("seed", 2**32),
        ("seed", True),
        ("mixing_rule", "cubic"),
        ("prompt", "x" * (MAX_PROMPT_CHARACTERS + 1)),
        ("prompt", "a red\x00cube"),
        ("negative_prompt", 5),
        ("high_threshold", 10),
        ("low_threshold", 0),
        ("frame_batch_size", 0),
    ],
)
def test_a_value_out_of_range_is_named(request_of, field, value):
    with pytest.raises(InputError, match=field):
        request_of(**{field: value})


def test_prompts_of_any_script_are_accepted(request_of):
    assert request_of(prompt="красный куб 赤い立方体 🟥").prompt.endswith("🟥")


@pytest.mark.parametrize(
    "frames",
    [
        np.zeros((2, 64, 64, 3), np.float32),
        np.zeros((64, 64, 3), np.uint8),
        np.zeros((2, 64, 64, 4), np.uint8),
        np.zeros((0, 64, 64, 3), np.uint8),
        np.zeros((2, 60, 64, 3), np.uint8),
    ],
)
def test_frames_that_are_no_clip_are_refused(request_of, frames):
    with pytest.raises(InputError):
        request_of(frames=frames)


def test_a_control_clip_must_match_the_source(request_of, source_frames):
    with pytest.raises(InputError, match="same length and size"):
        request_of(controls=(Control(frames=source_frames[:2]),))


def test_settings_hold_everything_but_pictures(request_of):
    settings = request_of(seed=7).settings()
    assert settings["seed"] == 7
    assert settings["controls"] == [{"control_type": "canny", "conditioning_scale": 1.0, "start": 0.0, "end": 1.0}]
    assert not {"frames", "masks"} & set(settings)


def test_the_default_request_is_the_preset_plus_changes(source_frames):
    request = default_request("control", "toybox", source_frames, "a cube", mixing_ratio=0.125, seed=None)
    preset = TOYBOX.presets["controlnet"]
    assert request.mixing_ratio == 0.125
    assert request.num_smoothing_steps == preset["num_smoothing_steps"]
    assert request.seed is None


@pytest.mark.parametrize("family_name", FAMILIES)
def test_every_image_model_of_a_family_has_a_request_and_its_networks(family_name, source_frames):
    needs = {"masks": np.full(source_frames.shape[:3], 255, np.uint8), "source_prompt": "a cube"}
    for task_name, task in TASKS.items():
        for image_model in task.image_models:
            request = default_request(task_name, family_name, source_frames, "", image_model=image_model, **needs)
            specs = components_of(request).networks
            assert all(spec.kind in KINDS for spec in specs)
            assert len(specs) == (0 if image_model in {"given", "prompt2prompt"} else 1)


@pytest.mark.parametrize("image_model", ["controlnet", "t2i-adapter"])
def test_every_control_type_of_a_family_has_its_network(image_model, source_frames):
    for family_name, family in FAMILIES.items():
        for control_type, spec in family.networks_of(image_model).items():
            request = default_request(
                "control", family_name, source_frames, "", image_model=image_model,
                controls=(Control(control_type=control_type, frames=source_frames),),
            )  # fmt: skip
            assert components_of(request).networks == (spec,)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"start": 0.5, "end": 0.5}, "never"),
        ({"start": -0.1}, "control start"),
        ({"end": 1.5}, "control end"),
        ({"conditioning_scale": 3}, "conditioning_scale"),
        ({"conditioning_scale": float("nan")}, "conditioning_scale"),
        ({"frames": np.zeros((2, 8, 8), np.uint8)}, "control clip"),
    ],
)
def test_a_control_out_of_range_is_refused(wrong, said):
    with pytest.raises(InputError, match=said):
        Control(**wrong)


@pytest.mark.parametrize(
    ("masks", "said"),
    [
        (np.zeros((4, 64, 64), np.uint8), "empty"),
        (np.full((3, 64, 64), 255, np.uint8), "masks"),
        (np.full((4, 64, 64), 1.0), "masks"),
        ("white", "masks"),
    ],
)
def test_masks_that_do_not_fit_are_refused(source_frames, masks, said):
    with pytest.raises(InputError, match=said):
        default_request("inpaint", "toybox", source_frames, "", masks=masks)


def test_what_a_task_needs_is_asked_for(source_frames):
    with pytest.raises(InputError, match="no mask"):
        default_request("outpaint", "toybox", source_frames, "")
    with pytest.raises(InputError, match="source prompt"):
        default_request("edit", "toybox", source_frames, "a cube", image_model="prompt2prompt")
    with pytest.raises(InputError, match="at least one control"):
        default_request("control", "toybox", source_frames, "a cube", controls=())


def test_unknown_names_list_the_known_ones(source_frames):
    with pytest.raises(InputError, match="toybox"):
        default_request("control", "nobody", source_frames, "")
    with pytest.raises(InputError, match="control"):
        default_request("paint", "toybox", source_frames, "")
    with pytest.raises(InputError, match="canny"):
        default_request("control", "toybox", source_frames, "", controls=(Control(control_type="smell"),))
    with pytest.raises(InputError, match="instruct-pix2pix"):
        default_request("edit", "toybox", source_frames, "", image_model="controlnet")
    with pytest.raises(InputError, match="toybox-video"):
        default_request("control", "toybox", source_frames, "", video_model="sora")


def test_a_request_cannot_be_changed_in_place(request_of):
    request = request_of()
    with pytest.raises(AttributeError):
        request.seed = 3
    assert replace(request, seed=3).seed == 3
