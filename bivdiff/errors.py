"""The errors a user may meet. Each message says what happened, why, and what to do."""

import unicodedata
from pathlib import Path


class BIVDiffError(Exception):
    """Base of every error that is meant to be read by a user."""


class InputError(BIVDiffError):
    """Something the user gave cannot be used: a file, a number, a prompt."""


class ModelUnavailableError(BIVDiffError):
    """A model cannot be loaded: unknown, not downloaded, broken or of another architecture."""


class OutOfMemoryError(BIVDiffError):
    """The device ran out of memory; the message names the settings that need less."""


class CancelledError(BIVDiffError):
    """The user stopped the job."""


class StoppedError(CancelledError):
    """The user interrupted the program; the message says what it leaves behind."""


def printable(text: str) -> str:
    r"""The same, with what no screen shows and no file of text can hold as Python writes it, such as `\x00`."""
    return "".join(
        ascii(letter)[1:-1] if unicodedata.category(letter) in {"Cc", "Cs"} and letter != "\n" else letter
        for letter in text
    )


def quoted_name(path: Path) -> str:
    """The file's name, fit for a sentence: no folders of this machine, nothing unprintable, not too long."""
    name = "".join(letter if letter.isprintable() else "?" for letter in path.name)
    return f'"{name if len(name) <= 80 else name[:77] + "..."}"'
