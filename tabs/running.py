"""Following a run: the thread it works in, and how far it is.

In it: `follow`, which turns a run into updates that can be stopped at any moment, and `Meter`, which turns events into
stages, percents and the time that is left. Not in it: widgets, requests, results.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any, cast

from bivdiff.types import GenerationRequest, Stage, StepEvent
from tabs.context import Events

STAGES: dict[Stage, str] = {
    "load": "Load",
    "control": "Control map",
    "framewise": "Frame by frame",
    "inversion": "Inversion",
    "smoothing": "Smoothing",
}
SKIPPED: dict[str, set[Stage]] = {"control": set(), "smooth": {"control", "framewise"}}
"""Stages that a task does not have; one that is not listed draws no control maps."""

HEARTBEAT = 0.5  # seconds between updates while nothing happens: a run that waits can be cancelled too
PAUSE = 0.12  # seconds between updates at most: a browser need not see every step


@dataclass(frozen=True)
class Failure:
    """The error that ended a run."""

    error: Exception


Update = Any  # a StepEvent, whatever else the run yields, a Failure, or None while nothing happens
_ENDED = object()


def follow(start: Callable[[], Events], device: threading.Lock) -> Iterator[Update]:
    """Run in a thread of its own and report from there.

    Closing this generator stops the run before its next step, without waiting for it; the run then frees what it took,
    and only after that the next one gets the device.

    Args:
        start: begins the run.
        device: held while the run works.

    Yields:
        What the run yields, in its order; None while there is nothing, or while the device is taken; a Failure last if
        it fails. StepEvents that come faster than every `PAUSE` seconds are passed over, unless they bring a preview
        or another stage.
    """
    inbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
    stopped = threading.Event()
    worker = threading.Thread(target=_work, args=(start, device, inbox, stopped), name="bivdiff-run", daemon=True)
    worker.start()
    last_stage, last_time = "", 0.0
    try:
        while True:
            try:
                update = inbox.get(timeout=HEARTBEAT)
            except queue.Empty:
                yield None
                continue
            if update is _ENDED:
                return
            if not isinstance(update, StepEvent):
                yield update
                continue
            ended = update.step >= update.total
            if (
                ended
                or update.preview is not None
                or update.stage != last_stage
                or time.monotonic() - last_time > PAUSE
            ):
                last_stage, last_time = update.stage, time.monotonic()
                yield update
    finally:
        stopped.set()


def _work(
    start: Callable[[], Events], device: threading.Lock, inbox: queue.SimpleQueue, stopped: threading.Event
) -> None:
    while not device.acquire(timeout=HEARTBEAT):
        if stopped.is_set():
            return
    try:
        if stopped.is_set():
            return
        with closing(cast(Any, start())) as events:
            for event in events:
                if stopped.is_set():
                    return
                inbox.put(event)
        inbox.put(_ENDED)
    except Exception as error:  # noqa: BLE001 - it is raised, or told to the user, where the run is followed
        inbox.put(Failure(error))
        inbox.put(_ENDED)
    finally:
        device.release()


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

    def take(self, event: StepEvent) -> None:
        """Note an event."""
        self.note = event.note or self.note
        before, self._now = self._now, event
        if before is None or before.stage != event.stage:
            if before is not None:
                self._shares[before.stage] = 1.0
                self._left[before.stage] = self._clock()
            self._entered.setdefault(event.stage, self._clock())
        elif event.step <= before.step:
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
        stage = self._now.stage if self._now else None
        chips = [
            {
                "key": key,
                "label": label,
                "percent": 100 if state == "done" else round(100 * self._shares[key]),
                "state": "done" if state == "done" or self._shares[key] >= 1 else "now" if key == stage else "todo",
            }
            for key, label in self._stages.items()
        ]
        remaining = self.remaining() if state == "running" else None
        return {
            "state": state, "stages": chips, "headline": headline or self._headline(), "detail": detail or self.note,
            "elapsed": round(self.elapsed, 1), "remaining": None if remaining is None else round(remaining, 1),
        }  # fmt: skip

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
