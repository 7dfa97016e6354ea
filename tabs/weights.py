"""About how much memory a value takes that somebody has sent, or is sent."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

LEAST = 64  # bytes that anything takes


def bytes_in(value: Any) -> int:
    """The bytes of the texts and arrays in a value, and some for each part; what a text takes on the wire is less."""
    found, left = 0, [value]
    while left:  # however deep it is
        part = left.pop()
        found += LEAST
        if isinstance(part, str | bytes):
            found += len(part)
        elif isinstance(part, Mapping):
            left += [*part, *part.values()]
        elif isinstance(part, list | tuple | set | frozenset):
            left += part
        else:
            found += int(getattr(part, "nbytes", 0))
    return found


def heaviest(taken: Mapping[str, int], most: int) -> Iterator[str]:
    """The names of those that take most, the heaviest first, as far as they must go for all to take no more."""
    in_all = sum(taken.values())
    for name in sorted(taken, key=lambda name: -taken[name]):
        if in_all <= most:
            return
        in_all -= taken[name]
        yield name
