"""The maths of Mixed Inversion and sampling: by equivalence with diffusers, and by property."""

from __future__ import annotations

import pytest
import torch
from diffusers import DDIMInverseScheduler

from bivdiff.bridge.inversion import invert_with_image_model, invert_with_video_model
from bivdiff.bridge.mixing import at_level, mix_latents, noise_level
from bivdiff.bridge.prompts import cut_off, encode_prompt
from bivdiff.bridge.sampling import initial_noise, walk
from bivdiff.catalog.families import family_named
from bivdiff.errors import InputError
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
    *_, inverted = walk(lambda *_: noise, start, DDIMInverseScheduler.from_config(scheduler.config), 50)
    assert (inverted.latents - start).abs().max() > 0.1
    *_, returned = walk(lambda *_: noise, inverted.latents, scheduler, 50)
    assert (returned.latents - start).abs().max() < ROUND_TRIP


def test_image_inversion_is_diffusers_frame_by_frame(models):
    clean, embeds = torch.randn(1, 4, 3, 8, 8), embeds_of(models)
    shared = (models["unet"], models["scheduler"], clean, embeds, embeds)
    *_, ours = invert_with_image_model(*shared, guidance_scale=1, num_steps=4, batch_size=2)
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

    shared = (noise_pred, models["scheduler"], latents, embeds, embeds)
    *_, ours = invert_with_video_model(*shared, guidance_scale=1, num_steps=3)
    inverse = DDIMInverseScheduler.from_config(models["scheduler"].config)
    inverse.set_timesteps(3)
    for timestep in inverse.timesteps:
        latents = inverse.step(models["video_unet"](latents, timestep, embeds).sample, timestep, latents).prev_sample
    assert torch.allclose(ours.latents, latents, atol=SAME_MATHS)


@pytest.mark.parametrize("steps", [4, 20, 50])
def test_an_inversion_ends_at_the_noise_level_where_sampling_begins(steps):
    scheduler = networks.build_scheduler()
    start, noise = torch.randn(1, 4, 2, 8, 8), torch.randn(1, 4, 2, 8, 8)

    inverse = DDIMInverseScheduler.from_config(scheduler.config)
    *_, inverted = walk(lambda *_: noise, start, inverse, steps)
    level = noise_level(scheduler, steps)
    # The first alpha is not 1, so a trace of the start's own noise is there too.
    expected = level**0.5 * start + (1 - level) ** 0.5 * noise
    assert (inverted.latents - expected).abs().max() < 0.15
    assert level == pytest.approx(scheduler.alphas_cumprod[1 + (steps - 1) * (1000 // steps)].item())


def test_latents_at_another_level_have_the_same_noise_over_the_same_clip():
    clean, noise = torch.randn(1, 4, 2, 8, 8), torch.randn(1, 4, 2, 8, 8)
    low, high = 0.3, 0.01
    inverted = low**0.5 * clean + (1 - low) ** 0.5 * noise
    moved = at_level(inverted, lambda: clean, low, high)
    assert torch.allclose(moved, high**0.5 * clean + (1 - high) ** 0.5 * noise, atol=1e-6)
    assert at_level(inverted, lambda: pytest.fail("nothing changes"), low, low) is inverted


def test_blending_at_one_level_is_blending_noise():
    """Why latents of models with other schedules may be mixed once they are at one level: the paper's case is this."""
    clean, level = torch.randn(1, 4, 2, 8, 8), 0.02
    noises = torch.randn(2, 1, 4, 2, 8, 8)
    image, video = (level**0.5 * clean + (1 - level) ** 0.5 * noise for noise in noises)
    mixed = mix_latents(image, video, 0.3)
    expected = level**0.5 * clean + (1 - level) ** 0.5 * (0.3 * noises[0] + 0.7 * noises[1])
    assert torch.allclose(mixed, expected, atol=1e-6)


def test_guided_inversion_differs_and_guidance_one_ignores_the_negative_prompt(models):
    clean, embeds, negative = torch.randn(1, 4, 2, 8, 8), embeds_of(models), embeds_of(models, "blue sphere")

    def inverted(negative_embeds, scale):
        shared = (models["unet"], models["scheduler"], clean, embeds, negative_embeds)
        *_, step = invert_with_image_model(*shared, guidance_scale=scale, num_steps=2, batch_size=8)
        return step.latents

    assert torch.equal(inverted(negative, 1), inverted(embeds, 1))
    assert not torch.allclose(inverted(negative, 3), inverted(negative, 1), atol=SAME_MATHS)


class TestMixLatents:
    image, video = torch.randn(1, 4, 3, 8, 8), torch.randn(1, 4, 3, 8, 8)

    def test_linear_is_the_papers_sum(self):
        mixed = mix_latents(self.image, self.video, 0.3)
        assert torch.allclose(mixed, 0.3 * self.image + 0.7 * self.video, atol=1e-6)

    @pytest.mark.parametrize("rule", ["linear", "variance_preserving", "slerp"])
    def test_the_ends_are_one_model_alone(self, rule):
        assert torch.equal(mix_latents(self.image, None, 1.0, rule), self.image)
        assert torch.equal(mix_latents(None, self.video, 0.0, rule), self.video)

    @pytest.mark.parametrize("rule", ["variance_preserving", "slerp"])
    def test_the_spread_is_kept_where_linear_loses_it(self, rule):
        assert mix_latents(self.image, self.video, 0.5).std() < 0.8
        assert mix_latents(self.image, self.video, 0.5, rule).std() == pytest.approx(1.0, abs=0.05)

    @pytest.mark.parametrize("rule", ["linear", "variance_preserving", "slerp"])
    def test_equal_latents_stay_as_they_are(self, rule):
        assert torch.allclose(mix_latents(self.image, self.image.clone(), 0.4, rule), self.image, atol=1e-5)

    def test_the_result_shares_no_memory(self):
        mixed = mix_latents(self.image, self.video, 1.0)
        assert mixed.data_ptr() != self.image.data_ptr()

    def test_half_precision_does_not_overflow(self):
        mixed = mix_latents((40 * self.image).half(), (40 * self.video).half(), 0.5, "slerp")
        assert mixed.dtype == torch.float16
        assert torch.isfinite(mixed).all()

    @pytest.mark.parametrize(
        ("image", "video", "ratio", "rule"),
        [
            (image, video[:, :, :2], 0.5, "linear"),
            (image, None, 0.5, "linear"),
            (None, video, 1.0, "linear"),
            (image, video, 1.5, "linear"),
            (image, video, float("nan"), "linear"),
            (image, video, 0.5, "cubic"),
        ],
    )
    def test_what_cannot_be_mixed_is_refused(self, image, video, ratio, rule):
        with pytest.raises(InputError):
            mix_latents(image, video, ratio, rule)


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
