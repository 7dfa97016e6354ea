"""The blend: noise levels, the mixing rules against their closed forms, and what each frame noise is made of."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from diffusers import DDIMInverseScheduler
from scipy.fft import dct

from bivdiff.bridge.mixing import blend_latents, capped, mean_noise, mix_noise
from bivdiff.bridge.paths import DiffusionPath, Level, at_level, noise_in, noised
from bivdiff.bridge.sampling import step_through
from bivdiff.errors import InputError
from bivdiff.toybox import networks
from bivdiff.types import MIXING_RULES

ROUNDING = 1e-5  # float32, sums over a small clip


@pytest.mark.parametrize(("steps", "start_level"), [(4, 1.0), (20, 1.0), (50, 1.0), (20, 0.6), (20, 0.01)])
def test_an_inversion_ends_at_the_noise_level_where_sampling_begins(steps, start_level):
    scheduler = networks.build_scheduler()
    start, noise = torch.randn(1, 4, 2, 8, 8), torch.randn(1, 4, 2, 8, 8)

    inverse = DDIMInverseScheduler.from_config(scheduler.config)
    walked = max(1, round(start_level * steps))
    *_, inverted = step_through(lambda *_: noise, start, inverse, steps, part=slice(walked))
    level = DiffusionPath(scheduler).level(steps, start_level)
    # The first alpha is not 1, so a trace of the start's own noise is there too.
    expected = noised(start, noise, level)
    assert (inverted.latents - expected).abs().max() < 0.15
    cumulative = scheduler.alphas_cumprod[1 + (walked - 1) * (1000 // steps)].item()
    assert level == pytest.approx((cumulative**0.5, (1 - cumulative) ** 0.5))


def test_latents_at_another_level_have_the_same_noise_over_the_same_clip():
    clean, noise = torch.randn(1, 4, 2, 8, 8), torch.randn(1, 4, 2, 8, 8)
    low, high = 0.3, 0.01
    inverted = low**0.5 * clean + (1 - low) ** 0.5 * noise
    moved = at_level(inverted, lambda: clean, Level.of_alpha(low), Level.of_alpha(high))
    assert torch.allclose(moved, high**0.5 * clean + (1 - high) ** 0.5 * noise, atol=1e-6)
    same = Level.of_alpha(low), Level.of_alpha(low)
    assert at_level(inverted, lambda: pytest.fail("nothing changes"), *same) is inverted


def test_blending_at_one_level_is_blending_noise():
    """Why latents of models with other schedules may be mixed once they are at one level: the paper's case is this."""
    clean, level = torch.randn(1, 4, 2, 8, 8), 0.02
    noises = torch.randn(2, 1, 4, 2, 8, 8)
    image, video = (level**0.5 * clean + (1 - level) ** 0.5 * noise for noise in noises)
    mixed = mix_noise(video, image, 0.3)
    expected = level**0.5 * clean + (1 - level) ** 0.5 * (0.3 * noises[0] + 0.7 * noises[1])
    assert torch.allclose(mixed, expected, atol=1e-6)


class TestMixNoise:
    frame, clip = torch.randn(1, 4, 3, 8, 8), torch.randn(1, 4, 3, 8, 8)

    def test_linear_is_the_papers_sum(self):
        mixed = mix_noise(self.clip, self.frame, 0.3)
        assert torch.allclose(mixed, 0.3 * self.frame + 0.7 * self.clip, atol=1e-6)

    @pytest.mark.parametrize("rule", ["linear", "variance_preserving", "slerp"])
    def test_the_ends_are_one_model_alone(self, rule):
        assert torch.equal(mix_noise(None, self.frame, 1.0, rule), self.frame)
        assert torch.equal(mix_noise(self.clip, None, 0.0, rule), self.clip)

    @pytest.mark.parametrize("rule", ["variance_preserving", "slerp"])
    def test_the_spread_is_kept_where_linear_loses_it(self, rule):
        assert mix_noise(self.clip, self.frame, 0.5).std() < 0.8
        assert mix_noise(self.clip, self.frame, 0.5, rule).std() == pytest.approx(1.0, abs=0.05)

    @pytest.mark.parametrize("rule", MIXING_RULES)
    def test_equal_latents_stay_as_they_are(self, rule):
        assert torch.allclose(mix_noise(self.frame.clone(), self.frame, 0.4, rule), self.frame, atol=1e-5)

    def test_the_result_shares_no_memory(self):
        mixed = mix_noise(self.clip, self.frame, 1.0)
        assert mixed.data_ptr() != self.frame.data_ptr()

    def test_half_precision_does_not_overflow(self):
        mixed = mix_noise((40 * self.clip).half(), (40 * self.frame).half(), 0.5, "slerp")
        assert mixed.dtype == torch.float16
        assert torch.isfinite(mixed).all()

    @pytest.mark.parametrize(
        ("frame", "clip", "ratio", "rule"),
        [
            (frame, clip[:, :, :2], 0.5, "linear"),
            (frame, None, 0.5, "linear"),
            (frame, None, 1.0, "capped"),
            (None, clip, 1.0, "linear"),
            (frame, clip, 1.5, "linear"),
            (frame, clip, -0.5, "linear"),
            (frame, clip, float("nan"), "linear"),
            (frame, clip, 0.5, "cubic"),
        ],
    )
    def test_what_cannot_be_mixed_is_refused(self, frame, clip, ratio, rule):
        with pytest.raises(InputError):
            mix_noise(clip, frame, ratio, rule)


def along(*parts: float) -> torch.Tensor:
    """Latents `(1, 4, 1, 1, 2)` with these as the first numbers, the others 0."""
    vector = torch.zeros(8)
    vector[: len(parts)] = torch.tensor(parts)
    return vector.reshape(1, 4, 1, 1, 2)


class TestClosedForms:
    """At a quarter, where the two weights differ, and with latents of unlike lengths."""

    def test_slerp_turns_by_its_share_of_a_right_angle(self):
        mixed = mix_noise(along(0, 2), along(4), 0.25, "slerp")
        length, turned = 0.25 * 4 + 0.75 * 2, 0.25 * math.pi / 2  # from the video's direction towards the image's
        assert torch.allclose(mixed, length * along(math.sin(turned), math.cos(turned)), atol=ROUNDING)

    def test_slerp_turns_every_video_by_an_angle_of_its_own(self):
        angles = (math.pi / 3, 2 * math.pi / 3)
        image, video = torch.cat([along(3), along(1)]), torch.cat([along(math.cos(a), math.sin(a)) for a in angles])
        mixed = mix_noise(video, image, 0.25, "slerp")
        expected = [
            (0.25 * length + 0.75) * along(math.cos(0.75 * angle), math.sin(0.75 * angle))
            for length, angle in zip((3, 1), angles, strict=True)
        ]
        assert torch.allclose(mixed, torch.cat(expected), atol=ROUNDING)

    def test_slerp_of_equal_latents_whose_cosine_rounds_above_one_is_what_they_are(self):
        drawn = (torch.randn(1, 4, 3, 4, 4, generator=torch.Generator().manual_seed(seed)) for seed in range(500))
        noise = next(each for each in drawn if ((each / torch.linalg.vector_norm(each)) ** 2).sum() > 1)
        torch.testing.assert_close(mix_noise(noise, noise, 0.5, "slerp"), noise)

    def test_slerp_of_parallel_latents_is_their_weighted_sum(self):
        assert torch.allclose(mix_noise(along(2), along(4), 0.25, "slerp"), along(2.5), atol=ROUNDING)

    def test_variance_preserving_has_the_weighted_mean_of_the_spreads(self):
        image, video = 4 * torch.randn(1, 4, 2, 8, 8), torch.randn(1, 4, 2, 8, 8)
        spread = 0.25 * image.std() + 0.75 * video.std()
        summed = 0.25 * image + 0.75 * video
        mixed = mix_noise(video, image, 0.25, "variance_preserving")
        assert torch.allclose(mixed, summed * spread / summed.std(), atol=ROUNDING)


def modes_of(noise: torch.Tensor) -> np.ndarray:
    """Mean square of each temporal mode of a clip's noise, by scipy's transform."""
    return np.square(dct(noise.double().numpy(), type=2, norm="ortho", axis=2)).mean((0, 1, 3, 4))


class TestCapped:
    def test_no_temporal_mode_is_stronger_than_the_clips_own_and_none_is_raised(self):
        clip, frame = torch.randn(1, 4, 8, 6, 6), torch.randn(1, 4, 8, 6, 6)
        frame[:, :, :] += 2 * torch.randn(1, 4, 1, 6, 6)  # far stronger where nothing moves
        before, after, bound = modes_of(frame), modes_of(capped(frame, clip)), modes_of(clip)
        assert before[0] > bound[0]
        assert after == pytest.approx(np.minimum(before, bound), rel=1e-4)

    def test_a_mode_keeps_its_pattern(self):
        still = torch.randn(1, 4, 1, 6, 6)
        clip, frame = still.expand(1, 4, 8, 6, 6), 3 * still.flip(1).expand(1, 4, 8, 6, 6)
        assert torch.allclose(capped(frame, clip), frame / 3, atol=1e-5)

    def test_what_is_weaker_everywhere_stays_as_it_is(self):
        frame = torch.randn(2, 4, 5, 6, 6)
        assert torch.allclose(capped(frame, 2 * frame), frame, atol=1e-5)

    def test_two_videos_of_a_batch_are_bound_each_by_its_own(self):
        clip, frame = torch.randn(2, 4, 5, 6, 6), 3 * torch.randn(2, 4, 5, 6, 6)
        clip[1] *= 0.1
        alone = [capped(frame[[index]], clip[[index]]) for index in (0, 1)]
        assert torch.allclose(capped(frame, clip), torch.cat(alone), atol=1e-5)

    def test_a_long_clip_is_bound_window_by_window(self):
        clip, frame = torch.randn(1, 4, 16, 6, 6), 2 * torch.randn(1, 4, 16, 6, 6)
        clip[:, :, :4] *= 0.1  # calm at its beginning only
        total, weights = torch.zeros_like(clip), torch.zeros(16, 1, 1)
        for start in (0, 4, 8):
            part = slice(start, start + 8)
            weight = (0.5 - 0.5 * torch.cos(2 * torch.pi * (torch.arange(8) + 0.5) / 8)).view(-1, 1, 1)
            total[:, :, part] += weight * capped(frame[:, :, part], clip[:, :, part])
            weights[part] += weight
        assert torch.allclose(capped(frame, clip, window=8), total / weights, atol=1e-5)

    def test_at_ratio_1_the_bound_still_counts(self):
        clip, frame = torch.randn(1, 4, 8, 6, 6), 3 * torch.randn(1, 4, 8, 6, 6)
        assert torch.allclose(mix_noise(clip, frame, 1.0, "capped"), capped(frame, clip))


class TestBlend:
    """What is smoothed: by the paper's rule a sum of latents, by all others clean latents under the blended noise."""

    clean, level = torch.randn(1, 4, 8, 6, 6), Level.of_alpha(0.02)
    noises = torch.randn(2, 1, 4, 8, 6, 6)

    def blend(self, ratio: float, rule: str, prior: str, window: int | None = None) -> torch.Tensor:
        clip, frame = (noised(self.clean, noise, self.level) for noise in self.noises)
        return blend_latents(
            clip, None if prior == "mean" else frame, lambda: self.clean, self.level,
            mixing_ratio=ratio, mixing_rule=rule, frame_prior=prior, window=window,
        )  # fmt: skip

    @pytest.mark.parametrize("ratio", [0.0, 0.25, 1.0])
    def test_by_the_papers_rule_the_latents_are_summed_bit_for_bit(self, ratio):
        clip, frame = (noised(self.clean, noise, self.level) for noise in self.noises)
        summed = {0.0: clip, 1.0: frame}.get(ratio, ratio * frame + (1 - ratio) * clip)
        made = blend_latents(
            clip, frame, lambda: pytest.fail("nothing is taken apart"), self.level, mixing_ratio=ratio,
            mixing_rule="linear", frame_prior="image", window=None,
        )  # fmt: skip
        assert torch.equal(made, summed)

    @pytest.mark.parametrize("rule", MIXING_RULES)
    @pytest.mark.parametrize("prior", ["image", "video", "mean"])
    def test_at_ratio_0_the_latents_are_the_clips_own_bit_for_bit(self, rule, prior):
        clip = noised(self.clean, self.noises[0], self.level)
        made = blend_latents(
            clip, None, lambda: pytest.fail("nothing is taken apart"), self.level, mixing_ratio=0.0, mixing_rule=rule,
            frame_prior=prior, window=None,
        )  # fmt: skip
        assert torch.equal(made, clip)

    @pytest.mark.parametrize("rule", MIXING_RULES)
    @pytest.mark.parametrize("prior", ["image", "video"])
    def test_by_every_rule_the_noise_is_blended_over_the_same_clean_latents(self, rule, prior):
        found = noise_in(self.blend(0.3, rule, prior), self.clean, self.level)
        assert torch.allclose(found, mix_noise(*self.noises, 0.3, rule), atol=1e-4)

    def test_the_mean_takes_out_what_changes_and_keeps_what_stands_still(self):
        found = noise_in(self.blend(0.25, "linear", "mean"), self.clean, self.level)
        before, after = modes_of(self.noises[0]), modes_of(found)
        assert after[0] == pytest.approx(before[0], rel=1e-3)
        assert after[1:] == pytest.approx(0.75**2 * before[1:], rel=1e-3)

    def test_the_mean_of_a_long_clip_is_that_of_its_windows(self):
        noise = torch.arange(12.0).view(1, 1, 12, 1, 1).expand(1, 4, 12, 6, 6)
        made = mean_noise(noise, window=8)[0, 0, :, 0, 0]
        assert made[:4].tolist() == pytest.approx([3.5] * 4)
        assert made[8:].tolist() == pytest.approx([7.5] * 4)
        shares = [0.0381, 0.3087, 0.6913, 0.9619]  # of the later window: (1 - cos(2 pi (place + 0.5) / 8)) / 2
        assert made[4:8].tolist() == pytest.approx([3.5 + 4 * share for share in shares], abs=1e-3)
