"""Pipelines of diffusers in folders: the toybox's networks put together as other people's pipelines are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import (
    ControlNetModel,
    StableDiffusionInpaintPipeline,
    StableDiffusionInstructPix2PixPipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from bivdiff.catalog.families import family_named
from bivdiff.catalog.image_models import OWN_UNET
from bivdiff.models.manager import ModelManager


def save_pipelines(folder: Path, manager: ModelManager) -> dict[str, dict[str, str]]:
    """Save a pipeline for each image model that is one; returns the fields by which a request names it."""
    kinds = {
        "control-pipeline": (StableDiffusionPipeline, ""),
        "edit-pipeline": (StableDiffusionInstructPix2PixPipeline, "instruct-pix2pix"),
        "fill-pipeline": (StableDiffusionInpaintPipeline, "inpainting"),
    }
    named = {
        name: {"pipeline": str(save_pipeline(kind, folder / name, manager, own_unet))}
        for name, (kind, own_unet) in kinds.items()
    }
    named["control-pipeline"]["pipeline_controlnet"] = str(save_controlnet(folder / "canny", manager))
    return named


def save_pipeline(
    pipeline_class: Any, folder: Path, manager: ModelManager, image_model: str = "", **others: Any
) -> Path:
    """Save the toybox as a pipeline, with `others` beside its parts: its base model, or an image model's own U-Net."""
    family = family_named("toybox")
    unet = family.networks_of(image_model)[OWN_UNET] if image_model else family.unet
    with manager.hold(family.vae, family.text_encoder, family.tokenizer, unet, family.scheduler) as parts:
        names = ("vae", "text_encoder", "tokenizer", "unet", "scheduler")
        pipeline = pipeline_class(
            **dict(zip(names, parts, strict=True)), safety_checker=None, feature_extractor=None,
            requires_safety_checker=False, **others,
        )  # fmt: skip
        pipeline.save_pretrained(folder)
    return folder


def save_controlnet(folder: Path, manager: ModelManager, control_type: str = "canny") -> Path:
    """Save one of the toybox's ControlNets by itself."""
    with manager.hold(family_named("toybox").networks_of("controlnet")[control_type]) as (controlnet,):
        controlnet.save_pretrained(folder)
    return folder


def save_small_sdxl(folder: Path, controlnet_folder: Path, manager: ModelManager) -> None:
    """Save a Stable Diffusion XL with random weights and the toybox's words and latents, and a ControlNet for it.

    It has what its kind has and others have not: two text encoders, pooled words, and sizes among its conditions.
    """
    torch.manual_seed(0)
    family = family_named("toybox")
    blocks = {
        "sample_size": 8, "block_out_channels": (32, 64), "layers_per_block": 1, "attention_head_dim": (2, 4),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"), "transformer_layers_per_block": (1, 2),
        "addition_embed_type": "text_time", "addition_time_embed_dim": 8, "use_linear_projection": True,
        "projection_class_embeddings_input_dim": 6 * 8 + 32, "cross_attention_dim": 64,
    }  # fmt: skip
    words = CLIPTextConfig(
        vocab_size=735, hidden_size=32, intermediate_size=37, num_attention_heads=4, num_hidden_layers=2,
        projection_dim=32, max_position_embeddings=32, bos_token_id=733, eos_token_id=734, pad_token_id=734,
    )  # fmt: skip
    unet = UNet2DConditionModel(**blocks, up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"))
    with manager.hold(family.vae, family.tokenizer, family.scheduler) as (vae, tokenizer, scheduler):
        StableDiffusionXLPipeline(
            vae=vae, text_encoder=CLIPTextModel(words), text_encoder_2=CLIPTextModelWithProjection(words),
            tokenizer=tokenizer, tokenizer_2=tokenizer, unet=unet, scheduler=scheduler,
        ).save_pretrained(folder)  # fmt: skip
    controlnet = ControlNetModel(
        **{name: value for name, value in blocks.items() if name != "sample_size"},
        conditioning_embedding_out_channels=(8, 8, 16, 16),
    )
    for parameter in controlnet.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1)  # its last layers are zero before they are trained
    controlnet.save_pretrained(controlnet_folder)
