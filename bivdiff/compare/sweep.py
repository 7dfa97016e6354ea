"""Many values of a setting, or of two, from as few stages as they need.

Cells run through the stages of a single run, in one hold of the models, and find in the cache what an earlier cell
made; so ratios share one frame-wise pass and one pair of inversions.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import product
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from bivdiff.bridge.memory import with_leaner_policy
from bivdiff.bridge.outcomes import changed
from bivdiff.bridge.pipeline import blend, resolved, smooth_clips
from bivdiff.bridge.reuse import StageCache
from bivdiff.bridge.session import Session, entering
from bivdiff.catalog.components import components_of
from bivdiff.catalog.image_models import BRIDGE, IMAGE_MODELS
from bivdiff.compare.axes import AXES, BLENDED, check_axes, label_of, order_of
from bivdiff.compare.scores import Recommendation, Scorer, recommendation
from bivdiff.models.device import free_memory
from bivdiff.models.estimate import activation_bytes, estimate, smoothing_bytes
from bivdiff.models.manager import ModelManager
from bivdiff.models.metering import StageMeter
from bivdiff.types import GenerationRequest, StepEvent

MEMORY_BOUND = 1.3  # of a single run's: what smoothing several cells at once may take
Outcome = TypeVar("Outcome")
_PREVIEWS = 0  # while a clip is smoothed: nothing shows them, and decoding takes a quarter of the toybox's smoothing


@dataclass(frozen=True, eq=False)
class CellEvent(StepEvent):
    """Progress of a sweep: a step of cell `cell` of `cells`; where several are smoothed at once, of their first."""

    cell: int = 0
    cells: int = 1


@dataclass(frozen=True, eq=False)
class Cell:
    """One clip of a sweep.

    Attributes:
        index: its place among the cells: values in the order in which they were given, the second setting's fastest.
        values: the settings that are compared, with this cell's values.
        label: these in words.
        request: all its settings.
        frames: the bridged clip, uint8 `(F, H, W, 3)`.
        framewise_frames: what it was made of, of the same shape.
        scores: see `scores.Scorer`.
        framewise_scores: those of the frames it was made of, to compare with.
        seconds: wall time per stage that was run for it, and `total`, scores included. Cells that are smoothed at once
            share the time of that evenly.
        evaluations: model evaluations per stage, counted in single frames.
        reused: the stages whose output was there before the sweep: "framewise", "image inversion", "video inversion".
        heat, framewise_heat: where the clip and its frames flicker at rest, see `steadiness.Rest`.
    """

    index: int
    values: Mapping[str, Any]
    label: str
    request: GenerationRequest
    frames: np.ndarray
    framewise_frames: np.ndarray
    scores: Mapping[str, float]
    framewise_scores: Mapping[str, float]
    seconds: Mapping[str, float]
    evaluations: Mapping[str, float]
    reused: tuple[str, ...]
    heat: np.ndarray | None = None
    framewise_heat: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class SweepResult:
    """The cells of a sweep, in the order of their indices; of one that was stopped, those that were finished.

    Attributes:
        request: what was asked, with the seed that was used.
        axes: the settings that were compared, each with its values.
        cells: the finished clips.
        recommended: the index of a cell, and why.
        seconds: wall time of it all.
        peak_bytes: highest memory of any stage, see `Meter`; None where it was stopped.
    """

    request: GenerationRequest
    axes: Mapping[str, tuple[Any, ...]]
    cells: tuple[Cell, ...]
    recommended: Recommendation
    seconds: float
    peak_bytes: int | None

    @property
    def best(self) -> Cell:
        """The recommended cell."""
        return next(cell for cell in self.cells if cell.index == self.recommended.index)

    @property
    def size(self) -> int:
        """How many cells were asked for."""
        return math.prod(len(values) for values in self.axes.values())


@dataclass(frozen=True, eq=False)
class _Plan:
    """A cell that is to be made."""

    index: int
    values: Mapping[str, Any]
    request: GenerationRequest

    @property
    def label(self) -> str:
        return label_of(self.values)


class _Progress:
    """What a sweep has made so far: it outlives an attempt that ran out of memory."""

    def __init__(self, plans: Sequence[_Plan]) -> None:
        self.started = time.perf_counter()
        self.left = list(plans)
        self.cells: list[Cell] = []
        self.peak_bytes = 0
        self.most_at_once = len(plans)  # falls when the device ran out of memory

    def note_memory(self, meter: StageMeter) -> None:
        self.peak_bytes = max(self.peak_bytes, *meter.peak_bytes.values())


def sweep(
    request: GenerationRequest, axes: Mapping[str, Sequence[Any]], manager: ModelManager,
    cache: StageCache | None = None, truth: np.ndarray | None = None,
) -> Iterator[CellEvent | Cell | SweepResult]:  # fmt: skip
    """Make a clip for every value of a setting, or every pair of values of two.

    Extremes come first. Each clip has the bits of a single run with its settings on the CPU. Closing the generator
    cancels the rest and frees what it took; the cells that were yielded are whole.

    Args:
        request: what to make, but for the settings that are compared.
        axes: one or two keys of `AXES`, each with its values; one that comes twice is made once.
        manager: gives the models.
        cache: keeps the outputs of stages, for this sweep and later runs.
        truth: what the clip should show, uint8 `(F, H, W, 3)`, where that is known.

    Yields:
        A CellEvent after every step, a Cell whenever one is ready, and at last the SweepResult.

    Raises:
        InputError: a setting cannot be compared, or a value is out of range; then nothing has run.
        ModelUnavailableError, OutOfMemoryError, BIVDiffError: as `pipeline.run`.
    """
    request, cache = resolved(request), cache or StageCache()
    compared = {name: tuple(dict.fromkeys(values)) for name, values in axes.items()}
    plans = _plans(request, compared)
    progress = _Progress(plans)
    yield from with_leaner_policy(
        lambda: _attempt(progress, len(plans), manager, cache, truth), request, manager,
        announced=lambda event: _event_of(event, progress.left[0], len(plans)),
    )  # fmt: skip
    yield result_of(request, compared, progress.cells, time.perf_counter() - progress.started, progress.peak_bytes)


def result_of(
    request: GenerationRequest, axes: Mapping[str, Sequence[Any]], cells: Sequence[Cell],
    seconds: float | None = None, peak_bytes: int | None = None,
) -> SweepResult:  # fmt: skip
    """The result of finished cells, at least one: all of a sweep's, or those that it had when it was stopped.

    Args:
        request, axes: of the sweep; what the request left open is as the cells have it.
        cells: in any order.
        seconds: wall time of it all; that of the cells where it is not given.
        peak_bytes: highest memory of any stage, where that is known.
    """
    seconds = sum(cell.seconds["total"] for cell in cells) if seconds is None else seconds
    cells = tuple(sorted(cells, key=lambda cell: cell.index))
    chosen = recommendation(
        [cell.request for cell in cells], [cell.scores for cell in cells], [cell.framewise_scores for cell in cells],
        [cell.label for cell in cells],
    )  # fmt: skip
    named = {name: tuple(values) for name, values in axes.items()}
    request = replace(cells[0].request, **{name: getattr(request, name) for name in axes})
    return SweepResult(
        request, named, cells, Recommendation(cells[chosen.index].index, chosen.why), seconds, peak_bytes
    )


def last(events: Iterator[CellEvent | Cell | SweepResult]) -> SweepResult:
    """The result at the end of a sweep's events."""
    for event in events:
        if isinstance(event, SweepResult):
            return event
    raise RuntimeError("The sweep ended without a result.")


def paper_cell(request: GenerationRequest, cells: Sequence[Cell]) -> int | None:
    """The index of the cell that is bridged as the paper does it for the request's task; None without one.

    Where another setting is compared as well, the cell that has that as the request does goes before others.
    """
    paper = IMAGE_MODELS[request.image_model].paper_bridge
    found = [
        cell for cell in cells
        if set(BRIDGE) & set(cell.values) and all(getattr(cell.request, name) == paper[name] for name in BRIDGE)
    ]  # fmt: skip
    others = set(AXES) - set(BRIDGE)
    own = [
        cell for cell in found if all(cell.values[name] == getattr(request, name) for name in others & set(cell.values))
    ]
    return next((cell.index for cell in [*own, *found]), None)


def _plans(request: GenerationRequest, axes: Mapping[str, tuple[Any, ...]]) -> list[_Plan]:
    """The cells in the order in which they are made, all of them checked."""
    check_axes(request, axes)
    indices = {cell: index for index, cell in enumerate(product(*axes.values()))}
    plans = []
    for cell in order_of(axes):
        values = dict(zip(axes, cell, strict=True))
        plans.append(_Plan(indices[cell], values, resolved(replace(request, **values))))
    return plans


def _attempt(
    progress: _Progress, cells: int, manager: ModelManager, cache: StageCache, truth: np.ndarray | None
) -> Iterator[CellEvent | Cell]:
    """Make what is left to be made, one video model after the other."""
    while progress.left:
        video_model = progress.left[0].request.video_model
        group = [plan for plan in progress.left if plan.request.video_model == video_model]
        yield from _with_one_video_model(group, progress, cells, manager, cache, truth)


@torch.inference_mode()
def _with_one_video_model(
    group: Sequence[_Plan], progress: _Progress, cells: int, manager: ModelManager, cache: StageCache,
    truth: np.ndarray | None,
) -> Iterator[CellEvent | Cell]:  # fmt: skip
    first = group[0]
    # Some cells need what others do not: an inversion with the base model, say.
    neediest = max(group, key=lambda plan: len(components_of(plan.request).of_stages))
    with ExitStack() as exits:
        loading = entering(neediest.request, manager, cache, exits)
        session = yield from _of_cell(loading, first, cells)
        scorer = Scorer(first.request, session.control_frames, manager, truth)
        while left := [plan for plan in group if plan in progress.left]:
            batch = _next_batch(left, manager, progress.most_at_once)
            own = _with_room(replace(session, request=batch[0].request), len(batch), manager)
            try:
                yield from _made(batch, own, cells, scorer, progress)
            except torch.OutOfMemoryError:
                if len(batch) == 1:
                    raise
                progress.most_at_once = len(batch) // 2
            progress.note_memory(session.meter)
            if len(batch) > progress.most_at_once:  # outside the handler: the error refers to what filled the device
                free_memory(manager.device)


@dataclass(frozen=True)
class _Cost:
    """What was counted for a cell, by stage."""

    seconds: Counter[str] = field(default_factory=Counter)
    evaluations: Counter[str] = field(default_factory=Counter)


@contextmanager
def _shared_by(costs: Sequence[_Cost], meter: StageMeter) -> Iterator[None]:
    """Book what the meter counts inside on cells, on each as much."""
    seconds, evaluations = dict(meter.seconds), dict(meter.evaluations)
    yield
    for cost in costs:
        for counter, before, now in (
            (cost.seconds, seconds, meter.seconds), (cost.evaluations, evaluations, meter.evaluations),
        ):  # fmt: skip
            counter.update({
                name: (value - before.get(name, 0)) / len(costs)
                for name, value in now.items() if value != before.get(name)
            })  # fmt: skip


def _made(
    batch: Sequence[_Plan], session: Session, cells: int, scorer: Scorer, progress: _Progress
) -> Iterator[CellEvent | Cell]:
    """Make cells whose blends are smoothed at once, in the session of the first, and yield them."""
    sources: list[np.ndarray] = []
    blends: list[Tensor] = []
    reused: list[tuple[str, ...]] = []
    costs = [_Cost() for _ in batch]
    for plan, cost in zip(batch, costs, strict=True):
        own = replace(session, request=plan.request, reused=[])
        with _shared_by([cost], session.meter):
            framewise, blended = yield from _of_cell(blend(own), plan, cells)
        sources.append(framewise)
        blends.append(blended)
        reused.append(tuple(own.reused))
    with _shared_by(costs, session.meter):
        clips = yield from _of_cell(smooth_clips(session, torch.cat(blends), _PREVIEWS), batch[0], cells)
    for plan, clip, source, cost, found in zip(batch, clips, sources, costs, reused, strict=True):
        started, missed = time.perf_counter(), set(scorer.missed)
        scores, heat = scorer.measured(clip, source)
        of_source, heat_of_source = _of_source(scorer, source, progress)
        for name in scorer.missed.keys() - missed:
            yield _event_of(StepEvent("smoothing", 1, 1, "Scored", note=scorer.missed[name]), plan, cells)
        total = cost.seconds.total() + time.perf_counter() - started
        cell = Cell(
            plan.index, plan.values, plan.label, plan.request, clip, source, scores, of_source,
            {**cost.seconds, "total": total}, dict(cost.evaluations), found, heat, heat_of_source,
        )  # fmt: skip
        progress.left.remove(plan)
        progress.cells.append(cell)
        yield cell


def _of_source(
    scorer: Scorer, source: np.ndarray, progress: _Progress
) -> tuple[Mapping[str, float], np.ndarray | None]:
    """The scores of frame-wise frames and where they flicker, measured once."""
    for cell in progress.cells:
        if cell.framewise_frames is source:
            return cell.framewise_scores, cell.framewise_heat
    return scorer.measured(source, source)


def _of_cell(
    events: Generator[StepEvent, None, Outcome], plan: _Plan, cells: int
) -> Generator[CellEvent, None, Outcome]:
    """A stage's events as those of a cell; returns what the stage returns."""
    return changed(events, lambda event: _event_of(event, plan, cells))


def _event_of(event: StepEvent, plan: _Plan, cells: int) -> CellEvent:
    return CellEvent(
        event.stage, event.step, event.total, f"{event.message} ({plan.label})", event.preview, event.note, plan.index,
        cells,
    )  # fmt: skip


def _next_batch(left: Sequence[_Plan], manager: ModelManager, most: int) -> list[_Plan]:
    """Cells that are smoothed at once: the first that is left, and others alike in all that comes after the blend."""
    wanted = _after_the_blend(left[0])
    at_once = min(clips_at_once(left[0].request, manager), most)
    return [plan for plan in left if _after_the_blend(plan) == wanted][:at_once]


def _after_the_blend(plan: _Plan) -> dict[str, Any]:
    return {name: value for name, value in plan.values.items() if name not in BLENDED}


def clips_at_once(request: GenerationRequest, manager: ModelManager) -> int:
    """How many clips are smoothed at once: one where the device is the computer's own processor, which gains nothing.

    There three toybox clips take 7.4 s in one batch, no less than one after the other, and their memory. Elsewhere as
    many as stay within `MEMORY_BOUND` of a single run's memory, and within the device's budget; that this is faster has
    not been measured yet.
    """
    if manager.device.type != "cuda":
        return 1
    alone = estimate(request, manager).device_bytes
    allowed = MEMORY_BOUND * alone
    if manager.budget.device is not None:
        allowed = min(allowed, manager.budget.device)
    return 1 + max(0, int((allowed - alone) // smoothing_bytes(request, manager)))


def _with_room(session: Session, clips: int, manager: ModelManager) -> Session:
    """The session, with room kept on the device for as many clips as are smoothed at once."""
    if clips == 1:
        return session
    reserve = activation_bytes(session.request, manager) + (clips - 1) * smoothing_bytes(session.request, manager)
    return replace(session, models=replace(session.models, running=partial(manager.running, reserve=reserve)))
