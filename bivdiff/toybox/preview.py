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

from bivdiff.bridge.previews import Layers, convolved
from bivdiff.catalog.families import family_named
from bivdiff.toybox import data
from bivdiff.toybox.material import to_pixels

FILE = str(family_named("toybox").preview)
MOMENTS = (1, 5)  # frames of each clip
SEEN = 0.9  # of the clips; the others say how good it has become
WIDTH, SHUFFLE = 24, 2
RATE = 4e-3


def train_preview(folder: Path, minutes: float, device: torch.device) -> None:
    """Three small convolutions from the autoencoder's latents to pictures of twice their size.

    It needs a minute, and starts anew each time.
    """
    clips = data.Clips(folder / "clips")
    scale = AutoencoderKL.load_config(folder / "vae")["scaling_factor"]
    encoded = np.load(folder / "latents.npy", mmap_mode="r")[:, MOMENTS]
    given = torch.from_numpy(encoded.reshape(-1, *encoded.shape[2:]).astype(np.float32)).to(device) * scale
    wanted = torch.cat([
        F.interpolate(
            to_pixels(shard[:, MOMENTS].reshape(-1, *shard.shape[2:]), device), scale_factor=SHUFFLE / 8, mode="area"
        )
        for shard in clips.frames
    ])  # fmt: skip
    widths = (given.shape[1], WIDTH, WIDTH, 3 * SHUFFLE**2)
    convolutions = [nn.Conv2d(before, after, 3) for before, after in pairwise(widths)]
    network = nn.Sequential(*convolutions).to(device)
    layers: Layers = tuple((layer.weight, layer.bias) for layer in convolutions if layer.bias is not None)
    optimizer = torch.optim.Adam(network.parameters(), RATE)
    kept, begun, rng = round(SEEN * len(given)), time.monotonic(), np.random.default_rng(0)
    while (spent := (time.monotonic() - begun) / (60 * minutes)) < 1:
        optimizer.param_groups[0]["lr"] = RATE * 0.5 * (1 + math.cos(math.pi * spent))
        picks = torch.from_numpy(rng.integers(kept, size=32)).to(device)
        F.mse_loss(convolved(given[picks], layers), wanted[picks]).backward()
        optimizer.step()
        optimizer.zero_grad()
    with torch.no_grad():
        error = F.mse_loss(convolved(given[kept:], layers), wanted[kept:]).item()
    print(f"preview: {10 * math.log10(4 / error):.2f} dB on {len(given) - kept} other frames", flush=True)
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.half().contiguous() for name, tensor in network.state_dict().items()}, folder / FILE)
