"""Training stages of the networks that read a picture beside the noise."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import ControlNetModel, UNet2DConditionModel
from torch import Tensor, nn

from bivdiff.bridge.latents import latent_holes
from bivdiff.bridge.makers.inpaint import with_holes
from bivdiff.late import importing
from bivdiff.toybox import data, networks
from bivdiff.toybox.material import (
    EMPTY_PROMPTS,
    Material,
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
    to_frames,
    to_pixels,
    tokenize,
)
from bivdiff.toybox.trainer import Trainer

CANNY_LOW, CANNY_HIGH = (25, 60), (80, 140)  # the thresholds users may pick, drawn anew for every picture
BATCH = 24
NO_PICTURE = 0.05  # share of InstructPix2Pix's sources dropped, for its second guidance
ERASURES = 0.3  # share of the inpainting batch that learns to fill the place of an object with what is behind it
Steer = Callable[[Tensor, Tensor, Tensor, Tensor], dict[str, object]]


def train_controlnet(folder: Path, minutes: float, device: torch.device, control_type: str) -> None:
    """A ControlNet on the frozen image model."""
    unet, _ = load_image_model(folder, device)
    controlnet = networks.build_controlnet(unet).to(device).requires_grad_(True)
    wake(controlnet)

    def steer(latents: Tensor, timesteps: Tensor, embeds: Tensor, control: Tensor) -> dict[str, object]:
        down, mid = controlnet(latents, timesteps, embeds, control, return_dict=False)
        return {"down_block_additional_residuals": down, "mid_block_additional_residual": mid}

    _train_steering(f"controlnet-{control_type}", folder, minutes, device, control_type, controlnet, steer)


def train_t2i_adapter(folder: Path, minutes: float, device: torch.device, control_type: str) -> None:
    """A T2I-Adapter on the frozen image model."""
    adapter = networks.build_t2i_adapter().to(device)

    def steer(latents: Tensor, timesteps: Tensor, embeds: Tensor, control: Tensor) -> dict[str, object]:  # noqa: ARG001 - it reads the map alone
        return {"down_intrablock_additional_residuals": list(adapter(control))}

    _train_steering(f"t2i-adapter-{control_type}", folder, minutes, device, control_type, adapter, steer)


def _train_steering(
    stage: str, folder: Path, minutes: float, device: torch.device, control_type: str, network: nn.Module, steer: Steer
) -> None:
    """Train a network that steers the frozen image model by a control map."""
    material = load_material(folder, device)
    unet, text_encoder = load_image_model(folder, device)
    trainer = Trainer(stage, folder, {stage: network}, minutes, rate=1e-3)
    rng = np.random.default_rng(trainer.steps)

    count = in_a_step(BATCH, device)

    def control_of(indices: np.ndarray, moments: np.ndarray) -> Tensor:
        maps = [
            control_map(material.clips, i, moment, control_type, rng)
            for i, moment in zip(indices, moments, strict=True)
        ]
        return torch.from_numpy(np.stack(maps)).to(device)[:, None].repeat(1, 3, 1, 1) / 255.0

    def loss_of_step() -> Tensor:
        indices, moments = rng.integers(len(material.clips), size=count), rng.integers(data.NUM_FRAMES, size=count)
        with torch.no_grad():
            embeds = text_encoder(draw_captions(material, indices, rng, still=True)).last_hidden_state
        noisy, noise, timesteps, weights = noised(material, material.latents[indices, moments], early_steps=True)
        with half_precision(device):
            steering = steer(noisy, timesteps, embeds, control_of(indices, moments))
            noise_pred = unet(noisy, timesteps, embeds, **steering).sample
        return noise_loss(noise_pred, noise, weights, material.importance[indices, moments])

    def picture(path: Path) -> None:
        indices, moments = np.arange(8) * 37 % len(material.clips), np.full(8, 3)
        control = control_of(indices, moments)
        doubled = torch.cat([control, control])

        def predict(latents: Tensor, timestep: Tensor, embeds: Tensor) -> Tensor:
            return unet(latents, timestep, embeds, **steer(latents, timestep, embeds, doubled)).sample

        captions = [material.clips.scenes[i].caption for i in indices]
        truth = np.stack([clip_frame(material.clips, int(i), 3) for i in indices])
        made = sample(material, text_encoder, captions, len(captions), predict)
        save_sheet(path, np.stack([truth, to_frames(control * 2 - 1), made]))

    trainer.run(loss_of_step, picture)


def wake(controlnet: ControlNetModel) -> None:
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


def control_map(clips: data.Clips, index: int, moment: int, control_type: str, rng: np.random.Generator) -> np.ndarray:
    """The control map of one frame, float32 `(H, W)` in [0, 255], varied as it will be in use."""
    with importing():
        import cv2

    if control_type == "canny":
        frame = np.ascontiguousarray(clip_frame(clips, index, moment))
        return cv2.Canny(frame, rng.uniform(*CANNY_LOW), rng.uniform(*CANNY_HIGH)).astype(np.float32)
    depth = data.depth_maps(clips.depths[index // data.SHARD_CLIPS][index % data.SHARD_CLIPS])[moment]
    # Estimated maps are softer than the world's own, so the model meets both.
    return cv2.GaussianBlur(depth, (0, 0), rng.uniform(0.3, 2.0)) if rng.random() < 0.6 else depth


def widened(unet: nn.Module, in_channels: int) -> nn.Module:
    """A copy of the image model that reads more channels; it starts by ignoring the new ones."""
    wide = networks.build_unet(in_channels=in_channels)
    weights = unet.state_dict()
    entry = weights["conv_in.weight"]
    extra = torch.zeros(entry.shape[0], in_channels - entry.shape[1], *entry.shape[2:], device=entry.device)
    wide.load_state_dict({**weights, "conv_in.weight": torch.cat([entry, extra], 1)})
    return wide.to(entry.device).requires_grad_(True)


def _edited_latents(folder: Path, edits: data.Edits, material: Material) -> Tensor:
    """Scaled latents `(N, 4, 16, 16)` of the edited frames, encoded once and kept."""
    path = folder / "latents.npy"
    if not path.exists():
        parts = []
        for start in range(0, len(edits), 32):
            pixels = to_pixels(edits.frames[start : start + 32], material.device)
            with torch.inference_mode(), half_precision(material.device):
                parts.append(material.vae.encode(pixels).latent_dist.mode().half().cpu().numpy())
        np.save(path, np.concatenate(parts))
    return torch.from_numpy(np.load(path)).float().to(material.device) * material.vae.config.scaling_factor


def train_inpainting(folder: Path, minutes: float, device: torch.device) -> None:
    """The image model learns to fill a hole: nine channels, as Stable Diffusion's inpainting model."""
    material = load_material(folder, device)
    base, text_encoder = load_image_model(folder, device)
    edits = data.Edits(folder / "edits", material.clips)
    edited = _edited_latents(folder / "edits", edits, material)
    unet = widened(base, 9)
    trainer = Trainer("inpainting", folder, {"inpainting": unet}, minutes, rate=1e-3)
    rng = np.random.default_rng(trainer.steps)
    count = in_a_step(BATCH, device)
    erasures = round(count * ERASURES)

    def conditions(frames: np.ndarray, masks: np.ndarray) -> tuple[Tensor, Tensor]:
        """The mask at the latents' size and the latents of the frames with a grey hole."""
        with torch.no_grad(), half_precision(device):
            shown = to_pixels(with_holes(frames, masks), device)
            latents = material.vae.encode(shown).latent_dist.mode().float()
        return latent_holes(masks, latents), latents * material.vae.config.scaling_factor

    def batch() -> tuple[np.ndarray, np.ndarray, Tensor, list[str]]:
        """Frames, masks in 0 and 1, latents and captions."""
        indices, moments = (
            rng.integers(high, size=count - erasures) for high in (len(material.clips), data.NUM_FRAMES)
        )
        numbers = rng.choice(edits.removals, size=erasures)
        frames = [clip_frame(material.clips, i, moment) for i, moment in zip(indices, moments, strict=True)]
        masks = [draw_mask(edits, rng) for _ in indices] + [loosened(edits.removed[n] > 0, rng) for n in numbers]
        captions = [data.reworded(material.clips.scenes[i], rng, still=True) for i in indices]
        captions += [data.reworded(edits.edited_scene(n), rng, still=True) for n in numbers]
        captions = ["" if rng.random() < EMPTY_PROMPTS else caption for caption in captions]
        latents = torch.cat([material.latents[indices, moments], edited[numbers]])
        return np.concatenate([np.stack(frames), edits.frames[numbers]]), np.stack(masks), latents, captions

    def loss_of_step() -> Tensor:
        frames, masks, latents, captions = batch()
        hole, known = conditions(frames, masks)
        noisy, noise, timesteps, weights = noised(material, latents, early_steps=True)
        importance = 0.3 + F.max_pool2d(hole, 3, stride=1, padding=1)[:, 0]
        with torch.no_grad():
            embeds = text_encoder(tokenize(material, captions)).last_hidden_state
        with half_precision(device):
            noise_pred = unet(torch.cat([noisy, hole, known], 1), timesteps, embeds).sample
        return noise_loss(noise_pred, noise, weights, importance / importance.mean())

    def picture(path: Path) -> None:
        frames, masks, _, captions = batch()
        frames, masks, captions = frames[-12:], masks[-12:], captions[-12:]
        hole, known = conditions(frames, masks)
        extra = torch.cat([hole, known], 1).repeat(2, 1, 1, 1)

        def predict(latents: Tensor, timestep: Tensor, embeds: Tensor) -> Tensor:
            return unet(torch.cat([latents, extra], 1), timestep, embeds).sample

        shown = with_holes(frames, masks)
        save_sheet(path, np.stack([frames, shown, sample(material, text_encoder, captions, len(frames), predict)]))

    trainer.run(loss_of_step, picture)


def copying(filling: nn.Module, scaling_factor: float) -> nn.Module:
    """An 8-channel U-Net that starts by copying the picture beside the noise: the inpainting model, told of no hole.

    Started from the image model, it had learnt to follow the words in nine minutes, but not to look at the picture.
    """
    weights = filling.state_dict()
    noise, _, picture = weights["conv_in.weight"].split([4, 1, 4], dim=1)
    unet = networks.build_unet(in_channels=8)
    unet.load_state_dict({**weights, "conv_in.weight": torch.cat([noise, picture * scaling_factor], 1)})
    return unet.to(noise.device).requires_grad_(True)


def train_instruct_pix2pix(folder: Path, minutes: float, device: torch.device) -> None:
    """The image model learns to turn a frame into the one an instruction asks for (arXiv:2211.09800)."""
    material = load_material(folder, device)
    _, text_encoder = load_image_model(folder, device)
    edits = data.Edits(folder / "edits", material.clips)
    edited = _edited_latents(folder / "edits", edits, material)
    filling = UNet2DConditionModel.from_pretrained(folder / "inpainting").to(device)
    unet = copying(filling, material.vae.config.scaling_factor)
    trainer = Trainer("instruct-pix2pix", folder, {"instruct-pix2pix": unet}, minutes, rate=1e-3)
    rng = np.random.default_rng(trainer.steps)
    count = in_a_step(BATCH, device)
    unscaled = 1 / material.vae.config.scaling_factor  # the source is given as the autoencoder makes it

    def source_of(numbers: np.ndarray) -> Tensor:
        return material.latents[edits.clip_indices[numbers], edits.moments[numbers]] * unscaled

    def loss_of_step() -> Tensor:
        numbers = rng.integers(len(edits), size=count)
        source, target = source_of(numbers), edited[numbers]
        changed = (target - source / unscaled).abs().mean(1) > 0.25
        importance = 1 + 2 * F.max_pool2d(changed.float(), 3, stride=1, padding=1)
        noisy, noise, timesteps, weights = noised(material, target, early_steps=True)
        instructions = ["" if rng.random() < EMPTY_PROMPTS else edits.wording(number, rng) for number in numbers]
        shown = torch.from_numpy((rng.random(count) >= NO_PICTURE).astype(np.float32)).to(device)
        with torch.no_grad():
            embeds = text_encoder(tokenize(material, instructions)).last_hidden_state
        with half_precision(device):
            noise_pred = unet(torch.cat([noisy, source * shown.view(-1, 1, 1, 1)], 1), timesteps, embeds).sample
        return noise_loss(noise_pred, noise, weights, importance / importance.mean())

    def picture(path: Path) -> None:
        numbers = np.arange(8)
        source = source_of(numbers)
        doubled = torch.cat([source, source])

        def predict(latents: Tensor, timestep: Tensor, embeds: Tensor) -> Tensor:
            return unet(torch.cat([latents, doubled], 1), timestep, embeds).sample

        made = sample(material, text_encoder, [edits.instructions[n] for n in numbers], len(numbers), predict)
        save_sheet(path, np.stack([np.stack([edits.source(int(n)) for n in numbers]), edits.frames[numbers], made]))

    trainer.run(loss_of_step, picture)


def draw_mask(edits: data.Edits, rng: np.random.Generator) -> np.ndarray:
    """A hole as people make them, float32 `(H, W)`, 1 inside: a box, an ellipse, a solid's outline, or the rim."""
    with importing():
        import cv2

    size = data.SIZE
    mask = np.zeros((size, size), np.float32)
    kind = rng.random()
    if kind < 0.3:  # the outline of a solid, wherever it stood: a hole must not promise an object
        return loosened(edits.removed[rng.choice(edits.removals)] > 0, rng)
    if kind < 0.7:
        width, height = rng.integers(size // 6, int(size * 0.7), 2)
        left, top = rng.integers(0, size - width), rng.integers(0, size - height)
        if kind < 0.5:
            mask[top : top + height, left : left + width] = 1
        else:
            center, axes = (int(left + width // 2), int(top + height // 2)), (int(width // 2), int(height // 2))
            cv2.ellipse(mask, center, axes, 0, 0, 360, 1, -1)
        return mask
    sides = np.where(rng.random(4) < 0.5, rng.integers(8, int(size * 0.4), 4), 0)
    sides[rng.integers(4)] = rng.integers(16, int(size * 0.45))
    left, top, right, bottom = sides
    mask[:] = 1
    mask[top : size - bottom, left : size - right] = 0
    return mask


def loosened(inside: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A mask `(H, W)` as a hand would draw it around an object: grown by a few pixels, float32, 1 inside."""
    with importing():
        import cv2

    width = 2 * int(rng.integers(2, 9)) + 1
    return cv2.dilate(inside.astype(np.float32), cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (width, width)))
