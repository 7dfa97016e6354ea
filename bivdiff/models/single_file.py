"""Stable Diffusion 1.x checkpoints that hold the whole model in one file, in the layout it was trained in."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from diffusers.loaders.single_file_utils import (
    convert_ldm_clip_checkpoint,
    convert_ldm_unet_checkpoint,
    convert_ldm_vae_checkpoint,
)
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from bivdiff.errors import ModelUnavailableError
from bivdiff.models.architectures import CLIP_VIT_L, SD15_UNET, SD15_VAE, Architecture, build_empty

PartName = Literal["unet", "vae", "text_encoder"]

_UNET_PREFIX = "model.diffusion_model."
_NEEDED = "This family needs Stable Diffusion 1.5 or a model fine-tuned from it."
_XL, _TWO = "Stable Diffusion XL", "Stable Diffusion 2"
_OTHERS_BY_NAME = {
    "conditioner.embedders.": _XL,
    f"{_UNET_PREFIX}label_emb.": _XL,
    "cond_stage_model.model.": _TWO,
    f"{_UNET_PREFIX}joint_blocks.": "Stable Diffusion 3",
    f"{_UNET_PREFIX}double_blocks.": "Flux",
}
"""Other models, by how the name of a weight starts that only they have."""

_OTHERS_BY_WIDTH = {1024: _TWO, 1280: _XL, 2048: _XL}
"""Other models, by the width of the text embeddings that their U-Nets read."""


def _unet(weights: dict[str, Tensor]) -> Architecture:
    channels = weights[f"{_UNET_PREFIX}input_blocks.0.0.weight"].shape[1]
    return Architecture("diffusers", "UNet2DConditionModel", {**SD15_UNET, "in_channels": channels})


def _vae(_: dict[str, Tensor]) -> Architecture:
    return Architecture("diffusers", "AutoencoderKL", SD15_VAE)


def _text_encoder(_: dict[str, Tensor]) -> Architecture:
    return Architecture("transformers", "CLIPTextModel", CLIP_VIT_L)


def _convert_text_encoder(weights: dict[str, Tensor], _: Mapping[str, Any]) -> dict[str, Tensor]:
    # transformers 5 names the text model's layers without the model that was around it, and saves no position numbers.
    names = {name.removeprefix("text_model."): weight for name, weight in convert_ldm_clip_checkpoint(weights).items()}
    names.pop("embeddings.position_ids", None)
    return names


class _Part(NamedTuple):
    """What a component is called, how the names of its weights start, its shape, and diffusers' converter."""

    title: str
    prefix: str
    architecture: Callable[[dict[str, Tensor]], Architecture]
    convert: Callable[[dict[str, Tensor], Mapping[str, Any]], dict[str, Tensor]]


_PARTS: Mapping[str, _Part] = {
    "unet": _Part("U-Net", _UNET_PREFIX, _unet, convert_ldm_unet_checkpoint),
    "vae": _Part("autoencoder", "first_stage_model.", _vae, convert_ldm_vae_checkpoint),
    "text_encoder": _Part("text encoder", "cond_stage_model.transformer.", _text_encoder, _convert_text_encoder),
}


def prefix_of(part: str) -> str:
    """How the names of a component's weights begin in such a file."""
    return _PARTS[part].prefix


def read_part(path: str | Path, part: PartName) -> nn.Module:
    """Read one component of a checkpoint; the others' weights are left on the disk.

    Args:
        path: a .safetensors file.
        part: which component. A U-Net may have any number of input channels.

    Returns:
        A UNet2DConditionModel, AutoencoderKL or CLIPTextModel on the CPU, in the dtype of the file.

    Raises:
        ModelUnavailableError: the file is missing, damaged, of another model, or without that component.
    """
    path = Path(path)
    try:
        with safe_open(path, "pt") as file:
            names = list(file.keys())
            _check_model(path, file, names)
            _check_prediction(path, file, names)
            weights = {name: file.get_tensor(name) for name in names if name.startswith(_PARTS[part].prefix)}
    except (OSError, SafetensorError) as error:
        raise ModelUnavailableError(
            f"The file '{path.name}' cannot be read: {str(error).rstrip('.')}. It is incomplete, damaged or no "
            ".safetensors file; download it again."
        ) from error
    return _build(path, weights, part)


def _check_model(path: Path, file: Any, names: Sequence[str]) -> None:
    """Refuse relatives of other shapes, which would fail for a reason that says little."""
    known = _OTHERS_BY_NAME.items()
    other = next((model for start, model in known if any(name.startswith(start) for name in names)), None)
    reading = next((name for name in names if name.startswith(_UNET_PREFIX) and name.endswith("attn2.to_k.weight")), "")
    if reading and not other:
        other = _OTHERS_BY_WIDTH.get(file.get_slice(reading).get_shape()[1])
    if other:
        raise ModelUnavailableError(f"The file '{path.name}' is a checkpoint of {other}. {_NEEDED}")


def _check_prediction(path: Path, file: Any, names: Sequence[str]) -> None:
    """Refuse a model that says of itself that it predicts no noise: the file says nothing of its schedule."""
    predicted = (file.metadata() or {}).get("modelspec.prediction_type", "epsilon")
    if predicted == "epsilon" and "v_pred" in names:
        predicted = "v_pred"
    if predicted != "epsilon":
        raise ModelUnavailableError(
            f"The model in the file '{path.name}' predicts velocities ('{predicted}'), "
            "and a single file does not hold the schedule that goes with it. Give the model as a folder or repository "
            "in diffusers' layout, whose scheduler_config.json holds it."
        )


def _build(path: Path, weights: dict[str, Tensor], part: PartName) -> nn.Module:
    title, prefix, architecture_of, convert = _PARTS[part]
    if not weights:
        raise ModelUnavailableError(
            f"The file '{path.name}' holds no {title}: no weight's name in it starts with '{prefix}', as in a "
            "checkpoint in Stable Diffusion's original layout. Choose one that holds the whole model."
        )
    try:
        architecture = architecture_of(weights)
        network = build_empty(architecture)
        network.load_state_dict(convert(weights, architecture.config), strict=True, assign=True)
    except (LookupError, RuntimeError) as error:
        reason = str(error).strip().split("\n")[-1].strip()
        raise ModelUnavailableError(
            f"The {title} in the file '{path.name}' is not of Stable Diffusion 1.5's shape: {reason} {_NEEDED}"
        ) from error
    return network.eval().requires_grad_(False)
