"""The tab "Compare": what the mixing ratio does, or any other setting or two, side by side in one clock."""

from __future__ import annotations

import html
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import gradio as gr

from bivdiff.bridge.inputs import same_frames
from bivdiff.catalog.image_models import IMAGE_MODELS, title_of
from bivdiff.catalog.own import check_allowed
from bivdiff.catalog.tasks import TASKS
from bivdiff.compare.axes import check_axes, label_of, read_values
from bivdiff.errors import BIVDiffError, InputError
from bivdiff.studio.jobs import Job, State
from bivdiff.studio.limits import check_length
from bivdiff.types import Control, GenerationRequest, StepEvent
from tabs import controls as shared
from tabs import following
from tabs.binding import Values, bind
from tabs.boards import (
    NOT_KEPT,
    Visitor,
    begin_job,
    begun,
    panel_of,
    sentence,
    visitor_of,
    waiting_words,
    watch,
    with_seed,
)
from tabs.context import AppContext
from tabs.following import TaskTab
from tabs.queue import queue_value
from tabs.requests import Submission, fill_in, submission_of
from tabs.restoring import controls_to_fill, fill, updates_of
from tabs.widgets.player import ComparedClip, clip_player, comparison_value
from tabs.widgets.progress import progress_panel

if TYPE_CHECKING:
    from bivdiff.compare.sweep import Cell

_log = logging.getLogger(__name__)

NAME = "compare"
TITLE = "Compare"
RATIOS = "0, 0.25, 0.5, 0.75, 1"
ABOUT = (
    "One frame-wise pass and one pair of inversions serve all clips; only the smoothing is run for each. Set a clip up "
    "in its task's tab and press “Compare ratios” there; or start at once, with the first sample. A random seed "
    "stays what it was in your last run of the same frames, whose stages are used again."
)
# A second setting: its key among the request's fields, and what to write for its values.
OTHERS = {
    "": "None",
    "mixing_rule": "Mixing rule: linear, variance_preserving, slerp",
    "smoothing_guidance_scale": "Video guidance: 1, 2, 4",
    "num_smoothing_steps": "Smoothing steps: 10, 20, 40",
    "guidance_scale": "Image guidance: 2, 4, 8",
    "seed": "Seed: 1, 2, 3",
    "video_model": "Video model, by key",
}
USE = "Click a clip to choose it; keys 1 to 9 show one large."
STAYS = "The clips that were ready stay, scored and with their files."
AGAIN = {
    "framewise": "the frames", "image inversion": "the image model's inversion",
    "video inversion": "the video model's inversion",
}  # fmt: skip
STAGES = {"load": "Load", "framewise": "Frame by frame", "inversion": "Inversion", "smoothing": "Smoothing"}


class Pending(NamedTuple):
    """What is to be compared: a task's job."""

    task: str
    job: Submission


class View(NamedTuple):
    """What a comparison shows, in the order of the event's outputs; `gr.skip()` leaves a part as it is."""

    panel: Any = gr.skip()
    player: Any = gr.skip()
    findings: Any = gr.skip()
    download: Any = gr.skip()
    made: Any = gr.skip()
    stop: Any = gr.skip()
    queue: Any = gr.skip()


def build(context: AppContext, tabs: gr.Tabs, task_tabs: Sequence[TaskTab], page: following.PageParts) -> None:
    """Lay the tab out and connect it with the tabs of the tasks. Call it inside a `gr.Tab` of the page."""
    pending, made = gr.State(None), gr.State(None)
    with shared.columns(), shared.card():
        shared.heading(1, "What to compare")
        shared.remark(ABOUT)
        summary = gr.HTML(say_pending(context, None), elem_id=f"{NAME}-summary", apply_default_css=False)
        ratios = gr.Textbox(
            RATIOS, label="Mixing ratios", info="Between commas, each from 0 to 1; leave empty to keep the tab's",
            elem_id=f"{NAME}-ratios",
        )  # fmt: skip
        with shared.fields():
            other = gr.Dropdown(
                [(label, name) for name, label in OTHERS.items()], value="", label="A second setting",
                info="Two settings make a grid", elem_id=f"{NAME}-other",
            )  # fmt: skip
            values = gr.Textbox("", label="Its values", info="Between commas", elem_id=f"{NAME}-values")
        with gr.Row(elem_classes="bd-run"):
            start = gr.Button("Compare", variant="primary", size="lg", scale=3, elem_id=f"{NAME}-start")
            stop = gr.Button("Cancel", size="lg", scale=1, interactive=False, elem_id=f"{NAME}-cancel", min_width=96)
        panel = progress_panel(idle(), elem_id=f"{NAME}-progress", elem_classes="bd-panel")
    with gr.Column(elem_classes="bd-card bd-result", elem_id=f"{NAME}-result"):
        shared.heading(2, "Side by side, in one clock")
        first = [ComparedClip(f"ratio {ratio.strip()}", note="Not made yet") for ratio in RATIOS.split(",")]
        player = clip_player(comparison_value(first, 8), "choice", elem_id=f"{NAME}-player")
        with gr.Row(elem_classes="bd-asides"):
            send = gr.Button("Use the chosen one", size="sm", elem_id=f"{NAME}-use", min_width=160)
            download = gr.DownloadButton(
                "Everything in a zip", size="sm", interactive=False, elem_id=f"{NAME}-zip", min_width=160
            )
        findings = gr.HTML("", elem_id=f"{NAME}-findings", elem_classes="bd-findings", apply_default_css=False)
    _wire(context, task_tabs, [pending, summary, ratios, tabs])
    given = [pending, ratios, other, values, page.visitor]
    shown = [panel, player, findings, download, made, stop, page.queue]
    start.click(
        partial(compare, context), given, shown, api_name=NAME, trigger_mode="multiple", **following.WATCHING,
        js=following.SHOW_RESULT % (NAME, given.index(page.visitor)),
    )  # fmt: skip
    stop.click(partial(following.cancel, context, NAME), page.visitor, None, queue=False, api_name=f"{NAME}_stop")
    page.visitor.change(
        partial(resume, context), page.visitor, shown, api_visibility="private", **following.WATCHING
    )  # fmt: skip
    _wire_back(context, tabs, task_tabs, send, [player, made, page.visitor])


def _wire(context: AppContext, task_tabs: Sequence[TaskTab], outputs: Sequence[Any]) -> None:
    for tab in task_tabs:
        tab.compare.click(
            bind(partial(take_over, context, tab), tab.controls), list(tab.controls.values()), list(outputs),
            show_progress="hidden", api_name=f"{tab.task}_compare", concurrency_id="preview",
        )  # fmt: skip


def _wire_back(
    context: AppContext, tabs: gr.Tabs, task_tabs: Sequence[TaskTab], send: gr.Button, given: Sequence[Any]
) -> None:
    """Let the chosen cell's settings go back to the tab of its task."""
    send.click(
        partial(send_back, context, task_tabs), given, [tabs, *controls_to_fill(task_tabs)], show_progress="hidden",
        api_visibility="private",
    )  # fmt: skip


# What comes from a task's tab, and what goes back


def take_over(context: AppContext, tab: TaskTab, values: Values) -> tuple[Any, ...]:
    """Take a tab's settings for the next comparison, the tab's ratio and the paper's among its own, and show this tab.

    Raises:
        gr.Error: they cannot be used.
    """
    try:
        pending = Pending(tab.task, tab.read(context, values))
    except BIVDiffError as error:
        raise gr.Error(sentence(error), print_exception=False) from None
    request = pending.job.request
    ratios = {*map(float, RATIOS.split(",")), request.mixing_ratio, IMAGE_MODELS[request.image_model].paper_ratio}
    told = ", ".join(f"{ratio:g}" for ratio in sorted(ratios))
    return pending, say_pending(context, pending), told, gr.update(selected=NAME)


def say_pending(context: AppContext, pending: Pending | None) -> str:
    """What will be compared, as a line of HTML."""
    if pending is None:
        task = TASKS[next(iter(TASKS))]
        what, words = f"{task.title}, {title_of(task.image_models[0])}, the first sample", context.samples[0].prompt
    else:
        request = pending.job.request
        what = f"{TASKS[pending.task].title}, {title_of(request.image_model)}, {len(request.frames)} frames"
        words = request.prompt or request.video_prompt or "no prompt"
    return f'<p class="bd-pending"><strong>{what}</strong>: <q>{html.escape(words)}</q></p>'


def _first(context: AppContext) -> Pending:
    """The first task with its defaults on the first sample, where nothing has come from a tab."""
    task = next(iter(TASKS))
    values = {"sample": 0, "prompt": context.samples[0].prompt, "random_seed": True}
    return Pending(task, submission_of(fill_in(context, task, values, controls=(Control(),)), values))


def send_back(
    context: AppContext, task_tabs: Sequence[TaskTab], shown: Mapping[str, Any], made: Any, visitor: str
) -> list[Any]:
    """The tab of the chosen cell's task, and for its controls all settings of that cell, pictures included.

    Raises:
        gr.Error: nothing was made, nothing is chosen, or the history has lost the comparison.
    """
    chosen = (shown or {}).get("chosen")
    if not made:
        raise gr.Error("There is nothing to use yet. Press “Compare” first.", print_exception=False)
    if chosen is None or not 0 <= chosen < len(made["cells"]) or made["cells"][chosen] is None:
        raise gr.Error("No clip is chosen. Click the one that you want to use.", print_exception=False)
    values = made["cells"][chosen]
    try:
        run = context.runs.get(made["run_id"], visitor_of(visitor).owner)
    except BIVDiffError as error:
        raise gr.Error(sentence(error), print_exception=False) from None
    cell = replace(run, settings={**run.settings, **values}, seed=values["seed"])
    tab = next(tab for tab in task_tabs if tab.task == run.task)
    updates, unshown = updates_of(context, tab, cell)
    if unshown:
        gr.Warning(f"The tab cannot show all of it: {'; '.join(unshown)}.", duration=12)
    return fill(task_tabs, tab, updates)


# The comparison


def axes_of(ratios: str, other: str, values: str) -> dict[str, list[Any]]:
    """The settings to compare with their values, from what is written on the page.

    Raises:
        InputError: it cannot be read.
    """
    axes = {"mixing_ratio": read_values("mixing_ratio", ratios)} if (ratios or "").strip() else {}
    if other:
        if other not in OTHERS:
            raise InputError(f"Unknown setting '{other}'. Choose one of: {', '.join(name for name in OTHERS if name)}.")
        axes[other] = read_values(other, values or "")
    return axes


def compare(
    context: AppContext, pending: Pending | None, ratios: str, other: str, values: str, visitor: str = ""
) -> Iterator[View]:
    """Make a clip for each value, and show it when it is ready. Whoever leaves the page leaves the comparison as it is.

    Yields:
        What to show, step by step.
    """
    who = visitor_of(visitor)
    try:
        axes = axes_of(ratios, other, values)
        submit(context, pending or _first(context), axes, who.owner)
    except BIVDiffError as error:
        told = sentence(error)
        gr.Warning(told, duration=12)
        yield View({**idle(), "state": "failed", "headline": told})
        return
    yield from followed(context, who)


def submit(context: AppContext, pending: Pending, axes: Mapping[str, Sequence[Any]], owner: str) -> Job:
    """Give a comparison to the queue.

    Raises:
        InputError: a value is out of range, too many wait, or the owner does not allow what is asked for.
    """
    check_allowed(pending.job.request, context.settings)  # now, and not when its turn has come
    check_length(pending.job.request, context.settings)
    check_axes(pending.job.request, axes)
    job = pending.job._replace(request=with_last_seed(context, pending.job.request, owner))
    title = f"Comparison, {TASKS[pending.task].title.lower()}: {job.request.prompt or job.request.video_prompt}"
    return begin_job(
        context, owner, lambda: Board(context, pending._replace(job=job), axes, owner),
        lambda _: context.sweep(job.request, axes, job.to_fit), place=following.place_of(context, NAME), title=title,
    )  # fmt: skip


def with_last_seed(context: AppContext, request: GenerationRequest, owner: str) -> GenerationRequest:
    """The request with a seed: where it has none, that of the owner's last job whose image model made the same frames.

    So the stages of that job are used again, and its clips can be compared with the new ones.
    """
    for job in context.jobs.of(owner) if request.seed is None else ():
        earlier = job.board.request
        seeded = replace(request, seed=earlier.seed)
        if same_frames(earlier, seeded):
            return seeded
    return with_seed(request)


def resume(context: AppContext, visitor: str) -> Iterator[View]:
    """Show the visitor's running or last comparison again."""
    who = visitor_of(visitor)
    yield View(queue=queue_value(context, who))  # there may be nothing to follow
    yield from followed(context, who)


def followed(context: AppContext, visitor: Visitor) -> Iterator[View]:
    """Views of the visitor's comparisons until none of them waits any more."""
    drawn: Any = None
    for job in watch(context, visitor, following.place_of(context, NAME)):
        board, panel = job.board, panel_of(context, job)
        if job.state == "queued":
            panel["headline"] = waiting_words(context, job)
        elif job.stopping and job.waits:
            panel["headline"] = "Stopping after this step"
        elif job.state == "failed":
            gr.Warning(board.told, duration=12)
        view = View(panel, stop=gr.update(interactive=job.waits), queue=queue_value(context, visitor))
        if drawn != (mark := (job.id, board.version)):
            drawn = mark
            view = view._replace(
                player=board.value(), made=board.made(), findings=board.findings,
                download=gr.update(value=str(board.zip) if board.zip else None, interactive=bool(board.zip)),
            )  # fmt: skip
        yield view


def idle() -> dict[str, Any]:
    """The progress panel before the first comparison."""
    chips = [{"key": key, "label": label, "percent": 0, "state": "todo"} for key, label in STAGES.items()]
    return {"state": "idle", "stages": chips, "headline": "", "detail": "", "elapsed": None, "remaining": None}


class Board:
    """The clips of a comparison as they come, and how far it is.

    Attributes:
        version: grows whenever a clip is ready.
        request: what is compared, but for the values.
        findings: what the clips say, as HTML; zip: all files, once they are written.
        told: the sentence on how it ended.
    """

    def __init__(
        self, context: AppContext, pending: Pending, axes: Mapping[str, Sequence[Any]], owner: str
    ) -> None:  # fmt: skip
        self._pending, self._runs = pending, context.runs
        job = pending.job
        self.request = job.request
        self.run_id = begun(context, job.request, job.fps, owner, kind="comparison", axes=axes)
        self._values = [dict(zip(axes, cell, strict=True)) for cell in product(*axes.values())] or [{}]
        self._cells = [ComparedClip(label_of(values), pending=True) for values in self._values]
        self._ready: list[Mapping[str, Any] | None] = [None] * len(self._cells)
        self._axes, self._seconds = axes, 0.0
        self._made: list[Cell] = []
        self._began = self._last = time.monotonic()
        self._now: StepEvent | None = None
        self._note, self.told, self.findings = "", "", ""
        self._marks: dict[str, int | None] = {}
        self.zip: Path | None = None
        self.state: State = "queued"
        self.version = 0

    def take(self, update: Any) -> bool:
        """Note an event, a finished clip, or the end of it all."""
        if self.state == "queued":
            self.state, self._began = "running", time.monotonic()
            self._runs.started(self.run_id)
        if isinstance(update, StepEvent):
            if self._now is None or self._now.stage != update.stage:
                _log.info("%s: %s", update.stage, update.message)
            self._now, self._note = update, update.note or self._note
        elif hasattr(update, "axes"):
            self._seconds = update.seconds
            self._keep(update, "done", "")
            return True
        else:
            self._made.append(update)
            self._last = time.monotonic()
            _log.info("ready: %s, %.1f s", update.label, update.seconds["total"])
            self._cells[update.index] = ComparedClip(
                label_of(update.values), update.frames, scores=_named(update.scores)
            )
            self._ready[update.index] = {**update.values, "seed": update.request.seed}
            self.version += 1
        return False

    def _keep(self, result: Any, state: State, why: str) -> None:
        """The recommended clip is marked, and all of it can be taken along."""
        from bivdiff.compare.sweep import paper_cell

        self._marks = {"recommended": result.recommended.index, "paper": paper_cell(result.request, result.cells)}
        self.findings = _findings(result)
        if self.run_id:
            self._note = self._write(result, state, why) or self._note
        else:
            self._note = NOT_KEPT
        self.version += 1  # at last, or who follows would not see the files

    def _write(self, result: Any, state: State, why: str) -> str:
        """Keep all files in the history; returns why that was not possible, else nothing."""
        from bivdiff.compare.export import export

        try:
            files = export(self._runs.folder(self.run_id), result, self._pending.job.fps)
            self.zip = files["zip"]
            scores, frames = dict(result.best.scores), result.best.frames
            self._runs.finish_comparison(
                self.run_id, result.request, files, scores, frames, state=state, message=why
            )  # fmt: skip
        except BIVDiffError as error:
            self._runs.end(self.run_id, "failed" if state == "done" else state, sentence(error))
            return sentence(error)
        return ""

    def end(self, state: State, error: Exception | None) -> None:
        """Note how it ended; the clips that are ready stay, and so do their files."""
        self.state = state
        if state == "done":
            self.told = f"Done in {self._seconds:.1f} s"
            _log.info("done: %d clips, %.1f s", len(self._made), self._seconds)
            return
        self._cells = [replace(cell, pending=False) if cell.pending else cell for cell in self._cells]
        why = sentence(error) if error else ""
        self.told = why or "Stopped."
        _log.info("%s: %s", state, self.told)
        self.version += 1
        if self._made:
            from bivdiff.compare.sweep import result_of

            self._keep(result_of(self.request, self._axes, self._made), state, why)
        else:
            self._runs.end(self.run_id, state, why)

    def value(self) -> dict[str, Any]:
        """The player's value."""
        return comparison_value(self._cells, self._pending.job.fps, **self._marks)

    def made(self) -> dict[str, Any]:
        """What can be sent back: the values of each finished cell, and where the other settings are kept."""
        return {"run_id": self.run_id, "cells": list(self._ready)}

    def remaining(self) -> float | None:
        """Seconds until the end; None until two clips have told how long one takes whose stages are there."""
        if self.state != "running" or len(self._made) < 2:
            return None
        usual = sum(cell.seconds["total"] for cell in self._made[1:]) / (len(self._made) - 1)
        spent = time.monotonic() - self._last
        return max(usual * (len(self._cells) - len(self._made)) - spent, 0.0)

    def panel(self) -> dict[str, Any]:
        """The progress panel's value."""
        ready = sum(cell is not None for cell in self._ready)
        stage = self._now.stage if self._now else "load"
        at = list(STAGES).index(stage) if stage in STAGES else 0
        share = self._now.step / max(self._now.total, 1) if self._now else 0
        chips = [
            {
                "key": key, "label": label,
                "percent": 100 if number < at else round(100 * share) if number == at else 0,
                "state": "done" if number < at else "active" if number == at else "todo",
            }
            for number, (key, label) in enumerate(STAGES.items())
        ]  # fmt: skip
        left = self._note or (STAYS if self._made else "")
        running = f"{ready} of {len(self._cells)} clips are ready", self._now.message if self._now else ""
        state, headline, detail = {
            "done": ("done", self.told, self._note or self._again() or USE),
            "failed": ("failed", self.told, left),
            "cancelled": ("stopped", self.told, left),
        }.get(self.state, ("running", *running))
        return {
            "state": state, "stages": chips, "headline": headline, "detail": detail,
            "elapsed": time.monotonic() - self._began if state == "running" else None, "remaining": self.remaining(),
        }  # fmt: skip

    def _again(self) -> str:
        """A sentence on the stages that an earlier run had made."""
        stages = [AGAIN[name] for name in AGAIN if any(name in cell.reused for cell in self._made)]
        return f"Used again from earlier: {', '.join(stages)}." if stages else ""


def _named(scores: Mapping[str, float]) -> dict[str, float]:
    from bivdiff.compare.scores import SHORT_TITLES

    return {label: scores[name] for name, label in SHORT_TITLES.items() if name in scores}


def _findings(result: Any) -> str:
    """The recommendation, its rule and the curves, as HTML of our own words and numbers."""
    from bivdiff.compare.figures import trade_off_svg
    from bivdiff.compare.scores import RULE

    return (
        f'<p><strong>{result.recommended.why}</strong></p><p class="bd-quiet">{RULE}</p>'
        f'<div class="bd-scroll">{trade_off_svg(result)}</div>'
    )
