"""Amounts as people write and read them: of bytes, of time; and numbers that JSON can hold."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from bivdiff.errors import InputError

MOST_WRITTEN = 1e15  # above it, floats are no longer exact
PREFIXES = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}

SHARPNESS = "Sharpness, {of} = 100%"
"""What a share of another clip's sharpness is called, wherever it is shown."""


def say_number(number: float) -> str:
    """A number as people write it, with no exponent: "4,294,967,295", "0.05"."""
    if abs(number) < MOST_WRITTEN and number == int(number):
        return f"{int(number):,}"
    return f"{number:,.10g}"


def parse_bytes(text: str) -> int | None:
    """Read "8GB", "512 MB" or "8e9" as bytes; "auto" or nothing as None.

    Raises:
        InputError: it is written otherwise.
    """
    if text.strip().lower() in {"", "auto"}:
        return None
    found = re.fullmatch(r"\s*(\d+\.?\d*|\.\d+)(e\d{1,2})?\s*([kmgt]?)i?b?\s*", text.lower())
    if found is None:
        raise InputError(f"'{text}' is not a valid amount of memory. Use a number of bytes such as '8GB', or 'auto'.")
    return int(float(found[1] + (found[2] or "")) * PREFIXES[found[3]])


def say_bytes(amount: float) -> str:
    """Bytes in the unit that people read them in, with three digits."""
    for unit in ("B", "kB", "MB"):
        if amount < 999.5:
            return f"{amount:.3g} {unit}"
        amount /= 1000
    return f"{amount:.3g} GB"


def say_seconds(seconds: float) -> str:
    """A length of time as people say it."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"


def say_percent(share: float) -> str:
    """A share in percent, with more digits where it is small: "31%", "4.2%", "0.36%"."""
    percent = 100 * share
    return f"{percent:.2g}%" if 0 < percent < 9.5 else f"{percent:.0f}%"


def finite(value: Any) -> Any:
    """The same with None for infinities and what is no number, which JSON does not have; tuples become lists."""
    if isinstance(value, Mapping):
        return {name: finite(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float | np.floating) and not math.isfinite(value) else value
