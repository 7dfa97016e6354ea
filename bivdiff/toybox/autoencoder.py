"""Training stages of the autoencoder: on crops, then its decoder on whole frames; and the latents the others read."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from bivdiff.toybox import data, networks
from bivdiff.toybox.material import clip_frame, half_precision, in_a_step, save_sheet, to_frames, to_pixels
from bivdiff.toybox.trainer import Trainer

if TYPE_CHECKING:
    from diffusers import AutoencoderKL

CROPS, FRAMES = 28, 8  # in a step of vae and of vae-decoder


def train_vae(folder: Path, minutes: float, device: torch.device) -> None:
    """The autoencoder, on 64x64 crops placed where the picture changes: the background would teach it nothing."""
    clips = data.Clips(folder / "clips")
    vae = networks.build_vae().to(device)
    trainer = Trainer("vae", folder, {"vae": vae}, minutes, rate=2e-3)
    rng = np.random.default_rng(trainer.steps)

    def loss_of_step() -> Tensor:
        pixels = to_pixels(np.stack([busy_crop(clips, rng) for _ in range(in_a_step(CROPS, device))]), device)
        with half_precision(device):
            latents = vae.encode(pixels).latent_dist
            decoded = vae.decode(latents.sample()).sample.float()
        return reconstruction_loss(decoded, pixels) + 1e-4 * latents.kl().mean() / latents.mean[0].numel()

    trainer.run(loss_of_step, lambda path: draw_reconstructions(path, clips, vae))


def draw_reconstructions(path: Path, clips: data.Clips, vae: AutoencoderKL) -> None:
    """Draw eight whole training frames above their reconstructions, and log the PSNR."""
    frames = np.stack([clip_frame(clips, index * 107 % len(clips), 4) for index in range(8)])
    with torch.no_grad():
        pixels = to_pixels(frames, vae.device)
        decoded = to_frames(vae.decode(vae.encode(pixels).latent_dist.mode()).sample)
    error = ((decoded.astype(float) - frames) ** 2).mean()
    print(f"{path.stem}: {10 * math.log10(255**2 / error):.2f} dB on 8 whole training frames", flush=True)
    save_sheet(path, np.stack([frames, decoded]))


def train_decoder(folder: Path, minutes: float, device: torch.device) -> None:
    """The decoder alone, on whole frames: the latents that other stages learnt from stay as they are.

    Crops taught it detail; on whole frames its normalisations meet the statistics they will meet in use.
    """
    from diffusers import AutoencoderKL

    clips = data.Clips(folder / "clips")
    latents = torch.from_numpy(np.load(folder / "latents.npy"))
    vae = AutoencoderKL.from_pretrained(folder / "vae").to(device).requires_grad_(False)
    vae.decoder.requires_grad_(True)
    trainer = Trainer("vae-decoder", folder, {"vae": vae}, minutes, rate=8e-4)
    rng, count = np.random.default_rng(trainer.steps), in_a_step(FRAMES, device)

    def loss_of_step() -> Tensor:
        picks = [(int(rng.integers(len(clips))), int(rng.integers(data.NUM_FRAMES))) for _ in range(count)]
        frames = np.stack([clip_frame(clips, index, moment) for index, moment in picks])
        pixels = to_pixels(frames, device)
        start = torch.stack([latents[pick] for pick in picks]).to(device).float()
        with half_precision(device):
            decoded = vae.decode(start).sample.float()
        return reconstruction_loss(decoded, pixels, busyness(pixels))

    trainer.run(loss_of_step, lambda path: draw_reconstructions(path, clips, vae))


def busyness(pixels: Tensor) -> Tensor:
    """Weight of each pixel in the reconstruction loss, `(B, 1, H, W)` with mean 1: more around edges."""
    grey = pixels.mean(1, keepdim=True)
    change = F.pad(grey.diff(dim=2), (0, 0, 0, 1)).abs() + F.pad(grey.diff(dim=3), (0, 1)).abs()
    weights = 1 + 6 * F.max_pool2d(change, 5, stride=1, padding=2).clamp(max=1)
    return weights / weights.mean()


def busy_crop(clips: data.Clips, rng: np.random.Generator, size: int = 64) -> np.ndarray:
    """A uint8 `(size, size, 3)` crop drawn with the probability of its blurred squared gradient."""
    shard = clips.frames[rng.integers(len(clips.frames))]
    frame = shard[rng.integers(shard.shape[0]), rng.integers(shard.shape[1])]
    grey = frame.astype(np.float32).mean(2)
    gradient = np.zeros_like(grey)
    gradient[:, 1:] += np.diff(grey, axis=1) ** 2
    gradient[1:] += np.diff(grey, axis=0) ** 2
    sums = np.pad(gradient, ((1, 0), (1, 0))).cumsum(0).cumsum(1)
    window = sums[size:, size:] - sums[:-size, size:] - sums[size:, :-size] + sums[:-size, :-size]
    weights = window.ravel() ** 0.5
    place = rng.choice(weights.size, p=weights / weights.sum()) if weights.any() else rng.integers(weights.size)
    top, left = divmod(int(place), window.shape[1])
    return frame[top : top + size, left : left + size]


def reconstruction_loss(decoded: Tensor, pixels: Tensor, weights: Tensor | float = 1.0) -> Tensor:
    """L1 + L1 of the gradients + 2 MSE, on `(B, 3, H, W)` in [-1, 1]; `weights` `(B, 1, H, W)` weigh pixels."""
    loss = (weights * (decoded - pixels).abs()).mean() + 2 * (weights * (decoded - pixels).square()).mean()
    for axis in (2, 3):
        loss = loss + (decoded.diff(dim=axis) - pixels.diff(dim=axis)).abs().mean()
    return loss


def encode_latents(folder: Path, minutes: float, device: torch.device) -> None:  # noqa: ARG001 - one call for all stages
    """Encode every frame once, and write the latents' scale into the autoencoder's config."""
    from diffusers import AutoencoderKL

    clips = data.Clips(folder / "clips")
    vae = AutoencoderKL.from_pretrained(folder / "vae").to(device)
    latents = []
    for number, shard in enumerate(clips.frames):
        for clip in shard:
            pixels = to_pixels(np.array(clip), device)
            with torch.inference_mode(), half_precision(device):
                latents.append(vae.encode(pixels).latent_dist.mode().half().cpu().numpy())
        print(f"latents: {number + 1} of {len(clips.frames)} shards", flush=True)
    encoded = np.stack(latents)
    std = float(encoded.astype(np.float32).std())
    vae.register_to_config(scaling_factor=1 / std)
    vae.save_pretrained(folder / "vae")
    np.save(folder / "latents.npy", encoded)
    print(f"latents: {encoded.shape}, std {std:.3f}", flush=True)
