"""Training of the convolutions that show the toybox's latents during a run."""

from __future__ import annotations

import math
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from safetensors.torch import save_file
from torch import nn

from bivdiff.bridge import latents
from bivdiff.bridge.previews import Layers, convolved
from bivdiff.catalog.families import family_named
from bivdiff.settings import ASSETS
from bivdiff.toybox import world

FILE = str(family_named("toybox").preview)
SCENES, HELD_OUT = 600, 60
MOMENTS = (1, 5)  # frames of each
WIDTH, SHUFFLE = 24, 2
RATE = 4e-3


def train_preview(folder: Path, minutes: float, device: torch.device) -> None:
    """Three small convolutions from the shipped autoencoder's latents to pictures of twice their size.

    It needs a minute, renders what it learns from, and starts anew each time.
    """
    vae = AutoencoderKL.from_pretrained(ASSETS / "toybox" / "vae").float().to(device)
    clips = [world.render(world.sample_scene(seed)).frames[list(MOMENTS)] for seed in range(SCENES)]
    frames = np.concatenate(clips)
    with torch.no_grad():
        given = latents.encode(vae, frames, 32)[0].transpose(0, 1)
    pixels = torch.from_numpy(frames).to(device).permute(0, 3, 1, 2).float() / 127.5 - 1
    wanted = F.interpolate(pixels, scale_factor=SHUFFLE / 8, mode="area")
    widths = (given.shape[1], WIDTH, WIDTH, 3 * SHUFFLE**2)
    convolutions = [nn.Conv2d(before, after, 3) for before, after in pairwise(widths)]
    network = nn.Sequential(*convolutions).to(device)
    layers: Layers = tuple((layer.weight, layer.bias) for layer in convolutions if layer.bias is not None)
    optimizer = torch.optim.Adam(network.parameters(), RATE)
    kept, begun, rng = len(frames) - HELD_OUT * len(MOMENTS), time.monotonic(), np.random.default_rng(0)
    while (spent := (time.monotonic() - begun) / (60 * minutes)) < 1:
        optimizer.param_groups[0]["lr"] = RATE * 0.5 * (1 + math.cos(math.pi * spent))
        picks = torch.from_numpy(rng.integers(kept, size=32))
        F.mse_loss(convolved(given[picks], layers), wanted[picks]).backward()
        optimizer.step()
        optimizer.zero_grad()
    with torch.no_grad():
        error = F.mse_loss(convolved(given[kept:], layers), wanted[kept:]).item()
    print(f"preview: {10 * math.log10(4 / error):.2f} dB on {len(frames) - kept} other frames", flush=True)
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.half().contiguous() for name, tensor in network.state_dict().items()}, folder / FILE)
