"""What a worker is: something with models and a device that carries out work, here or in another process."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from bivdiff.errors import BIVDiffError
from bivdiff.late import importing
from bivdiff.settings import Settings

if TYPE_CHECKING:
    from bivdiff.bridge.store import StageStore
    from bivdiff.models.manager import ModelManager

Work: TypeAlias = Callable[..., Iterator[Any]]
"""A generator function of a module, whose first argument are the worker's `Tools`; all else can be pickled."""

_log = logging.getLogger(__name__)


class WorkerLostError(BIVDiffError):
    """The process of a worker has ended, or was ended, while it worked."""


class Tools:
    """What a worker works with: the models of its process and the stages that earlier work finished, made on first use.

    Args:
        settings: of the process.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._lock = threading.Lock()
        self._manager: ModelManager | None = None
        self._stages: StageStore | None = None

    def manager(self) -> ModelManager:
        """The process's one manager."""
        with self._lock:  # two first users must not make two
            if self._manager is None:
                import_models()
                with importing():
                    from bivdiff.models.manager import ModelManager

                self._manager = ModelManager(self.settings)
            return self._manager

    @property
    def made(self) -> ModelManager | None:
        """The manager, if there has been a use of it."""
        return self._manager

    def stages(self) -> StageStore:
        """What is kept of earlier runs."""
        with self._lock:
            if self._stages is None:
                with importing():
                    from bivdiff.bridge.store import StageStore

                self._stages = StageStore(self.settings)
            return self._stages


def import_models() -> None:
    """Import the pipeline, and with it all model libraries, one at a time: diffusers breaks when two threads do."""
    with importing():
        import bivdiff.bridge.pipeline  # noqa: F401


class Worker(Protocol):
    """Carries out work, one after the other; asking it something small while it works is possible too."""

    @property
    def is_up(self) -> bool:
        """Whether its process is there and has answered, as far as is known."""

    def start(self, work: Work, *given: Any) -> Generator[Any, None, None]:
        """Begin work; what it yields comes as it is made.

        Closing what this returns ends the work before its next step, and waits until it has ended.

        Raises:
            WorkerLostError: the worker's process ended; the next work finds a new one.
            BIVDiffError: as the work raises it. Any other error comes as a RuntimeError that names it.
        """

    def close(self) -> None:
        """End the worker, and its process if it has one."""


class Here:
    """The worker that is this process itself.

    Args:
        settings: of the process.
    """

    is_up = True

    def __init__(self, settings: Settings) -> None:
        self.tools = Tools(settings)

    def start(self, work: Work, *given: Any) -> Generator[Any, None, None]:
        """See `Worker`; errors come as they are."""
        with closing(_as_generator(work(self.tools, *given))) as events:
            yield from events

    def close(self) -> None:
        """Nothing to end."""


class Desk:
    """The end of the line in a worker's own process, whichever line that is.

    Args:
        settings: of the process.
    """

    def __init__(self, settings: Settings) -> None:
        self._tools = Tools(settings)
        self._stopped: set[int] = set()

    def answer(self, call: int, work: Work, given: tuple[Any, ...]) -> Iterator[Any]:
        """Carry out work; yields what it does, and an error as a `Failed` at last.

        Args:
            call: its number, by which `stop` names it.
            work, given: as for `Worker.start`.
        """
        try:
            with closing(_as_generator(work(self._tools, *given))) as events:
                for event in events:
                    yield event
                    if call in self._stopped:
                        return
        except BIVDiffError as error:
            yield Failed(error)
        except Exception as error:  # noqa: BLE001 - it is told at the other end
            _log.exception("Work failed in a way that nobody foresaw.")
            yield Failed(RuntimeError(f"{type(error).__name__}: {error}"))
        finally:
            self._stopped.discard(call)

    def stop(self, call: int) -> None:
        """Let work end before its next step."""
        self._stopped.add(call)


@dataclass(frozen=True)
class Failed:
    """An error on its way from one process to another."""

    error: Exception


def _as_generator(events: Iterator[Any]) -> Generator[Any, None, None]:
    """The same with a `close` that reaches its own, where it has one."""
    try:
        yield from events
    finally:
        close = getattr(events, "close", None)
        if close is not None:
            close()


def ready(tools: Tools) -> Iterator[bool]:
    """Work that says that there is a process with models to work with."""
    tools.manager()
    yield True
