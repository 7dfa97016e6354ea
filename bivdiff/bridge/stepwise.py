"""Work that reports from within, such as a library's call with a callback, walked step by step from outside."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from queue import SimpleQueue
from typing import Any, Literal, TypeVar

import torch

from bivdiff.errors import CancelledError

Step = TypeVar("Step")
Made = TypeVar("Made")


def stepwise(work: Callable[[Callable[[Step], None]], Made]) -> Generator[Step, None, Made]:
    """Give each report of the work when it is asked for; until then the work waits in a thread of its own.

    Closing this generator makes the report raise a CancelledError, so that the work stops there, and waits for that.

    Args:
        work: is given the function by which it reports. It runs in inference mode.

    Yields:
        What it reports.

    Returns:
        What it returns. What it raises is raised here.
    """
    told: SimpleQueue[tuple[Literal["step", "made", "failed"], Any]] = SimpleQueue()
    may_go, stopped = threading.Semaphore(0), threading.Event()

    def report(step: Step) -> None:
        told.put(("step", step))
        may_go.acquire()
        if stopped.is_set():
            raise CancelledError("The run was stopped.")

    def run() -> None:
        try:
            with torch.inference_mode():  # which counts in one thread alone
                told.put(("made", work(report)))
        except BaseException as error:  # noqa: BLE001 - it is raised where the work is walked
            told.put(("failed", error))

    thread = threading.Thread(target=run, name="bivdiff-stepwise", daemon=True)
    thread.start()
    try:
        while True:
            what, value = told.get()
            if what == "made":
                made: Made = value
                return made
            if what == "failed":
                raise value
            yield value
            may_go.release()
    finally:
        stopped.set()
        may_go.release()
        thread.join()
