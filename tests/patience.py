"""How tests wait: for what they want to see, however busy the machine, and in the end with an error."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from bivdiff.studio.jobs import Job, Jobs

PATIENCE = 170  # seconds after which a wait that never ends fails its test: nearly as long as a test may take
LOOKS_EVERY = 0.02  # seconds


def until(condition: Callable[[], object]) -> None:
    """Wait until something holds that wakes nobody: in a server's thread, on the disk."""
    ended = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < ended, "it never came to hold"
        threading.Event().wait(LOOKS_EVERY)


def until_in(jobs: Jobs[Any], condition: Callable[[], object]) -> None:
    """Wait until something holds in a queue of jobs, which wakes whoever waits with each of its changes."""
    seen = -1
    while not condition():
        now = jobs.wait(seen, PATIENCE)
        assert now != seen, "nothing changes any more"
        seen = now


def until_ended(jobs: Jobs[Any], job: Job[Any]) -> Job[Any]:
    """Wait until a job has ended, however it did, and its files are written; returns it."""
    until_in(jobs, lambda: not job.waits)
    return job
