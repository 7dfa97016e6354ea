"""Pipelines of diffusers in folders: the toybox's networks put together as other people's pipelines are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bivdiff.catalog.families import family_named
from bivdiff.catalog.image_models import OWN_UNET
from bivdiff.models.manager import ModelManager


def save_pipeline(pipeline_class: Any, folder: Path, manager: ModelManager, image_model: str = "") -> Path:
    """Save the toybox as a pipeline: its base model, or the U-Net of one of its image models."""
    family = family_named("toybox")
    unet = family.networks_of(image_model)[OWN_UNET] if image_model else family.unet
    with manager.hold(family.vae, family.text_encoder, family.tokenizer, unet, family.scheduler) as parts:
        names = ("vae", "text_encoder", "tokenizer", "unet", "scheduler")
        pipeline = pipeline_class(
            **dict(zip(names, parts, strict=True)), safety_checker=None, feature_extractor=None,
            requires_safety_checker=False,
        )  # fmt: skip
        pipeline.save_pretrained(folder)
    return folder
