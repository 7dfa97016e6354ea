"""A whole run of models that share nothing: schedules, text encoders, decoders, numbers of steps; against plain DDIM.

In the toybox one schedule, one text encoder and one decoder serve both models, so that a mix-up of the two shows only
here.
"""

from __future__ import annotations

import shutil
from contextlib import ExitStack
from dataclasses import replace

import numpy as np
import pytest
import torch
from diffusers import DDIMInverseScheduler, DDIMScheduler

from bivdiff.bridge import latents
from bivdiff.bridge.outcomes import outcome_of
from bivdiff.bridge.pipeline import blend, resolved, smooth_clips
from bivdiff.bridge.prompts import encode_prompt
from bivdiff.bridge.reuse import StageCache
from bivdiff.bridge.session import enter
from bivdiff.catalog.families import FAMILIES, family_named
from bivdiff.models.manager import ModelManager
from bivdiff.settings import Settings
from bivdiff.toybox import networks

SAME_MATHS = 1e-4  # two orders of the same float32 sums
ONE_LEVEL = 1  # a rounding at half a level may fall either way
INVERTED, NEGATIVE, SHOWN = "a red cube", "dark and blurred", "a blue sphere at night"
RATIO, GUIDANCE = 0.25, 2.0


@pytest.fixture(scope="module")
def unlike_manager(toybox_folder, tmp_path_factory):
    """Models of the toybox, and beside them a text encoder and an autoencoder of other weights."""
    folder = tmp_path_factory.mktemp("unlike") / "toybox"
    shutil.copytree(toybox_folder, folder)
    torch.manual_seed(7)
    family = networks.build_family()
    family["text_encoder"].save_pretrained(folder / "video_text_encoder")
    family["vae"].save_pretrained(folder / "video_vae")
    return ModelManager(Settings(device="cpu", toybox_folder=folder, cache_folder=folder / "stages"))


@pytest.fixture
def session(unlike_manager, request_of, monkeypatch):
    """What a run of the unlike models works with; 3 steps to invert, 2 to smooth."""
    toybox = family_named("toybox")
    video = toybox.video_models["toybox-video"]
    other = replace(
        video, text_encoder=replace(video.text_encoder, key="toybox/other-words", folder="video_text_encoder"),
        scheduler=replace(video.scheduler, key="toybox/other-noise", config=(("beta_end", 0.03),)),
        vae=replace(toybox.vae, key="toybox/other-vae", folder="video_vae"),
    )  # fmt: skip
    monkeypatch.setitem(FAMILIES, "toybox", replace(toybox, video_models={"toybox-video": other}))
    request = resolved(request_of(
        mixing_ratio=RATIO, inversion_prompt=INVERTED, negative_prompt=NEGATIVE, video_prompt=SHOWN,
        inversion_guidance_scale=GUIDANCE, smoothing_guidance_scale=GUIDANCE, num_inversion_steps=3,
        num_smoothing_steps=2,
    ))  # fmt: skip
    with ExitStack() as exits, torch.inference_mode():
        yield enter(request, unlike_manager, StageCache(), exits)


def guided(predict, clip, timestep, prompt, negative):
    """The guided prediction, from two of the network."""
    towards, away = predict(clip, timestep, prompt), predict(clip, timestep, negative)
    return away + GUIDANCE * (towards - away)


def walked(scheduler, num_steps, clip, predict, prompt, negative):
    scheduler.set_timesteps(num_steps)
    for timestep in scheduler.timesteps:
        clip = scheduler.step(guided(predict, clip, timestep, prompt, negative), timestep, clip).prev_sample
    return clip


def level_of(config, num_steps):
    scheduler = DDIMScheduler.from_config(config)
    scheduler.set_timesteps(num_steps)
    return scheduler.alphas_cumprod[scheduler.timesteps[0]]


def test_the_fixture_is_unlike(session):
    parts = session.models.parts
    assert parts.scheduler.config.beta_end != parts.video_scheduler.config.beta_end
    assert parts.text_encoder is not parts.video_text_encoder
    assert parts.vae is not parts.video_vae


def test_each_model_inverts_with_its_own_words_and_noise_and_both_meet_at_the_level_of_smoothing(session):
    parts = session.models.parts
    framewise, blended = outcome_of(blend(session))
    clean = latents.encode(parts.vae, framewise, 8)
    image_text, video_text = (
        [encode_prompt(parts.tokenizer, encoder, text) for text in (INVERTED, NEGATIVE)]
        for encoder in (parts.text_encoder, parts.video_text_encoder)
    )
    wanted = level_of(parts.video_scheduler.config, 2)

    def at_wanted_level(inverted, level):
        noise = (inverted - level**0.5 * clean) / (1 - level) ** 0.5
        return wanted**0.5 * clean + (1 - wanted) ** 0.5 * noise

    def by_image(frames, timestep, text):
        return parts.unet(frames, timestep, text.expand(len(frames), -1, -1)).sample

    def by_video(clip, timestep, text):
        return parts.video_unet(clip, timestep, text).sample

    frames = walked(
        DDIMInverseScheduler.from_config(parts.scheduler.config), 3, latents.fold_frames(clean), by_image, *image_text
    )
    clip = walked(DDIMInverseScheduler.from_config(parts.video_scheduler.config), 3, clean, by_video, *video_text)
    image = at_wanted_level(latents.unfold_frames(frames), level_of(parts.scheduler.config, 3))
    video = at_wanted_level(clip, level_of(parts.video_scheduler.config, 3))
    assert torch.allclose(blended, RATIO * image + (1 - RATIO) * video, atol=SAME_MATHS)


def test_the_video_model_smooths_with_its_own_words_noise_and_decoder(session):
    parts = session.models.parts
    torch.manual_seed(3)
    blended = torch.randn(1, 4, 4, 16, 16)
    (frames,) = outcome_of(smooth_clips(session, blended))
    text = [encode_prompt(parts.tokenizer, parts.video_text_encoder, words) for words in (SHOWN, NEGATIVE)]

    def predict(clip, timestep, embeds):
        return parts.video_unet(clip, timestep, embeds).sample

    clip = walked(DDIMScheduler.from_config(parts.video_scheduler.config), 2, blended, predict, *text)
    expected = latents.decode(parts.video_vae, clip, 8)
    assert np.abs(frames.astype(int) - expected).max() <= ONE_LEVEL


def test_the_image_model_is_told_the_prompt_and_steered_away_from_the_negative(session):
    """At guidance 1 the negative prompt is not heard, whatever it says, and the prompt is."""
    silent = replace(session.request, guidance_scale=1.0)
    made = {
        changes: outcome_of(blend(replace(session, request=replace(silent, **dict(changes)))))[0].tobytes()
        for changes in ((), (("negative_prompt", "a yellow cone"),), (("prompt", "a yellow cone"),))
    }
    plain, other_negative, other_prompt = made.values()
    assert plain == other_negative
    assert plain != other_prompt
