"""The shipped weights on real clips: figures a user would notice, with room for chance.

The whole table is made by `python -m bivdiff evaluate`; here a few scenes hold it up.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from bivdiff import catalog, latents, metrics
from bivdiff.evaluation import control_case, last
from bivdiff.models.manager import ModelManager
from bivdiff.pipeline import run
from bivdiff.settings import Settings
from bivdiff.toybox import world

FAMILY = catalog.family("toybox")
VAE_PSNR, VAE_OBJECT_PSNR = 30.0, 26.0  # dB


@pytest.fixture(scope="module")
def shipped():
    return ModelManager(Settings(device="cpu"))


def test_the_autoencoder_keeps_scenes_and_objects(shipped):
    whole, objects = [], []
    with shipped.use(FAMILY.vae) as (vae,), torch.inference_mode():
        for index in range(6):
            truth = world.render(world.evaluation_scene(index), *FAMILY.size)
            decoded = latents.decode(vae, latents.encode(vae, truth.frames, 8), 8)
            whole.append(metrics.psnr(decoded, truth.frames))
            objects.append(metrics.psnr(decoded, truth.frames, truth.masks.max(0)))
    assert np.mean(whole) >= VAE_PSNR
    assert np.mean(objects) >= VAE_OBJECT_PSNR


def test_the_prompt_decides_the_colour(shipped):
    """The same edges under two prompts: each object comes out nearer to its own prompt's colour than to the other's."""
    case = control_case(2, "toybox")
    scene = world.recolored(world.evaluation_scene(2), 2)
    other = replace(scene, solids=tuple(replace(solid, color="blue") for solid in scene.solids))
    assert scene.solids[0].color != "blue"
    truths = [world.render(wanted, *FAMILY.size).frames for wanted in (scene, other)]
    for wanted, unwanted, prompt in ((0, 1, scene.caption), (1, 0, other.caption)):
        frames = last(run(replace(case.request, prompt=prompt), shipped)).frames
        errors = [metrics.color_error(frames, truth, case.masks[0]) for truth in truths]
        assert errors[wanted] < errors[unwanted]
