"""Video models with latents of their own, which go with the image models of every family."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bivdiff.catalog.specs import ModelSpec, VideoModel

_UMT5_XXL = 5_680_910_336


def _wan(
    name: str, repo: str, *, numbers: int, vae_numbers: int, size: tuple[int, int], num_frames: int, multiple: int
) -> VideoModel:
    """A model of the Wan family; numbers are those of the weights of its transformer and of its autoencoder."""

    def part(role: str, kind: str, folder: str, **more: Any) -> ModelSpec:
        return ModelSpec(
            key=f"{name}/{role}", kind=kind, repo=repo, folder=folder, licence="apache-2.0",
            checked="id, layout and licence; bytes from the number of parameters; not its files", **more,
        )  # fmt: skip

    return VideoModel(
        unet=part(
            "transformer", "wan_transformer", "transformer", bytes=4 * numbers, bytes_per_number=4, size=size,
            num_frames=num_frames,
        ),
        text_encoder=part("text-encoder", "umt5_encoder", "text_encoder", bytes=2 * _UMT5_XXL),
        tokenizer=part("tokenizer", "t5_tokenizer", "tokenizer"),
        scheduler=part("scheduler", "flow_scheduler", "scheduler"),
        vae=part("vae", "wan_vae", "vae", bytes=4 * vae_numbers, bytes_per_number=4),
        group=4, multiple=multiple,
    )  # fmt: skip


WITH_LATENTS_OF_THEIR_OWN: Mapping[str, VideoModel] = {
    "wan2.1-1.3b": _wan(
        "wan2.1-1.3b", "Wan-AI/Wan2.1-T2V-1.3B-Diffusers", numbers=1_418_996_800, vae_numbers=126_892_531,
        size=(832, 480), num_frames=81, multiple=16,
    ),
    "wan2.1-14b": _wan(
        "wan2.1-14b", "Wan-AI/Wan2.1-T2V-14B-Diffusers", numbers=14_288_491_584, vae_numbers=126_892_531,
        size=(832, 480), num_frames=81, multiple=16,
    ),
    "wan2.2-5b": _wan(
        "wan2.2-5b", "Wan-AI/Wan2.2-TI2V-5B-Diffusers", numbers=4_999_787_712, vae_numbers=704_688_668,
        size=(1280, 704), num_frames=121, multiple=32,
    ),
}  # fmt: skip
