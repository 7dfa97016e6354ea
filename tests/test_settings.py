"""Settings from the environment: each of the type of its field, and a sentence where it is none."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from bivdiff.errors import InputError
from bivdiff.settings import Settings


@pytest.fixture(autouse=True)
def _bare(monkeypatch):
    for item in fields(Settings):
        monkeypatch.delenv(f"BIVDIFF_{item.name.upper()}", raising=False)


def test_what_is_not_set_or_empty_stays_as_it_is(monkeypatch):
    monkeypatch.setenv("BIVDIFF_DEVICE", "")
    assert Settings.from_env() == Settings()


@pytest.mark.parametrize(
    ("variable", "text", "value"),
    [
        ("BIVDIFF_DEVICE", "cpu", "cpu"),
        ("BIVDIFF_TILING", "yes", True),
        ("BIVDIFF_FP8", "0", False),
        ("BIVDIFF_MAX_FRAMES", "12", 12),
        ("BIVDIFF_CATALOG", "~/own.toml", Path.home() / "own.toml"),
        ("BIVDIFF_CACHE_SIZE", "8GB", "8GB"),
    ],
)
def test_a_variable_is_read_as_its_field_is_annotated(monkeypatch, variable, text, value):
    monkeypatch.setenv(variable, text)
    assert getattr(Settings.from_env(), variable.removeprefix("BIVDIFF_").lower()) == value


@pytest.mark.parametrize(
    ("variable", "text", "wanted"),
    [
        ("BIVDIFF_TILING", "maybe", "1 or 0"),
        ("BIVDIFF_MAX_JOBS", "many", "a whole number"),
        ("BIVDIFF_MAX_QUEUE", "1.5", "a whole number"),
        ("BIVDIFF_MAX_FRAMES", "-3", "a whole number from 0"),
    ],
)
def test_what_cannot_be_read_is_named_with_what_to_write(monkeypatch, variable, text, wanted):
    monkeypatch.setenv(variable, text)
    with pytest.raises(InputError, match=f"^'{text}' is not a valid value for {variable}. Set it to {wanted}\\.$"):
        Settings.from_env()
