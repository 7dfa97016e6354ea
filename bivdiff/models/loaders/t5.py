"""T5 and UMT5: what reads the words of video models whose latents are their own."""

from __future__ import annotations

import html
from functools import partial
from typing import TYPE_CHECKING, Any

from bivdiff.models.architectures import T5_XXL, UMT5_XXL, Architecture
from bivdiff.models.loaders.kind import Kind, Source, is_of_model, transformers_loader

if TYPE_CHECKING:
    from torch import Tensor

    from bivdiff.models.words import Words

LENGTHS = {"umt5_encoder": 512, "cogvideox_text_encoder": 226, "ltx_text_encoder": 256}
"""Tokens that a prompt is filled up to, by the kind of text encoder."""


def _tokens(tokenizer: Any, text_encoder: Any, prompt: str, kind: str) -> Any:
    return tokenizer(
        [prompt], padding="max_length", max_length=LENGTHS[kind], truncation=True, return_attention_mask=True,
        return_tensors="pt",
    ).to(text_encoder.device)  # fmt: skip


def _read_cut(tokenizer: Any, text_encoder: Any, prompt: str) -> Tensor:
    """States `(1, L, D)` of a prompt's tokens, and zeros behind them: Wan is given no mask."""
    tokens = _tokens(tokenizer, text_encoder, " ".join(html.unescape(prompt).split()), "umt5_encoder")
    states: Tensor = text_encoder(tokens.input_ids, tokens.attention_mask).last_hidden_state
    return states * tokens.attention_mask[..., None].to(states.dtype)


def _read_filled(tokenizer: Any, text_encoder: Any, prompt: str) -> Tensor:
    """States `(1, L, D)` of a prompt's tokens and of what fills them up, which CogVideoX reads as well."""
    tokens = _tokens(tokenizer, text_encoder, prompt, "cogvideox_text_encoder")
    states: Tensor = text_encoder(tokens.input_ids).last_hidden_state
    return states


def _read_masked(tokenizer: Any, text_encoder: Any, prompt: str) -> Words:
    """States `(1, L, D)` of a prompt's tokens, and the mask of the tokens that LTX is given: behind them is nothing."""
    from bivdiff.models.words import Words

    tokens = _tokens(tokenizer, text_encoder, prompt, "ltx_text_encoder")
    states = text_encoder(tokens.input_ids, tokens.attention_mask).last_hidden_state
    return Words(states, tokens.attention_mask)


def _tokenizer(source: Source) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(source.root, subfolder=source.spec.folder, local_files_only=True)


_text_encoder = partial(
    Kind, title="text encoder", load=transformers_loader("T5EncoderModel"), check=is_of_model("t5"),
    by_transformers=True, architecture=Architecture("transformers", "T5EncoderModel", T5_XXL), wide=True,
)  # fmt: skip
KINDS = {
    "umt5_encoder": Kind(
        title="text encoder", load=transformers_loader("UMT5EncoderModel"), check=is_of_model("umt5"),
        by_transformers=True, architecture=Architecture("transformers", "UMT5EncoderModel", UMT5_XXL), wide=True,
        read=_read_cut,
    ),
    "cogvideox_text_encoder": _text_encoder(read=_read_filled),
    "ltx_text_encoder": _text_encoder(read=_read_masked),
    "t5_tokenizer": Kind(title="tokenizer", load=_tokenizer, holds="tokenizer"),
}  # fmt: skip
