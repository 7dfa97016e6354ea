"""A stand-in for the pipeline: real events and a real result from no model, at a pace the test chooses.

In it: `FakeRun` and `fake_context`. Not in it: tests.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from bivdiff.toybox.clips import load_index
from bivdiff.types import GenerationRequest, GenerationResult, StepEvent
from tabs.context import AppContext

DRAWN_SEED = 4242


@dataclass
class FakeRun:
    """Yields every stage's events; the frames it makes are the source's, turned around in colour.

    Attributes:
        pause: seconds before each step.
        error: raised in the first denoising stage.
        started, closed: set when a run begins and when it has ended, however it did.
        requests: what was asked for.
    """

    pause: float = 0.0
    error: Exception | None = None
    started: threading.Event = field(default_factory=threading.Event)
    closed: threading.Event = field(default_factory=threading.Event)
    requests: list[GenerationRequest] = field(default_factory=list)

    def __call__(self, request: GenerationRequest) -> Iterator[StepEvent | GenerationResult]:
        self.requests.append(request)
        self.closed.clear()
        self.started.set()
        try:
            yield from self._events(request)
        finally:
            self.closed.set()

    def _events(self, request: GenerationRequest) -> Iterator[StepEvent | GenerationResult]:
        control_frames = fake_control_maps(request)
        yield StepEvent("load", 0, 1, "Loading the models")
        yield StepEvent("load", 1, 1, "Models loaded")
        yield StepEvent("control", 1, 1, "Control maps", control_frames)
        if self.error is not None:
            raise self.error
        yield from self._steps("framewise", "Frame by frame", request.num_inference_steps, request.frames[:, ::-1])
        for model in ("image", "video"):
            yield from self._steps("inversion", f"Inverting with the {model} model", request.num_inversion_steps, None)
        yield from self._steps("smoothing", "Smoothing", request.num_smoothing_steps, request.frames[..., ::-1])
        seed = DRAWN_SEED if request.seed is None else request.seed
        yield GenerationResult(
            request=replace(request, seed=seed), control_frames=control_frames, seed=seed,
            framewise_frames=np.ascontiguousarray(request.frames[:, ::-1]),
            frames=np.ascontiguousarray(request.frames[..., ::-1]),
            seconds={"load": 0.5, "framewise": 1.0, "inversion": 1.0, "smoothing": 1.0},
            evaluations={"framewise": 16, "inversion": 16, "smoothing": 8},
        )  # fmt: skip

    def _steps(self, stage: str, message: str, total: int, preview: np.ndarray | None) -> Iterator[StepEvent]:
        for step in range(1, total + 1):
            time.sleep(self.pause)
            yield StepEvent(stage, step, total, message, preview)


def fake_control_maps(request: GenerationRequest) -> np.ndarray:
    """White where the source is bright, black elsewhere; the threshold shows that settings arrive."""
    bright = request.frames.mean(-1, keepdims=True) > request.high_threshold
    return np.repeat(bright, 3, axis=-1).astype(np.uint8) * 255


def fake_context(run: FakeRun) -> AppContext:
    """An `AppContext` whose models are `run` and `fake_control_maps`, with the real sample clips."""
    return AppContext(run=run, control_maps=fake_control_maps, samples=load_index())
