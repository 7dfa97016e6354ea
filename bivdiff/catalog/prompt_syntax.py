"""The web UI's way of weighing words in a prompt, (red:1.4); and what of its other syntax a prompt holds."""

from __future__ import annotations

import re
from itertools import groupby
from typing import NamedTuple

from bivdiff.errors import InputError

MAX_WEIGHT = 4.0
"""What is above it is no weight, as in "(at 12:30)"."""

_PARTS = re.compile(r"\\[()]|[()]|[^()\\]+|\\")
_ESCAPED = (r"\(", r"\)")
_WEIGHED = re.compile(r"(.*?)\s*:\s*(\d+(?:\.\d*)?|\.\d+)\s*", re.DOTALL)
_MODEL = re.compile(r"<(lora|lyco|loha|lokr|hypernet):([^:<>]+)(?::([^<>]*))?>", re.IGNORECASE)
_LETTERS = re.compile(
    r"\[[^\[\]]*[|:][^\[\]]*\]|\{[^{}]*\|[^{}]*\}"  # one of several words, or one after the other
    r"|\({2}[^()]*\){2}|\[{2}[^\[\]]*\]{2}"  # weights by the number of brackets
    r"|\([^()]*:\d+(?:\.\d*)?\)|\([^()]*\)\d*\.\d+|\w+(?:\+\+|--)+(?!\w)"  # too heavy; the way of other programs
    r"|\b(?:BREAK|AND)\b"
)


class Piece(NamedTuple):
    """Words of a prompt that are weighed alike."""

    text: str
    weight: float = 1.0


def pieces_of(prompt: str) -> list[Piece]:
    r"""A prompt's words with their weights, in their order: the inner of two weights is multiplied by the outer.

    Brackets without a weight are letters, and so are `\(` and `\)` always.
    """
    levels: list[list[Piece]] = [[]]
    for part in _PARTS.findall(prompt):
        if part == "(":
            levels.append([])
        elif part == ")" and len(levels) > 1:
            inner = levels.pop()
            levels[-1] += _weighed(inner) or [Piece("("), *inner, Piece(")")]
        else:
            levels[-1].append(Piece(part.removeprefix("\\") if part in _ESCAPED else part))
    while len(levels) > 1:  # brackets that nothing closes
        inner = levels.pop()
        levels[-1] += [Piece("("), *inner]
    alike = groupby(levels[0], key=lambda piece: piece.weight)
    return [Piece("".join(piece.text for piece in group), weight) for weight, group in alike]


def plain_prompt(prompt: str) -> str:
    """A prompt without the weights of its words."""
    return "".join(piece.text for piece in pieces_of(prompt))


def is_weighed(prompt: str) -> bool:
    """Whether any of a prompt's words has a weight of its own."""
    return any(piece.weight != 1 for piece in pieces_of(prompt))


def read_as_letters(prompt: str) -> str:
    """The first piece of syntax of other programs that a prompt holds, which is read as letters; empty without one."""
    for match in _LETTERS.finditer(prompt):
        if plain_prompt(match[0]) == match[0]:
            return match[0]
    return ""


def check_no_models(prompt: str) -> None:
    """Refuse a prompt that names a LoRA, as the web UI has it.

    Raises:
        InputError: it does.
    """
    if match := _MODEL.search(prompt):
        scale = f":{match[3]}" if match[3] else ""
        raise InputError(
            f"The prompt names a model, '{match[0]}', and here it would be read as letters. Take it out, and name the "
            f"file among the LoRAs, as in '{match[2]}.safetensors{scale}'."
        )


def _weighed(inner: list[Piece]) -> list[Piece]:
    """What stands in brackets, weighed as its end says; empty where that says nothing."""
    match = _WEIGHED.fullmatch(inner[-1].text) if inner else None
    if match is None or float(match[2]) > MAX_WEIGHT:
        return []
    weighed = [*inner[:-1], inner[-1]._replace(text=match[1])]
    return [piece._replace(weight=piece.weight * float(match[2])) for piece in weighed if piece.text.strip()]
