"""The queue of what is to be made: a job outlives whoever asked for it, and the device is held only to compute."""

from __future__ import annotations

import contextvars
import heapq
import logging
import secrets
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, NamedTuple, Protocol, TypeVar, cast

from bivdiff.errors import CancelledError, InputError
from bivdiff.studio.turns import share_of

State = Literal["queued", "running", "writing", "done", "failed", "cancelled"]
WAITING: tuple[State, ...] = ("queued", "running", "writing")
USUAL_SECONDS = 30.0  # on the device, before any job has been there
RECENT = 8  # jobs whose time on the device tells how long the next will take
GAVE_WAY = (
    "This job was taken out before it began: the queue was full, most of it with jobs from where you are, and somebody "
    "else had fewer. Start it again in a while."
)
MOST_WRITING = 2  # jobs of each device whose files are written or wait for that: their frames are in memory

_log = logging.getLogger(__name__)


class Board(Protocol):
    """What a job shows and leaves behind. `take` is called while the device is held, `write` and `end` are not."""

    def take(self, update: Any) -> bool:
        """Note what the job yielded; returns whether that was its result, so that there is nothing left to stop."""

    def write(self, state: State, error: Exception | None) -> None:
        """Write the files of what was made, just before `end` and with its arguments; what it raises fails the job."""

    def end(self, state: State, error: Exception | None) -> None:
        """Note that there will be no more, and why; it is called once, also of a job that has never begun."""

    def remaining(self) -> float | None:
        """Seconds until the end, or None while it is too early to say."""


B = TypeVar("B", bound=Board)


@dataclass(eq=False)
class Job(Generic[B]):
    """One thing to be made.

    Attributes:
        id: cannot be guessed.
        owner: the token of who asked for it; nobody else may see it.
        address: from where; empty where that is not known.
        place: where on the page it belongs.
        title: in words.
        board: what it shows.
        state: see `State`; while it is "writing", the device is free.
        created, began, ended: by the clock of `Jobs`; began and ended are None until then.
        version: grows whenever there is something new to show.
    """

    id: str
    owner: str
    place: str
    title: str
    board: B
    start: Callable[[B], Iterator[Any]] = field(repr=False)
    created: float
    began: float | None = None
    ended: float | None = None
    state: State = "queued"
    stopping: bool = False
    version: int = 0
    address: str = ""
    context: contextvars.Context = field(default_factory=contextvars.copy_context, repr=False)

    @property
    def waits(self) -> bool:
        """Whether it is queued, running or being written."""
        return self.state in WAITING


class _Made(NamedTuple):
    """A job that has left the device, and how."""

    job: Job[Any]
    state: State
    error: Exception | None


class Jobs(Generic[B]):
    """A queue for one device, or several that are alike.

    A thread for each device computes, one job after the other; one more writes what each job leaves behind, in the
    order in which they ended, while the devices make the next.

    Args:
        device: held while a job computes: a lock, or a semaphore where there are several.
        at_once: how many there are.
        most: jobs that may wait in all; most_of_one: that one owner may have waiting or running.
        kept: ended jobs of one owner that stay to be shown; kept_in_all: of all owners, whoever they are.
        clock: seconds.
    """

    def __init__(
        self, device: AbstractContextManager[Any], most: int = 24, most_of_one: int = 6, kept: int = 12,
        kept_in_all: int = 48, clock: Callable[[], float] = time.monotonic,
        at_once: int = 1,
    ) -> None:  # fmt: skip
        self._device, self._most, self._most_of_one, self._kept, self._clock = device, most, most_of_one, kept, clock
        self._kept_in_all, self._at_once = kept_in_all, at_once
        self._changed = threading.Condition()
        self._coming: list[tuple[str, str]] = []  # owner and address of jobs that have a place, but no board yet
        self._queue: list[Job[B]] = []
        self._running: list[Job[B]] = []
        self._writing: list[_Made] = []
        self._ended: list[Job[B]] = []
        self._durations: deque[float] = deque(maxlen=RECENT)
        self._threads: tuple[threading.Thread, ...] = ()
        self._closed = False
        self._version = 0

    # Asking for jobs

    def submit(
        self, board: Callable[[], B], start: Callable[[B], Iterator[Any]], *, owner: str, place: str, title: str,
        address: str = "",
    ) -> Job[B]:  # fmt: skip
        """Add a job to the queue: behind as many of every other address as there are of its own.

        A full queue makes room for who has fewer jobs in it: the newest of the address with most is cancelled.

        Args:
            board: makes what is told what the job yields, once there is room for it: a refusal leaves nothing behind.
            start: begins the job; closing what it returns stops it before its next step. It runs in the context of
                the caller, in the thread that computes.
            owner, place, title, address: see `Job`.

        Raises:
            InputError: too many jobs wait, or the studio is being closed.
        """
        with self._changed:
            self._check(owner, address)
            self._coming.append((owner, address))
        try:
            job = Job(secrets.token_hex(16), owner, place, title, board(), start, self._clock(), address=address)
        finally:
            with self._changed:
                self._coming.remove((owner, address))
        with self._changed:
            self._queue.insert(self._turn_of(address), job)
            if not self._threads:
                self._threads = tuple(
                    threading.Thread(target=work, name=f"bivdiff-{name}", daemon=True)
                    for name, work in (*[("computing", self._compute)] * self._at_once, ("writing", self._write))
                )
                for thread in self._threads:
                    thread.start()
            self._note(job)
        return job

    def _turn_of(self, address: str) -> int:
        """The place in the queue of a job that comes from an address now."""
        asked = Counter(job.address for job in self._running)
        own = 1 + sum(job.address == address for job in self._queue) + asked[address]
        for number, other in enumerate(self._queue):
            asked[other.address] += 1
            if asked[other.address] > own:
                return number
        return len(self._queue)

    def _check(self, owner: str, address: str) -> None:
        if self._closed:
            raise InputError("The studio is being closed. Start it again, and then the run.")
        asked = [*self._coming, *((job.owner, job.address) for job in self._waiting())]
        near = sum(address == other for _, other in asked)
        if address and near >= max(share_of(self._most), self._most_of_one):
            raise InputError(
                f"{near} jobs from where you are wait or run already, and some room stays for others. Try again in a "
                "while."
            )
        own = [other for other, _ in asked if other == owner]
        if len(own) >= self._most_of_one:
            raise InputError(
                f"You have {len(own)} jobs waiting or running, which is the most for one visitor. Wait for one of "
                "them, or remove one."
            )
        waiting = len(self._queue) + len(self._coming)
        if waiting >= self._most and not self._make_room(address):
            raise InputError(f"{waiting} jobs wait already, which is the most. Try again in a while.")

    def _make_room(self, address: str) -> bool:
        """Take the newest job of the address that has most of them out of a full queue, unless that asks itself."""
        waiting = Counter([*(address for _, address in self._coming), *(job.address for job in self._queue)])
        fullest = max({job.address for job in self._queue}, key=waiting.__getitem__, default="")
        if waiting[address] + 1 >= waiting[fullest]:
            return False
        job = max((job for job in self._queue if job.address == fullest), key=lambda job: job.created)
        self._take_out(job, InputError(GAVE_WAY))
        return True

    def cancel(self, job: Job[B]) -> None:
        """Stop a job before its next step, or take it from the queue; one that has left the device stays as it is."""
        with self._changed:
            if job in self._queue:
                self._take_out(job, None)
            elif job in self._running:
                job.stopping = True
                self._note(job)

    def _take_out(self, job: Job[B], why: InputError | None) -> None:
        self._queue.remove(job)
        self._end(job, self._leave_behind(job, "cancelled", why))

    def move(self, job: Job[B], by: int) -> None:
        """Let a waiting job change places with another of its owner: -1 brings it one forward, 1 one back."""
        with self._changed:
            own = [other for other in self._queue if other.owner == job.owner]
            if job in own and 0 <= (at := own.index(job) + by) < len(own):
                here, there = self._queue.index(job), self._queue.index(own[at])
                self._queue[here], self._queue[there] = self._queue[there], self._queue[here]
                self._note(job)

    def close(self, patience: float) -> bool:
        """Begin no more jobs, and wait until the files of those that have left the device are written.

        Args:
            patience: seconds to wait at most.

        Returns:
            Whether they are.
        """
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            return self._changed.wait_for(lambda: not self._writing, patience)

    # Looking at them

    def of(self, owner: str, place: str = "") -> list[Job[B]]:
        """An owner's jobs, of one place or of all: those being written, the running ones, the queue, the ended."""
        with self._changed:
            jobs = [*self._waiting(), *reversed(self._ended)]
        return [job for job in jobs if job.owner == owner and place in ("", job.place)]

    def get(self, job_id: str, owner: str) -> Job[B]:
        """One of an owner's jobs.

        Raises:
            InputError: there is none of that name.
        """
        for job in self.of(owner):
            if job.id == job_id:
                return job
        raise InputError("There is no such job any more. Look into the history for what it made.")

    def before(self, job: Job[B]) -> int:
        """How many jobs have the device before a waiting one; 0 for any other."""
        with self._changed:
            return self._queue.index(job) + len(self._running) if job in self._queue else 0

    def starts_in(self, job: Job[B]) -> float:
        """Seconds until a waiting job will start; 0 for any other.

        A running job tells itself how long it will take, as soon as it can; others will take what the last ones took.
        """
        with self._changed:
            usual = sum(self._durations) / len(self._durations) if self._durations else USUAL_SECONDS
            if job not in self._queue:
                return 0.0
            free = [max(self._left(running, usual), 0.0) for running in self._running]
            free = sorted(free + [0.0] * (self._at_once - len(free)))  # when each device is
            for _ in range(self._queue.index(job)):
                heapq.heapreplace(free, free[0] + usual)
            return free[0]

    def _left(self, job: Job[B], usual: float) -> float:
        remaining = job.board.remaining()
        return usual - (self._clock() - (job.began or 0.0)) if remaining is None else remaining

    def wait(self, seen: int, timeout: float) -> int:
        """Wait until anything has changed since `seen`, at most `timeout` seconds; returns what to give next time."""
        with self._changed:
            self._changed.wait_for(lambda: self._version != seen, timeout)
            return self._version

    def _waiting(self) -> list[Job[B]]:
        return [*(made.job for made in self._writing), *self._running, *self._queue]

    # The threads that compute

    def _compute(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._queue and not self._closed and self._may_write_more())
            with self._device:
                job = self._begin()
                if job is None:
                    continue  # it was taken away while the device was busy
                state, error = job.context.run(self._carry_out, job)
            with self._changed:
                self._running.remove(job)
                if state == "done":
                    self._durations.append(self._clock() - cast(float, job.began))
                job.state = "writing"
                self._writing.append(_Made(job, state, error))
                self._note(job)

    def _may_write_more(self) -> bool:
        return len(self._writing) < MOST_WRITING * self._at_once

    def _begin(self) -> Job[B] | None:
        with self._changed:
            if not self._queue or self._closed:
                return None
            job = self._queue.pop(0)
            self._running.append(job)
            job.state, job.began = "running", self._clock()
            self._note(job)
            return job

    def _carry_out(self, job: Job[B]) -> tuple[State, Exception | None]:
        """Run a job to its end, or until it is to stop; returns how it ended, and the error that ended it.

        What it yields is read to the end, beyond the result: a lent card is given back there, and says how fast it was.
        """
        has_result = False
        try:
            with closing(cast(Any, job.start(job.board))) as updates:
                for update in updates:
                    has_result = job.board.take(update) or has_result
                    with self._changed:
                        self._note(job)
                    if job.stopping and not has_result:
                        return "cancelled", None
        except CancelledError:
            return ("done" if has_result else "cancelled"), None
        except BaseException as error:  # noqa: BLE001 - the board tells the user; and nothing may end everybody's queue
            if has_result:  # it is whole, and worth more than what was to come after it
                _log.exception("A job has its result, and failed after it.")
                return "done", None
            if isinstance(error, Exception):
                return "failed", error
            return "failed", RuntimeError(f"The job was ended by {type(error).__name__}: {error}")
        return "done", None

    # The thread that writes

    def _write(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._writing)
                job, state, error = self._writing[0]
            state = self._leave_behind(job, state, error)
            with self._changed:
                self._writing.pop(0)
                self._end(job, state)

    def _leave_behind(self, job: Job[B], state: State, error: Exception | None) -> State:
        """Let the board write and end; returns how the job has ended now.

        The job's own state changes after it: whoever sees that a job has ended, finds its board ended too.
        """
        try:
            job.board.write(state, error)
        except Exception as failure:  # noqa: BLE001 - the board tells the user
            if error is not None:
                _log.exception("What a failed job leaves behind could not be written.")
            state, error = "failed", error or failure
        try:
            job.board.end(state, error)
        except Exception:  # noqa: BLE001 - the others want to be made
            _log.exception("A board could not note how its job ended.")
        return state

    def _end(self, job: Job[B], state: State) -> None:
        job.state, job.ended = state, self._clock()
        self._ended.append(job)
        own = [other for other in self._ended if other.owner == job.owner]
        for old in own[: -self._kept]:
            self._ended.remove(old)
        del self._ended[: -self._kept_in_all]  # who has no token is somebody new each time
        self._note(job)

    def _note(self, job: Job[B]) -> None:
        job.version += 1
        self._version += 1
        self._changed.notify_all()
