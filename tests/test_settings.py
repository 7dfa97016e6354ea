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
        ("BIVDIFF_MAX_FRAMES", "0", 0),
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
        ("BIVDIFF_MAX_FRAMES", "-1", "a whole number from 0"),
        ("BIVDIFF_MAX_JOBS", "0", "a whole number from 1"),
        ("BIVDIFF_MAX_QUEUE", "-3", "a whole number from 1"),
        ("BIVDIFF_MAX_MINUTES", "-1", "a whole number from 0"),
        ("BIVDIFF_DEVICE", "banana", "auto, cpu, cuda, cuda:0 or mps"),
        ("BIVDIFF_DTYPE", "float8", "auto, float16, bfloat16 or float32"),
        ("BIVDIFF_OFFLOAD", "all", "auto, none, model, group or zerogpu"),
        ("BIVDIFF_OWN_MODELS", "maybe", "yes, no or auto"),
        ("BIVDIFF_LINKS", "1", "yes, no or auto"),
        ("BIVDIFF_UPLOADS_SIZE", "1e400GB", "an amount such as 8GB, or auto"),
        ("BIVDIFF_HISTORY_SIZE", "much", "an amount such as 8GB, or auto"),
        ("BIVDIFF_CACHE_SIZE", "-2GB", "an amount such as 8GB, or auto"),
        ("BIVDIFF_HOST_MEMORY", "nan", "an amount such as 8GB, or auto"),
    ],
)
def test_what_cannot_be_read_is_named_with_what_to_write(monkeypatch, variable, text, wanted):
    monkeypatch.setenv(variable, text)
    with pytest.raises(InputError, match=f"^'{text}' is not a valid value for {variable}. Set it to {wanted}\\.$"):
        Settings.from_env()


def test_a_folder_of_weights_that_is_not_there_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("BIVDIFF_TOYBOX_FOLDER", str(tmp_path / "nowhere"))
    with pytest.raises(InputError, match="BIVDIFF_TOYBOX_FOLDER: there is no such folder"):
        Settings.from_env()
