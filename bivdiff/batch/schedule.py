"""Which worker gets which job: one whose models it has, and else one whose models the fewest others are at work on."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Hashable, Iterable
from typing import Generic, TypeVar

J = TypeVar("J")


class Schedule(Generic[J]):
    """Jobs that wait, by the models that they need, and the workers that ask for them, by number.

    A worker goes on with the models that it has for as long as there are jobs for them. One that has to load others
    takes those with the most jobs left for each worker that is at them. To choose costs a step for each set of models,
    however many jobs wait.

    Args:
        jobs: each with what it needs; those of one need are handed out in their order.
    """

    def __init__(self, jobs: Iterable[tuple[Hashable, J]]) -> None:
        self._changed = threading.Condition()
        self._waiting: dict[Hashable, deque[J]] = {}
        for need, job in jobs:
            self._waiting.setdefault(need, deque()).append(job)
        self._held: dict[int, Hashable] = {}
        self._working = 0  # jobs that are taken and have not ended
        self._closed = False
        self.loads = 0  # how often a worker had to load other models

    def take(self, worker: int) -> J | None:
        """The next job for a worker; None once there are none left and none that could come back."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed or not self._working)
            if self._closed or not self._waiting:
                self._held.pop(worker, None)
                return None
            need = self._held.get(worker)
            if worker not in self._held or need not in self._waiting:
                others = Counter(held for number, held in self._held.items() if number != worker)
                need = max(self._waiting, key=lambda each: len(self._waiting[each]) / (1 + others[each]))
                self.loads += 1
            self._held[worker] = need
            job = self._waiting[need].popleft()
            if not self._waiting[need]:
                del self._waiting[need]
            self._working += 1
            return job

    def ended(self) -> None:
        """Note that a job has ended."""
        with self._changed:
            self._working -= 1
            self._changed.notify_all()

    def put_back(self, worker: int, need: Hashable, job: J) -> None:
        """Let a job be taken again, before all others of its need, since its worker was lost with its models."""
        with self._changed:
            self._waiting.setdefault(need, deque()).appendleft(job)
            self._held.pop(worker, None)
            self._working -= 1
            self._changed.notify_all()

    def close(self) -> None:
        """Hand out no more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def left(self) -> list[J]:
        """The jobs that nobody has taken."""
        with self._changed:
            return [job for jobs in self._waiting.values() for job in jobs]
