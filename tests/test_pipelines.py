"""A whole pipeline of diffusers as the image model: any that edits or fills a picture, from its folder."""

from __future__ import annotations

import json
import shutil
import threading
from dataclasses import replace
from types import SimpleNamespace

import diffusers
import numpy as np
import pytest
import torch
from paper import TWO_STEPS
from PIL import Image
from small_pipelines import save_controlnet, save_pipeline, save_small_sdxl

from bivdiff.bridge.makers.pipelines import _arguments, _steering, _unread, frames_by_pipeline, seed_of
from bivdiff.bridge.outcomes import outcome_of
from bivdiff.bridge.pipeline import framewise_frames, last, run
from bivdiff.bridge.reuse import StageCache
from bivdiff.bridge.stepwise import stepwise
from bivdiff.catalog.components import components_of
from bivdiff.catalog.requests import default_request
from bivdiff.catalog.specs import ModelSpec
from bivdiff.errors import CancelledError, InputError, ModelUnavailableError
from bivdiff.models import hub
from bivdiff.models.cost import evaluations_of
from bivdiff.models.estimate import estimate
from bivdiff.models.loaders.kind import Source
from bivdiff.models.loaders.pipelines import INDEX, _check_fit, check_controlnet, class_of
from bivdiff.models.manager import ModelManager
from bivdiff.types import Control, GenerationResult


@pytest.fixture(scope="module")
def folders(tmp_path_factory, toybox_manager):
    """By name: InstructPix2Pix and inpainting as pipelines, and a plain text-to-image one."""
    root = tmp_path_factory.mktemp("pipelines")
    kinds = {
        "edit": (diffusers.StableDiffusionInstructPix2PixPipeline, "instruct-pix2pix"),
        "fill": (diffusers.StableDiffusionInpaintPipeline, "inpainting"),
        "plain": (diffusers.StableDiffusionPipeline, ""),
    }
    saved = {name: save_pipeline(each, root / name, toybox_manager, own) for name, (each, own) in kinds.items()}
    controlnet = save_controlnet(root / "canny", toybox_manager)
    steered = save_pipeline(
        diffusers.StableDiffusionControlNetPipeline, root / "steered", toybox_manager,
        controlnet=diffusers.ControlNetModel.from_pretrained(controlnet),
    )  # fmt: skip
    save_small_sdxl(root / "xl", root / "xl canny", toybox_manager)
    return {**saved, "canny": controlnet, "steered": steered, "xl": root / "xl", "xl canny": root / "xl canny"}


@pytest.fixture(scope="module")
def toybox_manager():
    from bivdiff.settings import Settings

    return ModelManager(Settings(device="cpu"))


@pytest.fixture
def asked(source_frames, folders):
    def make(task="edit", pipeline="edit", **changes):
        masks = np.zeros(source_frames.shape[:3], np.uint8)
        masks[:, 16:48, 8:40] = 255
        needs = {"edit": {}, "inpaint": {"masks": masks}}[task]
        named = {"edit": "edit-pipeline", "inpaint": "fill-pipeline"}[task]
        return default_request(
            task, "toybox", source_frames, "make the cube blue", seed=3, image_model=named,
            pipeline=str(folders[pipeline]), **{**TWO_STEPS, **needs, **changes},
        )  # fmt: skip

    return make


def test_frames_are_those_of_the_pipeline_itself(asked, folders, toybox_manager):
    request = asked(image_guidance_scale=1.2, guidance_scale=3.0, negative_prompt="a cone")
    made = framewise_frames(request, toybox_manager)
    pipeline = diffusers.StableDiffusionInstructPix2PixPipeline.from_pretrained(folders["edit"])
    pipeline.set_progress_bar_config(disable=True)
    for number in (0, len(made) - 1):
        with torch.inference_mode():
            (picture,) = pipeline(
                "make the cube blue", Image.fromarray(request.frames[number]), negative_prompt="a cone",
                num_inference_steps=2, guidance_scale=3.0, image_guidance_scale=1.2,
                generator=torch.Generator().manual_seed(seed_of(request, number)),
            ).images  # fmt: skip
        np.testing.assert_array_equal(made[number], np.asarray(picture))


@pytest.fixture
def steered(source_frames, folders):
    def make(pipeline="plain", controlnet="canny", **changes):
        return default_request(
            "control", "toybox", source_frames[:2], "a red cube at noon", seed=3, image_model="control-pipeline",
            pipeline=str(folders[pipeline]), pipeline_controlnet=str(folders[controlnet]) if controlnet else "",
            **{**TWO_STEPS, **changes},
        )  # fmt: skip

    return make


@pytest.mark.parametrize(
    ("pipeline", "controlnet", "expected"),
    [
        ("plain", "canny", diffusers.StableDiffusionControlNetPipeline),
        ("steered", "", diffusers.StableDiffusionControlNetPipeline),
        ("steered", "canny", diffusers.StableDiffusionControlNetPipeline),
        ("xl", "xl canny", diffusers.StableDiffusionXLControlNetPipeline),
    ],
)
def test_frames_are_steered_as_the_pipeline_itself_is(steered, folders, toybox_manager, pipeline, controlnet, expected):
    control = Control(conditioning_scale=0.7, end=0.5)
    request = steered(pipeline, controlnet, guidance_scale=3.0, negative_prompt="a cone", controls=(control,))
    *_, result = run(replace(request, mixing_ratio=0.0, frame_prior="video"), toybox_manager)
    own = {"controlnet": diffusers.ControlNetModel.from_pretrained(folders[controlnet])} if controlnet else {}
    whole = expected.from_pretrained(folders[pipeline], **own)
    whole.set_progress_bar_config(disable=True)
    for number, control_map in enumerate(result.control_frames[0]):
        with torch.inference_mode():
            (picture,) = whole(
                "a red cube at noon", image=Image.fromarray(control_map), negative_prompt="a cone", guidance_scale=3.0,
                num_inference_steps=2, controlnet_conditioning_scale=0.7, control_guidance_end=0.5, height=64, width=64,
                generator=torch.Generator().manual_seed(seed_of(request, number)),
            ).images  # fmt: skip
        np.testing.assert_array_equal(result.framewise_frames[number], np.asarray(picture))
    assert result.control_frames[0].any()
    assert estimate(request, toybox_manager).fits
    assert "toybox/unet" not in toybox_manager.held()


def test_a_run_is_bridged_planned_and_kept_like_any_other(asked, toybox_manager):
    request, cache = asked(mixing_ratio=0.5, frame_prior="video"), StageCache()
    toybox_manager.unload()
    *events, result = run(request, toybox_manager, cache)
    assert isinstance(result, GenerationResult)
    assert result.frames.shape == request.frames.shape
    passes = 3 * request.num_inference_steps * len(request.frames)  # it guides by the words and by the picture
    assert result.evaluations == {**evaluations_of(request), "framewise": passes}
    of_frames = [event for event in events if event.stage == "framewise"]
    steps = [event.step for event in of_frames[:-1]]
    assert steps == sorted(steps)
    assert of_frames[-2].step == of_frames[-2].total == request.num_inference_steps * len(request.frames)
    np.testing.assert_array_equal(of_frames[-1].preview, result.framewise_frames)
    # The base model has no part in it, and is not even loaded.
    assert "toybox/unet" not in toybox_manager.loaded()
    assert "own/pipeline" in toybox_manager.loaded()
    assert estimate(request, toybox_manager).fits
    again = list(run(replace(request, mixing_ratio=0.2), toybox_manager, cache))
    assert "framewise" not in again[-1].evaluations
    np.testing.assert_array_equal(again[-1].framewise_frames, result.framewise_frames)


def test_its_frames_are_bridged_with_the_base_model_as_given_ones_are(asked, toybox_manager):
    """The paper's frame noise is the base model's, which stands beside the pipeline then."""
    request = asked(
        frame_prior="image", mixing_ratio=0.5, inversion_prompt="a cube", video_prompt="a blue cube", guidance_scale=2.0
    )
    result = last(run(request, toybox_manager))
    given = replace(request, task="smooth", image_model="given", pipeline="", frames=result.framewise_frames)
    np.testing.assert_array_equal(result.frames, last(run(given, toybox_manager)).frames)


@pytest.mark.parametrize(
    ("task", "pipeline", "expected"),
    [
        ("inpaint", "fill", "StableDiffusionInpaintPipeline"), ("edit", "plain", "StableDiffusionImg2ImgPipeline"),
        ("inpaint", "plain", "StableDiffusionInpaintPipeline"),
    ],
)  # fmt: skip
def test_a_pipeline_is_taken_in_the_class_that_the_task_needs(asked, toybox_manager, task, pipeline, expected):
    request = asked(task, pipeline, pipeline_strength=0.5)
    with toybox_manager.hold(*components_of(request).networks) as (whole,):
        assert type(whole.pipeline).__name__ == expected
        made = framewise_frames(request, toybox_manager)
    if task == "inpaint":
        far = np.ones(made.shape[1:3], bool)
        far[8:56, :48] = False  # with the feather
        np.testing.assert_array_equal(made[:, far], request.frames[:, far])
    assert (made != request.frames).any(axis=(1, 2, 3)).all()


def test_its_frames_share_all_of_their_noise_or_none(asked, toybox_manager):
    still = np.repeat(asked().frames[:1], 3, axis=0)
    shared, alone = (
        framewise_frames(replace(asked(noise_sharing=share), frames=still), toybox_manager) for share in (1.0, 0.0)
    )
    assert (shared[0] == shared).all()
    assert (alone[0] != alone[1]).any()
    with pytest.raises(InputError, match=r"share all of their noise or none: noise_sharing is 0\.5"):
        asked(noise_sharing=0.5)


def test_closing_between_any_two_events_stops_it_and_lets_go(asked, toybox_manager):
    request = replace(asked(), frames=asked().frames[:2])
    last_step = request.num_inference_steps * len(request.frames)
    for count in range(last_step + 1):
        events = run(request, toybox_manager)
        while (event := next(events)).stage != "framewise" or event.step < count:
            pass
        events.close()
        assert not [thread for thread in threading.enumerate() if thread.name == "bivdiff-stepwise"]
        assert toybox_manager.held() == []


def test_what_goes_wrong_within_is_raised_without():
    def work(report):
        report(1)
        raise ZeroDivisionError

    steps = stepwise(work)
    assert next(steps) == 1
    with pytest.raises(ZeroDivisionError):
        next(steps)
    seen = []

    def stopped(report):
        try:
            report(1)
        except CancelledError:
            seen.append("stopped")
            raise

    steps = stepwise(stopped)
    next(steps)
    steps.close()
    assert seen == ["stopped"]


def test_sides_off_the_multiple_are_padded_and_cut_and_another_size_is_told(source_frames):
    class Resizing:
        """Works at 64x64 whatever it is given, as some editors work at a million pixels."""

        def __call__(self, prompt, image, num_inference_steps, generator, callback_on_step_end):  # noqa: ARG002
            callback_on_step_end(self, 0, 0, {})
            assert image.size == (64, 48)
            return SimpleNamespace(images=[image.resize((128, 96))])

    request = default_request(
        "edit",
        "toybox",
        source_frames[:2, :40, :56],
        "",
        seed=1,
        image_model="edit-pipeline",
        pipeline="x",
        **TWO_STEPS,
    )
    *steps, end = frames_by_pipeline(Resizing(), request)
    assert [step.number for step in steps if step.frames is not None] == [2]  # of two frames the first; then the clip
    assert end.note == "The pipeline works at 128x96, so its frames were brought back to 56x40."
    assert [step.note for step in steps] == [""] * len(steps)
    made = outcome_of(frames_by_pipeline(Resizing(), request))
    assert made.shape == (2, 40, 56, 3)
    assert np.abs(made.astype(int) - request.frames).mean() < 6  # it was there, and back


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("FluxKontextPipeline", {"guidance_scale": 4, "max_area": 64 * 64, "_auto_resize": False, "height": 64}),
        ("QwenImageEditPipeline", {"true_cfg_scale": 4, "negative_prompt": " "}),
        ("StableDiffusionXLImg2ImgPipeline", {"guidance_scale": 4, "strength": 0.6}),
        ("StableDiffusionXLInstructPix2PixPipeline", {"image_guidance_scale": 1.5, "callback_steps": 1}),
        ("ZImageImg2ImgPipeline", {"guidance_scale": 4, "strength": 0.6, "width": 64}),
    ],
)  # fmt: skip
def test_each_pipeline_is_called_by_its_signature(source_frames, name, expected):
    pipeline = object.__new__(getattr(diffusers, name))
    request = default_request(
        "edit", "toybox", source_frames, "make it night", seed=1, image_model="edit-pipeline", pipeline="x",
        guidance_scale=4,
    )  # fmt: skip
    given = _arguments(pipeline, request, 0, source_frames[0], None, lambda _: None)
    assert {key: given[key] for key in expected} == expected
    assert ("guidance_scale" in given) != ("true_cfg_scale" in given)
    assert ("callback" in given) != ("callback_on_step_end" in given)
    assert given["num_inference_steps"] == request.num_inference_steps


@pytest.mark.parametrize(
    ("name", "shown", "strength"),
    [
        ("StableDiffusionXLControlNetPipeline", "image", True), ("FluxControlNetPipeline", "control_image", True),
        ("QwenImageControlNetPipeline", "control_image", True), ("FluxControlPipeline", "control_image", False),
        ("StableDiffusion3ControlNetPipeline", "control_image", True),
    ],
)  # fmt: skip
def test_a_map_and_its_strength_go_by_the_names_that_a_pipeline_has_for_them(source_frames, name, shown, strength):
    pipeline, control = object.__new__(getattr(diffusers, name)), Control(conditioning_scale=0.4)
    given = dict(_steering(pipeline, control, source_frames[1]))
    np.testing.assert_array_equal(np.asarray(given.pop(shown)), source_frames[1])
    usual = {"control_guidance_start": 0.0, "control_guidance_end": 1.0}
    assert given == ({"controlnet_conditioning_scale": 0.4, **usual} if strength else {})
    request = default_request(
        "control", "toybox", source_frames, "", seed=1, image_model="control-pipeline", pipeline="x",
        controls=(control,),
    )  # fmt: skip
    told = f"{name} takes no controlnet_conditioning_scale, so that is as the pipeline has it."
    assert _unread(pipeline, request) == (set() if strength else {told})


@pytest.mark.parametrize(
    ("index", "use", "said"),
    [
        ({"_class_name": ["mine", "MinePipeline"]}, "edit", "brings code of its own .* never run here"),
        ({"_class_name": "NoSuchPipeline"}, "edit", "has no pipeline 'NoSuchPipeline'. Update it"),
        ({"_class_name": "WanPipeline"}, "edit", "'WanPipeline' is no pipeline that changes a picture by a prompt"),
        ({"_class_name": "StableDiffusionInstructPix2PixPipeline"}, "fill", "no pipeline that fills a picture's holes"),
        ({}, "edit", "names no pipeline"),
        ({"_class_name": "WanPipeline"}, "control", "no pipeline that makes a picture of a control map"),
        ({"_class_name": "StableDiffusionXLPipeline"}, "control", "needs a ControlNet, and its folder holds none"),
        ({"_class_name": "FluxControlImg2ImgPipeline"}, "control", "'FluxControlImg2ImgPipeline' is no pipeline that"),
        ({"_class_name": "StableDiffusionPipelineSafe"}, "control", "'StableDiffusionPipelineSafe' is no pipeline"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_refused_before_anything_is_loaded(tmp_path, asked, toybox_manager, index, use, said):
    (tmp_path / INDEX).write_text(json.dumps(index))
    with pytest.raises(ModelUnavailableError, match=said):
        class_of(tmp_path / INDEX, use)
    with_controlnet = use == "control" and index["_class_name"] == "StableDiffusionXLPipeline"
    if with_controlnet:
        assert class_of(tmp_path / INDEX, use, with_controlnet) is diffusers.StableDiffusionXLControlNetPipeline
    if use == "edit":
        (tmp_path / "unet").mkdir()
        for name in ("config.json", "diffusion_pytorch_model.safetensors"):
            (tmp_path / "unet" / name).write_text("{}")
        toybox_manager.unload()
        with pytest.raises(ModelUnavailableError, match=said):
            last(run(replace(asked(), pipeline=str(tmp_path)), toybox_manager))
        assert toybox_manager.loaded() == []


def test_weights_that_are_missing_are_told(asked, folders, toybox_manager, tmp_path):
    for path in folders["edit"].rglob("*"):
        if path.is_file() and path.parent.name != "vae":
            target = tmp_path / path.relative_to(folders["edit"])
            target.parent.mkdir(exist_ok=True)
            target.symlink_to(path)
    (tmp_path / "vae").mkdir()
    (tmp_path / "vae" / "config.json").write_text("{}")
    with pytest.raises(ModelUnavailableError, match=r"the weights of every folder with a config\.json"):
        last(run(replace(asked(), pipeline=str(tmp_path)), toybox_manager))


def test_of_a_repository_one_set_of_weights_is_chosen_and_the_index_comes_first():
    spec = ModelSpec(key="own/pipeline", kind="edit_pipeline", repo="owner/name")
    folders = {
        "unet": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model", "text_encoder": "model",
        "text_encoder_2": "model",
    }  # fmt: skip
    names = ["README.md", "sd_xl_base_1.0.safetensors", "tokenizer/vocab.json", "tokenizer/merges.txt"]
    names += ["scheduler/scheduler_config.json", "vae_decoder/model.onnx", INDEX]
    for folder, stem in folders.items():
        names += [f"{folder}/config.json", f"{folder}/onnx/model.onnx"]
        names += [f"{folder}/{stem}{variant}.safetensors" for variant in ("", ".fp16")]
    chosen = hub.choose_files(names, spec)
    assert chosen[0] == INDEX
    assert [name for name in chosen if name.endswith(".safetensors")] == [
        "text_encoder/model.safetensors", "text_encoder_2/model.safetensors",
        "unet/diffusion_pytorch_model.safetensors", "vae/diffusion_pytorch_model.safetensors",
    ]  # fmt: skip
    assert {"tokenizer/vocab.json", "tokenizer/merges.txt", "scheduler/scheduler_config.json"} < set(chosen)
    only_half = [name for name in names if name != "vae/diffusion_pytorch_model.safetensors"]
    assert all(".fp16." in name for name in hub.choose_files(only_half, spec) if name.endswith(".safetensors"))
    assert hub.choose_files([name for name in names if not name.startswith("vae/d")], spec) == []


def test_a_controlnet_that_does_not_fit_is_refused_in_words(tmp_path, steered, folders, toybox_manager):
    (tmp_path / INDEX).write_text(json.dumps({"_class_name": "FluxControlPipeline"}))
    with pytest.raises(ModelUnavailableError, match="reads control maps by itself, and no ControlNet"):
        class_of(tmp_path / INDEX, "control", with_controlnet=True)
    other = tmp_path / "controlnet"
    shutil.copytree(folders["canny"], other)
    config = json.loads((other / "config.json").read_text())
    for named, said in {
        "ControlNetUnionModel": "it is a ControlNetUnionModel, and a ControlNet of diffusers for one kind of map",
        "UNet2DConditionModel": "it is a UNet2DConditionModel, and a ControlNet of diffusers",
    }.items():
        (other / "config.json").write_text(json.dumps({**config, "_class_name": named}))
        request = replace(steered(), pipeline_controlnet=str(other))
        toybox_manager.unload()
        with pytest.raises(ModelUnavailableError, match=said):
            last(run(request, toybox_manager))
        assert toybox_manager.loaded() == []
    with pytest.raises(ValueError, match="for several kinds of maps"):
        check_controlnet({"_class_name": "FluxControlNetModel", "num_mode": 10})
    with pytest.raises(ModelUnavailableError, match="reads words of 128 numbers, and the pipeline's have 64: it was"):
        last(run(steered("xl", "canny"), toybox_manager))
    with toybox_manager.hold(components_of(steered()).networks[0].base) as (controlnet,):
        source = Source(ModelSpec(key="own/pipeline", kind="control_pipeline"), tmp_path, None, None, controlnet)
        with pytest.raises(ModelUnavailableError, match="A FluxControlNetPipeline takes no ControlNetModel"):
            _check_fit(source, diffusers.FluxControlNetPipeline)


def test_a_strength_may_be_a_whole_number_as_pages_send_it(steered, toybox_manager):
    whole, point = (
        framewise_frames(steered(controls=(Control(conditioning_scale=scale),)), toybox_manager) for scale in (1, 1.0)
    )
    np.testing.assert_array_equal(whole, point)


def test_a_controlnet_that_is_not_there_is_fetched_with_the_rest(steered, toybox_manager):
    toybox_manager.unload()
    request = replace(steered(), pipeline_controlnet="owner/name")
    missing = toybox_manager.missing(components_of(request).every)
    assert [spec.key for spec in missing] == ["own/pipeline_controlnet"]


def test_what_a_pipeline_refuses_is_told(asked, toybox_manager):
    request = asked("inpaint", "fill", pipeline_strength=0.3)  # of two steps
    with pytest.raises(InputError, match=r"StableDiffusionInpaintPipeline refuses .* strength parameter: 0\.3, .* run"):
        framewise_frames(request, toybox_manager)


def test_it_is_named_where_it_is_read_and_nowhere_else(source_frames, asked):
    with pytest.raises(InputError, match="No pipeline is named"):
        default_request("edit", "toybox", source_frames, "make it night", image_model="edit-pipeline")
    with pytest.raises(InputError, match="pipeline is read for an image model of that kind alone"):
        default_request("edit", "toybox", source_frames, "make it night", pipeline="owner/name")
    with pytest.raises(InputError, match="pipeline_controlnet is read where a pipeline makes the frames by control"):
        asked(pipeline_controlnet="owner/name")
    both = (Control(), Control(control_type="depth"))
    with pytest.raises(InputError, match="steered by one control map, and 2 are asked for"):
        default_request(
            "control", "toybox", source_frames, "", image_model="control-pipeline", pipeline="x", controls=both
        )
    with pytest.raises(InputError, match="The LoRAs would change nothing"):
        asked(loras="style.safetensors")
