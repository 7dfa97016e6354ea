"""How much one place may have of what all have together: of open requests, of what is sent, of what waits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

PART = 0.5  # of what is still free: one place alone has a third of all, and whoever comes next finds some


def fits(place: str, count: int, taken: Mapping[str, int], most: int) -> bool:
    """Whether a place may take so much more of what there is only so much of.

    A place may have half as much as is left for others: the more come, the less each of them, and no number of places
    leaves nothing. A place without a name is this machine, which has no such bound. Not for the few turns that may be
    had at a time, of which half of what is free may be none: their share is that of `bivdiff.studio.turns`.

    Args:
        place: who asks.
        count: how much.
        taken: by place.
        most: of all.
    """
    free = most - sum(taken.values()) - count
    return free >= 0 and (not place or taken.get(place, 0) + count <= PART * free)


class Traffic:
    """What is taken by whom, of something that there is only so much of (see `fits`).

    Args:
        most: of all.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._taken: Counter[str] = Counter()

    def takes(self, place: str, count: int = 1) -> bool:
        """Note that a place has so much more, or return that it may not."""
        if not fits(place, count, self._taken, self._most):
            return False
        self._taken[place] += count
        return True

    def gives_back(self, place: str, count: int = 1) -> None:
        """Note that a place has so much less."""
        self._taken[place] -= count
        if not self._taken[place]:
            del self._taken[place]
