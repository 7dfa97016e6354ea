"""The queue of what is to be made: one worker owns the device, so that a job outlives whoever asked for it."""

from __future__ import annotations

import contextvars
import logging
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, cast

from bivdiff.errors import CancelledError, InputError

State = Literal["queued", "running", "done", "failed", "cancelled"]
WAITING: tuple[State, ...] = ("queued", "running")
USUAL_SECONDS = 30.0  # of a job, before any has ended
RECENT = 8  # jobs whose duration tells how long the next will take

_log = logging.getLogger(__name__)


class Board(Protocol):
    """What a job shows; its methods are called by the worker alone, whatever followers read."""

    def take(self, update: Any) -> bool:
        """Note what the job yielded; returns whether that was all of it, so that there is nothing left to stop."""

    def end(self, state: State, error: Exception | None) -> None:
        """Note that there will be no more, and why; it is called once, whether or not the job has begun."""

    def remaining(self) -> float | None:
        """Seconds until the end, or None while it is too early to say."""


@dataclass(eq=False)
class Job:
    """One thing to be made.

    Attributes:
        id: cannot be guessed.
        owner: the token of who asked for it; nobody else may see it.
        place: where on the page it belongs.
        title: in words.
        board: what it shows.
        state: see `State`.
        created, began, ended: by the clock of `Jobs`; began and ended are None until then.
        version: grows whenever there is something new to show.
    """

    id: str
    owner: str
    place: str
    title: str
    board: Any
    start: Callable[[], Iterator[Any]] = field(repr=False)
    created: float
    began: float | None = None
    ended: float | None = None
    state: State = "queued"
    stopping: bool = False
    version: int = 0
    context: contextvars.Context = field(default_factory=contextvars.copy_context, repr=False)

    @property
    def waits(self) -> bool:
        """Whether it is queued or running."""
        return self.state in WAITING


class Jobs:
    """A queue with one worker.

    Args:
        device: held while a job works.
        most: jobs that may wait in all; most_of_one: that one owner may have waiting or running.
        kept: ended jobs of one owner that stay to be shown; kept_in_all: of all owners, whoever they are.
        clock: seconds.
    """

    def __init__(
        self, device: threading.Lock, most: int = 24, most_of_one: int = 6, kept: int = 12,
        kept_in_all: int = 48, clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self._device, self._most, self._most_of_one, self._kept, self._clock = device, most, most_of_one, kept, clock
        self._kept_in_all = kept_in_all
        self._changed = threading.Condition()
        self._queue: list[Job] = []
        self._ended: list[Job] = []
        self._running: Job | None = None
        self._durations: deque[float] = deque(maxlen=RECENT)
        self._worker: threading.Thread | None = None
        self._version = 0

    # Asking for jobs

    def submit(
        self, start: Callable[[], Iterator[Any]], board: Board, *, owner: str, place: str, title: str
    ) -> Job:  # fmt: skip
        """Add a job to the end of the queue.

        Args:
            start: begins it; closing what it returns stops it before its next step. It runs in the context of the
                caller, in the worker's thread.
            board: is told what it yields.
            owner, place, title: see `Job`.

        Raises:
            InputError: too many jobs wait.
        """
        with self._changed:
            self.check(owner)
            job = Job(secrets.token_hex(16), owner, place, title, board, start, self._clock())
            self._queue.append(job)
            if self._worker is None:
                self._worker = threading.Thread(target=self._work, name="bivdiff-jobs", daemon=True)
                self._worker.start()
            self._changed.notify_all()
        return job

    def check(self, owner: str) -> None:
        """Refuse another job of an owner while too many wait.

        Raises:
            InputError: they do.
        """
        with self._changed:
            if len(self._queue) >= self._most:
                raise InputError(f"{len(self._queue)} jobs wait already, which is the most. Try again in a while.")
            own = [job for job in self._waiting() if job.owner == owner]
            if len(own) >= self._most_of_one:
                raise InputError(
                    f"You have {len(own)} jobs waiting or running, which is the most for one visitor. Wait for one of "
                    "them, or remove one."
                )

    def cancel(self, job: Job) -> None:
        """Stop a job before its next step, or take it from the queue; one that has ended stays as it is."""
        with self._changed:
            if job in self._queue:
                self._queue.remove(job)
                self._tell_board(job, "cancelled", None)
                self._end(job, "cancelled")
            elif job is self._running:
                job.stopping = True
                self._note(job)

    def move(self, job: Job, by: int) -> None:
        """Let a waiting job change places with another of its owner: -1 brings it one forward, 1 one back."""
        with self._changed:
            own = [other for other in self._queue if other.owner == job.owner]
            if job in own and 0 <= (at := own.index(job) + by) < len(own):
                here, there = self._queue.index(job), self._queue.index(own[at])
                self._queue[here], self._queue[there] = self._queue[there], self._queue[here]
                self._note(job)

    # Looking at them

    def of(self, owner: str, place: str = "") -> list[Job]:
        """An owner's jobs, of one place or of all: the running one, those that wait in their order, the ended."""
        with self._changed:
            jobs = [*self._waiting(), *reversed(self._ended)]
        return [job for job in jobs if job.owner == owner and place in ("", job.place)]

    def get(self, job_id: str, owner: str) -> Job:
        """One of an owner's jobs.

        Raises:
            InputError: there is none of that name.
        """
        for job in self.of(owner):
            if job.id == job_id:
                return job
        raise InputError("There is no such job any more. Look into the history for what it made.")

    def before(self, job: Job) -> int:
        """How many jobs come before a waiting one; 0 for any other."""
        with self._changed:
            return self._waiting().index(job) if job in self._queue else 0

    def starts_in(self, job: Job) -> float:
        """Seconds until a waiting job will start; 0 for any other.

        The running job tells itself how long it will take, as soon as it can; others will take what the last ones took.
        """
        with self._changed:
            usual = sum(self._durations) / len(self._durations) if self._durations else USUAL_SECONDS
            if job not in self._queue:
                return 0.0
            left = 0.0
            if self._running is not None:
                told = self._running.board.remaining()
                left = usual - (self._clock() - (self._running.began or 0.0)) if told is None else told
            return self._queue.index(job) * usual + max(left, 0.0)

    def wait(self, seen: int, timeout: float) -> int:
        """Wait until anything has changed since `seen`, at most `timeout` seconds; returns what to give next time."""
        with self._changed:
            self._changed.wait_for(lambda: self._version != seen, timeout)
            return self._version

    def _waiting(self) -> list[Job]:
        return [*([self._running] if self._running else []), *self._queue]

    # The worker

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._queue)
            with self._device:
                with self._changed:
                    if not self._queue:
                        continue  # it was taken away while the device was busy
                    job = self._running = self._queue.pop(0)
                    job.state, job.began = "running", self._clock()
                    self._note(job)
                state, error = job.context.run(self._carry_out, job)
            self._tell_board(job, state, error)  # it may write files: others can look and ask meanwhile
            with self._changed:
                self._running = None
                self._end(job, state)

    def _carry_out(self, job: Job) -> tuple[State, Exception | None]:
        """Run a job to its end, or until it is to stop; returns how it ended, and the error that ended it."""
        try:
            with closing(cast(Any, job.start())) as updates:
                for update in updates:
                    whole = job.board.take(update)
                    with self._changed:
                        self._note(job)
                    if whole:
                        break
                    if job.stopping:
                        return "cancelled", None
        except CancelledError:
            return "cancelled", None
        except Exception as error:  # noqa: BLE001 - the board tells the user
            return "failed", error
        except BaseException as error:  # noqa: BLE001 - what wants to end the thread would end everybody's queue
            return "failed", RuntimeError(f"The job was ended by {type(error).__name__}: {error}")
        return "done", None

    def _tell_board(self, job: Job, state: State, error: Exception | None) -> None:
        """Before the job's own state changes: whoever sees that a job has ended, finds its board ended too."""
        try:
            job.board.end(state, error)
        except Exception:  # noqa: BLE001 - the others want to be made
            _log.exception("What a job leaves behind could not be kept.")

    def _end(self, job: Job, state: State) -> None:
        job.state, job.ended = state, self._clock()
        if state == "done" and job.began is not None:
            self._durations.append(job.ended - job.began)
        self._ended.append(job)
        own = [other for other in self._ended if other.owner == job.owner]
        for old in own[: -self._kept]:
            self._ended.remove(old)
        del self._ended[: -self._kept_in_all]  # who has no token is somebody new each time
        self._note(job)

    def _note(self, job: Job) -> None:
        job.version += 1
        self._version += 1
        self._changed.notify_all()
