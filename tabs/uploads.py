"""What visitors send: how much of it there may be, counted as it arrives, and how long it is kept."""

from __future__ import annotations

import logging
import os
import stat
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path

from gradio import routes
from gradio.utils import get_upload_folder
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.formparsers import MultiPartException

from bivdiff.errors import InputError

KEPT_SECONDS = 24 * 3600.0
SWEEP_SECONDS = 3600.0
BESIDE = 8192  # bytes that the disk takes for a file beside what it holds, at least
MOST_KEPT = 50_000  # files that the room is for: each counts with that part of it beside what it holds
MOST_FILES = 8  # of one request: a field of the page takes one
SCARCE, SHARE = 0.5, 0.25  # of the room: once so much is taken, a place that has sent so much in a day sends no more
MEASURED_SECONDS = 10.0  # after which the folder is looked through again
MOST_WATCHED = 1024  # uploads of which it is known how far they are
FIELD = b"files"

FULL = (
    "The studio has no room for more uploads now. They are deleted within a day: try again later, or use a sample clip."
    " The owner can give them more room with BIVDIFF_UPLOADS_SIZE."
)
SHARED = (
    "The studio has no room for more uploads from where you are now, so that some stays for others. They are deleted "
    "within a day: try again later, or use a sample clip."
)
TOO_MANY = f"One upload may hold {MOST_FILES} files. Send them one after the other."
WRONG_FIELD = "An upload holds files only, each in a field named “files”. Send it so, as multipart/form-data."

_log = logging.getLogger(__name__)


def upload_folder() -> Path:
    """Where uploads and results lie that Gradio serves to whoever knows their names."""
    return Path(get_upload_folder())


def own_folder() -> None:
    """Let uploads lie in a folder of the studio's own, unless the environment names one.

    Raises:
        InputError: there is no place for one.
    """
    try:
        if not os.environ.get("GRADIO_TEMP_DIR"):
            os.environ["GRADIO_TEMP_DIR"] = str(_private_folder(Path(tempfile.gettempdir())))
        upload_folder().mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"There is no folder for uploads: {error}. Name another one in GRADIO_TEMP_DIR.") from error


def _private_folder(parent: Path) -> Path:
    """A folder that nobody else on this machine can look into: always the same, unless somebody else has its name."""
    owner = os.getuid() if hasattr(os, "getuid") else None  # Windows has a folder of each user's own for such things
    folder = parent / ("bivdiff-uploads" if owner is None else f"bivdiff-uploads-{owner}")
    with suppress(FileExistsError):  # whatever it is
        folder.mkdir(mode=0o700)
    found = folder.lstat()
    if owner is None or (stat.S_ISDIR(found.st_mode) and found.st_uid == owner and not found.st_mode & 0o077):
        return folder
    _log.warning("“%s” is not of this user alone, so uploads lie in another folder.", folder)
    return Path(tempfile.mkdtemp(prefix="bivdiff-uploads-", dir=parent))


class Room:
    """How much may lie in the folder of uploads, what is on its way there included.

    A file counts with some bytes beside what it holds, so that very many small ones fill the room, too.

    Args:
        most: bytes.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._beside = max(BESIDE, most // MOST_KEPT)
        self._lock = threading.Lock()
        self._kept, self._measured = 0, -MEASURED_SECONDS
        self._coming: dict[object, int] = {}
        self._places: dict[object, str] = {}
        self._sent: Counter[tuple[int, str]] = Counter()  # by hour and place

    def enter(self, upload: object, place: str = "") -> None:
        """Begin an upload; looks through the folder, so call it where that may take a moment.

        Args:
            upload: any object.
            place: from where it comes; one without a name has no share, but all.
        """
        with self._lock:
            known = time.monotonic() - self._measured < MEASURED_SECONDS
        # What is on its way lies in the folder already.
        lying = 0 if known else bytes_in(upload_folder(), self._beside)
        with self._lock:
            if not known:
                self._kept = max(lying - sum(self._coming.values()), 0)
                self._measured = time.monotonic()
            self._coming[upload] = 0
            self._places[upload] = place

    def takes(self, upload: object, count: int, files: int = 0) -> str:
        """Note that so many more bytes and files of an upload have come, or say why there is no room for them."""
        count += files * self._beside
        with self._lock:
            if not (why := self._lacks(upload, count)):
                self._coming[upload] += count
            return why

    def lacks(self, upload: object, count: int) -> str:
        """Why there is no room for so many more bytes of an upload; empty where there is."""
        with self._lock:
            return self._lacks(upload, count)

    def _lacks(self, upload: object, count: int) -> str:
        taken = self._kept + sum(self._coming.values()) + count
        if taken > self._most:
            return FULL
        place = self._places[upload]
        if not place or taken <= SCARCE * self._most:
            return ""
        coming = sum(size for other, size in self._coming.items() if self._places[other] == place)
        sent = sum(size for (_, other), size in self._sent.items() if other == place)
        return SHARED if sent + coming + count > SHARE * self._most else ""

    def leave(self, upload: object, stays: bool = True) -> None:
        """End an upload; a file that came of it counts until the folder is looked through again.

        Args:
            upload: see `enter`.
            stays: whether a file came of it, which is kept for a day.
        """
        now = int(time.time() // 3600)
        with self._lock:
            size, place = self._coming.pop(upload), self._places.pop(upload)
            self._kept += size if stays else 0
            if place and stays:
                self._sent[now, place] += size
            for key in [key for key in self._sent if key[0] < now - KEPT_SECONDS // 3600]:
                del self._sent[key]


class Parts:
    """Looks at the parts of an upload as they arrive; Gradio itself writes them.

    Args:
        content_type: of the request.

    Attributes:
        files: how many have begun.
    """

    def __init__(self, content_type: bytes) -> None:
        kind, options = parse_options_header(content_type)
        boundary = options.get(b"boundary", b"")
        self.files = 0
        self._header = b""
        self._value = b""
        self._named = False
        self._parser = (
            MultipartParser(
                boundary,
                {
                    "on_part_begin": self._begin, "on_header_field": self._field, "on_header_value": self._add,
                    "on_header_end": self._read, "on_headers_finished": self._check,
                },
            )
            if kind == b"multipart/form-data" and boundary
            else None
        )  # fmt: skip

    def look(self, data: bytes) -> None:
        """Look at what has come.

        Raises:
            MultiPartException: it is no upload, holds another field, or too many files; Gradio removes what it wrote.
        """
        if self._parser is None:
            raise MultiPartException(WRONG_FIELD)
        try:
            self._parser.write(data)
        except ValueError as error:  # what the parser raises is one
            if isinstance(error, MultiPartException):
                raise
            raise MultiPartException(WRONG_FIELD) from error

    def _begin(self) -> None:
        self._header = self._value = b""
        self._named = False

    def _field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _add(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _read(self) -> None:
        if self._header.lower() == b"content-disposition":
            options = parse_options_header(self._value)[1]
            self._named = options.get(b"name") == FIELD and b"filename" in options
        self._header = self._value = b""

    def _check(self) -> None:
        self.files += 1
        if not self._named:
            raise MultiPartException(WRONG_FIELD)
        if self.files > MOST_FILES:
            raise MultiPartException(TOO_MANY)


def bytes_in(folder: Path, beside: int = 0) -> int:
    """What the files in a folder and below it take, each so much beside what it holds."""
    found = 0
    for path in _files_in(folder):
        with suppress(OSError):  # deleted meanwhile
            found += path.stat().st_size + beside
    return found


def sweep(folder: Path, seconds: float = KEPT_SECONDS) -> None:
    """Delete what has lain in the folder of uploads for so long, whatever made it, and folders that became empty."""
    before = time.time() - seconds
    for path in _files_in(folder):
        with suppress(OSError):
            if path.lstat().st_mtime < before:
                path.unlink()
    for parent, _, _ in os.walk(folder, topdown=False):
        with suppress(OSError):  # it is not empty
            if Path(parent) != folder and Path(parent).stat().st_mtime < before:
                Path(parent).rmdir()


def forget_progress() -> None:
    """Forget how far the oldest uploads are, where too many are known.

    Gradio forgets those alone that somebody has watched to their end.
    """
    told = routes.file_upload_statuses
    for known in (told._statuses, told._signals):
        for name in list(islice(known, max(len(known) - MOST_WATCHED, 0))):
            del known[name]


def forget_deleted(known: Iterable[set[str]]) -> None:
    """Forget the paths of files that are gone, which Gradio notes of all that it has ever been sent."""
    for paths in known:
        paths.difference_update([path for path in list(paths) if not Path(path).exists()])


class Sweeping:
    """Sweeps the folder of uploads at once, and every hour until its end.

    Args:
        known: the sets of paths of files in it that are stored besides.
    """

    def __init__(self, known: Callable[[], Iterable[set[str]]] = tuple) -> None:
        self._known = known
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._work, name="bivdiff-sweeping", daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Sweep no more."""
        self._ended.set()
        self._thread.join()

    def _work(self) -> None:
        while True:
            try:
                sweep(upload_folder())
                forget_deleted(self._known())
            except OSError:
                _log.exception("The folder of uploads could not be swept.")
            if self._ended.wait(SWEEP_SECONDS):
                return


def _files_in(folder: Path) -> Iterator[Path]:
    for parent, _, names in os.walk(folder):
        for name in names:
            yield Path(parent) / name
