"""What estimates take of the toybox's networks is what these compute and hold."""

from __future__ import annotations

import numpy as np
import pytest
from scripts import script

from bivdiff.catalog.families import family_named
from bivdiff.catalog.requests import default_request
from bivdiff.models.estimate import LIBRARIES, estimate
from bivdiff.models.manager import ModelManager
from bivdiff.settings import Settings

WITHIN = 0.02  # figures are kept with two or three digits


@pytest.fixture(scope="module")
def footprint():
    return script("footprint")


def test_the_toyboxs_networks_compute_and_hold_what_is_said_of_them(footprint):
    """What lives at once is counted of what is the hungriest by far: it takes a while."""
    rows = list(footprint.networks_of_the_toybox())
    videos = family_named("toybox").video_models.values()
    assert len(rows) == 5 + sum(1 if video.shares_space else 3 for video in videos)
    for name, build, call, inputs, frames in rows:
        said = footprint.in_use(name)
        computed = footprint.gflop(build(), call, inputs) / frames
        assert computed == pytest.approx(said.gflop + frames * said.attention, rel=WITHIN), name
        if name.endswith("decode"):
            assert footprint.live_bytes(build(), call, inputs) == pytest.approx(said.activations, rel=WITHIN), name


def test_an_estimate_of_the_toybox_is_its_libraries_its_weights_and_a_little(tmp_path):
    """Of a clip of 128x128 the networks hold a tenth of what torch and its like do."""
    frames = np.zeros((8, 128, 128, 3), np.uint8)
    manager = ModelManager(Settings(device="cpu", cache_folder=tmp_path))
    for video_model in family_named("toybox").video_models:
        request = default_request("control", "toybox", frames, "a red cube", video_model=video_model)
        beside = estimate(request, manager).device_bytes - LIBRARIES
        assert 0.1e9 < beside < 0.3e9, video_model
