"""What is particular to each tab: how its page becomes a request, and what it shows before a run."""

from __future__ import annotations

import base64
import io
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import gradio as gr
import numpy as np
import pytest
from fake_run import FakeRun, fake_context
from pages import LABELS
from PIL import Image
from sheets import cut_up

from bivdiff.catalog.families import family_named
from bivdiff.catalog.image_models import IMAGE_MODELS
from bivdiff.catalog.tasks import TASKS
from bivdiff.errors import InputError
from bivdiff.media.reading import read_clip
from bivdiff.media.writing import write_mp4
from bivdiff.studio.form import PNG
from bivdiff.types import GenerationResult, StepEvent
from tabs import control, controls, edit, footage, inpaint, outpaint, presets, results, smooth
from tabs.bridge import FOLLOWING, follow_models, ratio_info, say_ratio
from tabs.progress import RunProgress, stages_of
from tabs.requests import read_source

TABS = {tab.TASK: tab for tab in (control, edit, inpaint, outpaint, smooth)}
SENTENCE = r"\.$"


@pytest.fixture
def context():
    return fake_context(FakeRun())


@pytest.fixture
def clip_file(tmp_path):
    """Writes frames as an mp4 and gives its path."""

    def write(frames: np.ndarray, name: str = "clip.mp4") -> str:
        write_mp4(tmp_path / name, frames, 8)
        return str(tmp_path / name)

    return write


def values(**changes):
    steps = {"num_inference_steps": 2, "num_inversion_steps": 2, "num_smoothing_steps": 2}
    return {"sample": 0, "video": None, "prompt": "a red cube", "random_seed": True, "seed": 0, **steps, **changes}


def painted(left: int, top: int, right: int, bottom: int) -> str:
    """What the painter sends: a white box on black."""
    picture = np.zeros((128, 128, 3), np.uint8)
    picture[top:bottom, left:right] = 255
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG")
    return PNG + base64.b64encode(buffer.getvalue()).decode()


def is_filled(value: dict) -> list[bool]:
    return [bool(tile["sheet"]) for tile in value["tiles"]]


def offered(context, tab, chosen) -> list[str]:
    """What a strip offers of an upload, at last."""
    *_, shown = footage.show_footage(context, tab.read_job, chosen)
    return [", ".join(filter(None, (offer["words"], offer["takes"]))) for offer in shown["offers"]]


def test_an_offer_of_the_whole_clip_says_how_long_it_takes_where_that_can_be_said(context, clip_file):
    video = clip_file(np.zeros((20, 64, 64, 3), np.uint8))
    minutes = replace(context, expected_seconds=lambda request, count: request.num_smoothing_steps * 9.0 * count)
    spread = "Spread 8 frames over the whole clip"
    assert offered(minutes, control, values(video=video)) == ["Use all 20 frames, about 6 minutes", spread]
    too_much = replace(context, expected_seconds=lambda *_: None)
    assert offered(too_much, control, values(video=video))[0] == "Use all 20 frames, about 2 times as long"
    unfinished = values(video=video, instruction="")
    assert offered(context, edit, unfinished)[0] == "Use all 20 frames, about 2 times as long"
    whole = values(video=video, num_frames=20)
    assert offered(context, control, whole) == []


def test_no_time_is_looked_up_of_a_model_that_the_owner_does_not_allow(clip_file):
    asked = []
    closed = replace(fake_context(FakeRun(), own_models="no"), expected_seconds=lambda *given: asked.append(given) or 9)
    chosen = values(video=clip_file(np.zeros((20, 64, 64, 3), np.uint8)), base_model="/etc")
    assert offered(closed, control, chosen)[0] == "Use all 20 frames, about 2 times as long"
    assert asked == []
    assert offered(closed, control, {**chosen, "base_model": ""})[0] == "Use all 20 frames, about 9 s"


# All tabs


def test_there_is_a_tab_for_every_task():
    assert set(TABS) == set(TASKS)


@pytest.mark.parametrize("task", TASKS)
def test_the_page_as_it_opens_is_a_request(context, task):
    sample = context.samples[0]
    job = TABS[task].read_job(context, values(instruction=sample.instruction, source_prompt=sample.caption, left="25%"))
    assert job.request.task == task
    assert job.request.image_model == TASKS[task].image_models[0]
    assert (job.request.masks is not None) == (task in {"inpaint", "outpaint"})


@pytest.mark.parametrize("task", TASKS)
def test_what_every_tab_refuses(context, task):
    for wrong in ({"sample": 99}, {"mixing_ratio": 2}, {"mixing_rule": "sum"}, {"video": __file__}, {"start": 1e6}):
        with pytest.raises(InputError, match=SENTENCE):
            TABS[task].read_job(context, values(left="25%", instruction="x", **wrong))


@pytest.mark.parametrize("task", TASKS)
def test_a_result_shows_what_its_task_has(context, task):
    request = TABS[task].read_job(context, values(left="25%", instruction="make it night")).request
    *_, result = context.run(request)
    files = context.runs.finish(context.runs.begin(request, 8, "a" * 32), result, {})
    shown = results.result_player(result, 8, results.scores_of(result), files)
    assert [tile["label"] for tile in shown["tiles"]] == LABELS[task]
    assert [tile["main"] for tile in shown["tiles"]] == [True, True, *[False] * (len(LABELS[task]) - 2)]
    assert all(is_filled(shown))
    assert all(tile.get("file") for tile in shown["tiles"] if tile["label"] not in {"Source", "Your frames"})


@pytest.mark.parametrize("model", [(task, model) for task in TASKS for model in TASKS[task].image_models])
def test_the_meter_follows_every_image_model_to_the_end(task_request, model):
    task, image_model = model
    request = task_request(task, image_model, mixing_ratio=0.5)
    meter = RunProgress(request)
    shares = []
    for event in FakeRun()(request):
        if isinstance(event, StepEvent):
            meter.take(event)
            shares.append([chip["percent"] for chip in meter.panel()["stages"]])
    assert [chip["key"] for chip in meter.panel()["stages"]] == list(stages_of(task))
    assert (np.diff(shares, axis=0) >= 0).all()
    assert shares[-1] == [100] * len(stages_of(task))
    assert meter.remaining() == 0


def test_a_run_that_finds_its_frames_kept_says_so(context):
    request = smooth_ratio(context, 0.5)
    list(context.run(request))
    *_, result = context.run(smooth_ratio(context, 0.25))
    assert ["Frame by frame", "kept from an earlier run"] in results.result_player(
        result, 8, results.scores_of(result), {}
    )["facts"]


def smooth_ratio(context, ratio):
    return control.read_job(context, values(mixing_ratio=ratio, random_seed=False, seed=3)).request


KEEPS = "0 stays closest to the frames"
SCORED_NOW = {
    "excess_flicker": 0.84, "framewise_excess_flicker": 2.69, "sharpness": 0.913,
    "steadiness": "69% less than frame by frame",
}  # fmt: skip


@pytest.mark.parametrize(("model", "bridge", "line", "paper"), [
    ("controlnet", (1.0, "image", "linear", 1.0),
     f"{KEEPS}; towards 1 it is smoother, and colours drift. This is the paper's bridge for ControlNet.", 1),
    ("controlnet", (0.5, "image", "linear", 1.0),
     f"{KEEPS}; towards 1 it is smoother, and colours drift. The paper takes 1 for ControlNet.", 1),
    ("controlnet", (1.0, "image", "capped", 1.0),
     f"{KEEPS}; towards 1 it is smoother, and colours drift. The paper takes 1 for ControlNet.", 1),
    ("controlnet", (1.0, "image", "linear", 0.6),
     f"{KEEPS}; towards 1 it is smoother, and colours drift. The paper takes 1 for ControlNet.", 1),
    ("prompt2prompt", (0.25, "video", "linear", 1.0),
     f"{KEEPS}; towards 1 it is calmer, colours stay, and fast motion suffers last.", 0.25),
    ("prompt2prompt", (0.5, "image", "linear", 1.0),
     f"{KEEPS}; towards 1 it is smoother, and colours drift. The paper takes 0.25 for Prompt2Prompt.", 0.25),
    ("inpainting", (0.1, "mean", "linear", 1.0),
     f"{KEEPS}; higher is calmer, and may smear what moves.", 0.1),
    ("given", (1.0, "image", "linear", 1.0), f"{KEEPS}; towards 1 it is smoother, and colours drift.", None),
])  # fmt: skip
def test_the_ratios_line_and_mark_are_those_of_the_chosen_noise(model, bridge, line, paper):
    assert ratio_info(model, *bridge) == line
    said, scale = say_ratio("control", model, *bridge)
    assert said["info"] == line
    assert scale == {"task": "control", "paper": paper, "alike": bridge[1] == "image"}


def test_settings_follow_another_image_model_unless_they_are_the_users_own(context, monkeypatch):
    presets_of = {
        "controlnet": (0.5, "video", "capped", 0.6, 10, 10, 1.0),
        "t2i-adapter": (0.25, "image", "linear", 1.0, 20, 30, 6.0),
        "control-pipeline": (0.5, "video", "capped", 1.0, 20, 30, 6.0),
    }  # fmt: skip

    def defaults(_, task, image_model, video_model):
        assert (task, video_model in family_named("toybox").video_models) == ("control", True)
        return SimpleNamespace(**dict(zip(FOLLOWING, presets_of[image_model], strict=True)))

    monkeypatch.setattr("tabs.bridge.defaults_of", defaults)
    follow = partial(follow_models, context, "control", "t2i-adapter", "toybox-video")
    assert follow(*presets_of["controlnet"]) == [0.25, "image", "linear", 1.0, 20, 30, 6.0]
    # The ratio was chosen for this noise and this rule, so they stay together; each of the others is a choice.
    assert follow(0.8, "video", "capped", 0.6, 7, 10, 1.0) == [0.8, "video", "capped", 1.0, 7, 30, 6.0]
    assert follow(0.5, "mean", "capped", 0.6, 10, 10, 2.5) == [0.5, "mean", "capped", 1.0, 20, 30, 2.5]
    assert follow(0.5, "video", "capped", 0.3, 10, 9, 1.0) == [0.25, "image", "linear", 0.3, 20, 9, 6.0]
    for unknown in (("given", "toybox-video"), ("controlnet", "sora")):
        found = follow_models(context, "control", *unknown, *presets_of["controlnet"])
        assert all("value" not in each for each in found)


def test_what_an_image_model_does_not_read_is_hidden():
    read = {name: [model for model in IMAGE_MODELS if controls.reads(model, name)]
            for name in (*controls.SAMPLING, "noise_sharing")}  # fmt: skip
    from_noise = ["controlnet", "t2i-adapter", "instruct-pix2pix", "inpainting"]
    pipelines = ["control-pipeline", "edit-pipeline", "fill-pipeline"]  # whose samplers are their own
    assert {name: set(models) for name, models in read.items()} == {
        "sampler": {*from_noise}, "guided_share": {*from_noise}, "noise_sharing": {*from_noise, *pipelines}
    }  # fmt: skip


def test_below_the_clips_stands_what_was_measured_and_what_it_is_of():
    alone, truth = "Sharpness, frame by frame = 100%", "Sharpness, truth = 100%"
    assert results.scores_by_clip(SCORED_NOW, "controlnet") == {
        "source": {}, "framewise": {alone: "100%"}, "bridged": {alone: "91%"}
    }  # fmt: skip
    known = SCORED_NOW | {"true_sharpness": 0.956, "framewise_true_sharpness": 1.05}
    assert results.scores_by_clip(known, "controlnet") == {
        "source": {}, "framewise": {truth: "105%"}, "bridged": {truth: "96%"}
    }  # fmt: skip
    yours = "Sharpness, your frames = 100%, their flicker included"
    assert results.scores_by_clip(SCORED_NOW, "given") == {
        "source": {yours: "100%"}, "framewise": {}, "bridged": {yours: "91%"}
    }  # fmt: skip
    unknown = dict.fromkeys(("excess_flicker", "framewise_excess_flicker", "sharpness"))
    assert results.scores_by_clip(unknown, "inpainting")["bridged"] == {alone: "not measured"}
    earlier = {"flicker": 5.2, "framewise_flicker": 6.5, "source_flicker": 6.4, "sharpness": None}
    assert results.scores_by_clip(earlier, "controlnet")["source"] == {"Change from frame to frame": "6.4"}
    assert results.steadiness_fact(SCORED_NOW) == [("Flicker at rest", "69% less than frame by frame")]
    assert results.steadiness_fact(earlier) == []


def test_flicker_at_rest_is_drawn_as_two_bars_and_a_map(context):
    request = control.read_job(context, values(random_seed=False, seed=3)).request
    clips = {"framewise": request.frames[:, ::-1].copy(), "bridged": request.frames}
    tiles = {key: {} for key in ("source", *clips)}
    results.fill_scores(tiles, SCORED_NOW, "controlnet", request, clips)
    words = "69% less than frame by frame"
    assert tiles["bridged"]["rest"] == {"level": 0.84, "before": 2.69, "words": words}
    assert tiles["framewise"]["rest"] == {"level": 2.69, "before": 2.69, "words": ""}
    assert "rest" not in tiles["source"]  # which is the floor
    assert tiles["framewise"]["heat"]["high"] > tiles["bridged"]["heat"]["high"] == 0
    given = {key: {} for key in ("source", "bridged")}
    results.fill_scores(given, SCORED_NOW, "given", None, {})
    assert given["source"]["rest"]["level"] == 2.69
    assert "heat" not in given["bridged"]
    results.fill_scores(old := {"bridged": {}}, {"flicker": 5.2}, "controlnet", request, {})
    assert "rest" not in old["bridged"]


# Control


def test_two_controls_have_a_map_each(context):
    chosen = values(second_control_type="depth", conditioning_scale=0.8, second_conditioning_scale=0.3, control_end=0.5)
    request = control.read_job(context, chosen).request
    got = [(item.control_type, item.conditioning_scale, item.start, item.end) for item in request.controls]
    assert got == [("canny", 0.8, 0, 0.5), ("depth", 0.3, 0, 0.5)]
    *_, shown = control.preview_control(context, chosen)
    assert [tile["label"] for tile in shown["tiles"]] == ["Source", "Edges", "Depth"]
    assert all(is_filled(shown))
    *_, result = context.run(request)
    player = results.result_player(result, 8, results.scores_of(result), {})
    assert [tile["label"] for tile in player["tiles"]][3:] == ["Control map: edges", "Control map: depth"]


def test_a_preview_that_needs_a_model_keeps_a_run_waiting_and_does_not_wait_itself(context):
    held = []
    drawn = context.control_maps

    def watched(request):
        held.append(context.device.locked())
        return drawn(request)

    watching = replace(context, control_maps=watched)
    for control_type in ("depth", "canny"):
        *_, shown = control.preview_control(watching, values(control_type=control_type))
        assert all(is_filled(shown))
    assert held == [True, False]
    assert not context.device.locked()
    with context.device:
        *_, shown = control.preview_control(watching, values(control_type="depth"))
    assert "The models are busy" in shown["tiles"][1]["note"]
    assert len(held) == 2


def test_an_uploaded_clip_is_the_map(context, clip_file):
    maps = np.zeros((8, 64, 64, 3), np.uint8)
    maps[:, 16:48] = 255
    request = control.read_job(context, values(map_source="upload", control_video=clip_file(maps))).request
    (only,) = request.controls
    assert only.frames.shape == (8, 128, 128, 3)
    assert only.frames[:, 64].min() > 200
    assert only.frames[:, 5].max() < 50


def test_a_sample_brings_its_true_depth(context):
    chosen = values(map_source="sample", control_type="depth", sample=1, stride=1, num_frames=4)
    request = control.read_job(context, chosen).request
    (only,) = request.controls
    drawn = read_clip(context.samples[1].depth, num_frames=4, size=(128, 128)).frames
    assert np.array_equal(only.frames, drawn)
    *_, shown = control.preview_control(context, chosen)
    assert all(is_filled(shown))


def test_a_picture_is_the_map_of_every_frame(context, clip_file):
    picture = clip_file(np.full((1, 128, 128, 3), 255, np.uint8))
    (only,) = control.read_job(context, values(map_source="upload", control_video=picture)).request.controls
    assert len(only.frames) == 8


@pytest.mark.parametrize(
    "wrong",
    [
        {"control_type": "nothing"},
        {"second_control_type": "canny"},
        {"second_control_type": "nothing"},
        {"conditioning_scale": 3},
        {"conditioning_scale": float("nan")},
        {"control_start": 0.5, "control_end": 0.5},
        {"control_start": -1},
        {"map_source": "upload"},
        {"map_source": "sample"},
        {"map_source": "guessed"},
        {"map_source": "upload", "control_video": __file__},
        {"image_model": "inpainting"},
        {"low_threshold": 200, "high_threshold": 100},
    ],
)
def test_what_control_refuses(context, wrong):
    with pytest.raises(InputError, match=SENTENCE):
        control.read_job(context, values(**wrong))
    *_, shown = control.preview_control(context, values(**wrong))
    assert is_filled(shown) == [True, *[False] * (len(shown["tiles"]) - 1)]
    assert shown["tiles"][1]["note"].endswith(".")


def test_a_clip_of_ones_own_has_no_true_depth(context, clip_file):
    own = clip_file(np.zeros((8, 64, 64, 3), np.uint8))
    with pytest.raises(InputError, match="Only the samples come with their true depth"):
        control.read_job(context, values(map_source="sample", control_type="depth", video=own))


def test_a_map_that_is_too_short_is_refused(context, clip_file):
    short = clip_file(np.zeros((5, 64, 64, 3), np.uint8))
    with pytest.raises(InputError, match="frame by frame"):
        control.read_job(context, values(map_source="upload", control_video=short))


def test_the_control_types_follow_the_image_model(context):
    first, second = control.follow_model(context, "t2i-adapter", "canny", "none")
    kinds = list(family_named("toybox").networks["t2i-adapter"])
    assert [key for _, key in first["choices"]] == kinds
    assert [key for _, key in second["choices"]] == ["none", *kinds]
    assert (first["value"], second["value"]) == ("canny", "none")


def test_a_pipeline_is_steered_by_one_control_of_any_kind_that_the_family_has(context):
    page = replace(context, family="sd15")
    first, second = control.follow_model(page, "control-pipeline", "depth", "canny")
    networks = family_named("sd15").networks
    assert {key for _, key in first["choices"]} == {*networks["controlnet"], *networks["t2i-adapter"]}
    assert (first["value"], second) == ("depth", gr.update(choices=[("None", "none")], value="none"))
    named = {"pipeline": "owner/sdxl", "pipeline_controlnet": "owner/depth", "control_type": "depth"}
    request = control.read_job(page, values(image_model="control-pipeline", **named)).request
    assert (request.pipeline, request.pipeline_controlnet) == ("owner/sdxl", "owner/depth")
    assert [each.control_type for each in request.controls] == ["depth"]
    with pytest.raises(gr.Error, match="Choose one of these image models: ControlNet, T2I-Adapter"):
        control.follow_model(context, "control-pipeline", "canny", "none")


# Editing


def test_an_instruction_is_the_image_models_prompt(context):
    job = edit.read_job(context, values(instruction="make it night", prompt="unused", source_prompt="a cube at noon"))
    assert (job.request.image_model, job.request.prompt) == ("instruct-pix2pix", "make it night")


def test_prompt2prompt_takes_the_edited_prompt_or_composes_it(context):
    words = {"image_model": "prompt2prompt", "source_prompt": "a red cube at noon", "instruction": "make it night"}
    assert edit.read_job(context, values(**words, prompt="a blue cube")).request.prompt == "a blue cube"
    assert edit.read_job(context, values(**words, prompt="")).request.prompt == "a red cube at night"


def test_prompt2prompt_needs_to_know_what_the_source_shows(context):
    with pytest.raises(InputError, match="source prompt"):
        edit.read_job(context, values(image_model="prompt2prompt", source_prompt="  "))


@pytest.mark.parametrize(
    "wrong",
    [{"image_guidance_scale": 0}, {"cross_replace_steps": 1.5}, {"self_replace_steps": -1}, {"image_model": "given"},
     {"source_prompt": "x" * 10_000}, {"blend_words": "a\x00b"}],
)  # fmt: skip
def test_what_editing_refuses(context, wrong):
    with pytest.raises(InputError, match=SENTENCE):
        edit.read_job(context, values(instruction="make it night", **wrong))


def test_the_words_for_the_video_model_are_shown_before_the_run():
    assert "a red cube at night" in edit.description("a red cube at noon", "make it night", "")
    assert "my own words" in edit.description("a red cube at noon", "make it night", "my own words")
    assert "no words to go by" in edit.description("", "make it night", None)
    assert "<b>" not in edit.description("<b>cube</b>", "", "")


def test_the_fields_follow_the_image_model():
    assert [part["visible"] for part in edit.follow_words("prompt2prompt")] == [False, True]
    assert [part["visible"] for part in edit.follow_words("instruct-pix2pix")] == [True, False]
    assert [part["visible"] for part in edit.follow_details("prompt2prompt")] == [True, False]
    assert [part["visible"] for part in edit.follow_details("instruct-pix2pix")] == [False, True]


@pytest.mark.parametrize("model", TASKS["edit"].image_models)
@pytest.mark.parametrize("words", ["", "   ", None])
def test_an_edit_that_says_nothing_is_refused(context, model, words):
    with pytest.raises(InputError, match="not said what to change"):
        edit.read_job(context, values(image_model=model, source_prompt=words, instruction=words, prompt=words))


# Inpainting


def masks_of(context, **changes):
    return inpaint.read_job(context, values(**{"grow": 0, **changes})).request.masks


def test_the_samples_moving_object_is_the_mask_to_begin_with(context):
    masks = masks_of(context)
    want = read_clip(context.samples[0].masks).frames[..., 0] >= 128
    np.testing.assert_array_equal(masks > 0, want)


def test_a_trimmed_clip_has_a_trimmed_mask(context):
    whole = masks_of(context)
    part = masks_of(context, start=0.125, stride=2, num_frames=3)
    np.testing.assert_array_equal(part, whole[1:7:2])


def test_boxes_and_growth(context):
    box = masks_of(context, mask_source="boxes", boxes="25%, 25%, 75%, 75%")
    assert box[:, 32:96, 32:96].all()
    assert (box > 0).mean() == pytest.approx(0.25)
    grown = masks_of(context, mask_source="boxes", boxes="25%, 25%, 75%, 75%", grow=6)
    assert (grown > 0).sum() > (box > 0).sum()
    assert grown[box > 0].all()


def test_a_color_is_found_where_it_is(context):
    color = "#" + read_source(context, values()).clip.frames[0, 3, 3].tobytes().hex()
    masks = masks_of(context, mask_source="color", color=color, tolerance=5)
    assert masks[0, 3, 3] == 255
    assert (masks > 0).mean() < 0.6


def test_an_uploaded_mask_of_another_size_fits_and_may_be_black(context, clip_file):
    mask = np.zeros((8, 64, 64, 3), np.uint8)
    mask[:, :, :32] = 255
    path = clip_file(mask)
    white = masks_of(context, mask_source="upload", mask_video=path)
    black = masks_of(context, mask_source="upload", mask_video=path, polarity="black")
    assert white[:, :, :56].all()
    assert not white[:, :, 72:].any()
    np.testing.assert_array_equal(white > 0, black == 0)


def test_a_painted_mask_is_carried_over_the_frames(context):
    mask = masks_of(context, mask_source="paint", painted={"paint": painted(40, 20, 100, 80)})
    assert mask.shape == (8, 128, 128)
    assert mask[0].any()
    assert mask[-1].any()


@pytest.mark.parametrize(
    "wrong",
    [
        {"mask_source": "nothing"},
        {"mask_source": "boxes", "boxes": ""},
        {"mask_source": "boxes", "boxes": "a, b"},
        {"mask_source": "color", "color": "reddish"},
        {"mask_source": "color", "color": None},
        {"mask_source": "color", "color": "#00ff00", "tolerance": 0},
        {"mask_source": "upload"},
        {"mask_source": "upload", "mask_video": __file__},
        {"mask_source": "paint"},
        {"mask_source": "paint", "painted": {"paint": "data:text/plain,hello"}},
        {"mask_source": "paint", "painted": {"paint": PNG + "!!!"}},
        {"mask_source": "paint", "painted": {"paint": PNG + "aGVsbG8="}},
        {"grow": -200},
        {"grow": 1.5},
        {"feather": 999},
    ],
)
def test_what_inpainting_refuses(context, wrong):
    with pytest.raises(InputError, match=SENTENCE):
        inpaint.read_job(context, values(**wrong))


def test_an_upload_has_no_known_object(context):
    with pytest.raises(InputError, match="Paint"):
        inpaint.read_job(context, values(video=str(context.samples[1].file)))


def test_the_mask_is_shown_over_the_frames_before_anything_runs(context):
    *_, (shown, canvas) = inpaint.preview_mask(context, values())
    assert [tile["label"] for tile in shown["tiles"]] == ["Source", "Made anew"]
    assert all(is_filled(shown))
    source, marked = (cut_up(tile["sheet"]) for tile in shown["tiles"])
    masks = inpaint.read_job(context, values()).request.masks
    np.testing.assert_array_equal((source != marked).any(-1), masks > 0)
    assert shown["facts"][0][1].endswith("% of the picture")
    assert canvas["sheet"]["count"] == 1


def test_why_there_is_no_mask_is_shown_beside_the_source(context):
    *_, (shown, _) = inpaint.preview_mask(context, values(mask_source="boxes", boxes="x"))
    assert is_filled(shown) == [True, False]
    assert shown["tiles"][1]["note"].endswith(".")


def test_paint_belongs_to_the_frame_it_was_painted_on(context):
    *_, (_, canvas) = inpaint.preview_mask(context, values())
    drawn = {**canvas, "paint": painted(40, 20, 100, 80)}
    paint = {"mask_source": "paint", "painted": drawn}
    *_, (shown, again) = inpaint.preview_mask(context, values(**paint))
    assert all(is_filled(shown))
    assert not isinstance(again, dict) or "sheet" not in again  # the painter stays as it is
    *_, (shown, fresh) = inpaint.preview_mask(context, values(**paint, video=str(context.samples[2].file)))
    assert fresh["paint"] == ""
    assert is_filled(shown) == [True, False]


# Outpainting


@pytest.mark.parametrize(
    "wanted",
    [{"left": "25%", "right": "25%"}, {"top": "64"}, {"left": 32.0, "bottom": "50%"},
     {"extend_by": "aspect", "aspect": "16:9"}, {"extend_by": "aspect", "aspect": "9:16"}],
)  # fmt: skip
def test_the_canvas_suits_the_models(context, wanted):
    canvas = outpaint.read_canvas(context, values(**wanted))
    count, height, width = canvas.masks.shape
    assert canvas.clip.frames.shape == (count, height, width, 3)
    assert (height % 8, width % 8) == (0, 0)
    assert height * width == pytest.approx(128 * 128, rel=0.15)
    assert (canvas.masks == 0).sum() == count * canvas.plan.width * canvas.plan.height


def test_the_canvas_and_its_size_are_shown_before_anything_runs(context):
    (shown,) = outpaint.preview_canvas(context, values(left="25%", right="25%"))
    assert is_filled(shown) == [True]
    assert dict(shown["facts"])["Canvas"] == "160 by 104 pixels"


@pytest.mark.parametrize(
    "wrong",
    [{}, {"left": "0"}, {"left": "wide"}, {"left": "-10"}, {"left": "900%"}, {"extend_by": "aspect", "aspect": ""},
     {"extend_by": "aspect", "aspect": "16:0"}, {"extend_by": "aspect", "aspect": "1:1"}],
)  # fmt: skip
def test_what_outpainting_refuses(context, wrong):
    with pytest.raises(InputError, match=SENTENCE):
        outpaint.read_job(context, values(**wrong))
    (shown,) = outpaint.preview_canvas(context, values(**wrong))
    assert is_filled(shown) == [False]
    assert shown["tiles"][0]["note"].endswith(".")


# Your own frames


def test_given_frames_go_straight_to_the_bridge(context):
    request = smooth.read_job(context, values()).request
    assert request.image_model == "given"
    events = list(context.run(request))
    assert not {"control", "framewise"} & {event.stage for event in events if isinstance(event, StepEvent)}
    assert isinstance(events[-1], GenerationResult)
    np.testing.assert_array_equal(events[-1].framewise_frames, request.frames)


class TestPresets:
    OWNER = "a" * 32

    def saved(self, context, name, **values):
        return presets.save_preset(context, "control", {"visitor": self.OWNER, **values}, name)

    def test_settings_come_back_under_their_name(self):
        context = fake_context(FakeRun())
        chosen, told = self.saved(context, " night ", mixing_ratio=0.4, guidance_scale=3.0)
        built_in = [("Paper (built in)", "built-in/paper")]
        assert (chosen["choices"], chosen["value"]) == ([*built_in, ("night", "night")], "night")
        assert "Saved" in told["value"]
        names = ("guidance_scale", "mixing_rule")
        guidance, rule, told = presets.apply_preset(context, "control", names, self.OWNER, "night")
        assert guidance["value"] == 3.0
        assert "value" not in rule  # the preset does not know it
        assert "Applied" in told["value"]
        assert presets.list_presets(context, "edit", self.OWNER)["choices"] == built_in
        assert presets.list_presets(context, "control", "b" * 32)["choices"] == built_in
        assert presets.delete_preset(context, "control", self.OWNER, "night")[0]["choices"] == built_in

    def test_the_familys_own_presets_fill_in_what_they_say_for_the_chosen_image_model(self):
        context = fake_context(FakeRun())
        bridge = ("mixing_ratio", "frame_prior", "mixing_rule", "start_level")
        names = (*bridge, "num_smoothing_steps", "guidance_scale", "prompt")
        of_the_paper = {"instruct-pix2pix": (1.0, 4.0), "prompt2prompt": (0.25, 4.0)}
        for model, (ratio, guidance) in of_the_paper.items():
            *updates, told = presets.apply_preset(context, "edit", names, self.OWNER, "built-in/paper", model)
            assert [update.get("value") for update in updates] == [ratio, "image", "linear", 1.0, 20, guidance, None]
            assert "Applied" in told["value"]

    def test_what_cannot_be_kept_or_found_is_told_on_the_page(self, monkeypatch):
        context = fake_context(FakeRun())
        with pytest.raises(gr.Error, match="No preset is chosen"):
            presets.apply_preset(context, "control", (), self.OWNER, "night")
        with pytest.raises(gr.Error, match="name"):
            self.saved(context, "")

        def locked(*_):
            raise InputError("The history is locked.")

        monkeypatch.setattr(context.runs.presets, "of", locked)
        assert presets.list_presets(context, "control", self.OWNER)["choices"] == [
            ("Paper (built in)", "built-in/paper")
        ]
        with pytest.raises(gr.Error, match="The history is locked"):
            presets.apply_preset(context, "control", (), self.OWNER, "night")
