"""How much memory there is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import psutil

from bivdiff.settings import Settings
from bivdiff.units import parse_bytes

if TYPE_CHECKING:
    import torch

HOST_SHARE = 0.8  # of the memory that is free when it is asked for


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
        import torch

        free, total = torch.cuda.mem_get_info(device)
        reserved = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return Memory(free + reserved, total)

    def host(self) -> Memory:
        """Of the computer, or of the container that this process is in, where that is bound to less."""
        memory = psutil.virtual_memory()
        of_computer = Memory(memory.available, memory.total)
        return min([of_computer, *_of_containers()], key=lambda each: each.free)


def sharing(settings: Settings, count: int) -> Settings:
    """The settings of each of so many processes that share this machine, or this container: its part of the memory.

    A budget that the owner has named is each one's own.
    """
    if parse_bytes(settings.host_memory) is not None:
        return settings
    return replace(settings, host_memory=str(int(HOST_SHARE * MemoryProbe().host().free / count)))


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
