"""Clips longer than a video model's window: every frame is seen, seams do not show, memory is that of one window."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from hooks import given_to

from bivdiff.bridge import windows
from bivdiff.bridge.pipeline import last, run
from bivdiff.bridge.windows import over_windows
from bivdiff.models.windows import windows_of

EXACT = 1e-6


@pytest.mark.parametrize(("frames", "window"), [(1, 8), (8, 8), (9, 8), (20, 8), (33, 16), (7, 2), (5, 3)])
def test_windows_cover_a_clip_and_overlap(frames, window):
    spans = windows_of(frames, window)
    assert set().union(*spans) == set(range(frames))
    assert all(len(span) == min(window, frames) for span in spans)
    assert spans[0].start == 0
    assert spans[-1].stop == frames
    if window > 2:
        assert all(later.start < earlier.stop for earlier, later in itertools.pairwise(spans))


def test_a_clip_within_the_window_is_predicted_at_once():
    latents, seen = torch.randn(1, 4, 8, 2, 2), []
    predict = over_windows(lambda part, *_: seen.append(part) or part * 2, 8)
    assert torch.equal(predict(latents, torch.tensor(1), latents), latents * 2)
    assert seen[0] is latents


def test_what_does_not_depend_on_the_window_is_not_changed_by_it():
    latents = torch.randn(2, 4, 21, 3, 3)
    predict = over_windows(lambda part, *_: part * 3 + 1, 8)
    assert torch.allclose(predict(latents, torch.tensor(1), latents), latents * 3 + 1, atol=EXACT * 10)


def test_a_frame_takes_most_from_the_window_whose_middle_is_near():
    """Windows 0 to 7 and 4 to 11 predict their own number; between them the prediction goes over without a jump.

    It changes least where one begins or ends.
    """
    starts = []

    def predict(part, *_):
        starts.append(part[0, 0, 0, 0, 0].item())
        return torch.full_like(part, float(len(starts) - 1))

    latents = torch.arange(12.0).view(1, 1, 12, 1, 1)
    made = over_windows(predict, 8)(latents, torch.tensor(1), latents).flatten()
    assert starts == [0, 4]
    assert torch.equal(made[:4], torch.zeros(4))
    assert torch.equal(made[8:], torch.ones(4))
    shares = torch.tensor([0.0381, 0.3087, 0.6913, 0.9619])  # (1 - cos(2 pi (place + 0.5) / 8)) / 2
    assert torch.allclose(made[4:8], shares, atol=1e-4)


@pytest.mark.parametrize("window", [8, 16])
def test_the_weights_of_windows_add_up_to_one_and_fall_to_nothing_at_their_ends(window):
    """So what two windows disagree in is divided by the frames that both see, and is not a jump where one begins.

    A window's share changes from its last frame to nothing no more than it changes from frame to frame within.
    """
    weights = windows._weights(window)
    half = window // 2
    assert torch.allclose(weights[half:] + weights[:half], torch.ones(half), atol=EXACT)
    at_borders = max(weights[0].item(), weights[-1].item())
    inside = weights.diff().abs().max().item()
    assert at_borders <= 1.1 * inside
    assert at_borders < 0.04


def test_without_a_window_of_the_requests_it_is_the_models(request_of, manager, source_frames):
    clip = np.ascontiguousarray(np.tile(source_frames, (3, 1, 1, 1))[:10])
    usual, own = (last(run(request_of(frames=clip, window=window), manager)).frames for window in (None, 8))
    assert np.array_equal(usual, own)  # the toybox's own


@pytest.mark.parametrize(("window", "starts"), [(4, 4), (8, 2), (10, 1)])
def test_the_video_model_sees_a_window_at_a_time(request_of, manager, source_frames, window, starts):
    from bivdiff.catalog.families import family_named

    clip = np.ascontiguousarray(np.tile(source_frames, (3, 1, 1, 1))[:10])
    with manager.use(family_named("toybox").video_models["toybox-video"].unet) as (unet,), given_to(unet) as calls:
        last(run(replace(request_of(mixing_ratio=0.5, window=window), frames=clip), manager))
    # Two stages, two steps, windows that begin half a window after one another.
    assert [sample.shape[2] for sample, *_ in calls] == [window] * (2 * 2 * starts)
