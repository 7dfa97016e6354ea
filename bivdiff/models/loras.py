"""LoRAs and their relatives, as trainers write them: merged into the layers that they were made for.

The change of a layer is a product of small matrices, and the formulas are the trainers' own; tests hold them to peft
and diffusers. Their loaders are not used: they know half of the layouts that are about, and drop what they do not know.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from bivdiff.errors import ModelUnavailableError
from bivdiff.models.weight_files import Contents, contents_of, kind_of, read_weights

_XL, _TWO = "Stable Diffusion XL", "Stable Diffusion 2"
_WIDTHS = {768: "Stable Diffusion 1", 1024: _TWO, 2048: _XL}
"""Base models, by the width of the words that their U-Nets read."""
_OTHERS = (
    (r"^(lora_te2_|text_encoder_2\.)|add_embedding|label_emb", _XL),
    (r"^(lora_te3_|text_encoder_3\.)|joint_blocks", "Stable Diffusion 3"),
    (r"double_blocks|single_transformer_blocks|single_blocks", "Flux"),
)
"""Base models, by what the name of a layer holds that only they have."""

_ROLES = (
    (r"(?:[._]lora[._](?:A|down)|\.lora_linear_layer\.down)(?:\.default)?\.weight$", "down"),
    (r"(?:[._]lora[._](?:B|up)|\.lora_linear_layer\.up)(?:\.default)?\.weight$", "up"),
    (r"[._]lora_B(?:\.default)?\.bias$", "bias"),
    (r"\.lora_mid\.weight$", "mid"),
    (r"\.dora_scale$", "scale"),
    (r"\.lora_magnitude_vector(?:\.default)?(?:\.weight)?$", "magnitude"),
    (r"(?:[._]lora)?\.alpha$", "alpha"),
    (r"\.hada_(w[12]_[ab]|t[12])(?:\.default)?$", "loha"),
    (r"\.lokr_(w[12](?:_[ab])?|t2)(?:\.default)?$", "lokr"),
)
"""What a weight is to its layer, by the end of its name; the rest of the name is the layer's."""

_READ = ("a LoRA", "a LyCORIS LoHa", "a LyCORIS LoKr")
_PARTS = {"unet": "U-Net", "text_encoder": "text encoder"}
_WORDS_OF_ITS_OWN = "bundle_emb."
_READS_WORDS = re.compile(r"attn2[._](processor\.)?to_[kv]")
_WRAPPED = re.compile(r"^(base_model\.model\.|module\.|diffusion_model\.|unet\.|lora_unet_|lycoris_)")
_TEXT = re.compile(r"^(text_encoder\.|lora_te1?_)")
_OF_TEXT = ("text_model_", "encoder_layers_")
_ORIGINAL = ("input_blocks_", "middle_block_", "output_blocks_")
_ORIGINAL_NAMES = (
    ("input_blocks", "down_blocks"), ("middle_block", "mid_block"), ("output_blocks", "up_blocks"),
    ("in_layers_2", "conv1"), ("out_layers_3", "conv2"), ("emb_layers_1", "time_emb_proj"),
    ("skip_connection", "conv_shortcut"), ("downsamplers_0_op", "downsamplers_0_conv"),
)  # fmt: skip
_CONFIG = "adapter_config.json"
"""What peft writes beside its weights."""


class MisfitError(Exception):
    """Why an adapter cannot be put on a network, as the middle of a sentence to the user."""


@dataclass
class _Layer:
    """What a file has for one layer: the name that it gives it, its matrices by their role, and its alpha."""

    name: str
    matrices: dict[str, Tensor] = field(default_factory=dict)
    alpha: float | None = None


class _Adapter(NamedTuple):
    """What a file holds.

    Attributes:
        layers: for the U-Net and for the text encoder, by their names with underscores for dots.
        settings: peft's, for each of the two.
        base: the base model that it was made for, where that is known.
    """

    layers: Mapping[str, Mapping[str, _Layer]]
    settings: Mapping[str, Mapping[str, Any]]
    base: str


def merge_loras(network: nn.Module, part: str, loras: Sequence[tuple[Path, float]]) -> nn.Module:
    """Add LoRAs, DoRAs, LoHas or LoKrs to a network's own weights.

    Args:
        network: a UNet2DConditionModel or CLIPTextModel; changed in place.
        part: which of the two it is, "unet" or "text_encoder". A file may have layers for either or both.
        loras: files, each with its scale.

    Raises:
        ModelUnavailableError: one cannot be read, or was made for another model.
    """
    for path, scale in loras:
        with _told(path, part):
            _merge(network, part, _read(path), scale)
    return network


def note_on(path: Path) -> str:
    """A sentence on what a LoRA's file holds and is not read; empty where that is nothing.

    Raises:
        ModelUnavailableError: the file cannot be read.
    """
    words = sorted({name.split(".")[1] for name in contents_of(path).shapes if name.startswith(_WORDS_OF_ITS_OWN)})
    if not words:
        return ""
    return (
        f"The LoRA '{path.name}' brings words of its own ({', '.join(words)}), which are not read out of it. Give them "
        "as textual inversion, or do without."
    )


@contextmanager
def _told(path: Path, part: str) -> Iterator[None]:
    try:
        yield
    except MisfitError as error:
        raise ModelUnavailableError(
            f"The LoRA '{path}' cannot be put on the {_PARTS[part]}: {error}. Take it out, or give one for "
            "this base model."
        ) from error


def _read(path: Path) -> _Adapter:
    contents = contents_of(path)
    names = [name for name in contents.shapes if not name.startswith(_WORDS_OF_ITS_OWN)]
    _check_kind(names, contents)
    layers: dict[str, dict[str, _Layer]] = {"unet": {}, "text_encoder": {}}
    weights = read_weights(path)
    for name in names:
        stem, role = _split(name) or ("", "")
        part, flat = _place(stem)
        layer = layers[part].setdefault(flat, _Layer(stem))
        if role == "alpha":
            layer.alpha = float(weights[name])
        else:
            layer.matrices[role] = weights[name].float()
    return _Adapter(layers, _settings_of(path, contents), _base_by_width(contents.shapes))


def _check_kind(names: Sequence[str], contents: Contents) -> None:
    """Refuse what is no LoRA of Stable Diffusion 1's kind, by its name where it is known.

    Raises:
        MisfitError: it is something else.
    """
    if not names:
        raise MisfitError("it holds no weights")
    strange = [name for name in names if _split(name) is None]
    kind = kind_of(strange or names)
    if strange or kind not in _READ:
        known = f"it is {kind}, and that is not read as a LoRA" if kind and kind != "a LoRA" else ""
        raise MisfitError(known or f"its weight '{(strange or names)[0]}' is of no kind of LoRA that is known here")
    if other := next((base for sign, base in _OTHERS if any(re.search(sign, name) for name in names)), ""):
        raise MisfitError(f"it was made for {other}")
    said = contents.metadata.get("modelspec.architecture", "") or contents.metadata.get("ss_base_model_version", "")
    if re.search("xl", said, re.IGNORECASE) or _base_by_width(contents.shapes) == _XL:
        raise MisfitError(f"it was made for {_XL}")


def _split(name: str) -> tuple[str, str] | None:
    """The name of a layer and the role that a weight of this name has in it; None where it has none."""
    for pattern, role in _ROLES:
        if match := re.search(pattern, name):
            return name[: match.start()], f"{role}_{match[1]}" if match.groups() else role
    return None


def _place(stem: str) -> tuple[str, str]:
    """The part of the model that a layer is in, and its name there with all dots as underscores."""
    text = False
    while match := _WRAPPED.match(stem) or _TEXT.match(stem):
        text = text or bool(_TEXT.match(stem))
        stem = stem[match.end() :]
    flat = re.sub(r"_to_out$", "_to_out_0", stem.replace(".processor.", ".").replace(".", "_"))
    if not text and not flat.startswith(_OF_TEXT):
        return "unet", flat
    flat = re.sub(r"_to_([qkv])$", r"_\1_proj", flat.removesuffix("_0") if flat.endswith("to_out_0") else flat)
    return "text_encoder", re.sub(r"_to_out$", "_out_proj", flat.removeprefix("text_model_"))


def _settings_of(path: Path, contents: Contents) -> dict[str, dict[str, Any]]:
    """What peft says of an adapter's strength, for each part: beside it, as peft writes it, or in its header.

    Raises:
        MisfitError: that cannot be read, or is of an adapter that is not read here.
    """
    beside = path.with_name(_CONFIG)
    try:
        if path.stem == "adapter_model" and beside.is_file():
            settings = json.loads(beside.read_text("utf-8"))
            return {"unet": settings, "text_encoder": settings}
        said = json.loads(contents.metadata.get("lora_adapter_metadata", "{}"))
        found: dict[str, dict[str, Any]] = {"unet": {}, "text_encoder": {}}
        for name, value in said.items():
            part, _, key = name.partition(".")
            found.setdefault(part, {})[key] = value
    except (OSError, ValueError, AttributeError) as error:
        raise MisfitError(f"what it says of its strength cannot be read: {error}") from error
    return found


def _merge(network: nn.Module, part: str, adapter: _Adapter, scale: float) -> None:
    layers, settings = adapter.layers[part], adapter.settings.get(part, {})
    if not layers:
        return  # it is for the other of the two
    own = dict(_layers_of(network))
    if part == "unet" and any(name.startswith(_ORIGINAL) for name in layers):
        layers = _renamed(layers, network)
    made_for = f", {adapter.base}" if adapter.base else ""
    if strange := [layer.name for name, layer in layers.items() if name not in own]:
        raise MisfitError(
            f"{len(strange)} of its {len(layers)} layers, such as '{strange[0]}', are not in this base model; it was "
            f"made for another base model{made_for}"
        )
    changed = {}
    for flat, layer in layers.items():
        name, module = own[flat]
        try:
            changed[module] = _changed(module, name, layer, settings, scale)
        except (RuntimeError, LookupError) as error:
            shape = "x".join(map(str, module.weight.shape[:2]))
            raise MisfitError(
                f"its layer '{layer.name}' does not fit one of {shape} numbers; it is broken, or was made for another "
                f"base model{made_for}"
            ) from error
    with torch.no_grad():
        for module, (weight, bias) in changed.items():
            module.weight.copy_(weight)
            if bias is not None:
                module.bias.add_(bias.to(module.bias))


def _layers_of(network: nn.Module) -> Iterator[tuple[str, tuple[str, Any]]]:
    """The layers that can be changed, by their names with underscores for dots; each with its own name."""
    for name, module in network.named_modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            yield name.replace(".", "_").removeprefix("text_model_"), (name, module)


def _renamed(layers: Mapping[str, _Layer], network: nn.Module) -> dict[str, _Layer]:
    """Layers under diffusers' names that a file has under those of Stable Diffusion's own code."""
    from diffusers.loaders.lora_conversion_utils import _maybe_map_sgm_blocks_to_diffusers

    blocks = {f"lora_unet_{name}": layer for name, layer in layers.items() if name.startswith(_ORIGINAL)}
    found = {}
    try:
        blocks = _maybe_map_sgm_blocks_to_diffusers(blocks, network.config)
    except (ValueError, LookupError) as error:
        raise MisfitError("its blocks are not this base model's; it was made for another base model") from error
    for name, layer in blocks.items():
        for old, new in _ORIGINAL_NAMES:
            name = name.replace(old, new)  # noqa: PLW2901 - it is what is being made
        found[name.removeprefix("lora_unet_")] = layer
    return {name: layer for name, layer in layers.items() if not name.startswith(_ORIGINAL)} | found


def _base_by_width(shapes: Mapping[str, Sequence[int]]) -> str:
    """The base model that an adapter was made for, by the width of the words that it reads; empty where unknown."""
    for name, shape in shapes.items():
        _, role = _split(name) or ("", "")
        if role == "down" and _READS_WORDS.search(name) and shape[1] in _WIDTHS:
            return _WIDTHS[shape[1]]
    return ""


# One layer


def _changed(
    module: Any, name: str, layer: _Layer, settings: Mapping[str, Any], scale: float
) -> tuple[Tensor, Tensor | None]:
    """The new weight of a layer, in the shape and dtype of its own, and what is added to its bias, if anything is.

    Raises:
        RuntimeError, LookupError: matrices do not fit, or are missing.
    """
    matrices, weight = layer.matrices, module.weight.detach().float()
    change = _change(matrices)
    strength = _strength(name, layer, settings)
    change = strength * change.reshape(len(weight), -1, *weight.shape[2:])
    if name == "conv_in" and change.shape[1] < weight.shape[1]:
        # Of a relative that reads a mask or a picture behind the latents: these come first.
        missing = torch.zeros(len(weight), weight.shape[1] - change.shape[1], *weight.shape[2:])
        change = torch.cat([change, missing], 1)
    if change.shape != weight.shape:
        raise RuntimeError(f"{tuple(change.shape)} is not {tuple(weight.shape)}")
    full = _decomposed(weight + change, matrices)
    merged = weight + scale * (change if full is None else full - weight)
    if "bias" not in matrices:
        return merged.to(module.weight), None
    if module.bias is None:
        raise LookupError("It has no bias")
    return merged.to(module.weight), scale * strength * matrices["bias"]


def _change(matrices: Mapping[str, Tensor]) -> Tensor:
    """The product that a layer's matrices stand for, at strength 1; rows are its outputs.

    Source: LoRA (arXiv:2106.09685); LoHa, after FedPara (arXiv:2108.06098), and LoKr: LyCORIS (arXiv:2309.14859).
    """
    if "up" in matrices:
        down, up = matrices["down"], matrices["up"].flatten(1)
        if "mid" in matrices:
            return torch.einsum("oi,ijkl,jc->ockl", up, matrices["mid"], down.flatten(1))
        return up @ down.flatten(1)
    if "loha_w1_a" in matrices:
        return _pair(matrices, "loha_", 1) * _pair(matrices, "loha_", 2)
    first, second = (_pair(matrices, "lokr_", number).flatten(1) for number in (1, 2))
    return torch.kron(first, second)


def _pair(matrices: Mapping[str, Tensor], kind: str, number: int) -> Tensor:
    """One of the two factors of LoHa or LoKr: whole, or a product of two, or of three with a kernel."""
    whole, core = matrices.get(f"{kind}w{number}"), matrices.get(f"{kind}t{number}")
    if whole is not None:
        return whole
    left, right = matrices[f"{kind}w{number}_a"], matrices[f"{kind}w{number}_b"]
    return left @ right if core is None else torch.einsum("ijkl,io,jc->ockl", core, left, right)


def _strength(name: str, layer: _Layer, settings: Mapping[str, Any]) -> float:
    """Alpha by rank, as the file itself or peft's settings say; 1 where neither says anything."""
    matrices = layer.matrices
    small = next((matrices[role] for role in ("down", "loha_w1_b", "lokr_w2_b", "lokr_w1_b") if role in matrices), None)
    rank = len(small) if small is not None else _setting(name, settings, "r", "rank_pattern")
    alpha = layer.alpha
    if alpha is None:
        alpha = _setting(name, settings, "lora_alpha" if "lora_alpha" in settings else "alpha", "alpha_pattern")
    if alpha is None or not rank or (small is None and layer.alpha is not None):
        return 1.0  # a LoKr of two whole factors has no rank, so trainers that write an alpha leave it out
    return float(alpha / (rank**0.5 if settings.get("use_rslora") else rank))


def _setting(name: str, settings: Mapping[str, Any], usual: str, pattern: str) -> Any:
    """One of peft's settings for a layer: by the first pattern that its name ends with, else the usual one."""
    from_patterns = (
        value for key, value in (settings.get(pattern) or {}).items() if re.match(rf"(.*\.)?({key})$", name)
    )
    return next(from_patterns, settings.get(usual))


def _decomposed(merged: Tensor, matrices: Mapping[str, Tensor]) -> Tensor | None:
    """A weight whose rows, or columns, have the lengths that a DoRA gives them; None where there are none.

    Source: DoRA (arXiv:2402.09353). LyCORIS also has lengths of columns, which it writes as `(1, inputs)`.
    """
    lengths = matrices.get("magnitude")
    by_column = lengths is None and (lengths := matrices.get("scale")) is not None and len(lengths) == 1 < len(merged)
    if lengths is None:
        return None
    kept = 1 if by_column else 0
    others = [axis for axis in range(merged.ndim) if axis != kept]
    shape = [1] * merged.ndim
    shape[kept] = merged.shape[kept]
    return merged * lengths.reshape(shape) / torch.linalg.vector_norm(merged, dim=others, keepdim=True)
