"""Noise paths: what networks predict is taken apart, steps there and back, and what the blend does in theory."""

from __future__ import annotations

import math
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from diffusers import CogVideoXDDIMScheduler, FlowMatchEulerDiscreteScheduler
from scipy.fft import dct

from bivdiff.bridge.inversion import invert_clip, invert_frames
from bivdiff.bridge.mixing import blend_latents
from bivdiff.bridge.paths import (
    DiffusionPath,
    DiscreteSchedule,
    FlowSchedule,
    Known,
    Level,
    MidpointPath,
    noise_in,
    noised,
    path_of,
    taken_apart,
)
from bivdiff.bridge.smoothing import smooth
from bivdiff.toybox import networks

ROUNDING = 1e-5  # float32 sums of a few terms
ALPHAS = tuple(networks.build_scheduler().alphas_cumprod.tolist())
SCHEDULES = {
    "flow": FlowSchedule(3.0), "even flow": FlowSchedule(), "epsilon": DiscreteSchedule(ALPHAS, "epsilon"),
    "v": DiscreteSchedule(ALPHAS, "v_prediction"), "sample": DiscreteSchedule(ALPHAS, "sample"),
    "v to nothing": DiscreteSchedule((*ALPHAS[:-1], 0.0), "v_prediction"),
}  # fmt: skip


def predicted(clean, noise, level, predicts):
    signal, share = level
    return {
        "epsilon": noise, "sample": clean, "v_prediction": signal * noise - share * clean, "flow": noise - clean
    }[predicts]  # fmt: skip


@pytest.mark.parametrize(
    ("predicts", "level"),
    [(name, Level.of_alpha(alpha)) for name in ("epsilon", "sample", "v_prediction", "flow") for alpha in (0.3, 0.97)]
    + [(name, Level(0.25, 0.75)) for name in ("epsilon", "sample", "flow")],
)
def test_every_prediction_is_taken_apart_into_the_same_clean_latents_and_noise(predicts, level):
    clean, noise = torch.randn(2, 1, 4, 3, 2, 2)
    latents = noised(clean, noise, level)
    found = taken_apart(predicted(clean, noise, level, predicts), latents, level, predicts)
    assert torch.allclose(found.clean, clean, atol=ROUNDING)
    assert torch.allclose(found.noise, noise, atol=ROUNDING)
    assert torch.allclose(noise_in(latents, clean, level), noise, atol=ROUNDING)


@pytest.mark.parametrize("predicts", ["v_prediction", "flow"])
@pytest.mark.parametrize("level", [Level(0.0, 1.0), Level(1.0, 0.0)])
def test_velocities_are_sound_where_nothing_is_left_of_one_part(predicts, level):
    clean, noise = torch.randn(2, 1, 4, 3, 2, 2)
    velocity = predicted(clean, noise, level, predicts)
    found = taken_apart(velocity, noised(clean, noise, level), level, predicts)
    assert torch.allclose(found.clean, clean, atol=ROUNDING)
    assert torch.allclose(found.noise, noise, atol=ROUNDING)


@pytest.mark.parametrize("name", ["flow", "even flow", "v", "v to nothing"])
@pytest.mark.parametrize("start_level", [1.0, 0.4, 0.05])
def test_there_and_back_along_one_noise(name, start_level):
    """Of a network that knows clean latents and noise at every level, and is never asked where there is none.

    Exact on a straight path; on a curved one its first half step supposes that there is no noise.
    """
    exact = 1e-4 if "flow" in name else 2e-2
    schedule, (clean, noise) = SCHEDULES[name], torch.randn(2, 1, 4, 3, 4, 4)
    path, seen = MidpointPath(schedule), []
    levels = dict.fromkeys(schedule.points(10))
    for ends in pairwise(tuple(levels)):
        levels[schedule.between(*ends)] = None
    by_timestep = {float(torch.tensor(point.timestep)): point.level for point in levels}

    def predict(_latents, timestep):
        seen.append(float(timestep))
        return predicted(clean, noise, by_timestep[seen[-1]], schedule.predicts)

    level, walked = path.level(10, start_level), max(1, round(10 * start_level))
    *_, deepest = path.up(predict, clean, 10, start_level)
    assert torch.allclose(deepest.latents, noised(clean, noise, level), atol=exact)
    assert (len(seen), deepest.total, min(seen) > -1) == (walked, walked, True)
    *_, back = path.down(predict, deepest.latents, 10, start_level)
    assert torch.allclose(back.latents, clean, atol=exact)
    assert torch.allclose(back.pred_original_sample, clean, atol=5 * exact)
    assert len(seen) == 2 * walked + 1


def test_flows_are_shifted_and_told_a_thousand_times_their_noise():
    points = FlowSchedule(3.0).points(4)
    assert [point.level.noise for point in points] == pytest.approx([0, 0.5, 0.75, 0.9, 1])
    assert [point.timestep for point in points] == pytest.approx([0, 500, 750, 900, 1000])
    assert all(sum(point.level) == pytest.approx(1) for point in points)


def test_cogvideox_is_walked_over_its_own_levels():
    """Which its scheduler shifts, and DDIM's would not; and it starts where nothing is left of the clip."""
    shifted = CogVideoXDDIMScheduler(
        beta_end=0.012, beta_schedule="scaled_linear", beta_start=0.00085, clip_sample=False,
        prediction_type="v_prediction", rescale_betas_zero_snr=True, set_alpha_to_one=True, snr_shift_scale=3.0,
        timestep_spacing="trailing",
    )  # fmt: skip
    path = path_of(shifted)
    assert isinstance(path, MidpointPath)
    shifted.set_timesteps(7)
    points = path.schedule.points(7)
    assert [point.timestep for point in points[:0:-1]] == shifted.timesteps.tolist()
    cumulative = [shifted.alphas_cumprod[timestep].item() for timestep in shifted.timesteps]
    assert [point.level.signal**2 for point in points[:0:-1]] == pytest.approx(cumulative, abs=1e-6)
    assert path.level(7) == pytest.approx((0, 1), abs=1e-6)


def test_a_scheduler_has_the_path_of_its_kind():
    assert path_of(FlowMatchEulerDiscreteScheduler(shift=5.0)) == MidpointPath(FlowSchedule(5.0))
    ddim = networks.build_scheduler()
    assert path_of(ddim) == DiffusionPath(ddim)


@pytest.mark.parametrize("start_level", [1.0, 0.5])
def test_known_content_stays_on_its_own_way(start_level):
    path, (clean, noise) = MidpointPath(FlowSchedule(3.0)), torch.randn(2, 1, 4, 2, 4, 4)
    holes = torch.zeros(1, 1, 2, 4, 4, dtype=torch.bool)
    holes[..., :2] = True
    outside, points = ~holes.expand_as(clean), path.schedule.points(4)[: 1 + round(4 * start_level)][::-1]

    def predict(latents, timestep):
        return torch.sin(latents + timestep / 1000)

    start = noised(clean, noise, points[0].level)
    steps = list(path.down(predict, start, 4, start_level, Known(clean, holes)))
    for step, point in zip(steps, points[1:], strict=True):
        assert torch.allclose(step.latents[outside], noised(clean, noise, point.level)[outside], atol=ROUNDING)
    plain = list(path.down(predict, start, 4, start_level))[-1].latents
    assert not torch.allclose(steps[-1].latents[~outside], clean[~outside], atol=0.1)
    assert not torch.allclose(plain[outside], clean[outside], atol=0.1)


class TestTheory:
    """Frames as a Gaussian process: what a mode of variance `mu` in time, 1 in each frame alone, is multiplied with.

    Inverting with a prior and denoising with another scales by the ratio of their standard deviations at each level.
    """

    variances = torch.tensor([4.0, 2.0, 1.0, 0.5, 0.2, 0.1, 0.1, 0.1], dtype=torch.float64)

    @pytest.mark.parametrize("name", ["flow", "even flow", "epsilon", "v", "sample"])
    @pytest.mark.parametrize("start_level", [0.9, 0.5])
    def test_the_linear_blend_is_a_low_pass_and_the_ratio_its_strength(self, name, start_level):
        schedule, steps = SCHEDULES[name], 200
        path = MidpointPath(schedule)
        torch.manual_seed(0)
        clip = torch.randn(1, 2, 8, 2, 2, dtype=torch.float64)
        words = torch.zeros(1, 1, 1)

        def of_clip(latents, timestep, _):
            modes = torch.from_numpy(dct(latents.numpy(), axis=2, norm="ortho"))
            clean = modes * self._share(self.variances.view(-1, 1, 1), timestep, name)
            return self._as_predicted(torch.from_numpy(_idct(clean.numpy())), latents, timestep, name)

        def of_frame(pictures, timestep, _):
            return self._as_predicted(pictures * self._share(torch.ones(1), timestep, name), pictures, timestep, name)

        shared = {"guidance_scale": 1.0, "num_steps": steps, "start_level": start_level}
        *_, by_clip = invert_clip(of_clip, path, clip, words, words, **shared)
        *_, by_frame = invert_frames(of_frame, path, clip, words, words, batch_size=8, **shared)
        level = path.level(steps, start_level)
        signal, noise = level
        for ratio in (0.0, 0.3, 1.0):
            blended = blend_latents(
                by_clip.latents, by_frame.latents, lambda: clip, level, mixing_ratio=ratio, mixing_rule="linear",
                frame_prior="video", window=None,
            )  # fmt: skip
            *_, made = smooth(of_clip, path, blended.double(), words, words, **shared)
            gains = dct(made.latents.numpy(), axis=2, norm="ortho") / dct(clip.numpy(), axis=2, norm="ortho")
            one_frame = math.sqrt(signal**2 + noise**2)
            whole = self.variances.sqrt() * one_frame / (signal**2 * self.variances + noise**2).sqrt()
            expected = 1 - ratio * (1 - whole)
            # Timesteps are whole numbers, and the first of them are far apart in noise.
            tolerance = 1e-3 if "flow" in name else 6e-3
            assert gains.mean((0, 1, 3, 4)) == pytest.approx(expected.numpy(), abs=tolerance)

    @staticmethod
    def _level(timestep, name):
        if "flow" in name:
            return Level(1 - float(timestep) / 1000, float(timestep) / 1000)
        return Level.of_alpha(ALPHAS[int(timestep)])

    def _share(self, variance, timestep, name):
        """Of the clean latents that is expected in noisy ones."""
        signal, noise = self._level(timestep, name)
        return signal * variance / (signal**2 * variance + noise**2)

    def _as_predicted(self, clean, latents, timestep, name):
        level = self._level(timestep, name)
        return predicted(clean, noise_in(latents, clean, level), level, SCHEDULES[name].predicts)


def _idct(modes):
    from scipy.fft import idct

    return idct(modes, axis=2, norm="ortho")


def test_an_image_model_that_is_called_a_video_model_finds_what_it_finds():
    """A network that takes the frames of a clip for a batch sees each alone, so all inversions are one."""
    from bivdiff.catalog.families import family_named
    from bivdiff.models.video import VideoDenoiser

    torch.manual_seed(0)
    layer = torch.nn.Conv2d(4, 4, 3, padding=1)

    def folding(clip, _timestep, _words):
        folded = clip.transpose(1, 2).flatten(0, 1)
        return SimpleNamespace(sample=torch.tanh(layer(folded)).unflatten(0, (len(clip), -1)).transpose(1, 2))

    model = VideoDenoiser(
        family_named("toybox").video_models["toybox-video"], folding, None, None, networks.build_scheduler(), None
    )
    clean, words, path = torch.randn(1, 4, 5, 6, 6), torch.zeros(1, 2, 8), path_of(model.scheduler)
    shared = {"guidance_scale": 1.0, "num_steps": 4}
    with torch.no_grad():
        *_, whole = invert_clip(model.predict, path, clean, words, words, **shared)
        *_, alone = invert_frames(model.predict_frames, path, clean, words, words, batch_size=2, **shared)
        *_, image = invert_frames(
            lambda pictures, *_: torch.tanh(layer(pictures)), path, clean, words, words, batch_size=2, **shared
        )
    assert torch.allclose(alone.latents, image.latents, atol=ROUNDING)
    level = path.level(4)
    for ratio in (0.0, 0.4, 1.0):
        blended = blend_latents(
            whole.latents, alone.latents, lambda: clean, level, mixing_ratio=ratio, mixing_rule="linear",
            frame_prior="video", window=None,
        )  # fmt: skip
        assert torch.allclose(blended, image.latents, atol=ROUNDING)
    assert np.abs((image.latents - clean).numpy()).max() > 0.1
