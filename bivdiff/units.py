"""Amounts of bytes as people write and read them. Importing it loads no torch."""

from __future__ import annotations

import re

from bivdiff.errors import InputError

UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}


def read_bytes(text: str) -> int | None:
    """Read "8GB", "512 MB" or "8e9" as bytes; "auto" or nothing as None.

    Raises:
        InputError: it is written otherwise.
    """
    if text.strip().lower() in {"", "auto"}:
        return None
    found = re.fullmatch(r"\s*([\d.]+(?:e\d+)?)\s*([kmgt]?)i?b?\s*", text.lower())
    try:
        return int(float(found[1]) * UNITS[found[2]])  # type: ignore[index] - caught below
    except (TypeError, ValueError) as error:
        raise InputError(f"'{text}' is no amount of memory. Write it as in '8GB', or 'auto'.") from error


def say_bytes(amount: float) -> str:
    """Bytes in the unit that people read them in, with three digits."""
    for unit in ("B", "kB", "MB"):
        if amount < 999.5:
            return f"{amount:.3g} {unit}"
        amount /= 1000
    return f"{amount:.3g} GB"
