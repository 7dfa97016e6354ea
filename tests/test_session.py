"""One hold of the models: what is told of words that are cut off, and what is encoded but once."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from diffusers.configuration_utils import FrozenDict

from bivdiff.bridge.latents import encode
from bivdiff.bridge.pipeline import resolved
from bivdiff.bridge.prompts import cut_off
from bivdiff.bridge.reuse import StageCache
from bivdiff.bridge.session import _check_base, enter, entering
from bivdiff.catalog.requests import default_request
from bivdiff.errors import ModelUnavailableError
from bivdiff.toybox.networks import build_tokenizer

LONG = "a red cube next to " * 10 + "a sphere"


@pytest.fixture
def smoothing(source_frames):
    return default_request("smooth", "toybox", source_frames[:2, :32, :32], "a red cube", seed=1)


def told(request, manager):
    """What is noted once the models are there."""
    with ExitStack() as exits, torch.inference_mode():
        return "".join(event.note for event in entering(resolved(request), manager, StageCache(), exits))


@pytest.mark.parametrize("field", ["prompt", "source_prompt", "video_prompt", "negative_prompt", "inversion_prompt"])
def test_whatever_is_longer_than_a_model_reads_its_end_is_told(source_frames, manager, field):
    request = default_request(
        "edit", "toybox", source_frames[:2, :32, :32], "a red cube", seed=1, image_model="prompt2prompt",
        source_prompt="a cone",
    )  # fmt: skip
    assert told(request, manager) == ""
    note = told(replace(request, **{field: LONG}), manager)
    assert note.startswith("The prompt is longer than the model reads; this end was ignored: '")
    assert note.endswith("a sphere'.")


def test_words_that_fit_alone_and_not_with_the_instruction_are_told(source_frames, manager):
    source = "a red cube next to " * 5 + "a cone"
    request = default_request(
        "edit", "toybox", source_frames[:2, :32, :32], "at noon at night", seed=1, source_prompt=source
    )
    tokenizer = enter_once(request, manager).models.parts.tokenizer
    assert cut_off(tokenizer, request.prompt) == cut_off(tokenizer, source) == ""
    assert told(request, manager).endswith("night'.")


def test_a_word_of_several_vectors_takes_the_room_of_all_of_them():
    tokenizer = build_tokenizer()
    room = tokenizer.model_max_length - 2
    tokenizer.add_tokens(["<cat>", *(f"<cat>_{number}" for number in range(1, room))])
    assert cut_off(tokenizer, "<cat>") == ""
    assert cut_off(tokenizer, "<cat> sphere") == "sphere"


def enter_once(request, manager):
    with ExitStack() as exits, torch.inference_mode():
        return enter(resolved(request), manager, StageCache(), exits)


def test_a_clip_is_encoded_once(smoothing, manager, monkeypatch):
    with ExitStack() as exits, torch.inference_mode():
        models = enter(resolved(smoothing), manager, StageCache(), exits).models
        vae, shown = models.parts.vae, []
        expected = [encode(vae, clip, 2) for clip in (smoothing.frames, 255 - smoothing.frames)]
        whole = vae.encode
        monkeypatch.setattr(vae, "encode", lambda pixels: shown.append(len(pixels)) or whole(pixels))
        first, second = smoothing.frames, 255 - smoothing.frames
        latents = models.encode(first), models.encode(second)
        assert models.encode(first) is latents[0]
        assert models.encode(second) is latents[1]
        assert shown == [2, 2]
        again = models.encode(np.array(first))  # equal, but who knows that without looking
        assert torch.equal(again, latents[0])
        assert all(map(torch.equal, latents, expected))
        assert shown == [2, 2, 2]
        models.encode(first)  # two clips are kept, and this one has left
        assert shown == [2, 2, 2, 2]


def test_a_base_model_of_another_width_is_told_the_width_that_is_needed(smoothing):
    """The network that steers goes with it, and the text encoder does not."""
    parts = SimpleNamespace(
        with_base=True,
        scheduler=SimpleNamespace(config=FrozenDict(prediction_type="epsilon")),
        unet=SimpleNamespace(config=FrozenDict(in_channels=4, cross_attention_dim=768)),
        text_encoder=SimpleNamespace(config=FrozenDict(hidden_size=1024)),
        networks=(SimpleNamespace(config=FrozenDict(cross_attention_dim=768)),),
    )
    with pytest.raises(ModelUnavailableError, match=r"words of 768 numbers, .* need 4 and 1024\."):
        _check_base(smoothing, parts)
