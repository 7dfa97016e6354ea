"""Amounts of bytes and of time, as they are written and read; numbers as JSON can hold them."""

from __future__ import annotations

import numpy as np
import pytest

from bivdiff.errors import InputError
from bivdiff.units import finite, parse_bytes, say_bytes, say_percent, say_seconds


@pytest.mark.parametrize(
    ("text", "amount"), [("8GB", 8e9), ("512 mib", 512e6), ("8e9", 8e9), ("auto", None), ("", None)]
)
def test_amounts_of_memory_are_read(text, amount):
    assert parse_bytes(text) == amount


def test_what_is_no_amount_of_memory_is_told():
    for text in ("lots", "8 gigs", "1.2.3GB", "-1GB", "e9"):
        with pytest.raises(InputError, match=f"'{text}' is not a valid amount of memory.*8GB"):
            parse_bytes(text)


def test_amounts_are_said():
    assert [say_bytes(n) for n in (0, 999, 1000, 1.5e6, 2.345e9)] == ["0 B", "999 B", "1 kB", "1.5 MB", "2.35 GB"]


def test_shares_are_said():
    assert [say_percent(share) for share in (0, 0.0036, 0.042, 0.314, 1)] == ["0%", "0.36%", "4.2%", "31%", "100%"]


def test_times_are_said_as_people_do():
    assert [say_seconds(n) for n in (0.2, 12.4, 89, 200, 7200)] == ["1 s", "12 s", "89 s", "3 minutes", "2.0 hours"]


def test_what_is_no_number_is_null_in_json():
    assert finite({"a": [float("nan"), 1.5], "b": (np.float32("inf"), "x")}) == {"a": [None, 1.5], "b": [None, "x"]}
