"""Workers that are processes of this machine, each with a card of its own or its share of the processor."""

from __future__ import annotations

import itertools
import logging
import multiprocessing
import os
import queue
import signal
import sys
import threading
from collections.abc import Generator, Mapping
from multiprocessing.connection import Connection, wait
from typing import Any

from bivdiff.catalog.families import extend
from bivdiff.errors import InputError
from bivdiff.models.memory import sharing
from bivdiff.settings import Settings
from bivdiff.workers.worker import Desk, Failed, Work, WorkerLostError

_ENDED = object()


class ProcessWorker:
    """A worker in a process of its own, which is started when there is work for it.

    Args:
        settings: of that process.
        environment: variables that keep it to its device.
    """

    def __init__(self, settings: Settings, environment: Mapping[str, str]) -> None:
        self._settings, self._environment = settings, environment
        self._lock = threading.Lock()
        self._line: _Line | None = None

    @property
    def is_up(self) -> bool:
        """See `Worker`."""
        return (line := self._line) is not None and line.has_answered and not line.has_ended

    def start(self, work: Work, *given: Any) -> Generator[Any, None, None]:
        """See `Worker`."""
        with self._lock:
            if self._line is None or self._line.has_ended:
                self._line = _Line(self._settings, self._environment)
            line = self._line
        return line.call(work, given)

    def close(self) -> None:
        """See `Worker`."""
        with self._lock:
            if self._line is not None:
                self._line.close()
                self._line = None


class _Line:
    """A process and the way to it: what it sends is sorted by the call that it belongs to."""

    def __init__(self, settings: Settings, environment: Mapping[str, str]) -> None:
        spawning = multiprocessing.get_context("spawn")  # a fork of a process with threads or CUDA breaks
        self._connection, other = spawning.Pipe()
        self._process = spawning.Process(target=_serve, args=(other, settings, dict(environment)), daemon=True)
        self._process.start()
        other.close()  # so that the line ends with the process
        self._calls: dict[int, queue.SimpleQueue[Any]] = {}
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        self.has_answered = self.is_dead = False
        threading.Thread(target=self._sort, name="bivdiff-worker-line", daemon=True).start()

    @property
    def has_ended(self) -> bool:
        """Whether the process has, also where nobody has been told of it yet."""
        return self.is_dead or bool(wait([self._process.sentinel], timeout=0))

    def call(self, work: Work, given: tuple[Any, ...]) -> Generator[Any, None, None]:
        with self._lock:
            number, coming = next(self._numbers), queue.SimpleQueue[Any]()
            self._calls[number] = coming
            if self.is_dead:
                coming.put(self._lost())
        self._send(("start", number, work, given))
        ended = False
        try:
            while True:
                event = coming.get()
                if event is _ENDED or isinstance(event, Failed):
                    ended = True
                    if isinstance(event, Failed):
                        raise event.error
                    return
                yield event
        finally:
            if not ended:
                self._send(("stop", number))
                while not (isinstance(event := coming.get(), Failed) or event is _ENDED):
                    pass
            with self._lock:
                self._calls.pop(number, None)

    def _send(self, message: tuple[Any, ...]) -> None:
        try:
            with self._lock:
                self._connection.send(message)
        except OSError:
            pass  # the other thread notices the same, and tells all calls

    def _sort(self) -> None:
        while True:
            try:
                number, event = self._connection.recv()
            except (EOFError, OSError):
                break
            with self._lock:
                self.has_answered = True
                coming = self._calls.get(number)
            if coming is not None:
                coming.put(_ENDED if event is None else event[0])
        self._process.join()
        with self._lock:
            self.is_dead = True
            for coming in self._calls.values():
                coming.put(self._lost())

    def _lost(self) -> Failed:
        return Failed(WorkerLostError(
            f"The worker's process {self._process.pid} ended while it worked ({_how(self._process.exitcode)}), so the "
            "clip was not finished. Try it again; if that happens again, take fewer frames or a smaller size."
        ))  # fmt: skip

    def close(self) -> None:
        self._process.terminate()
        self._process.join()


def _how(status: int | None) -> str:
    if status is None or status >= 0:
        return f"exit status {status}"
    name = signal.Signals(-status).name
    return f"{name}, most often because the memory was used up" if name == "SIGKILL" else name


def _serve(connection: Connection, settings: Settings, environment: Mapping[str, str]) -> None:
    """The process: answers calls until the line ends, which it does with the process at the other end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the other end is interrupted too, and says what to do
    os.environ.update(environment)  # before torch is imported
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING)
    if settings.catalog:
        extend(settings.catalog)
    desk, sending = Desk(settings), threading.Lock()

    def send(number: int, event: Any) -> None:
        with sending:
            connection.send((number, event))

    def answer(number: int, work: Work, given: tuple[Any, ...]) -> None:
        try:
            for event in desk.answer(number, work, given):
                send(number, (event,))
            send(number, None)
        except Exception as error:  # noqa: BLE001 - what cannot be sent is told, so that nobody waits for it
            send(number, (Failed(RuntimeError(f"{type(error).__name__}: {error}")),))

    while True:
        try:
            kind, number, *more = connection.recv()
        except (EOFError, OSError):
            os._exit(0)  # nobody is left who wants what is being made
        if kind == "stop":
            desk.stop(number)
        else:
            threading.Thread(target=answer, args=(number, *more), daemon=True).start()


def process_workers(count: int, settings: Settings) -> list[ProcessWorker]:
    """So many workers on this machine, each with a card of its own, or with its share of the processor.

    Raises:
        InputError: there are fewer cards, or one is named by number.
    """
    if settings.device not in {"auto", "cpu", "cuda"}:
        raise InputError(
            f"{count} workers cannot share the device '{settings.device}'. Use cpu, cuda or auto, or one worker."
        )
    settings = sharing(settings, count)
    cards = 0 if settings.device == "cpu" else _count_cards()
    if not cards:
        threads = os.environ.get("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // count)))
        return [ProcessWorker(settings, {"OMP_NUM_THREADS": threads}) for _ in range(count)]
    if count > cards:
        raise InputError(f"{count} workers want a card each, and this machine has {cards}. Use {cards} or fewer.")
    visible = os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(cards)))
    return [ProcessWorker(settings, {"CUDA_VISIBLE_DEVICES": card}) for card in visible.split(",")[:count]]


def _count_cards() -> int:
    import torch

    return torch.cuda.device_count()
