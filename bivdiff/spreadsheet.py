"""Rows as CSV, which a spreadsheet shows and never computes."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any

FORMULA = ("=", "+", "-", "@", "\t", "\n")
"""How text begins that a spreadsheet takes for a formula: it could fetch an address, or start a program."""


def csv_of(rows: Iterable[Sequence[Any]]) -> str:
    """Rows as CSV. Text that would be a formula has a `'` in front, which spreadsheets take as the mark of a text.

    Numbers stay numbers, also those that are written as text, such as "-0.5".
    """
    table = io.StringIO()
    csv.writer(table, lineterminator="\n").writerows([_cell(value) for value in row] for row in rows)
    return table.getvalue()


def _cell(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    text = value.replace("\r\n", "\n").replace("\r", "\n")  # Python's writer would begin a new row at "\r"
    return f"'{text}" if text.startswith(FORMULA) and not _is_number(text) else text


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return text[0] not in "\t\n"
