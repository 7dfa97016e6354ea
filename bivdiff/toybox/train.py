"""How the toybox's weights are made: `python -m bivdiff.toybox.train --stage STAGE --minutes N`.

In it: one training stage per network, each resumable and bounded in minutes, the same on CPU and CUDA.
Stages read what earlier ones left in the training folder: data, vae, latents, vae-decoder, text-to-image, then the
others in any order, and export, which writes `assets/toybox`.
Not in it: the loop (trainer.py), the networks' shapes (networks.py), the clips and captions (data.py).
"""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bivdiff.annotators.depth import IMAGENET_MEAN, IMAGENET_STD
from bivdiff.settings import ASSETS
from bivdiff.toybox import data, networks
from bivdiff.toybox.trainer import Trainer

EMPTY_PROMPTS = 0.12  # share of the captions dropped, for classifier-free guidance
MIN_SNR = 5.0  # Min-SNR weighting, arXiv:2303.09556
CANNY_LOW, CANNY_HIGH = (25, 60), (80, 140)  # the thresholds users may pick, drawn anew for every picture
TRAINING_CLIPS = 4000
SAMPLE_STEPS = 25
SAMPLE_PROMPTS = (
    "a red cube comes closer on a green floor at noon",
    "a blue sphere moves left next to a yellow cone on a pink floor at sunset",
    "an orange cylinder jumps on a blue floor at night",
    "a purple cube stands still next to a white sphere on a grey floor at noon",
)


def train_vae(folder: Path, minutes: float, device: torch.device) -> None:
    """The autoencoder, on 64x64 crops placed where the picture changes: the background would teach it nothing."""
    clips = data.Clips(folder / "clips")
    vae = networks.build_vae().to(device)
    trainer = Trainer("vae", folder, {"vae": vae}, minutes, rate=2e-3)
    rng = np.random.default_rng(trainer.steps)

    def loss_of_step() -> Tensor:
        pixels = to_pixels(np.stack([busy_crop(clips, rng) for _ in range(28)]), device)
        with half_precision(device):
            latents = vae.encode(pixels).latent_dist
            decoded = vae.decode(latents.sample()).sample.float()
        return reconstruction_loss(decoded, pixels) + 1e-4 * latents.kl().mean() / latents.mean[0].numel()

    trainer.run(loss_of_step, lambda path: draw_reconstructions(path, clips, vae))
    vae.save_pretrained(folder / "vae")


def draw_reconstructions(path: Path, clips: data.Clips, vae: nn.Module) -> None:
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
    rng = np.random.default_rng(trainer.steps)

    def loss_of_step() -> Tensor:
        picks = [(int(rng.integers(len(clips))), int(rng.integers(data.NUM_FRAMES))) for _ in range(8)]
        frames = np.stack([clip_frame(clips, index, moment) for index, moment in picks])
        pixels = to_pixels(frames, device)
        start = torch.stack([latents[pick] for pick in picks]).to(device).float()
        with half_precision(device):
            decoded = vae.decode(start).sample.float()
        return reconstruction_loss(decoded, pixels, busyness(pixels))

    trainer.run(loss_of_step, lambda path: draw_reconstructions(path, clips, vae))
    vae.save_pretrained(folder / "vae")


def busyness(pixels: Tensor) -> Tensor:
    """Weight of each pixel in the reconstruction loss, `(B, 1, H, W)` with mean 1: more around edges."""
    grey = pixels.mean(1, keepdim=True)
    change = F.pad(grey.diff(dim=2), (0, 0, 0, 1)).abs() + F.pad(grey.diff(dim=3), (0, 1)).abs()
    weights = 1 + 6 * F.max_pool2d(change, 5, stride=1, padding=2).clamp(max=1)
    return weights / weights.mean()


def half_precision(device: torch.device) -> torch.autocast:
    """The arithmetic of all training: at these sizes bf16 is about twice as fast as fp32, on a CPU too."""
    return torch.autocast(device.type, torch.bfloat16)


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


class Material(NamedTuple):
    """What every diffusion stage starts from.

    `latents`: float32 `(clips, F, 4, 16, 16)`, already scaled. `importance`: float32 `(clips, F, 16, 16)`, the weight
    of each place in the loss.
    """

    clips: data.Clips
    latents: Tensor
    importance: Tensor
    vae: nn.Module
    tokenizer: Callable
    scheduler: object
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


def tokenize(material: Material, captions: list[str]) -> Tensor:
    """Token ids `(B, networks.TEXT_LENGTH)`."""
    ids = material.tokenizer(captions, padding="max_length", truncation=True, return_tensors="pt").input_ids
    return ids.to(material.device)


def draw_captions(material: Material, indices: np.ndarray, rng: np.random.Generator, still: bool) -> Tensor:
    """Token ids of a wording of each clip's caption, some of them empty."""
    captions = [
        "" if rng.random() < EMPTY_PROMPTS else data.reworded(material.clips.scenes[i], rng, still) for i in indices
    ]
    return tokenize(material, captions)


def noised(material: Material, latents: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Latents of a batch at stratified random timesteps: noisy latents, noise, timesteps and Min-SNR weights."""
    batch = len(latents)
    share = (torch.rand(()) + torch.arange(batch) / batch) % 1  # evenly spread: less variance than independent draws
    timesteps = (share * 1000).long().to(material.device)
    noise = torch.randn_like(latents)
    cumulative = material.scheduler.alphas_cumprod.to(material.device)[timesteps]
    weights = (MIN_SNR * (1 - cumulative) / cumulative).clamp(max=1)
    return material.scheduler.add_noise(latents, noise, timesteps), noise, timesteps, weights


def noise_loss(noise_pred: Tensor, noise: Tensor, weights: Tensor, importance: Tensor) -> Tensor:
    """Mean squared error of the predicted noise, weighted by timestep `(B,)` and by place, `importance`."""
    squared = importance.unsqueeze(1) * (noise_pred.float() - noise).square()
    return (weights * squared.flatten(1).mean(1)).mean()


def train_text_to_image(folder: Path, minutes: float, device: torch.device) -> None:
    """The image U-Net together with the text encoder, on single frames."""
    material = load_material(folder, device)
    unet = networks.build_unet().to(device)
    text_encoder = networks.build_text_encoder(len(material.tokenizer)).to(device)
    trainer = Trainer("text-to-image", folder, {"unet": unet, "text_encoder": text_encoder}, minutes, rate=1e-3)
    rng = np.random.default_rng(trainer.steps)

    def loss_of_step() -> Tensor:
        indices = rng.integers(len(material.clips), size=32)
        moments = rng.integers(data.NUM_FRAMES, size=32)
        noisy, noise, timesteps, weights = noised(material, material.latents[indices, moments])
        with half_precision(device):
            embeds = text_encoder(draw_captions(material, indices, rng, still=True)).last_hidden_state
            noise_pred = unet(noisy, timesteps, embeds).sample
        return noise_loss(noise_pred, noise, weights, material.importance[indices, moments])

    def picture(path: Path) -> None:
        rows = [sample(material, unet, text_encoder, [prompt] * 8) for prompt in SAMPLE_PROMPTS]
        save_sheet(path, np.stack(rows))

    trainer.run(loss_of_step, picture)
    unet.save_pretrained(folder / "unet")
    text_encoder.save_pretrained(folder / "text_encoder")


def load_image_model(folder: Path, device: torch.device) -> tuple[nn.Module, nn.Module]:
    """The trained image U-Net and text encoder, frozen."""
    from diffusers import UNet2DConditionModel
    from transformers import CLIPTextModel

    unet = UNet2DConditionModel.from_pretrained(folder / "unet").to(device).requires_grad_(False)
    text_encoder = CLIPTextModel.from_pretrained(folder / "text_encoder").to(device).requires_grad_(False)
    return unet, text_encoder


def train_controlnet(folder: Path, minutes: float, device: torch.device, control_type: str) -> None:
    """A ControlNet on the frozen image model."""
    material = load_material(folder, device)
    unet, text_encoder = load_image_model(folder, device)
    controlnet = networks.build_controlnet(unet).to(device).requires_grad_(True)
    wake(controlnet)
    stage = f"controlnet-{control_type}"
    trainer = Trainer(stage, folder, {"controlnet": controlnet}, minutes, rate=1e-3)
    rng = np.random.default_rng(trainer.steps)

    def control_of(indices: np.ndarray, moments: np.ndarray) -> Tensor:
        maps = [
            control_map(material.clips, i, moment, control_type, rng)
            for i, moment in zip(indices, moments, strict=True)
        ]
        return torch.from_numpy(np.stack(maps)).to(device)[:, None].repeat(1, 3, 1, 1) / 255.0

    def loss_of_step() -> Tensor:
        indices, moments = rng.integers(len(material.clips), size=24), rng.integers(data.NUM_FRAMES, size=24)
        with torch.no_grad():
            embeds = text_encoder(draw_captions(material, indices, rng, still=True)).last_hidden_state
        noisy, noise, timesteps, weights = noised(material, material.latents[indices, moments])
        with half_precision(device):
            down, mid = controlnet(noisy, timesteps, embeds, control_of(indices, moments), return_dict=False)
            noise_pred = unet(noisy, timesteps, embeds, down_block_additional_residuals=down,
                              mid_block_additional_residual=mid).sample  # fmt: skip
        return noise_loss(noise_pred, noise, weights, material.importance[indices, moments])

    def picture(path: Path) -> None:
        indices, moments = np.arange(8) * 37 % len(material.clips), np.full(8, 3)
        control = control_of(indices, moments)
        captions = [material.clips.scenes[i].caption for i in indices]
        truth = np.stack([clip_frame(material.clips, i, 3) for i in indices])
        made = sample(material, unet, text_encoder, captions, controlnet, control)
        save_sheet(path, np.stack([truth, to_frames(control * 2 - 1), made]))

    trainer.run(loss_of_step, picture)
    controlnet.save_pretrained(folder / stage)


def wake(controlnet: nn.Module) -> None:
    """Start a ControlNet so that it sees its control map from the first step.

    As it is built, layers at both ends are silent, and the eight layers that read the map each shrink it: in ten
    minutes of training it did not learn to look. Here the readers keep the map's strength, and the silent layers start
    small.
    """
    reader = controlnet.controlnet_cond_embedding
    for layer in [reader.conv_in, *reader.blocks]:
        nn.init.kaiming_normal_(layer.weight)
        nn.init.zeros_(layer.bias)
    for parameter in controlnet.parameters():
        if parameter.ndim == 4 and not parameter.any():
            nn.init.normal_(parameter, std=0.3 / math.sqrt(parameter[0].numel()))


def clip_frame(clips: data.Clips, index: int, moment: int) -> np.ndarray:
    """Frame `moment` of clip `index`, uint8 `(H, W, 3)`."""
    return clips.frames[index // data.SHARD_CLIPS][index % data.SHARD_CLIPS, moment]


def control_map(clips: data.Clips, index: int, moment: int, control_type: str, rng: np.random.Generator) -> np.ndarray:
    """The control map of one frame, float32 `(H, W)` in [0, 255], varied as it will be in use."""
    import cv2

    if control_type == "canny":
        frame = np.ascontiguousarray(clip_frame(clips, index, moment))
        return cv2.Canny(frame, rng.uniform(*CANNY_LOW), rng.uniform(*CANNY_HIGH)).astype(np.float32)
    depth = clips.depths[index // data.SHARD_CLIPS][index % data.SHARD_CLIPS].astype(np.float32)
    depth = (depth[moment] - depth.min()) * (255 / np.ptp(depth))
    # Estimated maps are softer than the world's own, so the model meets both.
    return cv2.GaussianBlur(depth, (0, 0), rng.uniform(0.3, 2.0)) if rng.random() < 0.6 else depth


def train_text_to_video(folder: Path, minutes: float, device: torch.device) -> None:
    """The video U-Net, started from the image U-Net, on whole clips; the text encoder stays as it is."""
    material = load_material(folder, device)
    unet, text_encoder = load_image_model(folder, device)
    video_unet = networks.build_video_unet().to(device)
    start_from_image_model(video_unet, unet)
    trainer = Trainer("text-to-video", folder, {"video_unet": video_unet}, minutes, rate=6e-4)
    rng = np.random.default_rng(trainer.steps)

    def loss_of_step() -> Tensor:
        indices = rng.integers(len(material.clips), size=4)
        with torch.no_grad():
            embeds = text_encoder(draw_captions(material, indices, rng, still=False)).last_hidden_state
        latents = material.latents[indices].transpose(1, 2)  # (B, 4, F, 16, 16)
        noisy, noise, timesteps, weights = noised(material, latents)
        with half_precision(device):
            noise_pred = video_unet(noisy, timesteps, embeds).sample
        return noise_loss(noise_pred, noise, weights, material.importance[indices])

    def picture(path: Path) -> None:
        save_sheet(path, np.stack([sample(material, video_unet, text_encoder, [prompt]) for prompt in SAMPLE_PROMPTS]))

    trainer.run(loss_of_step, picture)
    video_unet.save_pretrained(folder / "video_unet")


def start_from_image_model(video_unet: nn.Module, unet: nn.Module) -> None:
    """Copy the image weights by name and silence the temporal layers, so that training starts at the image model."""
    target = video_unet.state_dict()
    for name, weight in unet.state_dict().items():
        target[name] = weight.reshape(target[name].shape)  # 1x1 convolutions become linear layers
    for name in target:
        temporal = "temp_attentions" in name or "transformer_in" in name
        if (temporal and ".proj_out." in name) or ("temp_convs" in name and ".conv4." in name):
            target[name] = torch.zeros_like(target[name])
    video_unet.load_state_dict(target)


def train_depth_estimator(folder: Path, minutes: float, device: torch.device) -> None:
    """A small Depth Anything: inverse depth of single frames, up to scale and shift."""
    clips = data.Clips(folder / "clips")
    estimator = networks.build_depth_estimator().to(device)
    nn.init.constant_(estimator.head.conv3.bias, 0.4)  # its last ReLU would start silent, and stay so
    trainer = Trainer("depth-estimator", folder, {"depth_estimator": estimator}, minutes, rate=1e-3)
    rng = np.random.default_rng(trainer.steps)
    mean, std = (torch.tensor(values, device=device).view(3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))

    def batch(size: int) -> tuple[Tensor, Tensor]:
        picks = [(rng.integers(len(clips)), rng.integers(data.NUM_FRAMES)) for _ in range(size)]
        frames = np.stack([clip_frame(clips, i, moment) for i, moment in picks])
        depths = np.stack([clips.depths[i // data.SHARD_CLIPS][i % data.SHARD_CLIPS, moment] for i, moment in picks])
        pixels = (torch.from_numpy(frames).to(device).permute(0, 3, 1, 2).float() / 255 - mean) / std
        return pixels, torch.from_numpy(depths).to(device).float() / 255

    def loss_of_step() -> Tensor:
        pixels, depth = batch(16)
        with half_precision(device):
            predicted = estimator(pixels).predicted_depth.float()
        loss = (predicted - depth).abs().mean()
        for axis in (1, 2):
            loss = loss + (predicted.diff(dim=axis) - depth.diff(dim=axis)).abs().mean()
        return loss

    def picture(path: Path) -> None:
        pixels, depth = batch(8)
        with torch.no_grad():
            rows = torch.stack([depth, estimator(pixels).predicted_depth.clamp(0, 1)])
        save_sheet(path, (rows * 255).byte().cpu().numpy()[..., None].repeat(3, -1))

    trainer.run(loss_of_step, picture)
    estimator.save_pretrained(folder / "depth_estimator")


@torch.no_grad()
def sample(
    material: Material, unet: nn.Module, text_encoder: nn.Module, prompts: list[str],
    controlnet: nn.Module | None = None, control: Tensor | None = None, guidance_scale: float = 4.0,
) -> np.ndarray:  # fmt: skip
    """Frames of some prompts for the training log, uint8 `(F, H, W, 3)`, with DDIM from a fixed seed.

    An image U-Net gives one frame per prompt, a video U-Net the clip of the only prompt.
    """
    is_video = "3D" in type(unet).__name__
    shape = (1, 4, data.NUM_FRAMES, 16, 16) if is_video else (len(prompts), 4, 16, 16)
    latents = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(material.device)
    embeds = text_encoder(tokenize(material, [""] * len(prompts) + prompts)).last_hidden_state
    material.scheduler.set_timesteps(SAMPLE_STEPS)
    for timestep in material.scheduler.timesteps:
        doubled, extra = torch.cat([latents, latents]), {}
        if controlnet is not None:
            down, mid = controlnet(doubled, timestep, embeds, torch.cat([control, control]), return_dict=False)
            extra = {"down_block_additional_residuals": down, "mid_block_additional_residual": mid}
        empty, prompted = unet(doubled, timestep, embeds, **extra).sample.chunk(2)
        noise_pred = empty + guidance_scale * (prompted - empty)
        latents = material.scheduler.step(noise_pred, timestep, latents).prev_sample
    if is_video:
        latents = latents[0].transpose(0, 1)
    return to_frames(material.vae.decode(latents / material.vae.config.scaling_factor).sample)


def export(folder: Path, minutes: float, device: torch.device) -> None:  # noqa: ARG001 - one call for all stages
    """Write the trained components to `assets/toybox` as fp16 safetensors, no file above the size limit."""
    family = networks.build_family()
    for name, component in family.items():
        if isinstance(component, nn.Module):
            family[name] = type(component).from_pretrained(folder / name)
    networks.save_family(ASSETS / "toybox", family)


def render_data(folder: Path, minutes: float, device: torch.device) -> None:  # noqa: ARG001 - one call for all stages
    """Render the training clips."""
    data.render_shards(folder / "clips", TRAINING_CLIPS, os.cpu_count() or 1)


STAGES: dict[str, Callable[[Path, float, torch.device], None]] = {
    "data": render_data,
    "vae": train_vae,
    "latents": encode_latents,
    "vae-decoder": train_decoder,
    "text-to-image": train_text_to_image,
    "controlnet-canny": lambda *args: train_controlnet(*args, control_type="canny"),
    "controlnet-depth": lambda *args: train_controlnet(*args, control_type="depth"),
    "text-to-video": train_text_to_video,
    "depth-estimator": train_depth_estimator,
    "export": export,
}


def main() -> None:
    """Run one stage."""
    parser = argparse.ArgumentParser(prog="python -m bivdiff.toybox.train", description=__doc__)
    parser.add_argument("--stage", required=True, choices=STAGES)
    parser.add_argument("--minutes", type=float, default=30, help="how long the stage trains in all, over all sittings")
    parser.add_argument("--work", type=Path, default=Path.home() / ".cache" / "bivdiff" / "toybox-training",
                        help="where clips, states, logs and pictures are kept")  # fmt: skip
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()
    torch.manual_seed(0)
    STAGES[args.stage](args.work, args.minutes, torch.device(args.device))


if __name__ == "__main__":
    main()
