"""How the toybox's weights are made: every stage runs on real clips, resumes, and leaves what the next one reads."""

from __future__ import annotations

import re
import threading
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKLWan, ConfigMixin, ModelMixin, UNet2DConditionModel
from diffusers.configuration_utils import register_to_config
from patience import PATIENCE
from PIL import Image

from bivdiff.models.manager import ModelManager
from bivdiff.settings import ASSETS, Settings
from bivdiff.toybox import (
    autoencoder,
    conditioned,
    data,
    flow,
    material,
    networks,
    preview,
    schedule,
    train,
    trainer,
    whole,
    world,
)

STEP = 1 / 60  # minutes that a step takes by the clock of `ticking`
TOYBOX = ASSETS / "toybox"
TEMPORAL = {"TemporalConvLayer", "TransformerTemporalModel"}


class Layer(ModelMixin, ConfigMixin):
    """A linear layer that is saved and loaded as the networks are."""

    @register_to_config
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(4, 1)


@pytest.fixture
def ticking(monkeypatch):
    """A second passes at each look at the clock: training takes as many steps on every machine."""
    for module in (trainer, preview):
        seconds = count()
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda seconds=seconds: next(seconds)))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A training folder with four clips, of which each step sees few."""
    monkeypatch.setattr(data, "SHARD_CLIPS", 2)
    monkeypatch.setattr(material, "SAMPLE_STEPS", 2)
    for name, value in {
        "IMAGES": 2,
        "CLIPS": 1,
        "DEPTHS": 2,
        "TRAINING_CLIPS": 4,
        "TRAINING_EDITS": 24,
        "FLOW_CLIPS": 2,
    }.items():
        monkeypatch.setattr(train, name, value)
    for name, value in {"CROPS": 1, "BATCH": 2, "SAMPLE_STEPS": 2}.items():
        monkeypatch.setattr(flow, name, value)
    for stages in (train, flow):
        monkeypatch.setattr(stages, "SAMPLE_PROMPTS", stages.SAMPLE_PROMPTS[:1])
    monkeypatch.setattr(autoencoder, "CROPS", 4)
    monkeypatch.setattr(autoencoder, "FRAMES", 2)
    monkeypatch.setattr(conditioned, "BATCH", 4)
    data.render_shards(tmp_path / "training" / "clips", 4, workers=1)
    return tmp_path / "training"


@pytest.fixture
def in_this_process(monkeypatch):
    """Stages run here, where they are small, and not as processes; returns those that ran."""
    ran = []

    def carry_out(command, **_):
        options = dict(zip(command[3::2], command[4::2], strict=True))
        ran.append(options["--stage"])
        train.STAGES[options["--stage"]](Path(options["--work"]), float(options["--minutes"]), torch.device("cpu"))
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(whole, "subprocess", SimpleNamespace(run=carry_out))
    return ran


@pytest.mark.timeout(600)  # every stage, at full-size networks
@pytest.mark.usefixtures("ticking")
def test_one_command_trains_a_family_that_loads_and_draws(folder, in_this_process, monkeypatch, tmp_path):
    monkeypatch.setattr(
        whole, "minutes_of", lambda parts, minutes, _: {**dict.fromkeys(parts, minutes), "edits": 100 * minutes}
    )
    monkeypatch.setattr(whole, "TASKS", ["smooth"])
    assert whole.train_all(folder, STEP, torch.device("cpu"), side_by_side=1, clips=1) == 0
    assert set(in_this_process) == set(schedule.PARTS)
    assert {"None: the frames are given: bridged", "psnr"} <= set(
        re.split(r" ?\| ?", (folder / "scores.md").read_text())
    )
    with Image.open(folder / "sheet.png") as sheet:
        assert sheet.size == (4 * len(whole.SHEET_MOMENTS) * data.SIZE, data.SIZE + whole.SHEET_LABEL)
        assert (np.asarray(sheet)[whole.SHEET_LABEL :, : data.SIZE].std((0, 1)) > 10).all()  # the source, and not grey

    begun = list(in_this_process)
    monkeypatch.setattr(whole, "draw_sheet", lambda *_: None)
    assert whole.train_all(folder, STEP, torch.device("cpu"), side_by_side=1, clips=0) == 0
    assert in_this_process == begun  # what is done is not done again

    for stage in ("flow-data", "flow-vae", "flow-latents", "flow-transformer"):
        train.STAGES[stage](folder, STEP, torch.device("cpu"))
    unseen = {"data", "more-data", "latents", "edits", "preview", "flow-data", "flow-latents"}
    drawn = {path.stem for path in folder.glob("*.png")} - {"sheet"}
    assert drawn == set(train.STAGES) - unseen - {"shipped", "export"}
    monkeypatch.setattr(train, "ASSETS", tmp_path)
    train.STAGES["export"](folder, 0, torch.device("cpu"))
    shipped, family_folder = tmp_path / "toybox", folder / "toybox"
    files = {path.relative_to(shipped) for path in shipped.rglob("*") if path.is_file()}
    assert files == {path.relative_to(family_folder) for path in family_folder.rglob("*") if path.is_file()}
    sizes = [path.stat().st_size for path in shipped.rglob("*.safetensors")]
    assert max(sizes) < 10e6
    from bivdiff.bridge import previews
    from bivdiff.catalog.families import family_named

    family = family_named("toybox")
    settings = Settings(device="cpu", toybox_folder=shipped)
    manager = ModelManager(settings)
    assert [weight.shape[1] for weight, _ in previews.layers_of(family, settings)] == [4, 24, 24]
    specs = [family.vae, family.text_encoder, family.tokenizer, family.unet, *family.networks["controlnet"].values()]
    specs += [
        *family.networks["t2i-adapter"].values(),
        family.networks["instruct-pix2pix"]["unet"],
        family.networks["inpainting"]["unet"],
        *family.annotators.values(),
    ]
    with manager.use(*specs, *(video.unet for video in family.video_models.values())) as components:
        vae, unet = components[0], components[3]
        latents = np.load(folder / "latents.npy").astype(np.float32)
        assert vae.config.scaling_factor == pytest.approx(1 / latents.std(), rel=1e-3)
        trained = torch.load(folder / "text-to-image.state.pt", weights_only=True)
        assert unet.num_parameters() == sum(weight.numel() for weight in trained["modules"]["unet"].values())


def test_a_stage_that_fails_is_named_and_what_needs_it_does_not_run(folder, in_this_process, monkeypatch, capsys):
    run = whole.subprocess.run

    def carry_out(command, **options):
        return SimpleNamespace(returncode=1) if "vae" in command else run(command, **options)

    monkeypatch.setattr(whole, "subprocess", SimpleNamespace(run=carry_out))
    monkeypatch.setitem(train.STAGES, "depth-estimator", lambda *_: None)
    assert whole.train_all(folder, 0, torch.device("cpu"), side_by_side=2, clips=0) == 1
    assert set(in_this_process) == {"data", "more-data", "edits", "depth-estimator"}
    told = capsys.readouterr().out
    assert f"vae: failed with status 1; {folder / 'vae.out'} says why" in told
    assert "Not done: vae, latents, text-to-image, vae-decoder, text-to-video" in told


class TestSchedule:
    def test_the_minutes_of_stages_that_follow_each_other_fill_the_time(self):
        minutes = schedule.minutes_of(schedule.PARTS, 10, 1)
        assert sum(minutes.values()) == pytest.approx(10)
        assert minutes["text-to-video"] == max(minutes.values())

    def test_side_by_side_each_stage_has_longer_and_none_ends_late(self):
        parts = {
            "first": schedule.Part(2), "long": schedule.Part(4, ("first",)), "short": schedule.Part(1, ("first",)),
            "last": schedule.Part(1, ("short",)),
        }  # fmt: skip
        assert schedule.minutes_of(parts, 12, 2) == {"first": 4, "long": 8, "short": 2, "last": 2}
        assert schedule.minutes_of(parts, 12, 1) == {"first": 3, "long": 6, "short": 1.5, "last": 1.5}

    def test_a_stage_waits_for_those_it_reads_and_no_more_run_at_once_than_may(self):
        done, running, most = [], set(), []
        lock, together = threading.Lock(), threading.Barrier(2)

        def carry_out(name):
            with lock:
                assert set(parts[name].after) <= set(done)
                running.add(name)
                most.append(len(running))
            if name in ("b", "c"):
                together.wait(PATIENCE)  # both must be running for either to end
            with lock:
                running.discard(name)
                done.append(name)
            return True

        parts = {"a": schedule.Part(1), "b": schedule.Part(1, ("a",)), "c": schedule.Part(1, ("a",)),
                 "d": schedule.Part(1, ("b", "c"))}  # fmt: skip
        assert schedule.run_parts(parts, 2, carry_out) == []
        assert done[0] == "a"
        assert done[-1] == "d"
        assert max(most) == 2


@pytest.mark.usefixtures("ticking")
def test_training_resumes_where_it_stopped(tmp_path, monkeypatch):
    """In two sittings it takes the steps of one, with what it has saved and drawn on the way changing nothing."""

    def sitting(name, steps):
        torch.manual_seed(0)
        (tmp_path / name).mkdir(exist_ok=True)
        layer, drawn = Layer(), []
        coach = trainer.Trainer("toy", tmp_path / name, {"layer": layer}, (steps - 0.5) * STEP, rate=1e-2)
        first = coach.steps
        inputs = torch.randn(64, 4)
        coach.run(
            lambda: (layer.linear(inputs) - inputs.sum(1, keepdim=True)).square().mean(),
            lambda _: drawn.append(layer.linear.weight.detach().clone()),
        )
        return first, coach, layer, drawn

    _, _, whole, drawn = sitting("whole", 500)
    assert len(drawn) == 1 + 500 // trainer.SAVE_SECONDS
    assert torch.equal(drawn[-1], whole.linear.weight)
    assert torch.allclose(whole.linear.weight, torch.ones(1, 4), atol=0.05)
    monkeypatch.setattr(trainer, "SAVE_SECONDS", 10)
    first, coach, _, _ = sitting("parts", 200)
    assert (first, coach.steps, coach.seconds) == (0, 200, 200)
    first, coach, layer, drawn = sitting("parts", 500)
    assert (first, coach.steps, coach.seconds) == (200, 500, 500)
    assert len(drawn) > 20
    assert torch.allclose(layer.linear.weight, torch.ones(1, 4), atol=0.05)
    assert (tmp_path / "parts" / "toy.log.jsonl").read_text().count("loss") == 500 // 50


def test_without_a_state_training_starts_from_the_weights_in_the_folder(tmp_path):
    earlier = Layer()
    earlier.save_pretrained(tmp_path / "layer")
    coach = trainer.Trainer("toy", tmp_path, {"layer": Layer()}, minutes=0, rate=1e-2)
    coach.run(lambda: pytest.fail("there is no time to train"), lambda path: path.touch())
    assert torch.equal(coach.modules["layer"].linear.weight, earlier.linear.weight)
    assert torch.equal(Layer.from_pretrained(tmp_path / "layer").linear.weight, earlier.linear.weight)


def test_the_shipped_weights_come_into_the_training_folder(tmp_path):
    train.STAGES["shipped"](tmp_path, 0, torch.device("cpu"))
    assert {path.name for path in tmp_path.iterdir()} == {
        name for name, component in networks.build_family().items() if isinstance(component, torch.nn.Module)
    }
    shipped, taken = (UNet2DConditionModel.from_pretrained(folder / "unet") for folder in (TOYBOX, tmp_path))
    assert all(torch.equal(a, b) for a, b in zip(shipped.parameters(), taken.parameters(), strict=True))


def test_the_video_model_starts_as_the_image_model():
    """Before training every frame is what the image model makes of it."""
    torch.manual_seed(0)
    unet, video_unet = networks.build_unet().eval(), networks.build_video_unet().eval()
    train.start_from_image_model(video_unet, unet)
    clip, embeds = torch.randn(1, 4, 3, 16, 16), torch.randn(1, 8, networks.TEXT_WIDTH)
    with torch.no_grad():
        video = video_unet(clip, 500, embeds).sample[0].transpose(0, 1)
        pictures = unet(clip[0].transpose(0, 1), 500, embeds.expand(3, -1, -1)).sample
    assert torch.allclose(video, pictures, atol=1e-4)


def test_the_editing_model_starts_as_the_inpainting_model_told_of_no_hole():
    torch.manual_seed(0)
    filling = networks.build_unet(in_channels=9).eval()
    editing = conditioned.copying(filling, scaling_factor=0.5).eval()
    noisy, picture = torch.randn(2, 2, 4, 16, 16)
    embeds = torch.randn(2, 8, networks.TEXT_WIDTH)
    with torch.no_grad():
        filled = filling(torch.cat([noisy, torch.zeros(2, 1, 16, 16), picture * 0.5], 1), 500, embeds).sample
        edited = editing(torch.cat([noisy, picture], 1), 500, embeds).sample
    assert torch.allclose(filled, edited, atol=1e-5)


def test_every_silent_layer_of_the_video_model_can_learn():
    """A layer of zeros after a norm of zeros would get no gradient, and stay silent for ever."""
    torch.manual_seed(0)
    unet, video_unet = networks.build_unet(), networks.build_video_unet()
    train.start_from_image_model(video_unet, unet)
    video_unet(
        torch.randn(1, 4, 3, 16, 16), 500, torch.randn(1, 8, networks.TEXT_WIDTH)
    ).sample.square().mean().backward()
    silent = [parameter for parameter in video_unet.parameters() if parameter.ndim > 1 and not parameter.any()]
    temporal = [module for module in video_unet.modules() if type(module).__name__ in TEMPORAL]
    assert len(silent) == len(temporal) == 19
    assert all(parameter.grad.any() for parameter in silent)


def test_every_word_of_the_world_is_one_token():
    tokenizer = networks.build_tokenizer()
    for word in data.vocabulary():
        if word.isalpha():
            assert len(tokenizer(word).input_ids) == 3, word  # with the two that mark start and end
    scene = world.sample_scene(5)
    assert tokenizer.decode(tokenizer(scene.caption).input_ids, skip_special_tokens=True).strip() == scene.caption
    assert len(tokenizer("квадрат 赤い 🟥").input_ids) > 3


def test_captions_are_mostly_the_worlds_own_and_always_fit():
    rng, tokenizer = np.random.default_rng(0), networks.build_tokenizer()
    scenes = [world.sample_scene(seed) for seed in range(300)]
    captions = [data.reworded(scene, rng) for scene in scenes]
    own = sum(caption == scene.caption for caption, scene in zip(captions, scenes, strict=True))
    assert 0.25 < own / 300 < 0.75
    assert max(len(tokenizer(caption).input_ids) for caption in captions) <= networks.TEXT_LENGTH


class TestFlow:
    """The second video model: a flow over latents that are compressed in time."""

    def test_what_is_decoded_for_the_loss_is_what_decode_clamps(self):
        torch.manual_seed(0)
        vae = networks.build_flow_vae()
        latents = torch.randn(1, 48, 3, 2, 2)
        with torch.no_grad():
            raw, clamped = flow.decode_unclamped(vae, latents), vae.decode(latents).sample
        assert raw.shape == (1, 3, flow.NUM_FRAMES, 32, 32)
        assert raw.abs().max() > 1
        assert torch.equal(raw.clamp(-1, 1), clamped)

    def test_noise_levels_spread_over_the_whole_range(self):
        torch.manual_seed(0)
        levels = torch.cat([flow.noise_levels(16) for _ in range(2000)])
        assert 0 < levels.min() < 0.05
        assert 0.95 < levels.max() < 1
        assert levels.median().item() == pytest.approx(0.5, abs=0.02)
        assert ((levels > 0.27) & (levels < 0.73)).float().mean().item() == pytest.approx(0.68, abs=0.03)

    @pytest.mark.usefixtures("ticking")
    def test_its_latents_are_measured_and_stills_are_among_them(self, folder):
        for stage in ("flow-data", "flow-vae", "flow-latents"):
            train.STAGES[stage](folder, STEP, torch.device("cpu"))
        latents, stills = np.load(folder / flow.LATENTS), np.load(folder / flow.STILLS)
        assert latents.shape == (2, 48, 3, 8, 8)
        assert stills.shape == (2, len(flow.STILL_MOMENTS), 48, 1, 8, 8)
        assert np.allclose(stills[:, 0], latents[:, :, :1], atol=2e-3)  # the first latent of a clip is a still
        config = AutoencoderKLWan.load_config(folder / flow.VAE)
        assert config["latents_mean"] == pytest.approx(latents.astype(float).mean((0, 2, 3, 4)), abs=2e-3)
        assert config["latents_std"] == pytest.approx(latents.astype(float).std((0, 2, 3, 4)), rel=2e-2)
