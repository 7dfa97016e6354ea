"""The studio on several cards: each run is lent a worker, one whose models are right if such a one is free."""

from __future__ import annotations

import threading
from collections.abc import Generator, Hashable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from bivdiff.catalog.components import components_of
from bivdiff.catalog.families import models_for
from bivdiff.catalog.own import check_may_manage
from bivdiff.catalog.specs import with_bases
from bivdiff.errors import InputError, ModelUnavailableError
from bivdiff.late import importing
from bivdiff.models import hub
from bivdiff.models.inventory import IN_MEMORY, Entry, find_spec, inventory
from bivdiff.models.pulling import pulling
from bivdiff.settings import Settings
from bivdiff.studio.maker import Maker
from bivdiff.types import GenerationRequest
from bivdiff.units import say_bytes
from bivdiff.workers.worker import Tools, Work, Worker, WorkerLostError

if TYPE_CHECKING:
    from bivdiff.models.manager import Readout

STATES = ("absent", "on disk", "in memory", "on device")  # of a model, the last the furthest


class Crew:
    """Workers that are lent.

    Args:
        workers: at least one.
    """

    def __init__(self, workers: Sequence[Worker]) -> None:
        self.workers = tuple(workers)
        self._changed = threading.Condition()
        self._free: list[tuple[Worker, Hashable]] = [(worker, None) for worker in workers]  # the longest free first

    @contextmanager
    def lent(self, need: Hashable) -> Iterator[Worker]:
        """A worker to oneself, as soon as one is free: one that had the same need last, or else the longest free."""
        with self._changed:
            self._changed.wait_for(lambda: self._free)
            at = next((place for place, (_, had) in enumerate(self._free) if had == need), 0)
            worker, _ = self._free.pop(at)
        try:
            yield worker
        finally:
            with self._changed:
                self._free.append((worker, need))
                self._changed.notify()

    def made(self, need: Hashable, work: Work, *given: Any) -> Generator[Any, None, None]:
        """What a worker that is lent for it yields; see `lent` and `Worker.start`."""
        with self.lent(need) as worker, closing(worker.start(work, *given)) as events:
            yield from events

    def ask(self, work: Work, *given: Any, only_up: bool = False) -> list[Any]:
        """The last answer of each worker to something small, which it gives also while it works.

        Args:
            work, given: as for `Worker.start`.
            only_up: leave out the workers that have no process, or lose it now: starting one takes seconds.

        Raises:
            WorkerLostError: one was lost that is not left out.
        """
        found = []
        for worker in self.workers:
            if only_up and not worker.is_up:
                continue
            try:
                *_, answer = worker.start(work, *given)
            except WorkerLostError:
                if not only_up:
                    raise
            else:
                found.append(answer)
        return found

    def start_up(self) -> str:
        """Let all workers load their libraries; returns a line on what they compute with."""
        return f"{len(self.workers)} workers | {self.ask(_startup_line)[0]}"

    def close(self) -> None:
        """End all workers."""
        for worker in self.workers:
            worker.close()


class CrewMaker:
    """Does what `Maker` does, by workers.

    Args:
        crew: the workers.
    """

    def __init__(self, crew: Crew) -> None:
        self._crew = crew

    def run(self, request: GenerationRequest, to_fit: bool) -> Generator[Any, None, None]:
        """See `Maker`."""
        return self._made(_run, request, to_fit)

    def sweep(
        self, request: GenerationRequest, axes: Mapping[str, Sequence[Any]], to_fit: bool
    ) -> Generator[Any, None, None]:
        """See `Maker`."""
        return self._made(_sweep, request, dict(axes), to_fit)

    def expected(self, request: GenerationRequest) -> str:
        """See `Maker`; the first worker is asked."""
        (sentence,) = self._crew.workers[0].start(_expected, request)
        return str(sentence)

    def expected_seconds(self, request: GenerationRequest, num_frames: int) -> float | None:
        """See `Maker`; the first worker is asked."""
        (seconds,) = self._crew.workers[0].start(_expected_seconds, request, num_frames)
        return None if seconds is None else float(seconds)

    def control_maps(self, request: GenerationRequest) -> tuple[np.ndarray, ...]:
        """See `Maker`; where a model draws them, by a worker that is free."""
        if any(map(models_for(request).annotator, request.controls)):
            (maps,) = self._made(_control_maps, request)
        else:
            (maps,) = self._crew.workers[0].start(_control_maps, request)
        return maps

    def _made(self, work: Work, request: GenerationRequest, *given: Any) -> Generator[Any, None, None]:
        need = tuple(spec.key for spec in components_of(request).every)
        return self._crew.made(need, work, request, *given)


def _run(tools: Tools, request: GenerationRequest, to_fit: bool) -> Iterator[Any]:
    return Maker(tools).run(request, to_fit)


def _sweep(tools: Tools, request: GenerationRequest, axes: Mapping[str, Sequence[Any]], to_fit: bool) -> Iterator[Any]:
    return Maker(tools).sweep(request, axes, to_fit)


def _expected(tools: Tools, request: GenerationRequest) -> Iterator[str]:
    yield Maker(tools).expected(request)


def _expected_seconds(tools: Tools, request: GenerationRequest, num_frames: int) -> Iterator[float | None]:
    yield Maker(tools).expected_seconds(request, num_frames)


def _control_maps(tools: Tools, request: GenerationRequest) -> Iterator[tuple[np.ndarray, ...]]:
    yield Maker(tools).control_maps(request)


class CrewModels:
    """The models of all workers together, as the tab of the models asks for them.

    Args:
        settings: of the process.
        crew: the workers.
    """

    def __init__(self, settings: Settings, crew: Crew) -> None:
        self._settings, self._crew = settings, crew

    def inventory(self, family: str | None = None) -> list[Entry]:
        """Every model, or those of a family, each in the furthest state that it has in any worker; starts none."""
        up = self._crew.ask(_inventory, family, only_up=True)
        every = zip(inventory(None, self._settings, family), *up, strict=True)
        return [max(entries, key=lambda entry: STATES.index(entry.state)) for entries in every]

    def readout(self) -> Readout:
        """The memory of all devices together; that of the machine is shared, and budgets add up."""
        return _together(self._crew.ask(_readout))

    def memory(self) -> str:
        """How full the memory is that models run in, in a few words; nothing is known before a worker has started."""
        reads = self._crew.ask(_readout, only_up=True)
        return memory_words(_together(reads)) if reads else ""

    def pull(self, key: str) -> Generator[tuple[int, int], None, None]:
        """See `pull_one`."""
        return pull_one(key, self._settings)

    def load(self, key: str) -> None:
        """Read what is on the disk into each worker's memory.

        Raises:
            InputError: there is no such model, or the owner does not allow it.
            ModelUnavailableError: its files are not there, or broken.
        """
        check_may_manage(self._settings)
        self._crew.ask(_load, key)

    def unload(self, key: str | None = None) -> None:
        """Drop one, or all, in every worker.

        Raises:
            InputError: there is no such model, a run holds it, or the owner does not allow it.
        """
        check_may_manage(self._settings)
        if any(self._crew.ask(_unload, key)):
            raise InputError(f"'{key}' is in use by a run. Wait until that has ended, or cancel it.")


def memory_words(read: Readout) -> str:
    """How full the memory is that models run in."""
    whose = "the machine's memory" if read.device_budget is None else f"the memory of {read.device}"
    used = read.device_memory.total - read.device_memory.free
    return f"{say_bytes(used)} of {say_bytes(read.device_memory.total)} of {whose} in use"


def pull_one(key: str, settings: Settings) -> Generator[tuple[int, int], None, None]:
    """Download a model in a thread of its own, see `models.pulling`.

    Raises:
        InputError: there is no such model, or the owner does not allow it.
        ModelUnavailableError: it cannot be downloaded.
    """
    check_may_manage(settings)
    return pulling(find_spec(key), settings)


def check_on_disk(key: str, settings: Settings) -> None:
    """Refuse to load what would have to be downloaded first.

    Raises:
        InputError: there is no such model.
        ModelUnavailableError: its files are not there.
    """
    for each in with_bases([find_spec(key)]):
        if hub.find(each, settings) is None:
            raise ModelUnavailableError(f"The files of '{each.key}' are not on this machine. Pull it first.")


def _startup_line(tools: Tools) -> Iterator[str]:
    tools.manager()
    with importing():
        from bivdiff.models.startup import startup_line

    yield startup_line(tools.settings)


def _inventory(tools: Tools, family: str | None) -> Iterator[list[Entry]]:
    yield inventory(tools.made, tools.settings, family)


def _readout(tools: Tools) -> Iterator[Readout]:
    yield tools.manager().readout()


def _load(tools: Tools, key: str) -> Iterator[None]:
    check_on_disk(key, tools.settings)
    with tools.manager().hold(find_spec(key)):
        yield None


def _unload(tools: Tools, key: str | None) -> Iterator[bool]:
    specs = [] if key is None else [find_spec(key)]
    manager = tools.manager()
    manager.unload(*specs)
    yield any(manager.state(spec) in IN_MEMORY for spec in specs)


def _together(reads: Sequence[Readout]) -> Readout:
    """One readout of several workers'."""
    first = reads[0]
    own = first.device_budget is not None
    memory = first.device_memory
    if own:
        memory = memory._replace(
            free=sum(read.device_memory.free for read in reads), total=sum(read.device_memory.total for read in reads)
        )
    latest = max(reads, key=lambda read: read.swap_bytes)
    return replace(
        latest, device=f"{len(reads)} x {first.device}", device_memory=memory,
        device_budget=sum(read.device_budget or 0 for read in reads) if own else None,
        host_budget=sum(read.host_budget for read in reads),
        resident=tuple(sorted({key for read in reads for key in read.resident})),
        loaded=tuple(sorted({key for read in reads for key in read.loaded})),
    )  # fmt: skip
