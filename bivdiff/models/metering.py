"""What a run takes: seconds, model evaluations and peak memory per stage, time inside forward passes."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import nn

from bivdiff.types import Stage

PEAK_RESET, STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")


class StageMeter:
    """Counts through forward hooks, which are gone when `watch` ends.

    Attributes:
        seconds: wall time per stage.
        peak_bytes: highest memory per stage, of a CUDA device if one is in use, else the resident memory of this
            process.
        evaluations: denoiser evaluations per stage, counted in single frames.
        forward_seconds: wall time inside the forward passes of all watched models. On CUDA, where work is only
            queued by then, it is the time to queue it.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.peak_bytes: dict[str, int] = {}
        self.evaluations: dict[str, int] = {}
        self.forward_seconds = 0.0
        self._stage: Stage | None = None
        self._depth = 0
        self._entered = 0.0

    @contextmanager
    def stage(self, name: Stage) -> Iterator[None]:
        """Book what happens inside on a stage."""
        outer, self._stage = self._stage, name
        _forget_peak()
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started
            self.peak_bytes[name] = max(self.peak_bytes.get(name, 0), _peak())
            self._stage = outer

    @contextmanager
    def watch(self, denoisers: list[nn.Module], others: list[nn.Module]) -> Iterator[None]:
        """Count evaluations of the denoisers, and the time spent in them and in the others."""
        with ExitStack() as hooks:
            for module in [*denoisers, *others]:
                hooks.callback(module.register_forward_pre_hook(self._enter).remove)
                hooks.callback(module.register_forward_hook(self._leave).remove)
            for module in denoisers:
                hooks.callback(module.register_forward_pre_hook(self._count, with_kwargs=True).remove)
            yield

    def _enter(self, *_: Any) -> None:
        if self._depth == 0:
            self._entered = time.perf_counter()
        self._depth += 1

    def _leave(self, *_: Any) -> None:
        self._depth -= 1
        if self._depth == 0:
            self.forward_seconds += time.perf_counter() - self._entered

    def _count(self, network: nn.Module, inputs: tuple[torch.Tensor, ...], named: dict[str, Any]) -> None:
        sample = inputs[0] if inputs else named["hidden_states"]  # as diffusers' pipelines call transformers
        frames = len(sample) * named.get("num_frames", _frames_of_each(network, sample))
        if self._stage is not None:
            self.evaluations[self._stage] = self.evaluations.get(self._stage, 0) + frames


def _frames_of_each(network: nn.Module, sample: torch.Tensor) -> int:
    """Frames of each clip that a network is shown, wherever it reads them; 1 of pictures."""
    if sample.ndim != 5:
        return 1
    channels = getattr(getattr(network, "config", None), "in_channels", sample.shape[1])
    return int(sample.shape[2] if sample.shape[1] == channels else sample.shape[1])


def peak_memory_bytes(meter: StageMeter) -> int:
    """Highest memory of a metered run: of the CUDA device if one is in use, else of this process."""
    return max(meter.peak_bytes.values())


def _forget_peak() -> None:
    """Let the highest memory be counted anew from here."""
    if torch.cuda.is_initialized():
        for device in range(torch.cuda.device_count()):
            torch.cuda.reset_peak_memory_stats(device)
        return
    with suppress(OSError):  # only Linux keeps a peak of the process that can be set back
        PEAK_RESET.write_text("5")


def _peak() -> int:
    """The highest memory since `_forget_peak`, in bytes; where the system does not tell, the memory now."""
    if torch.cuda.is_initialized():
        return max(torch.cuda.max_memory_allocated(device) for device in range(torch.cuda.device_count()))
    with suppress(OSError):
        found = re.search(r"VmHWM:\s*(\d+) kB", STATUS.read_text())
        if found:
            return int(found[1]) * 1024
    return psutil.Process().memory_info().rss
