"""Training stages of the toybox's second video model: Wan's classes, in a latent space of their own.

It is what the image models of the family are not: a rectified flow, over latents that are compressed in time. So it
shows on a CPU what a bridge between two latent spaces does. Clips have 9 frames here, one and two groups of four.
"""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from bivdiff.toybox import data, networks
from bivdiff.toybox.autoencoder import reconstruction_loss
from bivdiff.toybox.material import SAMPLE_PROMPTS, draw_captions, save_sheet, spread, to_frames, to_pixels, tokenize
from bivdiff.toybox.trainer import Trainer

if TYPE_CHECKING:
    from diffusers import AutoencoderKLWan
    from transformers import CLIPTextModel, CLIPTokenizer

NUM_FRAMES = 9
GROUP = 4  # frames of each latent after the first
CLIPS, VAE, TRANSFORMER = "flow_clips", "flow_vae", "flow_transformer"
LATENTS, STILLS = "flow_latents.npy", "flow_stills.npy"
STILL_MOMENTS = (0, 3, 5, 8)
STILL_SHARE = 1 / 3  # of the batches: without them a picture alone would be new to the model
CROPS, BATCH = 2, 16  # in a step of the autoencoder, of nine frames each; clips in one of the transformer
SAMPLE_STEPS, SAMPLE_GUIDANCE, SHIFT = 24, 4.0, 3.0


def train_vae(folder: Path, minutes: float, device: torch.device) -> None:
    """The autoencoder, on 64x64 crops of whole clips, of five frames or nine, placed where the picture changes."""
    clips = data.Clips(folder / CLIPS)
    vae = networks.build_flow_vae().to(device)
    trainer = Trainer("flow-vae", folder, {VAE: vae}, minutes, rate=1e-3)
    rng = np.random.default_rng(trainer.steps)

    def loss_of_step() -> Tensor:
        count, length = (CROPS, NUM_FRAMES) if rng.random() < 0.5 else (2 * CROPS, 1 + GROUP)
        pixels = clip_pixels(np.stack([busy_clip(clips, rng, length) for _ in range(count)]), device)
        latents = vae.encode(pixels).latent_dist
        decoded = decode_unclamped(vae, latents.sample())
        loss = reconstruction_loss(decoded.transpose(1, 2).flatten(0, 1), pixels.transpose(1, 2).flatten(0, 1))
        return loss + 1e-4 * latents.kl().mean() / latents.mean[0].numel()

    def picture(path: Path) -> None:
        picks = [index * 107 % len(clips) for index in range(4)]
        frames = np.stack([clip_of(clips, index) for index in picks])
        with torch.no_grad():
            pixels = clip_pixels(frames, device)
            decoded = np.stack([
                clip_frames(vae.decode(vae.encode(clip[None]).latent_dist.mode()).sample[0]) for clip in pixels
            ])  # fmt: skip
        error = ((decoded.astype(float) - frames) ** 2).mean()
        print(f"{path.stem}: {10 * math.log10(255**2 / error):.2f} dB on 4 whole training clips", flush=True)
        save_sheet(path, np.concatenate([frames, decoded]))

    trainer.run(loss_of_step, picture)


def decode_unclamped(vae: AutoencoderKLWan, latents: Tensor) -> Tensor:
    """What the decoder makes of latents before `decode` clamps it: beyond -1 and 1 a clamp has no gradient."""
    parts: list[Tensor] = []
    hook = vae.decoder.register_forward_hook(lambda *call: parts.append(call[-1]))
    try:
        vae.decode(latents)
    finally:
        hook.remove()
    joined = torch.cat(parts, 2)  # each pixel of it holds a square of pixels: channel, column, row
    patch = vae.config.patch_size
    count, channels, frames, height, width = joined.shape
    split = joined.reshape(count, channels // patch**2, patch, patch, frames, height, width)
    return split.permute(0, 1, 4, 5, 3, 6, 2).reshape(count, -1, frames, height * patch, width * patch)


def busy_clip(clips: data.Clips, rng: np.random.Generator, length: int, size: int = 64) -> np.ndarray:
    """A uint8 `(length, size, size, 3)` crop of a clip, around a place of its middle frame where much changes."""
    clip = clip_of(clips, int(rng.integers(len(clips))))
    start = int(rng.integers(len(clip) - length + 1))
    grey = clip[start + length // 2].astype(np.float32).mean(2)
    change = np.abs(np.diff(grey, axis=0))[:, :-1] + np.abs(np.diff(grey, axis=1))[:-1]
    place = int(rng.choice(change.size, p=change.ravel() / change.sum())) if change.any() else 0
    centre = np.array(divmod(place, change.shape[1])) + rng.integers(-size // 3, size // 3 + 1, 2)
    top, left = np.clip(centre - size // 2, 0, np.array(grey.shape) - size)
    return clip[start : start + length, top : top + size, left : left + size]


def clip_of(clips: data.Clips, index: int) -> np.ndarray:
    """Clip `index`, uint8 `(F, H, W, 3)`."""
    return np.array(clips.frames[index // data.SHARD_CLIPS][index % data.SHARD_CLIPS])


def clip_pixels(frames: np.ndarray, device: torch.device) -> Tensor:
    """uint8 `(B, F, H, W, 3)` to `(B, 3, F, H, W)` in [-1, 1]."""
    return torch.stack([to_pixels(np.ascontiguousarray(clip), device).transpose(0, 1) for clip in frames])


def clip_frames(pixels: Tensor) -> np.ndarray:
    """`(3, F, H, W)` in [-1, 1] to uint8 `(F, H, W, 3)`."""
    return to_frames(pixels.transpose(0, 1))


def encode_latents(folder: Path, minutes: float, device: torch.device) -> None:  # noqa: ARG001 - one call for all stages
    """Encode every clip and some of its stills once, and write the latents' statistics into the config."""
    from diffusers import AutoencoderKLWan

    clips = data.Clips(folder / CLIPS)
    vae = AutoencoderKLWan.from_pretrained(folder / VAE).to(device)
    latents, stills = [], []
    for index in range(len(clips)):
        pixels = clip_pixels(clip_of(clips, index)[None], device)
        with torch.inference_mode():
            latents.append(vae.encode(pixels).latent_dist.mode().cpu())
            pictures = pixels[0].transpose(0, 1)[list(STILL_MOMENTS), :, None]
            stills.append(vae.encode(pictures).latent_dist.mode().cpu())
        if (index + 1) % data.SHARD_CLIPS == 0:
            print(f"flow-latents: {index + 1} of {len(clips)} clips", flush=True)
    encoded = torch.cat(latents)
    vae.register_to_config(
        latents_mean=encoded.mean((0, 2, 3, 4)).tolist(), latents_std=encoded.std((0, 2, 3, 4)).tolist()
    )
    vae.save_pretrained(folder / VAE)
    np.save(folder / LATENTS, encoded.half().numpy())
    np.save(folder / STILLS, torch.stack(stills).half().numpy())


class Material(NamedTuple):
    """What the transformer learns from, in scaled latents.

    `latents`: `(clips, C, T, h, w)`. `stills`: `(clips, moments, C, 1, h, w)`. `importance`: `(clips, T, h, w)`.
    """

    clips: data.Clips
    latents: Tensor
    stills: Tensor
    importance: Tensor
    vae: AutoencoderKLWan
    tokenizer: CLIPTokenizer
    text_encoder: CLIPTextModel
    device: torch.device


def load_material(folder: Path, device: torch.device) -> Material:
    """Open clips, latents, autoencoder, tokenizer and the image model's text encoder."""
    from diffusers import AutoencoderKLWan
    from transformers import CLIPTextModel

    vae = AutoencoderKLWan.from_pretrained(folder / VAE).to(device).requires_grad_(False)
    mean, std = (torch.tensor(values).view(-1, 1, 1, 1) for values in (vae.config.latents_mean, vae.config.latents_std))
    latents, stills = (
        (torch.from_numpy(np.load(folder / name)).float() - mean) / std for name in (LATENTS, STILLS)
    )  # fmt: skip
    clips = data.Clips(folder / CLIPS)
    text_encoder = CLIPTextModel.from_pretrained(folder / "text_encoder").to(device).requires_grad_(False)
    return Material(
        clips, latents.to(device), stills.to(device), object_importance(clips, latents.shape[-1]).to(device), vae,
        networks.build_tokenizer(), text_encoder, device,
    )  # fmt: skip


def object_importance(clips: data.Clips, size: int) -> Tensor:
    """Weight of each latent place in the loss, `(clips, T, size, size)` with mean 1: objects count threefold."""
    empty = np.min([shard.min((0, 1)) for shard in clips.depths], axis=0)  # the camera is fixed: nothing is farther
    weights = []
    for shard in clips.depths:
        solid = torch.from_numpy((shard > empty + 2).astype(np.float32))
        near = F.max_pool2d(solid, data.SIZE // size)
        groups = [near[:, :1].amax(1)] + [
            near[:, start : start + GROUP].amax(1) for start in range(1, NUM_FRAMES, GROUP)
        ]
        weights.append(1 + 2 * torch.stack(groups, 1))
    importance = torch.cat(weights)
    return importance / importance.mean()


def train_transformer(folder: Path, minutes: float, device: torch.device) -> None:
    """The transformer, on velocities `noise - clean`, of clips and in a third of the batches of stills."""
    material = load_material(folder, device)
    transformer = networks.build_flow_transformer().to(device)
    trainer = Trainer("flow-transformer", folder, {TRANSFORMER: transformer}, minutes, rate=1e-3)
    rng = np.random.default_rng(trainer.steps)
    torch.manual_seed(trainer.steps)

    def loss_of_step() -> Tensor:
        still = rng.random() < STILL_SHARE
        indices = rng.integers(len(material.clips), size=BATCH * 2 if still else BATCH)
        if still:
            moments = rng.integers(len(STILL_MOMENTS), size=len(indices))
            clean, weights = material.stills[indices, moments], torch.ones_like(material.importance[indices, :1])
        else:
            clean, weights = material.latents[indices], material.importance[indices]
        with torch.no_grad():
            embeds = material.text_encoder(draw_captions(material, indices, rng, still)).last_hidden_state
        noise, level = torch.randn_like(clean), noise_levels(len(clean)).to(device)
        share = level.view(-1, 1, 1, 1, 1)
        predicted = transformer((1 - share) * clean + share * noise, 1000 * level, embeds).sample
        return (weights.unsqueeze(1) * (predicted.float() - (noise - clean)).square()).mean()

    def picture(path: Path) -> None:
        save_sheet(path, np.stack([sample(material, transformer, prompt) for prompt in SAMPLE_PROMPTS]))

    trainer.run(loss_of_step, picture)


def noise_levels(count: int) -> Tensor:
    """Logit-normal levels in (0, 1), evenly spread over the batch."""
    share = spread(count)
    return torch.sigmoid(math.sqrt(2) * torch.erfinv(2 * share.clamp(1e-4, 1 - 1e-4) - 1))


@torch.no_grad()
def sample(material: Material, transformer: torch.nn.Module, prompt: str) -> np.ndarray:
    """A clip for the training log, uint8 `(F, H, W, 3)`, by Euler steps from a fixed seed."""
    vae = material.vae
    shape = (1, *material.latents.shape[1:])
    clip = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(material.device)
    levels = torch.linspace(1, 0, SAMPLE_STEPS + 1)
    levels = SHIFT * levels / (1 + (SHIFT - 1) * levels)
    embeds = material.text_encoder(tokenize(material, ["", prompt])).last_hidden_state
    for level, following in pairwise(levels):
        timestep = (1000 * level).expand(2).to(material.device)
        empty, prompted = transformer(clip.expand(2, -1, -1, -1, -1), timestep, embeds).sample.chunk(2)
        clip = clip + (following - level) * (empty + SAMPLE_GUIDANCE * (prompted - empty))
    mean, std = (
        torch.tensor(values, device=clip.device).view(-1, 1, 1, 1)
        for values in (vae.config.latents_mean, vae.config.latents_std)
    )
    return clip_frames(vae.decode(clip * std + mean).sample[0])
