"""What a run takes: seconds, model evaluations and peak memory per stage, time inside forward passes.

In it: `Meter`. Not in it: what is run.
"""

from __future__ import annotations

import resource
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import psutil
import torch
from torch import nn

from bivdiff.types import Stage

SAMPLING_SECONDS = 0.02  # between two looks at the host's memory, which keeps no peak that could be set back


class Meter:
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
        started = time.perf_counter()
        with _watched_memory() as peak:
            try:
                yield
            finally:
                self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started
                self.peak_bytes[name] = max(self.peak_bytes.get(name, 0), peak())
                self._stage = outer

    @contextmanager
    def watch(self, denoisers: list[nn.Module], others: list[nn.Module]) -> Iterator[None]:
        """Count evaluations of the denoisers, and the time spent in them and in the others."""
        with ExitStack() as hooks:
            for module in [*denoisers, *others]:
                hooks.callback(module.register_forward_pre_hook(self._enter).remove)
                hooks.callback(module.register_forward_hook(self._leave).remove)
            for module in denoisers:
                hooks.callback(module.register_forward_pre_hook(self._count).remove)
            yield

    def _enter(self, *_: Any) -> None:
        if self._depth == 0:
            self._entered = time.perf_counter()
        self._depth += 1

    def _leave(self, *_: Any) -> None:
        self._depth -= 1
        if self._depth == 0:
            self.forward_seconds += time.perf_counter() - self._entered

    def _count(self, _: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        sample = inputs[0]
        frames = len(sample) * (sample.shape[2] if sample.ndim == 5 else 1)
        if self._stage is not None:
            self.evaluations[self._stage] = self.evaluations.get(self._stage, 0) + frames


@contextmanager
def _watched_memory() -> Iterator[Callable[[], int]]:
    """Give what tells the highest memory since the beginning, in bytes."""
    if torch.cuda.is_initialized():
        devices = range(torch.cuda.device_count())
        for device in devices:
            torch.cuda.reset_peak_memory_stats(device)
        yield lambda: max(torch.cuda.max_memory_allocated(device) for device in devices)
        return
    process, ended = psutil.Process(), threading.Event()
    highest = process.memory_info().rss

    def look() -> int:
        nonlocal highest
        highest = max(highest, process.memory_info().rss)
        return highest

    def keep_looking() -> None:
        while not ended.wait(SAMPLING_SECONDS):
            look()

    watcher = threading.Thread(target=keep_looking, daemon=True)
    watcher.start()
    try:
        yield look
    finally:
        ended.set()
        watcher.join()


def peak_memory_bytes(meter: Meter, device: torch.device) -> int:
    """Highest memory of a metered run if the device has its own, else of this process so far."""
    if device.type == "cuda":
        return max(meter.peak_bytes.values())  # the device's own peak was set back at every stage
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # Linux counts in kilobytes
