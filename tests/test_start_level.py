"""A part of the schedule: what is inverted that far and smoothed from there is the whole schedule's end."""

from __future__ import annotations

import pytest
import torch

from bivdiff.bridge.inversion import invert_clip, invert_frames
from bivdiff.bridge.paths import DiffusionPath
from bivdiff.bridge.smoothing import smooth
from bivdiff.toybox import networks

ROUND_TRIP = 1e-4  # float32 rounding over the steps there and back
STEPS, LEVELS = 10, (1.0, 0.4, 0.05)


@pytest.fixture
def clip():
    torch.manual_seed(0)
    return torch.randn(1, 4, 3, 8, 8)


def words():
    return torch.zeros(1, 2, 8), torch.zeros(1, 2, 8)


def remembered(noise, seen):
    """A model that always predicts this noise, and remembers the timesteps it was asked at."""

    def noise_pred(_latents, timestep, _embeds):
        seen.append(int(timestep))
        return noise

    return noise_pred


@pytest.mark.parametrize("start_level", LEVELS)
@pytest.mark.parametrize("frame_by_frame", [False, True])
def test_smoothing_returns_from_where_inversion_ended(clip, start_level, frame_by_frame):
    path, noise, there, back = DiffusionPath(networks.build_scheduler()), torch.randn(clip.shape), [], []
    settings = {"guidance_scale": 1.0, "num_steps": STEPS, "start_level": start_level}
    if frame_by_frame:
        pictures = noise[0].transpose(0, 1)
        inverted = invert_frames(remembered(pictures, there), path, clip, *words(), batch_size=8, **settings)
    else:
        inverted = invert_clip(remembered(noise, there), path, clip, *words(), **settings)
    *_, deepest = inverted
    steps = list(smooth(remembered(noise, back), path, deepest.latents, *words(), **settings))
    assert (deepest.latents - clip).abs().max() > 10 * ROUND_TRIP
    assert torch.allclose(steps[-1].latents, clip, atol=ROUND_TRIP)
    walked = {1.0: 10, 0.4: 4, 0.05: 1}[start_level]
    assert len(there) == len(back) == len(steps) == deepest.total == steps[0].total == walked


def test_a_part_is_the_end_of_the_whole_schedule(clip):
    """The last four of ten steps, not four steps over a shorter way."""
    path, noise, part, whole = DiffusionPath(networks.build_scheduler()), torch.randn(clip.shape), [], []
    settings = {"guidance_scale": 1.0, "num_steps": STEPS}
    list(smooth(remembered(noise, whole), path, clip, *words(), **settings))
    list(smooth(remembered(noise, part), path, clip, *words(), **settings, start_level=0.4))
    assert part == whole[-4:]
    there = []
    list(invert_clip(remembered(noise, there), path, clip, *words(), **settings, start_level=0.4))
    assert there == part[::-1]
