"""Work for the tests of workers, which needs no model."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

from bivdiff.errors import InputError


def counting(_tools, steps):
    """Yields as many numbers."""
    yield from range(steps)


def process(_tools):
    """Yields the process that it runs in."""
    yield os.getpid()


def refusing(_tools):
    """Yields once, and refuses."""
    yield 0
    raise InputError("The clip is too long. Take fewer frames.")


def breaking(_tools):
    """Yields once, and fails as nobody foresaw."""
    yield 0
    raise ZeroDivisionError("by nothing")


def dying(_tools):
    """Yields once, and ends its process."""
    yield 0
    os.kill(os.getpid(), signal.SIGKILL)


def holding(_tools, folder: Path):
    """Yields for ever; says in a file that it has ended."""
    try:
        while True:
            yield 0
    finally:
        (folder / "ended").touch()


def unsendable(_tools):
    """Yields what cannot be sent to another process."""
    yield threading.Lock()
