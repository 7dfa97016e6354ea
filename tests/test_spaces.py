"""Latent spaces: clips are padded to whole groups and cut again, masks reach every latent that they touch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bivdiff.bridge import session
from bivdiff.bridge.pipeline import last, run
from bivdiff.bridge.spaces import ClipSpace, PictureSpace, space_of
from bivdiff.catalog.requests import default_request
from bivdiff.errors import BIVDiffError
from bivdiff.toybox import networks


@pytest.fixture(scope="module")
def vae():
    """Wan's autoencoder at a small size, its latents neither centred nor of unit size."""
    from diffusers import AutoencoderKLWan

    torch.manual_seed(0)
    made = AutoencoderKLWan(
        base_dim=4, z_dim=4, dim_mult=[1, 1, 1], num_res_blocks=1, temperal_downsample=[True, True], patch_size=2,
        in_channels=12, out_channels=12, latents_mean=[0.5, -1.0, 0.0, 2.0], latents_std=[0.5, 2.0, 1.0, 4.0],
        scale_factor_spatial=8, scale_factor_temporal=4,
    )  # fmt: skip
    return made.eval().requires_grad_(False)


def frames_of(count, size=16):
    return np.random.default_rng(0).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


@pytest.mark.parametrize(("count", "length"), [(1, 1), (2, 2), (5, 2), (6, 3), (8, 3), (9, 3), (10, 4)])
def test_a_clip_of_any_length_is_whole_groups_and_comes_back_as_long(vae, count, length):
    """Wan's autoencoder drops without a word what is left over of a group."""
    space, frames = ClipSpace(vae), frames_of(count)
    encoded = space.encode(frames, 1)
    assert space.length(count) == length
    assert encoded.shape == (1, 4, length, 2, 2)
    assert space.decode(encoded, count, 1).shape == frames.shape
    still = np.concatenate([frames, np.repeat(frames[-1:], 1 + 4 * (length - 1) - count, 0)])
    assert torch.equal(encoded, space.encode(still, 1))


def test_latents_are_normalised_as_the_pipelines_of_diffusers_do_it(vae):
    frames = frames_of(5)
    pixels = torch.from_numpy(frames).permute(3, 0, 1, 2)[None] / 127.5 - 1
    mean, std = (
        torch.tensor(values).view(1, -1, 1, 1, 1) for values in (vae.config.latents_mean, vae.config.latents_std)
    )
    expected = (vae.encode(pixels).latent_dist.mode() - mean) / std
    found = ClipSpace(vae).encode(frames, 1)
    assert torch.allclose(found, expected, atol=1e-6)
    decoded = vae.decode(found * std + mean).sample[0].permute(1, 2, 3, 0)
    expected_frames = ((decoded + 1) * 127.5).round().byte().numpy()
    assert np.abs(ClipSpace(vae).decode(found, 5, 1).astype(int) - expected_frames).max() <= 1


def test_a_mask_touches_the_latents_of_its_groups(vae):
    masks = np.zeros((8, 16, 16), np.uint8)
    masks[0, 0, 0] = masks[4, 15, 15] = 255
    masks[7, 0, 15] = 1
    holes = ClipSpace(vae).holes(masks, torch.zeros(1, 4, 3, 2, 2))
    assert holes.shape == (1, 1, 3, 2, 2)
    assert holes[0, 0].tolist() == [
        [[True, False], [False, False]], [[False, False], [False, True]], [[False, True], [False, False]]
    ]  # fmt: skip


def test_broken_latents_are_told(vae):
    with pytest.raises(BIVDiffError, match=r"NaN.*before the frames were decoded"):
        ClipSpace(vae).decode(torch.full((1, 4, 1, 2, 2), torch.nan), 1, 1)


def test_the_space_is_the_decoders(vae):
    pictures = networks.build_vae()
    assert space_of(pictures, vae) == ClipSpace(vae)
    other = networks.build_vae()
    assert space_of(pictures, other) == PictureSpace(pictures, other)


class Another:
    """A space that is the image models' own, and is said to be another."""

    def __init__(self, encoder, decoder):
        self._own = PictureSpace(encoder, decoder)
        self.encode, self.decode = self._own.encode, self._own.decode
        self.length, self.holes = self._own.length, self._own.holes


@pytest.mark.parametrize(
    "changes",
    [{"frame_prior": "video", "mixing_rule": "capped"}, {"frame_prior": "mean"}, {"masks": True, "mixing_ratio": 0.0}],
)
def test_a_way_through_another_space_adds_nothing_of_its_own(manager, source_frames, monkeypatch, changes):
    """With two spaces that are declared different and are one, the clip is that of the shared space, bit for bit."""
    frames = source_frames
    task = "inpaint" if changes.get("masks") else "smooth"
    if changes.get("masks"):
        masks = np.zeros(frames.shape[:3], np.uint8)
        masks[:, 32:64, 32:64] = 255
        changes = {**changes, "masks": masks}
    request = default_request(
        task, "toybox", frames, "a red cube", seed=1, num_inference_steps=2, num_inversion_steps=2,
        num_smoothing_steps=2, **{"mixing_ratio": 0.5, **changes},
    )  # fmt: skip
    shared = last(run(request, manager)).frames
    monkeypatch.setattr(session, "space_of", Another)
    assert np.array_equal(last(run(request, manager)).frames, shared)
