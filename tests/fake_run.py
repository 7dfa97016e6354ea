"""A stand-in for the pipeline: real events and a real result from no model, at a pace the test chooses."""

from __future__ import annotations

import atexit
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from fake_models import FakeModels
from patience import PATIENCE

from bivdiff.catalog.bridging import inversions_of, steps_walked
from bivdiff.catalog.image_models import IMAGE_MODELS
from bivdiff.models.cost import is_previewed
from bivdiff.settings import Settings
from bivdiff.studio.history.runs import Runs
from bivdiff.studio.jobs import Jobs
from bivdiff.toybox.clips import load_index
from bivdiff.types import Control, GenerationRequest, GenerationResult, StepEvent
from tabs.context import AppContext

DRAWN_SEED = 4242
INVERTING = {
    "image": "Inverting with the image model", "frame": "Inverting with the video model, frame by frame",
    "video": "Inverting with the video model",
}  # fmt: skip


class Hold:
    """Stops a run before each step of a stage, or each clip of a comparison, until it is let go on."""

    def __init__(self, stage: str) -> None:
        self._stage, self._steps = stage, threading.Semaphore(0)
        self.reached = threading.Event()

    def __call__(self, stage: str) -> None:
        if stage == self._stage:
            self.reached.set()
            assert self._steps.acquire(timeout=PATIENCE), f"nobody let the run go on with '{stage}'"

    def let(self, steps: int = 1000) -> None:
        """Let it go on for so many steps."""
        self._steps.release(steps)


@dataclass
class FakeRun:
    """Yields every stage's events as the pipeline does; the frames it makes are the source's, turned around in colour.

    Like the pipeline it draws maps only for controls, makes no frames where they are given, inverts only with models
    that have a share in the mix, lets Prompt2Prompt's image stage take twice as many steps and a pipeline as many for
    each frame, and finds the frames of the last run kept where only what comes after them has changed.

    Attributes:
        before: called before each step with its stage, before each clip of a comparison with "cell"; see `Hold`.
        error: raised in the first denoising stage.
        started, closed: set when a run begins and when it has ended, however it did.
        requests: what was asked for; fitted: whether each might be changed to fit into the memory.
    """

    before: Callable[[str], None] = lambda _: None
    error: Exception | None = None
    started: threading.Event = field(default_factory=threading.Event)
    closed: threading.Event = field(default_factory=threading.Event)
    requests: list[GenerationRequest] = field(default_factory=list)
    fitted: list[bool] = field(default_factory=list)

    def __call__(self, request: GenerationRequest, to_fit: bool = True) -> Iterator[StepEvent | GenerationResult]:
        self.requests.append(request)
        self.fitted.append(to_fit)
        self.closed.clear()
        self.started.set()
        try:
            yield from self._events(request)
        finally:
            self.closed.set()

    def _events(self, request: GenerationRequest) -> Iterator[StepEvent | GenerationResult]:
        maps = fake_control_maps(request)
        yield StepEvent("load", 0, 1, "Loading the models")
        yield StepEvent("load", 1, 1, "Models loaded")
        for number, (control, frames) in enumerate(zip(request.controls, maps, strict=True), 1):
            yield StepEvent("control", number, len(maps), f"Control map ({control.control_type})", frames)
        if self.error is not None:
            raise self.error
        evaluations, before = {}, self._alike_before(request)
        makes_frames = IMAGE_MODELS[request.image_model].makes_frames
        framewise = np.ascontiguousarray(request.frames[:, ::-1]) if makes_frames else request.frames
        if makes_frames:
            if before is not None:
                yield StepEvent("framewise", 1, 1, "The frames were there already", framewise)
            else:
                yield from self._framewise(request, framewise)
                evaluations["framewise"] = 16
                yield StepEvent("framewise", 1, 1, "The frames are ready", framewise)
        inverted = () if before is None else inversions_of(before)
        for model in inversions_of(request):
            message = INVERTING[model]
            if model in inverted:
                yield StepEvent("inversion", 1, 1, f"{message}: was there already")
            else:
                steps = steps_walked(request.num_inversion_steps, request.start_level)
                yield from self._steps("inversion", message, steps, None)
                evaluations["inversion"] = 16
        walked = steps_walked(request.num_smoothing_steps, request.start_level)
        yield from self._steps("smoothing", "Smoothing", walked, request.frames[..., ::-1])
        seed = DRAWN_SEED if request.seed is None else request.seed
        yield GenerationResult(
            request=replace(request, seed=seed), control_frames=maps, seed=seed, framewise_frames=framewise,
            frames=np.ascontiguousarray(request.frames[..., ::-1]),
            seconds={"load": 0.5, **dict.fromkeys(["control"] * bool(maps), 0.0), **dict.fromkeys(evaluations, 1.0),
                     "smoothing": 1.0},
            evaluations={**evaluations, "smoothing": 8},
        )  # fmt: skip

    def sweep(
        self, request: GenerationRequest, axes: Mapping[str, Sequence[Any]], to_fit: bool = True
    ) -> Iterator[Any]:
        """A cell for each value, dimmed by its number; real scores and the real result."""
        from bivdiff.compare.axes import label_of
        from bivdiff.compare.scores import Scorer
        from bivdiff.compare.sweep import Cell, CellEvent, result_of

        self.fitted.append(to_fit)
        yield CellEvent("load", 1, 1, "Models loaded")
        without_models = SimpleNamespace(state=lambda _: "absent")
        score, cells = Scorer(replace(request, controls=()), (), without_models), []
        for index, values in enumerate(product(*axes.values())):
            self.before("cell")
            if self.error is not None and index:
                raise self.error
            changed = dict(zip(axes, values, strict=True))
            frames = (request.frames * (1 - 0.1 * index)).astype(np.uint8)
            yield CellEvent("smoothing", 1, 1, "Smoothing", cell=index)
            cells.append(Cell(
                index, changed, label_of(changed), replace(request, seed=DRAWN_SEED, **changed), frames, request.frames,
                score(frames, request.frames), score(request.frames, request.frames), {"total": 1.0},
                {"smoothing": 8.0}, ("framewise",),
            ))  # fmt: skip
            yield cells[-1]
        yield result_of(request, axes, cells, 1.0, 1)

    def _alike_before(self, request: GenerationRequest) -> GenerationRequest | None:
        """The run before, if it had the same seed and settings, but for the mixing ratio."""
        if len(self.requests) < 2 or request.seed is None:
            return None
        before = self.requests[-2]
        same = replace(before, mixing_ratio=request.mixing_ratio).settings() == request.settings()
        return before if same and np.array_equal(before.frames, request.frames) else None

    def _framewise(self, request: GenerationRequest, made: np.ndarray) -> Iterator[StepEvent]:
        """A pipeline makes one frame after the other, and shows some; all else makes them together."""
        model, message = IMAGE_MODELS[request.image_model], "Frame by frame"
        if model.denoiser != "pipeline":
            walks = 2 if model.inverts_source else 1
            yield from self._steps("framewise", message, walks * request.num_inference_steps, made)
            return
        for event in self._steps("framewise", message, len(made) * request.num_inference_steps, None):
            yield event
            frame, within = divmod(event.step, request.num_inference_steps)
            if not within:
                yield replace(event, preview=made if is_previewed(frame, len(made)) else None)

    def _steps(self, stage: str, message: str, total: int, preview: np.ndarray | None) -> Iterator[StepEvent]:
        for step in range(1, total + 1):
            self.before(stage)
            shown = preview if is_previewed(step, total) else None
            yield StepEvent(stage, step, total, message, shown)


def fake_control_maps(request: GenerationRequest) -> tuple[np.ndarray, ...]:
    """A given map as it is; else white where the source is bright, for depth the other way round.

    The threshold shows that settings arrive.
    """
    return tuple(_fake_map(control, request) for control in request.controls)


def _fake_map(control: Control, request: GenerationRequest) -> np.ndarray:
    if control.frames is not None:
        return control.frames
    bright = request.frames.mean(-1, keepdims=True) > request.high_threshold
    white = bright if control.control_type == "canny" else ~bright
    return np.repeat(white, 3, axis=-1).astype(np.uint8) * 255


def fake_context(run: FakeRun, models: FakeModels | None = None, **changes: Any) -> AppContext:
    """An `AppContext` whose models are `run`, `fake_control_maps` and `models`; all else in it is real.

    Args:
        run: makes the clips.
        models: what the tab of the models shows.
        changes: settings.
    """
    folder = Path(tempfile.mkdtemp(prefix="bivdiff-history-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    settings, device = Settings(**{"history_folder": folder, "own_models": "yes", **changes}), threading.Lock()
    return AppContext(
        run=run, sweep=run.sweep, expected=lambda request: f"This takes {len(request.frames)} s.",
        expected_seconds=lambda _, num_frames: float(num_frames), control_maps=fake_control_maps,
        samples=load_index(), models=models or FakeModels(), runs=Runs(settings),
        jobs=Jobs(device, settings.max_queue, settings.max_jobs), device=device, settings=settings,
    )  # fmt: skip
