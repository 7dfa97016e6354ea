"""A run of a task on the page: given to the queue, followed while it is made, taken up again, stopped."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import gradio as gr

from bivdiff.catalog.own import check_allowed
from bivdiff.catalog.tasks import TASKS
from bivdiff.errors import InputError
from bivdiff.studio.jobs import Job
from bivdiff.studio.limits import check_length
from tabs.binding import Values, bind
from tabs.boards import RunBoard, Visitor, begin_job, panel_of, sentence, visitor_of, waiting_words, watch
from tabs.context import AppContext
from tabs.controls import Controls, RunControls, heading
from tabs.examples import example_player
from tabs.films import wire_films
from tabs.queue import queue_value
from tabs.requests import ReadJob, Submission
from tabs.results import record_of
from tabs.running import HEARTBEAT, idle_panel
from tabs.widgets.player import clip_player

# Runs in the browser before a run starts: the result may be out of sight, and the page not yet told who uses it.
SHOW_RESULT = '(...values) => window.bdShowProgress("%s", %d, values)'
# Many may watch their jobs at a time; what they watch is done one after the other.
WATCHING: dict[str, Any] = {"concurrency_id": "watch", "concurrency_limit": 32, "show_progress": "hidden"}


class PageParts(NamedTuple):
    """What every tab of a page has to do with: the visitor's token, and the strip of the visitor's jobs."""

    visitor: gr.Textbox
    queue: gr.HTML


class TaskTab(NamedTuple):
    """A task's tab, once it is laid out: what another tab needs to take over its settings, or to send some back."""

    task: str
    read: ReadJob
    controls: Controls
    compare: gr.Button


class View(NamedTuple):
    """What a run shows on the page, in the order of the event's outputs; `gr.skip()` leaves a part as it is."""

    panel: Any = gr.skip()
    player: Any = gr.skip()
    seed: Any = gr.skip()
    stop: Any = gr.skip()
    queue: Any = gr.skip()


def place_of(context: AppContext, name: str) -> str:
    """Where the jobs of a tab belong: each family's page has its own."""
    return f"{context.family}/{name}"


def submit(context: AppContext, task: str, submission: Submission, owner: str) -> Job:
    """Give a run to the queue.

    Raises:
        InputError: too many wait, or the owner does not allow what is asked for.
    """
    check_allowed(submission.request, context.settings)  # now, and not when its turn has come
    check_length(submission.request, context.settings)
    title = f"{TASKS[task].title}: {submission.request.prompt or submission.request.video_prompt}"
    return begin_job(
        context, owner, lambda: RunBoard(context, submission.request, submission.fps, owner),
        lambda board: context.run(board.request, submission.to_fit), place=place_of(context, task), title=title,
    )  # fmt: skip


def generate(context: AppContext, read: ReadJob, task: str, values: Values) -> Iterator[View]:
    """Give a run to the queue and show how far it is. Whoever leaves the page leaves the run as it is.

    Args:
        context: gives the run.
        read: makes a job of the values.
        task: key of the catalog's tasks.
        values: of all controls.

    Yields:
        What to show, step by step.
    """
    visitor = visitor_of(values.get("visitor"))
    try:
        submit(context, task, read(context, values), visitor.owner)
    except Exception as error:  # noqa: BLE001 - `sentence` logs what is not meant for users
        yield View(_failed(idle_panel(task), error))
        return
    yield from followed(context, task, visitor)


def resume(context: AppContext, task: str, visitor: str) -> Iterator[View]:
    """Show the visitor's running or last job of a tab again: after a reload, in another window."""
    who = visitor_of(visitor)
    yield View(queue=queue_value(context, who))  # there may be nothing to follow
    yield from followed(context, task, who)


def followed(context: AppContext, task: str, visitor: Visitor) -> Iterator[View]:
    """Views of the jobs of a tab until none of them waits any more."""
    drawn: Any = None
    for job in watch(context, visitor, place_of(context, task)):
        board, ended = job.board, not job.waits
        mark, player = (job.id, board.version), gr.skip()
        if mark != drawn:
            drawn, player = mark, board.player()
        panel = panel_of(context, job)
        if job.state == "queued":
            panel["headline"] = waiting_words(context, job)
        elif job.stopping and not ended:
            panel |= {"headline": "Stopping after this step", "remaining": None}
        elif job.state in ("failed", "cancelled"):
            kept = next((old.board for old in context.jobs.of(visitor.owner, job.place) if old.state == "done"), None)
            if kept:
                player = kept.player()
            elif job.state == "cancelled":
                player = board.player()
            panel["detail"] = _kept_words(job, kept)
        if job.state == "failed":
            gr.Warning(board.told, duration=12)
        seed = board.request.seed if job.state == "done" else gr.skip()
        yield View(panel, player, seed, gr.update(interactive=not ended), queue_value(context, visitor))


def _kept_words(job: Job, kept: Any) -> str:
    shown = "The last finished run is shown." if kept else "What there was by then is shown."
    return shown + (" What was made is in the history too." if job.board.run_id else "")


def cancel(context: AppContext, task: str, visitor: str) -> None:
    """Stop the visitor's job that a tab shows."""
    jobs = context.jobs.of(visitor_of(visitor).owner, place_of(context, task))
    if jobs:
        context.jobs.cancel(jobs[0])


def foresee(context: AppContext, read: ReadJob, task: str, values: Values) -> dict[str, Any]:
    """Tell what a run would take, without running it: the value of the progress panel."""
    try:
        return {**idle_panel(task), "state": "stopped", "headline": context.expected(read(context, values).request)}
    except Exception as error:  # noqa: BLE001 - `sentence` logs what is not meant for users
        return _failed(idle_panel(task), error)


def generate_files(context: AppContext, read: ReadJob, task: str, values: Values) -> Iterator[tuple[Any, ...]]:
    """Run a job for a client: the bridged and frame-by-frame clips, control maps or mask, a GIF, PNG frames, a record.

    Until the end only the record has a value: how far the run is. Closing the generator stops the run.
    """
    queued = None
    try:
        job = read(context, values)
        queued = submit(context, task, job, visitor_of(values.get("visitor")).owner)
        board, seen = queued.board, -1
        while queued.waits:
            yield (None, None, None, None, None, board.progress())
            seen = context.jobs.wait(seen, HEARTBEAT)
        if board.result is None or not board.files:
            raise InputError(board.told or "The run was cancelled.")
        files = {name: str(path) for name, path in board.files.items()}
        bridged, framewise, gif, pngs = (files.pop(name) for name in ("bridged", "framewise", "gif", "pngs"))
        yield (
            bridged,
            framewise,
            list(files.values()) or None,
            gif,
            pngs,
            record_of(board.result, job.fps, board.scores),
        )
    except Exception as error:  # noqa: BLE001 - `sentence` logs what is not meant for users
        raise gr.Error(sentence(error), print_exception=False) from None
    finally:
        if queued is not None:
            context.jobs.cancel(queued)


def _failed(panel: dict[str, Any], error: Exception) -> dict[str, Any]:
    told = sentence(error)
    gr.Warning(told, duration=12)
    return {**panel, "state": "failed", "headline": told, "detail": "", "remaining": None}


def add_result(
    context: AppContext, read: ReadJob, task: str, controls: Controls, buttons: RunControls, queue: gr.HTML
) -> TaskTab:
    """The card of the results at the end of every tab, and the run that fills it.

    Clients get `/{task}`, files and a record, and `/{task}_page`, `/{task}_resume` and `/{task}_stop`, what the page
    shows and does.

    Args:
        context: gives the run.
        read: makes a job of the tab's values.
        task: key of the catalog's tasks.
        controls: the tab's.
        buttons: what `run_controls` returned.
        queue: shows the visitor's jobs.

    Returns:
        The tab, as others may use it.
    """
    with gr.Column(elem_classes="bd-card bd-result", elem_id=f"{task}-result"):
        heading(3, "Side by side, in step")
        player = clip_player(example_player(task, context.family), elem_id=f"{task}-player", elem_classes="bd-results")
    start, stop, estimate, compare, panel = buttons
    inputs = list(controls.values())
    visitor = controls["visitor"]
    shown = [panel, player, controls["seed"], stop, queue]
    start.click(
        bind(partial(generate, context, read, task), controls), inputs, shown, api_name=f"{task}_page",
        js=SHOW_RESULT % (task, list(controls).index("visitor")), trigger_mode="multiple", **WATCHING,
    )  # fmt: skip
    estimate.click(
        bind(partial(foresee, context, read, task), controls), inputs, panel, show_progress="hidden",
        api_name=f"{task}_estimate", concurrency_id="preview",
    )  # fmt: skip
    stop.click(partial(cancel, context, task), visitor, None, queue=False, api_name=f"{task}_stop")
    visitor.change(partial(resume, context, task), visitor, shown, api_name=f"{task}_resume", **WATCHING)
    wire_films(context, player, visitor)
    clips = [gr.File(label=label, visible=False) for label in ("Bridged clip", "Frame-by-frame clip")]
    steering = gr.File(label="Control clips or mask clip", file_count="multiple", visible=False)
    others = [gr.File(label=label, visible=False) for label in ("Bridged clip as GIF", "PNG frames in a zip")]
    outputs = [*clips, steering, *others, gr.JSON(label="Record", visible=False)]
    gr.Button(visible=False).click(
        bind(partial(generate_files, context, read, task), controls), inputs, outputs, api_name=task, **WATCHING
    )
    return TaskTab(task, read, controls, compare)
