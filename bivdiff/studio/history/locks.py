"""Which processes use a history folder.

Each holds a lock for as long as it lives, which the system takes from it however it ends. So the unfinished runs of a
living process are not taken for interrupted by others, and are once it is gone.
"""

from __future__ import annotations

import errno
import secrets
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock

WAIT_SECONDS = 5.0  # for another thread or process that is writing


class Processes:
    """The processes of a history folder, this one among them.

    Args:
        folder: the history folder; it need not be there yet.

    Attributes:
        own: the name of this process.
    """

    def __init__(self, folder: Path) -> None:
        self.own = secrets.token_hex(16)
        self._opening = folder / "opening.lock"
        self._folder = folder / "processes"

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Let no other process open the folder meanwhile.

        Raises:
            OSError: the folder may not be written to, or has no locks.
            filelock.Timeout: another process is opening it, and does not come to an end.
        """
        lock = _lock(self._opening)
        _acquire(lock, WAIT_SECONDS)
        try:
            yield
        finally:
            lock.release()

    def enter(self) -> None:
        """Say that this process lives, until it ends or `self` goes. Call it `alone`: others must not see it unlocked.

        Raises:
            OSError: the folder may not be written to, or has no locks.
        """
        self._folder.mkdir(exist_ok=True)
        lock = _lock(self._folder / self.own)
        _acquire(lock, WAIT_SECONDS)
        weakref.finalize(self, lock.release)

    def lives(self, name: str) -> bool:
        """Whether a process lives; where it does not, its lock goes too."""
        path = self._folder / name
        if name == self.own:
            return True
        if not path.exists():
            return False
        lock = _lock(path)
        try:
            _acquire(lock, 0)
        except OSError:
            return True
        with suppress(OSError):
            path.unlink(missing_ok=True)
        lock.release()
        return False

    def remove_gone(self) -> None:
        """Remove the locks of processes that are gone. Call it `alone`: others must not be entering."""
        for path in self._folder.iterdir():
            self.lives(path.name)


def _lock(path: Path) -> FileLock:
    # Whoever lets go of it may be another thread than the one that took it.
    return FileLock(path, thread_local=False)


def _acquire(lock: FileLock, seconds: float) -> None:
    try:
        lock.acquire(timeout=seconds, poll_interval=0.02)
    except NotImplementedError as error:
        raise OSError(errno.ENOLCK, "the disk has no locks") from error
