"""One follower for all jobs: given to the queue, watched until it ends, taken up again after a reload, stopped."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import gradio as gr

from bivdiff.studio.jobs import WAITING, Job
from bivdiff.studio.limits import check_request
from tabs.boards import Board
from tabs.context import AppContext
from tabs.failures import sentence, warn
from tabs.queue import STOPPING, queue_value, waiting_words
from tabs.visitors import LOOK_AGAIN, Visitor, address_of_visitor, visitor_of

# Runs in the browser: a tab may be opened before the page is told who looks at it.
KNOW_VISITOR = "(visitor, opened) => [visitor || window.bdVisitor(), opened]"
PAUSE = 0.15  # seconds between two updates of a page at least: a browser need not see every step
HEARTBEAT = 0.5  # seconds after which a page is told again, whether or not there is something new
HANDOVER = 5.0  # seconds that a watch waits at most for the last update of the one before it to be sent
# Many may watch their jobs at a time; what they watch is done one after the other.
WATCHING: dict[str, Any] = {"concurrency_id": "watch", "concurrency_limit": 32, "show_progress": "hidden"}


@dataclass(frozen=True)
class Place:
    """Where on a page jobs of one kind are shown.

    Attributes:
        name: of the tab.
        view: makes what an event of the page gives back, a named tuple; it takes `panel`, `stop`, `queue` and what the
            boards of the place show, and has `gr.skip()` for what it is not given.
        idle: the progress panel's value before the first job.
        shows_last_done: whether a job that did not come to its end makes room for the last that did.
    """

    name: str
    view: Callable[..., Any]
    idle: Callable[[], dict[str, Any]]
    shows_last_done: bool = False

    def key(self, context: AppContext) -> str:
        """Its name among the jobs: each family's page has its own places."""
        return f"{context.family}/{self.name}"


def enqueue(
    context: AppContext, place: Place, board: Callable[[], Any], start: Callable[[Any], Iterator[Any]], *,
    request: Any, owner: str, title: str,
) -> Job[Any]:  # fmt: skip
    """Give a job to the queue.

    Args:
        place: where it is shown.
        board, start: see `Jobs.submit`.
        request: what is asked for, which is checked here and nowhere else.
        owner: who asks.
        title: in words.

    Raises:
        InputError: too many wait, or the owner of the studio does not allow what is asked for.
    """
    check_request(request, context.settings)  # now, and not when its turn has come
    return context.jobs.submit(
        board, start, owner=owner, place=place.key(context), title=title, address=address_of_visitor()
    )


def submit_and_follow(
    context: AppContext, place: Place, submit: Callable[[str], Any], visitor: str
) -> Iterator[Any]:  # fmt: skip
    """Views of a new job, and why there is none where it is refused. Whoever leaves the page leaves the job as it is.

    Args:
        submit: gives the job to the queue; takes its owner.
        visitor: what the page sends of itself.
    """
    who = visitor_of(visitor)
    try:
        submit(who.owner)
    except Exception as error:  # noqa: BLE001 - `sentence` logs what is not meant for users
        yield place.view(panel=failed_panel(place.idle(), error))
        return
    yield from follow(context, place, who)


def resume(context: AppContext, place: Place, visitor: str) -> Iterator[Any]:
    """Show the visitor's running or last job of a place again: after a reload, in another window."""
    who = visitor_of(visitor)
    yield place.view(queue=queue_value(context, who))  # there may be nothing to follow
    yield from follow(context, place, who)


def shows_last(
    context: AppContext, place: Place, tab: gr.Tab | gr.Blocks, visitor: gr.Textbox, outputs: Sequence[Any]
) -> None:
    """Let a tab show the visitor's running or last job when it is first opened, and whenever the page looks again.

    A page with ten clips in every tab would else bring them all before the first is seen.

    Args:
        context: has the jobs.
        place: of the tab.
        tab: the page itself for the tab that it opens with.
        visitor: who looks.
        outputs: in the order of the place's view.
    """
    shown = list(outputs)
    named: dict[str, Any] = {"api_name": f"{place.name}_resume", **WATCHING}
    if not isinstance(tab, gr.Tab):
        visitor.change(partial(resume, context, place), visitor, shown, **named)
        return
    gr.Button(visible=False).click(partial(resume, context, place), visitor, shown, **named)
    visitor.change(
        partial(_look_again, context, place), visitor, shown, api_visibility="private", **WATCHING
    )  # fmt: skip
    opened = gr.State(False)
    tab.select(
        partial(_first_look, context, place), [visitor, opened], [*shown, opened], js=KNOW_VISITOR,
        api_visibility="private", **WATCHING,
    )  # fmt: skip


def _look_again(context: AppContext, place: Place, visitor: str) -> Iterator[Any]:
    """What a tab shows when the page is told of its visitor: nothing yet where that is the first it hears."""
    if LOOK_AGAIN not in visitor:
        yield place.view()
        return
    yield from resume(context, place, visitor)


def _first_look(context: AppContext, place: Place, visitor: str, opened: bool) -> Iterator[Any]:
    """What a tab shows when it is opened: its last job, unless that was shown before."""
    if opened:
        yield (*place.view(), True)
        return
    for view in resume(context, place, visitor):
        yield (*view, True)


def cancel(context: AppContext, place: Place, visitor: str) -> None:
    """Stop the visitor's job that a place shows."""
    for job in context.jobs.of(visitor_of(visitor).owner, place.key(context))[:1]:
        context.jobs.cancel(job)


def follow(context: AppContext, place: Place, visitor: Visitor) -> Iterator[Any]:
    """Views of the jobs of a place until none of them waits any more."""
    drawn: Any = None
    warned: Job[Any] | None = None
    for job in watch(context, visitor, place.key(context)):
        panel, last_done = _panel_of(context, job), None
        if place.shows_last_done and job.state in ("failed", "cancelled"):
            last_done = _last_done(context, job)
            panel["detail"] = _end_words(job, last_done)
        if job.state == "failed" and warned is not job:  # which may be so already when what was before is told
            warned = job
            warn(job.board.message)
        shown: dict[str, Any] = {}
        if drawn != (mark := (job.id, job.state, job.board.version)):
            drawn = mark
            shown = {"player": last_done.shown()["player"]} if last_done else job.board.shown()
        stop = gr.update(interactive=job.state in ("queued", "running"))
        yield place.view(panel=panel, stop=stop, queue=queue_value(context, visitor), **shown)


def watch(context: AppContext, visitor: Visitor, place: str) -> Iterator[Job[Any]]:
    """The job that a place of the page shows, whenever there is something new, and every now and then without.

    It ends when nothing of the visitor's waits there any more, or when the same window watches the place anew. What it
    yielded last has then been sent before the newer watch begins, so that the newer has the last word. Others write to
    the strip of jobs too, and may overwrite it with what was so a moment ago: what is told again mends that.

    Yields:
        The running job, else the next to run, else the one that ended last; nothing if there are none.
    """
    key, mine = (*visitor, place), threading.Lock()  # held from one look at the jobs until what it showed is sent
    older = context.watches.get(key)
    context.watches[key] = mine
    if older is not None and older.acquire(timeout=HANDOVER):
        older.release()
    shown: Any = None
    seen, told = -1, 0.0
    try:
        while True:
            with mine:
                if context.watches.get(key) is not mine:
                    return
                jobs = context.jobs.of(visitor.owner, place)
                if not jobs:
                    return
                job = jobs[0]
                state = job.state  # as it is shown: it may be another by the end of the turn
                mark = (job.id, state, job.version, context.jobs.before(job))
                if mark != shown or time.monotonic() - told >= HEARTBEAT:
                    shown, told = mark, time.monotonic()
                    yield job
                if state not in WAITING:
                    return
            time.sleep(PAUSE)
            seen = context.jobs.wait(seen, HEARTBEAT)
    finally:
        if context.watches.get(key) is mine:
            del context.watches[key]


def failed_panel(panel: dict[str, Any], error: Exception) -> dict[str, Any]:
    """A progress panel's value that says what went wrong, which the page warns of too."""
    message = sentence(error)
    warn(message)
    return {**panel, "state": "failed", "headline": message, "detail": "", "remaining": None}


def _panel_of(context: AppContext, job: Job[Any]) -> dict[str, Any]:
    """The progress panel's value for a job; of one that runs, with how full the memory is."""
    panel = dict(job.board.panel())
    if job.state == "queued":
        return panel | {"headline": waiting_words(context, job), "detail": ""}
    if job.state == "running":
        panel["memory"] = context.models.memory()
        return panel | {"headline": STOPPING, "remaining": None} if job.stopping else panel
    return panel | {"headline": "Writing the files", "remaining": None} if job.state == "writing" else panel


def _last_done(context: AppContext, job: Job[Any]) -> Board | None:
    """The board of the last job of the same place that came to its end."""
    return next((other.board for other in context.jobs.of(job.owner, job.place) if other.state == "done"), None)


def _end_words(job: Job[Any], last_done: Board | None) -> str:
    shown = "The last finished run is shown." if last_done else "What there was by then is shown."
    return shown + (" What was made is in the history too." if job.board.run_id else "")
