"""Amounts of bytes, as they are written and read."""

from __future__ import annotations

import pytest

from bivdiff.errors import InputError
from bivdiff.units import read_bytes, say_bytes


@pytest.mark.parametrize(
    ("text", "amount"), [("8GB", 8e9), ("512 mib", 512e6), ("8e9", 8e9), ("auto", None), ("", None)]
)
def test_amounts_of_memory_are_read(text, amount):
    assert read_bytes(text) == amount


def test_what_is_no_amount_of_memory_is_told():
    with pytest.raises(InputError, match=r"lots.*8GB"):
        read_bytes("lots")


def test_amounts_are_said():
    assert [say_bytes(n) for n in (0, 999, 1000, 1.5e6, 2.345e9)] == ["0 B", "999 B", "1 kB", "1.5 MB", "2.35 GB"]
