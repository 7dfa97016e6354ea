"""Whose runs leave where the history is full: what strangers can do to others, and to each other."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest

from bivdiff.errors import InputError
from bivdiff.settings import Settings
from bivdiff.studio.history import runs, shares
from bivdiff.studio.history.runs import Runs
from bivdiff.studio.history.shares import Visitor, next_to_give

DAY = 24 * 3600.0
NOW = 100 * DAY
ROOM = 1000.0
ADA, EVE = "ada-ada-ada-ada-ada", "eve-eve-eve-eve-{:04d}"


def stranger(owner: str, place: str, first: float, taken: float) -> Visitor:
    return Visitor(owner, place, NOW - first, NOW - first, taken)


def regular(owner: str, place: str, taken: float) -> Visitor:
    return Visitor(owner, place, NOW - 3 * DAY, NOW, taken)


CROWD = [stranger(f"eve-{number}", "eve", 600 - number, 5) for number in range(100)]
MANY_PLACES = [stranger(f"eve-{number}", f"eve-{number}", 600 - number, 5) for number in range(100)]


@pytest.mark.parametrize(
    ("visitors", "gives"),
    [
        # Many names at one address push out neither who came back, nor who was here before, nor who is elsewhere.
        ([regular("ada", "ada", 600), *CROWD], "eve-99"),
        ([stranger("ada", "ada", 3000, 600), *CROWD], "ada"),  # of two addresses the one that takes more
        ([stranger("ada", "ada", 3000, 400), *CROWD], "eve-99"),
        ([stranger("ada", "eve", 3000, 400), *CROWD], "eve-99"),  # behind one address
        ([stranger("ada", "ada", 1, 100), *CROWD], "eve-99"),  # although Ada is the newest
        ([stranger("ada", "", 3000, 100), *MANY_PLACES], "eve-99"),
        # One who takes more than half of everything gives, wherever the others are.
        ([stranger("eve", "lab", 3000, 600), stranger("ada", "lab", 10, 20)], "eve"),
        # Who has not been here for a week goes before who has.
        ([stranger("old", "a", 9 * DAY, 100), stranger("older", "b", 10 * DAY, 50), *CROWD], "older"),
        # Few strangers give nothing while those who came back take the room; of these, who takes the most.
        ([regular("ada", "ada", 500), regular("bob", "bob", 300), stranger("eve", "eve", 1, 200)], "ada"),
        ([regular("ada", "lab", 300), regular("cy", "lab", 200), regular("bob", "bob", 400)], "ada"),
        ([regular("ada", "ada", 500)], "ada"),
        ([stranger("ada", "ada", 0, 500)], "ada"),
    ],
)
def test_whose_turn_it_is(visitors, gives):
    assert next_to_give(visitors, {each.owner for each in visitors}, ROOM, NOW) == gives


def test_who_has_nothing_to_give_is_passed_over():
    visitors = [regular("ada", "ada", 600), *CROWD]
    assert next_to_give(visitors, {"ada", "eve-3"}, ROOM, NOW) == "eve-3"
    assert next_to_give(visitors, {"ada"}, ROOM, NOW) == "ada"
    with pytest.raises(ValueError, match="nobody"):
        next_to_give(visitors, set(), ROOM, NOW)


# In the history itself


@pytest.fixture
def settings(tmp_path):
    return Settings(history_folder=tmp_path / "history")


@pytest.fixture
def small(request_of):
    return request_of(frames=np.zeros((1, 8, 8, 3), np.uint8))


def made(history: Runs, request, owner: str, address: str) -> str:
    run_id = history.begin(request, 8, owner, address=address)
    history.end(run_id, "cancelled")
    return run_id


def size_of(settings: Settings, run_id: str) -> int:
    with closing(sqlite3.connect(settings.history_folder / "runs.sqlite")) as database:
        return database.execute("SELECT bytes FROM runs WHERE id = ?", (run_id,)).fetchone()[0]


@pytest.mark.parametrize("address", ["192.0.2.1", "192.0.2.9"])
@pytest.mark.parametrize("starred", [False, True])
def test_many_free_names_push_out_nobody(settings, small, address, starred):
    first = Runs(settings)
    mine = [made(first, small, ADA, "192.0.2.1") for _ in range(3)]
    history = Runs(replace(settings, history_size=str(12 * size_of(settings, mine[0]))))
    for number in range(30):
        theirs = made(history, small, EVE.format(number), address)
        if starred:
            history.set_favourite(theirs, EVE.format(number), True)
    assert {run.id for run in history.find(ADA)} == set(mine)
    history.set_favourite(mine[0], ADA, True)  # their stars are not hers
    assert len(list(history.files_folder.iterdir())) <= 13


def test_a_regulars_favourites_stay_as_long_as_anything_else_may_leave(settings, small):
    history = Runs(settings)
    starred = made(history, small, ADA, "192.0.2.1")
    history.set_favourite(starred, ADA, True)
    with closing(sqlite3.connect(settings.history_folder / "runs.sqlite")) as database:
        database.execute("UPDATE visitors SET first = 0")
        database.commit()
    tight = Runs(replace(settings, history_size=str(3 * size_of(settings, starred))))
    for _ in range(6):
        made(tight, small, ADA, "192.0.2.1")
    assert [run.id for run in tight.find(ADA, favourites=True)] == [starred]
    assert len(tight.find(ADA)) == 3


def test_presets_count_and_those_of_the_newest_strangers_leave(settings, small, monkeypatch):
    monkeypatch.setattr(runs, "PRESETS_SHARE", 0.5)
    history = Runs(replace(settings, history_size="40kB"))
    history.presets.save(ADA, "control", "mine", {"prompt": "x" * 1000}, "192.0.2.1")
    for number in range(50):
        history.presets.save(EVE.format(number), "control", "junk", {"prompt": "x" * 2000}, "192.0.2.9")
        assert list(history.presets.of(EVE.format(number), "control")) == ["junk"]  # one's own is stored
    assert list(history.presets.of(ADA, "control")) == ["mine"]
    with closing(sqlite3.connect(settings.history_folder / "runs.sqlite")) as database:
        (bytes_taken,) = database.execute("SELECT total(length(settings)) FROM presets").fetchone()
    assert bytes_taken <= 20_000
    taken = made(history, small, ADA, "192.0.2.1")
    assert history.get(taken, ADA)


def test_an_address_is_not_stored(settings, small):
    made(Runs(settings), small, ADA, "192.0.2.123")
    assert b"192.0.2.123" not in (settings.history_folder / "runs.sqlite").read_bytes()
    assert shares.REGULAR_SECONDS < DAY


def test_who_left_is_forgotten(settings, small):
    history = Runs(settings)
    run_id = made(history, small, ADA, "192.0.2.1")
    history.delete(run_id, ADA)
    made(history, small, EVE.format(0), "192.0.2.2")
    with closing(sqlite3.connect(settings.history_folder / "runs.sqlite")) as database:
        assert database.execute("SELECT owner FROM visitors").fetchall() == [(EVE.format(0),)]
    with pytest.raises(InputError):
        history.get(run_id, ADA)
