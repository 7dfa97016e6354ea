"""Textual inversion: words of one's own, read through diffusers' own loader."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import count, takewhile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bivdiff.errors import ModelUnavailableError
from bivdiff.models.weight_files import kind_of


def widen_tokenizer(tokenizer: Any, embeddings: Sequence[Path]) -> Any:
    """Add the words of textual inversion files to a tokenizer; a word of several vectors becomes several tokens.

    Raises:
        ModelUnavailableError: a file cannot be read, or its word is known already.
    """
    from transformers import AddedToken

    for path in embeddings:
        word, vectors = _read_embedding(path)
        known = {each.lower() for each in tokenizer.added_tokens_encoder} | tokenizer.get_vocab().keys()
        if word.lower() in known:
            raise ModelUnavailableError(
                f"The textual inversion '{path}' teaches the word '{word}', which is known already. Take it out, or "
                "rename the word in its file."
            )
        # As CLIP reads them: in any case. And whole: "sks" is not to be found in "tasks".
        tokenizer.add_tokens([AddedToken(each, single_word=True) for each in _tokens(word, len(vectors))])
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
        before = len(known)
        text_encoder.resize_token_embeddings(before + len(vectors), mean_resizing=False)
        with torch.no_grad():
            text_encoder.get_input_embeddings().weight[before:] = vectors.to(known.dtype)
    return text_encoder


def spell_out(prompt: str, tokenizer: Any) -> str:
    """A prompt in which every added word of several vectors, in any case, stands as all of its tokens."""
    added = tokenizer.added_tokens_encoder
    for word in (each for each in added if _token(each, 1) in added):
        tokens = takewhile(added.__contains__, (_token(word, number) for number in count()))
        prompt = " ".join(tokens).join(word_pattern(word).split(prompt))
    return prompt


def word_pattern(word: str) -> re.Pattern[str]:
    """A word as it is found in a prompt: whole, in any case."""
    return re.compile(rf"(?<!\w){re.escape(word)}(?!\w)", re.IGNORECASE)


def words_of(tokenizer: Any) -> list[str]:
    """The words that textual inversions have added to a tokenizer, each once, however many vectors it has."""
    added = [word for word in tokenizer.added_tokens_encoder if word not in tokenizer.all_special_tokens]
    return [word for word in added if not (re.search(r"_\d+$", word) and word.rpartition("_")[0] in added)]


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
            kind = kind_of(state)
            raise ValueError(f"it is {kind}." if kind else f"it holds {len(state)} entries, and none is known.")
        if word in {None, "emb_params"}:
            word = path.stem
        return word, torch.atleast_2d(vectors.detach())
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError) as error:
        raise ModelUnavailableError(
            f"The textual inversion '{path}' could not be read: {_first_line(error)} Give a .safetensors or .pt file "
            "that holds a word and its vectors."
        ) from error


def _tokens(word: str, how_many: int) -> list[str]:
    return [_token(word, number) for number in range(how_many)]


def _token(word: str, number: int) -> str:
    return f"{word}_{number}" if number else word


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).split("\n")[0]
