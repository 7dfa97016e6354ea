"""LoRAs and textual inversion: what makes a base model one's own, read through diffusers' and peft's own loaders."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bivdiff.errors import ModelUnavailableError


def merge_loras(network: nn.Module, part: str, loras: Sequence[tuple[Path, float]]) -> nn.Module:
    """Add LoRAs to a network's own weights.

    Args:
        network: a UNet2DConditionModel or CLIPTextModel; changed in place.
        part: which of the two it is, "unet" or "text_encoder". A LoRA may have layers for either or both.
        loras: files, each with its scale.

    Raises:
        ModelUnavailableError: one cannot be read, or was made for another model.
    """
    for path, scale in loras:
        _merge(network, part, path, scale)
    return network


def _merge(network: nn.Module, part: str, path: Path, scale: float) -> None:
    from diffusers.loaders import StableDiffusionLoraLoaderMixin as Loader
    from diffusers.utils.peft_utils import recurse_remove_peft_layers
    from peft.tuners.tuners_utils import BaseTunerLayer

    try:
        state, alphas = Loader.lora_state_dict(str(path), unet_config=network.config)
        if not any(name.startswith(("unet.", "text_encoder.")) for name in state):
            raise ValueError("none of its layers is named as one of the U-Net or the text encoder.")
        if not any(name.startswith(f"{part}.") for name in state):
            return  # it is for the other of the two
        if part == "unet":
            Loader.load_lora_into_unet(state, network_alphas=alphas, unet=network)
        else:
            Loader.load_lora_into_text_encoder(state, network_alphas=alphas, text_encoder=network, prefix=part)
    except (OSError, ValueError, RuntimeError, KeyError, AttributeError) as error:
        raise ModelUnavailableError(
            f"The LoRA '{path}' could not be put on the {part.replace('_', ' ')}: {_first_line(error)} It is broken, "
            "or was made for another base model. Take it out, or give one for this base model."
        ) from error
    for layer in network.modules():
        if isinstance(layer, BaseTunerLayer):
            layer.scale_layer(scale)
            layer.merge()
    recurse_remove_peft_layers(network)
    network.__dict__.pop("peft_config", None)
    vars(network)["_hf_peft_config_loaded"] = False  # diffusers' own mark that it has an adapter


def widen_tokenizer(tokenizer: Any, embeddings: Sequence[Path]) -> Any:
    """Add the words of textual inversion files to a tokenizer; a word of several vectors becomes several tokens.

    Raises:
        ModelUnavailableError: a file cannot be read, or its word is known already.
    """
    for path in embeddings:
        word, vectors = _read_embedding(path)
        if word in tokenizer.get_vocab():
            raise ModelUnavailableError(
                f"The textual inversion '{path}' teaches the word '{word}', which is known already. Take it out, or "
                "rename the word in its file."
            )
        tokenizer.add_tokens(_tokens(word, len(vectors)))
    return tokenizer


def widen_text_encoder(text_encoder: Any, embeddings: Sequence[Path]) -> Any:
    """Give a text encoder the vectors of the words that `widen_tokenizer` adds, in the same order.

    Raises:
        ModelUnavailableError: a file cannot be read, or its vectors are of another width.
    """
    for path in embeddings:
        _, vectors = _read_embedding(path)
        known = text_encoder.get_input_embeddings().weight
        if vectors.shape[1] != known.shape[1]:
            raise ModelUnavailableError(
                f"The textual inversion '{path}' has vectors of {vectors.shape[1]} numbers, the text encoder of "
                f"{known.shape[1]}. It was made for another base model; take it out."
            )
        count = len(known)
        text_encoder.resize_token_embeddings(count + len(vectors), mean_resizing=False)
        with torch.no_grad():
            text_encoder.get_input_embeddings().weight[count:] = vectors.to(known.dtype)
    return text_encoder


def spell_out(prompt: str, tokenizer: Any) -> str:
    """A prompt in which every added word of several vectors stands as all of its tokens."""
    from diffusers.loaders import TextualInversionLoaderMixin

    if not tokenizer.added_tokens_encoder:
        return prompt
    return TextualInversionLoaderMixin().maybe_convert_prompt(prompt, tokenizer)


def _read_embedding(path: Path) -> tuple[str, Tensor]:
    """The word of a textual inversion file, and its vectors `(N, D)`.

    The two layouts that are in use: a word with its vectors, and the web UI's with the name beside them. A file in
    the second layout without a name has that of the file.
    """
    from diffusers.loaders.textual_inversion import load_textual_inversion_state_dicts

    try:
        state = load_textual_inversion_state_dicts([str(path)])[0]
        if "string_to_param" in state:
            word, vectors = state.get("name"), state["string_to_param"]["*"]
        elif len(state) == 1:
            word, vectors = next(iter(state.items()))
        else:
            raise ValueError(f"it holds {len(state)} entries, and none is known.")
        if word in {None, "emb_params"}:
            word = path.stem
        return word, torch.atleast_2d(vectors.detach())
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError) as error:
        raise ModelUnavailableError(
            f"The textual inversion '{path}' could not be read: {_first_line(error)} Give a .safetensors or .pt file "
            "that holds a word and its vectors."
        ) from error


def _tokens(word: str, count: int) -> list[str]:
    return [word, *(f"{word}_{number}" for number in range(1, count))]


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).split("\n")[0]
