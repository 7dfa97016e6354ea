"""Whose runs leave where the history is full, so that nobody loses theirs to somebody with many names.

Who has come back on another day is a regular, and all others are strangers: a name costs nothing, and a day does.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import NamedTuple

REGULAR_SECONDS = 20 * 3600.0  # from a visitor's first run to the last, of one who came back
GONE_SECONDS = 7 * 24 * 3600.0  # since the last run of a stranger who is not expected back
STRANGERS_SHARE = 0.25  # of the room, for all strangers together, where regulars want the rest
PLACE_SHARE = 0.125  # of the room, for the strangers of one place, before they leave ahead of others
VISITOR_SHARE = 0.5  # of the room, for one stranger, before it is that one's turn


class Visitor(NamedTuple):
    """Somebody who has runs: since when and until when, from which place, and how many bytes they take.

    What has no known place is a place of its own.
    """

    owner: str
    place: str
    first: float
    last: float
    taken: float

    @property
    def is_regular(self) -> bool:
        """Whether the visitor came back on another day."""
        return self.last - self.first >= REGULAR_SECONDS

    @property
    def home(self) -> str:
        """The place, or else the visitor."""
        return self.place or self.owner


def next_to_give(visitors: Iterable[Visitor], givers: Collection[str], bound: float, now: float) -> str:
    """Whose turn it is to lose a run.

    Args:
        visitors: all who have runs.
        givers: the owners among them who have one that may leave; at least one.
        bound: the room in bytes.
        now: seconds since 1970.
    """
    everybody = list(visitors)
    strangers = [each for each in everybody if not each.is_regular]
    regulars = [each for each in everybody if each.is_regular]
    crowded = sum(each.taken for each in strangers) > STRANGERS_SHARE * bound
    for group in (strangers, regulars) if crowded else (regulars, strangers):
        giving = [each for each in group if each.owner in givers]
        if giving:
            return (_of_strangers if group is strangers else _of_regulars)(giving, group, bound, now).owner
    raise ValueError("nobody has a run that may leave")


def _of_regulars(giving: list[Visitor], group: list[Visitor], _bound: float, _now: float) -> Visitor:
    """Of the place that takes the most, who takes the most."""
    taken = _by_place(group)
    return max(giving, key=lambda each: (taken[each.home], each.taken, each.first))


def _of_strangers(giving: list[Visitor], group: list[Visitor], bound: float, now: float) -> Visitor:
    """Whoever is gone, then of the place that takes too much, and there the one that does, then the newest."""
    gone = [each for each in giving if now - each.last > GONE_SECONDS]
    if gone:
        return min(gone, key=lambda each: each.last)
    taken = _by_place(group)
    crowd = max(giving, key=lambda each: taken[each.home]).home
    if taken[crowd] > PLACE_SHARE * bound:
        giving = [each for each in giving if each.home == crowd]
    return max(giving, key=lambda each: (each.taken > VISITOR_SHARE * bound, each.first))


def _by_place(visitors: Iterable[Visitor]) -> dict[str, float]:
    taken: dict[str, float] = {}
    for each in visitors:
        taken[each.home] = taken.get(each.home, 0.0) + each.taken
    return taken
