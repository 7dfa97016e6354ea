"""The strip of a visitor's jobs, over the foot of every page."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import gradio as gr

from bivdiff.errors import BIVDiffError
from bivdiff.studio.jobs import Job
from tabs.context import AppContext
from tabs.failures import refusal, sentence
from tabs.visitors import Visitor, visitor_of
from tabs.widgets.jobs import job_strip

MOVES = {"forward": -1, "back": 1}
STOPPING = "Stopping after this step"


def queue_strip(context: AppContext, visitor: gr.Textbox) -> gr.HTML:
    """The strip, connected; hidden while nothing waits."""
    strip = job_strip(elem_id="queue")
    # An event of our own, which Gradio lets stand only alone.
    strip.act(
        partial(act_on_page, context), [strip, visitor], strip, show_progress="hidden", concurrency_id="queue",
        api_visibility="private",
    )  # fmt: skip
    visitor.change(partial(list_jobs, context), visitor, strip, show_progress="hidden", api_name="jobs")
    job, action = gr.Textbox(visible=False, label="job"), gr.Textbox(visible=False, label="action")
    gr.Button(visible=False).click(
        partial(act, context), [job, action, visitor], strip, show_progress="hidden", api_name="job_action"
    )
    return strip


def list_jobs(context: AppContext, visitor: str) -> dict[str, Any]:
    """A visitor's jobs, running and waiting."""
    return queue_value(context, visitor_of(visitor))


def queue_value(context: AppContext, visitor: Visitor) -> dict[str, Any]:
    """The strip's value: a visitor's jobs that run or wait, each with how far it is."""
    jobs = [job for job in context.jobs.of(visitor.owner) if job.waits]
    waiting = [job for job in jobs if job.state == "queued"]
    return {
        "jobs": [
            {
                "id": job.id, "title": job.title, "place": job.place,
                "state": "stopping" if job.stopping else job.state,
                "words": waiting_words(context, job) if job in waiting else _running_words(job),
                "forward": job in waiting[1:], "back": job in waiting[:-1],
            }
            for job in jobs
        ]
    }  # fmt: skip


def waiting_words(context: AppContext, job: Job[Any]) -> str:
    """How long a queued job will wait, in words."""
    before = context.jobs.before(job)
    if not before:
        return "Waiting for the models to be free"
    jobs = "1 job" if before == 1 else f"{before} jobs"
    return f"Waiting: {jobs} before it; starts in about {_span(context.jobs.starts_in(job))}"


def _span(seconds: float) -> str:
    return f"{max(1, round(seconds))} s" if seconds < 90 else f"{round(seconds / 60)} min"


def _running_words(job: Job[Any]) -> str:
    if job.state == "writing":
        return "Writing its files"
    if job.stopping:
        return STOPPING
    remaining = job.board.remaining()
    return "Running" if remaining is None else f"Running, about {max(1, round(remaining))} s left"


def act_on_page(context: AppContext, shown: Mapping[str, Any], visitor: str) -> dict[str, Any]:
    """Do what a button of the strip says."""
    asked = (shown or {}).get("asked") or {}
    return act(context, str(asked.get("job")), str(asked.get("action")), visitor)


def act(context: AppContext, job: str, action: str, visitor: str) -> dict[str, Any]:
    """Cancel a job of the visitor's, or move it "forward" or "back" among the visitor's own; returns what is left.

    Raises:
        gr.Error: there is no such job, or no such action.
    """
    who = visitor_of(visitor)
    try:
        found = context.jobs.get(job, who.owner)
    except BIVDiffError as error:
        raise refusal(sentence(error)) from None
    actions: dict[str, Callable[[], None]] = {"cancel": partial(context.jobs.cancel, found)}
    actions |= {name: partial(context.jobs.move, found, by) for name, by in MOVES.items()}
    if action not in actions:
        raise refusal(f"Unknown action '{action}'. Choose one of: {', '.join(actions)}.")
    actions[action]()
    return queue_value(context, who)
