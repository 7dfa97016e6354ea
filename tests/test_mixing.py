"""The blend of Mixed Inversion: noise levels, and the mixing rules against their closed forms."""

from __future__ import annotations

import math

import pytest
import torch
from diffusers import DDIMInverseScheduler

from bivdiff.bridge.mixing import at_level, mix_latents, noise_level
from bivdiff.bridge.sampling import step_through
from bivdiff.errors import InputError
from bivdiff.toybox import networks

ROUNDING = 1e-5  # float32, sums over a small clip


@pytest.mark.parametrize("steps", [4, 20, 50])
def test_an_inversion_ends_at_the_noise_level_where_sampling_begins(steps):
    scheduler = networks.build_scheduler()
    start, noise = torch.randn(1, 4, 2, 8, 8), torch.randn(1, 4, 2, 8, 8)

    inverse = DDIMInverseScheduler.from_config(scheduler.config)
    *_, inverted = step_through(lambda *_: noise, start, inverse, steps)
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


def along(*parts: float) -> torch.Tensor:
    """Latents `(1, 4, 1, 1, 2)` with these as the first numbers, the others 0."""
    vector = torch.zeros(8)
    vector[: len(parts)] = torch.tensor(parts)
    return vector.reshape(1, 4, 1, 1, 2)


class TestClosedForms:
    """At a quarter, where the two weights differ, and with latents of unlike lengths."""

    def test_slerp_turns_by_its_share_of_a_right_angle(self):
        mixed = mix_latents(along(4), along(0, 2), 0.25, "slerp")
        length, turned = 0.25 * 4 + 0.75 * 2, 0.25 * math.pi / 2  # from the video's direction towards the image's
        assert torch.allclose(mixed, length * along(math.sin(turned), math.cos(turned)), atol=ROUNDING)

    def test_slerp_turns_every_video_by_an_angle_of_its_own(self):
        angles = (math.pi / 3, 2 * math.pi / 3)
        image, video = torch.cat([along(3), along(1)]), torch.cat([along(math.cos(a), math.sin(a)) for a in angles])
        mixed = mix_latents(image, video, 0.25, "slerp")
        expected = [
            (0.25 * length + 0.75) * along(math.cos(0.75 * angle), math.sin(0.75 * angle))
            for length, angle in zip((3, 1), angles, strict=True)
        ]
        assert torch.allclose(mixed, torch.cat(expected), atol=ROUNDING)

    def test_slerp_of_parallel_latents_is_their_weighted_sum(self):
        assert torch.allclose(mix_latents(along(4), along(2), 0.25, "slerp"), along(2.5), atol=ROUNDING)

    def test_variance_preserving_has_the_weighted_mean_of_the_spreads(self):
        image, video = 4 * torch.randn(1, 4, 2, 8, 8), torch.randn(1, 4, 2, 8, 8)
        spread = 0.25 * image.std() + 0.75 * video.std()
        summed = 0.25 * image + 0.75 * video
        mixed = mix_latents(image, video, 0.25, "variance_preserving")
        assert torch.allclose(mixed, summed * spread / summed.std(), atol=ROUNDING)
