"""Settings that a visitor keeps under a name."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from bivdiff.errors import InputError
from bivdiff.studio.history.database import Database
from bivdiff.studio.history.records import checked_owner, to_json

MAX_PRESETS = 100  # of one visitor
MAX_NAME = 60  # characters
MAX_BYTES = 2**16


class Presets:
    """The presets of all visitors, each seen by its owner alone.

    Args:
        database: of the history.
        room: bytes that all may take; beyond it those of the visitors leave whose turn it is, see `shares`.
    """

    def __init__(self, database: Database, room: Callable[[], float]) -> None:
        self._database, self._room = database, room

    def save(self, owner: str, task: str, name: str, settings: Mapping[str, Any], address: str = "") -> None:
        """Keep settings under a name; those that had it before are replaced. `address` is the owner's.

        Raises:
            InputError: the name is empty, too long or unprintable, or there are too many presets.
        """
        name, text = name.strip(), to_json(settings)
        if not 1 <= len(name) <= MAX_NAME or not name.isprintable():
            raise InputError(f"A preset needs a name of 1 to {MAX_NAME} characters. Choose another one.")
        if len(text) > MAX_BYTES:
            raise InputError("These settings are too long for a preset. Shorten the prompts.")
        key = (checked_owner(owner), task, name)
        with self._database.writing() as database:
            count = "SELECT count(*) FROM presets WHERE owner = ? AND NOT (task = ? AND name = ?)"
            if database.execute(count, key).fetchone()[0] >= MAX_PRESETS:
                raise InputError(f"There are {MAX_PRESETS} presets already, which is the most. Delete one first.")
            self._database.saw(database, owner, address)
            database.execute("INSERT OR REPLACE INTO presets VALUES (?, ?, ?, ?)", (*key, text))
            self._database.make_room_for_presets(database, self._room(), owner)

    def of(self, owner: str, task: str) -> dict[str, dict[str, Any]]:
        """The owner's presets of a task by name, in the order of the alphabet.

        Raises:
            InputError: they cannot be read.
        """
        query = "SELECT name, settings FROM presets WHERE owner = ? AND task = ?"
        with self._database.reading() as database:
            rows = database.execute(query, (checked_owner(owner), task)).fetchall()
        rows.sort(key=lambda row: row["name"].casefold())
        return {row["name"]: json.loads(row["settings"]) for row in rows}

    def delete(self, owner: str, task: str, name: str) -> None:
        """Remove a preset; it is no error if there is none of that name.

        Raises:
            InputError: the history cannot be written.
        """
        with self._database.writing() as database:
            delete = "DELETE FROM presets WHERE owner = ? AND task = ? AND name = ?"
            database.execute(delete, (checked_owner(owner), task, name.strip()))
