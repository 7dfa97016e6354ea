"""Pictures of unfinished latents without the autoencoder: the arithmetic, the shipped convolutions, who has none."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F

from bivdiff.bridge import latents, previews
from bivdiff.catalog.families import family_named
from bivdiff.models.manager import ModelManager
from bivdiff.settings import Settings
from bivdiff.toybox import world

TOYBOX = family_named("toybox")


def test_colors_are_weighted_by_the_channels(settings):
    colors = ((0.5, 0.0, -0.5), (1.0, -1.0, 0.0), (0.25, 0.0, 0.0), (0.0, 0.0, 0.0))
    clip = torch.zeros(1, 4, 2, 3, 5)
    clip[0, 0, 1], clip[0, 2, 1, 0, 0], clip[0, 1, 0] = 1.0, -1.0, 9.0
    frames = previews.preview_frames(clip, previews.layers_of(replace(TOYBOX, preview=colors), settings))
    assert frames.shape == (2, 3, 5, 3)
    assert frames[0, 2, 4].tolist() == [255, 0, 128]
    assert frames[1, 2, 4].tolist() == [191, 128, 64]
    assert frames[1, 0, 0].tolist() == [159, 128, 64]


def test_the_shipped_convolutions_show_what_the_autoencoder_would():
    settings = Settings(device="cpu")
    with ModelManager(settings).hold(TOYBOX.vae) as (vae,), torch.inference_mode():
        for index in range(4):
            frames = world.render(world.evaluation_scene(index)).frames
            shown = previews.preview_frames(latents.encode(vae, frames, 8), previews.layers_of(TOYBOX, settings))
            small = F.interpolate(torch.from_numpy(frames).permute(0, 3, 1, 2).float(), (32, 32), mode="area")
            error = ((small.permute(0, 2, 3, 1).numpy() - shown) ** 2).mean()
            assert 10 * np.log10(255**2 / error) > 27


def test_a_family_without_any_has_its_previews_decoded(settings):
    assert previews.layers_of(TOYBOX, settings) is None  # other weights, in a folder without the file
    assert previews.layers_of(replace(TOYBOX, preview=()), Settings()) is None


def test_a_file_that_changed_is_read_again(tmp_path):
    source = (Settings().toybox_folder / TOYBOX.preview).read_bytes()
    path, settings = tmp_path / TOYBOX.preview, Settings(toybox_folder=tmp_path)
    path.write_bytes(source)
    first = previews.layers_of(TOYBOX, settings)
    assert previews.layers_of(TOYBOX, settings) is first
    path.unlink()
    assert previews.layers_of(TOYBOX, settings) is None
