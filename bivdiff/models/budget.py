"""The loaded components, within what they may take of host and device: the least recently used leaves first.

It has no lock of its own: the manager's is held around every call that changes anything.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bivdiff.catalog.specs import ModelSpec
from bivdiff.errors import OutOfMemoryError
from bivdiff.models.placement import OffloadPolicy, Placement
from bivdiff.units import say_bytes


@dataclass
class Loaded:
    """A loaded component, how many hold it, and how many run it.

    Attributes:
        component: itself.
        bytes: of its own weights: what it shares with its base is counted there.
        placement: where its weights lie; None where it has none.
        stamp: tells which files it was read from.
        policy: under which it was placed.
    """

    component: Any
    bytes: int
    placement: Placement | None
    stamp: str
    policy: OffloadPolicy
    holders: int = 0
    runners: int = 0

    @property
    def device_bytes(self) -> int:
        """What it has of the device."""
        return self.placement.device_bytes if self.placement else 0


class Budget:
    """What is loaded, and the bytes that it may take.

    Args:
        host: bytes that weights may take of the host, the libraries not counted.
        device: bytes that weights and what is computed may take of the device; None where it has no memory of its own.
        device_free: says how many bytes of the device are free now.

    Attributes:
        host, device: as given.
        loaded: the components, the least recently used first.
    """

    def __init__(self, host: int, device: int | None, device_free: Callable[[], int]) -> None:
        self.host, self.device = host, device
        self.loaded: OrderedDict[ModelSpec, Loaded] = OrderedDict()
        self._spec_of: dict[int, ModelSpec] = {}
        self._device_free = device_free

    def add(self, spec: ModelSpec, entry: Loaded) -> None:
        """Count a component that was just loaded."""
        self.loaded[spec] = entry
        self._spec_of[id(entry.component)] = spec

    def spec_of(self, component: Any) -> ModelSpec:
        """What a loaded component was loaded by."""
        return self._spec_of[id(component)]

    def entry_of(self, component: Any) -> Loaded:
        """The entry of a loaded component."""
        return self.loaded[self.spec_of(component)]

    def is_held(self, spec: ModelSpec) -> bool:
        """Whether somebody holds a component, or one that is built on it."""
        return any(entry.holders for other, entry in self.loaded.items() if spec in (other, other.base))

    def drop(self, spec: ModelSpec) -> None:
        """Let a component go, and those that are built on it."""
        for built in [other for other in self.loaded if other.base == spec]:
            self.drop(built)  # or its share of the weights would stay, and count nowhere
        entry = self.loaded.pop(spec)
        del self._spec_of[id(entry.component)]
        if entry.placement is not None:
            entry.placement.leave()

    def make_host_room(self, wanted: int) -> None:
        """Drop what was used least recently and nobody holds, until the budget holds what is wanted besides."""
        for spec in list(self.loaded):
            if wanted + sum(map(self._on_host, self.loaded.values())) <= self.host:
                return
            if spec in self.loaded and not self.is_held(spec):
                self.drop(spec)

    def _on_host(self, entry: Loaded) -> int:
        gone = entry.placement is not None and entry.placement.left_host and self.device is not None
        return 0 if gone else entry.bytes

    def make_device_room(self, weights: int, reserve: int, policy: OffloadPolicy) -> None:
        """Let components that do not run leave the device, the least recently used first, as far as it must be.

        Args:
            weights: bytes that are to come. Where none are, nothing is refused: whether what is computed fits, shows.
            reserve: bytes of what will be computed.
            policy: by which others lie there, for the sentence.

        Raises:
            OutOfMemoryError: there is not enough room for weights that are to come.
        """
        if self.device is None:
            return
        wanted = weights + reserve
        # Others may have taken of the device since the budget was set.
        budget = min(self.device, self._on_device() + self._device_free())
        for spec, entry in list(self.loaded.items()):
            if wanted + self._on_device() <= budget:
                return
            if spec not in self.loaded or entry.runners or entry.placement is None or not entry.device_bytes:
                continue
            entry.placement.leave()
            if entry.device_bytes and not self.is_held(spec):
                self.drop(spec)  # under the policy `none` only dropping gives anything back
        if weights and wanted + self._on_device() > budget:
            raise OutOfMemoryError(
                f"The device's {say_bytes(budget)} of budget and free memory do not hold the {say_bytes(wanted)} that "
                f"this stage needs beside the {say_bytes(self._on_device())} in use. Take a leaner offload policy than "
                f"'{policy}', fewer frames at once or a smaller size, or raise BIVDIFF_DEVICE_MEMORY."
            )

    def _on_device(self) -> int:
        return sum(entry.device_bytes for entry in self.loaded.values())
