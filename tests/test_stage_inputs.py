"""What the stages say they read of a request: what changes an output changes its key, whatever field it is."""

from __future__ import annotations

from dataclasses import fields, replace
from functools import cache

import numpy as np
import pytest
import torch
from small_pipelines import save_pipelines

from bivdiff.bridge import inputs
from bivdiff.bridge.inputs import StageInputs, framewise_inputs, same_frames
from bivdiff.bridge.pipeline import resolved, run
from bivdiff.bridge.reuse import StageCache
from bivdiff.bridge.session import stage_identities
from bivdiff.catalog.components import components_of
from bivdiff.catalog.families import FAMILIES, family_named, models_for
from bivdiff.catalog.image_models import IMAGE_MODELS
from bivdiff.catalog.requests import default_request
from bivdiff.errors import InputError
from bivdiff.fields import table
from bivdiff.models.manager import ModelManager
from bivdiff.types import Control, GenerationRequest, StepEvent

STAGES = [
    inputs.LOADING, inputs.CONTROL_MAPS, *map(framewise_inputs, IMAGE_MODELS), inputs.IMAGE_INVERSION,
    inputs.FRAME_INVERSION, inputs.VIDEO_INVERSION, inputs.MIXING, inputs.SMOOTHING,
]  # fmt: skip
NAMES = [item.name for item in fields(GenerationRequest)]
CONTROL_NAMES = [item.name for item in fields(Control)]
MAKING = [name for name, model in IMAGE_MODELS.items() if model.makes_frames]
NOISE = ("seed", "noise_sharing", "sampler", "guided_share", "frame_attention")
EVERY_STAGE = {"framewise", "image inversion", "frame inversion", "video inversion"}
DECIDES_NOTHING = {"task", "frame_batch_size"}  # a label, and how much memory is taken
# These name the models: see the last tests.
LOADED = {
    "family", "video_model", "base_model", "image_checkpoint", "pipeline", "pipeline_controlnet", "loras", "embeddings",
}  # fmt: skip


class Recorded(StageCache):
    """Forgets nothing, and finds nothing: every stage runs, and `outputs` has what each key stands for."""

    def __init__(self) -> None:
        super().__init__()
        self.outputs: dict[str, np.ndarray] = {}

    def get(self, key: str) -> None:
        """Nothing, so that it is made."""

    def put(self, key: str, output: np.ndarray | torch.Tensor) -> None:
        self.outputs[key] = np.asarray(output)


@pytest.fixture(scope="module")
def base_of(source_frames, manager, tmp_path_factory):
    """Makes the smallest request of an image model in which every setting that it has is at work."""
    pipelines = save_pipelines(tmp_path_factory.mktemp("pipelines"), manager)
    frames = np.ascontiguousarray(source_frames[:3, 8:40, 16:48])
    masks = np.zeros(frames.shape[:3], np.uint8)
    masks[:, 8:24, 8:24] = 255
    own = {
        "prompt2prompt": {"source_prompt": "a red cube", "blend_words": "cube", "cross_replace_steps": 0.5,
                          "self_replace_steps": 0.5, "reweight": "blue:1.5"},
        "inpainting": {"masks": masks}, "control-pipeline": pipelines["control-pipeline"],
        "edit-pipeline": {**pipelines["edit-pipeline"], "pipeline_strength": 1.0},
        "fill-pipeline": {**pipelines["fill-pipeline"], "masks": masks, "pipeline_strength": 1.0},
    }  # fmt: skip

    def make(image_model: str) -> GenerationRequest:
        base = default_request(
            IMAGE_MODELS[image_model].tasks[0], "toybox", frames, "a blue cube", image_model=image_model, seed=1,
            **own.get(image_model, {}),
        )  # fmt: skip
        return replace(
            base, mixing_ratio=0.5, noise_sharing=0.5, num_inference_steps=2, num_inversion_steps=1,
            num_smoothing_steps=1, guidance_scale=2.0, inversion_guidance_scale=2.0, negative_prompt="dark",
            window=2, frame_batch_size=8,
        )  # fmt: skip

    return make


def stages_of(request: GenerationRequest, manager: ModelManager) -> dict[str, np.ndarray]:
    """Output by key of the stages that are kept: frames, and both inversions. Smoothing is not run."""
    recorded = Recorded()
    events = run(request, manager, recorded)
    for event in events:
        if isinstance(event, StepEvent) and event.stage == "smoothing":
            break
    events.close()
    return recorded.outputs


@pytest.fixture(scope="module")
def reference(base_of, manager):
    """Stages of an image model's unchanged request, made once."""
    return cache(lambda image_model: stages_of(base_of(image_model), manager))


def other_values(request: GenerationRequest, name: str) -> list[object]:
    """Other values of a field, derived from the one it has; some of them may be out of its range."""
    value = getattr(request, name)
    pictures = {
        "frames": lambda: np.ascontiguousarray(value[:, ::-1]),
        "masks": lambda: np.full_like(request.frames[..., 0], 255) if value is None else np.roll(value, 8, 1),
        "controls": lambda: tuple(replace(control, conditioning_scale=0.5) for control in value) or (Control(),),
    }
    words = {"blend_words": "blue", "reweight": "cube:0.5"}
    if name in pictures:
        return [pictures[name]()]
    if (choices := table(GenerationRequest)[name].choices) is not None:
        return [other for other in choices if other != value]
    if isinstance(value, str):
        return [words.get(name, f"{value} at night")]
    return [not value] if isinstance(value, bool) else [value / 2, value * 2, value + 1, value - 1]


def changes_of(request: GenerationRequest, name: str) -> GenerationRequest:
    """The request with another value of a field, the first that it takes."""
    for value in other_values(request, name):
        try:
            kind = type(getattr(request, name))
            changed = replace(request, **{name: kind(value) if kind in (int, float) else value})
        except InputError:
            continue
        if getattr(changed, name) is not getattr(request, name):
            return changed
    raise AssertionError(f"No other value of {name} was found.")


def shown_as_new(before: dict[str, np.ndarray], after: dict[str, np.ndarray]) -> list[str]:
    """The keys under which another output lies now: it would be shown again, stale, as if it were new."""
    return [key for key in before.keys() & after.keys() if not np.array_equal(before[key], after[key])]


def cases() -> list[tuple[str, str]]:
    """Every field for one image model; for the others what is theirs, and what their noise is made of."""
    whole = [("controlnet", name) for name in NAMES]
    own = [(model, name) for model in MAKING for name in (*IMAGE_MODELS[model].settings, *NOISE)]
    elsewhere = {
        *LOADED,
        "image_model",
        "frame_batch_size",
    }  # of a batch test_pipeline.py holds that only roundings differ
    return [case for case in dict.fromkeys([*whole, *own]) if case[1] not in elsewhere]


@pytest.mark.parametrize(("image_model", "name"), cases())
def test_a_field_that_changes_an_output_changes_its_key(base_of, reference, manager, image_model, name):
    before, after = reference(image_model), stages_of(changes_of(base_of(image_model), name), manager)
    assert shown_as_new(before, after) == []
    declared = name in framewise_inputs(image_model).fields
    assert (next(iter(after)) != next(iter(before))) == declared, "the frames are found again if they do not read it"


@pytest.mark.parametrize("name", CONTROL_NAMES)
@pytest.mark.parametrize("image_model", [name for name, model in IMAGE_MODELS.items() if model.steering])
def test_every_field_of_a_control_changes_the_key_of_the_frames(base_of, reference, manager, image_model, name):
    request, before = base_of(image_model), reference(image_model)
    (control,) = request.controls
    other = {
        "control_type": "depth" if control.control_type == "canny" else "canny", "frames": 255 - request.frames,
        "conditioning_scale": 0.3, "start": 0.5, "end": 0.5,
    }  # fmt: skip
    after = stages_of(replace(request, controls=(replace(control, **{name: other[name]}),)), manager)
    assert shown_as_new(before, after) == []
    assert next(iter(after)) != next(iter(before))


def test_a_stage_cannot_read_what_it_does_not_declare(base_of):
    request = base_of("controlnet")
    seen = inputs.IMAGE_INVERSION.view(request)
    assert seen.num_inversion_steps == 1
    for name in NAMES:
        if name not in inputs.IMAGE_INVERSION.fields:
            with pytest.raises(AttributeError, match=f"'image inversion' reads '{name}' of the request"):
                getattr(seen, name)


def test_a_declaration_names_fields_that_there_are():
    with pytest.raises(ValueError, match="declares what no request has: num_steps"):
        StageInputs("smoothing", frozenset({"num_steps", "window"}))


def test_every_field_is_read_by_some_stage_or_decides_nothing():
    assert frozenset().union(*(stage.fields for stage in STAGES)) == set(NAMES) - DECIDES_NOTHING


def test_frames_that_control_maps_steer_depend_on_all_that_the_maps_do():
    steered = [framewise_inputs(name).fields for name, model in IMAGE_MODELS.items() if model.steering]
    assert all(inputs.CONTROL_MAPS.fields - inputs.LOADING.fields <= fields for fields in steered)


def test_prompt2prompt_has_no_noise_of_its_own_so_its_frames_have_no_seed(base_of):
    request = base_of("prompt2prompt")
    assert same_frames(request, replace(request, seed=2, mixing_ratio=0.1))
    assert not same_frames(base_of("controlnet"), replace(base_of("controlnet"), seed=2))
    assert not same_frames(request, replace(request, loras="style.safetensors"))


# What is loaded is named by the models' identities


@pytest.fixture
def two_families(monkeypatch):
    """The toybox, and a second one whose video model has other words, another schedule and another window."""
    toybox = family_named("toybox")
    video = toybox.video_models["toybox-video"]
    other = replace(video, scheduler=replace(video.scheduler, config=(("beta_schedule", "linear"),)))
    wider = replace(video, unet=replace(video.unet, num_frames=4))
    models = {"toybox-video": video, "other": other, "wider": wider}
    monkeypatch.setitem(FAMILIES, "toybox", replace(toybox, video_models=models))


def identities(request: GenerationRequest, manager: ModelManager) -> dict[str, str]:
    video = models_for(request).video_models[request.video_model]
    return stage_identities(components_of(request), video, manager)


@pytest.mark.parametrize(
    ("changes", "stages"),
    [
        ({"base_model": "own"}, EVERY_STAGE),
        ({"loras": "style.safetensors:0.5"}, EVERY_STAGE),
        ({"embeddings": "word.safetensors"}, EVERY_STAGE),
        ({"video_model": "other"}, {"frame inversion", "video inversion"}),
        ({"video_model": "wider"}, {"video inversion"}),
        ({"controls": (Control(control_type="depth"),)}, {"framewise"}),
        ({"mixing_ratio": 0.1}, set()),
    ],
)
@pytest.mark.usefixtures("two_families")
def test_other_models_have_other_names_in_the_keys_of_the_stages_they_run_in(base_of, manager, changes, stages):
    request = resolved(base_of("controlnet"))
    before, after = identities(request, manager), identities(replace(request, **changes), manager)
    assert {stage for stage in before if before[stage] != after[stage]} == stages


def test_another_lora_of_the_same_file_at_another_scale_has_another_name(base_of, manager):
    request = base_of("controlnet")
    names = [identities(replace(request, loras=f"style.safetensors:{scale}"), manager) for scale in (0.5, 0.25)]
    assert {stage for stage in names[0] if names[0][stage] != names[1][stage]} == EVERY_STAGE
