"""How the toybox's weights are made: `python -m bivdiff.toybox.train --stage STAGE --minutes N`.

Every stage is bounded in minutes, the same on CPU and CUDA, and, but for preview, resumable. Stages read what earlier
ones left in the training folder: data, vae, latents, vae-decoder, text-to-image, then the others in any order (edits
before instruct-pix2pix and inpainting), and export, which writes `assets/toybox`. To carry on from the shipped weights,
begin with the stage shipped, which is export the other way round. The second video model's begin with "flow-".
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from bivdiff.pixels.annotators.depth import IMAGENET_MEAN, IMAGENET_STD
from bivdiff.settings import ASSETS, CACHE
from bivdiff.toybox import autoencoder, conditioned, data, flow, networks, preview, whole
from bivdiff.toybox.export import save_trained
from bivdiff.toybox.material import (
    SAMPLE_PROMPTS,
    clip_frame,
    draw_captions,
    half_precision,
    in_a_step,
    load_image_model,
    load_material,
    noise_loss,
    noised,
    sample,
    save_sheet,
)
from bivdiff.toybox.trainer import Trainer

TRAINING_CLIPS, MORE_CLIPS = 4000, 20_000
TRAINING_EDITS = 20_000
IMAGES, CLIPS, DEPTHS = 32, 4, 16  # in a step of text-to-image, text-to-video and depth-estimator
FLOW_CLIPS = 3000


def train_text_to_image(folder: Path, minutes: float, device: torch.device) -> None:
    """The image U-Net together with the text encoder, on single frames."""
    material = load_material(folder, device)
    unet = networks.build_unet().to(device)
    text_encoder = networks.build_text_encoder(len(material.tokenizer)).to(device)
    trainer = Trainer("text-to-image", folder, {"unet": unet, "text_encoder": text_encoder}, minutes, rate=1e-3)
    rng, count = np.random.default_rng(trainer.steps), in_a_step(IMAGES, device)

    def loss_of_step() -> Tensor:
        indices = rng.integers(len(material.clips), size=count)
        moments = rng.integers(data.NUM_FRAMES, size=count)
        noisy, noise, timesteps, weights = noised(material, material.latents[indices, moments])
        with half_precision(device):
            embeds = text_encoder(draw_captions(material, indices, rng, still=True)).last_hidden_state
            noise_pred = unet(noisy, timesteps, embeds).sample
        return noise_loss(noise_pred, noise, weights, material.importance[indices, moments])

    def picture(path: Path) -> None:
        def predict(latents: Tensor, timestep: Tensor, embeds: Tensor) -> Tensor:
            return unet(latents, timestep, embeds).sample

        rows = [sample(material, text_encoder, [prompt] * 8, 8, predict) for prompt in SAMPLE_PROMPTS]
        save_sheet(path, np.stack(rows))

    trainer.run(loss_of_step, picture)


def train_text_to_video(folder: Path, minutes: float, device: torch.device) -> None:
    """The video U-Net, started from the image U-Net, on whole clips; the text encoder stays as it is."""
    material = load_material(folder, device)
    unet, text_encoder = load_image_model(folder, device)
    video_unet = networks.build_video_unet().to(device)
    start_from_image_model(video_unet, unet)
    trainer = Trainer("text-to-video", folder, {"video_unet": video_unet}, minutes, rate=6e-4)
    rng = np.random.default_rng(trainer.steps)

    def loss_of_step() -> Tensor:
        indices = rng.integers(len(material.clips), size=in_a_step(CLIPS, device))
        with torch.no_grad():
            embeds = text_encoder(draw_captions(material, indices, rng, still=False)).last_hidden_state
        latents = material.latents[indices].transpose(1, 2)  # (B, 4, F, 16, 16)
        noisy, noise, timesteps, weights = noised(material, latents)
        with half_precision(device):
            noise_pred = video_unet(noisy, timesteps, embeds).sample
        return noise_loss(noise_pred, noise, weights, material.importance[indices])

    def picture(path: Path) -> None:
        def predict(latents: Tensor, timestep: Tensor, embeds: Tensor) -> Tensor:
            return video_unet(latents, timestep, embeds).sample

        rows = [
            sample(material, text_encoder, [prompt], data.NUM_FRAMES, predict, video=True) for prompt in SAMPLE_PROMPTS
        ]
        save_sheet(path, np.stack(rows))

    trainer.run(loss_of_step, picture)


def start_from_image_model(video_unet: nn.Module, unet: nn.Module) -> None:
    """Copy the image weights by name and silence the temporal layers, so that training starts at the image model."""
    target = video_unet.state_dict()
    for name, weight in unet.state_dict().items():
        target[name] = weight.reshape(target[name].shape)  # 1x1 convolutions become linear layers
    for name in target:
        temporal = "temp_attentions" in name or "transformer_in" in name
        # Of a temporal convolution only the last layer: with the norm before it silent too, neither would ever learn.
        if (temporal and ".proj_out." in name) or ("temp_convs" in name and ".conv4.3." in name):
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
        picks = [(int(rng.integers(len(clips))), int(rng.integers(data.NUM_FRAMES))) for _ in range(size)]
        frames = np.stack([clip_frame(clips, i, moment) for i, moment in picks])
        depths = np.stack([clips.depths[i // data.SHARD_CLIPS][i % data.SHARD_CLIPS, moment] for i, moment in picks])
        pixels = (torch.from_numpy(frames).to(device).permute(0, 3, 1, 2).float() / 255 - mean) / std
        return pixels, torch.from_numpy(depths).to(device).float() / 255

    def loss_of_step() -> Tensor:
        pixels, depth = batch(in_a_step(DEPTHS, device))
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


def export(folder: Path, minutes: float, device: torch.device) -> None:  # noqa: ARG001 - one call for all stages
    """Write the trained components to `assets/toybox`; what is not trained yet is named, and stays there as it is."""
    for name in save_trained(folder, ASSETS / "toybox"):
        print(f"export: {name} is not trained yet", flush=True)


def take_shipped(folder: Path, minutes: float, device: torch.device) -> None:  # noqa: ARG001 - one call for all stages
    """Put the shipped weights into the training folder, so that more minutes carry on from them on any machine."""
    for name, component in networks.trainable(networks.build_family()).items():
        # In full precision: half is for shipping.
        component.from_pretrained(ASSETS / "toybox" / name).float().save_pretrained(folder / name)


def render_data(folder: Path, minutes: float, device: torch.device, most: int = TRAINING_CLIPS) -> None:  # noqa: ARG001 - one call for all stages
    """Render the training clips."""
    data.render_shards(folder / "clips", most, os.cpu_count() or 1, minutes=minutes)


def render_flow_data(folder: Path, minutes: float, device: torch.device) -> None:  # noqa: ARG001 - one call for all stages
    """Render the training clips of the second video model, which have a frame more."""
    data.render_shards(folder / flow.CLIPS, FLOW_CLIPS, os.cpu_count() or 1, flow.NUM_FRAMES, minutes)


def render_edits(folder: Path, minutes: float, device: torch.device) -> None:  # noqa: ARG001 - one call for all stages
    """Render edited frames of the training clips."""
    data.render_edits(folder / "edits", data.Clips(folder / "clips"), TRAINING_EDITS, os.cpu_count() or 1, minutes)


STAGES: dict[str, Callable[[Path, float, torch.device], None]] = {
    "shipped": take_shipped,
    "data": render_data,
    "more-data": partial(render_data, most=MORE_CLIPS),
    "vae": autoencoder.train_vae,
    "latents": autoencoder.encode_latents,
    "vae-decoder": autoencoder.train_decoder,
    "text-to-image": train_text_to_image,
    "controlnet-canny": partial(conditioned.train_controlnet, control_type="canny"),
    "controlnet-depth": partial(conditioned.train_controlnet, control_type="depth"),
    "t2i-adapter-canny": partial(conditioned.train_t2i_adapter, control_type="canny"),
    "t2i-adapter-depth": partial(conditioned.train_t2i_adapter, control_type="depth"),
    "edits": render_edits,
    "inpainting": conditioned.train_inpainting,
    "instruct-pix2pix": conditioned.train_instruct_pix2pix,
    "text-to-video": train_text_to_video,
    "depth-estimator": train_depth_estimator,
    "preview": preview.train_preview,
    "flow-data": render_flow_data,
    "flow-vae": flow.train_vae,
    "flow-latents": flow.encode_latents,
    "flow-transformer": flow.train_transformer,
    "export": export,
}


def main() -> None:
    """Run one stage, or all of them."""
    parser = argparse.ArgumentParser(prog="python -m bivdiff.toybox.train", description=__doc__)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--stage", choices=STAGES)
    what.add_argument("--all", action="store_true", help="train the whole family: each stage after those it waits for, "
                      "side by side where they can, with its share of the minutes; then pictures and scores. The same "
                      "command goes on where it stopped")  # fmt: skip
    parser.add_argument("--minutes", type=float, default=30, help="how long the stage, or all of them, train in all, "
                        "over all sittings. Loading, encoding and pictures come on top")  # fmt: skip
    parser.add_argument("--work", type=Path, default=CACHE / "toybox-training",
                        help="where clips, states, logs and pictures are kept")  # fmt: skip
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--side-by-side", type=int, help="stages at a time (default: 4 on a card, 1 on a processor)")
    parser.add_argument("--clips", type=int, default=4, help="evaluation scenes that the scores of --all are of, "
                        "0 for none (default: %(default)s)")  # fmt: skip
    args = parser.parse_args()
    device = torch.device(args.device)
    if args.all:
        side_by_side = args.side_by_side or (4 if device.type == "cuda" else 1)
        sys.exit(whole.train_all(args.work, args.minutes, device, side_by_side, args.clips))
    torch.manual_seed(0)
    STAGES[args.stage](args.work, args.minutes, device)


if __name__ == "__main__":
    main()
