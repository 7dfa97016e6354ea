"""Whose turn it is where several wait for the same: nobody's many hold up another's one."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from typing import NamedTuple

MOST_REMEMBERED = 4096  # places and windows whose last turn is known


class Asker(NamedTuple):
    """Who waits: the place that others may share, such as an address, and whose window it is there."""

    place: str
    window: str = ""


class Turns:
    """The order in which askers have what only so many can have at a time.

    The next is of the place that holds least, of several the one whose last turn is longest ago, there of the window
    whose last turn is longest ago, and there who asked first. Where more than one can have it, no place has all of it:
    somebody else need not wait until all that one place has begun is done.

    Not safe among threads by itself.
    """

    def __init__(self) -> None:
        self._count = count(1)
        self._last: dict[str | Asker, int] = {}

    def next(self, waiting: Sequence[Asker], holding: Sequence[Asker], most: int | None) -> int | None:
        """Which of those who wait has the next turn, by its number; None where nobody may have one now.

        Args:
            waiting: in the order in which they asked.
            holding: those whose turn it is already.
            most: how many may hold it at a time; None is no bound.
        """
        held = Counter(asker.place for asker in holding)
        share = None if most is None else share_of(most)

        def rank(number: int) -> tuple[int, int, int, int]:
            asker = waiting[number]
            return held[asker.place], self._last.get(asker.place, 0), self._last.get(asker, 0), number

        if most is not None and len(holding) >= most:
            return None
        may = [number for number, asker in enumerate(waiting) if share is None or held[asker.place] < share]
        return min(may, key=rank, default=None)

    def note(self, asker: Asker) -> None:
        """Note that it is somebody's turn."""
        for key in (asker.place, asker):
            self._last.pop(key, None)
            self._last[key] = next(self._count)
        while len(self._last) > MOST_REMEMBERED:
            del self._last[next(iter(self._last))]


def share_of(most: int) -> int:
    """How much of what so many can have at a time one place may have."""
    return max(1, most - max(1, most // 4))


class Gate:
    """Lets so many through at a time, in fair turns. Whoever is inside may enter again.

    Args:
        most: how many.
    """

    def __init__(self, most: int) -> None:
        self._most, self._turns = most, Turns()
        self._changed = threading.Condition()
        self._waiting: list[tuple[Asker, object]] = []
        self._inside: list[Asker] = []
        self._mine = threading.local()

    @contextmanager
    def enter(self, asker: Asker) -> Iterator[None]:
        """Wait for one's turn, and have it."""
        if getattr(self._mine, "inside", False):
            yield
            return
        ticket = object()
        with self._changed:
            self._waiting.append((asker, ticket))
            try:
                self._changed.wait_for(lambda: self._is_next(ticket))
            finally:
                self._waiting.remove((asker, ticket))
                self._changed.notify_all()
            self._turns.note(asker)
            self._inside.append(asker)
        self._mine.inside = True
        try:
            yield
        finally:
            self._mine.inside = False
            with self._changed:
                self._inside.remove(asker)
                self._changed.notify_all()

    def _is_next(self, ticket: object) -> bool:
        number = self._turns.next([asker for asker, _ in self._waiting], self._inside, self._most)
        return number is not None and self._waiting[number][1] is ticket
