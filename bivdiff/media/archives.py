"""Opening zip archives of strangers: how much they hold is known before any of it is read."""

from __future__ import annotations

import struct
import zipfile
from typing import IO

MAX_ENTRIES = 2**14  # files of an archive
MAX_DIRECTORY = 2**21  # bytes of its table of contents
MAX_TEXT = 2**18  # bytes of settings in one

_END = struct.Struct("<4s4H2LH")
_MAX_COMMENT = 2**16 - 1


class UnusableArchiveError(Exception):
    """An archive is damaged, or holds more than is read."""


def opened_zip(file: IO[bytes]) -> zipfile.ZipFile:
    """Open an archive whose table of contents says itself that it is small: it is read whole.

    Raises:
        UnusableArchiveError: it is not, or the archive is damaged.
    """
    size = file.seek(0, 2)
    start = max(size - _END.size - _MAX_COMMENT, 0)
    file.seek(start)
    tail = file.read()
    place = tail.rfind(b"PK\5\6")
    if place < 0 or len(tail) - place < _END.size:
        raise UnusableArchiveError
    _, _, _, _, entries, directory, _, comment = _END.unpack(tail[place : place + _END.size])
    # A second, larger table would stand 20 bytes before.
    larger = tail[max(place - 20, 0) : place][:4] == b"PK\6\7"
    if comment != len(tail) - place - _END.size or larger or entries > MAX_ENTRIES or directory > MAX_DIRECTORY:
        raise UnusableArchiveError
    try:
        return zipfile.ZipFile(file)
    except (zipfile.BadZipFile, ValueError, NotImplementedError, struct.error) as error:
        raise UnusableArchiveError from error
