"""Before a run: what it will take, and what is changed so that it fits."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from bivdiff.bridge.pipeline import last, run
from bivdiff.catalog.components import components_of
from bivdiff.catalog.families import FAMILIES
from bivdiff.catalog.requests import default_request
from bivdiff.compare.planning import expected_of_all, fitted_for_all
from bivdiff.errors import OutOfMemoryError
from bivdiff.models import estimate as estimating
from bivdiff.models import pace, planning
from bivdiff.models.estimate import activation_bytes, estimate, operations, with_size
from bivdiff.models.loaders import KINDS
from bivdiff.models.manager import ModelManager
from bivdiff.models.memory import Memory, MemoryProbe
from bivdiff.models.planning import fitted
from bivdiff.settings import Settings
from bivdiff.types import Control

GIGA = 10**9


class Card(MemoryProbe):
    """A card with so many gigabytes free, in a computer with 64."""

    def __init__(self, gigabytes):
        self._device = Memory(int(gigabytes * GIGA), 24 * GIGA)

    def device(self, _):
        return self._device

    def host(self):
        return Memory(64 * GIGA, 64 * GIGA)


def manager_of(gigabytes, tmp_path, policy="model"):
    """A manager that believes in a card; its models are nowhere, so that sizes are the catalog's."""
    settings = Settings(
        device="cpu", offload=policy, dtype="float16", device_memory=f"{gigabytes}GB", models_folder=tmp_path
    )
    manager = ModelManager(settings, Card(gigabytes))
    manager.slices = True  # as on a card
    return manager


@pytest.fixture(autouse=True)
def _offline(tmp_path, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    # How fast this machine is, is nothing to these tests, and takes seconds to find out at 16 bits.
    monkeypatch.setattr(pace, "measured_speed", lambda *_: 100.0)


def big_request(size=512, frames=8, **changes):
    return default_request(
        "control", "sd15", np.zeros((frames, size, size, 3), np.uint8), "a cube", controls=(Control(),), **changes
    )


def test_weights_are_counted_as_the_policy_places_them(tmp_path):
    found = {policy: estimate(big_request(), manager_of(24, tmp_path, policy)) for policy in ("none", "model", "group")}
    sizes = {policy: estimate.device_bytes / GIGA for policy, estimate in found.items()}
    # U-Net 1.72, ControlNet 0.72, VAE 0.17, text encoders 0.25 and 0.68, ZeroScope 2.82
    activations = activation_bytes(big_request(), manager_of(24, tmp_path)) / GIGA
    assert sizes["none"] == pytest.approx(6.36 + activations, abs=0.05)
    assert sizes["model"] == pytest.approx(2.82 + 0.17 + activations, abs=0.05)
    assert sizes["group"] == pytest.approx(0.25 + activations, abs=0.05)
    assert found["model"].host_bytes > 6 * GIGA


def test_what_is_computed_grows_with_frames_and_size_and_not_beyond_the_window(tmp_path):
    def activations(**changes):
        request = big_request(**changes)
        return activation_bytes(request, manager)

    manager = manager_of(24, tmp_path)
    assert activations(size=512) == pytest.approx(4 * activations(size=256), rel=0.01)
    assert activations(frames=16) == pytest.approx(2 * activations(frames=8), rel=0.01)
    assert activations(frames=96) == activations(frames=24)
    assert activations(frames=96, window=8) == activations(frames=8)
    assert activations(smoothing_guidance_scale=1.0) < activations(smoothing_guidance_scale=2.0)


def test_clips_and_latents_that_are_whole_are_counted(tmp_path):
    """A frame is five clips' of pixels on the host, its map one of them, and as many bytes of latents as one's."""
    shorter, longer = (estimate(big_request(frames=count), manager_of(24, tmp_path)) for count in (24, 224))
    pixels = 200 * 512 * 512 * 3
    assert longer.host_bytes - shorter.host_bytes == 5 * pixels
    assert longer.device_bytes - shorter.device_bytes == pixels


def test_operations_are_those_of_every_stage():
    request = big_request(num_inference_steps=2, num_inversion_steps=3, num_smoothing_steps=4, mixing_ratio=0.5)
    cost = {name: kind.footprint.gflop for name, kind in KINDS.items()}
    denoising = 8 * (2 * 2 * (cost["unet"] + cost["controlnet"]) + 3 * cost["unet"] + 3 * cost["video_unet"]
                     + 2 * 4 * cost["video_unet"])  # fmt: skip
    coding = 8 * (2 * cost["vae"] + KINDS["vae"].encoding.gflop)
    assert sum(operations(request).values()) == pytest.approx(denoising + coding)
    alone = sum(operations(replace(request, mixing_ratio=1.0)).values())
    assert denoising + coding - alone == pytest.approx(8 * 3 * cost["video_unet"])


def test_what_does_not_fit_says_what_to_change_and_can_be_made_to_fit(tmp_path):
    request = big_request(frame_batch_size=8)
    assert estimate(request, manager_of(24, tmp_path)).fits
    small = manager_of(3, tmp_path)
    found = estimate(request, small)
    assert not found.fits
    assert "3 GB" in found.advice
    assert "leaner offload policy" in found.advice
    smaller, expected, sentence = fitted(request, small)
    assert small.policy == "group"
    assert "the offload policy is 'group'" in sentence
    assert expected == estimate(smaller, small)
    assert expected.fits


def test_the_least_change_is_taken(tmp_path):
    request = big_request(frames=24, frame_batch_size=8)
    same, _, nothing = fitted(request, manager_of(24, tmp_path))
    assert same is request
    assert nothing == ""
    policies = {}
    for gigabytes in (12, 7, 5, 2):
        manager = manager_of(gigabytes, tmp_path, "none")
        smaller, *_ = fitted(request, manager)
        policies[gigabytes] = (manager.policy, smaller.window)
        assert smaller.frames is request.frames
    assert [policy for policy, _ in policies.values()] == sorted(
        (policy for policy, _ in policies.values()), key=["none", "model", "group"].index
    )
    assert policies[2][1] is not None
    assert policies[12][1] is None


def test_the_size_changes_last_and_all_pictures_with_it(source_frames):
    frames = np.repeat(np.repeat(source_frames[:2], 512 // source_frames.shape[1], 1), 512 // source_frames.shape[2], 2)
    masks = np.zeros(frames.shape[:3], np.uint8)
    masks[:, 100:200, 40:41] = 255
    request = replace(big_request(frames=2), frames=frames, masks=masks, controls=(Control(frames=frames),))
    smaller = with_size(request, 0.75)
    assert smaller.frames.shape == smaller.controls[0].frames.shape == (2, 384, 384, 3)
    assert smaller.masks.shape == (2, 384, 384)
    assert smaller.masks[:, 80:145, 30].all()  # a line a pixel wide is not lost
    assert not smaller.masks[:, 160:].any()
    np.testing.assert_allclose(smaller.frames.mean((1, 2)), frames.mean((1, 2)), atol=1)
    assert with_size(request, 1) is request
    assert with_size(smaller, 0.5) is None


@pytest.mark.parametrize(("video_model", "size"), [("wan2.1-1.3b", (624, 352)), ("ltx-0.9.5", (640, 352))])
def test_a_smaller_size_is_one_that_the_video_model_can_be_given(video_model, size):
    frames = np.zeros((2, 480, 832, 3), np.uint8)
    request = default_request("smooth", "sd15", frames, "a cube", video_model=video_model)
    smaller = with_size(request, 0.75)
    assert smaller.frames.shape[2:0:-1] == size
    components_of(smaller)


def test_an_autoencoder_that_holds_the_whole_clip_is_reckoned_so(tmp_path):
    """LTX-Video's; the others go through a clip part by part."""
    manager = manager_of(24, tmp_path)

    def coding(video_model, num_frames):
        frames = np.zeros((num_frames, 512, 512, 3), np.uint8)
        request = default_request("smooth", "sd15", frames, "a cube", video_model=video_model, window=9)
        return estimating._coding_bytes(request, manager)

    assert coding("ltx-0.9.5", 161) == pytest.approx(21 / 11 * coding("ltx-0.9.5", 81), rel=1e-6)
    assert coding("cogvideox-2b", 17) == coding("cogvideox-2b", 9)


def test_where_nothing_else_helps_the_picture_gets_smaller_and_that_is_told(tmp_path, monkeypatch):
    request = big_request(frames=8)

    def only_small_ones_fit(asked, *_):
        fits = asked.frames.shape[1] <= 384
        return SimpleNamespace(fits=fits, advice="Lower something.")

    monkeypatch.setattr(estimating, "estimate", only_small_ones_fit)
    monkeypatch.setattr(planning, "estimate", only_small_ones_fit)
    smaller, _, told = fitted(request, manager_of(24, tmp_path))
    assert smaller.frames.shape[1:3] == (384, 384)
    assert smaller.frame_batch_size == request.frame_batch_size
    assert told == "To fit into the memory, the picture is 384 by 384 pixels."


def test_nothing_fits_nowhere(tmp_path):
    with pytest.raises(OutOfMemoryError, match="smaller size"):
        fitted(big_request(size=1024), manager_of(0.1, tmp_path))


def test_a_run_teaches_how_long_the_next_takes(request_of, settings):
    manager = ModelManager(settings)
    request = request_of(mixing_ratio=0.5)
    before = estimate(request, manager)
    assert before.rough
    assert "roughly" in before.sentence
    result = last(run(request, manager))
    after = estimate(request, manager)
    assert not after.rough
    spent = sum(result.seconds[stage] for stage in ("framewise", "inversion", "smoothing"))
    assert after.seconds == pytest.approx(spent, rel=0.01)
    assert after.device_bytes > sum(manager.weight_bytes(spec) for spec in FAMILIES["toybox"].shared)


def test_a_longer_clip_takes_what_is_estimated_of_it_where_it_fits(tmp_path, task_request):
    manager = manager_of(24, tmp_path)
    request = task_request("inpaint", "inpainting")
    frames, masks = np.tile(request.frames, (3, 1, 1, 1)), np.tile(request.masks, (3, 1, 1))
    longer = replace(request, frames=frames, masks=masks)
    assert estimating.seconds_of(request, 12, manager) == estimate(longer, manager).seconds
    assert estimating.seconds_of(request, 12, manager_of(0.01, tmp_path)) is None


def test_weights_in_memory_are_counted_as_they_are(settings):
    manager, spec = ModelManager(settings), FAMILIES["toybox"].unet
    guessed = manager.weight_bytes(spec)
    with manager.hold(spec) as (unet,):
        exact = sum(parameter.numel() * 4 for parameter in unet.parameters())
        assert manager.weight_bytes(spec) == exact
    assert guessed == pytest.approx(exact, rel=0.02)


def test_a_comparison_takes_what_its_hungriest_clip_takes_and_the_time_of_all(tmp_path):
    manager, request = manager_of(24, tmp_path), big_request(smoothing_guidance_scale=1.0)
    one, guided = estimate(request, manager), estimate(replace(request, smoothing_guidance_scale=4.0), manager)
    assert guided.device_bytes > one.device_bytes
    ratios = {"mixing_ratio": [0.0, 0.5, 1.0]}
    both = expected_of_all(request, {**ratios, "smoothing_guidance_scale": [1.0, 4.0]}, manager)
    assert both.device_bytes == guided.device_bytes
    assert both.seconds > expected_of_all(request, ratios, manager).seconds
    assert one.seconds < expected_of_all(request, ratios, manager).seconds < 3 * one.seconds
    seeds = expected_of_all(replace(request, mixing_ratio=0.5), {"seed": [1, 2, 3]}, manager)
    assert seeds.seconds == pytest.approx(3 * estimate(replace(request, mixing_ratio=0.5), manager).seconds)


def test_a_comparison_is_made_to_fit_for_its_hungriest_clip_and_keeps_its_own_settings(tmp_path):
    request = big_request(smoothing_guidance_scale=1.0, frame_batch_size=1)
    axes = {"smoothing_guidance_scale": [1.0, 4.0]}
    need = estimate(request, manager_of(24, tmp_path)).device_bytes / GIGA
    alone, _, told = fitted(request, manager_of(need + 0.1, tmp_path))
    assert (alone.window, told) == (request.window, "")
    tight = manager_of(need + 0.1, tmp_path)
    smaller, expected, told = fitted_for_all(request, axes, tight)
    assert told
    assert smaller.smoothing_guidance_scale == 1.0
    assert expected == expected_of_all(smaller, axes, tight)
    assert expected.fits


@pytest.mark.parametrize(
    ("fits", "kept"),
    [
        (lambda asked, policy: policy == "group" or asked.frame_batch_size < 8, (8, 8, "group")),
        (lambda asked, _: asked.frame_batch_size <= 2 or asked.window == 4, (2, 8, "model")),
        (lambda asked, _: asked.window == 4 or asked.frames.shape[1] < 512, (8, 4, "model")),
    ],
)
def test_what_changes_the_result_least_goes_first(monkeypatch, fits, kept):
    """The policy before the frames at once, these before the window, and that before the size of the picture."""
    frames = np.zeros((8, 512, 512, 3), np.uint8)
    request = default_request("smooth", "toybox", frames, "", frame_batch_size=8, window=8)
    monkeypatch.setattr(estimating, "estimate", lambda *asked: SimpleNamespace(fits=fits(asked[0], asked[2])))
    smaller, policy, _ = estimating.fit(request, SimpleNamespace(policy="model"))
    assert (smaller.frame_batch_size, smaller.window or 8, policy) == kept
    assert smaller.frames.shape == frames.shape
