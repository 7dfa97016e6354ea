"""From prompts to the embeddings a U-Net is conditioned on, and the words the video model is given."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from bivdiff.catalog.image_models import IMAGE_MODELS
from bivdiff.catalog.prompt_syntax import is_weighed, pieces_of, plain_prompt
from bivdiff.models.embeddings import spell_out
from bivdiff.types import GenerationRequest

if TYPE_CHECKING:
    from torch import Tensor

PROMPT_MARK = "{prompt}"


def encode_prompt(tokenizer: Any, text_encoder: Any, prompt: str) -> Tensor:
    """Embed one prompt: `prompt_embeds` `(1, L, D)`, L the tokenizer's length; longer prompts are cut at their end.

    Words that have a weight, as in (red:1.4), are weighed by compel.
    """
    if is_weighed(prompt):
        return _encode_weighed(tokenizer, text_encoder, prompt)
    words = spell_out(plain_prompt(prompt), tokenizer)
    ids = tokenizer([words], padding="max_length", truncation=True, return_tensors="pt").input_ids
    return text_encoder(ids.to(text_encoder.device)).last_hidden_state


def _encode_weighed(tokenizer: Any, text_encoder: Any, prompt: str) -> Tensor:
    from compel import EmbeddingsProvider

    pieces = pieces_of(prompt)
    provider = EmbeddingsProvider(tokenizer, text_encoder, dtype_for_device_getter=lambda _: text_encoder.dtype)
    return provider.get_embeddings_for_weighted_prompt_fragments(
        [[spell_out(piece.text, tokenizer) for piece in pieces]], [[piece.weight for piece in pieces]],
        device=text_encoder.device,
    )  # fmt: skip


def cut_off(tokenizer: Any, prompt: str, length: int | None = None) -> str:
    """The end of a prompt beyond so many tokens, or those that the tokenizer says are read; empty without one."""
    length = length or tokenizer.model_max_length
    words = spell_out(plain_prompt(prompt), tokenizer)
    ids = tokenizer(words, verbose=False).input_ids  # else it warns that it was not asked to cut
    if len(ids) <= length:
        return ""
    return tokenizer.decode(ids[length - 1 : -1], skip_special_tokens=True)


def smoothing_prompt(request: GenerationRequest) -> str:
    """The video model's prompt when it smooths: what the clip shows.

    The request's own video prompt goes first. Without one it is the image model's prompt; but an instruction is no
    description, so from one it is composed from the source prompt, or empty when there is none.
    """
    if request.video_prompt:
        return request.video_prompt
    if IMAGE_MODELS[request.image_model].by_instruction:
        return describe_edit(request.source_prompt, request.prompt)
    return request.prompt


def inversion_prompt(request: GenerationRequest) -> str:
    """The prompt of both inversions: the request's words, with `{prompt}` filled in.

    `{prompt}` stands for the video model's prompt when it smooths.
    """
    return request.inversion_prompt.replace(PROMPT_MARK, smoothing_prompt(request))


def describe_edit(source_prompt: str, instruction: str) -> str:
    """What a clip shows once an instruction is carried out.

    "make the cube red" replaces the word before "cube", "turn the cube into a cone" the thing, "make it night" what
    follows the last "at", "remove the cube" takes out the part that names it. Any other instruction is put behind the
    source prompt, which is what people write when they caption an edit.

    Returns:
        The description; empty without a source prompt.
    """
    text = re.sub(r"\s+", " ", instruction.strip().rstrip(".!").lower())
    source = source_prompt.strip()
    if not source or not text:
        return source
    for pattern, change in _EDITS:
        if match := re.fullmatch(pattern, text):
            changed = change(source, *(group or "" for group in match.groups()))
            if changed is not None:
                return changed
    return f"{source}, {text}"


def _recolor(source: str, named: str, thing: str, color: str) -> str | None:
    old = named.strip() or r"\w+"
    return _replaced(source, rf"\b{_article(old)}{old} {thing}\b", f"{_with_article(color)} {thing}") or _replaced(
        source, rf"\b{old} {thing}\b", f"{color} {thing}"
    )


def _transform(source: str, named: str, thing: str, other: str) -> str | None:
    return _replaced(source, rf"(?<=\b{named.strip()} ){thing}\b" if named.strip() else rf"\b{thing}\b", other)


def _set_time(source: str, time: str) -> str | None:
    return _replaced(source, r"\bat \w+$", f"at {time}") or f"{source} at {time}"


def _remove(source: str, named: str, thing: str) -> str | None:
    noun = rf"(?:an?|the) {named.strip() or '[^,]*?'} ?{thing}"
    if (behind := _replaced(source, rf" (?:next to|beside|and|with) {noun}\b", "")) is not None:
        return behind
    first = rf"^{noun}\b(?: (?!next to|beside|and|with|on|in|at)\S+)*"
    if (after := _replaced(source, rf"{first} (?:next to|beside|and|with) ", "")) is not None:
        return after
    return _replaced(source, first, "nothing")


_EDITS = (
    (r"make it (\w+)", _set_time),
    (r"(?:make|paint|color|colour) the (\w+ )?(\w+) (\w+)", _recolor),
    (r"turn the (\w+ )?(\w+) into an? (\w+)", _transform),
    (r"(?:remove|delete|erase) the (\w+ )?(\w+)", _remove),
)


def _article(word: str) -> str:
    return r"an? " if word else ""


def _with_article(word: str) -> str:
    return f"{'an' if word[0] in 'aeiou' else 'a'} {word}"


def _replaced(source: str, pattern: str, new: str) -> str | None:
    """The source with the first match replaced; None without a match."""
    changed, count = re.subn(pattern, new, source, count=1, flags=re.IGNORECASE)
    return changed if count else None
