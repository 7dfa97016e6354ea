"""From prompts to the embeddings a U-Net is conditioned on.

In it: encoding, and what a tokenizer cut off. Not in it: guidance (guidance.py).
"""

from __future__ import annotations

from typing import Any

from torch import Tensor


def encode_prompt(tokenizer: Any, text_encoder: Any, prompt: str) -> Tensor:
    """Embed one prompt: `prompt_embeds` `(1, L, D)`, L the tokenizer's length; longer prompts are cut at their end."""
    ids = tokenizer([prompt], padding="max_length", truncation=True, return_tensors="pt").input_ids
    return text_encoder(ids.to(text_encoder.device)).last_hidden_state


def cut_off(tokenizer: Any, prompt: str) -> str:
    """The end of a prompt that does not fit the text encoder; empty when all of it does."""
    ids = tokenizer(prompt).input_ids
    if len(ids) <= tokenizer.model_max_length:
        return ""
    return tokenizer.decode(ids[tokenizer.model_max_length - 1 : -1], skip_special_tokens=True)
