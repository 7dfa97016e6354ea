"""Video models behind one interface: what they predict is noise, whatever they were trained to predict."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from diffusers import DDIMScheduler, MotionAdapter, UNet2DConditionModel, UNetMotionModel

from bivdiff.catalog.families import family_named
from bivdiff.catalog.specs import ModelSpec
from bivdiff.errors import ModelUnavailableError
from bivdiff.models.hub import source_of
from bivdiff.models.loaders import load_component
from bivdiff.models.video import VideoDenoiser
from bivdiff.settings import Settings
from bivdiff.toybox import networks

MODEL = family_named("toybox").video_models["toybox-video"]
WIDTHS = (16, 32)


def denoiser(unet, prediction_type, **config):
    scheduler = DDIMScheduler.from_config(networks.build_scheduler().config, prediction_type=prediction_type, **config)
    return VideoDenoiser(MODEL, unet, None, None, scheduler, None)


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("schedule", ["scaled_linear", "linear"])
def test_every_kind_of_prediction_becomes_the_same_noise(prediction_type, schedule):
    clean, noise, timestep = *torch.randn(2, 1, 4, 3, 2, 2), torch.tensor(401)
    scheduler = denoiser(None, prediction_type, beta_schedule=schedule).scheduler
    noisy = scheduler.add_noise(clean, noise, timestep)
    told = {"epsilon": noise, "sample": clean, "v_prediction": scheduler.get_velocity(clean, noise, timestep)}

    def unet(*_):
        return SimpleNamespace(sample=told[prediction_type])

    model = denoiser(unet, prediction_type, beta_schedule=schedule)
    assert model.scheduler.config.prediction_type == "epsilon"
    found = model.predict(noisy, timestep, torch.zeros(1, 2, 8))
    assert torch.allclose(found, noise, atol=1e-4)


def test_the_network_computes_at_the_precision_of_its_weights_and_latents_keep_theirs():
    seen = []

    def unet(latents, *_):
        seen.append(latents.dtype)
        return SimpleNamespace(sample=latents)

    found = denoiser(unet, "epsilon").predict(torch.randn(1, 4, 2, 2, 2), torch.tensor(1), torch.zeros(1, 2, 8).half())
    assert (seen[0], found.dtype) == (torch.float16, torch.float32)


def test_what_cannot_be_inverted_is_refused():
    scheduler = SimpleNamespace(config=SimpleNamespace(prediction_type="flow_prediction"))
    with pytest.raises(ModelUnavailableError, match=r"flow_prediction.*epsilon"):
        VideoDenoiser(MODEL, None, None, None, scheduler, None)


@pytest.mark.parametrize("config", [{"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 3.0}])
def test_a_schedule_without_noise_levels_is_refused(tmp_path, config):
    import json

    (tmp_path / "scheduler_config.json").write_text(json.dumps(config))
    spec = ModelSpec(key="mine/scheduler", kind="scheduler", repo="owner/flow")
    with pytest.raises(ModelUnavailableError, match=r"owner/flow.*cannot invert"):
        load_component(source_of(spec, tmp_path, Settings(), torch.float32))


def test_every_schedule_is_walked_over_the_same_timesteps(tmp_path):
    """Whatever sampler a model was released with; only its noise levels are its own."""
    from diffusers import EulerDiscreteScheduler

    EulerDiscreteScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="linear", timestep_spacing="trailing", steps_offset=0
    ).save_pretrained(tmp_path)
    spec = ModelSpec(key="mine/scheduler", kind="scheduler", repo="owner/euler")
    scheduler, usual = load_component(source_of(spec, tmp_path, Settings(), torch.float32)), networks.build_scheduler()
    for each in (scheduler, usual):
        each.set_timesteps(20)
    assert torch.equal(scheduler.timesteps, usual.timesteps)
    assert scheduler.alphas_cumprod[500] == pytest.approx(0.1608, abs=1e-4)  # AnimateDiff's
    assert usual.alphas_cumprod[500] == pytest.approx(0.2763, abs=1e-4)  # Stable Diffusion's


@pytest.fixture
def motion(tmp_path):
    """A small image model, a motion adapter for it on disk, and AnimateDiff's U-Net made by diffusers of both."""
    torch.manual_seed(0)
    base = UNet2DConditionModel(
        sample_size=8, in_channels=4, out_channels=4, layers_per_block=1, block_out_channels=WIDTHS, norm_num_groups=8,
        cross_attention_dim=24, attention_head_dim=8, down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    )  # fmt: skip
    adapter = MotionAdapter(
        block_out_channels=WIDTHS, motion_layers_per_block=1, motion_norm_num_groups=8, motion_num_attention_heads=2,
        use_motion_mid_block=True,
    )  # fmt: skip
    for parameter in adapter.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1)
    adapter.save_pretrained(tmp_path)
    return base.eval(), UNetMotionModel.from_unet2d(base, adapter).eval()


def test_animatediff_is_diffusers_own_and_shares_the_image_models_weights(motion, tmp_path):
    base, theirs = motion
    spec = ModelSpec(key="mine/motion", kind="motion_unet", repo="owner/motion")
    ours = load_component(source_of(spec, tmp_path, Settings(), torch.float32, base))
    clip, embeds = torch.randn(2, 4, 3, 8, 8), torch.randn(2, 5, 24)
    with torch.no_grad():
        expected = theirs(clip, 301, embeds.repeat_interleave(3, 0)).sample
        model = VideoDenoiser(
            family_named("sd15").video_models["animatediff-v1-5-3"], ours, None, None, networks.build_scheduler(), base
        )
        found = model.predict(clip, torch.tensor(301), embeds)
    assert torch.allclose(found, expected, atol=1e-5)
    own = {tensor.data_ptr() for tensor in base.parameters()}
    shared = sum(tensor.data_ptr() in own for tensor in ours.parameters())
    assert shared == len(own)


def test_animatediff_sees_frames_alone_as_its_image_model_without_motion(motion, tmp_path):
    base, _ = motion
    spec = ModelSpec(key="mine/motion", kind="motion_unet", repo="owner/motion")
    ours = load_component(source_of(spec, tmp_path, Settings(), torch.float32, base))
    video = family_named("sd15").video_models["animatediff-v1-5-3"]
    model = VideoDenoiser(video, ours, None, None, networks.build_scheduler(), base)
    pictures, words, timestep = torch.randn(3, 4, 8, 8), torch.randn(3, 5, 24), torch.tensor(301)
    with torch.no_grad():
        found = model.predict_frames(pictures, timestep, words)
        moving = model.predict(pictures[:, :, None], timestep, words)[:, :, 0]
        assert torch.equal(found, base(pictures, timestep, words).sample)
    assert not torch.allclose(found, moving, atol=1e-2)  # as a clip, with motion


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction", "sample"])
def test_frames_alone_are_clips_of_one_frame(manager, prediction_type):
    """Of a model that is a network of its own; three frames with words of their own each."""
    torch.manual_seed(0)
    pictures, words, timestep = torch.randn(3, 4, 8, 8), torch.randn(3, 5, 128), torch.tensor(401)
    with manager.use(MODEL.unet) as (unet,), torch.no_grad():
        model = denoiser(unet, prediction_type)
        together = model.predict_frames(pictures, timestep, words)
        alone = [
            model.predict(picture[None, :, None], timestep, text[None])[0, :, 0]
            for picture, text in zip(pictures, words, strict=True)
        ]
    assert together.shape == pictures.shape
    assert torch.allclose(together, torch.stack(alone), atol=1e-4)


def test_animatediff_sees_a_frame_alone_as_the_image_model_that_it_is_built_into(motion, tmp_path):
    """Without motion modules: of one frame they would still change what it is."""
    base, theirs = motion
    spec = ModelSpec(key="mine/motion", kind="motion_unet", repo="owner/motion")
    ours = load_component(source_of(spec, tmp_path, Settings(), torch.float32, base))
    pictures, embeds = torch.randn(2, 4, 8, 8), torch.randn(2, 5, 24)
    with torch.no_grad():
        expected = base(pictures, 301, embeds).sample
        with_motion = theirs(pictures[:, :, None], 301, embeds).sample[:, :, 0]
        model = VideoDenoiser(
            family_named("sd15").video_models["animatediff-v1-5-3"], ours, None, None, networks.build_scheduler(), base
        )
        found = model.predict_frames(pictures, torch.tensor(301), embeds)
    assert torch.equal(found, expected)
    assert not torch.allclose(with_motion, expected, atol=1e-2)
