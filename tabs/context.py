"""What a tab may use: `AppContext`."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from bivdiff.catalog.families import FAMILIES
from bivdiff.catalog.own import check_may_manage, parse_list
from bivdiff.errors import InputError
from bivdiff.late import importing
from bivdiff.media import effort
from bivdiff.models.inventory import IN_MEMORY, Entry, find_spec
from bivdiff.models.inventory import inventory as list_models
from bivdiff.settings import Settings
from bivdiff.studio import zerogpu
from bivdiff.studio.crew import Crew, CrewMaker, CrewModels, check_on_disk, memory_words, pull_one
from bivdiff.studio.history.runs import Runs
from bivdiff.studio.jobs import Jobs
from bivdiff.studio.limits import reading_seconds
from bivdiff.studio.maker import Events, Maker
from bivdiff.studio.turns import Gate
from bivdiff.toybox.clips import SampleClip, load_index
from bivdiff.types import GenerationRequest
from bivdiff.workers.crew import parse_workers, workers_of
from bivdiff.workers.worker import Tools, import_models
from tabs.visitors import asker

if TYPE_CHECKING:
    from bivdiff.models.manager import Readout

DECODERS = 2  # clips of visitors that are decoded at a time, whatever they are decoded for
_log = logging.getLogger(__name__)


class Models(Protocol):
    """What the tab of the models may ask for; models go by their keys in the inventory."""

    def inventory(self, family: str | None = None) -> list[Entry]:
        """Every model, or those of a family; does not wait for the model libraries."""

    def readout(self) -> Readout:
        """The memory as it is now."""

    def memory(self) -> str:
        """How full the memory is that models run in, in a few words; empty where that is not known."""

    def pull(self, key: str) -> Generator[tuple[int, int], None, None]:
        """Download a model; yields the bytes that have arrived and those in all. Closing it stops that."""

    def load(self, key: str) -> None:
        """Read a model into memory. The caller holds the context's `device`."""

    def unload(self, key: str | None = None) -> None:
        """Drop a model from memory, or all that no run holds."""


class ManagedModels:
    """The `Models` of the process's manager."""

    def __init__(self, tools: Tools) -> None:
        self._settings, self._tools = tools.settings, tools

    def inventory(self, family: str | None = None) -> list[Entry]:
        """Nothing is in memory before there is a manager."""
        return list_models(self._tools.made, self._settings, family)

    def readout(self) -> Readout:
        """Makes the manager, which knows the device."""
        return self._tools.manager().readout()

    def memory(self) -> str:
        """Nothing is known before there is a manager, nor of a card that is lent to another process."""
        manager = self._tools.made
        if manager is None or zerogpu.on_zerogpu():
            return ""
        return memory_words(manager.readout())

    def pull(self, key: str) -> Generator[tuple[int, int], None, None]:
        """See `pull_one`."""
        return pull_one(key, self._settings)

    def load(self, key: str) -> None:
        """Load what is on the disk; nothing is downloaded.

        Raises:
            InputError: there is no such model, or the owner does not allow it.
            ModelUnavailableError: its files are not there, or broken.
        """
        check_may_manage(self._settings)
        check_on_disk(key, self._settings)
        with self._tools.manager().hold(find_spec(key)):
            pass  # it stays for as long as there is room

    def unload(self, key: str | None = None) -> None:
        """Drop one, or all.

        Raises:
            InputError: there is no such model, a run holds it, or the owner does not allow it.
        """
        check_may_manage(self._settings)
        specs = [] if key is None else [find_spec(key)]
        manager = self._tools.manager()
        manager.unload(*specs)
        if any(manager.state(spec) in IN_MEMORY for spec in specs):
            raise InputError(f"'{key}' is in use by a run. Wait until that has ended, or cancel it.")


@dataclass(frozen=True)
class AppContext:
    """All that a tab may use.

    Attributes:
        run: a request and whether it may be changed to fit into the memory in, events out, the result last; closing it
            stops the run and frees what it took.
        sweep: a request, the settings to compare with their values, and whether it may be changed to fit, to the
            events, cells and result of `bivdiff.compare.sweep`.
        expected: a sentence on the time and memory that a run will take.
        expected_seconds: how long a request would take if its clip had so many frames; None where that does not fit.
        control_maps: the control maps of a request alone, uint8 `(F, H, W, 3)` for each of its controls.
        samples: the clips that come with the studio, best first; at least one.
        models: those there are, and what may be done with them.
        runs: what was made, kept on the disk.
        jobs: the queue of what is to be made; its worker holds the device.
        settings: what the owner allows, and how much.
        family: key of the model family that a page's tabs offer; families: of all pages, the front page's first.
        device: held by whoever computes with the models, so that no more do than there are devices.
        start_up: loads ahead of the first visitor what takes long, and returns a line on what computes.
        decoders: entered by whoever reads a visitor's files; see `decoding`.
        watches: by visitor, window and place, the lock of the watch of jobs there that came last; see `watch`.
    """

    run: Callable[[GenerationRequest, bool], Events]
    expected: Callable[[GenerationRequest], str]
    expected_seconds: Callable[[GenerationRequest, int], float | None]
    sweep: Callable[[GenerationRequest, Mapping[str, Sequence[Any]], bool], Iterator[Any]]
    control_maps: Callable[[GenerationRequest], tuple[np.ndarray, ...]]
    samples: tuple[SampleClip, ...]
    models: Models
    runs: Runs
    jobs: Jobs[Any]
    device: threading.Lock | threading.Semaphore
    settings: Settings
    family: str = "toybox"
    families: tuple[str, ...] = ("toybox",)
    start_up: Callable[[], str] = str
    decoders: Gate = field(default_factory=lambda: Gate(DECODERS))
    watches: dict[tuple[str, ...], threading.Lock] = field(default_factory=dict)

    @contextmanager
    def decoding(self) -> Iterator[None]:
        """Wait until it is the turn of who asks to read files, and have it: in fair turns, few at a time, and not long.

        Not to be held while something is yielded to the page, which may come back in another thread.
        """
        with self.decoders.enter(asker()), effort.bounded(reading_seconds(self.settings)):
            yield

    @classmethod
    def from_settings(cls, settings: Settings) -> AppContext:
        """The real thing. Starts nothing: the first call of `run` or `control_maps` loads what it needs.

        The exception is ZeroGPU, where models are placed at once, so that each lent card finds them.
        """
        families = tuple(FAMILIES) if settings.families == "all" else parse_list(settings.families)
        if not families or not set(families) <= FAMILIES.keys():  # told now, and not by a page that is not there
            raise InputError(
                f"'{settings.families}' is not a valid value for BIVDIFF_FAMILIES. Set it to all, or to names between "
                f"commas of {', '.join(FAMILIES)}."
            )
        executor, count = parse_workers(settings.workers)
        made: Maker | CrewMaker
        start_up: Callable[[], str]
        models: Models
        if (executor, count) == ("local", 1):
            tools = Tools(settings)
            made, models, at_once, start_up = Maker(tools), ManagedModels(tools), 1, partial(_start_up, settings)
            if zerogpu.on_zerogpu():
                zerogpu.place_models(tools.manager(), settings, families[0])
        else:
            crew = Crew(workers_of(executor, count, settings))
            made, models, at_once = CrewMaker(crew), CrewModels(settings, crew), len(crew.workers)
            start_up = crew.start_up
        device = threading.BoundedSemaphore(at_once)
        return cls(
            run=made.run, sweep=made.sweep, expected=made.expected, expected_seconds=made.expected_seconds,
            control_maps=made.control_maps, samples=load_index(), models=models, runs=Runs(settings),
            jobs=Jobs(device, settings.max_queue, settings.max_jobs, at_once=at_once), device=device,
            settings=settings, families=families, start_up=start_up,
        )  # fmt: skip


def warm_up() -> None:
    """Import the heavy libraries, so that the first visitor need not wait for them."""
    try:
        import_models()
    except (ImportError, RuntimeError):  # the first run meets the same error, and tells its user
        _log.exception("The models' libraries could not be loaded ahead of the first run.")


def _start_up(settings: Settings) -> str:
    warm_up()
    with importing():
        from bivdiff.models.startup import startup_line

    return startup_line(settings)
