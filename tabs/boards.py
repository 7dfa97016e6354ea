"""What a job of the page shows and leaves behind: boards, and how a page watches them."""

from __future__ import annotations

import logging
import re
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import wraps
from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr
import numpy as np

from bivdiff.errors import BIVDiffError, InputError
from bivdiff.studio.jobs import WAITING, Job, State
from bivdiff.types import MAX_SEED, GenerationRequest, GenerationResult
from tabs.context import AppContext
from tabs.results import LiveTiles, result_player, scores_of
from tabs.running import HEARTBEAT, Meter, idle_panel

PAUSE = 0.15  # seconds between two updates of a page at least: a browser need not see every step
UNEXPECTED = (
    "Something failed that should not have. Nothing of yours is lost; try again, or look into the server's log."
)
NOT_KEPT = "The history could not keep this run, so take along here what you want of it."
VISITOR = re.compile(r"[A-Za-z0-9-]{16,64}")

LOOK_AGAIN = "~"
"""Ends what a page sends of itself; what comes behind it changes where the page is to look for its jobs anew."""

_log = logging.getLogger(__name__)
_watches: dict[tuple[str, str, str], object] = {}


class Visitor(NamedTuple):
    """Who uses a page: a token that only that browser has, and which of its windows it is."""

    owner: str
    window: str


def visitor_of(text: Any) -> Visitor:
    """Read what a page sends; whoever sends nothing is somebody new each time, and sees nobody's jobs."""
    owner, _, window = str(text or "").partition(".")
    window = window.partition(LOOK_AGAIN)[0]
    return Visitor(owner if VISITOR.fullmatch(owner) else secrets.token_hex(16), window[:64])


def sentence(error: Exception) -> str:
    """What to tell the user; an error that is not meant for users is logged and described in general."""
    if isinstance(error, BIVDiffError):
        return str(error)
    _log.error("A run failed unexpectedly.", exc_info=error)
    return UNEXPECTED


def telling(handler: Callable[..., Any]) -> Callable[..., Any]:
    """A handler of the page that tells there, in a sentence, what went wrong."""

    @wraps(handler)
    def call(*given: Any) -> Any:
        try:
            return handler(*given)
        except gr.Error:
            raise
        except Exception as error:  # noqa: BLE001 - `sentence` logs what is not meant for users
            raise gr.Error(sentence(error), print_exception=False) from None

    return call


def with_seed(request: GenerationRequest) -> GenerationRequest:
    """The request with a seed, drawn where it has none: what is to be run again must be known before it runs."""
    return request if request.seed is not None else replace(request, seed=secrets.randbelow(MAX_SEED + 1))


def begun(context: AppContext, request: GenerationRequest, fps: float, owner: str, **more: Any) -> str:
    """Begin a run in the history; returns its id, empty where it cannot be kept: that is no reason not to run it."""
    try:
        return context.runs.begin(request, fps, owner, **more)
    except InputError as error:
        _log.warning("A run is made that the history does not keep: %s", error)
        return ""


def begin_job(
    context: AppContext, owner: str, board: Callable[[], Any], start: Callable[[Any], Any], **named: str
) -> Job:
    """Give the queue a job whose board is made only if there is room for it, so that a refusal leaves nothing behind.

    Raises:
        InputError: too many jobs wait.
    """
    context.jobs.check(owner)
    made = board()
    try:
        return context.jobs.submit(lambda: start(made), made, owner=owner, **named)
    except BIVDiffError as error:  # another one was faster
        made.end("cancelled", error)
        raise


class RunBoard:
    """A run of a task.

    Args:
        context: knows where runs are kept.
        request: what is made; a seed is drawn for it where it has none.
        fps: at which its clips play.
        owner: of the run.

    Attributes:
        request: with its seed.
        run_id: in the history; empty where that is not kept.
        result: once there is one, `scores` what was measured of it, and `files` those that were written of it.
        told: the sentence on how it ended.
    """

    def __init__(self, context: AppContext, request: GenerationRequest, fps: float, owner: str) -> None:
        self._runs = context.runs
        self.request, self.fps = with_seed(request), fps
        self.run_id = begun(context, self.request, fps, owner)
        self.result: GenerationResult | None = None
        self.scores: Mapping[str, Any] = {}
        self.files: Mapping[str, Path] = {}
        self.told = ""
        self.state: State = "queued"
        self._framewise: np.ndarray | None = None
        self._meter, self._live = Meter(self.request), LiveTiles(self.request, fps)
        self._shown: dict[str, Any] | None = None
        self._last_panel: dict[str, Any] | None = None

    def take(self, update: Any) -> bool:
        """Note an event, or keep the result."""
        if isinstance(update, GenerationResult):
            self._keep(update)
            return True
        if self.state == "queued":
            self.state = "running"
            self._runs.started(self.run_id)
        if self._meter.stage != update.stage:
            _log.info("%s: %s", update.stage, update.message)
        if update.stage == "framewise" and update.step == update.total and update.preview is not None:
            self._framewise = update.preview
        self._meter.take(update)
        self._live.take(update)
        return False

    def _keep(self, result: GenerationResult) -> None:
        self.result = result
        self.told = self._meter.note or "The clips below play in step."
        if not self.run_id:
            self.told = f"{self.told} {NOT_KEPT}"
        self.scores = scores_of(result)
        try:
            self.files = self._runs.finish(self.run_id, result, self.scores) if self.run_id else {}
        except BIVDiffError as error:  # the clips are shown all the same
            self.told = sentence(error)
            self._runs.end(self.run_id, "failed", self.told, result.framewise_frames)
        self._shown = result_player(result, self.fps, self.scores, self.files, self.run_id, self._live.given)
        spent = ", ".join(f"{stage} {seconds:.1f} s" for stage, seconds in result.seconds.items())
        _log.info("done: %s", spent)

    def end(self, state: State, error: Exception | None) -> None:
        """Note how it ended; what was made until then is kept."""
        self.state = state
        if state != "done":
            self.told = sentence(error) if error else ""
            _log.info("%s: %s", state, self.told or "Stopped.")
        self._last_panel = self._end_panel()
        if state != "done":
            self._runs.end(self.run_id, state, self.told, self._framewise)

    @property
    def version(self) -> int:
        """Grows whenever there is something new to see."""
        return self._live.version + (self._shown is not None)

    def player(self) -> dict[str, Any]:
        """The player's value now."""
        return self._shown or self._live.value()

    def panel(self) -> dict[str, Any]:
        """The progress panel's value now."""
        return dict(self._last_panel or self._meter.panel())

    def _end_panel(self) -> dict[str, Any]:
        if self.state == "failed":
            return {**self._meter.panel("failed", self.told), "detail": "", "remaining": None}
        if self.state == "cancelled" or self.result is None:
            return {**idle_panel(self.request.task), "state": "stopped", "headline": "Stopped."}
        return self._meter.panel("done", f"Done in {sum(self.result.seconds.values()):.1f} s", self.told)

    def remaining(self) -> float | None:
        """Seconds until the end, or None while it is too early to say."""
        return self._meter.remaining()

    def progress(self) -> dict[str, Any]:
        """How far it is, ready for JSON."""
        return {**self._meter.progress(), "state": self.state, "remaining": self.remaining()}


def panel_of(context: AppContext, job: Job) -> dict[str, Any]:
    """The progress panel's value for a job; of one that runs, with how full the memory is."""
    panel = dict(job.board.panel())
    return panel | {"memory": context.models.memory()} if job.state == "running" else panel


def watch(context: AppContext, visitor: Visitor, place: str) -> Iterator[Job]:
    """The job that a place of the page shows, again whenever there is something new.

    It ends when nothing of the visitor's waits there any more, or when the same window watches the place anew.

    Yields:
        The running job, else the next to run, else the one that ended last; nothing if there are none.
    """
    key, mine = (*visitor, place), object()
    _watches[key] = mine
    shown: Any = None
    seen = -1
    try:
        while _watches.get(key) is mine:
            jobs = context.jobs.of(visitor.owner, place)
            if not jobs:
                return
            job = jobs[0]
            state = job.state  # as it is shown: it may be another by the end of the turn
            mark = (job.id, state, job.version, context.jobs.before(job))
            if mark != shown or state == "queued":
                shown = mark
                yield job
            if state not in WAITING:
                return
            time.sleep(PAUSE)
            seen = context.jobs.wait(seen, HEARTBEAT)
    finally:
        if _watches.get(key) is mine:
            del _watches[key]


def waiting_words(context: AppContext, job: Job) -> str:
    """How long a queued job will wait, in words."""
    before = context.jobs.before(job)
    if not before:
        return "Waiting for the models to be free"
    jobs = "1 job" if before == 1 else f"{before} jobs"
    return f"Waiting: {jobs} before it; starts in about {_span(context.jobs.starts_in(job))}"


def _span(seconds: float) -> str:
    return f"{max(1, round(seconds))} s" if seconds < 90 else f"{round(seconds / 60)} min"
