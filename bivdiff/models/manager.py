"""Keeps loaded components within two budgets, and brings them to the device for those who use them.

In it: `ModelManager`: the cache, who holds what, and who has to make room. Not in it: how a component is read
(loaders.py), where its files lie (hub.py), how its weights travel (placement.py), which there are (catalog.py).

diffusers' ComponentsManager is not used: it cannot be asked what a run will need, evicts by a fixed reserve, knows
nothing of the host's memory, and carries weights back to the host that never changed. Its group offloading is.
"""

from __future__ import annotations

import gc
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from bivdiff.errors import InputError, OutOfMemoryError
from bivdiff.models import hub
from bivdiff.models.loaders import Source, load_component
from bivdiff.models.memory import Memory, MemoryProbe, read_bytes, say_bytes
from bivdiff.models.placement import POLICIES, OffloadPolicy, Placement, place, size_of
from bivdiff.settings import Settings
from bivdiff.specs import ModelSpec

HOST_SHARE = 0.8  # of the memory that is free when the manager is made
DEVICE_SHARE = 0.95
DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}


@dataclass
class _Kept:
    """A loaded component, the bytes of its weights, how many hold it, and how many run it."""

    component: Any
    bytes: int
    placement: Placement | None
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
        device: where models run.
        dtype: of their weights.
        policy: how they share the device.
        host_budget: bytes that loaded weights may take of the host.
        device_budget: bytes that weights and what is computed may take of the device; None where it has no memory of
            its own.
    """

    def __init__(
        self, settings: Settings, probe: MemoryProbe | None = None, read: Callable[[ModelSpec, Any], Any] | None = None
    ) -> None:
        self._settings = settings
        self._probe = probe or MemoryProbe()
        self._read = read or self._from_disk
        self.device = _choose_device(settings.device)
        self.dtype = _choose_dtype(settings.dtype, self.device)
        self.policy = _choose_policy(settings.offload, self.device)
        self.host_budget = read_bytes(settings.host_memory) or int(HOST_SHARE * self._probe.host().free)
        self.device_budget = read_bytes(settings.device_memory) or self._free_device_share()
        self._kept: OrderedDict[ModelSpec, _Kept] = OrderedDict()  # least recently used first
        self._by_module: dict[int, ModelSpec] = {}
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
                if spec in self._kept and not self._kept[spec].holders:
                    self._drop(spec)
        gc.collect()  # what libraries have tied in circles
        free_memory(self.device)

    def set_policy(self, policy: OffloadPolicy) -> None:
        """Take another policy; components that no job holds are dropped, since theirs is another."""
        with self._lock:
            self.policy = policy
        self.unload()

    def leaner_policy(self) -> OffloadPolicy | None:
        """The next policy that needs less of the device; None if there is none, or no device to spare."""
        leaner: dict[OffloadPolicy, OffloadPolicy] = {"none": "model", "model": "group"}
        return leaner.get(self.policy) if self.device_budget is not None else None

    def state(self, spec: ModelSpec) -> str:
        """Where a component is: "on device", "in memory", "on disk" or "absent"."""
        kept = self._kept.get(spec)
        if kept is None:
            return "absent" if hub.find(spec, self._settings) is None else "on disk"
        on_device = kept.placement is not None and kept.placement.device_bytes > 0
        return "on device" if on_device else "in memory"

    def loaded(self) -> list[str]:
        """Keys of the components in memory."""
        return sorted(spec.key for spec in self._kept)

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

    def _load(self, spec: ModelSpec) -> _Kept:
        if spec in self._kept:
            self._kept.move_to_end(spec)
            return self._kept[spec]
        base = None
        if spec.base is not None:
            below = self._load(spec.base)
            if below.placement is not None:
                below.placement.leave()  # what is shared, is shared on the host
            base = below.component
        self._make_host_room(self.weight_bytes(spec) if spec.base is None else 0)
        with torch.inference_mode(False):  # weights made in that mode could not be moved outside it
            component = self._read(spec, base)
            self._prepare(component, spec)
            module = isinstance(component, nn.Module)
            placement = place(component, self.policy, self.device) if module else None
            if placement is not None and self.policy == "zerogpu":
                placement.enter()
        kept = _Kept(component, size_of(component) if module else 0, placement)
        self._kept[spec] = kept
        self._by_module[id(component)] = spec
        return kept

    def _from_disk(self, spec: ModelSpec, base: Any) -> Any:
        return load_component(Source(spec, hub.pull(spec, self._settings), self.dtype_of(spec), base))

    def numerics(self) -> str:
        """In words, all that changes what equal models make of equal input: device, digits, and how they are run."""
        settings = self._settings
        switches = [name for name in ("tiling", "fp8", "compile") if getattr(settings, name)]
        return " ".join([self.device.type, str(self.dtype), *switches])

    def dtype_of(self, spec: ModelSpec) -> torch.dtype:
        """The dtype of a component's weights: an autoencoder needs more digits than bfloat16 has."""
        if spec.kind == "vae" and self.dtype == torch.bfloat16:
            return torch.float16 if self.device.type == "cuda" else torch.float32
        return self.dtype

    def _prepare(self, component: Any, spec: ModelSpec) -> None:
        """What a component runs with, beside its weights."""
        if spec.kind == "vae" and self._settings.tiling:
            component.enable_tiling()
        elif spec.kind == "vae" and self.device.type == "cuda":
            component.enable_slicing()  # a picture at a time costs speed on a CPU, and saves a card its memory
        if self._settings.fp8 and spec.kind in {"unet", "video_unet", "motion_unet", "controlnet"}:
            component.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=self.dtype)
        if self._settings.compile and spec.kind in {"unet", "video_unet", "motion_unet", "controlnet"}:
            component.compile()

    def weight_bytes(self, spec: ModelSpec) -> int:
        """Bytes that a component's weights take, or will once it is loaded; 0 where nothing is known of it."""
        if spec in self._kept:
            return self._kept[spec].bytes
        root = hub.find(spec, self._settings)
        stored = hub.bytes_on_disk(spec, root) if root else spec.bytes
        own = int(stored * self.dtype_of(spec).itemsize / spec.bytes_per_number)
        return own + (self.weight_bytes(spec.base) if spec.base else 0)

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
            if wanted + sum(kept.bytes for kept in self._kept.values()) <= self.host_budget:
                return
            if not self._kept[spec].holders and not self._is_base(spec):
                self._drop(spec)

    def _is_base(self, spec: ModelSpec) -> bool:
        return any(other.base == spec for other, kept in self._kept.items() if kept.holders)

    def _drop(self, spec: ModelSpec) -> None:
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

        for spec, kept in list(self._kept.items()):
            if wanted + taken() <= self.device_budget:
                return
            if kept.runners or not (kept.placement and kept.placement.device_bytes):
                continue
            kept.placement.leave()
            if kept.placement.device_bytes and not kept.holders:
                self._drop(spec)  # under the policy `none` only dropping gives anything back
        if weights and wanted + taken() > self.device_budget:
            raise OutOfMemoryError(
                f"The device's budget of {say_bytes(self.device_budget)} does not hold the {say_bytes(wanted)} that "
                f"this stage needs beside the {say_bytes(taken())} in use. Take a leaner offload policy than "
                f"'{self.policy}', fewer frames at once or a smaller size, or raise BIVDIFF_DEVICE_MEMORY."
            )


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
