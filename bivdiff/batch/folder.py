"""The folder of a batch: what is on the disk there is the truth about its jobs.

A job's files are written below `.work`, and its record after them. Whoever has the folder then moves them to their
places and adds a line to `results.jsonl`. Where it is ended in between, the next one finds the record, and goes on from
there; files without a record are those of a job that was not finished, and are removed.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, fields, replace
from itertools import count
from pathlib import Path
from typing import get_args

from filelock import FileLock, Timeout

from bivdiff.batch.jobs import Outcome, Status
from bivdiff.errors import InputError
from bivdiff.units import finite

RESULTS = "results.jsonl"
PAGE, SCORES = "index.html", "scores.csv"
RECORD = "record.json"
_BEGUN = ".begun"  # the ending of a file for each job that this process is at
_WORK, _LOCK = ".work", ".lock"
OWN_NAMES = frozenset({RESULTS, PAGE, SCORES, _WORK, _LOCK})  # in the folder, which no job may write to
_NAMES = frozenset(item.name for item in fields(Outcome))
_START = b'{"id": "'  # of each line of the results
_OURS = re.compile("[0-9a-f]{32}")  # the name of a batch's folder of work


class BatchFolder:
    """A folder that one batch at a time has.

    Args:
        path: it is made if need be.

    Attributes:
        path: as it was given.
        outcomes: how jobs ended, by their id and hash.

    Raises:
        InputError: it cannot be written, another batch has it, or files in it that no batch wrote have the names of a
            batch's own.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        try:
            path.mkdir(parents=True, exist_ok=True)
            self._lock = FileLock(path / _LOCK, timeout=0)
            self._lock.acquire()
            self._work = path / _WORK / uuid.uuid4().hex
            self._work.mkdir(parents=True)
        except Timeout:
            raise InputError(
                f"Another batch is writing to '{path}'. Wait until it has ended, or choose another folder."
            ) from None
        except OSError as error:
            raise InputError(
                f"'{path}' cannot be written: {error.strerror or 'the system refused'}. Choose a folder that may be "
                "written to and has free space."
            ) from error
        self.outcomes: dict[tuple[str, str], Outcome] = {}
        try:
            self._read()
            self._recover()
        except InputError:
            self.close()
            raise

    def place_for(self, number: int) -> Path:
        """A folder of its own for an attempt at a job; a worker makes it."""
        return self._work / f"{number}-{uuid.uuid4().hex[:8]}"

    def token(self) -> Path:
        """A file in the folder that whoever sees the same disk can read; it holds its own name."""
        path = self._work / "token"
        path.write_text(path.parent.name, "utf-8")
        return path

    def commit(self, place: Path, outcome: Outcome) -> Outcome:
        """Move a finished job's files to their places, and note how it ended.

        Args:
            place: where its files are.
            outcome: with the paths of the files below the batch's folder. What is there by now is not written over:
                the files take a free name.

        Returns:
            The outcome with the names that the files have; failed where they cannot have any.
        """
        try:
            outcome = self._placed(place, outcome)
        except OSError as error:
            told = (
                f"Its clip was made, and could not take its place at '{outcome.files['result']:.80}': "
                f"{error.strerror or 'the system refused'}. Give it another output."
            )
            outcome = replace(outcome, status="failed", sentence=told, files={})
        self.note(outcome)
        shutil.rmtree(place, ignore_errors=True)
        return outcome

    def _placed(self, place: Path, outcome: Outcome) -> Outcome:
        """Move a job's files; returns the outcome with the names that they have now.

        Raises:
            OSError: they cannot be moved.
        """
        while True:
            outcome = replace(outcome, files=self._free_names(place, outcome.files))
            write_record(place, outcome)  # so that whoever has to go on from here takes the same names
            try:
                for name, file in outcome.files.items():
                    _move(made_of(place, name, file), self.path / file)
            except FileExistsError:
                continue  # taken since
            return outcome

    def note(self, outcome: Outcome) -> None:
        """Add a line to the results; it is on the disk when this returns.

        Raises:
            InputError: it cannot be written, and nothing of it was.
        """
        try:
            _append(self.path / RESULTS, _json_of(outcome) + b"\n")
        except OSError as error:
            raise InputError(
                f"'{self.path / RESULTS}' could not be written: {error.strerror or 'the system refused'}. Make room on "
                "the disk, and call the same to go on."
            ) from error
        self.outcomes[outcome.id, outcome.hash] = outcome

    def begin(self, key: tuple[str, str]) -> None:
        """Say on the disk that a job is being made in this process, which may end with it."""
        marker, times = self._marker(key), self.times_begun(key)
        with suppress(OSError):  # without room for it, the job says so
            marker.write_text(str(times + 1), "utf-8")

    def end(self, key: tuple[str, str]) -> None:
        """Say that this process has outlived the job, however that ended."""
        self._marker(key).unlink(missing_ok=True)

    def times_begun(self, key: tuple[str, str]) -> int:
        """How often a job was begun by a process that ended in the middle of it."""
        try:
            return int(self._marker(key).read_text("utf-8"))
        except (OSError, ValueError):
            return 0

    def _marker(self, key: tuple[str, str]) -> Path:
        return self._work / f"{hashlib.sha256(repr(key).encode()).hexdigest()}{_BEGUN}"

    def is_whole(self, outcome: Outcome) -> bool:
        """Whether the clip of a job that is done is there."""
        return outcome.status == "done" and (self.path / outcome.files["result"]).is_file()

    def close(self) -> None:
        """Leave the folder to others."""
        if not any(self._work.glob(f"*/{RECORD}")):  # of a job that could not be noted: the next batch does
            shutil.rmtree(self._work, ignore_errors=True)
        with suppress(OSError):
            self._work.parent.rmdir()  # empty, unless a lost worker still writes
        self._lock.release()

    def _read(self) -> None:
        path = self.path / RESULTS
        if not path.exists():
            for name in (PAGE, SCORES):
                if (self.path / name).exists():
                    raise InputError(
                        f"'{self.path / name}' is no batch's, and this one would write over it. Choose another folder."
                    )
            path.touch()  # from now on the page and the scores are this batch's
        content = path.read_bytes()
        end = content.rfind(b"\n") + 1
        half = content[end:]
        for number, line in enumerate(content[:end].decode("utf-8", "replace").split("\n")[:-1], 1):
            outcome = _outcome_of(line)
            if outcome is None:
                raise _not_ours(path, number)
            self.outcomes[outcome.id, outcome.hash] = outcome
        if half:  # the last line was being written when all ended; its record is still there
            text = half.decode("utf-8", "replace")
            if not half.startswith(_START[: len(half)]) or (_is_json(text) and _outcome_of(text) is None):
                raise _not_ours(path, content.count(b"\n") + 1)
            with path.open("r+b") as file:
                file.truncate(end)

    def _recover(self) -> None:
        """Finish what an earlier batch had made and not yet moved, and remove the rest that it left."""
        for left in (self.path / _WORK).iterdir():
            if left == self._work or not _OURS.fullmatch(left.name):
                continue
            for marker in left.glob(f"*{_BEGUN}"):
                marker.replace(self._work / marker.name)
            for record in sorted(left.glob(f"*/{RECORD}")):
                outcome = _outcome_of(record.read_text("utf-8", "replace"))
                noted = None if outcome is None else self.outcomes.get((outcome.id, outcome.hash))
                is_over = noted is not None and (noted == outcome or self.is_whole(noted))  # by another try
                if outcome is not None and not is_over:
                    self.commit(record.parent, outcome)
            shutil.rmtree(left, ignore_errors=True)

    def _free_names(self, place: Path, files: Mapping[str, str]) -> dict[str, str]:
        """Names for a job's files, none of which another file has."""
        named, numbers = dict(files), count(2)
        while any(_is_other(self.path / file, made_of(place, name, file)) for name, file in named.items()):
            stem = Path(files["result"]).stem
            new = f"{stem}-{next(numbers)}"
            named = {name: _with_stem(file, stem, new) for name, file in files.items()}
        return named


def made_of(place: Path, name: str, file: str | Path) -> Path:
    """Where a job's file lies until it is moved to `file`."""
    return place / f"{name}{Path(file).suffix}"


def write_record(place: Path, outcome: Outcome) -> None:
    """Say how a job ended, beside its files, once they are all written."""
    unfinished = place / f".{RECORD}"
    unfinished.write_bytes(_json_of(outcome))
    unfinished.replace(place / RECORD)


def _append(path: Path, line: bytes) -> None:
    """Add a line to a file, or nothing: half of one would spoil the next.

    Raises:
        OSError: it cannot be written.
    """
    with path.open("ab", buffering=0) as file:
        before, left = file.tell(), memoryview(line)
        try:
            while left:
                left = left[file.write(left) :]
            os.fsync(file.fileno())
        except OSError:
            file.truncate(before)
            raise


def _json_of(outcome: Outcome) -> bytes:
    plain = finite(asdict(outcome))
    try:
        return json.dumps(plain, ensure_ascii=False).encode()
    except UnicodeEncodeError:  # half of a letter of two halves
        return json.dumps(plain).encode()


def _not_ours(path: Path, number: int) -> InputError:
    return InputError(f"Line {number} of '{path}' is not one that a batch wrote. Choose another folder.")


def _is_json(line: str) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return False
    return True


def _outcome_of(line: str) -> Outcome | None:
    try:
        read = json.loads(line)
        outcome = Outcome(**read) if read.keys() <= _NAMES else None
    except (ValueError, TypeError, AttributeError, RecursionError):
        return None
    return outcome if outcome is not None and _is_possible(outcome) else None


def _is_possible(outcome: Outcome) -> bool:
    maps = (outcome.files, outcome.scores, outcome.record)
    if not all(isinstance(each, dict) for each in maps) or outcome.status not in get_args(Status):
        return False
    has_clip = outcome.status != "done" or "result" in outcome.files
    return has_clip and all(isinstance(name, str) for name in (outcome.id, outcome.hash, *outcome.files.values()))


def _move(made: Path, target: Path) -> None:
    """Give a file its place, unless it has it already.

    Raises:
        FileExistsError: another one has it.
        OSError: none can have it.
    """
    if not made.exists():
        return
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:  # which no other name of the file would change
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(target.parent)) from error
    try:
        os.link(made, target)  # unlike a rename it never replaces
    except FileExistsError:
        if _is_other(target, made):
            raise
    except OSError:  # a disk without links
        made.rename(target)
    made.unlink(missing_ok=True)


def _is_other(target: Path, made: Path) -> bool:
    """Whether something has a place that is not the file that belongs there."""
    return made.exists() and os.path.lexists(target) and not (target.exists() and target.samefile(made))


def _with_stem(file: str, old: str, new: str) -> str:
    path = Path(file)
    return path.with_stem(new + path.stem[len(old) :]).as_posix()
