"""Keeps loaded components within two budgets, and brings them to the device for those who use them.

diffusers' ComponentsManager is not used: it cannot be asked what a run will need, evicts by a fixed reserve, knows
nothing of the host's memory, and carries weights back to the host that never changed. Its group offloading is.
"""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from bivdiff.catalog.specs import ModelSpec, with_bases
from bivdiff.models import hub
from bivdiff.models.budget import Budget, Loaded
from bivdiff.models.counting import numbers_of
from bivdiff.models.device import allow_compiling, choose_device, choose_dtype, choose_policy, free_memory
from bivdiff.models.loaders import KINDS, load_component
from bivdiff.models.memory import HOST_SHARE, Memory, MemoryProbe
from bivdiff.models.pace import Pace
from bivdiff.models.placement import OffloadPolicy, place, size_of
from bivdiff.settings import Settings
from bivdiff.units import parse_bytes

DEVICE_SHARE = 0.95


@dataclass(frozen=True)
class Readout:
    """What the page shows of the memory: bytes, the components in it, and the last swap.

    `resident` are keys of the components whose weights are on the device, `loaded` of all that are in memory.
    """

    device: str
    policy: OffloadPolicy
    device_memory: Memory
    host_memory: Memory
    device_budget: int | None
    host_budget: int
    resident: tuple[str, ...]
    loaded: tuple[str, ...]
    swap_seconds: float
    swap_bytes: int


class ModelManager:
    """Loads components on first use, keeps what fits, and evicts the least recently used.

    Args:
        settings: of the process.
        probe: what is free; the machine is asked unless a test answers for it.
        read: loads a component: where the files are read, unless a benchmark makes random ones.

    Attributes:
        settings: as given.
        device: where models run.
        dtype: of their weights.
        policy: how they share the device.
        tiles, slices: whether autoencoders take a picture in tiles, and a batch picture by picture.
        budget: what is loaded, and how many bytes of host and device it may take.
        pace: how fast this device computes.

    Not here: what leaves when there is no room (see models/budget).
    """

    def __init__(
        self, settings: Settings, probe: MemoryProbe | None = None, read: Callable[[ModelSpec, Any], Any] | None = None
    ) -> None:
        self.settings = settings
        self._probe = probe or MemoryProbe()
        self._read = read or self.from_disk
        self.device = choose_device(settings.device)
        self.dtype = choose_dtype(settings.dtype, self.device)
        self.policy = choose_policy(settings.offload, self.device)
        if settings.compile:
            allow_compiling()
        self.budget = Budget(
            parse_bytes(settings.host_memory) or int(HOST_SHARE * self._probe.host().free),
            parse_bytes(settings.device_memory) or self._free_device_share(),
            lambda: self._probe.device(self.device).free,
        )
        self.pace = Pace(self.device, self.dtype)
        self.tiles = settings.tiling
        self.slices = self.device.type == "cuda"  # costs speed on a CPU, and saves a card its memory
        self._lock = threading.RLock()
        self._swap_seconds, self._swap_bytes = 0.0, 0

    @contextmanager
    def use(self, *specs: ModelSpec, reserve: int = 0) -> Iterator[list[Any]]:
        """Give components ready to run on the device.

        Args:
            specs: which.
            reserve: bytes of the device to leave free for what they compute.

        Raises:
            ModelUnavailableError: one cannot be loaded.
            OutOfMemoryError: they do not fit.
        """
        with self.hold(*specs) as components:
            modules = [component for component in components if isinstance(component, nn.Module)]
            with self.running(*modules, reserve=reserve):
                yield components

    @contextmanager
    def hold(self, *specs: ModelSpec) -> Iterator[list[Any]]:
        """Give components loaded, wherever their weights are; until the end none of them is dropped.

        Raises:
            ModelUnavailableError: one cannot be loaded.
        """
        held: list[Loaded] = []
        try:
            with self._lock:
                for spec in specs:
                    entry = self._load(spec)
                    entry.holders += 1
                    held.append(entry)
                self.budget.make_host_room(0)  # what came may be larger than was expected
            yield [entry.component for entry in held]
        finally:
            with self._lock:
                for entry in held:
                    entry.holders -= 1

    @contextmanager
    def running(self, *modules: nn.Module, reserve: int = 0) -> Iterator[None]:
        """Keep held components on the device, while they run; others make room for them as far as they must.

        Args:
            modules: components that the caller holds.
            reserve: bytes of the device to leave free for what they compute.

        Raises:
            OutOfMemoryError: they do not fit, even alone.
        """
        with self._lock:
            entries = [self.budget.entry_of(module) for module in dict.fromkeys(modules)]
            for entry in entries:
                entry.runners += 1
            try:
                self._bring(entries, reserve)
            except BaseException:
                for entry in entries:
                    entry.runners -= 1
                raise
        try:
            yield
        finally:
            with self._lock:
                for entry in entries:
                    entry.runners -= 1

    def unload(self, *specs: ModelSpec) -> None:
        """Drop components that no job holds, all of them unless some are named, and give their memory back."""
        with self._lock:
            for spec in specs or tuple(self.budget.loaded):
                if spec in self.budget.loaded and not self.budget.is_held(spec):
                    self.budget.drop(spec)
        gc.collect()  # what libraries have tied in circles
        free_memory(self.device)

    def set_policy(self, policy: OffloadPolicy) -> None:
        """Take another policy; components that no job holds are dropped, since theirs is another."""
        with self._lock:
            self.policy = policy
        self.unload()

    @contextmanager
    def policy_restored(self) -> Iterator[None]:
        """Whatever policy is taken inside, the one before it holds again after."""
        before = self.policy
        try:
            yield
        finally:
            self.policy = before  # what was placed under the other is replaced when it is next used

    def leaner_policy(self) -> OffloadPolicy | None:
        """The next policy that needs less of the device; None if there is none, or no device to spare."""
        leaner: dict[OffloadPolicy, OffloadPolicy] = {"none": "model", "model": "group"}
        return leaner.get(self.policy) if self.budget.device is not None else None

    def state(self, spec: ModelSpec) -> str:
        """Where a component is: "on device", "in memory", "on disk" or "absent"."""
        entry = self.budget.loaded.get(spec)
        if entry is None:
            return "absent" if hub.find(spec, self.settings) is None else "on disk"
        on_device = entry.placement is not None and entry.placement.device_bytes > 0
        return "on device" if on_device else "in memory"

    def loaded(self) -> list[str]:
        """Keys of the components in memory."""
        return sorted(spec.key for spec in list(self.budget.loaded))

    def held(self) -> list[str]:
        """Keys of the components that somebody holds."""
        return sorted(spec.key for spec, entry in list(self.budget.loaded.items()) if entry.holders or entry.runners)

    def readout(self) -> Readout:
        """The memory as it is now, also while something loads."""
        placed = [(spec.key, entry.placement) for spec, entry in list(self.budget.loaded.items())]
        resident = tuple(key for key, placement in placed if placement is not None and placement.device_bytes)
        return Readout(
            str(self.device), self.policy, self._probe.device(self.device), self._probe.host(), self.budget.device,
            self.budget.host, resident, tuple(sorted(key for key, _ in placed)), self._swap_seconds, self._swap_bytes,
        )  # fmt: skip

    # Loading, and the host's budget

    def stamp(self, spec: ModelSpec) -> str:
        """Tells which files a component was read from, or would be, see `hub.stamp`."""
        entry = self.budget.loaded.get(spec)
        return entry.stamp if entry else hub.stamp(spec, self.settings)

    def missing(self, specs: Iterable[ModelSpec]) -> list[ModelSpec]:
        """Those that are neither in memory nor, as far as they are read from there, on the disk, bases among them."""
        read_from_disk = self._read == self.from_disk
        return [spec for spec in with_bases(specs) if read_from_disk and self.state(spec) == "absent"]

    def _load(self, spec: ModelSpec) -> Loaded:
        stamp = hub.stamp(spec, self.settings)
        entry = self.budget.loaded.get(spec)
        if entry is not None:
            # Files that are gone since have not changed.
            if self.budget.is_held(spec) or (entry.stamp == (stamp or entry.stamp) and entry.policy == self.policy):
                self.budget.loaded.move_to_end(spec)
                return entry
            self.budget.drop(spec)
        base = None
        if spec.base is not None:
            below = self._load(spec.base)
            if below.placement is not None:
                below.placement.leave()  # what is shared, is shared on the host
            base = below.component
        self.budget.make_host_room(self._own_bytes(spec))
        with torch.inference_mode(False):  # weights made in that mode could not be moved outside it
            component = self._read(spec, base)
            self._prepare(component, spec)
            module = isinstance(component, nn.Module)
            placement = place(component, self.policy, self.device) if module else None
            if placement is not None and self.policy == "zerogpu":
                placement.enter()
        own_bytes = size_of(component) - (size_of(base) if base is not None else 0) if module else 0
        entry = Loaded(component, own_bytes, placement, stamp, self.policy)
        self.budget.add(spec, entry)
        return entry

    def from_disk(self, spec: ModelSpec, base: Any) -> Any:
        """Fetch and load a component, on the CPU; `base` is the loaded one that it is built on."""
        root = hub.pull(spec, self.settings)
        return load_component(hub.source_of(spec, root, self.settings, self.dtype_of(spec), base))

    def dtype_of(self, spec: ModelSpec) -> torch.dtype:
        """The dtype of a component's weights: an autoencoder needs more digits than bfloat16 has."""
        if KINDS[spec.kind].precise:
            return torch.float32
        if KINDS[spec.kind].wide and self.dtype == torch.float16:
            return torch.bfloat16  # what today's transformers were trained in, and overflow without
        if KINDS[spec.kind].codes and self.dtype == torch.bfloat16:
            return torch.float16 if self.device.type == "cuda" else torch.float32
        return self.dtype

    def _prepare(self, component: Any, spec: ModelSpec) -> None:
        """What a component runs with, beside its weights."""
        if KINDS[spec.kind].codes and self.tiles:
            component.enable_tiling()
        if KINDS[spec.kind].codes == "pictures" and self.slices:
            component.enable_slicing()
        if self.settings.fp8 and KINDS[spec.kind].in_every_step:
            component.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=self.dtype)
        if self.settings.compile and KINDS[spec.kind].in_every_step:
            # Not the module itself: its hooks change with every run, and once compiled it would go on with the first's.
            component.forward = torch.compile(component.forward)

    def weight_bytes(self, spec: ModelSpec) -> int:
        """Bytes that a component takes where it runs, its base's included; 0 where nothing is known of it."""
        return self._own_bytes(spec) + (self.weight_bytes(spec.base) if spec.base else 0)

    def host_bytes(self, specs: Iterable[ModelSpec]) -> int:
        """Bytes that components take together on the host, where those built on a base share its weights."""
        return sum(map(self._own_bytes, with_bases(specs)))

    def _own_bytes(self, spec: ModelSpec) -> int:
        if spec in self.budget.loaded:
            return self.budget.loaded[spec].bytes
        width = 1 if self.settings.fp8 and KINDS[spec.kind].in_every_step else self.dtype_of(spec).itemsize
        return numbers_of(spec, hub.find(spec, self.settings)) * width

    # The device, and its budget

    def _bring(self, wanted: list[Loaded], reserve: int) -> None:
        missing = sum(entry.placement.needs() for entry in wanted if entry.placement)
        self.budget.make_device_room(missing, reserve, self.policy)
        if not missing:
            return
        started = time.perf_counter()
        copied = sum(entry.placement.enter() for entry in wanted if entry.placement)
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        self._swap_seconds, self._swap_bytes = time.perf_counter() - started, copied

    def _free_device_share(self) -> int | None:
        separate = self.device.type == "cuda" and self.policy != "zerogpu"  # where the card comes later, or never
        return int(DEVICE_SHARE * self._probe.device(self.device).free) if separate else None
