"""The tab "Compare": what the mixing ratio does, or any other setting or two, side by side in one clock."""

from __future__ import annotations

import html
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import gradio as gr

from bivdiff.bridge.inputs import same_frames
from bivdiff.catalog.families import family_named
from bivdiff.catalog.image_models import IMAGE_MODELS, title_of
from bivdiff.catalog.requests import with_seed
from bivdiff.catalog.tasks import TASKS
from bivdiff.compare.axes import check_axes, label_of, read_values
from bivdiff.errors import BIVDiffError, InputError
from bivdiff.fields import table
from bivdiff.late import importing
from bivdiff.studio.jobs import Job, State
from bivdiff.types import Control, GenerationRequest, StepEvent
from tabs import controls as shared
from tabs.binding import Values, bind
from tabs.boards import NOT_KEPT, begin_in_history
from tabs.context import AppContext
from tabs.examples import comparison_example
from tabs.failures import refusal, sentence, warn
from tabs.following import WATCHING, Place, cancel, enqueue, resume, submit_and_follow
from tabs.progress import idle_panel, stages_of
from tabs.requests import Submission, fill_in, submission_of
from tabs.restoring import controls_to_fill, fill, updates_of
from tabs.task_tab import SHOW_RESULT, PageParts, TaskTab
from tabs.visitors import visitor_of
from tabs.widgets.player import ComparedClip, clip_player, comparison_value
from tabs.widgets.progress import progress_panel, progress_value, stage_chips

if TYPE_CHECKING:
    from bivdiff.compare.sweep import Cell as SweepCell
    from bivdiff.compare.sweep import SweepResult

_log = logging.getLogger(__name__)

NAME = "compare"
TITLE = "Compare"
RATIOS = "0, 0.25, 0.5, 0.75, 1"
ABOUT = (
    "One frame-wise pass and one pair of inversions serve all clips; only the smoothing is run for each. Set a clip up "
    "in its task's tab and press “Compare ratios” there; or start at once, with the first sample. A random seed "
    "stays what it was in your last run of the same frames, whose stages are used again."
)
# A second setting: its key among the request's fields, and the numbers that are offered; of choices all are.
OTHERS: Mapping[str, Sequence[float]] = {
    "frame_prior": (), "mixing_rule": (), "start_level": (0.4, 0.6, 0.8, 1), "frame_attention": (),
    "smoothing_guidance_scale": (1, 2, 4), "num_smoothing_steps": (10, 20, 40), "guidance_scale": (2, 4, 8),
    "seed": (1, 2, 3), "video_model": (),
}  # fmt: skip
USE = "Click a clip to choose it; keys 1 to 9 show one large."
STAYS = "The clips that were ready stay, scored and with their files."
AGAIN = {
    "framewise": "the frames", "image inversion": "the image model's inversion",
    "frame inversion": "the video model's inversion of single frames", "video inversion": "the video model's inversion",
}  # fmt: skip


class Pending(NamedTuple):
    """What is to be compared: a submission of a task's tab."""

    task: str
    submission: Submission


class ComparisonView(NamedTuple):
    """What a comparison shows, in the order of the event's outputs; `gr.skip()` leaves a part as it is."""

    panel: Any = gr.skip()
    player: Any = gr.skip()
    findings: Any = gr.skip()
    download: Any = gr.skip()
    made: Any = gr.skip()
    stop: Any = gr.skip()
    queue: Any = gr.skip()


PLACE = Place(NAME, ComparisonView, partial(idle_panel, next(iter(TASKS))))


def build(context: AppContext, tabs: gr.Tabs, task_tabs: Sequence[TaskTab], page: PageParts) -> None:
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
                [("None", ""), *((table(GenerationRequest)[name].label, name) for name in OTHERS)], value="",
                label="A second setting", info="Two settings make a grid", elem_id=f"{NAME}-other", min_width=180,
            )  # fmt: skip
            # All there are while it is hidden, so that clients are told them.
            every = dict.fromkeys(choice for name in OTHERS for choice in _choices_of(context, name))
            values = gr.Dropdown(
                list(every), value=[], multiselect=True, allow_custom_value=True, label="Its values",
                info="Choose, or write a number and press Enter", elem_id=f"{NAME}-values", min_width=180,
                visible=False,
            )  # fmt: skip
            other.input(
                partial(offer_values, context), other, values, show_progress="hidden", queue=False,
                api_visibility="private",
            )  # fmt: skip
        with gr.Row(elem_classes="bd-run"):
            start = gr.Button("Compare", variant="primary", size="lg", scale=3, elem_id=f"{NAME}-start")
            stop = gr.Button("Cancel", size="lg", scale=1, interactive=False, elem_id=f"{NAME}-cancel", min_width=96)
        panel = progress_panel(PLACE.idle(), elem_id=f"{NAME}-progress", elem_classes="bd-panel")
    with gr.Column(elem_classes="bd-card bd-result", elem_id=f"{NAME}-result"):
        shared.heading(2, "Side by side, in one clock")
        empty = [ComparedClip(f"ratio {ratio.strip()}", note="Not made yet") for ratio in RATIOS.split(",")]
        example, what_to_see = comparison_example(context.family)
        player = clip_player(example or comparison_value(empty, 8), "choice", elem_id=f"{NAME}-player")
        with gr.Row(elem_classes="bd-asides"):
            send = gr.Button("Use the chosen one", size="sm", elem_id=f"{NAME}-use", min_width=160)
            download = gr.DownloadButton(
                "Everything in a zip", size="sm", interactive=False, elem_id=f"{NAME}-zip", min_width=160
            )
        findings = gr.HTML(what_to_see, elem_id=f"{NAME}-findings", elem_classes="bd-findings", apply_default_css=False)
    _wire(context, task_tabs, [pending, summary, ratios, tabs])
    given = [pending, ratios, other, values, page.visitor]
    shown = [panel, player, findings, download, made, stop, page.queue]
    start.click(
        partial(compare, context), given, shown, api_name=NAME, trigger_mode="multiple", **WATCHING,
        js=SHOW_RESULT % (NAME, given.index(page.visitor)),
    )  # fmt: skip
    stop.click(partial(cancel, context, PLACE), page.visitor, None, queue=False, api_name=f"{NAME}_stop")
    page.visitor.change(
        partial(resume, context, PLACE), page.visitor, shown, api_visibility="private", **WATCHING
    )  # fmt: skip
    _wire_back(context, tabs, task_tabs, send, [player, made, page.visitor])


def _wire(context: AppContext, task_tabs: Sequence[TaskTab], outputs: Sequence[Any]) -> None:
    for tab in task_tabs:
        taken = tab.compare.click(
            bind(partial(take_over, context, tab), tab.controls), list(tab.controls.values()), list(outputs),
            show_progress="hidden", api_name=f"{tab.task}_compare", concurrency_id="preview",
        )  # fmt: skip
        taken.success(None, js=f'() => window.bdReveal("{NAME}-summary")', api_visibility="private")


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
        raise refusal(sentence(error)) from None
    request = pending.submission.request
    ratios = {*map(float, RATIOS.split(",")), request.mixing_ratio, IMAGE_MODELS[request.image_model].paper_ratio}
    told = ", ".join(f"{ratio:g}" for ratio in sorted(ratios))
    return pending, say_pending(context, pending), told, gr.update(selected=NAME)


def say_pending(context: AppContext, pending: Pending | None) -> str:
    """What will be compared, as a line of HTML."""
    if pending is None:
        task = TASKS[next(iter(TASKS))]
        what, words = f"{task.title}, {title_of(task.image_models[0])}, the first sample", context.samples[0].prompt
    else:
        request = pending.submission.request
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
        raise refusal("There is nothing to use yet. Press “Compare” first.")
    if chosen is None or not 0 <= chosen < len(made["cells"]) or made["cells"][chosen] is None:
        raise refusal("No clip is chosen. Click the one that you want to use.")
    values = made["cells"][chosen]
    try:
        run = context.runs.get(made["run_id"], visitor_of(visitor).owner)
    except BIVDiffError as error:
        raise refusal(sentence(error)) from None
    cell = replace(run, settings={**run.settings, **values}, seed=values["seed"])
    tab = next(tab for tab in task_tabs if tab.task == run.task)
    updates, unshown = updates_of(context, tab, cell)
    if unshown:
        warn(f"The tab cannot show all of it: {'; '.join(unshown)}.")
    return fill(task_tabs, tab, updates)


# The comparison


def offer_values(context: AppContext, other: str) -> Any:
    """The values of a second setting to choose from, in words, and all of them chosen; hidden where there is none."""
    if other not in OTHERS:
        return gr.update(visible=False, choices=[], value=[])
    choices, written = _choices_of(context, other), table(GenerationRequest)[other].kind == "number"
    info = "Choose, or write a number and press Enter" if written else "Take away what you do not want"
    return gr.update(visible=True, choices=choices, value=[key for _, key in choices], info=info)


def _choices_of(context: AppContext, other: str) -> list[tuple[str, str]]:
    """The values that are offered of a second setting, each in words and as it is sent."""
    if other == "video_model":
        return [(shared.VIDEO_LABELS.get(name, name), name) for name in family_named(context.family).video_models]
    known = table(GenerationRequest)[other].choices or {}
    numbers = [(f"{number:g}", f"{number:g}") for number in OTHERS[other]]
    return [(label, key) for key, label in known.items()] or numbers


def axes_of(ratios: str, other: str, values: str | Sequence[Any]) -> dict[str, list[Any]]:
    """The settings to compare with their values, from what the page has or a client sends.

    Args:
        ratios: numbers between commas; empty where the ratio is not compared.
        other: key of `OTHERS`; empty where there is no second setting.
        values: of that setting: keys or numbers, in a list or between commas.

    Raises:
        InputError: it cannot be read.
    """
    axes = {"mixing_ratio": read_values("mixing_ratio", ratios)} if (ratios or "").strip() else {}
    if other:
        if other not in OTHERS:
            raise InputError(f"Unknown setting '{other}'. Choose one of: {', '.join(OTHERS)}.")
        written = values if isinstance(values, str) else ",".join(str(value) for value in values or ())
        axes[other] = read_values(other, written)
    return axes


def compare(
    context: AppContext,
    pending: Pending | None,
    ratios: str,
    other: str,
    values: str | Sequence[Any],
    visitor: str = "",
) -> Iterator[ComparisonView]:
    """Make a clip for each value, and show it when it is ready. Whoever leaves the page leaves the comparison as it is.

    Yields:
        What to show, step by step.
    """

    def submitted(owner: str) -> Job[ComparisonBoard]:
        return submit(context, pending or _first(context), axes_of(ratios, other, values), owner)

    yield from submit_and_follow(context, PLACE, submitted, visitor)


def submit(
    context: AppContext, pending: Pending, axes: Mapping[str, Sequence[Any]], owner: str
) -> Job[ComparisonBoard]:
    """Give a comparison to the queue.

    Raises:
        InputError: a value is out of range, too many wait, or the owner does not allow what is asked for.
    """
    check_axes(pending.submission.request, axes)
    submission = pending.submission._replace(request=with_last_seed(context, pending.submission.request, owner))
    request = submission.request
    return enqueue(
        context, PLACE, lambda: ComparisonBoard(context, submission, axes, owner),
        lambda board: context.sweep(board.request, axes, submission.to_fit), request=request, owner=owner,
        title=f"Comparison, {TASKS[pending.task].title.lower()}: {request.prompt or request.video_prompt}",
    )  # fmt: skip


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


class ComparisonBoard:
    """The clips of a comparison as they come, and how far it is.

    Attributes:
        version: grows whenever a clip is ready, and at the end.
        request: what is compared, but for the values.
        findings: what the clips say, as HTML; zip: all files, once they are written.
        message: the sentence on how it ended.
    """

    def __init__(
        self, context: AppContext, submission: Submission, axes: Mapping[str, Sequence[Any]], owner: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self._runs, self._fps, self.request = context.runs, submission.fps, submission.request
        self.run_id = begin_in_history(context, self.request, self._fps, owner, kind="comparison", axes=axes)
        values = [dict(zip(axes, cell, strict=True)) for cell in product(*axes.values())] or [{}]
        self._cells = [ComparedClip(label_of(each), pending=True) for each in values]
        self._ready: list[Mapping[str, Any] | None] = [None] * len(self._cells)
        self._axes = axes
        self._made: list[SweepCell] = []
        self._result: SweepResult | None = None
        self._clock, self._asked = clock, clock()
        self._last = self._asked
        self._now: StepEvent | None = None
        self._note, self.message, self.findings = "", "", ""
        self._marks: dict[str, int | None] = {}
        self._in_history = False
        self.zip: Path | None = None
        self.state: State = "queued"
        self.version = 0

    def take(self, update: StepEvent | SweepCell | SweepResult) -> bool:
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

    def _take_cell(self, cell: SweepCell) -> None:
        self._made.append(cell)
        self._last = self._clock()
        _log.info("ready: %s, %.1f s", cell.label, cell.seconds["total"])
        self._cells[cell.index] = ComparedClip(label_of(cell.values), cell.frames, scores=_below(cell))
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
        self.findings = _findings(result)
        self._note = (self._write_files(result, state, why) if self.run_id else NOT_KEPT) or self._note

    def _write_files(self, result: SweepResult, state: State, why: str) -> str:
        """Keep all files in the history; returns why that was not possible, else nothing."""
        with importing():
            from bivdiff.compare.export import export

        try:
            files = export(self._runs.folder(self.run_id), result, self._fps)
            self.zip = files["zip"]
            scores, frames = dict(result.best.scores), result.best.frames
            self._runs.finish_comparison(
                self.run_id, result.request, files, scores, frames, state=state, message=why
            )  # fmt: skip
        except BIVDiffError as error:
            self._end_in_history("failed" if state == "done" else state, sentence(error))
            return sentence(error)
        self._in_history = True
        return ""

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
            self.message = sentence(error) if error else "Stopped."
            _log.info("%s: %s", state, self.message)
            if not self._in_history:  # writing failed in a way that nobody foresaw
                self._end_in_history(state, self.message)
        self.version += 1

    def shown(self) -> dict[str, Any]:
        """The clips, what can be sent back of them, what they say, and their files."""
        return {
            "player": comparison_value(self._cells, self._fps, **self._marks), "made": self.made(),
            "findings": self.findings,
            "download": gr.update(value=str(self.zip) if self.zip else None, interactive=bool(self.zip)),
        }  # fmt: skip

    def made(self) -> dict[str, Any]:
        """What can be sent back: the values of each finished cell, and where the other settings are kept."""
        return {"run_id": self.run_id, "cells": list(self._ready)}

    def remaining(self) -> float | None:
        """Seconds until the end; None until two clips have told how long one takes whose stages are there."""
        if self.state != "running" or len(self._made) < 2:
            return None
        usual = sum(cell.seconds["total"] for cell in self._made[1:]) / (len(self._made) - 1)
        spent = self._clock() - self._last
        return max(usual * (len(self._cells) - len(self._made)) - spent, 0.0)

    def panel(self) -> dict[str, Any]:
        """The progress panel's value."""
        stages = stages_of(self.request.task)
        chips = stage_chips(stages, self._shares(list(stages)), self._now.stage if self._now else None)
        if self.state in ("queued", "running"):
            ready = sum(cell is not None for cell in self._ready)
            headline = f"{ready} of {len(self._cells)} clips are ready"
            detail, elapsed = self._now.message if self._now else "", self._clock() - self._asked
            return progress_value("running", chips, headline, detail, elapsed, self.remaining())
        if self.state == "done":
            return progress_value("done", chips, self.message, self._note or self._again() or USE)
        state = "failed" if self.state == "failed" else "stopped"
        return progress_value(state, chips, self.message, self._note or (STAYS if self._made else ""))

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


def _below(cell: SweepCell) -> dict[str, float | str | None]:
    with importing():
        from bivdiff.compare.scores import below_a_clip

    return below_a_clip(cell.request, cell.scores, cell.framewise_scores)


def _findings(result: Any) -> str:
    """The recommendation, its rule and the curves, as HTML of our own words and numbers."""
    with importing():
        from bivdiff.compare.figures import trade_off_svg
        from bivdiff.compare.scores import RULE

    return (
        f'<p><strong>{result.recommended.why}</strong></p><p class="bd-quiet">{RULE}</p>'
        f'<div class="bd-scroll">{trade_off_svg(result)}</div>'
    )
