"""The table of fields: of each setting its default, bounds, step and words, kept at the field that it describes.

A dataclass gives its fields an entry by `field(default=..., metadata=number(...))`.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import cache
from typing import Any, Final, Literal

import numpy as np

from bivdiff.errors import InputError
from bivdiff.units import say_number

MAX_PROMPT_CHARACTERS: Final = 2000
Kind = Literal["number", "text", "choice", "switch", "pictures"]
_KEY: Final = "entry"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What is known of one field.

    Attributes:
        kind: what its values are.
        label: its name in words.
        info: one sentence on what it does, with no full stop.
        default: its value where none is given; None where there is none, or where another part of the program knows it.
        low, high: bounds of a number, inclusive.
        step: between two numbers that a slider offers; others are valid too.
        whole: whether only whole numbers are valid.
        unit: of a number, in words.
        none_as: the number that stands for None where a control can hold nothing else.
        choices: values that are valid, each with its label.
        depends_on: another field, whose value says how `info` goes on; empty where there is none.
        infos: how `info` goes on, for each value of that field.
        optional: whether None is valid too.
    """

    kind: Kind
    label: str
    info: str
    default: Any = None
    low: float = 0
    high: float = 0
    step: float | None = None
    whole: bool = False
    unit: str = ""
    none_as: float | None = None
    choices: Mapping[Any, str] | None = None
    depends_on: str = ""
    infos: Mapping[Any, str] | None = None
    optional: bool = False

    @property
    def bounds(self) -> str:
        """The valid values in words, such as "0 to 1" or "linear or slerp"; empty where any text is valid."""
        if self.kind == "number":
            return f"{say_number(self.low)} to {say_number(self.high)} {self.unit}".strip()
        *most, last = self.choices or ("",)
        return f"{', '.join(most)} or {last}" if most else last

    def info_where(self, value: Any) -> str:
        """The info line where the field that it depends on has this value, or one that is not known."""
        more = (self.infos or {}).get(value, "")
        return f"{self.info}; {more}" if more else self.info

    def check(self, name: str, value: Any) -> None:
        """Refuse what is not valid.

        Raises:
            InputError: the value is of the wrong kind or out of range; `name` is what the field is called there.
        """
        if value is None and self.optional:
            return
        if self.kind == "number":
            self._check_number(name, value)
        elif self.kind == "text":
            check_text(name, value)
        elif self.kind == "choice" and value not in tuple(self.choices or ()):
            raise InputError(f"{value!r:.40} is not a valid value for {name}. Use {self.bounds}.")
        elif self.kind == "switch" and not isinstance(value, bool):
            raise InputError(f"{name} must be true or false; got {value!r:.40}.")

    def _check_number(self, name: str, value: Any) -> None:
        right_type = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
        if not right_type or not self.low <= value <= self.high or (self.whole and value != int(value)):
            kind = "a whole number" if self.whole else "a number"
            raise InputError(
                f"{name} must be {kind} from {say_number(self.low)} to {say_number(self.high)}; got {value!r:.40}."
            )


def number(label: str, info: str, low: float, high: float, step: float, **more: Any) -> dict[str, Entry]:
    """The metadata of a field that is any number of a range; `more` is as in `Entry`."""
    return {_KEY: Entry(kind="number", label=label, info=info, low=low, high=high, step=step, **more)}


def count(label: str, info: str, low: int, high: int, **more: Any) -> dict[str, Entry]:
    """The metadata of a field that is a whole number of a range; `more` is as in `Entry`."""
    return number(label, info, low, high, 1, whole=True, **more)


def text(label: str, info: str) -> dict[str, Entry]:
    """The metadata of a field that is text of any kind."""
    return {_KEY: Entry(kind="text", label=label, info=info)}


def choice(label: str, info: str, choices: Mapping[Any, str]) -> dict[str, Entry]:
    """The metadata of a field that is one of several values, each of which has a label."""
    return {_KEY: Entry(kind="choice", label=label, info=info, choices=choices)}


def switch(label: str, info: str) -> dict[str, Entry]:
    """The metadata of a field that is on or off."""
    return {_KEY: Entry(kind="switch", label=label, info=info)}


def pictures(label: str, info: str) -> dict[str, Entry]:
    """The metadata of a field that holds pictures, which no flag and no slider can."""
    return {_KEY: Entry(kind="pictures", label=label, info=info)}


@cache
def table(described: type) -> Mapping[str, Entry]:
    """The entries of a dataclass by the names of its fields, with their defaults."""
    return {
        item.name: replace(item.metadata[_KEY], default=item.default if isinstance(item.default, _PLAIN) else None)
        for item in fields(described)
    }


_PLAIN = (str, int, float, bool)


def check_text(name: str, value: Any) -> None:
    """Hold a text to what a model reads.

    Raises:
        InputError: it is too long, holds control characters, or is no text.
    """
    if not isinstance(value, str):
        raise InputError(f"{name} must be text; got {type(value).__name__}.")
    if len(value) > MAX_PROMPT_CHARACTERS:
        raise InputError(f"{name} has {len(value)} characters; at most {MAX_PROMPT_CHARACTERS} are read. Shorten it.")
    if any(unicodedata.category(char) in ("Cc", "Cs") and char not in "\t\n\r" for char in value):
        raise InputError(f"{name} holds control characters, which no model can read. Remove them.")
