"""Carries out a batch: a thread for each worker takes jobs, follows them, and notes on the disk how they ended."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bivdiff.batch.folder import BatchFolder
from bivdiff.batch.jobs import Checked, Job, Outcome
from bivdiff.batch.schedule import Schedule
from bivdiff.batch.work import make, unseen
from bivdiff.errors import BIVDiffError, InputError, printable
from bivdiff.media.pictures import files_of
from bivdiff.types import StepEvent
from bivdiff.workers.worker import Here, Worker, WorkerLostError, ready

TRIES = 2  # of a job whose worker was lost
Told = Callable[[Outcome | StepEvent], None]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Try:
    """A job that waits for its first or its second try."""

    number: int
    checked: Checked
    tries: int = 0


class Batch:
    """Jobs on their way.

    Args:
        folder: where they are written; this object notes all that becomes of them there.
        jobs: those to be made.
        workers: make them.
        told: is told the steps of jobs and how each ended, from the workers' threads.
    """

    def __init__(self, folder: BatchFolder, jobs: Sequence[Checked], workers: Sequence[Worker], told: Told) -> None:
        self._folder, self._workers, self._told = folder, workers, told
        self._schedule = Schedule((each.models, _Try(number, each)) for number, each in enumerate(jobs))
        self._noting = threading.Lock()
        self._stopping = threading.Event()
        self._ended = threading.Semaphore(0)
        self._error: BaseException | None = None
        self.busy_seconds = 0.0  # of all workers together

    @property
    def loads(self) -> int:
        """How often a worker had to load other models than it had."""
        return self._schedule.loads

    def run(self) -> None:
        """Make all jobs; an interrupt ends those that run before their next step.

        Raises:
            BIVDiffError: no more can be noted on the disk, or no worker is left.
        """
        threads = [
            threading.Thread(target=self._serve, args=(number, worker), name=f"bivdiff-batch-{number}", daemon=True)
            for number, worker in enumerate(self._workers)
        ]
        for thread in threads:
            thread.start()
        try:
            for _ in threads:
                while not self._ended.acquire(timeout=1.0):
                    pass  # so that an interrupt is noticed
        except KeyboardInterrupt:
            self._stopping.set()
            self._schedule.close()
            for thread in threads:
                thread.join()
            raise
        if self._error is not None:
            raise self._error
        if left := self._schedule.left():
            raise InputError(
                f"No worker is left, and {len(left)} jobs were not made. See above why, and call the same to go on."
            )

    def _serve(self, number: int, worker: Worker) -> None:
        try:
            while not self._stopping.is_set() and (job := self._schedule.take(number)) is not None:
                began = time.monotonic()
                is_there = self._try(number, worker, job)
                with self._noting:
                    self.busy_seconds += time.monotonic() - began
                if not is_there:
                    return
        except BaseException as error:  # noqa: BLE001 - it is raised where the batch is waited for
            self._error = error
            self._stopping.set()
            self._schedule.close()
        finally:
            self._ended.release()

    def _try(self, number: int, worker: Worker, job: _Try) -> bool:
        """Make a job, or note why it cannot be made; returns whether the worker can make another."""
        place = self._folder.place_for(job.number)
        began = time.monotonic()
        try:
            outcome = self._made(worker, job.checked, place)
        except WorkerLostError as error:
            if job.tries + 1 < TRIES:
                self._schedule.put_back(number, job.checked.models, _Try(job.number, job.checked, job.tries + 1))
                return self._came_back(worker)
            outcome = _failed(job.checked, f"Tried {TRIES} times. {error}", began)
        except BIVDiffError as error:
            outcome = _failed(job.checked, str(error), began)
        except Exception as error:  # noqa: BLE001 - one job must not end the others
            _log.exception("The job '%s' failed in a way that nobody foresaw.", job.checked.job.id)
            outcome = _failed(job.checked, f"It failed in a way that nobody foresaw: {error}", began)
        if outcome is not None:
            with self._noting:
                if outcome.status == "done":
                    outcome = self._folder.commit(place, outcome)
                else:
                    self._folder.note(outcome)
            self._told(outcome)
        self._schedule.ended()
        return True

    def _made(self, worker: Worker, checked: Checked, place: Path) -> Outcome | None:
        """What a worker makes of a job; None if it was stopped. Where it ends this process, the next can tell."""
        if not isinstance(worker, Here):
            return self._followed(worker, checked, place)
        try:
            if self._folder.times_begun(checked.key) >= TRIES:
                raise InputError(
                    f"Tried {TRIES} times. Each time the process ended in the middle of it, most often because the "
                    "memory was used up. Take fewer frames or a smaller size, or try it again with --retry-failed."
                )
            self._folder.begin(checked.key)
            return self._followed(worker, checked, place)
        finally:
            self._folder.end(checked.key)

    def _followed(self, worker: Worker, checked: Checked, place: Path) -> Outcome | None:
        """What a worker makes of a job; None if it was stopped."""
        events = worker.start(make, checked, place)
        try:
            for event in events:
                if isinstance(event, Outcome):
                    return event
                if self._stopping.is_set():
                    return None
                self._told(event)
        finally:
            events.close()
        raise RuntimeError("A worker ended a job without an outcome.")

    def _came_back(self, worker: Worker) -> bool:
        """Whether a lost worker has a process again."""
        try:
            return bool(list(worker.start(ready)))
        except BIVDiffError as error:
            _log.warning("A worker is given up: %s", error)
            return False


def _failed(checked: Checked, sentence: str, began: float) -> Outcome:
    seconds = round(time.monotonic() - began, 3)
    return Outcome(checked.job.id, checked.hash, "failed", seconds, sentence=printable(sentence))


def check_shared(folder: BatchFolder, workers: Iterable[Worker], jobs: Iterable[Checked]) -> None:
    """Hold that every worker sees the batch's folder and all inputs.

    Raises:
        InputError: one does not.
    """
    inputs = sorted({path for each in jobs for path in inputs_of(each.job)})
    token = folder.token()
    for worker in workers:
        if missing := list(worker.start(unseen, token.resolve(), [path.resolve() for path in inputs])):
            what = f"the folder '{folder.path}'" if missing[0].name == token.name else f"'{missing[0]}'"
            raise InputError(
                f"A worker does not see {what} under the same path as this machine. Use a disk that all machines of "
                "the cluster share."
            )


def inputs_of(job: Job) -> list[Path]:
    """The files that a job reads, each picture of a folder or a pattern among them."""
    form = job.form
    given = (form.source.video, form.masks.clip, *form.maps)
    return [file for path in given if path is not None for file in files_of(path)]
