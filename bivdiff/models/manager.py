"""Keeps loaded components within two budgets, and brings them to the device for those who use them.

diffusers' ComponentsManager is not used: it cannot be asked what a run will need, evicts by a fixed reserve, knows
nothing of the host's memory, and carries weights back to the host that never changed. Its group offloading is.
"""

from __future__ import annotations

import gc
import os
import shutil
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from bivdiff.catalog.specs import ModelSpec
from bivdiff.errors import InputError, OutOfMemoryError
from bivdiff.models import hub
from bivdiff.models.counting import numbers_of
from bivdiff.models.loaders import KINDS, load_component
from bivdiff.models.memory import Memory, MemoryProbe
from bivdiff.models.placement import POLICIES, OffloadPolicy, Placement, place, size_of
from bivdiff.settings import Settings
from bivdiff.units import parse_bytes, say_bytes

HOST_SHARE = 0.8  # of the memory that is free when the manager is made
DEVICE_SHARE = 0.95
COMPILED_VARIANTS = 64  # torch gives up after 8
DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}


@dataclass
class _Kept:
    """A loaded component, how many hold it, and how many run it.

    `bytes` are those of its own weights: what it shares with its base is counted there. `stamp` tells which files it
    was read from, `policy` under which it was placed.
    """

    component: Any
    bytes: int
    placement: Placement | None
    stamp: str
    policy: OffloadPolicy
    holders: int = 0
    runners: int = 0


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
        host_budget: bytes that loaded weights may take of the host, the libraries not counted.
        device_budget: bytes that weights and what is computed may take of the device; None where it has no memory of
            its own.
    """

    def __init__(
        self, settings: Settings, probe: MemoryProbe | None = None, read: Callable[[ModelSpec, Any], Any] | None = None
    ) -> None:
        self.settings = settings
        self._probe = probe or MemoryProbe()
        self._read = read or self._from_disk
        self.device = _choose_device(settings.device)
        self.dtype = _choose_dtype(settings.dtype, self.device)
        self.policy = _choose_policy(settings.offload, self.device)
        if settings.compile:
            _ready_to_compile()
        self.host_budget = parse_bytes(settings.host_memory) or int(HOST_SHARE * self._probe.host().free)
        self.device_budget = parse_bytes(settings.device_memory) or self._free_device_share()
        self._kept: OrderedDict[ModelSpec, _Kept] = OrderedDict()  # least recently used first
        self._by_module: dict[int, ModelSpec] = {}
        self.tiles = settings.tiling
        self.slices = self.device.type == "cuda"  # costs speed on a CPU, and saves a card its memory
        self._lock = threading.RLock()
        self._swap_seconds, self._swap_bytes = 0.0, 0
        self._paces: dict[str, float] = {}
        self._speed: float | None = None

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
        held: list[_Kept] = []
        try:
            with self._lock:
                for spec in specs:
                    kept = self._load(spec)
                    kept.holders += 1
                    held.append(kept)
                self._make_host_room(0)  # what came may be larger than was expected
            yield [kept.component for kept in held]
        finally:
            with self._lock:
                for kept in held:
                    kept.holders -= 1

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
            kept = [self._kept[self._by_module[id(module)]] for module in dict.fromkeys(modules)]
            for each in kept:
                each.runners += 1
            try:
                self._bring(kept, reserve)
            except BaseException:
                for each in kept:
                    each.runners -= 1
                raise
        try:
            yield
        finally:
            with self._lock:
                for each in kept:
                    each.runners -= 1

    def unload(self, *specs: ModelSpec) -> None:
        """Drop components that no job holds, all of them unless some are named, and give their memory back."""
        with self._lock:
            for spec in specs or tuple(self._kept):
                if spec in self._kept and not self._is_held(spec):
                    self._drop(spec)
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
        return leaner.get(self.policy) if self.device_budget is not None else None

    def state(self, spec: ModelSpec) -> str:
        """Where a component is: "on device", "in memory", "on disk" or "absent"."""
        kept = self._kept.get(spec)
        if kept is None:
            return "absent" if hub.find(spec, self.settings) is None else "on disk"
        on_device = kept.placement is not None and kept.placement.device_bytes > 0
        return "on device" if on_device else "in memory"

    def loaded(self) -> list[str]:
        """Keys of the components in memory."""
        return sorted(spec.key for spec in list(self._kept))

    def held(self) -> list[str]:
        """Keys of the components that somebody holds."""
        return sorted(spec.key for spec, kept in list(self._kept.items()) if kept.holders or kept.runners)

    def readout(self) -> Readout:
        """The memory as it is now, also while something loads."""
        kept = [(spec.key, kept.placement) for spec, kept in list(self._kept.items())]
        resident = tuple(key for key, placement in kept if placement is not None and placement.device_bytes)
        return Readout(
            str(self.device), self.policy, self._probe.device(self.device), self._probe.host(), self.device_budget,
            self.host_budget, resident, tuple(sorted(key for key, _ in kept)), self._swap_seconds, self._swap_bytes,
        )  # fmt: skip

    # Loading, and the host's budget

    def identity(self, specs: Iterable[ModelSpec]) -> str:
        """Names components for keys: what they load, and the files as they were then, or are for what is not loaded."""
        kept = [(spec, self._kept.get(spec)) for spec in specs]
        return " ".join(f"{spec.load_id} {one.stamp if one else hub.stamp(spec, self.settings)}" for spec, one in kept)

    def missing(self, specs: Iterable[ModelSpec]) -> list[ModelSpec]:
        """Those of the components that are neither in memory nor, as far as they are read from there, on the disk."""
        read_from_disk = self._read == self._from_disk
        return [spec for spec in specs if read_from_disk and self.state(spec) == "absent"]

    def _load(self, spec: ModelSpec) -> _Kept:
        stamp = hub.stamp(spec, self.settings)
        kept = self._kept.get(spec)
        if kept is not None:
            # Files that are gone since have not changed.
            if self._is_held(spec) or (kept.stamp == (stamp or kept.stamp) and kept.policy == self.policy):
                self._kept.move_to_end(spec)
                return kept
            self._drop(spec)
        base = None
        if spec.base is not None:
            below = self._load(spec.base)
            if below.placement is not None:
                below.placement.leave()  # what is shared, is shared on the host
            base = below.component
        self._make_host_room(self._own_bytes(spec))
        with torch.inference_mode(False):  # weights made in that mode could not be moved outside it
            component = self._read(spec, base)
            self._prepare(component, spec)
            module = isinstance(component, nn.Module)
            placement = place(component, self.policy, self.device) if module else None
            if placement is not None and self.policy == "zerogpu":
                placement.enter()
        own_bytes = size_of(component) - (size_of(base) if base is not None else 0) if module else 0
        kept = _Kept(component, own_bytes, placement, stamp, self.policy)
        self._kept[spec] = kept
        self._by_module[id(component)] = spec
        return kept

    def _from_disk(self, spec: ModelSpec, base: Any) -> Any:
        root = hub.pull(spec, self.settings)
        return load_component(hub.source_of(spec, root, self.settings, self.dtype_of(spec), base))

    def numerics(self) -> str:
        """In words, all that changes what equal models make of equal input: device, digits, and how they are run."""
        settings = self.settings
        switches = [name for name in ("tiling", "fp8", "compile") if getattr(settings, name)]
        return " ".join([self.device.type, str(self.dtype), *switches])

    def dtype_of(self, spec: ModelSpec) -> torch.dtype:
        """The dtype of a component's weights: an autoencoder needs more digits than bfloat16 has."""
        if spec.kind == "vae" and self.dtype == torch.bfloat16:
            return torch.float16 if self.device.type == "cuda" else torch.float32
        return self.dtype

    def _prepare(self, component: Any, spec: ModelSpec) -> None:
        """What a component runs with, beside its weights."""
        if spec.kind == "vae" and self.tiles:
            component.enable_tiling()
        if spec.kind == "vae" and self.slices:
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
        every = dict.fromkeys(part for spec in specs for part in (spec, spec.base) if part)
        return sum(map(self._own_bytes, every))

    def _own_bytes(self, spec: ModelSpec) -> int:
        if spec in self._kept:
            return self._kept[spec].bytes
        width = 1 if self.settings.fp8 and KINDS[spec.kind].in_every_step else self.dtype_of(spec).itemsize
        return numbers_of(spec, hub.find(spec, self.settings)) * width

    # How fast it was

    def note_pace(self, family: str, gflop: float, seconds: float) -> None:
        """Remember that a run of a family computed so much in so long."""
        self._paces[family] = gflop / seconds

    def pace(self, family: str) -> float:
        """Operations a second in units of 1e9 that runs of a family reach; of a single layer, until one has run."""
        if self._speed is None and family not in self._paces:
            self._speed = measured_speed(self.device, self.dtype)
        return self._paces.get(family) or self._speed or 1.0

    def is_pace_rough(self, family: str) -> bool:
        """Whether no run of a family has told how fast it is."""
        return family not in self._paces

    def _make_host_room(self, wanted: int) -> None:
        """Drop what was used least recently and nobody holds, until the budget holds what is wanted besides."""
        for spec in list(self._kept):
            if wanted + sum(map(self._on_host, self._kept.values())) <= self.host_budget:
                return
            if spec in self._kept and not self._is_held(spec):
                self._drop(spec)

    def _on_host(self, kept: _Kept) -> int:
        gone = kept.placement is not None and kept.placement.left_host and self.device_budget is not None
        return 0 if gone else kept.bytes

    def _is_held(self, spec: ModelSpec) -> bool:
        """Whether somebody holds a component, or one that is built on it."""
        return any(kept.holders for other, kept in self._kept.items() if spec in (other, other.base))

    def _drop(self, spec: ModelSpec) -> None:
        for built in [other for other in self._kept if other.base == spec]:
            self._drop(built)  # or its share of the weights would stay, and count nowhere
        kept = self._kept.pop(spec)
        del self._by_module[id(kept.component)]
        if kept.placement is not None:
            kept.placement.leave()

    # The device, and its budget

    def _bring(self, wanted: list[_Kept], reserve: int) -> None:
        missing = sum(kept.placement.needs() for kept in wanted if kept.placement)
        self._make_device_room(missing, reserve)
        if not missing:
            return
        begun = time.perf_counter()
        copied = sum(kept.placement.enter() for kept in wanted if kept.placement)
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        self._swap_seconds, self._swap_bytes = time.perf_counter() - begun, copied

    def _free_device_share(self) -> int | None:
        separate = self.device.type == "cuda" and self.policy != "zerogpu"  # where the card comes later, or never
        return int(DEVICE_SHARE * self._probe.device(self.device).free) if separate else None

    def _make_device_room(self, weights: int, reserve: int) -> None:
        """Let components that do not run leave the device, the least recently used first, as far as it must be.

        Args:
            weights: bytes that are to come. Where none are, nothing is refused: whether what is computed fits, shows.
            reserve: bytes of what will be computed.

        Raises:
            OutOfMemoryError: there is not enough room for weights that are to come.
        """
        if self.device_budget is None:
            return
        wanted = weights + reserve

        def taken() -> int:
            return sum(kept.placement.device_bytes for kept in self._kept.values() if kept.placement)

        # Others may have taken of the device since the budget was set.
        budget = min(self.device_budget, taken() + self._probe.device(self.device).free)
        for spec, kept in list(self._kept.items()):
            if wanted + taken() <= budget:
                return
            if spec not in self._kept or kept.runners or not (kept.placement and kept.placement.device_bytes):
                continue
            kept.placement.leave()
            if kept.placement.device_bytes and not self._is_held(spec):
                self._drop(spec)  # under the policy `none` only dropping gives anything back
        if weights and wanted + taken() > budget:
            raise OutOfMemoryError(
                f"The device's {say_bytes(budget)} of budget and free memory do not hold the {say_bytes(wanted)} that "
                f"this stage needs beside the {say_bytes(taken())} in use. Take a leaner offload policy than "
                f"'{self.policy}', fewer frames at once or a smaller size, or raise BIVDIFF_DEVICE_MEMORY."
            )


def _ready_to_compile() -> None:
    """Let every kind, size and batch of network be compiled; diffusers' U-Nets all count as one function.

    Raises:
        InputError: there is no compiler.
    """
    if not any(map(shutil.which, (os.environ.get("CXX") or "c++", "g++", "clang++"))):
        raise InputError("BIVDIFF_COMPILE is set, and there is no C++ compiler. Install g++ or clang, or unset it.")
    torch._dynamo.config.recompile_limit = COMPILED_VARIANTS


def measured_speed(device: torch.device, dtype: torch.dtype) -> float:
    """Operations a second of the device in units of 1e9, on the convolution that U-Nets spend most of their time in."""
    with torch.inference_mode():
        layer = nn.Conv2d(320, 320, 3, padding=1).to(device, dtype)
        picture = torch.randn(1, 320, 32, 32, device=device, dtype=dtype)
        layer(picture)  # the first is slower than any after it
        begun = time.perf_counter()
        layer(picture)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        spent = time.perf_counter() - begun
    return 2 * 320 * 320 * 9 * 32 * 32 / 1e9 / spent


def free_memory(device: torch.device) -> None:
    """Return memory that an accelerator's libraries keep, and nothing refers to any more, to its driver."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch._C._host_emptyCache()  # of pinned host memory; torch has no public name for it
    elif device.type == "mps":
        torch.mps.empty_cache()


def _choose_device(name: str) -> torch.device:
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InputError(f"Unknown device '{name}'. Use auto, cpu, cuda, cuda:0 or mps.") from error
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not available.get(device.type, False):
        raise InputError(f"The device '{name}' is not there. Use --device cpu, or auto to take the best there is.")
    return device


def _choose_dtype(name: str, device: torch.device) -> torch.dtype:
    if name != "auto":
        if name not in DTYPES:
            raise InputError(f"Unknown dtype '{name}'. Choose one of: auto, {', '.join(DTYPES)}.")
        return DTYPES[name]
    if device.type != "cuda":
        return torch.float32
    # bfloat16 never runs over; cards before Ampere compute it slowly.
    return torch.bfloat16 if torch.cuda.get_device_capability(device)[0] >= 8 else torch.float16


def _choose_policy(name: str, device: torch.device) -> OffloadPolicy:
    if name == "auto":
        if "SPACES_ZERO_GPU" in os.environ:
            return "zerogpu"
        return "model" if device.type == "cuda" else "none"
    if name not in POLICIES:
        raise InputError(f"Unknown offload policy '{name}'. Choose one of: auto, {', '.join(POLICIES)}.")
    return name
