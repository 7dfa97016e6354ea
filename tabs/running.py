"""How far a run is, and how long it will take."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from bivdiff.types import GenerationRequest, Stage, StepEvent

STAGES: dict[Stage, str] = {
    "load": "Load",
    "control": "Control map",
    "framewise": "Frame by frame",
    "inversion": "Inversion",
    "smoothing": "Smoothing",
}
SKIPPED: dict[str, set[Stage]] = {"control": set(), "smooth": {"control", "framewise"}}
"""Stages that a task does not have; one that is not listed draws no control maps."""


HEARTBEAT = 0.5  # seconds after which a page that waits is told how long it still will


class Meter:
    """How far a run is, and how long it will take.

    The work of a stage is counted in single-frame model evaluations; what a stage that has not begun will take is
    estimated from those that are done.

    Attributes:
        note: what the run said about the request while it loaded, such as a prompt that is too long; or empty.
    """

    def __init__(self, request: GenerationRequest, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._begun = clock()
        self._request = request
        self._stages = stages_of(request.task)
        self._work = planned_work(request)
        self._passes = _inversions(request)
        self._shares: dict[Stage, float] = dict.fromkeys(STAGES, 0.0)
        self._entered: dict[Stage, float] = {}
        self._left: dict[Stage, float] = {}
        self._pass = 0
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
        elif event.stage == "inversion" and event.step <= before.step:
            self._pass += 1  # a second inversion begins
        self._shares[event.stage] = self._share(event)

    def _share(self, event: StepEvent) -> float:
        """How much of its stage's work is done."""
        share = event.step / max(event.total, 1)
        if event.stage == "inversion":
            return (min(self._pass, self._passes - 1) + share) / self._passes
        if event.stage == "framewise" and self._request.image_model == "prompt2prompt":
            # The first half of the steps inverts the source; each of the others takes four times as long.
            return (min(share, 0.5) + 4 * max(share - 0.5, 0)) / 2.5
        return share

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
        """The value of a `ProgressPanel`.

        Args:
            state: "idle", "running", "done", "stopped" or "failed".
            headline: in words; empty says which step is being done.
            detail: below it.
        """
        ended = {key: state == "done" or self._shares[key] >= 1 for key in self._stages}
        chips = [
            {
                "key": key,
                "label": label,
                "percent": 100 if state == "done" else round(100 * self._shares[key]),
                "state": "done" if ended[key] else "now" if key == self.stage else "todo",
            }
            for key, label in self._stages.items()
        ]
        remaining = self.remaining() if state == "running" else None
        return {
            "state": state, "stages": chips, "headline": headline or self._headline(), "detail": detail or self.note,
            "elapsed": round(self.elapsed, 1), "remaining": None if remaining is None else round(remaining, 1),
        }  # fmt: skip

    def progress(self) -> dict[str, Any]:
        """The last event, ready for JSON."""
        now = self._now or StepEvent("load", 0, 1, "")
        return {"stage": now.stage, "step": now.step, "total": now.total}

    def _headline(self) -> str:
        if self._now is None:
            return "Waiting for the models to be free"
        if self._now.total <= 1:
            return self._now.message
        return f"{self._now.message}: step {self._now.step} of {self._now.total}"


def planned_work(request: GenerationRequest) -> dict[Stage, int]:
    """Single-frame model evaluations per stage; guidance doubles a stage."""

    def passes(guidance_scale: float) -> int:
        return 2 if guidance_scale > 1 else 1

    count = len(request.frames)
    # Prompt2Prompt inverts the source, and then denoises the edit beside it, as long as it looks at the source.
    beside = 1 if request.blend_words else max(request.cross_replace_steps, request.self_replace_steps)
    frame_passes = {"given": 0, "instruct-pix2pix": 3, "prompt2prompt": 1 + passes(request.guidance_scale) + beside}
    return {
        "framewise": round(
            count * request.num_inference_steps * frame_passes.get(request.image_model, passes(request.guidance_scale))
        ),
        "inversion": count
        * request.num_inversion_steps
        * passes(request.inversion_guidance_scale)
        * _inversions(request),
        "smoothing": count * request.num_smoothing_steps * passes(request.smoothing_guidance_scale),
    }


def stages_of(task: str) -> dict[Stage, str]:
    """The stages that a task goes through, with their labels."""
    skipped = SKIPPED.get(task, {"control"})
    return {stage: label for stage, label in STAGES.items() if stage not in skipped}


def idle_panel(task: str) -> dict[str, Any]:
    """The value of a `ProgressPanel` before the first run."""
    chips = [{"key": key, "label": label, "percent": 0, "state": "todo"} for key, label in stages_of(task).items()]
    return {"state": "idle", "stages": chips, "headline": "", "detail": "", "elapsed": None, "remaining": None}


def _inversions(request: GenerationRequest) -> int:
    """Models that invert: those with a share in the mix."""
    return int(request.mixing_ratio > 0) + int(request.mixing_ratio < 1)
