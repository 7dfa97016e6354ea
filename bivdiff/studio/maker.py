"""What computes with the models of one process; on ZeroGPU with a card that is lent for as long as it takes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from bivdiff.catalog.components import components_of
from bivdiff.catalog.families import models_for
from bivdiff.catalog.specs import ModelSpec
from bivdiff.errors import InputError, OutOfMemoryError
from bivdiff.late import importing
from bivdiff.studio import zerogpu
from bivdiff.toybox.truths import truth_of
from bivdiff.types import GenerationRequest, GenerationResult, StepEvent
from bivdiff.workers.worker import Tools, import_models

if TYPE_CHECKING:
    from bivdiff.models.manager import ModelManager
    from bivdiff.models.planning import Planned

Events: TypeAlias = Iterator[StepEvent | GenerationResult]

MAP_SECONDS = 0.0  # of control maps that a model draws: less than the least that is asked for


def components_of_all(request: GenerationRequest, axes: Mapping[str, Sequence[Any]], *_: Any) -> Iterator[ModelSpec]:
    """All that the clips of a comparison run with."""
    ratio = max(axes.get("mixing_ratio", (request.mixing_ratio,)))
    for video_model in axes.get("video_model", (request.video_model,)):
        for prior in axes.get("frame_prior", (request.frame_prior,)):
            cell = replace(request, video_model=video_model, frame_prior=prior, mixing_ratio=ratio)
            yield from components_of(cell).every


def _announced(plan: Planned) -> StepEvent:
    """The first event of a run or a comparison: what it will take."""
    return StepEvent("load", 0, 1, plan.expected.sentence, note=plan.note)


class Maker:
    """Makes clips, comparisons and control maps.

    Args:
        tools: of this process.
    """

    def __init__(self, tools: Tools) -> None:
        self._tools, self._settings = tools, tools.settings
        card = zerogpu.Card(tools.manager, tools.settings)
        self._run = card.lend(self._run_there, lambda request: components_of(request).every)
        self._sweep = card.lend(self._sweep_there, components_of_all)
        self._maps = card.lend(self._maps_there, lambda request: components_of(request).annotators)

    def run(self, request: GenerationRequest, to_fit: bool) -> Events:
        """The events of a run, after one on what it will take, and its result.

        Args:
            request: what is made.
            to_fit: whether it may be changed so that it fits into the memory.

        Raises:
            OutOfMemoryError: it does not fit.
            InputError: it would take longer than the owner allows.
        """
        with self._tools.manager().policy_restored():
            plan = self._planned(request, to_fit)
            yield _announced(plan)
            yield from self._run(plan.expected.seconds, plan.request)

    def sweep(self, request: GenerationRequest, axes: Mapping[str, Sequence[Any]], to_fit: bool) -> Iterator[Any]:
        """The same of a comparison: the events, cells and result of `compare.sweep`."""
        with self._tools.manager().policy_restored():
            plan = self._planned(request, to_fit, axes)
            yield _announced(plan)
            truth = truth_of(plan.request)  # not on a lent card: it needs none
            yield from self._sweep(plan.expected.seconds, plan.request, axes, truth)

    def expected(self, request: GenerationRequest) -> str:
        """A sentence on the time and memory that a run will take."""
        manager = self._tools.manager()
        with importing():
            from bivdiff.models.estimate import estimate

        return estimate(request, manager).sentence

    def expected_seconds(self, request: GenerationRequest, num_frames: int) -> float | None:
        """The time that a run would take if its clip had so many frames; None where that does not fit."""
        manager = self._tools.manager()
        with importing():
            from bivdiff.models.estimate import seconds_of

        return seconds_of(request, num_frames, manager)

    def control_maps(self, request: GenerationRequest) -> tuple[np.ndarray, ...]:
        """The control maps of a request alone; what is drawn without a model needs no card."""
        if not any(map(models_for(request).annotator, request.controls)):
            return _control_maps(request, self._tools.manager())
        (maps,) = self._maps(MAP_SECONDS, request)
        return maps

    def _planned(
        self, request: GenerationRequest, to_fit: bool, axes: Mapping[str, Sequence[Any]] | None = None
    ) -> Planned:
        manager = self._tools.manager()
        with importing():
            from bivdiff.compare.planning import planned

        plan = planned(request, manager, to_fit, axes)
        found = plan.expected
        if not found.fits:
            raise OutOfMemoryError(f"{found.advice} Or tick “Fit to my memory” under “Advanced”.")
        most = self._settings.max_minutes
        if most and found.seconds > 60 * most:
            raise InputError(
                f"This would take about {found.seconds / 60:.0f} minutes, and here a run may take {most}. Take fewer "
                "steps, fewer frames or a smaller size."
            )
        return plan

    def _run_there(self, request: GenerationRequest) -> Events:
        import_models()
        with importing():
            from bivdiff.bridge.pipeline import run

        return run(request, self._tools.manager(), self._tools.stages())

    def _sweep_there(
        self, request: GenerationRequest, axes: Mapping[str, Sequence[Any]], truth: np.ndarray | None
    ) -> Iterator[Any]:
        import_models()
        with importing():
            from bivdiff.compare.sweep import sweep

        return sweep(request, axes, self._tools.manager(), self._tools.stages(), truth)

    def _maps_there(self, request: GenerationRequest) -> Iterator[tuple[np.ndarray, ...]]:
        yield _control_maps(request, self._tools.manager())


def _control_maps(request: GenerationRequest, manager: ModelManager) -> tuple[np.ndarray, ...]:
    import_models()
    with importing():
        from bivdiff.bridge.control_maps import control_maps

    return control_maps(request, manager)
