"""The maths of inversion and sampling: by equivalence with diffusers, and by property."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from diffusers import DDIMInverseScheduler

from bivdiff.bridge.guidance import unet_noise
from bivdiff.bridge.inversion import invert_clip, invert_frames
from bivdiff.bridge.paths import DiffusionPath
from bivdiff.bridge.prompts import cut_off, encode_prompt
from bivdiff.bridge.sampling import initial_noise, step_through
from bivdiff.catalog.families import family_named
from bivdiff.toybox import networks

ROUND_TRIP = 1e-4  # float32 rounding over 50 steps there and 50 back
SAME_MATHS = 1e-4  # two orders of the same float32 sums


@pytest.fixture(scope="module")
def models(manager):
    family = family_named("toybox")
    specs = {
        "unet": family.unet,
        "video_unet": family.video_models["toybox-video"].unet,
        "scheduler": family.scheduler,
        "text_encoder": family.text_encoder,
        "tokenizer": family.tokenizer,
    }
    with manager.use(*specs.values()) as components, torch.inference_mode():
        yield dict(zip(specs, components, strict=True))


def embeds_of(models, prompt="a red cube"):
    return encode_prompt(models["tokenizer"], models["text_encoder"], prompt)


def test_inversion_then_sampling_returns():
    """With a noise prediction that does not depend on the latents both ways are exact."""
    scheduler = networks.build_scheduler()
    start, noise = torch.randn(1, 4, 3, 8, 8), torch.randn(1, 4, 3, 8, 8)
    *_, inverted = step_through(lambda *_: noise, start, DDIMInverseScheduler.from_config(scheduler.config), 50)
    assert (inverted.latents - start).abs().max() > 0.1
    *_, returned = step_through(lambda *_: noise, inverted.latents, scheduler, 50)
    assert (returned.latents - start).abs().max() < ROUND_TRIP


def test_image_inversion_is_diffusers_frame_by_frame(models):
    clean, embeds = torch.randn(1, 4, 3, 8, 8), embeds_of(models)
    shared = (partial(unet_noise, models["unet"]), DiffusionPath(models["scheduler"]), clean, embeds, embeds)
    *_, ours = invert_frames(*shared, guidance_scale=1, num_steps=4, batch_size=2)
    inverse = DDIMInverseScheduler.from_config(models["scheduler"].config)
    for frame in range(3):
        latents = clean[:, :, frame]
        inverse.set_timesteps(4)
        for timestep in inverse.timesteps:
            latents = inverse.step(models["unet"](latents, timestep, embeds).sample, timestep, latents).prev_sample
        assert torch.allclose(ours.latents[:, :, frame], latents, atol=SAME_MATHS)


def test_video_inversion_is_diffusers(models):
    latents, embeds = torch.randn(1, 4, 3, 8, 8), embeds_of(models)

    def noise_pred(clip, timestep, text):
        return models["video_unet"](clip, timestep, text).sample

    shared = (noise_pred, DiffusionPath(models["scheduler"]), latents, embeds, embeds)
    *_, ours = invert_clip(*shared, guidance_scale=1, num_steps=3)
    inverse = DDIMInverseScheduler.from_config(models["scheduler"].config)
    inverse.set_timesteps(3)
    for timestep in inverse.timesteps:
        latents = inverse.step(models["video_unet"](latents, timestep, embeds).sample, timestep, latents).prev_sample
    assert torch.allclose(ours.latents, latents, atol=SAME_MATHS)


@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_guided_inversion_is_diffusers_walk_with_the_guided_prediction(models, scale):
    """At scale 1 the negative prompt has no weight, so the walk is that of the prompt alone."""
    latents, embeds, negative = torch.randn(1, 4, 1, 8, 8), embeds_of(models), embeds_of(models, "blue sphere")
    shared = (partial(unet_noise, models["unet"]), DiffusionPath(models["scheduler"]), latents, embeds, negative)
    *_, ours = invert_frames(*shared, guidance_scale=scale, num_steps=2, batch_size=8)
    inverse, picture = DDIMInverseScheduler.from_config(models["scheduler"].config), latents[:, :, 0]
    inverse.set_timesteps(2)
    for timestep in inverse.timesteps:
        towards, away = (models["unet"](picture, timestep, text).sample for text in (embeds, negative))
        picture = inverse.step(away + scale * (towards - away), timestep, picture).prev_sample
    assert torch.allclose(ours.latents[:, :, 0], picture, atol=SAME_MATHS)


class TestInitialNoise:
    def test_sharing_is_the_correlation_of_frames(self):
        for sharing in (0.0, 0.5, 1.0):
            noise = initial_noise((2, 4, 64, 64), sharing, seed=0).flatten(1)
            assert torch.corrcoef(noise)[0, 1].item() == pytest.approx(sharing, abs=0.03)
            assert noise.std().item() == pytest.approx(1.0, abs=0.03)

    def test_a_longer_clip_starts_the_same(self):
        assert torch.equal(initial_noise((6, 4, 8, 8), 0.3, seed=5)[:4], initial_noise((4, 4, 8, 8), 0.3, seed=5))


def test_what_a_tokenizer_cuts_off_is_told(models):
    assert cut_off(models["tokenizer"], "a red cube") == ""
    end = cut_off(models["tokenizer"], "a red cube " * 20 + "sphere")
    assert end.endswith("sphere")
