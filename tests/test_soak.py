"""Many short runs through the queue and the history: nothing that grows with their number."""

from __future__ import annotations

from dataclasses import replace

import pytest
from scripts import script


@pytest.fixture(scope="module")
def soak():
    return script("soak")


def test_twenty_runs_leave_nothing_behind_but_what_is_kept(soak, settings, tmp_path, monkeypatch):
    """Four of each task: one thread or file that each left open after the first five would be over the bound."""
    monkeypatch.setattr(soak, "HISTORY", 2_000_000)
    monkeypatch.setattr(soak, "STAGES", 1_000_000)
    states, rows = soak.soak(replace(settings, families="toybox"), tmp_path, 20, every=5)
    assert states.keys() == {"done", "cancelled"}
    assert states["done"] >= 16
    assert max(soak.MOST_GROWTH["threads"], soak.MOST_GROWTH["open_files"]) < rows[-1]["runs"] - rows[1]["runs"]
    # The process's memory is that of whatever else it has run: the benchmark counts it.
    assert soak.grown([{**row, "resident_mb": 0} for row in rows]) == []
    assert rows[-1]["files"] > 10  # there is something that could have grown


def test_what_grows_is_told(soak):
    calm = {"resident_mb": 900, "threads": 9, "open_files": 30, "files_mb": 9}
    rows = [calm] * 4
    assert soak.grown(rows) == []
    (told,) = soak.grown([*rows, {**calm, "resident_mb": 1300}])
    assert "resident_mb grew from 900 to 1300" in told
    (told,) = soak.grown([*rows, {**calm, "files_mb": 40}])
    assert "files take 40 MB" in told
