"""The three stages together, on random models of the real classes: events, repeatability, cancelling, reuse."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from hooks import given_to

from bivdiff.bridge import latents, pipeline, session
from bivdiff.bridge.control_maps import control_maps
from bivdiff.bridge.pipeline import framewise_frames, last, resolved, run
from bivdiff.bridge.prompts import smoothing_prompt
from bivdiff.bridge.reuse import StageCache
from bivdiff.bridge.session import enter
from bivdiff.catalog.families import family_named
from bivdiff.catalog.image_models import IMAGE_MODELS
from bivdiff.catalog.tasks import TASKS
from bivdiff.errors import BIVDiffError, OutOfMemoryError
from bivdiff.types import Control, GenerationResult, StepEvent

ORDER = ["load", "control", "framewise", "inversion", "smoothing"]
EVERY_IMAGE_MODEL = [(name, model) for name, task in TASKS.items() for model in task.image_models]
MAKING = [(task, model) for task, model in EVERY_IMAGE_MODEL if IMAGE_MODELS[model].makes_frames]
ONE_LEVEL = 1  # a rounding at half a level may fall either way


def hooks_of(manager) -> int:
    return sum(
        len(module._forward_hooks) + len(module._forward_pre_hooks)
        for kept in manager.budget.loaded.values()
        if isinstance(kept.component, torch.nn.Module)
        for module in kept.component.modules()
    )


@pytest.fixture
def calls(manager):
    """How many frames each U-Net was asked for."""
    family = family_named("toybox")
    counted = {}
    with manager.use(family.unet, family.video_models["toybox-video"].unet) as models:
        handles = []
        for name, model in zip(("image", "video"), models, strict=True):
            counted[name] = 0

            def count(_, inputs, name=name):
                counted[name] += len(inputs[0]) * (inputs[0].shape[2] if inputs[0].ndim == 5 else 1)

            handles.append(model.register_forward_pre_hook(count))
        yield counted
        for handle in handles:
            handle.remove()


def test_events_come_in_order_and_end_with_the_result(request_of, manager, peaks):
    *events, result = run(request_of(num_smoothing_steps=4), manager)
    assert all(isinstance(event, StepEvent) for event in events)
    assert isinstance(result, GenerationResult)
    stages = [event.stage for event in events]
    assert [stage for i, stage in enumerate(stages) if i == 0 or stages[i - 1] != stage] == ORDER
    assert {event.stage for event in events if event.preview is not None} >= {"control", "framewise", "smoothing"}
    for event in events:
        assert 0 <= event.step <= event.total
        assert event.message
    assert result.frames.shape == result.framewise_frames.shape == result.control_frames[0].shape == (4, 64, 64, 3)
    assert set(result.seconds) == set(ORDER)
    assert 0 < result.forward_seconds < sum(result.seconds.values())
    assert set(result.peak_bytes) == set(ORDER)
    assert result.peak_memory_bytes == result.peak_bytes["smoothing"] == peaks[-1]


@pytest.mark.parametrize(("task", "image_model"), EVERY_IMAGE_MODEL)
def test_same_seed_same_bits(task_request, manager, task, image_model):
    first, second = (last(run(task_request(task, image_model), manager)) for _ in range(2))
    assert np.array_equal(first.frames, second.frames)
    assert np.array_equal(first.framewise_frames, second.framewise_frames)
    if image_model == "given":
        assert np.array_equal(first.framewise_frames, first.request.frames)


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize(("task", "image_model"), MAKING)
def test_the_seed_decides_the_noise_where_frames_are_made_of_any(task_request, manager, task, image_model, seed):
    """In this order: what all frames share, and then each one's own. An inversion has none."""
    request = task_request(task, image_model, seed=seed, noise_sharing=0.2, num_inference_steps=1)
    with ExitStack() as exits, torch.inference_mode():
        parts = enter(resolved(request), manager, StageCache(), exits).models.parts
        denoiser = parts.networks[0] if IMAGE_MODELS[image_model].denoiser == "own" else parts.unet
        with given_to(denoiser) as calls:
            framewise_frames(request, manager)
        clean = latents.encode(parts.vae, request.frames, 4)
    if IMAGE_MODELS[image_model].inverts_source:
        expected = latents.fold_frames(clean)
    else:
        numbers = torch.randn(5, 4, 8, 8, generator=torch.Generator().manual_seed(seed))
        expected = 0.2**0.5 * numbers[0] + 0.8**0.5 * numbers[1:]
    assert torch.allclose(calls[0][0][:4, :4], expected, atol=1e-6)


def test_a_drawn_seed_is_told_and_repeats_the_run(request_of, manager):
    drawn = last(run(request_of(seed=None), manager))
    again = last(run(request_of(seed=drawn.seed), manager))
    assert drawn.request.seed == drawn.seed
    assert np.array_equal(drawn.frames, again.frames)


@pytest.mark.parametrize(("task", "image_model"), EVERY_IMAGE_MODEL)
def test_a_batch_of_frames_equals_frame_by_frame(task_request, manager, task, image_model):
    together = last(run(task_request(task, image_model, frame_batch_size=8), manager))
    single = last(run(task_request(task, image_model, frame_batch_size=1), manager))
    apart = np.abs(together.framewise_frames.astype(int) - single.framewise_frames)
    assert apart.max() <= ONE_LEVEL


@pytest.mark.parametrize(("ratio", "image", "video"), [(1.0, 8, 0), (0.0, 0, 8), (0.5, 8, 8)])
def test_an_inversion_without_weight_is_not_run(request_of, manager, calls, ratio, image, video):
    request = request_of(mixing_ratio=ratio, guidance_scale=1.0, smoothing_guidance_scale=1.0)
    result = last(run(request, manager))
    assert calls == {"image": 8 + image, "video": 8 + video}  # 4 frames, 2 steps a stage
    inversions = {"inversion": image + video}
    assert result.evaluations == {"framewise": 8, **inversions, "smoothing": 8}


def test_guidance_doubles_a_stage(request_of, manager):
    result = last(run(request_of(guidance_scale=3.0, smoothing_guidance_scale=2.0, mixing_ratio=1.0), manager))
    assert result.evaluations == {"framewise": 16, "inversion": 8, "smoothing": 16}


def test_every_stage_takes_the_steps_that_are_asked_for(request_of, manager):
    request = request_of(num_inference_steps=3, num_inversion_steps=1, num_smoothing_steps=4, mixing_ratio=0.5)
    steps = {}
    for event in run(request, manager):
        if isinstance(event, StepEvent) and event.total > 1:
            steps.setdefault(event.message, []).append((event.step, event.total))
    assert steps["Frame by frame"] == [(1, 3), (2, 3), (3, 3)]
    assert steps["Smoothing"] == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_the_thresholds_are_the_annotators(request_of, manager, source_frames):
    (maps,) = control_maps(request_of(low_threshold=20, high_threshold=60), manager)
    edges = np.stack([cv2.Canny(frame, 20, 60) for frame in source_frames])
    assert np.array_equal(maps, np.repeat(edges[..., None], 3, -1))


def test_frames_of_one_picture_and_one_noise_are_one_picture(request_of, manager, source_frames):
    still = np.repeat(source_frames[:1], 3, 0)
    frames = framewise_frames(request_of(frames=still, noise_sharing=1.0), manager)
    assert np.abs(frames.astype(int) - frames[0]).max() <= ONE_LEVEL


@pytest.mark.parametrize(("task", "image_model"), MAKING)
def test_at_guidance_one_the_negative_prompt_is_not_heard_and_the_prompt_is(task_request, manager, task, image_model):
    def made(**changes):
        silent = {"guidance_scale": 1.0, "image_guidance_scale": 1.0, "cross_replace_steps": 0.0}
        return framewise_frames(task_request(task, image_model, **silent, **changes), manager).astype(int)

    request = task_request(task, image_model)
    with ExitStack() as exits, torch.inference_mode():
        models = enter(resolved(request), manager, StageCache(), exits).models
        embeds = {text: models.embed(text)[0] for text in (request.prompt, request.source_prompt, "a yellow cone")}
        own = IMAGE_MODELS[image_model].denoiser == "own"
        with given_to(models.parts.networks[0] if own else models.parts.unet) as calls:
            changed = made(negative_prompt="a yellow cone")
    shown = {text for text, words in embeds.items() for call in calls for each in call[2] if torch.equal(each, words)}
    wanted = {request.prompt, *([request.source_prompt] if IMAGE_MODELS[image_model].inverts_source else [])}
    # InstructPix2Pix evaluates all that it can be guided by, and weighs it with nothing.
    assert shown - ({"a yellow cone"} if image_model == "instruct-pix2pix" else set()) == wanted
    assert np.abs(changed - made()).max() <= ONE_LEVEL


def test_given_control_maps_are_used_as_they_are(request_of, manager, source_frames, monkeypatch):
    inverted = 255 - source_frames
    result = last(run(request_of(controls=(Control(frames=inverted),)), manager))
    assert np.array_equal(result.control_frames[0], inverted)
    monkeypatch.setattr(session, "control_maps", lambda *_: (inverted,))  # as if they had been drawn
    assert np.array_equal(result.framewise_frames, framewise_frames(request_of(), manager))


@pytest.mark.parametrize("image_model", ["controlnet", "t2i-adapter"])
def test_two_controls_steer_together(task_request, manager, image_model):
    canny, depth = Control(control_type="canny"), Control(control_type="depth", conditioning_scale=0.7)
    made, added = [], []
    for controls in ((canny,), (depth,), (canny, depth), (depth, canny)):
        with manager.hold(family_named("toybox").unet) as (unet,), given_to(unet) as calls:
            result = last(run(task_request("control", image_model, controls=controls), manager))
        assert len(result.control_frames) == len(controls)
        made.append(result.framewise_frames.astype(int))
        added.append(torch.cat([level.flatten() for level in calls[0][3]]))  # in the first step, of the same noise
    assert torch.allclose(added[2], added[0] + added[1], atol=1e-5)
    assert np.abs(made[2] - made[3]).max() <= ONE_LEVEL  # in any order


@pytest.mark.parametrize("image_model", ["controlnet", "t2i-adapter"])
def test_a_control_that_never_steers_is_not_evaluated(task_request, manager, image_model):
    """Between two steps lies no whole step, and a weight of nothing adds nothing."""
    silent = [(Control(start=0.1, end=0.4),), (Control(conditioning_scale=0.0),)]
    made = [last(run(task_request("control", image_model, controls=controls), manager)) for controls in silent]
    assert np.array_equal(made[0].framewise_frames, made[1].framewise_frames)


def test_known_content_is_kept_and_can_be_let_go(task_request, manager, source_frames):
    kept = last(run(task_request("inpaint", "inpainting", feather=0), manager))
    outside = kept.request.masks == 0
    for frames in (kept.framewise_frames, kept.frames):
        assert np.array_equal(frames[outside], source_frames[outside])
        assert not np.array_equal(frames[~outside], source_frames[~outside])
    free = last(run(task_request("inpaint", "inpainting", preserve_known=False), manager))
    assert np.array_equal(free.framewise_frames[~outside], kept.framewise_frames[~outside])
    assert not np.array_equal(free.frames[outside], source_frames[outside])


@pytest.mark.parametrize("start_level", [1.0, 0.5])
def test_known_latents_are_put_back_after_every_step(manager, start_level):
    """At the noise that they have where smoothing begins, wherever that is."""
    from bivdiff.bridge.paths import DiffusionPath, Known
    from bivdiff.bridge.smoothing import smooth

    family = family_named("toybox")
    with manager.use(family.video_models["toybox-video"].unet, family.scheduler) as (unet, scheduler), torch.no_grad():
        torch.manual_seed(0)
        clean, noise, embeds = torch.randn(1, 4, 2, 8, 8), torch.randn(1, 4, 2, 8, 8), torch.randn(1, 32, 128)
        holes = torch.zeros(1, 1, 2, 8, 8, dtype=torch.bool)
        holes[..., :4] = True

        def at_noise(timestep):
            cumulative = scheduler.alphas_cumprod[timestep]
            return cumulative**0.5 * clean + (1 - cumulative) ** 0.5 * noise

        def noise_pred(latents, timestep, text):
            return unet(latents, timestep, text).sample

        walked = [751, 501, 251, 1] if start_level == 1 else [251, 1]
        steps = list(
            smooth(
                noise_pred, DiffusionPath(scheduler), at_noise(walked[0]), embeds, embeds, guidance_scale=1.0,
                num_steps=4, known=Known(clean, holes), start_level=start_level,
            )
        )  # fmt: skip
    outside = ~holes.expand_as(clean)
    assert len(steps) == len(walked)
    for step, reached in zip(steps, walked[1:], strict=False):
        assert torch.allclose(step.latents[outside], at_noise(reached)[outside], atol=1e-5)
    assert torch.equal(steps[-1].latents[outside], clean[outside])
    assert not torch.equal(steps[-1].latents[~outside], clean[~outside])


def test_the_inversions_can_be_told_what_the_video_model_is(request_of, manager):
    """The mark is filled in before anything runs, so the result names the words that were used."""
    marked = last(run(request_of(inversion_prompt="{prompt}, blurred", video_prompt="a sea"), manager))
    spelt = last(run(request_of(inversion_prompt="a sea, blurred", video_prompt="a sea"), manager))
    assert marked.request.inversion_prompt == "a sea, blurred"
    assert np.array_equal(marked.frames, spelt.frames)


def test_the_video_model_is_told_what_the_clip_shows(task_request):
    request = task_request("edit", "instruct-pix2pix", prompt="make the cube blue", source_prompt="a red cube at noon")
    assert smoothing_prompt(request) == "a blue cube at noon"
    assert smoothing_prompt(replace(request, source_prompt="")) == ""
    assert smoothing_prompt(replace(request, video_prompt="a sea")) == "a sea"
    assert smoothing_prompt(task_request("edit", "prompt2prompt", prompt="a sea")) == "a sea"


@pytest.mark.parametrize(("task", "image_model"), EVERY_IMAGE_MODEL)
def test_cancelling_between_any_two_events_frees_everything(task_request, manager, task, image_model):
    """Between any two events of the first image model; the others differ in the frame-wise stage alone."""
    total = len(list(run(task_request(task, image_model), manager)))
    hooks = hooks_of(manager)  # transformers leaves some of its own
    first = (task, image_model) == EVERY_IMAGE_MODEL[0]
    for stop_after in range(1, total) if first else (1, total // 2, total - 1):
        events = run(task_request(task, image_model), manager)
        for _ in range(stop_after):
            next(events)
        events.close()
        assert hooks_of(manager) == hooks
        assert manager.held() == []
    assert not torch.is_inference_mode_enabled()


def test_between_events_the_caller_is_not_in_inference_mode(request_of, manager):
    for _ in run(request_of(), manager):
        assert not torch.is_inference_mode_enabled()


def test_a_new_ratio_reruns_only_what_depends_on_it(request_of, manager, calls):
    cache = StageCache()
    last(run(request_of(mixing_ratio=0.5, smoothing_guidance_scale=1.0), manager, cache))
    before = dict(calls)
    again = last(run(request_of(mixing_ratio=0.8, smoothing_guidance_scale=1.0), manager, cache))
    assert {name: calls[name] - before[name] for name in calls} == {"image": 0, "video": 8}
    fresh = last(run(request_of(mixing_ratio=0.8, smoothing_guidance_scale=1.0), manager))
    assert np.array_equal(again.frames, fresh.frames)


def test_the_cache_does_not_mix_up_requests(request_of, manager):
    cache = StageCache()
    last(run(request_of(), manager, cache))
    for change in ({"prompt": "a blue cone"}, {"seed": 9}, {"num_inversion_steps": 3}, {"noise_sharing": 1.0}):
        cached = last(run(request_of(**change), manager, cache))
        assert np.array_equal(cached.frames, last(run(request_of(**change), manager)).frames), change


def test_the_cache_forgets_the_oldest():
    cache = StageCache(entries=2)
    cache.put("a", 1)
    cache.put("b", 2)
    cache.get("a")
    cache.put("c", 3)
    assert (cache.get("a"), cache.get("b"), cache.get("c")) == (1, None, 3)


def test_a_prompt_that_is_too_long_is_noted(request_of, manager):
    notes = [
        event.note for event in run(request_of(prompt="a red cube " * 20), manager) if isinstance(event, StepEvent)
    ]
    assert [note for note in notes if note] == [notes[1]]
    assert "red cube" in notes[1]


def test_framewise_frames_are_those_of_a_run(request_of, manager):
    assert np.array_equal(framewise_frames(request_of(), manager), last(run(request_of(), manager)).framewise_frames)


def test_any_number_of_frames_and_any_shape_of_picture(request_of, manager, source_frames):
    for frames in (source_frames[:1], np.tile(source_frames, (3, 1, 1, 1))[:10], source_frames[:, :40, :56]):
        assert last(run(request_of(frames=np.ascontiguousarray(frames)), manager)).frames.shape == frames.shape


def test_numbers_that_run_over_are_told_instead_of_black_frames(request_of, manager, monkeypatch):
    last(run(request_of(), manager))
    hooks = hooks_of(manager)
    nan = torch.full((1, 4, 4, 8, 8), float("nan"))
    monkeypatch.setattr(pipeline.mixing, "blend_latents", lambda *_, **__: nan)
    with pytest.raises(BIVDiffError, match="NaN"):
        last(run(request_of(), manager))
    assert hooks_of(manager) == hooks


def test_out_of_memory_says_what_to_change(request_of, manager, monkeypatch):
    def full(*_):
        raise torch.OutOfMemoryError

    monkeypatch.setattr(pipeline.latents, "encode", full)
    with pytest.raises(OutOfMemoryError, match="frame batch size"):
        last(run(request_of(), manager))
