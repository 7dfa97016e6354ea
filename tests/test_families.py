"""Real families through the same code: every entry of the catalog as a small checkpoint, laid out as on the hub.

The files lie where the hub library's cache has them, under the names that the catalog expects, and one class of each
kind of network stands for its real one.
"""

from __future__ import annotations

import json
import os
import shutil
import threading
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionControlNetPipeline
from hooks import given_to, prompts_read
from patience import PATIENCE
from safetensors.torch import load_file, save_file
from small_networks import made_small, small_network

from bivdiff.bridge import latents
from bivdiff.bridge.outcomes import outcome_of
from bivdiff.bridge.pipeline import framewise_frames, last, run, smooth_clips
from bivdiff.bridge.reuse import StageCache
from bivdiff.bridge.sampling import initial_noise
from bivdiff.bridge.session import enter
from bivdiff.catalog.families import FAMILIES, family_named, models_for
from bivdiff.catalog.own import parse_loras
from bivdiff.catalog.own_catalog import read_catalog
from bivdiff.catalog.requests import default_request
from bivdiff.catalog.tasks import TASKS
from bivdiff.errors import InputError, ModelUnavailableError
from bivdiff.models import hub
from bivdiff.models import pulling as pulls
from bivdiff.models.architectures import build_empty
from bivdiff.models.cost import evaluations_of
from bivdiff.models.loaders import KINDS, video
from bivdiff.models.manager import ModelManager
from bivdiff.models.placement import size_of, tensors_of
from bivdiff.models.random_weights import TEXT_LENGTH
from bivdiff.settings import Settings
from bivdiff.toybox import networks
from bivdiff.types import Control, GenerationResult, StepEvent

SD15 = family_named("sd15")
IMAGE_MODELS = [(name, model) for name, task in TASKS.items() for model in task.image_models]
STEPS = {"num_inference_steps": 2, "num_inversion_steps": 2, "num_smoothing_steps": 2}
VIDEO_UNETS = [name for name, model in SD15.video_models.items() if model.shares_space]
APART = {spec for model in SD15.video_models.values() if not model.shares_space for spec in model.components}
ON_HUB = [
    spec for spec in SD15.components
    if spec.on_hub and spec not in APART
    and spec.kind not in {"body_pose", "hed", "lineart", "normalbae", "pidinet"}
]  # fmt: skip
COMMIT = "a" * 40


def save(spec, snapshot):
    """Write an entry's files as its repository has them: weights in half precision bear the variant in their name."""
    if spec.kind == "tokenizer":
        tokenizer = networks.build_tokenizer()
        tokenizer.model_max_length = TEXT_LENGTH
        tokenizer.save_pretrained(snapshot / spec.folder)
    elif spec.kind == "scheduler":
        networks.build_scheduler().save_pretrained(snapshot / spec.folder)
    elif spec.kind == "text_encoder":
        save_text_encoder(spec, snapshot / spec.folder)
    else:
        plain_bin = spec.kind == "t2i_adapter" or "zeroscope" in spec.repo  # these have nothing else
        small_network(spec).save_pretrained(
            snapshot / spec.folder, variant=spec.variant or None, safe_serialization=not plain_bin
        )  # fmt: skip


def save_text_encoder(spec, folder):
    """As these were written years ago: tensors bear the name of what was then inside, and positions are among them."""
    module = small_network(spec)
    module.config.save_pretrained(folder)
    tensors = {f"text_model.{name}": tensor.clone() for name, tensor in module.state_dict().items()}
    tensors["text_model.embeddings.position_ids"] = torch.arange(TEXT_LENGTH)[None]
    if "zeroscope" in spec.repo:
        torch.save(tensors, folder / "pytorch_model.bin")
    else:
        variant = f".{spec.variant}" if spec.variant else ""
        save_file(tensors, folder / f"model{variant}.safetensors", metadata={"format": "pt"})


def by_diffusers(result, family, manager):
    """The frames of a run with a ControlNet, as a pipeline of diffusers makes them of the same noise."""
    request, (maps,) = result.request, result.control_frames
    count, height, width = maps.shape[:3]
    specs = {name: getattr(family, name) for name in ("vae", "text_encoder", "tokenizer", "unet", "scheduler")}
    with manager.hold(*specs.values(), family.networks["controlnet"]["canny"]) as (*parts, controlnet):
        pipeline = StableDiffusionControlNetPipeline(
            **dict(zip(specs, parts, strict=True)), controlnet=controlnet, safety_checker=None, feature_extractor=None,
            requires_safety_checker=False,
        )  # fmt: skip
        pipeline.set_progress_bar_config(disable=True)
        with torch.inference_mode():
            made = pipeline(
                [request.prompt] * count, negative_prompt=[request.negative_prompt] * count,
                image=torch.from_numpy(maps).permute(0, 3, 1, 2) / 255, num_inference_steps=request.num_inference_steps,
                latents=initial_noise((count, 4, height // 8, width // 8), request.noise_sharing, request.seed),
                guidance_scale=request.guidance_scale, output_type="np",
            ).images  # fmt: skip
    return (made * 255).round().astype(int)


def predict_velocities(folder):
    """Make a saved base model say of itself that it predicts velocities."""
    path = folder / "scheduler" / "scheduler_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "prediction_type": "v_prediction"}))


def save_vidrd(folder):
    """The released file: a training checkpoint with the weights of two networks in it."""
    videos = SD15.video_models["vidrd"]
    unet, text_encoder = small_network(videos.unet), small_network(videos.text_encoder)
    weights = {f"unet.{name}": tensor for name, tensor in unet.state_dict().items()}
    weights |= {f"text_encoder.text_model.{name}": tensor for name, tensor in text_encoder.state_dict().items()}
    folder.mkdir(parents=True)
    torch.save({"state_dict": weights, "epoch": 3}, folder / "ModelT2V.pth")


@pytest.fixture(scope="module")
def hub_cache(tmp_path_factory):
    """A models folder with VidRD's file, and beside it the hub library's cache with everything else."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("hub")
    for spec in ON_HUB:
        repository = folder / "cache" / f"models--{spec.repo.replace('/', '--')}"
        (repository / "refs").mkdir(parents=True, exist_ok=True)
        (repository / "refs" / "main").write_text(COMMIT)
        save(spec, repository / "snapshots" / COMMIT)
    save_vidrd(folder / "models" / "VidRD")
    return folder


@pytest.fixture
def settings(hub_cache, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(hub_cache / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    # Of VidRD, whose file has no config.
    monkeypatch.setattr(video, "build_empty", lambda architecture: build_empty(made_small(architecture)))
    return Settings(device="cpu", models_folder=hub_cache / "models")


@pytest.fixture(scope="module")
def kept():
    """One manager for all tests of this module: each component is read once."""
    return {}


@pytest.fixture
def sd15(settings, kept):
    return kept.setdefault("manager", ModelManager(settings))


@pytest.mark.parametrize("spec", ON_HUB, ids=lambda spec: spec.key)
def test_every_entry_loads_from_where_the_hub_library_keeps_it(sd15, spec):
    assert sd15.state(spec) in {"on disk", "in memory", "on device"}
    with sd15.hold(spec) as (component,):
        assert type(component).__name__ in {
            "vae": "AutoencoderKL", "unet": "UNet2DConditionModel", "text_encoder": "CLIPTextModel",
            "tokenizer": "CLIPTokenizer", "scheduler": "DDIMScheduler", "controlnet": "ControlNetModel",
            "t2i_adapter": "T2IAdapter", "video_unet": "UNet3DConditionModel", "motion_unet": "UNetMotionModel",
            "depth_estimator": "DepthAnythingForDepthEstimation",
        }[spec.kind]  # fmt: skip
        if isinstance(component, torch.nn.Module):
            assert component.dtype == torch.float32
            assert not component.training


@pytest.mark.parametrize("name", ["text_encoder", "zeroscope"])
def test_text_encoders_get_the_weights_of_files_that_name_them_as_of_old(sd15, settings, name):
    spec = SD15.video_models[name].text_encoder if name in SD15.video_models else SD15.text_encoder
    (path,) = (path for path in hub.files_of(spec, hub.find(spec, settings)) if path.suffix != ".json")
    saved = load_file(path) if path.suffix == ".safetensors" else torch.load(path, weights_only=True)
    with sd15.hold(spec) as (component,):
        loaded = component.state_dict()
        assert len(loaded) == len(saved) - 1  # without the positions
        for key, tensor in loaded.items():
            assert torch.equal(tensor, saved[f"text_model.{key}"])


@pytest.mark.parametrize("spec", SD15.video_models["vidrd"].components[:2], ids=lambda spec: spec.kind)
def test_vidrd_loads_from_the_file_it_was_released_as(sd15, spec):
    with sd15.hold(spec) as (component,):
        assert type(component).__name__ == {"vidrd_unet": "VidRDUNet"}.get(spec.kind, "CLIPTextModel")
        assert all(torch.isfinite(parameter).all() for parameter in component.parameters())


def request_for(task, image_model, frames, **changes):
    masks = np.zeros(frames.shape[:3], np.uint8)
    masks[:, 16:48, 16:48] = 255
    needs = {"masks": masks if image_model == "inpainting" else None, "source_prompt": "a red cube", "seed": 3}
    return default_request(
        task, "sd15", frames, "a blue cube", image_model=image_model, **{**STEPS, **needs, **changes}
    )


@pytest.mark.parametrize(("task", "image_model"), IMAGE_MODELS)
def test_every_image_model_of_stable_diffusion_runs(sd15, source_frames, task, image_model):
    def made(video_prompt):
        request = request_for(task, image_model, source_frames, video_prompt=video_prompt)
        video = SD15.video_models[request.video_model]
        with prompts_read(sd15, video.tokenizer, video.text_encoder) as read:
            return last(run(request, sd15)), read

    (result, read), (other, read_other) = made(""), made("a sea of sand")
    assert result.frames.shape == source_frames.shape
    assert result.evaluations == evaluations_of(result.request)
    assert np.array_equal(result.framewise_frames, other.framewise_frames)
    assert set(read_other) - set(read) == {"a sea of sand"}  # the video model's own text encoder read its prompt


@pytest.mark.parametrize("image_model", ["controlnet", "t2i-adapter"])
def test_a_map_of_another_kind_steers_by_the_network_of_its_kind(sd15, source_frames, image_model):
    """As drawn by the depth estimator for the one, and given for the other: drawing it is the work of a whole run."""
    given = {"t2i-adapter": source_frames[::-1].copy()}.get(image_model)
    controls = (Control(control_type="depth", frames=given),)
    request = request_for("control", image_model, source_frames, controls=controls, mixing_ratio=0.0)
    kind = SD15.networks[image_model]["depth"]
    with sd15.hold(kind) as (network,):
        asked = []
        hook = network.register_forward_pre_hook(lambda *_: asked.append(kind.key))
        result = last(run(request, sd15))
        hook.remove()
    assert asked
    assert result.evaluations == evaluations_of(request)
    (drawn,) = result.control_frames
    assert drawn.shape == source_frames.shape
    assert given is None or np.array_equal(drawn, given)


@pytest.mark.parametrize("video_model", VIDEO_UNETS)
@pytest.mark.parametrize("ratio", [0.0, 0.5])
def test_every_video_model_inverts_and_smooths(sd15, source_frames, video_model, ratio):
    request = request_for("smooth", "given", source_frames, video_model=video_model, mixing_ratio=ratio)
    result = last(run(request, sd15))
    assert result.evaluations == {"inversion": 8 if ratio == 0 else 16, "smoothing": 16}
    again = last(run(request, sd15))
    assert np.array_equal(result.frames, again.frames)


@pytest.mark.parametrize("video_model", VIDEO_UNETS)
def test_every_video_model_smooths_by_ddim_over_its_own_prediction_of_noise(sd15, source_frames, video_model):
    request = request_for("smooth", "given", source_frames, video_model=video_model, smoothing_guidance_scale=1.0)
    blended = torch.randn(1, 4, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    with ExitStack() as exits, torch.inference_mode():
        session = enter(request, sd15, StageCache(), exits)
        (frames,) = outcome_of(smooth_clips(session, blended))
        video, clip = session.models.video, blended
        words = session.models.embed_for_video(request.prompt)
        scheduler = DDIMScheduler.from_config(video.scheduler.config)
        scheduler.set_timesteps(request.num_smoothing_steps)
        for timestep in scheduler.timesteps:
            clip = scheduler.step(video.predict(clip, timestep, words), timestep, clip).prev_sample
        expected = session.models.decode_video(clip, len(request.frames))
    assert np.abs(frames.astype(int) - expected).max() <= 1  # a rounding at half a level may fall either way


def test_what_motion_modules_are_built_on_is_counted_once_and_leaves_with_them(settings):
    manager = ModelManager(settings)
    adapter = SD15.video_models["animatediff-v1-5-3"].unet
    guessed = manager.host_bytes([SD15.unet, adapter])
    with manager.hold(SD15.unet, adapter) as (unet, motion):
        # Each storage once: what the two share, they share.
        own = {weight.data_ptr(): weight.nbytes for network in (unet, motion) for weight in tensors_of(network)}
        assert manager.host_bytes([SD15.unet, adapter]) == pytest.approx(sum(own.values()), rel=0.001)
        assert guessed == pytest.approx(sum(own.values()), rel=0.02)  # positions are in no file
        assert manager.weight_bytes(adapter) == size_of(motion)
        manager.unload(SD15.unet)
        assert SD15.unet.key in manager.loaded()  # what is built on it is held
    with manager.hold(adapter):
        manager.unload(SD15.unet)
        assert SD15.unet.key in manager.loaded()
    manager.unload(SD15.unet)
    assert manager.loaded() == []  # the adapter's copy of its weights would count nowhere


def test_motion_modules_are_not_shown_more_frames_than_they_tell_apart(sd15, source_frames):
    frames = np.repeat(source_frames, 10, 0)[:, :32, :32]
    request = request_for("smooth", "given", frames, video_model="animatediff-v1-5-3", window=40)
    with pytest.raises(InputError, match="can see 32 frames at once, and the window has 40"):
        last(run(request, sd15))
    assert last(run(replace(request, window=32), sd15)).frames.shape == frames.shape


@pytest.mark.parametrize("control_type", ["mlsd", "segmentation", "tile"])
def test_maps_that_cannot_be_drawn_are_refused_before_anything_loads(source_frames, control_type):
    def ask(**given):
        return request_for(
            "control", "controlnet", source_frames, controls=(Control(control_type=control_type, **given),)
        )

    with pytest.raises(InputError, match=f"'{control_type}' cannot be drawn here"):
        ask()
    assert ask(frames=source_frames).controls[0].control_type == control_type


@pytest.mark.parametrize("video_model", VIDEO_UNETS)
def test_every_video_model_stays_near_itself_in_eight_bits(settings, video_model):
    spec, size = SD15.video_models[video_model].unet, (1, 4, 3, 8, 8)
    whole, small = (ModelManager(replace(settings, fp8=eight_bits)) for eight_bits in (False, True))
    with whole.use(spec) as (exact,), small.use(spec) as (rounded,), torch.inference_mode():
        torch.manual_seed(0)
        given = torch.randn(size), torch.tensor(500), torch.randn(1, 6, exact.config.cross_attention_dim)
        ours, theirs = (KINDS[spec.kind].call(unet, *given) for unet in (rounded, exact))
        assert (ours - theirs).norm() < 0.4 * theirs.norm()
        kept = {name for name, weight in rounded.named_parameters() if weight.dtype == torch.float8_e4m3fn}
        assert kept
        for name, weight in exact.named_parameters():
            assert weight.dtype == torch.float32
            if name in kept:
                weight.copy_(weight.to(torch.float8_e4m3fn))
        assert torch.allclose(ours, KINDS[spec.kind].call(exact, *given), atol=1e-4)


def test_in_tiles_a_picture_no_larger_than_one_stays_the_same(settings, source_frames):
    request = request_for("smooth", "given", source_frames)
    plain, tiled = (last(run(request, ModelManager(replace(settings, tiling=on)))).frames for on in (False, True))
    assert np.array_equal(plain, tiled)


class Downloads:
    """A hub that is a folder: a download copies from it, and goes on once what it reported has been read."""

    def __init__(self, hub_folder: Path, cache: Path) -> None:
        self.arrived, self.ended = [], threading.Event()
        self._hub, self._cache, self._pull = hub_folder, cache, hub.pull
        self._read, self._changed, self._alone = [], threading.Condition(), False

    def pull(self, spec, settings, report=None):
        try:
            if hub.find(spec, settings) is None:
                for amount in (50, 100):
                    report(amount * 1_000_000, 1_000_000_000)
                    self._wait_for(f"'{spec.repo}': {amount} MB of 1 GB")
                folder = f"models--{spec.repo.replace('/', '--')}"
                shutil.copytree(self._hub / "cache" / folder, self._cache / folder, dirs_exist_ok=True)
                self.arrived.append(spec.repo)
            return self._pull(spec, settings, report)
        finally:
            self.ended.set()

    def _wait_for(self, text: str) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: self._alone or any(text in each for each in self._read), PATIENCE)

    def read(self, message: str) -> None:
        with self._changed:
            self._read.append(message)
            self._changed.notify_all()

    def leave_alone(self) -> None:
        """Nobody reads any more."""
        with self._changed:
            self._alone = True
            self._changed.notify_all()


class TestDownloadsInARun:
    @pytest.fixture
    def downloads(self, hub_cache, tmp_path, monkeypatch):
        from huggingface_hub import constants

        made = Downloads(hub_cache, tmp_path / "cache")
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(pulls, "REPORT_EVERY", 0.01)
        monkeypatch.setattr(hub, "pull", made.pull)
        return made

    def test_a_run_tells_how_far_they_are(self, settings, downloads, source_frames):
        manager = ModelManager(settings)
        events = []
        for event in run(request_for("smooth", "given", source_frames), manager):
            events.append(event)
            if isinstance(event, StepEvent):
                downloads.read(event.message)
        assert isinstance(events[-1], GenerationResult)
        assert set(downloads.arrived) == {SD15.unet.repo, SD15.video_models["zeroscope"].unet.repo}
        again = [event.message for event in run(request_for("smooth", "given", source_frames), manager)
                 if isinstance(event, StepEvent)]  # fmt: skip
        assert not any("Downloading" in text for text in again)

    def test_closing_the_run_stops_them(self, settings, downloads, source_frames):
        manager = ModelManager(settings)
        events = run(request_for("smooth", "given", source_frames), manager)
        next(event for event in events if "Downloading" in event.message)
        events.close()
        downloads.leave_alone()
        assert downloads.ended.wait(PATIENCE)
        assert downloads.arrived == []
        assert manager.held() == []


def test_previews_of_stable_diffusion_take_no_decoder(sd15, source_frames, monkeypatch):
    decoded, whole = [], latents.decode
    monkeypatch.setattr(latents, "decode", lambda *given: decoded.append(1) or whole(*given))
    request = request_for("control", "controlnet", source_frames, num_inference_steps=4, num_smoothing_steps=4)
    events = list(run(request, sd15))[:-1]
    for stage in ("framewise", "smoothing"):
        rough = [event.preview for event in events if event.stage == stage and event.preview is not None]
        rough = [preview for preview in rough if preview.shape[1:3] == (8, 8)]
        assert [preview.shape for preview in rough] == [(len(source_frames), 8, 8, 3)] * 3
        assert all(preview.std() > 1 for preview in rough)
    assert len(decoded) == 2  # the frames, and the bridged clip


def test_a_video_model_may_decode_with_its_own_autoencoder(sd15, source_frames):
    made, own = [], SD15.video_models["vidrd"].vae
    assert own not in {None, SD15.vae}
    with sd15.hold(own) as (vae,):
        hook = vae.decoder.register_forward_hook(lambda *given: made.append(given[-1]))
        frames = last(run(request_for("smooth", "given", source_frames, video_model="vidrd"), sd15)).frames
        hook.remove()
    pixels = (torch.cat(made).clamp(-1, 1) + 1) * 127.5
    assert np.array_equal(frames, pixels.round().byte().permute(0, 2, 3, 1).numpy())


class TestOwnModels:
    def test_a_folder_takes_the_bases_place_under_every_model_built_on_it(self, sd15, source_frames, tmp_path):
        for spec in SD15.shared:
            save(replace(spec, variant=""), tmp_path)
        request = request_for(
            "control", "controlnet", source_frames, video_model="animatediff-v1-5-3", base_model=str(tmp_path)
        )
        chosen = models_for(request)
        with sd15.hold(chosen.unet, SD15.unet) as (own, usual):
            with given_to(own) as calls, given_to(usual) as others:
                last(run(request, sd15))
            assert (len(calls) > 0, others) == (True, [])
            saved = load_file(tmp_path / "unet" / "diffusion_pytorch_model.safetensors")
            assert all(torch.equal(weight, saved[name]) for name, weight in own.state_dict().items())
        assert chosen.video_models["animatediff-v1-5-3"].unet.base == chosen.unet
        assert chosen.video_models["animatediff-v1-5-3"].text_encoder == chosen.text_encoder
        assert chosen.video_models["zeroscope"] == SD15.video_models["zeroscope"]
        assert chosen.networks["controlnet"] == SD15.networks["controlnet"]

    def test_a_base_that_does_not_go_with_the_rest_is_refused(self, sd15, source_frames, tmp_path):
        for spec in (SD15.text_encoder, SD15.tokenizer, SD15.vae, SD15.scheduler):
            save(replace(spec, variant=""), tmp_path)
        small_network(SD15.networks["inpainting"]["unet"]).save_pretrained(tmp_path / "unet")
        with pytest.raises(ModelUnavailableError, match="reads 9 channels"):
            last(run(request_for("control", "controlnet", source_frames, base_model=str(tmp_path)), sd15))

    @pytest.mark.parametrize("video_model", ["zeroscope", "animatediff-v1-5-3"])
    def test_a_base_that_predicts_velocities_is_sampled_by_its_own_schedule(
        self, sd15, source_frames, tmp_path, video_model
    ):
        for spec in SD15.shared:
            save(replace(spec, variant=""), tmp_path)
        request = request_for(
            "control", "controlnet", source_frames, base_model=str(tmp_path), mixing_ratio=0.5, video_model=video_model,
            sampler="ddim", guided_share=1.0, frame_attention="none",
        )  # fmt: skip
        predict_velocities(tmp_path)
        chosen = models_for(request)
        schedules = chosen.scheduler, chosen.video_models[video_model].scheduler
        with sd15.hold(*schedules) as (image, video):
            assert image.config.prediction_type == "v_prediction"
            # Motion modules between the base's layers predict what these do, in the noise they were trained with.
            built_on_it = video_model.startswith("animatediff")
            assert video.config.prediction_type == ("v_prediction" if built_on_it else "epsilon")
            assert video.config.beta_schedule == ("linear" if built_on_it else "scaled_linear")
        velocities = last(run(request, sd15))
        expected = by_diffusers(velocities, chosen, sd15)
        assert np.abs(velocities.framewise_frames.astype(int) - expected).max() <= 1  # a rounding at half a level
        assert velocities.frames.std() > 1

    def test_a_base_that_predicts_velocities_is_refused_beside_a_network_that_predicts_noise(
        self, sd15, source_frames, tmp_path
    ):
        for spec in SD15.shared:
            save(replace(spec, variant=""), tmp_path)
        predict_velocities(tmp_path)
        with pytest.raises(ModelUnavailableError, match=r"predicts 'v_prediction'.*'instruct-pix2pix'"):
            last(run(request_for(
                "edit", "instruct-pix2pix", source_frames, base_model=str(tmp_path),
                image_checkpoint="timbrooks/instruct-pix2pix",
            ), sd15))  # fmt: skip

    def test_a_lora_that_was_written_anew_is_read_anew(self, sd15, source_frames, tmp_path):
        from safetensors.torch import save_file

        path = tmp_path / "mine.safetensors"
        request, made = request_for("control", "controlnet", source_frames, loras=str(path)), []
        stages = StageCache()
        for number in range(2):
            generator = torch.Generator().manual_seed(number)
            name = "unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_k.lora"
            with sd15.hold(SD15.unet) as (unet,):
                layer = unet.mid_block.attentions[0].transformer_blocks[0].attn2.to_k.weight
            weights = {f"{name}.down.weight": torch.randn(2, layer.shape[1], generator=generator),
                       f"{name}.up.weight": torch.randn(layer.shape[0], 2, generator=generator)}  # fmt: skip
            save_file(weights, path)
            os.utime(path, ns=(number, number))
            made.append(last(run(request, sd15, stages)))
            with sd15.hold(models_for(request).unet) as (styled,):
                change = styled.mid_block.attentions[0].transformer_blocks[0].attn2.to_k.weight - layer
            up, down = weights[f"{name}.up.weight"], weights[f"{name}.down.weight"]
            assert torch.allclose(change, up @ down, atol=1e-5)
        assert "framewise" in made[1].evaluations

    def test_what_is_not_there_is_told_by_name(self, sd15, source_frames):
        for base in ("/nowhere/at/all", "nobody/nothing", "missing.safetensors"):
            with pytest.raises(ModelUnavailableError, match=base.rpartition("/")[2]):
                last(run(request_for("smooth", "given", source_frames, base_model=base), sd15))

    def test_loras_are_read_with_their_scales(self):
        assert parse_loras("a.safetensors:0.8, owner/name,c:d:-1") == (
            ("a.safetensors", 0.8),
            ("owner/name", 1.0),
            ("c:d", -1.0),
        )
        for text in ("a:9", ":0.5"):
            with pytest.raises(InputError, match="colon"):
                parse_loras(text)

    def test_a_lora_changes_the_image_model_by_its_scale_and_leaves_nothing_else(self, sd15, source_frames, tmp_path):
        from diffusers import StableDiffusionPipeline
        from diffusers.utils import convert_state_dict_to_diffusers
        from peft import LoraConfig, get_peft_model_state_dict

        parts = {"unet": small_network(SD15.unet), "text_encoder": small_network(SD15.text_encoder)}
        targets = {"unet": ["to_k", "to_q"], "text_encoder": ["q_proj", "v_proj"]}
        layers, changes = {}, {}
        for name, part in parts.items():
            config = LoraConfig(r=2, lora_alpha=2, init_lora_weights="gaussian", target_modules=targets[name])
            part.add_adapter(config)
            for key, parameter in part.named_parameters():
                if "lora_B" in key:
                    torch.nn.init.normal_(parameter, std=0.3)
            layers[name] = convert_state_dict_to_diffusers(get_peft_model_state_dict(part))
            changes[name] = {
                f"{place}.weight": module.lora_B["default"].weight @ module.lora_A["default"].weight
                for place, module in part.named_modules() if hasattr(module, "lora_A")
            }  # fmt: skip
        StableDiffusionPipeline.save_lora_weights(
            tmp_path, unet_lora_layers=layers["unet"], text_encoder_lora_layers=layers["text_encoder"]
        )
        file = next(tmp_path.glob("*.safetensors"))
        request = request_for("control", "controlnet", source_frames)
        usual, silent = (framewise_frames(replace(request, loras=loras), sd15) for loras in ("", f"{file}:0"))
        assert np.array_equal(usual, silent)
        for scale in (1.0, -0.5):
            asked = replace(request, loras=f"{file}:{scale}")
            chosen = models_for(asked)
            with sd15.hold(chosen.unet, chosen.text_encoder, SD15.unet, SD15.text_encoder) as models:
                for own, plain, part in zip(models, models[2:], ("unet", "text_encoder"), strict=False):
                    weights = dict(own.named_parameters())
                    assert [*weights] == [name for name, _ in plain.named_parameters()]
                    assert changes[part].keys() <= weights.keys()
                    for name, weight in plain.named_parameters():
                        expected = weight + scale * changes[part][name] if name in changes[part] else weight
                        assert torch.allclose(weights[name], expected, atol=1e-5), name
                with given_to(models[0]) as unet, given_to(models[1]) as text_encoder:
                    framewise_frames(asked, sd15)
                assert unet
                assert text_encoder

    def test_a_lora_that_would_change_nothing_is_told(self, sd15, source_frames, tmp_path):
        from safetensors.torch import save_file

        path = tmp_path / "stray.safetensors"
        save_file({"transformer.blocks.0.lora_A.weight": torch.randn(2, 8),
                   "transformer.blocks.0.lora_B.weight": torch.randn(8, 2)}, path)  # fmt: skip
        with pytest.raises(ModelUnavailableError, match=r"stray\.safetensors.*another base model"):
            last(run(request_for("control", "controlnet", source_frames, loras=str(path)), sd15))

    def test_a_lora_for_another_model_is_told(self, sd15, source_frames, tmp_path):
        from safetensors.torch import save_file

        weights = {"unet.mid_block.attentions.0.proj_in.lora.down.weight": torch.randn(2, 7),
                   "unet.mid_block.attentions.0.proj_in.lora.up.weight": torch.randn(7, 2)}  # fmt: skip
        save_file(weights, tmp_path / "other.safetensors")
        for path in (tmp_path / "other.safetensors", tmp_path / "missing.safetensors"):
            with pytest.raises(ModelUnavailableError, match=path.name):
                last(run(request_for("control", "controlnet", source_frames, loras=str(path)), sd15))

    def test_a_word_of_ones_own_is_read_as_its_vectors(self, sd15, source_frames, tmp_path):
        from safetensors.torch import save_file

        vectors = 3 * torch.randn(2, 24)
        save_file({"<mine>": vectors}, tmp_path / "mine.safetensors")
        torch.save({"string_to_param": {"*": torch.randn(1, 24)}, "name": "other"}, tmp_path / "other.pt")
        both = f"{tmp_path / 'mine.safetensors'}, {tmp_path / 'other.pt'}"
        request = request_for("control", "controlnet", source_frames)
        chosen = models_for(replace(request, embeddings=both))
        with sd15.hold(chosen.tokenizer, chosen.text_encoder, SD15.tokenizer) as (tokenizer, text_encoder, plain):
            assert len(tokenizer) == len(plain) + 3
            rows = text_encoder.get_input_embeddings().weight
            assert len(rows) == len(tokenizer)
            assert torch.allclose(rows[-3:-1], vectors)
            from bivdiff.models.embeddings import spell_out

            assert spell_out("a <mine> cube", tokenizer) == "a <mine> <mine>_1 cube"
            words = tokenizer(spell_out("a <mine> cube", tokenizer)).input_ids
            assert words[2:4] == [len(plain), len(plain) + 1]
            assert len(words) == 6
            with given_to(text_encoder) as calls:
                framewise_frames(replace(request, prompt="a <mine> cube", embeddings=both), sd15)
        assert words in [ids[0, :6].tolist() for ids, *_ in calls]

    @pytest.mark.parametrize("content", [{"a": torch.ones(3, 9)}, {"a": torch.ones(1), "b": torch.ones(1)}, None])
    def test_a_broken_word_is_told(self, sd15, source_frames, tmp_path, content):
        path = tmp_path / "word.pt"
        path.write_text("no tensors") if content is None else torch.save(content, path)
        with pytest.raises(ModelUnavailableError, match=r"word\.pt"):
            last(run(request_for("control", "controlnet", source_frames, embeddings=str(path)), sd15))


class TestCatalogFile:
    def read(self, tmp_path, text):
        (tmp_path / "mine.toml").write_text(text)
        return read_catalog(tmp_path / "mine.toml", FAMILIES)

    def test_it_adds_a_family_a_network_and_a_video_model(self, tmp_path):
        found = self.read(tmp_path, """
            [families.dreams]
            like = "sd15"
            title = "My dreams"
            base_model = "owner/dreams"
            loras = "style.safetensors:0.5"
            [families.sd15.controlnets.sketchy]
            repo = "owner/sketchy"
            [families.sd15.video_models.potat1]
            like = "zeroscope"
            repo = "camenduru/potat1"
            size = [1024, 576]
        """)  # fmt: skip
        assert found["dreams"].title == "My dreams"
        assert found["dreams"].unet.repo == "owner/dreams"
        assert found["dreams"].unet.loras == (("style.safetensors", 0.5),)
        assert found["sd15"].networks["controlnet"]["sketchy"].repo == "owner/sketchy"
        assert found["sd15"].networks["controlnet"]["canny"] == SD15.networks["controlnet"]["canny"]
        video = found["sd15"].video_models["potat1"]
        assert (video.unet.repo, video.unet.size, video.window) == ("camenduru/potat1", (1024, 576), 24)
        assert video.text_encoder.repo == "camenduru/potat1"

    def test_a_model_like_one_of_several_repositories_takes_the_others_as_they_are(self, tmp_path):
        found = self.read(tmp_path, """
            [families.sd15.video_models.mine]
            like = "vidrd"
            repo = "my/vidrd"
            file = "trained.safetensors"
        """)  # fmt: skip
        mine, released = found["sd15"].video_models["mine"], SD15.video_models["vidrd"]
        assert mine.unet.place == mine.text_encoder.place == "my/vidrd/trained.safetensors"
        assert (mine.unet.kind, mine.text_encoder.kind) == ("vidrd_unet", "vidrd_text_encoder")
        assert (mine.tokenizer, mine.scheduler, mine.vae) == (released.tokenizer, released.scheduler, released.vae)

    @pytest.mark.parametrize(("text", "named"), [
        ("[families.x]\nlike = 'sd9'", r"'sd9' is not a valid value for 'families\.x\.like'\. Use one of: toybox"),
        ("[families.sd15]\ncolour = 1", r"'families\.sd15\.colour' is not known\. Use base_model, controlnets, "),
        ("[families.sd15.controlnets.x]\nfolder = 'a'", r"'families\.sd15\.controlnets\.x\.repo' is missing\. Add it"),
        ("[families.sd15.video_models.x]\nrepo = 'a/b'", r"'families\.sd15\.video_models\.x\.like' is missing"),
        ("[families.sd15.video_models.x]\nrepo = 'a/b'\nlike = 'sora'", "'sora' is not a valid value for `like` of"),
        ("[families.sd15.video_models.x]\nrope = 'a/b'\nrepo = 'a'\nlike = 'vidrd'", "rope' is not known. Use bytes"),
        ("no toml", r"cannot be read: .*\. Correct it, or remove it\."),
        ("[family.sd15]\ntitle = 'x'", r"In the catalog file 'mine\.toml', 'family' is not known\. Use families\."),
        ("families = 3", r"3 is not a valid value for 'families'\. Make it a table of its own"),
        ("[families]\nsd15 = 3", r"3 is not a valid value for 'families\.sd15'\. Make it a table of its own"),
        ("[families.sd15.controlnets.x]\nrepo = 3", r"3 is not a valid value for '.*x\.repo'\. Write a text"),
        ("[families.sd15.controlnets.x]\nrepo = 'a/b'\nbytes = 'many'", r"'many' .*bytes'\. Write a whole number"),
        ("[families.sd15.controlnets.x]\nrepo = 'a/b'\nsize = [512]", r"\[512\] .*\. Write a list of width and height"),
        ("[families.sd15.controlnets.x]\nrepo = 'a/b'\nsize = [0, 8]", r"0 is not a valid value for '.*x\.size\.0'"),
        ("[families.sd15.controlnets.x]\nrepo = 'a/b'\nsize = '512x512'", "Write a list of width and height"),
    ])  # fmt: skip
    def test_what_cannot_be_meant_is_told(self, tmp_path, text, named):
        with pytest.raises(InputError, match=named):
            self.read(tmp_path, text)


def test_a_repository_that_cannot_be_had_is_told_by_name(tmp_path, source_frames, monkeypatch):
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    request = default_request("smooth", "sd15", source_frames, "a cube")
    with pytest.raises(ModelUnavailableError, match=r"stable-diffusion-v1-5.*BIVDIFF_MODELS_FOLDER"):
        last(run(request, ModelManager(Settings(device="cpu", models_folder=tmp_path))))


class TestLorasOfTheHub:
    """Their repositories lie in the hub library's cache, and the hub is not there."""

    @pytest.fixture
    def repository(self, tmp_path, monkeypatch):
        from huggingface_hub import constants

        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
        root = tmp_path / "models--someone--styles"
        (root / "refs").mkdir(parents=True)
        (root / "refs" / "main").write_text(COMMIT)

        def holding(*names):
            for name in names:
                path = root / "snapshots" / COMMIT / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(name.encode())
            return Settings(device="cpu", models_folder=tmp_path / "none")

        return holding

    @pytest.mark.parametrize(("files", "name", "chosen"), [
        (["ink.safetensors", "README.md"], "someone/styles", "ink.safetensors"),
        (["ink.safetensors", "oil.safetensors"], "someone/styles/oil.safetensors", "oil.safetensors"),
        (["old/ink.safetensors", "oil.safetensors"], "someone/styles/old/ink.safetensors", "old/ink.safetensors"),
        (["ink.safetensors", "pytorch_lora_weights.safetensors"], "someone/styles", "pytorch_lora_weights.safetensors"),
        (["ink.bin"], "someone/styles", "ink.bin"),
    ])  # fmt: skip
    def test_one_is_found_by_its_repository_or_by_its_file(self, repository, files, name, chosen):
        settings = repository(*files)
        spec = replace(SD15.unet, loras=((name, 0.5),))
        assert hub.pull_additions(spec, settings)[name].read_bytes() == chosen.encode()

    def test_a_repository_of_several_is_asked_which(self, repository, monkeypatch):
        settings = repository("ink.safetensors", "oil.safetensors")
        files = [SimpleNamespace(rfilename=name, size=1) for name in ("ink.safetensors", "oil.safetensors")]
        asked = SimpleNamespace(model_info=lambda *_, **__: SimpleNamespace(siblings=files))
        monkeypatch.setattr(hub, "HfApi", lambda: asked)
        with pytest.raises(ModelUnavailableError, match=r"'someone/styles' does not hold exactly one.*owner/name/file"):
            hub.pull_additions(replace(SD15.unet, loras=(("someone/styles", 1.0),)), settings)

    def test_a_file_of_ones_own_and_its_folder(self, settings, tmp_path):
        (tmp_path / "mine.pt").write_bytes(b"x")
        for name in (str(tmp_path / "mine.pt"), str(tmp_path)):
            spec = replace(SD15.text_encoder, embeddings=(name,))
            assert hub.pull_additions(spec, settings) == {name: tmp_path / "mine.pt"}
