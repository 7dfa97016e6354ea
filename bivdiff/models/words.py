"""Words as a value: what a text encoder makes of a prompt, in the parts that a network reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor


@dataclass(frozen=True)
class Words:
    """A prompt that takes more than one tensor to say.

    Attributes:
        states: `(B, L, D)`, of the tokens.
        mask: `(B, L)`, 1 where a token counts; None where all do.
    """

    states: Tensor
    mask: Tensor | None = None

    def split(self, size: int) -> list[Words]:
        """Bundles of `size` prompts each, as a tensor's `split`."""
        states = self.states.split(size)
        masks = [None] * len(states) if self.mask is None else self.mask.split(size)
        return [Words(*parts) for parts in zip(states, masks, strict=True)]


Prompt: TypeAlias = "Tensor | Words"
"""As a network reads it: the states of its tokens alone, `(B, L, D)`, or a bundle."""


def repeated(prompt: Prompt, count: int) -> Prompt:
    """One prompt for each of so many pictures or clips; takes no memory."""
    if isinstance(prompt, Tensor):
        return prompt.expand(count, -1, -1)
    mask = None if prompt.mask is None else prompt.mask.expand(count, -1)
    return Words(prompt.states.expand(count, -1, -1), mask)


def joined(prompts: list[Prompt]) -> Prompt:
    """Prompts of one kind one after the other in one batch."""
    if isinstance(prompts[0], Tensor):
        return torch.cat([prompt for prompt in prompts if isinstance(prompt, Tensor)])
    bundles = [prompt for prompt in prompts if isinstance(prompt, Words)]
    masks = [bundle.mask for bundle in bundles if bundle.mask is not None]
    return Words(torch.cat([bundle.states for bundle in bundles]), torch.cat(masks) if masks else None)
