"""Several workers, by the name that a flag or a variable has for them."""

from __future__ import annotations

import re

from bivdiff.errors import InputError
from bivdiff.settings import Settings
from bivdiff.workers.processes import process_workers
from bivdiff.workers.rayed import ray_workers
from bivdiff.workers.worker import Here, Worker

EXECUTORS = ("local", "ray")
_COUNT = r"[1-9]\d{0,3}"


def parse_workers(text: str) -> tuple[str, int | None]:
    """Read "4", "ray" or "ray:4" as the executor and the count, as `workers_of` takes them.

    Raises:
        InputError: it is written otherwise.
    """
    found = re.fullmatch(rf"(ray)(?::({_COUNT}))?|({_COUNT})", text.strip().lower())
    if not found:
        raise InputError(f"'{text}' is not a valid value for BIVDIFF_WORKERS. Use a number, 'ray', or 'ray:4'.")
    count = found[2] or found[3]
    return found[1] or "local", int(count) if count else None


def workers_of(executor: str, count: int | None, settings: Settings, address: str | None = None) -> list[Worker]:
    """Workers of a kind.

    Args:
        executor: "local" is this machine: this process itself where there is one worker, else a process for each; "ray"
            is a cluster, see `ray_workers`.
        count: how many; None is one, or as many as a cluster has places for.
        settings: of each worker's process.
        address: of the cluster.

    Raises:
        InputError: there cannot be so many.
        ModelUnavailableError: Ray is wanted, and not installed.
    """
    if executor == "ray":
        return [*ray_workers(count, settings, address)]
    if count in {None, 1}:
        return [Here(settings)]
    return [*process_workers(count or 1, settings)]
