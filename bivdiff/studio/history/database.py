"""The tables of the history: their versions, and every question that is asked of the runs.

Several threads and processes may use one file: each transaction opens a connection of its own, and a journal that is
rolled back works on any kind of disk. Every statement is a constant; all that was given goes in as values.
"""

from __future__ import annotations

import hashlib
import json
import re
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bivdiff.errors import InputError
from bivdiff.studio.history import locks
from bivdiff.studio.history.records import NO_LINK, NOT_THERE, Changes, checked_id, checked_owner, storable
from bivdiff.studio.history.shares import Visitor, next_to_give
from bivdiff.studio.history.trouble import NewerError, Part, Trouble

MAX_LIMIT = 500
MAX_SEARCH = 200  # characters

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
        "CREATE INDEX unfinished_runs ON runs (process) WHERE state IN ('queued', 'running')",
    ),
    (
        """CREATE TABLE presets (
            owner TEXT NOT NULL, task TEXT NOT NULL, name TEXT NOT NULL, settings TEXT NOT NULL,
            PRIMARY KEY (owner, task, name)
        )""",
    ),
    (
        "CREATE TABLE IF NOT EXISTS keys (key BLOB NOT NULL)",
        "INSERT INTO keys SELECT randomblob(32) WHERE NOT EXISTS (SELECT 1 FROM keys)",
        """CREATE TABLE IF NOT EXISTS visitors (
            owner TEXT PRIMARY KEY, place TEXT NOT NULL, first REAL NOT NULL, last REAL NOT NULL
        )""",
        "INSERT OR IGNORE INTO visitors SELECT owner, '', min(created), max(created) FROM runs GROUP BY owner",
        "INSERT OR IGNORE INTO visitors SELECT DISTINCT owner, '', 0, CAST(strftime('%s', 'now') AS REAL) FROM presets",
    ),
    (
        "CREATE TABLE IF NOT EXISTS links (id TEXT PRIMARY KEY, run TEXT NOT NULL UNIQUE, created REAL NOT NULL)",
        # However a run goes, its link goes with it.
        "CREATE TRIGGER IF NOT EXISTS unlink_run AFTER DELETE ON runs BEGIN DELETE FROM links WHERE run = old.id; END",
    ),
)
"""Statements that lead from each version of the database to the next. A new database goes through all of them."""

_INSERT = """
    INSERT INTO runs (
        id, owner, process, created, kind, task, family, image_model, video_model, prompt, state, message, settings,
        words, fps, seed, thumbnail, bytes
    ) VALUES (
        :id, :owner, :process, :created, :kind, :task, :family, :image_model, :video_model, :prompt, :state, :message,
        :settings, :words, :fps, :seed, :thumbnail, :bytes
    )"""
_UPDATE = """
    UPDATE runs SET
        state = coalesce(:state, state), message = coalesce(:message, message),
        settings = coalesce(:settings, settings), words = coalesce(:words, words), seed = coalesce(:seed, seed),
        scores = coalesce(:scores, scores), seconds = coalesce(:seconds, seconds), files = coalesce(:files, files),
        thumbnail = coalesce(:thumbnail, thumbnail),
        bytes = :size + length(coalesce(:settings, settings)) + length(coalesce(:thumbnail, thumbnail))
    WHERE id = :id"""
_FIND = r"""
    SELECT * FROM runs WHERE owner = :owner
        AND (:task = '' OR task = :task) AND (:state = '' OR state = :state) AND (NOT :favourites OR favourite)
        AND NOT EXISTS (SELECT 1 FROM json_each(:patterns) WHERE words NOT LIKE value ESCAPE '\')
    ORDER BY created DESC, number DESC LIMIT :limit OFFSET :offset"""
# The states that the index of unfinished runs names, word for word, or SQLite does not use it.
_OTHERS_UNFINISHED = "SELECT DISTINCT process FROM runs WHERE state IN ('queued', 'running') AND process != ?"
_INTERRUPT = "UPDATE runs SET state = 'interrupted', message = ? WHERE process = ? AND state IN ('queued', 'running')"
_MAY_LEAVE = """
    SELECT id, owner, bytes, favourite FROM runs
    WHERE NOT (state IN ('queued', 'running') OR id = ?) ORDER BY favourite, created, number"""
_SEEN = """
    INSERT INTO visitors VALUES (:owner, :place, :now, :now)
    ON CONFLICT (owner) DO UPDATE SET last = :now, place = CASE :place WHEN '' THEN place ELSE :place END"""
_TAKEN = """
    SELECT visitors.owner, place, first, last,
        (SELECT total(bytes) FROM runs WHERE runs.owner = visitors.owner)
        + (SELECT total(length(settings) + length(name) + 200) FROM presets WHERE presets.owner = visitors.owner)
        AS taken
    FROM visitors"""
_PRESETS_TAKE = "SELECT owner, total(length(settings) + length(name) + 200) FROM presets GROUP BY owner"
_FORGET = """
    DELETE FROM visitors WHERE owner NOT IN (SELECT owner FROM runs UNION SELECT owner FROM presets)"""


class Database:
    """The database in a history folder.

    Args:
        folder: the history folder.
        trouble: is told what fails, and what succeeds again.
    """

    def __init__(self, folder: Path, trouble: Trouble) -> None:
        self.path = folder / "runs.sqlite"
        self._trouble = trouble

    # Opening

    def is_broken(self) -> bool:
        """Whether it cannot be read; one that is busy or may not be opened is not broken.

        Raises:
            sqlite3.OperationalError: it is busy or may not be opened.
        """
        try:
            with closing(self.connect()) as database:
                return bool(database.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok")
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError:
            return True

    def upgrade(self) -> None:
        """Bring it to this version in one transaction, from nothing if it is not there.

        Raises:
            NewerError: it is of a later one.
            sqlite3.Error: it cannot be written.
        """
        with closing(self.connect()) as database:
            database.execute("BEGIN IMMEDIATE")
            version = database.execute("PRAGMA user_version").fetchone()[0]
            if version > len(UPGRADES):
                raise NewerError("the database is of a newer version")
            for statements in UPGRADES[version:]:
                for statement in statements:
                    database.execute(statement)
            database.execute(f"PRAGMA user_version = {len(UPGRADES)}")
            database.execute("COMMIT")

    def connect(self) -> sqlite3.Connection:
        """A connection that commits what it is told to commit."""
        database = sqlite3.connect(self.path, timeout=locks.WAIT_SECONDS, isolation_level=None)
        database.row_factory = sqlite3.Row
        return database

    def reading(self) -> AbstractContextManager[sqlite3.Connection]:
        """A transaction that only reads; `InputError` says what fails."""
        return self._transaction("reading", "BEGIN")

    def writing(self) -> AbstractContextManager[sqlite3.Connection]:
        """A transaction that writes, which is undone if it does not end well; see `reading`."""
        return self._transaction("writing", "BEGIN IMMEDIATE")

    @contextmanager
    def _transaction(self, part: Part, begin: str) -> Iterator[sqlite3.Connection]:
        try:
            with closing(self.connect()) as database:
                database.execute(begin)
                yield database
                database.execute("COMMIT")
        except sqlite3.Error as error:
            raise self._trouble.later(part, error) from error
        self._trouble.works(part)

    # Runs. Each of these raises InputError where the history cannot be used.

    def insert(self, row: Mapping[str, Any], address: str) -> None:
        """Add a run, all of whose columns are given but those that only a result has; `address` is its owner's."""
        with self.writing() as database:
            self.saw(database, row["owner"], address)
            database.execute(_INSERT, {name: _stored(value) for name, value in row.items()})

    def saw(self, database: sqlite3.Connection, owner: str, address: str) -> None:
        """Note within a transaction that a visitor is here now, at an address or, where it is empty, somewhere.

        The address itself is not stored: a place is told from others, and leads back to no address.
        """
        (key,) = database.execute("SELECT key FROM keys").fetchone()
        place = address and hashlib.blake2b(address.encode(), key=key, digest_size=12).hexdigest()
        database.execute(_SEEN, {"owner": owner, "place": place, "now": time.time()})

    def update(self, run_id: str, changes: Changes, size: int) -> None:
        """Change a run whose files take `size` bytes.

        Raises:
            InputError: it is not there.
        """
        values = {name: _stored(value) for name, value in asdict(changes).items()}
        with self.writing() as database:
            if not database.execute(_UPDATE, {**values, "size": size, "id": run_id}).rowcount:
                raise InputError(NOT_THERE)

    def row(self, run_id: str) -> sqlite3.Row:
        """A run by its id.

        Raises:
            InputError: it is not there.
        """
        with self.reading() as database:
            row: sqlite3.Row | None = database.execute(
                "SELECT * FROM runs WHERE id = ?", (checked_id(run_id),)
            ).fetchone()
        if row is None:
            raise InputError(NOT_THERE)
        return row

    def owned_row(self, run_id: str, owner: str) -> sqlite3.Row:
        """A run of an owner.

        Raises:
            InputError: it is not there, or not the owner's.
        """
        row = self.row(run_id)
        if row["owner"] != checked_owner(owner):
            raise InputError(NOT_THERE)
        return row

    def find(
        self, owner: str, *, search: str, task: str, state: str, favourites: bool, limit: int, offset: int
    ) -> list[sqlite3.Row]:
        """The owner's runs, newest first; see `Runs.find`."""
        words = storable(search)[:MAX_SEARCH].casefold().split()
        patterns = ["%" + re.sub(r"([\\%_])", r"\\\1", word) + "%" for word in words]
        values = {
            "owner": checked_owner(owner), "task": storable(task), "state": storable(state), "favourites": favourites,
            "patterns": json.dumps(patterns), "limit": min(max(int(limit), 0), MAX_LIMIT),
            "offset": max(int(offset), 0),
        }  # fmt: skip
        with self.reading() as database:
            rows: list[sqlite3.Row] = database.execute(_FIND, values).fetchall()
        return rows

    def set_favourite(self, run_id: str, on: bool, most: float) -> bool:
        """Mark a run, unless all its owner's marked ones would take more than `most` bytes; returns whether it did."""
        all_marked = """
            SELECT total(bytes) FROM runs
            WHERE (favourite OR id = :id) AND owner = (SELECT owner FROM runs WHERE id = :id)"""
        with self.writing() as database:
            if on and database.execute(all_marked, {"id": run_id}).fetchone()[0] > most:
                return False
            database.execute("UPDATE runs SET favourite = ? WHERE id = ?", (int(on), run_id))
        return True

    def link(self, run_id: str) -> str:
        """The id of a run's link; empty where it has none."""
        with self.reading() as database:
            row = database.execute("SELECT id FROM links WHERE run = ?", (run_id,)).fetchone()
        return "" if row is None else str(row["id"])

    def set_link(self, run_id: str, link_id: str) -> None:
        """Give a run a link, or with an empty id take it away."""
        with self.writing() as database:
            database.execute("DELETE FROM links WHERE run = ?", (run_id,))
            if link_id:
                database.execute("INSERT INTO links VALUES (?, ?, ?)", (link_id, run_id, time.time()))

    def linked_row(self, link_id: str) -> sqlite3.Row:
        """The run that a link shows.

        Raises:
            InputError: there is no such link.
        """
        with self.reading() as database:
            row: sqlite3.Row | None = database.execute(
                "SELECT runs.* FROM runs JOIN links ON links.run = runs.id WHERE links.id = ?", (storable(link_id),)
            ).fetchone()
        if row is None:
            raise InputError(NO_LINK)
        return row

    def delete(self, run_id: str) -> None:
        """Remove a run."""
        with self.writing() as database:
            database.execute("DELETE FROM runs WHERE id = ?", (run_id,))

    def ids(self) -> set[str]:
        """The ids of all runs."""
        with self.reading() as database:
            return {row["id"] for row in database.execute("SELECT id FROM runs")}

    def others_unfinished(self, process: str) -> list[str]:
        """The other processes that have unfinished runs."""
        with self.reading() as database:
            return [row["process"] for row in database.execute(_OTHERS_UNFINISHED, (process,))]

    def interrupt(self, processes: Iterable[str], message: str) -> None:
        """Note that unfinished runs of processes were interrupted."""
        with self.writing() as database:
            database.executemany(_INTERRUPT, [(message, process) for process in processes])

    def make_room(self, bound: int, stays: str) -> list[str]:
        """Remove runs that have ended, but not `stays`, until all take at most `bound` bytes.

        Whose they are is said by `shares`; of one visitor's, favourites are the last, and before them the oldest go.

        Returns:
            Their ids.
        """
        with self.writing() as database:
            database.execute(_FORGET)
            visitors = {row["owner"]: Visitor(*row) for row in database.execute(_TAKEN)}
            leaving: dict[str, list[sqlite3.Row]] = {}
            for row in database.execute(_MAY_LEAVE, (stays,)):
                leaving.setdefault(row["owner"], []).append(row)
            total, gone = sum(each.taken for each in visitors.values()), []
            while total > bound and leaving:
                # A regular's favourites stay as long as anything else may leave.
                givers = {
                    owner for owner, rows in leaving.items()
                    if not (rows[0]["favourite"] and visitors[owner].is_regular)
                }  # fmt: skip
                owner = next_to_give(visitors.values(), givers or leaving.keys(), bound, time.time())
                oldest = leaving[owner].pop(0)
                gone.append(oldest["id"])
                total -= oldest["bytes"]
                visitors[owner] = visitors[owner]._replace(taken=visitors[owner].taken - oldest["bytes"])
                if not leaving[owner]:
                    del leaving[owner]
            database.executemany("DELETE FROM runs WHERE id = ?", [(run_id,) for run_id in gone])
        return gone

    def make_room_for_presets(self, database: sqlite3.Connection, bound: float, stays: str) -> None:
        """Remove presets until all take at most `bound` bytes, those of the visitor `stays` last.

        Args:
            database: within a transaction that writes.
            bound: in bytes.
            stays: the owner of the one that was just stored.
        """
        taken = dict(database.execute(_PRESETS_TAKE).fetchall())
        known = {row["owner"]: Visitor(*row) for row in database.execute(_TAKEN)}
        visitors = {owner: known[owner]._replace(taken=size) for owner, size in taken.items() if owner in known}
        while sum(taken.values()) > bound and (others := visitors.keys() - {stays}):
            owner = next_to_give(visitors.values(), others, bound, time.time())
            database.execute("DELETE FROM presets WHERE owner = ?", (owner,))
            del visitors[owner], taken[owner]


def _stored(value: Any) -> Any:
    return storable(value) if isinstance(value, str) else value
