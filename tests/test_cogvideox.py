"""CogVideoX behind the bridge: its real classes at a small size, beside diffusers."""

from __future__ import annotations

from contextlib import ExitStack

import numpy as np
import pytest
import torch
from diffusers import CogVideoXDDIMScheduler, CogVideoXPipeline, CogVideoXVideoToVideoPipeline
from own_latents import OWN, SAME_MATHS, SCHEDULERS, request_for, walked

from bivdiff.bridge.paths import Level, MidpointPath, noised
from bivdiff.bridge.pipeline import resolved
from bivdiff.bridge.reuse import StageCache
from bivdiff.bridge.session import enter
from bivdiff.toybox import world

SIZE = (96, 64)  # what the small networks were made for: another shape than square, which turns tell apart


@pytest.fixture(scope="module")
def clip():
    """Nine frames of the world, uint8 `(9, 64, 96, 3)`."""
    return world.render(world.sample_scene(3), *SIZE, 9).frames


@pytest.fixture(params=["cogvideox-2b", "cogvideox-5b"])
def parts(request, own_manager, clip):
    """The models of a run, and the components of a pipeline."""
    name = request.param
    with torch.inference_mode(), own_manager.hold(*OWN[name].components):
        with ExitStack() as exits:  # what counts evaluations does not know how pipelines call
            models = enter(resolved(request_for(clip, name)), own_manager, StageCache(), exits).models
        yield models, {
            "tokenizer": models.video.tokenizer, "text_encoder": models.video.text_encoder,
            "transformer": models.video.unet, "vae": models.parts.video_vae, "scheduler": scheduler_of(name),
        }  # fmt: skip


def scheduler_of(name):
    return CogVideoXDDIMScheduler.from_config(SCHEDULERS[name].config)


def test_words_are_read_alike(parts):
    models, components = parts
    theirs = CogVideoXPipeline(**components).encode_prompt("a  blue cube", None, False)[0]
    ours = models.embed_for_video("a  blue cube")
    assert ours.shape == (1, 226, 16)
    assert torch.allclose(ours, theirs, atol=SAME_MATHS)


def test_its_levels_are_its_own(parts):
    models, components = parts
    assert isinstance(models.video_path, MidpointPath)
    theirs = components["scheduler"]
    theirs.set_timesteps(4)
    points = models.video_path.schedule.points(4)
    assert [point.timestep for point in points[:0:-1]] == theirs.timesteps.tolist()
    for point in points[1:]:
        assert point.level == pytest.approx(Level.of_alpha(theirs.alphas_cumprod[point.timestep].item()), abs=1e-6)


def test_a_clip_of_a_prompt(parts):
    models, components = parts
    noise = torch.randn(1, 3, 16, 8, 12, generator=torch.Generator().manual_seed(0))
    theirs = CogVideoXPipeline(**components)(
        prompt="a blue cube", negative_prompt="a red cube", height=64, width=96, num_frames=9, num_inference_steps=3,
        guidance_scale=4.0, latents=noise, output_type="latent",
    ).frames  # fmt: skip
    ours = walked(
        models, noise.transpose(1, 2), CogVideoXDDIMScheduler.from_config(components["scheduler"].config), 3, 4.0
    )
    assert torch.allclose(ours.transpose(1, 2), theirs, atol=SAME_MATHS)


def test_a_clip_of_a_clip(parts, clip, monkeypatch):
    """Noised as far as the strength, by our path's own level, and denoised from there."""
    models, components = parts
    pipeline = CogVideoXVideoToVideoPipeline(**components)
    distribution = type(components["vae"].encode(torch.zeros(1, 3, 1, 64, 96)).latent_dist)
    monkeypatch.setattr(distribution, "sample", lambda self, _=None: self.mode())  # it draws, and ours does not
    theirs = pipeline(
        video=[frame / 255 for frame in clip.astype(np.float32)], prompt="a blue cube", negative_prompt="a red cube",
        height=64, width=96, num_inference_steps=5, guidance_scale=4.0, strength=0.6,
        generator=torch.Generator().manual_seed(0), output_type="latent",
    ).frames  # fmt: skip
    noise = torch.randn(1, 3, 16, 8, 12, generator=torch.Generator().manual_seed(0)).transpose(1, 2)
    start = noised(models.encode_for_video(clip), noise, models.video_path.level(5, 0.6))
    ours = walked(
        models, start, CogVideoXDDIMScheduler.from_config(components["scheduler"].config), 5, 4.0, part=slice(2, None)
    )
    assert torch.allclose(ours.transpose(1, 2), theirs, atol=SAME_MATHS)


def test_frames_come_back_as_diffusers_decodes_them(parts, clip):
    models, components = parts
    latents = models.encode_for_video(clip)
    theirs = CogVideoXPipeline(**components).decode_latents(latents.transpose(1, 2))
    expected = ((theirs[0].clamp(-1, 1) + 1) * 127.5).round().permute(1, 2, 3, 0).numpy()
    for count in (4, 9):  # also of a clip that was made longer to be coded
        assert np.abs(models.decode_video(latents, count) - expected[:count]).max() <= 1


def test_where_a_clip_of_a_few_frames_begins_is_its_first_frame(parts, clip):
    """Of two latents its decoder would make eight frames, the first of them four times."""
    models, _ = parts
    assert models.parts.video_vae.decode(torch.zeros(1, 16, 2, 8, 12)).sample.shape[2] == 8
    for count, latents in ((1, 1), (2, 3), (5, 3), (9, 3), (10, 5), (17, 5)):
        assert models.video_space.length(count) == latents
    five = models.encode_for_video(clip[:5])
    still = np.concatenate([clip[:5], np.repeat(clip[4:5], 4, 0)])
    assert torch.equal(five, models.encode_for_video(still))
