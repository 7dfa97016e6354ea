"""Networks that lie in one file of weights: checkpoints of Stable Diffusion 1.x, ControlNets, adapters, motion modules.

Such a file has no config. Which shape a network has follows from its weights; diffusers' own converters rename them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from diffusers.loaders.single_file_utils import (
    convert_animatediff_checkpoint_to_diffusers,
    convert_controlnet_checkpoint,
    convert_ldm_clip_checkpoint,
    convert_ldm_unet_checkpoint,
    convert_ldm_vae_checkpoint,
)
from torch import Tensor, nn

from bivdiff.errors import ModelUnavailableError
from bivdiff.models.architectures import (
    CLIP_VIT_L,
    CONTROLNET,
    MOTION_ADAPTER,
    SD15_UNET,
    SD15_VAE,
    T2I_ADAPTER,
    Architecture,
    build_empty,
)
from bivdiff.models.weight_files import Contents, contents_of, kind_of, read_weights

PartName = Literal["unet", "vae", "text_encoder", "controlnet", "t2i_adapter", "motion_unet"]

_UNET_PREFIX = "model.diffusion_model."
_NEEDED = "This family needs Stable Diffusion 1.5 or a model fine-tuned from it."
_TEXT_LAYERS = ("embeddings.", "encoder.", "final_layer_norm.")
_XL, _TWO = "Stable Diffusion XL", "Stable Diffusion 2"
_OTHERS_BY_NAME = {
    "conditioner.embedders.": _XL,
    f"{_UNET_PREFIX}label_emb.": _XL,
    "control_model.label_emb.": _XL,
    "add_embedding.": _XL,
    "cond_stage_model.model.": _TWO,
    f"{_UNET_PREFIX}joint_blocks.": "Stable Diffusion 3",
    f"{_UNET_PREFIX}double_blocks.": "Flux",
}
"""Other models, by how the name of a weight starts that only they have."""

_OTHERS_BY_WIDTH = {1024: _TWO, 1280: _XL, 2048: _XL}
"""Other models, by the width of the text embeddings that their U-Nets read."""


Weights = dict[str, Tensor]


def _unet(weights: Weights, _: str) -> Architecture:
    channels = weights[f"{_UNET_PREFIX}input_blocks.0.0.weight"].shape[1]
    return Architecture("diffusers", "UNet2DConditionModel", {**SD15_UNET, "in_channels": channels})


def _vae(_: Weights, _name: str) -> Architecture:
    return Architecture("diffusers", "AutoencoderKL", SD15_VAE)


def _text_encoder(_: Weights, _name: str) -> Architecture:
    return Architecture("transformers", "CLIPTextModel", CLIP_VIT_L)


def _controlnet(_: Weights, name: str) -> Architecture:
    # Of the published ones that of shuffled pictures alone pools what it adds, and no weight of it says so.
    pooled = {"global_pool_conditions": "shuffle" in name.lower()}
    return Architecture("diffusers", "ControlNetModel", {**CONTROLNET, **pooled})


def _t2i_adapter(weights: Weights, _: str) -> Architecture:
    read = next(weight for name, weight in weights.items() if name.removeprefix("adapter.") == "conv_in.weight").shape[
        1
    ]
    channels = read // T2I_ADAPTER["downscale_factor"] ** 2
    return Architecture("diffusers", "T2IAdapter", {**T2I_ADAPTER, "in_channels": channels})


def _motion_adapter(weights: Weights, _: str) -> Architecture:
    seen = [weight.shape[1] for name, weight in weights.items() if name.endswith(("pos_encoder.pe", "pos_embed.pe"))]
    more: dict[str, Any] = {"use_motion_mid_block": any(name.startswith("mid_block.") for name in weights)}
    more |= {"motion_max_seq_length": seen[0]} if seen else {}
    return Architecture("diffusers", "MotionAdapter", {**MOTION_ADAPTER, **more})


def _convert_text_encoder(weights: Weights, _: Mapping[str, Any]) -> Weights:
    # transformers 5 names the text model's layers without the model that was around it. That brings things of its own,
    # such as a projection and the numbers of positions, which a text encoder has no use for.
    names = {name.removeprefix("text_model."): weight for name, weight in convert_ldm_clip_checkpoint(weights).items()}
    names.pop("embeddings.position_ids", None)
    return {name: weight for name, weight in names.items() if name.startswith(_TEXT_LAYERS)}


def _convert_t2i_adapter(weights: Weights, config: Mapping[str, Any]) -> Weights:
    """From the names of T2I-Adapter's own code, which counts the blocks of all levels in one row."""
    if any(name.startswith("adapter.") for name in weights):
        return weights

    def renamed(match: re.Match[str]) -> str:
        level, block = divmod(int(match[1]), config["num_res_blocks"])
        return f"body.{level}.in_conv." if match[2] == "in_conv" else f"body.{level}.resnets.{block}.{match[2]}."

    known = re.compile(r"^body\.(\d+)\.(in_conv|block1|block2)\.")
    return {f"adapter.{known.sub(renamed, name)}": weight for name, weight in weights.items()}


def _convert_motion_adapter(weights: Weights, _: Mapping[str, Any]) -> Weights:
    found: Weights = convert_animatediff_checkpoint_to_diffusers(weights)
    return found


class _Part(NamedTuple):
    """What a component is called, how the names of its weights start, its shape, and what renames its weights.

    Attributes:
        title: in words.
        prefix: of the names in a file that holds other components too; empty where none does.
        kind: what `kind_of` has to say of a file that holds it alone.
        architecture: of weights, and the name of their file.
        convert: from the layout of the file to that of the network with a config.
    """

    title: str
    prefix: str
    kind: str
    architecture: Callable[[Weights, str], Architecture]
    convert: Callable[[Weights, Mapping[str, Any]], Weights]


_WHOLE = "a whole checkpoint"
_PARTS: Mapping[str, _Part] = {
    "unet": _Part("U-Net", _UNET_PREFIX, _WHOLE, _unet, convert_ldm_unet_checkpoint),
    "vae": _Part("autoencoder", "first_stage_model.", _WHOLE, _vae, convert_ldm_vae_checkpoint),
    "text_encoder": _Part(
        "text encoder", "cond_stage_model.transformer.", _WHOLE, _text_encoder, _convert_text_encoder
    ),
    "controlnet": _Part("ControlNet", "", "a ControlNet", _controlnet, convert_controlnet_checkpoint),
    "t2i_adapter": _Part("T2I-Adapter", "", "a T2I-Adapter", _t2i_adapter, _convert_t2i_adapter),
    "motion_unet": _Part(
        "motion module", "", "motion modules of AnimateDiff", _motion_adapter, _convert_motion_adapter
    ),
}  # fmt: skip
_FIELDS = {"a LoRA": "loras", "a LyCORIS LoHa": "loras", "a LyCORIS LoKr": "loras", "a textual inversion": "embeddings"}
"""Where to name a file that is something else."""


def prefix_of(part: str) -> str:
    """How the names of a component's weights begin in such a file."""
    return _PARTS[part].prefix


def read_part(path: str | Path, part: PartName) -> nn.Module:
    """Read one component of a file; the others' weights are left on the disk.

    Args:
        path: the file, a .safetensors or a pickle of tensors.
        part: which component. A U-Net or T2I-Adapter may have any number of input channels.

    Returns:
        A network of its kind on the CPU, in the dtype of the file; of motion modules the MotionAdapter.

    Raises:
        ModelUnavailableError: the file is missing, damaged, of another model, or without that component.
    """
    path = Path(path)
    contents = contents_of(path)
    _check_model(path, contents)
    if not _PARTS[part].prefix:
        _check_kind(path, contents, part)
    _check_prediction(path, contents)
    return _build(path, read_weights(path, _PARTS[part].prefix), part, contents)


def _check_model(path: Path, contents: Contents) -> None:
    """Refuse relatives of other shapes, which would fail for a reason that says little."""
    names, known = contents.shapes, _OTHERS_BY_NAME.items()
    other = next((model for start, model in known if any(name.startswith(start) for name in names)), None)
    reading = next((shape for name, shape in names.items() if name.endswith("attn2.to_k.weight")), ())
    if len(reading) == 2 and not other:
        other = _OTHERS_BY_WIDTH.get(reading[1])
    if other:
        raise ModelUnavailableError(f"The file '{path.name}' is a checkpoint of {other}. {_NEEDED}")


def _check_kind(path: Path, contents: Contents, part: PartName) -> None:
    """Refuse a file that holds something else, by its name where that is known."""
    kind, wanted = kind_of(contents.shapes), _PARTS[part]
    if kind != wanted.kind:
        raise ModelUnavailableError(
            f"The file '{path.name}' holds no {wanted.title}{_instead(kind)}. Give the file of a {wanted.title} for "
            "Stable Diffusion 1.5, or a folder in diffusers' layout."
        )


def _instead(kind: str) -> str:
    """What a file is, and where it can be named, behind the words that say what it is not."""
    place = f", which is named in the field '{_FIELDS[kind]}'" if kind in _FIELDS else ""
    return f"; it is {kind}{place}" if kind else ""


def _check_prediction(path: Path, contents: Contents) -> None:
    """Refuse a model that says of itself that it predicts no noise: the file says nothing of its schedule."""
    predicted = contents.metadata.get("modelspec.prediction_type", "epsilon")
    if predicted == "epsilon" and "v_pred" in contents.shapes:
        predicted = "v_pred"
    if predicted != "epsilon":
        raise ModelUnavailableError(
            f"The model in the file '{path.name}' predicts velocities ('{predicted}'), "
            "and a single file does not hold the schedule that goes with it. Give the model as a folder or repository "
            "in diffusers' layout, whose scheduler_config.json holds it."
        )


def _build(path: Path, weights: Weights, part: PartName, contents: Contents) -> nn.Module:
    title, prefix, _, architecture_of, convert = _PARTS[part]
    if not weights:
        raise ModelUnavailableError(
            f"The file '{path.name}' holds no {title}: no weight's name in it starts with '{prefix}', as in a "
            f"checkpoint in Stable Diffusion's original layout{_instead(kind_of(contents.shapes))}. Choose one that "
            "holds the whole model."
        )
    try:
        weights = {name.removeprefix("module."): weight for name, weight in weights.items()}
        architecture = architecture_of(weights, path.name)
        network = build_empty(architecture)
        missing, strange = network.load_state_dict(convert(weights, architecture.config), strict=False, assign=True)
        # Buffers, such as the numbers of places, are made with the network.
        missing = [name for name in missing if name not in dict(network.named_buffers())]
        if missing or strange:
            raise LookupError(f"'{(missing or strange)[0]}' is {'missing' if missing else 'not known'}.")
    except (LookupError, RuntimeError, StopIteration) as error:
        reason = str(error).strip().split("\n")[-1].strip()
        raise ModelUnavailableError(
            f"The {title} in the file '{path.name}' is not of Stable Diffusion 1.5's shape: {reason} {_NEEDED}"
        ) from error
    return network.eval().requires_grad_(False)
