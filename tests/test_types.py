"""The request: what it accepts and what it refuses, with which sentence."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bivdiff import catalog
from bivdiff.errors import InputError
from bivdiff.types import MAX_PROMPT_CHARACTERS


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
        request_of(control_frames=source_frames[:2])


def test_settings_hold_everything_but_pictures(request_of):
    settings = request_of(seed=7).settings()
    assert settings["seed"] == 7
    assert not {"frames", "control_frames"} & set(settings)


def test_the_default_request_is_the_preset_plus_changes(source_frames):
    request = catalog.default_request("control", "toybox", source_frames, "a cube", mixing_ratio=0.125, seed=None)
    preset = catalog.PRESETS["control", "toybox"]
    assert request.mixing_ratio == 0.125
    assert request.num_smoothing_steps == preset["num_smoothing_steps"]
    assert request.seed is None


@pytest.mark.parametrize(("family_name", "family"), catalog.FAMILIES.items())
def test_every_control_type_of_a_family_has_its_model(family_name, family, source_frames):
    for control_type, model in family.control_types.items():
        request = catalog.default_request("control", family_name, source_frames, "", control_type=control_type)
        assert request.image_model == model
        assert model in family.image_models


def test_unknown_names_list_the_known_ones(source_frames):
    with pytest.raises(InputError, match="toybox"):
        catalog.default_request("control", "nobody", source_frames, "")
    with pytest.raises(InputError, match="control"):
        catalog.default_request("paint", "toybox", source_frames, "")
    with pytest.raises(InputError, match="canny"):
        catalog.default_request("control", "toybox", source_frames, "", control_type="smell")


def test_a_request_cannot_be_changed_in_place(request_of):
    request = request_of()
    with pytest.raises(AttributeError):
        request.seed = 3
    assert replace(request, seed=3).seed == 3
