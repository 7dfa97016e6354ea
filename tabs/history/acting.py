"""What is done with a run: taken from a file, run again, restored to its tab, deleted."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from bivdiff.errors import InputError
from tabs.binding import Values
from tabs.failures import inform, telling, warn
from tabs.history.details import deletion_unasked, details_of, request_of
from tabs.history.listing import listed
from tabs.history.view import HistoryPage, HistoryView, owner_of
from tabs.history.wording import wanted_models
from tabs.restoring import controls_to_fill, fill, updates_of
from tabs.task_tab import TaskTab
from tabs.visitors import address_of_visitor, visitor_of

if TYPE_CHECKING:
    from bivdiff.studio.history.records import Run

NEWS_SECONDS = 86400.0


@telling
def adopt(page: HistoryPage, values: Values, file: str | None) -> HistoryView:
    """Take the run that a file carries into the history, and show it."""
    if not file:
        raise InputError("There is no file. Give an mp4, PNG, GIF or zip that was made here.")
    owner = owner_of(values)
    with page.context.decoding():
        run_id = page.context.runs.adopt(Path(file), owner, address_of_visitor())
        shown = details_of(page, page.context.runs.get(run_id, owner), owner)
    return shown._replace(**listed(page, {**values, "run_id": run_id}))


@telling
def again(page: HistoryPage, values: Values) -> HistoryView:
    """Run exactly the stored request of the chosen run once more."""
    run = page.context.runs.get(values.get("run_id") or "", owner_of(values))
    inform(page.rerun(run.id, values.get("visitor") or ""), 8)
    return HistoryView(**listed(page, values))


def press_delete(page: HistoryPage, values: Values, to_delete: str) -> HistoryView:
    """Ask at the first press, delete at the second."""
    if to_delete == values.get("run_id"):
        return delete(page, values)
    sure = gr.update(value="Delete for good?", variant="stop")
    return HistoryView(delete=sure, keep=gr.update(visible=True), to_delete=values.get("run_id"))


@telling
def delete(page: HistoryPage, values: Values) -> HistoryView:
    """Delete the chosen run and its files."""
    page.context.runs.delete(values.get("run_id") or "", owner_of(values))
    button, hidden, nothing = deletion_unasked()
    return HistoryView(
        **listed(page, {**values, "run_id": ""}), run_id="", details=gr.update(visible=False), delete=button,
        keep=hidden, to_delete=nothing,
    )  # fmt: skip


@telling
def unlink(page: HistoryPage, values: Values) -> HistoryView:
    """Switch the link of the chosen run off."""
    page.context.runs.unpublish(values.get("run_id") or "", owner_of(values))
    inform("Its link is switched off: whoever follows it finds nothing any more.")
    return HistoryView(unlink=gr.update(visible=False))


@telling
def arrive(page: HistoryPage, link: str, visitor: str) -> list[Any]:
    """Take what a link shows into the visitor's history, and fill the tab that made it.

    Raises:
        gr.Error: there is nothing at that link.
    """
    if not link:
        return [gr.skip()] * (1 + len(controls_to_fill(page.task_tabs)))
    with page.context.decoding():
        run_id = page.context.runs.copy_published(link, visitor_of(visitor).owner, address_of_visitor())
    return restore(page, run_id, visitor)


def tell_interrupted(page: HistoryPage, visitor: str) -> None:
    """Tell who comes back that their last run was cut off with the studio itself, for as long as that is news."""
    newest = page.context.runs.find(visitor_of(visitor).owner, limit=1)
    if newest and newest[0].state == "interrupted" and time.time() - newest[0].created < NEWS_SECONDS:
        inform(
            "The studio was stopped during your last run. It is in the History, where “Run again” goes on from the "
            "stages that were finished.", 15,
        )  # fmt: skip


@telling
def restore(page: HistoryPage, run_id: str, visitor: str) -> list[Any]:
    """Fill the controls of the task's tab as the run has them, and open that tab.

    Raises:
        gr.Error: it is not there, or belongs to another page.
    """
    run = page.context.runs.get(run_id or "", visitor_of(visitor).owner)
    if run.family != page.context.family:
        raise InputError(f"This run is one of '{run.family}', which has a page of its own. Restore it there.")
    tab = _tab_of(page, run)
    updates, unshown = updates_of(page.context, tab, run)
    request, trouble = request_of(page.context, run, run.owner)
    if request is None:
        updates["restored"] = gr.update(value="")
    if warning := wanted_models(run):
        warn(warning, 15)
    if unshown:
        trouble += f" The tab cannot show all of this run: {'; '.join(unshown)}. “Run again” uses exactly what it used."
    if trouble:
        warn(f"Restored, but not all of it. {trouble.strip()}", 15)
    else:
        inform("The settings and pictures of that run are in this tab.")
    return fill(page.task_tabs, tab, updates)


@telling
def recall(page: HistoryPage, part: str, run_id: str, visitor: str) -> list[Any]:
    """Fill a part of the task's tab as the run has it, one of `PARTS`, leave all else there, and open that tab.

    Raises:
        gr.Error: the run is not there, or has no such thing.
    """
    run = page.context.runs.get(run_id or "", visitor_of(visitor).owner)
    tab = _tab_of(page, run)
    if part == "seed" and run.seed is None and run.settings.get("seed") is None:
        raise InputError("This run ended before it drew a seed. Take its prompt or its ratio, or restore it.")
    updates, unshown = updates_of(page.context, tab, run, part)
    if unshown:
        raise InputError(f"This tab cannot take it: {'; '.join(unshown)}.")
    inform(f"The {part} of that run is in this tab. All else is as it was.")
    return fill(page.task_tabs, tab, updates, part)


def _tab_of(page: HistoryPage, run: Run) -> TaskTab:
    tab = next((tab for tab in page.task_tabs if tab.task == run.task), None)
    if tab is None:
        raise InputError(f"There is no tab for the task '{run.task}', so this run cannot be restored.")
    return tab
