"""Random networks of the real shapes: at full size what they hold, at a small one whole runs, and the benchmark."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from hooks import prompts_read
from small_networks import small_architecture

from bivdiff.bridge.pipeline import last, run
from bivdiff.catalog.families import FAMILIES
from bivdiff.catalog.requests import default_request
from bivdiff.cli import main as cli
from bivdiff.models import random_weights
from bivdiff.models.loaders import architecture_of
from bivdiff.models.manager import ModelManager
from bivdiff.models.random_weights import read_random
from bivdiff.settings import Settings
from bivdiff.toybox.networks import build_scheduler

SD15 = FAMILIES["sd15"]
STEPS = {"num_inference_steps": 2, "num_inversion_steps": 2, "num_smoothing_steps": 2}


@pytest.fixture
def _small(monkeypatch):
    monkeypatch.setattr(random_weights, "architecture_of", small_architecture)


@pytest.fixture
def small_manager(_small):
    return ModelManager(Settings(device="cpu"), read=lambda spec, base: read_random(spec, base, torch.float32))


def test_a_network_is_full_of_small_numbers_of_its_dtype():
    """At full size: 77 million parameters, of which none starts at zero as it would in training."""
    adapter = read_random(SD15.networks["t2i-adapter"]["depth"], None, torch.bfloat16)
    assert not adapter.training
    for name, parameter in adapter.named_parameters():
        assert parameter.dtype == torch.bfloat16
        assert not parameter.requires_grad
        if parameter.ndim > 1:
            bound = parameter[0].numel() ** -0.5
            assert parameter.float().std().item() == pytest.approx(bound / 3**0.5, rel=0.1), name
            assert parameter.float().abs().max() <= bound * 1.01
        else:
            assert 0 < parameter.float().abs().max() <= 0.021, name
    alike = torch.stack([block.resnets[0].block1.weight.flatten() for block in adapter.adapter.body[2:]])
    assert torch.corrcoef(alike.float())[0, 1].abs() < 0.01  # two layers of one shape are drawn apart


@pytest.mark.usefixtures("_small")
def test_no_two_entries_have_the_same_weights_and_each_has_always_the_same():
    canny, depth = (SD15.networks["controlnet"][kind] for kind in ("canny", "depth"))
    one, again, other_seed, other = (
        torch.cat([weight.flatten() for weight in read_random(*made).parameters()])
        for made in (
            (canny, None, torch.float32), (canny, None, torch.float32), (canny, None, torch.float32, 1),
            (depth, None, torch.float32),
        )
    )  # fmt: skip
    assert torch.equal(one, again)
    for different in (other_seed, other):
        assert (one != different).float().mean() > 0.99


@pytest.mark.usefixtures("_small")
@pytest.mark.parametrize("version", ["animatediff-v1-5-2", "animatediff-v1-5-3"])
def test_a_motion_network_shares_the_weights_of_its_image_model(version):
    base = read_random(SD15.unet, None, torch.float32)
    unet = read_random(SD15.video_models[version].unet, base, torch.float32)
    theirs = {name: weight.data_ptr() for name, weight in unet.named_parameters()}
    assert all(theirs[name] == weight.data_ptr() for name, weight in base.named_parameters())
    assert hasattr(unet.mid_block, "motion_modules") == (version == "animatediff-v1-5-2")
    assert all(weight.any() for weight in unet.parameters())


def test_tokenizer_and_schedules_are_the_real_ones_where_it_matters():
    video = SD15.video_models["animatediff-v1-5-3"]
    tokenizer = read_random(video.tokenizer, None, torch.float32)
    ids = tokenizer(["Un château à l'aube, 城堡"], padding="max_length", truncation=True, return_tensors="pt").input_ids
    assert ids.shape == (1, 77)
    assert ids.max() < architecture_of(SD15.text_encoder).config["vocab_size"]
    plain, linear = (read_random(spec, None, torch.float32) for spec in (SD15.scheduler, video.scheduler))
    assert torch.equal(plain.alphas_cumprod, build_scheduler().alphas_cumprod)
    assert linear.alphas_cumprod[999].item() == pytest.approx(0.00158, rel=0.01)
    assert linear.config.set_alpha_to_one is False


@pytest.mark.parametrize("video_model", SD15.video_models)
def test_every_video_model_runs_from_a_prompt_to_a_clip(small_manager, source_frames, video_model):
    video = SD15.video_models[video_model]

    def made(video_prompt):
        request = default_request(
            "control", "sd15", source_frames, "a blue cube", video_model=video_model, video_prompt=video_prompt, seed=3,
            mixing_ratio=0.5, **STEPS,
        )  # fmt: skip
        with prompts_read(small_manager, video.tokenizer, video.text_encoder) as read:
            return last(run(request, small_manager)), read

    (result, read), (other, read_other) = made("a sea of sand"), made("a forest at night")
    for frames in (result.frames, result.framewise_frames):
        assert frames.shape == source_frames.shape
        assert frames.std() > 1
    assert np.array_equal(result.framewise_frames, other.framewise_frames)
    assert set(read) - set(read_other) == {"a sea of sand"}
    assert set(read_other) - set(read) == {"a forest at night"}


@pytest.mark.usefixtures("_small")
@pytest.mark.parametrize("video_model", ["zeroscope", "animatediff-v1-5-2"])
def test_the_benchmark_needs_no_weights(monkeypatch, capsys, peaks, video_model):
    monkeypatch.setitem(FAMILIES, "sd15", replace(SD15, size=(64, 64), num_frames=2))
    flags = ["--steps", "2", "--num-smoothing-steps", "3", "--size", "128", "--frames", "3", "--runs", "0"]
    flags += ["--dtype", "float32", "--offload", "model", "--video-model", video_model, "--random-weights", "--json"]
    assert cli.main(["--device", "cpu", "bench", "--family", "sd15", *flags]) == 0
    report = json.loads(capsys.readouterr().out)
    assert [report[name] for name in ("frames", "width", "height")] == [3, 128, 128]
    assert [report[name] for name in ("dtype", "offload", "random_weights")] == ["float32", "model", True]
    # Guidance doubles what the frames and the clip cost; the inversion is of the image model alone, unguided.
    assert report["evaluations"] == {"framewise": 12, "inversion": 6, "smoothing": 18}
    stages = dict(report["stages"])
    assert stages.pop("load") == report["load_seconds"] > 0
    assert 0 < sum(stages.values()) <= report["total_seconds"]
    assert set(report["stage_peak_bytes"]) == {"load", *stages}
    assert max(report["stage_peak_bytes"].values()) == report["peak_memory_bytes"] == peaks[-1]
    assert "swap" not in report


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--random-weights"], "The shape of 'toybox/vae' is not known"),
        (["--size", "100"], "multiple of 8"),
        (["--runs", "-1"], "at least 0 runs"),
        (["--offload", "cloud"], "Unknown offload policy 'cloud'"),
        (["--dtype", "int4"], "Unknown dtype 'int4'"),
    ],
)
def test_what_cannot_be_measured_is_a_sentence(capsys, flags, sentence):
    assert cli.main(["--device", "cpu", "bench", "--steps", "1", "--runs", "0", "--task", "smooth", *flags]) == 1
    assert sentence in capsys.readouterr().err


@pytest.mark.parametrize("task", ["inpaint", "outpaint"])
def test_masks_grow_with_the_clip(toybox_folder, monkeypatch, capsys, task):
    monkeypatch.setenv("BIVDIFF_TOYBOX_FOLDER", str(toybox_folder))
    flags = ["--task", task, "--steps", "1", "--runs", "1", "--size", "64", "--frames", "9", "--json"]
    assert cli.main(["--device", "cpu", "bench", *flags]) == 0
    report = json.loads(capsys.readouterr().out)
    assert [report[name] for name in ("frames", "width", "height", "random_weights")] == [9, 64, 64, False]
    assert report["stages"]["load"] < report["load_seconds"]  # the second run found the models loaded
