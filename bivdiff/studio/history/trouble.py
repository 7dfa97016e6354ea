"""Why the history cannot be used, in sentences for the user."""

from __future__ import annotations

import errno
import logging
import sqlite3
from typing import Literal, NamedTuple, TypeAlias

from filelock import Timeout

from bivdiff.errors import InputError

Part: TypeAlias = Literal["reading", "writing", "files"]
"""What may fail by itself: the database is read, or written, or files are written."""

_log = logging.getLogger(__name__)


class NewerError(Exception):
    """The database was written by a newer version of the studio."""


class Reason(NamedTuple):
    """Why it cannot be used, and what to do about it: later, and where that is found at the start of the studio."""

    why: str
    later: str
    at_start: str


_BUSY = Reason(
    "another program is using it", "Close that program, or wait, and try again.",
    "Close that program and start the studio again.",
)  # fmt: skip
_FULL = Reason("the disk is full", "Make room and try again.", "Make room and start the studio again.")
_READ_ONLY = Reason(
    "its folder may not be written to", "Make it writable and try again.",
    "Make it writable, or name another in BIVDIFF_HISTORY_FOLDER.",
)  # fmt: skip
_NEWER = Reason(
    "it was written by a newer version of the studio", "Update the studio and start it again.",
    "Update the studio and start it again.",
)  # fmt: skip
_UNUSABLE = Reason(
    "it cannot be read or written", "Check that its folder is there, and start the studio again.",
    "Make its folder one that can be written to, or name another in BIVDIFF_HISTORY_FOLDER.",
)  # fmt: skip

_BY_ERRNO = {
    errno.ENOSPC: _FULL, errno.EDQUOT: _FULL, errno.EACCES: _READ_ONLY, errno.EPERM: _READ_ONLY,
    errno.EROFS: _READ_ONLY,
}  # fmt: skip
_BY_WORD = {"locked": _BUSY, "full": _FULL, "readonly": _READ_ONLY}
"""Words that SQLite's messages have; its codes are only known from Python 3.11 on."""


def reason_of(error: Exception) -> Reason:
    """What an error of a disk, a lock or the database means."""
    if isinstance(error, NewerError):
        return _NEWER
    if isinstance(error, Timeout):
        return _BUSY
    if isinstance(error, sqlite3.Error):
        return next((reason for word, reason in _BY_WORD.items() if word in str(error)), _UNUSABLE)
    return _BY_ERRNO.get(getattr(error, "errno", None) or 0, _UNUSABLE)


class Trouble:
    """What the user should know where runs are not kept as they should be.

    Attributes:
        lasting: a sentence that holds until the studio is started again.
    """

    def __init__(self) -> None:
        self.lasting = ""
        self._passing: dict[Part, tuple[Reason | None, str]] = {}

    @property
    def sentence(self) -> str:
        """What to tell, or nothing."""
        return self.lasting or next((sentence for _, sentence in self._passing.values()), "")

    def at_start(self, error: Exception) -> None:
        """Note that the folder cannot be used at all, so that another one stands in for it."""
        _log.warning("The history cannot be used: %s", str(error))
        reason = reason_of(error)
        self.lasting = (
            "What you run is kept only until the studio stops. Its history folder is not used, because "
            f"{reason.why}. {reason.at_start}"
        )

    def later(self, part: Part, error: Exception) -> InputError:
        """Note that a part of the history does not work; returns the error for the user."""
        _log.warning("The history could not be used: %s", str(error))
        reason = reason_of(error)
        self._passing[part] = reason, f"The history could not be used, because {reason.why}. {reason.later}"
        return InputError(self._passing[part][1])

    def unwritten(self, sentence: str) -> None:
        """Note that files could not be written, in the words of what should have written them."""
        self._passing["files"] = None, sentence

    def works(self, part: Part) -> None:
        """Note that a part of the history works, again or still.

        Reading does on a full disk, too: so what could not be written stays noted until something can be.
        """
        self._passing.pop(part, None)
        if part == "writing":
            self._passing.pop("reading", None)
        if part == "reading" and self._passing.get("writing", (None, ""))[0] is _BUSY:
            self._passing.pop("writing", None)
