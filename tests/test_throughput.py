"""The benchmark that waits for a card: its ways run, and its profile tells of each stage."""

from __future__ import annotations

import argparse
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scripts import script

from bivdiff.catalog.families import family_named

ROUNDING = 0.05  # levels of 255, in the mean over all pixels


@pytest.fixture(scope="module")
def throughput():
    return script("throughput")


def test_a_way_changes_no_more_than_rounding_and_its_stages_are_told(throughput):
    args = argparse.Namespace(device="cpu", family="toybox", size=64, frames=1, steps=1, runs=1, profile=False)
    plain, frames = throughput.measured(throughput.WAYS["plain"], args)
    told, found = throughput.measured(throughput.WAYS["channels-last"], args)
    assert np.abs(found.astype(int) - frames).mean() < ROUNDING
    assert plain["stages"].keys() == told["stages"].keys() == {"control", "framewise", "inversion", "smoothing"}


def test_a_profile_tells_of_each_stage_what_was_computed_in_it(throughput):
    """An event comes when its step is done, and the result after the last stage's decoding."""

    def events():
        torch.ones(64, 64).mm(torch.ones(64, 64))
        yield SimpleNamespace(stage="framewise")
        for _ in range(2):
            torch.ones(64, 64).exp()
            yield SimpleNamespace(stage="smoothing")
        torch.ones(64, 64).tanh()
        yield SimpleNamespace()

    told = throughput.profiled(events(), on_card=False)
    names = {stage: told[stage]["longest"].keys() & {"aten::mm", "aten::exp", "aten::tanh"} for stage in told}
    assert names == {"framewise": {"aten::mm"}, "smoothing": {"aten::exp", "aten::tanh"}}
    assert all(0 < stage["device_share"] <= 1 for stage in told.values())


def test_every_network_of_a_step_has_its_channels_innermost(throughput):
    args = argparse.Namespace(device="cpu", family="toybox")
    manager = throughput.manager_of(throughput.WAYS["channels-last"], args)
    family = family_named("toybox")
    with manager.use(family.unet, family.video_models["toybox-video"].unet, family.vae) as (unet, video, vae):
        assert unet.conv_in.weight.is_contiguous(memory_format=torch.channels_last)
        assert any(
            weight.is_contiguous(memory_format=torch.channels_last_3d) and weight.stride(1) == 1
            for weight in video.parameters() if weight.ndim == 5
        )  # fmt: skip
        assert vae.decoder.conv_in.weight.stride(1) != 1  # it runs once, not in every step
