"""What was run: settings, pictures, files and scores of every run, kept from one start of the studio to the next.

Every entry belongs to who made it, and is shown to nobody else. Several threads and processes may use one folder: each
call opens a connection of its own, and a journal that is rolled back works on any kind of disk. A process holds a lock
for as long as it lives, which the system takes from it however it ends; so its unfinished runs are not taken for
interrupted by others, and are once it is gone.
"""

from __future__ import annotations

import errno
import fcntl
import io
import json
import logging
import math
import os
import re
import secrets
import shutil
import sqlite3
import tempfile
import time
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from bivdiff.catalog.tasks import TASKS
from bivdiff.errors import InputError
from bivdiff.media import carried
from bivdiff.media.writing import MAX_GIF_FPS, Carry, write_gif, write_mp4, write_png_zip
from bivdiff.settings import Settings
from bivdiff.types import GenerationRequest, GenerationResult
from bivdiff.units import read_bytes

STATES = ("queued", "running", "done", "failed", "cancelled", "interrupted", "dropped")
"""Of a run; "dropped" is one from a file that somebody dropped on the page."""

UNFINISHED = "state IN ('queued', 'running')"
DEFAULT_BYTES = 5 * 10**9
FAVOURITES_SHARE = 0.5  # of the bound: favourites never leave by themselves, so they may not fill it
MAX_PRESETS = 100  # of one visitor
MAX_PRESET_NAME = 60
MAX_PRESET_BYTES = 2**16
MAX_LIMIT = 500
MAX_SEARCH = 200  # characters
THUMBNAIL_BYTES = 20_000
WAIT_SECONDS = 5.0  # for another thread or process that is writing
ABANDONED_SECONDS = 3600.0  # after which files without an entry have no writer any more

UPGRADES: tuple[tuple[str, ...], ...] = (
    (
        """CREATE TABLE runs (
            number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, owner TEXT NOT NULL, process TEXT NOT NULL,
            created REAL NOT NULL, kind TEXT NOT NULL, task TEXT NOT NULL, family TEXT NOT NULL,
            image_model TEXT NOT NULL, video_model TEXT NOT NULL, prompt TEXT NOT NULL, state TEXT NOT NULL,
            message TEXT NOT NULL DEFAULT '', settings TEXT NOT NULL, words TEXT NOT NULL,
            scores TEXT NOT NULL DEFAULT '{}', seconds TEXT NOT NULL DEFAULT '{}',
            favourite INTEGER NOT NULL DEFAULT 0, fps REAL NOT NULL, seed INTEGER, files TEXT NOT NULL DEFAULT '{}',
            thumbnail BLOB NOT NULL DEFAULT x'', bytes INTEGER NOT NULL DEFAULT 0
        )""",
        "CREATE INDEX runs_of_owner ON runs (owner, created)",
        f"CREATE INDEX unfinished_runs ON runs (process) WHERE {UNFINISHED}",
    ),
    (
        """CREATE TABLE presets (
            owner TEXT NOT NULL, task TEXT NOT NULL, name TEXT NOT NULL, settings TEXT NOT NULL,
            PRIMARY KEY (owner, task, name)
        )""",
    ),
)
"""Statements that lead from each version of the database to the next. A new database goes through all of them."""

_PICTURES = "pictures.zip"
_READ, _WRITE = "BEGIN", "BEGIN IMMEDIATE"
_REASONS = (
    ("locked", "another program is using it", "Close that program, or wait, and try again."),
    ("full", "the disk is full", "Make room and try again."),
    ("readonly", "its folder may not be written to", "Make it writable and try again."),
    ("", "it cannot be read or written", "Check that its folder is there, and start the studio again."),
)
_NOT_THERE = "This run is not in your history. It was deleted, made room for newer ones, or belongs to somebody else."
_log = logging.getLogger(__name__)


class _NewerError(Exception):
    """The database was written by a newer version of the studio."""


@dataclass(frozen=True)
class Run:
    """An entry of the history.

    Attributes:
        id: 32 hexadecimal digits that cannot be guessed; owner: who may see it.
        created: seconds since 1970.
        task, family, image_model, video_model, prompt: of its settings.
        state: one of `STATES`; message: the error, or what else the user should know.
        settings: as `carried.settings_of` gives them, with the seed that was used once there is one.
        scores: by name, None where there is none; seconds: per stage.
        favourite: it does not leave to make room.
        fps: frames a second; seed: None where none was drawn yet.
        files: by what they are, such as bridged, framewise, control, control-2, mask, gif, pngs; only those that exist.
        thumbnail: a small WebP, which may move, or nothing.
        kind: "run" or "comparison".
    """

    id: str
    owner: str
    created: float
    task: str
    family: str
    image_model: str
    video_model: str
    prompt: str
    state: str
    message: str
    settings: dict[str, Any]
    scores: dict[str, Any]
    seconds: dict[str, float]
    favourite: bool
    fps: float
    seed: int | None
    files: dict[str, Path]
    thumbnail: bytes
    kind: str


class Runs:
    """The history in a folder, for as long as the process lives.

    Making one never fails. Where the folder cannot be used the history is kept in a temporary one until the process
    ends, and `trouble` says so.

    Args:
        settings: name the folder and its bound.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._process = secrets.token_hex(16)
        self._folder = settings.history_folder.absolute()
        self._passing = ""
        try:
            self._standing = self._open()
        except (OSError, sqlite3.Error, _NewerError) as error:
            _log.warning("The history in %s cannot be used: %s", self._folder, str(error))
            self._standing = _standing_sentence(error)
            with suppress(OSError, sqlite3.Error):
                self._folder = Path(tempfile.mkdtemp(prefix="bivdiff-history-"))
                weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
                self._open()

    @property
    def trouble(self) -> str:
        """A sentence for the user where runs are not kept as they should be, else nothing."""
        return self._standing or self._passing

    @property
    def files_folder(self) -> Path:
        """The only folder whose files are served; each run has one in it, named by its id."""
        return self._folder / "files"

    def folder(self, run_id: str) -> Path:
        """The folder of a run's files, which is there once the run has begun.

        Raises:
            InputError: that is no id.
        """
        return self.files_folder / _checked_id(run_id)

    # The life of a run

    def begin(
        self,
        request: GenerationRequest,
        fps: float,
        owner: str,
        *,
        kind: str = "run",
        axes: Mapping[str, Sequence[Any]] | None = None,
    ) -> str:
        """Keep what is about to be run, in the state "queued", with its pictures.

        Args:
            request: what is asked.
            fps: playback rate.
            owner: who asks.
            kind: "run" or "comparison"; axes: the values that are compared, kept as `settings["axes"]`.

        Returns:
            The run's id.

        Raises:
            InputError: it cannot be kept; nothing is left behind.
        """
        settings = carried.settings_of(request, fps, axes)
        return self._insert(settings, request, owner, state="queued", kind=kind)

    def started(self, run_id: str) -> None:
        """Note that it is being computed. Does not fail: `trouble` says what could not be kept."""
        with suppress(InputError):
            self._update(run_id, state="running")

    def finish(self, run_id: str, result: GenerationResult, scores: Mapping[str, Any]) -> dict[str, Path]:
        """Write a result's files, each of which carries the run, and make room for them.

        Args:
            run_id: the run.
            result: its request has the settings that were used.
            scores: numbers by name.

        Returns:
            The files by what they are, see `Run.files`.

        Raises:
            InputError: they cannot be written; of the result nothing is left behind.
        """
        row = self._row(run_id)
        settings = _as_used(row, result.request)
        files = _names_of(result)
        with self._written(run_id, files) as folder:
            self._keep_pictures(folder, result.request)
            carry = carried.carry(settings, (folder / _PICTURES).read_bytes())
            _write_clips(folder, files, result, row["fps"], carry)
            write_gif(folder / files["gif"], result.frames, min(row["fps"], MAX_GIF_FPS), carry)
            write_png_zip(folder / files["pngs"], result.frames, carry)
            self._update(
                run_id, state="done", message="", settings=_json(settings), words=_words(settings),
                seed=settings["seed"], scores=_json(_finite(scores)), seconds=_json(_finite(result.seconds)),
                files=_json(files), thumbnail=_thumbnail(result.frames, row["fps"]),
            )  # fmt: skip
        with suppress(InputError):  # what was made is kept whether or not the old could leave
            self._make_room(run_id)
        return {name: folder / file for name, file in files.items()}

    def finish_comparison(
        self, run_id: str, request: GenerationRequest, files: Mapping[str, Path], scores: Mapping[str, Any],
        thumbnail_frames: np.ndarray, *, state: str = "done", message: str = "",
    ) -> None:  # fmt: skip
        """Note what a comparison has made, and make room for it.

        Args:
            run_id: the run.
            request: has the settings that were used, the seed among them.
            files: in the run's folder, by what they are.
            scores: whatever there is to say, ready for JSON.
            thumbnail_frames: uint8 `(F, H, W, 3)`.
            state: how it ended: one that was cancelled or failed has the clips that were ready.
            message: why it ended so.

        Raises:
            InputError: it cannot be kept.
        """
        row = self._row(run_id)
        settings = _as_used(row, request)
        with self._written(run_id, {}) as folder:
            self._keep_pictures(folder, request)
            self._update(
                run_id, state=state, message=message, scores=_json(_finite(scores)),
                files=_json({name: str(path.relative_to(folder)) for name, path in files.items()}),
                settings=_json(settings), words=_words(settings), seed=settings["seed"],
                thumbnail=_thumbnail(thumbnail_frames, row["fps"]),
            )  # fmt: skip
        with suppress(InputError):
            self._make_room(run_id)

    def end(self, run_id: str, state: str, message: str = "", framewise: np.ndarray | None = None) -> None:
        """Note how a run ended that has no result. Does not fail: `trouble` says what could not be kept.

        Args:
            run_id: the run.
            state: failed, cancelled or interrupted.
            message: why.
            framewise: the image model's frames, if they were made, uint8 `(F, H, W, 3)`; they are kept.
        """
        if state not in {"failed", "cancelled", "interrupted"}:
            raise ValueError(f"a run without a result does not end as '{state}'")
        with suppress(InputError):
            self._update(run_id, state=state, message=message)
            if framewise is not None:
                self._keep_framewise(run_id, framewise)
            self._make_room(run_id)

    def adopt(self, path: str | Path, owner: str) -> str:
        """Make a run, in the state "dropped", of what a file carries.

        Returns:
            The run's id. Its message says so where the file carries settings without pictures.

        Raises:
            InputError: it carries nothing that can be restored here, or it cannot be kept.
        """
        found = carried.read(path)
        settings = found.settings
        if settings["task"] not in TASKS or settings["image_model"] not in TASKS[settings["task"]].image_models:
            raise InputError(
                "This file was made for a task that this version of the studio does not have. Update it and try again."
            )
        message = "" if found.request else carried.NO_PICTURES
        kind = "comparison" if "axes" in settings else "run"
        made = self._insert(settings, found.request, owner, state="dropped", kind=kind, message=message)
        with suppress(InputError):
            self._make_room(made)
        return made

    # What a visitor asks

    def get(self, run_id: str, owner: str) -> Run:
        """One run.

        Raises:
            InputError: it is not there, or not the owner's.
        """
        return self._run(self._owned(run_id, owner))

    def find(
        self,
        owner: str,
        *,
        search: str = "",
        task: str = "",
        state: str = "",
        favourites: bool = False,
        limit: int = 60,
        offset: int = 0,
    ) -> list[Run]:
        """The owner's runs, newest first.

        Args:
            owner: who asks.
            search: words that must all occur in the prompt or in another setting, in any case.
            task, state: keys; nothing means every one.
            favourites: only those.
            limit, offset: which part of the list; at most 500 at once.

        Raises:
            InputError: the history cannot be read.
        """
        with suppress(InputError):
            self._note_the_gone()
        conditions, values = ["owner = ?"], [_checked_owner(owner)]
        for column, value in (("task", task), ("state", state)):
            if value:
                conditions.append(f"{column} = ?")
                values.append(_storable(value))
        if favourites:
            conditions.append("favourite")
        for word in _storable(search)[:MAX_SEARCH].casefold().split():
            conditions.append(r"words LIKE ? ESCAPE '\'")
            values.append("%" + re.sub(r"([\\%_])", r"\\\1", word) + "%")
        # Conditions are made of the constants above; all that was given goes in as values.
        query = f"SELECT * FROM runs WHERE {' AND '.join(conditions)} ORDER BY created DESC, number DESC"  # noqa: S608
        part = (min(max(int(limit), 0), MAX_LIMIT), max(int(offset), 0))
        with self._database(_READ) as database:
            rows = database.execute(f"{query} LIMIT ? OFFSET ?", (*values, *part)).fetchall()
        return [self._run(row) for row in rows]

    def set_favourite(self, run_id: str, owner: str, on: bool) -> None:
        """Say whether a run stays when others leave to make room.

        Raises:
            InputError: it is not there or not the owner's, or favourites take up too much already.
        """
        row, most = self._owned(run_id, owner), FAVOURITES_SHARE * self._bound()
        others = "SELECT total(bytes) FROM runs WHERE favourite AND id != ?"
        with self._database(_WRITE) as database:
            if on and database.execute(others, (run_id,)).fetchone()[0] + row["bytes"] > most:
                raise InputError(
                    f"Favourites may take up {FAVOURITES_SHARE:.0%} of the history, and with this one it would be "
                    "more. Take the mark from another one first."
                )
            database.execute("UPDATE runs SET favourite = ? WHERE id = ?", (int(on), run_id))

    def delete(self, run_id: str, owner: str) -> None:
        """Remove a run and its files for good.

        Raises:
            InputError: it is not there or not the owner's, or it has not ended yet.
        """
        with suppress(InputError):
            self._note_the_gone()
        if self._owned(run_id, owner)["state"] in {"queued", "running"}:
            raise InputError("This run is still waiting or being computed. Stop it first, then delete it.")
        with self._database(_WRITE) as database:
            database.execute("DELETE FROM runs WHERE id = ? AND owner = ?", (run_id, owner))
        shutil.rmtree(self.folder(run_id), ignore_errors=True)

    def job(self, run_id: str, owner: str) -> tuple[GenerationRequest, float]:
        """The request of a run with all its pictures and the seed that was used, and its frames a second.

        Raises:
            InputError: it is not there or not the owner's, or its pictures are not.
        """
        run = self.get(run_id, owner)
        if run.message == carried.NO_PICTURES:
            raise InputError(run.message)
        return carried.request_of(run.settings, carried.unpack(self.folder(run_id) / _PICTURES)), run.fps

    # Presets

    def save_preset(self, owner: str, task: str, name: str, settings: Mapping[str, Any]) -> None:
        """Keep settings under a name; those that had it before are replaced.

        Raises:
            InputError: the name is empty, too long or unprintable, or there are too many presets.
        """
        name, text = name.strip(), _json(settings)
        if not 1 <= len(name) <= MAX_PRESET_NAME or not name.isprintable():
            raise InputError(f"A preset needs a name of 1 to {MAX_PRESET_NAME} characters. Choose another one.")
        if len(text) > MAX_PRESET_BYTES:
            raise InputError("These settings are too long for a preset. Shorten the prompts.")
        key = (_checked_owner(owner), task, name)
        with self._database(_WRITE) as database:
            count = "SELECT count(*) FROM presets WHERE owner = ? AND NOT (task = ? AND name = ?)"
            if database.execute(count, (owner, task, name)).fetchone()[0] >= MAX_PRESETS:
                raise InputError(f"There are {MAX_PRESETS} presets already, which is the most. Delete one first.")
            database.execute("INSERT OR REPLACE INTO presets VALUES (?, ?, ?, ?)", (*key, text))

    def presets(self, owner: str, task: str) -> dict[str, dict[str, Any]]:
        """The owner's presets of a task by name, in the order of the alphabet.

        Raises:
            InputError: they cannot be read.
        """
        query = "SELECT name, settings FROM presets WHERE owner = ? AND task = ?"
        with self._database(_READ) as database:
            rows = database.execute(query, (_checked_owner(owner), task)).fetchall()
        rows.sort(key=lambda row: row["name"].casefold())
        return {row["name"]: json.loads(row["settings"]) for row in rows}

    def delete_preset(self, owner: str, task: str, name: str) -> None:
        """Remove a preset; one that is not there is no mistake.

        Raises:
            InputError: the history cannot be written.
        """
        with self._database(_WRITE) as database:
            delete = "DELETE FROM presets WHERE owner = ? AND task = ? AND name = ?"
            database.execute(delete, (_checked_owner(owner), task, name.strip()))

    # Opening

    def _open(self) -> str:
        """Make the folder ready; returns what the user should know about it."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.files_folder.mkdir(exist_ok=True)
        with _held(self._folder / "opening.lock"):
            self._hold_own_lock()
            sentence = self._move_aside() if _is_broken(self._folder / "runs.sqlite") else ""
            with closing(self._connection()) as database:
                _upgrade(database)
        with suppress(InputError):
            self._note_the_gone()
            self._remove_abandoned()
        return sentence

    def _hold_own_lock(self) -> None:
        """Lock a file that says that this process lives; it appears only once it is locked."""
        folder = self._folder / "processes"
        folder.mkdir(exist_ok=True)
        unnamed = self._folder / f".{self._process}"
        descriptor = os.open(unnamed, os.O_CREAT | os.O_RDWR, 0o600)
        weakref.finalize(self, os.close, descriptor)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        unnamed.replace(folder / self._process)

    def _move_aside(self) -> str:
        """Give a damaged database, and the files that it knew, names of their own."""
        ending = time.strftime(".broken-%Y%m%d-%H%M%S")
        for name in ("runs.sqlite", "runs.sqlite-journal", "files"):
            with suppress(FileNotFoundError):
                (self._folder / name).rename(self._folder / f"{name}{ending}")
        self.files_folder.mkdir()
        return (
            f"The database of earlier runs was damaged, so a new history was begun. The old one stays beside it, under "
            f"names that end in “{ending}”: their clips can still be watched, or dropped on the page. Delete them when "
            "you need them no more."
        )

    def _remove_abandoned(self) -> None:
        """Remove locks of processes that are gone, and files of runs that never came into the database."""
        for lock in (self._folder / "processes").iterdir():
            _lives(lock)
        with self._database(_READ) as database:
            known = {row["id"] for row in database.execute("SELECT id FROM runs")}
        for folder in self.files_folder.iterdir():
            with suppress(FileNotFoundError):
                if folder.name not in known and time.time() - folder.stat().st_mtime > ABANDONED_SECONDS:
                    shutil.rmtree(folder, ignore_errors=True)

    def _note_the_gone(self) -> None:
        """Mark as interrupted what processes left unfinished that are gone."""
        with self._database(_READ) as database:
            query = f"SELECT DISTINCT process FROM runs WHERE {UNFINISHED} AND process != ?"  # noqa: S608 - a constant
            others = [row["process"] for row in database.execute(query, (self._process,))]
        gone = [name for name in others if not _lives(self._folder / "processes" / name)]
        if gone:
            message = "The studio was stopped while this run was waiting or being computed. Restore it to run it again."
            update = f"UPDATE runs SET state = 'interrupted', message = ? WHERE process = ? AND {UNFINISHED}"  # noqa: S608
            with self._database(_WRITE) as database:
                database.executemany(update, [(message, name) for name in gone])

    # Rows

    def _connection(self) -> sqlite3.Connection:
        path = self._folder / "runs.sqlite"
        database = sqlite3.connect(path, timeout=WAIT_SECONDS, isolation_level=None)
        database.row_factory = sqlite3.Row
        return database

    @contextmanager
    def _database(self, begin: str) -> Iterator[sqlite3.Connection]:
        """A transaction, which is undone if it does not end well."""
        try:
            with closing(self._connection()) as database:
                database.execute(begin)
                yield database
                database.execute("COMMIT")
        except sqlite3.Error as error:
            raise self._failed(error, str(error)) from error
        self._passing = ""

    def _failed(self, error: Exception, reason: str) -> InputError:
        """The error for the user, which `trouble` repeats until something is kept again."""
        _log.warning("The history could not be used: %s", str(error))
        _, why, advice = next(known for known in _REASONS if known[0] in reason)
        self._passing = f"The history could not be used, because {why}. {advice}"
        return InputError(self._passing)

    def _insert(
        self,
        settings: dict[str, Any],
        request: GenerationRequest | None,
        owner: str,
        **columns: Any,
    ) -> str:
        made, settings = secrets.token_hex(16), json.loads(_json(settings))
        shown = ("task", "family", "image_model", "video_model", "prompt", "seed", "fps")
        row = {
            "id": made, "owner": _checked_owner(owner), "process": self._process, "created": time.time(),
            **{name: _storable(settings[name]) for name in shown},
            "settings": _json(settings), "words": _words(settings),
            "thumbnail": b"" if request is None else _thumbnail(request.frames[:1], settings["fps"]), **columns,
        }  # fmt: skip
        with self._written(made, {}, whole=True) as folder:
            if request is not None:
                (folder / _PICTURES).write_bytes(carried.pack(request))
            row["bytes"] = _bytes_of(folder) + len(row["settings"]) + len(row["thumbnail"])
            names = ", ".join(row)
            insert = f"INSERT INTO runs ({names}) VALUES ({', '.join('?' * len(row))})"  # noqa: S608 - our own names
            with self._database(_WRITE) as database:
                database.execute(insert, tuple(row.values()))
        return made

    def _update(self, run_id: str, **columns: Any) -> None:
        size, values = _bytes_of(self.folder(run_id)), map(_storable, columns.values())
        changes = ", ".join(f"{name} = ?" for name in columns)
        update = f"UPDATE runs SET {changes}, bytes = ? + length(settings) + length(thumbnail) WHERE id = ?"  # noqa: S608
        with self._database(_WRITE) as database:
            if not database.execute(update, (*values, size, run_id)).rowcount:
                raise InputError(_NOT_THERE)

    def _row(self, run_id: str) -> sqlite3.Row:
        with self._database(_READ) as database:
            row = database.execute("SELECT * FROM runs WHERE id = ?", (_checked_id(run_id),)).fetchone()
        if row is None:
            raise InputError(_NOT_THERE)
        return row

    def _owned(self, run_id: str, owner: str) -> sqlite3.Row:
        row = self._row(run_id)
        if row["owner"] != _checked_owner(owner):
            raise InputError(_NOT_THERE)
        return row

    def _run(self, row: sqlite3.Row) -> Run:
        columns = {name: row[name] for name in row.keys() if name not in {"number", "process", "words", "bytes"}}  # noqa: SIM118
        columns |= {name: json.loads(row[name]) for name in ("settings", "scores", "seconds")}
        folder = self.files_folder / row["id"]
        files = {name: folder / file for name, file in json.loads(row["files"]).items()}
        columns["files"] = {name: path for name, path in files.items() if path.is_file()}
        return Run(**{**columns, "favourite": bool(row["favourite"])})

    # Files

    @contextmanager
    def _written(self, run_id: str, files: Mapping[str, str], whole: bool = False) -> Iterator[Path]:
        """The folder of a run to write `files` to; they are removed, or all of it is, unless everything went well."""
        folder = self.folder(run_id)
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
            yield folder
        except BaseException as error:
            if whole:
                shutil.rmtree(folder, ignore_errors=True)
            for file in files.values():
                with suppress(OSError):
                    (folder / file).unlink(missing_ok=True)
            if isinstance(error, InputError) and isinstance(error.__cause__, OSError):
                self._passing = str(error)
            if isinstance(error, OSError):
                raise self._failed(error, "full" if error.errno == errno.ENOSPC else "") from error
            raise

    def _keep_pictures(self, folder: Path, request: GenerationRequest) -> None:
        """Keep the pictures of a request that was made smaller to fit, since they are what it was made of."""
        if carried.unpack(folder / _PICTURES).frames.shape == request.frames.shape:
            return
        smaller = folder / f"{_PICTURES}.part"
        smaller.write_bytes(carried.pack(request))
        smaller.replace(folder / _PICTURES)

    def _keep_framewise(self, run_id: str, framewise: np.ndarray) -> None:
        row = self._row(run_id)
        files = {"framewise": "frame-by-frame.mp4"}
        with self._written(run_id, files) as folder:
            carry = carried.carry(json.loads(row["settings"]), (folder / _PICTURES).read_bytes())
            write_mp4(folder / files["framewise"], framewise, row["fps"], carry)
            self._update(run_id, files=_json(files), thumbnail=_thumbnail(framewise, row["fps"]))

    def _bound(self) -> int:
        try:
            bound = read_bytes(self._settings.history_size)
        except InputError as error:
            self._standing = f"BIVDIFF_HISTORY_SIZE cannot be read: {error}"
            bound = None
        return DEFAULT_BYTES if bound is None else bound

    def _make_room(self, kept: str) -> None:
        """Let runs leave that have ended and are no favourites, but not `kept`, until all fit.

        It is always the oldest of whoever takes the most, so that nobody makes others lose theirs.
        """
        bound, gone = self._bound(), []
        query = f"SELECT id, owner, bytes FROM runs WHERE NOT (favourite OR {UNFINISHED} OR id = ?) ORDER BY created"  # noqa: S608
        with self._database(_WRITE) as database:
            taken = dict(database.execute("SELECT owner, total(bytes) FROM runs GROUP BY owner").fetchall())
            leaving: dict[str, list[sqlite3.Row]] = {}
            for row in database.execute(query, (kept,)) if sum(taken.values()) > bound else ():
                leaving.setdefault(row["owner"], []).append(row)
            while leaving and sum(taken.values()) > bound:
                owner = max(leaving, key=lambda each: taken[each])
                oldest = leaving[owner].pop(0)
                gone.append((oldest["id"],))
                taken[owner] -= oldest["bytes"]
                if not leaving[owner]:
                    del leaving[owner]
            database.executemany("DELETE FROM runs WHERE id = ?", gone)
        for (name,) in gone:
            shutil.rmtree(self.folder(name), ignore_errors=True)


# The folder


@contextmanager
def _held(path: Path) -> Iterator[None]:
    """Hold a lock that one process has at a time.

    Raises:
        BlockingIOError: another one has had it for too long.
    """
    with path.open("a") as file:
        until = time.monotonic() + WAIT_SECONDS
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.02)
        yield


def _lives(lock: Path) -> bool:
    """Whether the process lives that holds this lock; where it does not, the file goes too."""
    try:
        with lock.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            lock.unlink(missing_ok=True)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False


def _is_broken(path: Path) -> bool:
    """Whether there is a database that cannot be read; one that is busy or may not be opened is not broken."""
    try:
        with closing(sqlite3.connect(path, timeout=WAIT_SECONDS)) as database:
            return database.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok"
    except sqlite3.OperationalError:
        raise
    except sqlite3.DatabaseError:
        return True


def _upgrade(database: sqlite3.Connection) -> None:
    """Bring a database to this version in one transaction.

    Raises:
        _NewerError: it is of a later one.
    """
    database.execute(_WRITE)
    version = database.execute("PRAGMA user_version").fetchone()[0]
    if version > len(UPGRADES):
        raise _NewerError
    for statements in UPGRADES[version:]:
        for statement in statements:
            database.execute(statement)
    database.execute(f"PRAGMA user_version = {len(UPGRADES)}")
    database.execute("COMMIT")


def _standing_sentence(error: Exception) -> str:
    if isinstance(error, _NewerError):
        why, advice = "it was written by a newer version of the studio", "Update the studio and start it again."
    elif isinstance(error, BlockingIOError) or "locked" in str(error):
        why, advice = "another program is using it", "Close that program and start the studio again."
    elif getattr(error, "errno", 0) == errno.ENOSPC or "full" in str(error):
        why, advice = "the disk is full", "Make room and start the studio again."
    else:
        why, advice = "it cannot be read and written", "Make it writable, or name another in BIVDIFF_HISTORY_FOLDER."
    return f"What you run is kept only until the studio stops. Its history folder is not used, because {why}. {advice}"


def _bytes_of(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):
            total += path.stat().st_size if path.is_file() else 0
    return total


# What a result leaves


def _names_of(result: GenerationResult) -> dict[str, str]:
    """The names of a result's files."""
    steering = [f"control-{number}" if number > 1 else "control" for number in range(1, len(result.control_frames) + 1)]
    steering += ["mask"] if result.request.masks is not None else []
    return {
        "bridged": "bridged.mp4", "framewise": "frame-by-frame.mp4", **{name: f"{name}.mp4" for name in steering},
        "gif": "bridged.gif", "pngs": "bridged-frames.zip",
    }  # fmt: skip


def _write_clips(folder: Path, files: Mapping[str, str], result: GenerationResult, fps: float, carry: Carry) -> None:
    clips = {"bridged": result.frames, "framewise": result.framewise_frames}
    clips |= {f"control-{number}" if number > 1 else "control": frames
              for number, frames in enumerate(result.control_frames, 1)}  # fmt: skip
    if result.request.masks is not None:
        clips["mask"] = np.repeat(result.request.masks[..., None], 3, axis=-1)
    for name, frames in clips.items():
        write_mp4(folder / files[name], frames, fps, carry)


def _thumbnail(frames: np.ndarray, fps: float) -> bytes:
    """A WebP of at most `THUMBNAIL_BYTES`: moving if that fits, else smaller, coarser and at last still."""
    for side, count, quality in ((160, 8, 60), (160, 8, 25), (96, 8, 25), (160, 1, 60), (96, 1, 25), (48, 1, 10)):
        size = _within(frames.shape[2], frames.shape[1], side)
        pictures = [Image.fromarray(frame).resize(size, Image.Resampling.BILINEAR) for frame in frames[:count]]
        lasts = round(min(max(1000 / fps, 20), 1000))
        buffer = io.BytesIO()
        pictures[0].save(
            buffer, "WEBP", save_all=True, append_images=pictures[1:], duration=lasts, loop=0, quality=quality, method=2
        )
        if buffer.tell() <= THUMBNAIL_BYTES:
            return buffer.getvalue()
    return b""


def _within(width: int, height: int, side: int) -> tuple[int, int]:
    scale = min(side / max(width, height), 1)
    return max(round(width * scale), 1), max(round(height * scale), 1)


# Texts


def _checked_id(given: str) -> str:
    if not isinstance(given, str) or not re.fullmatch(r"[0-9a-f]{32}", given):
        raise InputError(_NOT_THERE)
    return given


def _checked_owner(owner: str) -> str:
    if not isinstance(owner, str) or not re.fullmatch(r"[!-~]{1,200}", owner):
        raise InputError("The page did not say whose runs these are. Reload it, and let it keep data in this browser.")
    return owner


def _json(value: Any) -> str:
    return json.dumps(value, default=lambda number: number.item())


def _finite(value: Any) -> Any:
    """The same with None for numbers that JSON has no word for."""
    if isinstance(value, Mapping):
        return {name: _finite(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float | np.floating) and not math.isfinite(value) else value


def _as_used(row: sqlite3.Row, request: GenerationRequest) -> dict[str, Any]:
    """The settings of a run as they were used: what was left open, or made smaller to fit, is not as it was asked.

    What the video model was told stands for the words it was made of, which may hold "{prompt}": they are kept.
    """
    settings = json.loads(row["settings"])
    seed = None if request.seed is None else int(request.seed)  # SQLite takes no number of NumPy's for one
    return {**settings, **request.settings(), "inversion_prompt": settings["inversion_prompt"], "seed": seed}


def _words(settings: Mapping[str, Any]) -> str:
    """All values of the settings, as the search looks for them: SQLite itself folds the case of ASCII alone."""
    values = [settings["prompt"]]
    for name, value in settings.items():
        if name == "controls":
            values += [control["control_type"] for control in value]
        elif name != "prompt" and isinstance(value, str | int | float) and not isinstance(value, bool):
            values.append(value)
    return _storable("\n".join(map(str, values))).casefold()


def _storable(value: Any) -> Any:
    """The same, but half a surrogate pair, which SQLite takes no more than UTF-8 does, becomes a question mark."""
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value
