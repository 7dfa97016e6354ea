"""What a run takes: seconds and model evaluations per stage, time inside forward passes, peak memory.

In it: `Meter`. Not in it: what is run.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn

from bivdiff.types import Stage


class Meter:
    """Counts through forward hooks, which are gone when `watch` ends.

    Attributes:
        seconds: wall time per stage.
        evaluations: denoiser evaluations per stage, counted in single frames.
        forward_seconds: wall time inside the forward passes of all watched models. On CUDA, where work is only
            queued by then, it is the time to queue it.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
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
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started
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


def peak_memory_bytes(device: torch.device) -> int:
    """Highest memory so far: of the device if it has its own, else the resident memory of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # Linux counts in kilobytes
