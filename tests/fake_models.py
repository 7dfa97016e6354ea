"""A stand-in for the models of a process: the real list, and memory that holds nothing but keys."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from bivdiff.models.inventory import Entry, inventory
from bivdiff.models.manager import Readout
from bivdiff.models.memory import Memory
from bivdiff.models.pulling import REPORT_EVERY
from bivdiff.settings import Settings

GIGABYTE = 10**9


@dataclass
class FakeModels:
    """The toybox is on the disk, and everything else is absent until it is pulled.

    Attributes:
        slow: whether a download goes on for as long as nobody stops it.
        error: raised by every action.
        loaded, pulled: keys.
        stopped: set when a download has ended, however it did.
    """

    slow: bool = False
    error: Exception | None = None
    loaded: list[str] = field(default_factory=list)
    pulled: list[str] = field(default_factory=list)
    stopped: threading.Event = field(default_factory=threading.Event)

    def inventory(self, family: str | None = None) -> list[Entry]:
        settings = Settings(models_folder=Path("nowhere"))
        return [replace(entry, state=self._state(entry)) for entry in inventory(None, settings, family)]

    def _state(self, entry: Entry) -> str:
        if entry.key in self.loaded:
            return "in memory"
        return "on disk" if "toybox" in entry.families or entry.key in self.pulled else "absent"

    def readout(self) -> Readout:
        memory = Memory(6 * GIGABYTE, 8 * GIGABYTE)
        return Readout(
            "cuda:0", "model", memory, Memory(24 * GIGABYTE, 32 * GIGABYTE), 7 * GIGABYTE, 20 * GIGABYTE,
            tuple(self.loaded[:1]), tuple(self.loaded), 0.5, GIGABYTE,
        )  # fmt: skip

    def memory(self) -> str:
        return "2 GB of 8 GB of the memory of cuda:0 in use"

    def pull(self, key: str) -> Iterator[tuple[int, int]]:
        self.stopped.clear()
        try:
            for done in range(10):
                yield done * GIGABYTE, 10 * GIGABYTE
                while self.slow and done and not self.stopped.wait(REPORT_EVERY):
                    yield done * GIGABYTE, 10 * GIGABYTE
            self._refuse()
            self.pulled.append(key)
        finally:
            self.stopped.set()

    def load(self, key: str) -> None:
        self._refuse()
        self.loaded.append(key)

    def unload(self, key: str | None = None) -> None:
        self._refuse()
        self.loaded = [each for each in self.loaded if key not in {None, each}]

    def _refuse(self) -> None:
        if self.error is not None:
            raise self.error
