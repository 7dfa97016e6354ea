"""What the training stages share: clips as tensors, captions, noise, the loss, and the sampler of the training log."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bivdiff.toybox import data, networks

if TYPE_CHECKING:
    from diffusers import AutoencoderKL, DDIMScheduler
    from transformers import CLIPTokenizer

EMPTY_PROMPTS = 0.12  # share of the captions dropped, for classifier-free guidance
CARD_BATCHES = 4
MIN_SNR = 5.0  # Min-SNR weighting, arXiv:2303.09556
SAMPLE_STEPS = 25
SAMPLE_GUIDANCE = 4.0
SAMPLE_PROMPTS = (
    "a red cube comes closer on a green floor at noon",
    "a blue sphere moves left next to a yellow cone on a pink floor at sunset",
    "an orange cylinder jumps on a blue floor at night",
    "a purple cube stands still next to a white sphere on a grey floor at noon",
)


def half_precision(device: torch.device) -> torch.autocast:
    """The arithmetic of all training: at these sizes bf16 is about twice as fast as fp32, on a CPU too."""
    return torch.autocast(device.type, torch.bfloat16)


def in_a_step(count: int, device: torch.device) -> int:
    """How many examples a step sees where a processor's sees `count`: a card is idle with so few."""
    return CARD_BATCHES * count if device.type == "cuda" else count


def clip_frame(clips: data.Clips, index: int, moment: int) -> np.ndarray:
    """Frame `moment` of clip `index`, uint8 `(H, W, 3)`."""
    return clips.frames[index // data.SHARD_CLIPS][index % data.SHARD_CLIPS, moment]


def to_pixels(frames: np.ndarray, device: torch.device) -> Tensor:
    """uint8 `(F, H, W, 3)` to `(F, 3, H, W)` in [-1, 1]."""
    return torch.from_numpy(frames).to(device).permute(0, 3, 1, 2).float() / 127.5 - 1


def to_frames(pixels: Tensor) -> np.ndarray:
    """`(F, 3, H, W)` in [-1, 1] to uint8 `(F, H, W, 3)`."""
    return ((pixels.clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).cpu().numpy()


def save_sheet(path: Path, rows: np.ndarray) -> None:
    """Write uint8 `(rows, columns, H, W, 3)` as one picture."""
    from PIL import Image

    Image.fromarray(np.concatenate([np.concatenate(list(row), 1) for row in rows], 0)).save(path)


class Material(NamedTuple):
    """What every diffusion stage starts from.

    `latents`: float32 `(clips, F, 4, 16, 16)`, already scaled. `importance`: float32 `(clips, F, 16, 16)`, the weight
    of each place in the loss.
    """

    clips: data.Clips
    latents: Tensor
    importance: Tensor
    vae: AutoencoderKL
    tokenizer: CLIPTokenizer
    scheduler: DDIMScheduler
    device: torch.device


def load_material(folder: Path, device: torch.device) -> Material:
    """Open clips, latents, autoencoder and tokenizer."""
    from diffusers import AutoencoderKL

    vae = AutoencoderKL.from_pretrained(folder / "vae").to(device).requires_grad_(False)
    latents = torch.from_numpy(np.load(folder / "latents.npy")).float() * vae.config.scaling_factor
    clips = data.Clips(folder / "clips")
    return Material(
        clips, latents.to(device), object_importance(clips).to(device), vae, networks.build_tokenizer(),
        networks.build_scheduler(), device,
    )  # fmt: skip


def object_importance(clips: data.Clips) -> Tensor:
    """Weight of each latent place in the loss, `(clips, F, 16, 16)` with mean 1: objects count threefold.

    Floor and sky are most of the picture and soon learnt. Weighing places leaves the best prediction of each as it is.
    """
    empty = np.min([shard.min((0, 1)) for shard in clips.depths], axis=0)  # the camera is fixed: nothing is farther
    weights = []
    for shard in clips.depths:
        solid = torch.from_numpy((shard.reshape(-1, data.SIZE, data.SIZE) > empty + 2).astype(np.float32))
        near = F.max_pool2d(F.max_pool2d(solid[:, None], 8), 3, stride=1, padding=1)[:, 0]
        weights.append((1 + 2 * near).reshape(shard.shape[0], shard.shape[1], *near.shape[-2:]))
    importance = torch.cat(weights)
    return importance / importance.mean()


class Captioned(Protocol):
    """What captions are drawn from: some clips, and how they are read."""

    @property
    def clips(self) -> data.Clips:
        """Whose scenes are told."""

    @property
    def tokenizer(self) -> CLIPTokenizer:
        """What reads the words."""

    @property
    def device(self) -> torch.device:
        """Where the tokens go."""


def tokenize(material: Captioned, captions: list[str]) -> Tensor:
    """Token ids `(B, networks.TEXT_LENGTH)`."""
    ids = material.tokenizer(captions, padding="max_length", truncation=True, return_tensors="pt").input_ids
    return ids.to(material.device)


def draw_captions(material: Captioned, indices: np.ndarray, rng: np.random.Generator, still: bool) -> Tensor:
    """Token ids of a wording of each clip's caption, some of them empty."""
    captions = [
        "" if rng.random() < EMPTY_PROMPTS else data.reworded(material.clips.scenes[i], rng, still) for i in indices
    ]
    return tokenize(material, captions)


def spread(count: int) -> Tensor:
    """Random numbers in [0, 1), evenly spread: less variance than independent draws."""
    return (torch.rand(()) + torch.arange(count) / count) % 1


def noised(material: Material, latents: Tensor, early_steps: bool = False) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Latents of a batch at stratified random timesteps: noisy latents, noise, timesteps and Min-SNR weights.

    With `early_steps` a timestep is as likely as it is noisy. What stands where is decided in the first steps of
    sampling, and hardly shows in a loss on noise: a picture beside the noise is read late, or not at all.
    """
    batch = len(latents)
    share = spread(batch)
    if early_steps:
        share = share.sqrt()
    timesteps = (share * 1000).long().to(material.device)
    noise = torch.randn_like(latents)
    cumulative = material.scheduler.alphas_cumprod.to(material.device)[timesteps]
    weights = (MIN_SNR * (1 - cumulative) / cumulative).clamp(max=1)
    return material.scheduler.add_noise(latents, noise, timesteps), noise, timesteps, weights


def noise_loss(noise_pred: Tensor, noise: Tensor, weights: Tensor, importance: Tensor) -> Tensor:
    """Mean squared error of the predicted noise, weighted by timestep `(B,)` and by place, `importance`."""
    squared = importance.unsqueeze(1) * (noise_pred.float() - noise).square()
    return (weights * squared.flatten(1).mean(1)).mean()


def load_image_model(folder: Path, device: torch.device) -> tuple[nn.Module, nn.Module]:
    """The trained image U-Net and text encoder, frozen."""
    from diffusers import UNet2DConditionModel
    from transformers import CLIPTextModel

    unet = UNet2DConditionModel.from_pretrained(folder / "unet").to(device).requires_grad_(False)
    text_encoder = CLIPTextModel.from_pretrained(folder / "text_encoder").to(device).requires_grad_(False)
    return unet, text_encoder


@torch.no_grad()
def sample(
    material: Material, text_encoder: nn.Module, prompts: list[str], count: int,
    predict: Callable[[Tensor, Tensor, Tensor], Tensor], video: bool = False,
) -> np.ndarray:  # fmt: skip
    """Frames for the training log, uint8 `(F, H, W, 3)`, with DDIM from a fixed seed.

    `predict` takes latents, timestep and embeds of a doubled batch: `count` pictures, or one clip where `video`.
    """
    shape = (1, 4, count, 16, 16) if video else (count, 4, 16, 16)
    latents = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(material.device)
    embeds = text_encoder(tokenize(material, [""] * len(prompts) + prompts)).last_hidden_state
    material.scheduler.set_timesteps(SAMPLE_STEPS)
    for timestep in material.scheduler.timesteps:
        empty, prompted = predict(torch.cat([latents, latents]), timestep, embeds).chunk(2)
        noise_pred = empty + SAMPLE_GUIDANCE * (prompted - empty)
        latents = material.scheduler.step(noise_pred, timestep, latents).prev_sample
    if video:
        latents = latents[0].transpose(0, 1)
    return to_frames(material.vae.decode(latents / material.vae.config.scaling_factor).sample)
