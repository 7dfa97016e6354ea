"""How far a run is, and how long it will take."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from bivdiff.catalog.tasks import TASKS
from bivdiff.models.cost import walks_of
from bivdiff.types import GenerationRequest, Stage, StepEvent
from tabs.widgets.progress import progress_value, stage_chips

STAGES: dict[Stage, str] = {
    "load": "Load",
    "control": "Control map",
    "framewise": "Frame by frame",
    "inversion": "Inversion",
    "smoothing": "Smoothing",
}
STARTING = "Starting the models"
"""What is said of a job that runs and has not said anything itself: the first of a process loads libraries."""


class RunProgress:
    """How far a run is, and how long it will take.

    The work of a stage is counted in single-frame model evaluations; what a stage that has not begun will take is
    estimated from those that are done.

    Attributes:
        note: what the run said about the request while it loaded, such as a prompt that is too long; or empty.
    """

    def __init__(self, request: GenerationRequest, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._begun = clock()
        self._stages = stages_of(request.task)
        walks = walks_of(request)
        self._walks = {stage: [walk for walk in walks if walk.stage == stage] for stage in STAGES}
        self._work = {stage: sum(walk.evaluations for walk in own) for stage, own in self._walks.items() if own}
        self._shares: dict[Stage, float] = dict.fromkeys(STAGES, 0.0)
        self._entered: dict[Stage, float] = {}
        self._left: dict[Stage, float] = {}
        self._ended = 0  # walks of the stage that the run is in
        self._now: StepEvent | None = None
        self.note = ""

    @property
    def elapsed(self) -> float:
        """Seconds since the run was asked for."""
        return self._clock() - self._begun

    @property
    def stage(self) -> Stage | None:
        """The stage that the run is in; None before the first."""
        return self._now.stage if self._now else None

    def take(self, event: StepEvent) -> None:
        """Note an event."""
        self.note = event.note or self.note
        before, self._now = self._now, event
        if before is None or before.stage != event.stage:
            if before is not None:
                self._shares[before.stage] = 1.0
                self._left[before.stage] = self._clock()
            self._entered.setdefault(event.stage, self._clock())
            self._ended = 0
        elif event.step <= before.step:
            self._ended += 1  # a second inversion begins
        self._shares[event.stage] = self._share(event)

    def _share(self, event: StepEvent) -> float:
        """How much of its stage's work is done."""
        share, walks = event.step / max(event.total, 1), self._walks[event.stage]
        if not walks:
            return share
        current = min(self._ended, len(walks) - 1)
        done = sum(walk.evaluations for walk in walks[:current]) + walks[current].evaluations_after(share)
        return done / self._work[event.stage]

    def remaining(self) -> float | None:
        """Seconds until the end, or None while it is too early to say."""
        if self._now is None:
            return None
        done = sum(work * self._shares[stage] for stage, work in self._work.items())
        spent = sum(
            self._left.get(stage, self._clock()) - self._entered[stage]
            for stage in self._work
            if stage in self._entered
        )
        if done < 0.02 * sum(self._work.values()) or not spent:
            return None
        return (sum(self._work.values()) - done) * spent / done

    def panel(self, state: str = "running", headline: str = "", detail: str = "") -> dict[str, Any]:
        """The value of a progress panel; see `progress_value`. An empty headline says which step is being done."""
        shares = dict.fromkeys(self._stages, 1.0) if state == "done" else self._shares
        remaining = self.remaining() if state == "running" else None
        return progress_value(
            state, stage_chips(self._stages, shares, self.stage), headline or self._headline(), detail or self.note,
            self.elapsed, remaining,
        )  # fmt: skip

    def progress(self) -> dict[str, Any]:
        """The last event, ready for JSON."""
        now = self._now or StepEvent("load", 0, 1, "")
        return {"stage": now.stage, "step": now.step, "total": now.total}

    def _headline(self) -> str:
        if self._now is None:
            return STARTING
        if self._now.total <= 1:
            return self._now.message
        return f"{self._now.message}: step {self._now.step} of {self._now.total}"


def stages_of(task: str) -> dict[Stage, str]:
    """The stages that a task goes through, with their labels."""
    has = {"control": TASKS[task].is_steered, "framewise": not TASKS[task].starts_from_frames}
    return {stage: label for stage, label in STAGES.items() if has.get(stage, True)}


def idle_panel(task: str) -> dict[str, Any]:
    """The value of a progress panel before the first run."""
    return progress_value("idle", stage_chips(stages_of(task), {}))
