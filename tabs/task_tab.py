"""What the tabs of all tasks have: a run, what it would take, its result, and the endpoints for clients."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import gradio as gr

from bivdiff.catalog.requests import with_seed
from bivdiff.catalog.tasks import TASKS
from bivdiff.errors import InputError
from bivdiff.studio.jobs import Job
from bivdiff.studio.limits import check_request
from tabs.binding import Values, bind
from tabs.boards import RunBoard
from tabs.context import AppContext
from tabs.controls import Controls, ResultView, RunControls
from tabs.events import READING
from tabs.failures import inform, refusal, sentence
from tabs.figures import figure_panel
from tabs.films import wire_films
from tabs.following import (
    HEARTBEAT,
    WATCHING,
    Place,
    cancel,
    enqueue,
    failed_panel,
    shows_last,
    submit_and_follow,
)
from tabs.progress import idle_panel
from tabs.ratios import try_ratios
from tabs.requests import ReadJob, Submission
from tabs.results import record_of
from tabs.visitors import visitor_of

# Runs in the browser before a run starts: the result may be out of sight, and the page not yet told who uses it.
NO_PROMPT = "The prompt is empty, so the models make what they like best. Write what the clip should show."
SHOW_RESULT = '(...values) => window.bdShowProgress("%s", %d, values)'


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
    player: Any = None


class RunView(NamedTuple):
    """What a run shows on the page, in the order of the event's outputs; `gr.skip()` leaves a part as it is."""

    panel: Any = gr.skip()
    player: Any = gr.skip()
    seed: Any = gr.skip()
    stop: Any = gr.skip()
    queue: Any = gr.skip()


def place_of(task: str) -> Place:
    """Where the runs of a task are shown."""
    return Place(task, RunView, partial(idle_panel, task), shows_last_done=True)


def submit(context: AppContext, task: str, submission: Submission, owner: str) -> Job[RunBoard]:
    """Give a run to the queue.

    Raises:
        InputError: too many wait, or the owner does not allow what is asked for.
    """
    request = with_seed(submission.request)
    return enqueue(
        context, place_of(task), lambda: RunBoard(context, request, submission.fps, owner, submission.sound),
        lambda board: context.run(board.request, submission.to_fit), request=request, owner=owner,
        title=f"{TASKS[task].title}: {request.prompt or request.video_prompt}",
    )  # fmt: skip


def generate(context: AppContext, read: ReadJob, task: str, values: Values) -> Iterator[RunView]:
    """Give a run to the queue and show how far it is. Whoever leaves the page leaves the run as it is.

    Args:
        context: gives the run.
        read: makes a submission of the values.
        task: key of the catalog's tasks.
        values: of all controls.

    Yields:
        What to show, step by step.
    """

    def submitted(owner: str) -> Job[RunBoard]:
        submission = read(context, values)
        if not submission.request.prompt.strip():
            inform(NO_PROMPT, 12)
        return submit(context, task, submission, owner)

    yield from submit_and_follow(context, place_of(task), submitted, values.get("visitor", ""))


def foresee(context: AppContext, read: ReadJob, task: str, values: Values) -> dict[str, Any]:
    """Tell what a run would take, without running it: the value of the progress panel."""
    try:
        request = read(context, values).request
        check_request(request, context.settings)
        return {**idle_panel(task), "state": "stopped", "headline": context.expected(request)}
    except Exception as error:  # noqa: BLE001 - `sentence` logs what is not meant for users
        return failed_panel(idle_panel(task), error)


def generate_files(context: AppContext, read: ReadJob, task: str, values: Values) -> Iterator[tuple[Any, ...]]:
    """Run a job for a client: the bridged and frame-by-frame clips, control maps or mask, a GIF, PNG frames, a record.

    Until the end only the record has a value: how far the run is. Closing the generator stops the run.
    """
    queued = None
    try:
        submission = read(context, values)
        queued = submit(context, task, submission, visitor_of(values.get("visitor")).owner)
        board, seen = queued.board, -1
        while queued.waits:
            yield (None, None, None, None, None, board.progress() | {"state": queued.state})
            seen = context.jobs.wait(seen, HEARTBEAT)
        if board.result is None:
            raise InputError(board.message or "The run was cancelled.")
        kept = board.files or board.files_beside(board.result)
        files = {name: str(path) for name, path in kept.items()}
        bridged, framewise, gif, pngs = (files.pop(name) for name in ("bridged", "framewise", "gif", "pngs"))
        record = record_of(board.result, submission.fps, board.scores)
        if not board.files:
            record["note"] = board.message
        yield bridged, framewise, list(files.values()) or None, gif, pngs, record
    except Exception as error:  # noqa: BLE001 - `sentence` logs what is not meant for users
        raise refusal(sentence(error)) from None
    finally:
        if queued is not None:
            context.jobs.cancel(queued)


def add_result(
    context: AppContext, read: ReadJob, task: str, controls: Controls, buttons: RunControls, view: ResultView,
    queue: gr.HTML, tab: gr.Tab | gr.Blocks,
) -> TaskTab:  # fmt: skip
    """Connect a tab's buttons with the run that they start, and that with where it is seen.

    Clients get `/{task}`, files and a record, and `/{task}_page`, `/{task}_resume` and `/{task}_stop`, what the page
    shows and does.

    Args:
        context: gives the run.
        read: makes a submission of the tab's values.
        task: key of the catalog's tasks.
        controls: the tab's.
        buttons: what `run_controls` returned.
        view: what `see` returned.
        queue: shows the visitor's jobs.
        tab: shows its last run when it is first opened; the page itself for the tab that the page opens with.

    Returns:
        The tab, as others may use it.
    """
    start, stop, estimate, compare, ratios = buttons
    card, panel, player = view
    inputs = list(controls.values())
    visitor = controls["visitor"]
    shown = [panel, player, controls["seed"], stop, queue]
    start.click(
        bind(partial(generate, context, read, task), controls), inputs, shown, api_name=f"{task}_page",
        js=SHOW_RESULT % (task, list(controls).index("visitor")), trigger_mode="multiple", **WATCHING,
    )  # fmt: skip
    ratios.click(
        bind(partial(try_ratios, context, place_of(task), read, task), controls), inputs, shown,
        js=SHOW_RESULT % (task, list(controls).index("visitor")), api_visibility="private", trigger_mode="multiple",
        **WATCHING,
    )  # fmt: skip
    estimate.click(
        bind(partial(foresee, context, read, task), controls), inputs, panel, show_progress="hidden",
        api_name=f"{task}_estimate", **READING,
    )  # fmt: skip
    place = place_of(task)
    stop.click(partial(cancel, context, place), visitor, None, queue=False, api_name=f"{task}_stop")
    shows_last(context, place, tab, visitor, shown)
    wire_films(context, player, visitor)
    with card:
        figure_panel(context, player, visitor, task)
    clips = [gr.File(label=label, visible=False) for label in ("Bridged clip", "Frame-by-frame clip")]
    steering = gr.File(label="Control clips or mask clip", file_count="multiple", visible=False)
    others = [gr.File(label=label, visible=False) for label in ("Bridged clip as GIF", "PNG frames in a zip")]
    outputs = [*clips, steering, *others, gr.JSON(label="Record", visible=False)]
    gr.Button(visible=False).click(
        bind(partial(generate_files, context, read, task), controls), inputs, outputs, api_name=task, **WATCHING
    )
    return TaskTab(task, read, controls, compare, player)
