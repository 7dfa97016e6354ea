"""About how much memory a value takes that somebody has sent, or is sent."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

LEAST = 64  # bytes that anything takes


def bytes_in(value: Any) -> int:
    """The bytes of the texts and arrays in a value, and some for each part; what a text takes on the wire is less."""
    if isinstance(value, str | bytes):
        return LEAST + len(value)
    if isinstance(value, Mapping):
        return LEAST + sum(bytes_in(key) + bytes_in(part) for key, part in value.items())
    if isinstance(value, list | tuple | set | frozenset):
        return LEAST + sum(map(bytes_in, value))
    return LEAST + int(getattr(value, "nbytes", 0))


def heaviest(taken: Mapping[str, int], most: int) -> Iterator[str]:
    """The names of those that take most, the heaviest first, as far as they must go for all to take no more."""
    in_all = sum(taken.values())
    for name in sorted(taken, key=lambda name: -taken[name]):
        if in_all <= most:
            return
        in_all -= taken[name]
        yield name
