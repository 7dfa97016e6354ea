"""What of a request its models do not read, in sentences for whoever asked."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from bivdiff.bridge.prompts import cut_off, smoothing_prompt
from bivdiff.catalog.components import Components
from bivdiff.catalog.families import models_for
from bivdiff.catalog.prompt_syntax import is_weighed, read_as_letters
from bivdiff.models import hub
from bivdiff.models.embeddings import word_pattern, words_of
from bivdiff.models.loaders import KINDS
from bivdiff.models.loaders.t5 import LENGTHS
from bivdiff.models.loras import note_on
from bivdiff.settings import Settings
from bivdiff.types import GenerationRequest


def notes_on(request: GenerationRequest, parts: Components[Any], settings: Settings) -> Iterator[str]:
    """Sentences on prompts that are cut off, syntax and words that are read as letters, and what LoRAs bring along.

    Args:
        request: what is made.
        parts: what it is made with, loaded.
        settings: say where the LoRAs' files lie.
    """
    by_image_model = (request.prompt, request.source_prompt, request.negative_prompt) if parts.with_base else ()
    by_video_model = (smoothing_prompt(request), request.inversion_prompt, request.negative_prompt)
    reader = models_for(request).video_models[request.video_model].text_encoder.kind
    ends = [
        *(cut_off(parts.tokenizer, text) for text in by_image_model),
        *(cut_off(parts.video_tokenizer, text, LENGTHS.get(reader)) for text in by_video_model),
    ]
    lost = [end for end in ends if end]
    if lost:
        yield f"The prompt is longer than the model reads; this end was ignored: '{lost[0][:120]}'."
    if letters := next(filter(None, map(read_as_letters, request.prompts)), ""):
        yield f"In the prompt, '{letters}' is read as letters: words are weighed as in (red:1.4), and in no other way."
    if KINDS[reader].read is not None and (word := next(filter(is_weighed, by_video_model), "")):
        yield f"The video model reads no weights of words, so in '{word[:120]}' all weigh alike for it."
    yield from _notes_on_words(request, parts)
    family = models_for(request)
    files = hub.pull_additions(family.unet, settings)
    yield from filter(None, (note_on(files[name]) for name, _ in family.unet.loras))


def _notes_on_words(request: GenerationRequest, parts: Components[Any]) -> Iterator[str]:
    """On words of one's own that stand in no prompt, or in one that is read by a text encoder without them."""
    for word in words_of(parts.tokenizer) if parts.with_base else ():
        if not any(_holds(prompt, word) for prompt in request.prompts):
            yield f"The word '{word}' of your textual inversion stands in no prompt, so it changes nothing."
        elif _holds(smoothing_prompt(request), word) and not _knows(parts.video_tokenizer, word):
            yield (
                f"The video model has a text encoder of its own, which reads '{word}' as letters. Say in the video "
                "prompt what that is."
            )


def _knows(tokenizer: Any, word: str) -> bool:
    return word in tokenizer.added_tokens_encoder


def _holds(prompt: str, word: str) -> bool:
    return word_pattern(word).search(prompt) is not None
