"""LTX-Video behind the bridge: its real classes at a small size, beside diffusers."""

from __future__ import annotations

from contextlib import ExitStack

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, LTXConditionPipeline
from diffusers.pipelines.ltx.pipeline_ltx_condition import linear_quadratic_schedule
from own_latents import OWN, SAME_MATHS, request_for

from bivdiff.bridge.guidance import guided
from bivdiff.bridge.paths import FlowSchedule, Level, MidpointPath, noised
from bivdiff.bridge.pipeline import resolved
from bivdiff.bridge.reuse import StageCache
from bivdiff.bridge.session import enter
from bivdiff.bridge.spaces import DECODING_LEVEL, DECODING_NOISE, DECODING_SEED
from bivdiff.errors import InputError
from bivdiff.toybox import world

NAME = "ltx-0.9.5"
LATENTS = (1, 8, 3, 2, 3)


@pytest.fixture(scope="module")
def clip():
    """Seventeen frames of the world, uint8 `(17, 64, 96, 3)`."""
    return world.render(world.sample_scene(3), 96, 64, 17).frames


@pytest.fixture
def parts(own_manager, clip):
    """The models of a run, and the pipeline of its version."""
    with torch.inference_mode(), own_manager.hold(*OWN[NAME].components):
        with ExitStack() as exits:  # what counts evaluations does not know how pipelines call
            models = enter(resolved(request_for(clip, NAME)), own_manager, StageCache(), exits).models
        vae = models.parts.video_vae
        before = vae.latents_mean.clone(), vae.latents_std.clone()
        vae.latents_mean[:], vae.latents_std[:] = torch.linspace(-1, 1, 8), torch.linspace(0.5, 2, 8)
        yield (
            models,
            LTXConditionPipeline(
                FlowMatchEulerDiscreteScheduler(),
                vae,
                models.video.text_encoder,
                models.video.tokenizer,
                models.video.unet,
            ),
        )
        vae.latents_mean[:], vae.latents_std[:] = before


def walked(models, latents, num_steps, guidance_scale, skipped=0):
    """Latents after the steps of Euler along the grid that the pipeline brings for itself."""
    scheduler = FlowMatchEulerDiscreteScheduler()
    scheduler.set_timesteps(timesteps=(linear_quadratic_schedule(num_steps) * 1000).tolist())
    prompts = [models.embed_for_video(text) for text in ("a blue cube", "a red cube")]
    steered = guided(models.video.predict, *prompts, guidance_scale)
    for timestep in scheduler.timesteps[skipped:]:
        latents = scheduler.step(steered(latents, timestep), timestep, latents).prev_sample
    return latents


def test_words_are_read_alike_and_bring_their_mask(parts):
    models, pipeline = parts
    states, mask, *_ = pipeline.encode_prompt("a  blue cube", None, False)
    ours = models.embed_for_video("a  blue cube")
    assert ours.states.shape == (1, 256, 16)
    assert torch.allclose(ours.states, states, atol=SAME_MATHS)
    assert torch.equal(ours.mask.bool(), mask)
    assert 0 < mask.sum() < 256


def test_a_clip_of_a_prompt(parts):
    models, pipeline = parts
    theirs = pipeline(
        prompt="a blue cube", negative_prompt="a red cube", height=64, width=96, num_frames=17, num_inference_steps=4,
        guidance_scale=4.0, generator=torch.Generator().manual_seed(0), output_type="latent",
    ).frames  # fmt: skip
    noise = torch.randn(LATENTS, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(walked(models, noise, 4, 4.0), theirs, atol=SAME_MATHS)


def test_a_clip_of_a_clip(parts, clip):
    """Noised as far as the strength, and denoised from there."""
    models, pipeline = parts
    clean = models.encode_for_video(clip)
    theirs = pipeline(
        prompt="a blue cube", negative_prompt="a red cube", height=64, width=96, num_frames=17, num_inference_steps=5,
        guidance_scale=4.0, denoise_strength=0.6, latents=clean, generator=torch.Generator().manual_seed(0),
        output_type="latent",
    ).frames  # fmt: skip
    share = linear_quadratic_schedule(5)[2].item()
    noise = torch.randn(LATENTS, generator=torch.Generator().manual_seed(0))
    start = noised(clean, noise, Level(1 - share, share))
    assert torch.allclose(walked(models, start, 5, 4.0, skipped=2), theirs, atol=SAME_MATHS)


def test_what_fills_a_prompt_up_changes_nothing(parts):
    models, _ = parts
    words = models.embed_for_video("a blue cube")
    noise, timestep = torch.randn(LATENTS), torch.tensor(500.0)
    spoilt = words.states.clone()
    spoilt[:, words.mask[0] == 0] += 100
    found = models.video.predict(noise, timestep, words)
    assert torch.equal(models.video.predict(noise, timestep, type(words)(spoilt, words.mask)), found)
    assert not torch.allclose(models.video.predict(noise, timestep, type(words)(spoilt, None)), found, atol=1e-3)


def test_frames_are_coded_as_diffusers_does_it(parts, clip):
    """Latents normalised by the autoencoder's own statistics, and decoded with the trace of noise that it takes out."""
    models, pipeline = parts
    vae = pipeline.vae
    pixels = torch.from_numpy(clip).permute(3, 0, 1, 2)[None] / 127.5 - 1
    encoded = vae.encode(pixels).latent_dist.mode()
    found = models.encode_for_video(clip)
    assert torch.allclose(found, pipeline._normalize_latents(encoded, vae.latents_mean, vae.latents_std), atol=1e-5)
    noise = torch.randn(encoded.shape, generator=torch.Generator().manual_seed(DECODING_SEED))
    given = (1 - DECODING_NOISE) * encoded + DECODING_NOISE * noise
    theirs = vae.decode(given, torch.tensor([DECODING_LEVEL])).sample[0].permute(1, 2, 3, 0)
    expected = ((theirs.clamp(-1, 1) + 1) * 127.5).round().numpy()
    assert np.abs(models.decode_video(found, 10) - expected[:10]).max() <= 1


def test_its_levels_are_even(parts):
    models, _ = parts
    assert models.video_path == MidpointPath(FlowSchedule(1.0))


@pytest.mark.parametrize("repo", ["Lightricks/LTX-Video-0.9.7-distilled", "/models/Wan-Lightning"])
def test_what_was_distilled_is_not_walked_back(clip, repo, monkeypatch):
    from dataclasses import replace

    from bivdiff.catalog.families import FAMILIES

    family = FAMILIES["sd15"]
    model = replace(OWN[NAME], unet=replace(OWN[NAME].unet, repo=repo))
    monkeypatch.setitem(FAMILIES, "sd15", replace(family, video_models={**family.video_models, NAME: model}))
    with pytest.raises(InputError, match=r"is distilled, as its name says.*Take the model that it was distilled from"):
        request_for(clip, NAME)
