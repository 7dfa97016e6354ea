"""How much memory there is, in words and in bytes.

In it: `MemoryProbe`, which is asked what is free on the device and on the host; sizes written by people.
Not in it: who gets it (manager.py), what a run will take (estimate.py).
"""

from __future__ import annotations

import re
from typing import NamedTuple

import psutil
import torch

from bivdiff.errors import InputError

UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}


class Memory(NamedTuple):
    """Bytes that are free, and bytes in all."""

    free: int
    total: int


class MemoryProbe:
    """Asks the machine. Tests inject one that answers otherwise."""

    def device(self, device: torch.device) -> Memory:
        """Of the device where models run; the host's, where it has none of its own.

        What torch holds in reserve counts as free: it is given to the next who asks.
        """
        if device.type != "cuda":
            return self.host()
        free, total = torch.cuda.mem_get_info(device)
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return Memory(free + kept, total)

    def host(self) -> Memory:
        """Of the computer, or of the container that this process is in."""
        memory = psutil.virtual_memory()
        return Memory(memory.available, memory.total)


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
