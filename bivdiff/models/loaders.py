"""How each kind of component is read from a folder in diffusers' layout.

In it: one loader per kind, and the sentence a user gets when a folder cannot be loaded.
Not in it: caching and placement (manager.py), which components there are (catalog.py).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from bivdiff.errors import ModelUnavailableError


def _diffusers(class_name: str) -> Callable[[Path, torch.dtype], Any]:
    def load(folder: Path, dtype: torch.dtype) -> torch.nn.Module:
        import diffusers

        model = getattr(diffusers, class_name).from_pretrained(folder, torch_dtype=dtype, local_files_only=True)
        return model.eval().requires_grad_(False)

    return load


def _transformers(class_name: str) -> Callable[[Path, torch.dtype], Any]:
    def load(folder: Path, dtype: torch.dtype) -> torch.nn.Module:
        import transformers

        model = getattr(transformers, class_name).from_pretrained(folder, dtype=dtype, local_files_only=True)
        return model.eval().requires_grad_(False)

    return load


def _tokenizer(folder: Path, _: torch.dtype) -> Any:
    from transformers import CLIPTokenizer

    return CLIPTokenizer.from_pretrained(folder, local_files_only=True)


def _scheduler(folder: Path, _: torch.dtype) -> Any:
    from diffusers import DDIMScheduler

    return DDIMScheduler.from_pretrained(folder, local_files_only=True)


LOADERS: dict[str, Callable[[Path, torch.dtype], Any]] = {
    "vae": _diffusers("AutoencoderKL"),
    "unet": _diffusers("UNet2DConditionModel"),
    "video_unet": _diffusers("UNet3DConditionModel"),
    "controlnet": _diffusers("ControlNetModel"),
    "text_encoder": _transformers("CLIPTextModel"),
    "depth_estimator": _transformers("DepthAnythingForDepthEstimation"),
    "tokenizer": _tokenizer,
    "scheduler": _scheduler,
}


def load_component(kind: str, folder: Path, dtype: torch.dtype) -> Any:
    """Load a component on the CPU.

    Args:
        kind: key of `LOADERS`.
        folder: its folder, in diffusers' layout.
        dtype: of the weights.

    Raises:
        ModelUnavailableError: the folder is missing, or what it holds is broken or of another architecture.
    """
    if not folder.is_dir():
        raise ModelUnavailableError(f"The model folder '{folder.name}' is missing. Reinstall the app's assets folder.")
    try:
        return LOADERS[kind](folder, dtype)
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        reason = str(error).strip().split("\n")[0]
        raise ModelUnavailableError(
            f"The model in '{folder.name}' could not be loaded as {kind}: {reason} "
            "The files are incomplete or of another architecture; fetch them again."
        ) from error
