"""What networks are given while a run goes on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from bivdiff.catalog.specs import ModelSpec
from bivdiff.models.manager import ModelManager


@contextmanager
def given_to(network: nn.Module) -> Iterator[list[list[Any]]]:
    """All that a network is given meanwhile, call after call, by place or by name."""
    calls: list[list[Any]] = []

    def note(_: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> None:
        # A list is copied: U-Nets take what they are given out of it.
        calls.append([list(each) if isinstance(each, list) else each for each in (*given, *named.values())])

    hook = network.register_forward_pre_hook(note, with_kwargs=True)
    try:
        yield calls
    finally:
        hook.remove()


@contextmanager
def prompts_read(manager: ModelManager, tokenizer: ModelSpec, text_encoder: ModelSpec) -> Iterator[list[str]]:
    """The prompts that a text encoder of a manager has read, once this ends."""
    read: list[str] = []
    with manager.hold(tokenizer, text_encoder) as (words, network), given_to(network) as calls:
        yield read
    for ids, *_ in calls:
        read += words.batch_decode(ids, skip_special_tokens=True)
