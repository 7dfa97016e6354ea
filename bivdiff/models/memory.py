"""How much memory there is, in words and in bytes.

In it: `MemoryProbe`, which is asked what is free on the device and on the host; sizes written by people.
Not in it: who gets it (manager.py), what a run will take (estimate.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
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
        """Of the computer, or of the container that this process is in, where that is bound to less."""
        memory = psutil.virtual_memory()
        of_computer = Memory(memory.available, memory.total)
        return min([of_computer, *_of_containers()], key=lambda each: each.free)


CGROUPS = Path("/sys/fs/cgroup")
OWN_GROUPS = Path("/proc/self/cgroup")


class _Version(NamedTuple):
    """Where a version of Linux's control groups has the groups, and what it calls their bound, use and file cache."""

    controller: str
    folder: str
    bound: str
    used: str
    cached: str


_VERSIONS = (
    _Version("", "", "memory.max", "memory.current", "inactive_file"),
    _Version("memory", "memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)


def _of_containers() -> Iterator[Memory]:
    """What control groups leave this process: its own, and all around it."""
    for version in _VERSIONS:
        for folder in _groups(version):
            try:
                total, taken = (int((folder / name).read_text()) for name in (version.bound, version.used))
                counts = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
            except (OSError, ValueError):  # no such group, or one without a bound
                continue
            # Files that are cached leave when they must.
            yield Memory(max(0, total - taken + int(counts.get(version.cached, 0))), total)


def _groups(version: _Version) -> list[Path]:
    root = CGROUPS / version.folder
    try:
        lines = [line.split(":", 2) for line in OWN_GROUPS.read_text().splitlines()]
    except OSError:
        return []
    own = next((root / path.lstrip("/") for _, controllers, path in lines if controllers == version.controller), root)
    # In a container the groups' root is its own, and the path may be that outside.
    return [root, *(each for each in (own, *own.parents) if each.is_relative_to(root) and each != root)]


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
