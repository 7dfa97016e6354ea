"""What a comparison shows while it is made and once it is: its board, how far it is, and what its clips say."""

from __future__ import annotations

import html
import logging
import secrets
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from bivdiff.bridge.inputs import same_frames
from bivdiff.catalog.bridging import inversions_of
from bivdiff.catalog.requests import with_seed
from bivdiff.compare.axes import MAKE_FRAMES, before_names, before_places, label_of, values_of_cells
from bivdiff.errors import BIVDiffError
from bivdiff.late import importing
from bivdiff.models.cost import Walk, walks_of
from bivdiff.studio.jobs import State
from bivdiff.types import GenerationRequest, StepEvent
from tabs.boards import NOT_KEPT, begin_in_history
from tabs.context import AppContext
from tabs.failures import sentence
from tabs.progress import STARTING, stages_of
from tabs.requests import Submission
from tabs.uploads import upload_folder
from tabs.widgets.player import ComparedClip, comparison_value, film_buttons
from tabs.widgets.progress import progress_value, stage_chips

if TYPE_CHECKING:
    from bivdiff.compare.sweep import Cell, SweepResult

_log = logging.getLogger(__name__)

USE = "Click a clip to choose it; keys 1 to 9 show one large."
STAYS = "The clips that were ready stay, scored and with their files."
AGAIN = {
    "framewise": "the frames", "image inversion": "the image model's inversion",
    "frame inversion": "the video model's inversion of single frames", "video inversion": "the video model's inversion",
}  # fmt: skip
EARLY = 0.02  # share of the work before which nothing is said of the time that is left


class SweepProgress:
    """How much of a comparison's work is done, counted in single frames that networks evaluate.

    What several clips share is counted once, and what an earlier run had made not at all.

    Args:
        requests: of all clips.
        values: of all clips, what is compared.
        clock: seconds from any start.
    """

    def __init__(
        self, requests: Sequence[GenerationRequest], values: Sequence[Mapping[str, Any]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self._clock = clock
        self._parts = [_parts(request, each, index) for index, (request, each) in
                       enumerate(zip(requests, values, strict=True))]  # fmt: skip
        self._work = {key: walk for parts in self._parts for key, walk in parts}
        self._done: dict[Any, float] = {}
        self._begun: float | None = None
        self._now: tuple[int, str, str] | None = None
        self._key: Any = None

    def take(self, event: StepEvent) -> None:
        """Note a step."""
        cell, now = getattr(event, "cell", 0), (getattr(event, "cell", 0), event.stage, event.message)
        if now != self._now:
            self._now, self._key = now, self._next(cell, event)
        if self._key is None:
            return
        if event.stage != "smoothing" and event.total <= 1 and self._key not in self._done:
            del self._work[self._key]  # an earlier run had made it
            self._key = None
            return
        self._begun = self._clock() if self._begun is None else self._begun
        walk = self._work[self._key]
        self._done[self._key] = walk.evaluations_after(event.step / max(event.total, 1))

    def _next(self, cell: int, event: StepEvent) -> Any:
        """The part of a clip's work that a first step of a stage belongs to; None where that was counted before."""
        left = [key for key, walk in self._parts[cell]
                if key in self._work and walk.stage == event.stage and key not in self._done]  # fmt: skip
        return next(iter(left), None)

    def ready(self, cell: int) -> None:
        """Note that a clip is ready: all that it is made of is done."""
        for key, walk in self._parts[cell]:
            if key in self._work:
                self._done[key] = walk.evaluations

    def share(self) -> float:
        """How much is done, 0 to 1."""
        return sum(self._done.values()) / max(sum(walk.evaluations for walk in self._work.values()), 1)

    def remaining(self) -> float | None:
        """Seconds until the end; None while it is too early to say."""
        share = self.share()
        if self._begun is None or share < EARLY:
            return None
        return (self._clock() - self._begun) * (1 - share) / share


def _parts(request: GenerationRequest, values: Mapping[str, Any], index: int) -> list[tuple[Any, Walk]]:
    """What a clip is made of: each with a key that is the same where another clip shares it."""
    frames = tuple(value for name, value in values.items() if name in MAKE_FRAMES)
    names, keyed = iter(inversions_of(request)), []
    for number, walk in enumerate(walks_of(request)):
        key: tuple[Any, ...] = (walk.stage, number, frames)
        if walk.stage == "inversion":
            name = next(names)
            key = (name, frames, request.start_level, None if name == "image" else request.video_model)
        keyed.append(((*key, index) if walk.stage == "smoothing" else key, walk))
    return keyed


class ComparisonBoard:
    """The clips of a comparison as they come, and how far it is.

    Attributes:
        version: grows whenever a clip is ready, and at the end.
        request: what is compared, but for the values.
        findings: what the clips say, as HTML; why: its recommendation alone, as text.
        files: by what they are, see `export`, once they are written.
        message: the sentence on how it ended.
    """

    def __init__(
        self, context: AppContext, submission: Submission, axes: Mapping[str, Sequence[Any]], owner: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self._runs, self._fps, self.request = context.runs, submission.fps, submission.request
        self.run_id = begin_in_history(context, self.request, self._fps, owner, kind="comparison", axes=axes)
        values = values_of_cells(axes)
        self._cells = [ComparedClip(label_of(each), pending=True, tone="blend") for each in values]
        self._befores = _Befores(self.request, axes)
        self._ready: list[Mapping[str, Any] | None] = [None] * len(self._cells)
        self._axes = axes
        self._made: list[Cell] = []
        self._result: SweepResult | None = None
        self._clock, self._asked = clock, clock()
        self._progress = SweepProgress([replace(self.request, **each) for each in values], values, clock)
        self._now: StepEvent | None = None
        self._note, self.message, self.findings, self.why = "", "", "", ""
        self._marks: dict[str, Any] = {}
        self._in_history, self._kept = False, False  # how it ended, and with its files
        self.files: Mapping[str, Path] = {}
        self.state: State = "queued"
        self.version = 0

    def take(self, update: StepEvent | Cell | SweepResult) -> bool:
        """Note an event, a finished clip, or the result."""
        if self.state == "queued":
            self.state = "running"
            self._runs.started(self.run_id)
        if isinstance(update, StepEvent):
            self._take_event(update)
            return False
        with importing():
            from bivdiff.compare.sweep import SweepResult  # loads the model libraries, which by now are there

        if isinstance(update, SweepResult):
            self._result = update
            return True
        self._take_cell(update)
        return False

    def _take_event(self, event: StepEvent) -> None:
        if self._now is None or self._now.stage != event.stage:
            _log.info("%s: %s", event.stage, event.message)
        self._now, self._note = event, event.note or self._note
        self._progress.take(event)
        if event.stage == "framewise" and event.preview is not None:
            self._befores.preview(getattr(event, "cell", 0), event)
            self.version += 1

    def _take_cell(self, cell: Cell) -> None:
        self._made.append(cell)
        self._progress.ready(cell.index)
        _log.info("ready: %s, %.1f s", cell.label, cell.seconds["total"])
        self._befores.fill(cell)
        self._cells[cell.index] = _shown(label_of(cell.values), cell)
        self._ready[cell.index] = {**cell.values, "seed": cell.request.seed}
        self.version += 1

    def write(self, state: State, error: Exception | None) -> None:
        """Mark the recommended clip, and write the files of the clips that are ready."""
        with importing():
            from bivdiff.compare.sweep import paper_cell, result_of

        why = sentence(error) if error else ""
        if not self._made:
            self._end_in_history(state, why)
            return
        result = self._result or result_of(self.request, self._axes, self._made)
        self._marks = {"recommended": result.recommended.index, "paper": paper_cell(result.request, result.cells)}
        self.why = result.recommended.why
        self._note = (self._write_files(result, state, why) if self.run_id else NOT_KEPT) or self._note
        if not self.files:
            self.files = self._files_beside(result)
        self._find(result)

    def _find(self, result: SweepResult) -> None:
        """Say which clip is best at what, and what the clips say."""
        with importing():
            from bivdiff.compare.scores import best_below

        names = best_below(result.request, [cell.scores for cell in result.cells])
        best = {cell.index: of_cell for cell, of_cell in zip(result.cells, names, strict=True)}
        self._marks["best"] = [best.get(index, ()) for index in range(len(self._cells))]
        self.findings = findings_html(result, self.files["plot"].read_bytes() if self.files else None)

    def _write_files(self, result: SweepResult, state: State, why: str) -> str:
        """Keep all files in the history; returns why that was not possible, else nothing."""
        with importing():
            from bivdiff.compare.export import export

        try:
            files = export(self._runs.folder(self.run_id), result, self._fps)
            scores, frames = dict(result.best.scores), result.best.frames
            self._runs.finish_comparison(
                self.run_id, result.request, files, scores, frames, state=state, message=why
            )  # fmt: skip
        except BIVDiffError as error:
            self._end_in_history("failed" if state == "done" else state, sentence(error))
            return sentence(error)
        self.files, self._in_history, self._kept = files, True, True
        return ""

    def _files_beside(self, result: SweepResult) -> Mapping[str, Path]:
        """The files where the history could not keep them, for a day; none where they cannot be written here either."""
        with importing():
            from bivdiff.compare.export import export

        folder = upload_folder() / secrets.token_hex(16)
        try:
            return export(folder, result, self._fps)
        except BIVDiffError:
            shutil.rmtree(folder, ignore_errors=True)
            return {}

    def _end_in_history(self, state: State, message: str) -> None:
        self._runs.end(self.run_id, state, message)
        self._in_history = True

    def end(self, state: State, error: Exception | None) -> None:
        """Note how it ended; the clips that are ready stay, and so do their files."""
        self.state = state
        if state == "done" and self._result is not None:
            self.message = f"Done in {self._result.seconds:.1f} s"
            _log.info("done: %d clips, %.1f s", len(self._made), self._result.seconds)
        else:
            self._cells = [replace(cell, pending=False) if cell.pending else cell for cell in self._cells]
            self._befores.end()
            self.message = sentence(error) if error else "Stopped."
            _log.info("%s: %s", state, self.message)
            if not self._in_history:  # writing failed in a way that nobody foresaw
                self._end_in_history(state, self.message)
        self.version += 1

    def shown(self) -> dict[str, Any]:
        """The clips, what can be sent back of them, what they say, and their files."""
        downloads, zipped = film_buttons(self.run_id) if self._kept else [], self.files.get("zip")
        return {
            "player": comparison_value(
                self._cells, self._fps, **self._marks, befores=self._befores.clips, downloads=downloads
            ),
            "made": self.made(), "findings": self.findings,
            "download": gr.update(value=str(zipped) if zipped else None, interactive=bool(zipped)),
        }  # fmt: skip

    def made(self) -> dict[str, Any]:
        """What can be sent back: the values of each finished cell, and where the other settings are kept.

        The player shows `before` clips ahead of the cells.
        """
        return {"run_id": self.run_id, "cells": list(self._ready), "before": len(self._befores.clips)}

    def remaining(self) -> float | None:
        """Seconds until the end; None while it is too early to say."""
        return self._progress.remaining() if self.state == "running" else None

    def panel(self) -> dict[str, Any]:
        """The progress panel's value."""
        stages = stages_of(self.request.task)
        chips = stage_chips(stages, self._shares(list(stages)), self._now.stage if self._now else None)
        if self.state in ("queued", "running"):
            ready = sum(cell is not None for cell in self._ready)
            headline = f"{ready} of {len(self._cells)} clips are ready"
            elapsed = self._clock() - self._asked
            return progress_value("running", chips, headline, self._step(), elapsed, self.remaining())
        if self.state == "done":
            return progress_value("done", chips, self.message, self._note or self._again() or USE)
        state = "failed" if self.state == "failed" else "stopped"
        return progress_value(state, chips, self.message, self._note or (STAYS if self._made else ""))

    def _step(self) -> str:
        """What is being done, and which step of how many."""
        if self._now is None:
            return STARTING
        if self._now.total <= 1:
            return self._now.message
        return f"{self._now.message}: step {self._now.step} of {self._now.total}"

    def _shares(self, stages: Sequence[str]) -> dict[str, float]:
        """How much is done of each stage: of the clip that is being made now, those before the present one are."""
        if self.state == "done":
            return dict.fromkeys(stages, 1.0)
        if self._now is None or self._now.stage not in stages:
            return {}
        before = stages[: stages.index(self._now.stage)]
        return {**dict.fromkeys(before, 1.0), self._now.stage: self._now.step / max(self._now.total, 1)}

    def _again(self) -> str:
        """A sentence on the stages that an earlier run had made."""
        stages = [AGAIN[name] for name in AGAIN if any(name in cell.reused for cell in self._made)]
        return f"Used again from earlier: {', '.join(stages)}." if stages else ""


def with_last_seed(context: AppContext, request: GenerationRequest, owner: str) -> GenerationRequest:
    """The request with a seed: where it has none, that of the owner's last job whose image model made the same frames.

    So the stages of that job are used again, and its clips can be compared with the new ones.
    """
    if request.seed is not None:
        return request
    for job in context.jobs.of(owner):
        earlier = job.board.request
        seeded = replace(request, seed=earlier.seed)
        if same_frames(earlier, seeded):
            return seeded
    return with_seed(request)


class _Befores:
    """The frames before the bridge, as the player shows them ahead of the cells.

    Attributes:
        clips: one for each way in which frames are made.
    """

    def __init__(self, request: GenerationRequest, axes: Mapping[str, Sequence[Any]]) -> None:
        self._of_cell = before_places(axes)
        names = before_names(request.image_model, axes)
        self.clips = [ComparedClip(name, pending=True, tone="image") for name in names]

    def preview(self, cell: int, event: StepEvent) -> None:
        """Show what the frames of a cell are so far."""
        place = self._of_cell[cell]
        if self.clips[place].pending:
            self.clips[place] = ComparedClip(self.clips[place].label, event.preview, pending=True, tone="image")

    def fill(self, cell: Cell) -> None:
        """Show the frames that a finished cell was made of."""
        place = self._of_cell[cell.index]
        if self.clips[place].pending:
            self.clips[place] = _shown(self.clips[place].label, cell, before=True)

    def end(self) -> None:
        """Nothing more will come."""
        self.clips = [replace(clip, pending=False) if clip.pending else clip for clip in self.clips]


def _shown(label: str, cell: Cell, *, before: bool = False) -> ComparedClip:
    """A finished clip, or the frames that it was made of, with what stands below it."""
    with importing():
        from bivdiff.compare.scores import below_a_clip, rest_below

    frames, scores, heat = (
        (cell.framewise_frames, cell.framewise_scores, cell.framewise_heat) if before
        else (cell.frames, cell.scores, cell.heat)
    )  # fmt: skip
    return ComparedClip(
        label, frames, scores=below_a_clip(cell.request, scores), tone="image" if before else "blend",
        rest=rest_below(cell.request, scores, cell.framewise_scores), heat=heat,
    )  # fmt: skip


def findings_html(result: SweepResult, plot: bytes | None) -> str:
    """The recommendation, why, and the curves, as HTML of our own words and numbers; `plot` where they are drawn."""
    with importing():
        from bivdiff.compare.figures import trade_off
        from bivdiff.compare.scores import RULE
        from bivdiff.media.vector import chart, on_any_ground

    return (
        f"<p><strong>{html.escape(result.recommended.why)}</strong></p>"
        f'<details class="bd-words"><summary>Why?</summary><p>{RULE}</p></details>'
        f'<div class="bd-scroll">{on_any_ground(chart(trade_off(result), "svg") if plot is None else plot)}</div>'
    )
