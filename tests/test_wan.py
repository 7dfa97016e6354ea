"""Wan behind the bridge: its real classes at a small size, beside diffusers."""

from __future__ import annotations

from contextlib import ExitStack

import numpy as np
import pytest
import torch
from diffusers import UniPCMultistepScheduler, WanPipeline, WanVideoToVideoPipeline
from own_latents import OWN, SAME_MATHS, UNIPC, request_for, walked

from bivdiff.bridge.pipeline import resolved
from bivdiff.bridge.reuse import StageCache
from bivdiff.bridge.session import enter


@pytest.fixture
def parts(own_manager, source_frames):
    """The models of a run, and the components of a pipeline."""
    with torch.inference_mode(), own_manager.hold(*OWN["wan2.1-1.3b"].components):
        with ExitStack() as exits:  # what counts evaluations does not know how pipelines call
            models = enter(resolved(request_for(source_frames, "wan2.1-1.3b")), own_manager, StageCache(), exits).models
        components = {
            "tokenizer": models.video.tokenizer, "text_encoder": models.video.text_encoder,
            "transformer": models.video.unet, "vae": models.parts.video_vae,
            "scheduler": UniPCMultistepScheduler.from_config(UNIPC.config),
        }  # fmt: skip
        yield models, components


def test_words_are_read_alike(parts):
    models, components = parts
    theirs = WanPipeline(**components).encode_prompt("a  blue cube &amp; more", None, False, max_sequence_length=512)[0]
    ours = models.embed_for_video("a  blue cube &amp; more")
    assert torch.allclose(ours, theirs, atol=SAME_MATHS)
    assert not ours[:, -1].any()


@pytest.mark.parametrize("expanded", [False, True])
def test_a_clip_of_a_prompt(parts, expanded):
    """Also where a pipeline tells each token its timestep, as that of Wan 2.2's 5B does: they are all one here."""
    models, components = parts
    noise = torch.randn(1, 16, 2, 8, 8, generator=torch.Generator().manual_seed(0))
    theirs = WanPipeline(**components, expand_timesteps=expanded)(
        prompt="a blue cube", negative_prompt="a red cube", height=64, width=64, num_frames=5,
        num_inference_steps=3, guidance_scale=4.0, latents=noise, output_type="latent",
    ).frames  # fmt: skip
    ours = walked(models, noise, UniPCMultistepScheduler.from_config(UNIPC.config), 3, 4.0)
    assert torch.allclose(ours, theirs, atol=SAME_MATHS)


def test_a_clip_of_a_clip(parts, source_frames):
    """Noised as far as the strength, and denoised from there."""
    models, components = parts
    frames = np.concatenate([source_frames, source_frames[:1]])
    theirs = WanVideoToVideoPipeline(**components)(
        video=[frame / 255 for frame in frames.astype(np.float32)],
        prompt_embeds=models.embed_for_video("a blue cube"),
        negative_prompt_embeds=models.embed_for_video("a red cube"), height=64, width=64,
        num_inference_steps=5, guidance_scale=4.0, strength=0.6,
        generator=torch.Generator().manual_seed(0), output_type="latent",
    ).frames  # fmt: skip
    scheduler = UniPCMultistepScheduler.from_config(UNIPC.config)
    scheduler.set_timesteps(5)
    clean = models.encode_for_video(frames)
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    start = scheduler.add_noise(clean, noise, scheduler.timesteps[2:3])
    ours = walked(models, start, scheduler, 5, 4.0, part=slice(2, None))
    assert torch.allclose(ours, theirs, atol=SAME_MATHS)


def test_each_of_two_networks_has_its_levels(own_manager, source_frames):
    """Where a boundary is crossed on the way, the clip is that of the pipeline with both."""
    with torch.inference_mode(), own_manager.hold(*OWN["wan2.2-a14b"].components):
        with ExitStack() as exits:
            request = resolved(request_for(source_frames, "wan2.2-a14b"))
            models = enter(request, own_manager, StageCache(), exits).models
        both, noise = models.video.unet, torch.randn(1, 16, 2, 8, 8, generator=torch.Generator().manual_seed(0))
        asked = []
        for name in ("high", "low"):
            getattr(both, name).register_forward_pre_hook(lambda *_, name=name: asked.append(name))
        ours = walked(models, noise, UniPCMultistepScheduler.from_config(UNIPC.config), 4, 1.0)
        assert asked == ["high", "high", "low", "low"]
        theirs = WanPipeline(
            tokenizer=models.video.tokenizer, text_encoder=models.video.text_encoder, vae=models.parts.video_vae,
            transformer=both.high, transformer_2=both.low, boundary_ratio=0.875,
            scheduler=UniPCMultistepScheduler.from_config(UNIPC.config),
        )(
            prompt="a blue cube", height=64, width=64, num_frames=5, num_inference_steps=4, guidance_scale=1.0,
            latents=noise, output_type="latent",
        ).frames  # fmt: skip
        for network in (both.high, both.low):
            network._forward_pre_hooks.clear()
    assert torch.allclose(ours, theirs, atol=SAME_MATHS)
