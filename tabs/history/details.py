"""The chosen run: its clips, its settings, and what can be done with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timezone
from html import escape
from typing import TYPE_CHECKING, Any

import gradio as gr

from bivdiff.catalog.families import FAMILIES
from bivdiff.catalog.tasks import TASKS
from bivdiff.errors import BIVDiffError
from bivdiff.studio.history.records import UNFINISHED
from bivdiff.studio.limits import check_pixels
from tabs import controls as shared
from tabs.binding import Values
from tabs.context import AppContext
from tabs.failures import sentence, telling
from tabs.history.clips import run_player
from tabs.history.view import HistoryPage, HistoryView, owner_of
from tabs.history.wording import STATE_LABELS, STATE_SENTENCES, made_with, value_in_words, wanted_models

if TYPE_CHECKING:
    from bivdiff.studio.history.records import Run
    from bivdiff.types import GenerationRequest

SHOWN_ABOVE = ("task", "family", "image_model", "fps", "prompt", "seed")  # in another place than the list of settings


@telling
def show(page: HistoryPage, values: Values) -> HistoryView:
    """The chosen run with its clips, its settings, and what can be done with it."""
    owner = owner_of(values)
    run = page.context.runs.get(values.get("run_id") or "", owner)
    with page.context.decoding():
        return details_of(page, run, owner)


def details_of(page: HistoryPage, run: Run, owner: str) -> HistoryView:
    """The parts of the view that show a run."""
    request, why = request_of(page.context, run, owner)
    ended = run.state not in UNFINISHED
    button, hidden, nothing = deletion_unasked()
    return HistoryView(
        run_id=run.id, details=gr.update(visible=True), about=about_html(page.context, run),
        player=run_player(run, request, why),
        restore=gr.update(interactive=run.family == page.context.family and run.task in TASKS),
        again=gr.update(interactive=ended and request is not None), delete={**button, "interactive": ended},
        keep=hidden, to_delete=nothing, settings=settings_html(page, run),
        unlink=gr.update(visible=bool(page.context.runs.link(run.id, owner))),
        recalls=gr.update(visible=run.task in TASKS),
    )  # fmt: skip


def request_of(context: AppContext, run: Run, owner: str) -> tuple[GenerationRequest | None, str]:
    """What was asked, with its pictures, or why it is not there."""
    try:
        check_pixels(context.runs.shape(run.id, owner), context.settings)  # before it is unpacked
        with context.decoding():
            return context.runs.job(run.id, owner)[0], ""
    except BIVDiffError as error:
        return None, sentence(error)


def about_html(context: AppContext, run: Run) -> str:
    """What a run is and how it ended, as HTML."""
    label = STATE_LABELS[run.state]
    pill = f'<span class="bd-pill" data-state="{run.state}">{label}</span> ' if label else ""
    family = FAMILIES[run.family].title.partition(":")[0] if run.family in FAMILIES else run.family
    usual = STATE_SENTENCES.get(run.state, "")
    state = {"dropped": run.message or usual, "interrupted": usual}.get(run.state, f"{usual} {run.message}".strip())
    made = datetime.fromtimestamp(run.created, timezone.utc)
    when = f"{made.day} {made:%B %Y, %H:%M} UTC"
    place = _elsewhere(context, run) if run.family != context.family else ""
    texts = escape(state), escape(wanted_models(run)), place
    paragraphs = "".join(f'<p class="bd-history-text">{text}</p>' for text in texts if text)
    return (
        f'<h3 class="bd-history-prompt">{escape(run.prompt.strip() or "No prompt")}</h3>'
        f'<p class="bd-history-meta">{pill}{escape(made_with(run))}. {escape(family)}, {when}.</p>{paragraphs}'
    )


def _elsewhere(context: AppContext, run: Run) -> str:
    """Where a run of another family can be restored, as HTML."""
    if run.family not in context.families:
        return (
            f"It was made with the models of “{escape(run.family)}”, which this copy of the studio does not offer, so "
            "it cannot be restored here. Start the studio with BIVDIFF_FAMILIES=all."
        )
    # Relative, so that it holds wherever the app is served.
    name, place = FAMILIES[run.family].title.partition(":")[0], "" if run.family == context.families[0] else run.family
    return (
        f"It was made with other models than this page's. "
        f'<a href="./{escape(place)}">Restore it on the page {escape(name)}</a>.'
    )


def settings_html(page: HistoryPage, run: Run) -> str:
    """The settings of a run as lists of HTML: those that are not the defaults, and all of them behind a fold."""
    labels = {
        name: part.label for tab in page.task_tabs if tab.task == run.task for name, part in tab.controls.items()
        if part.label
    }  # fmt: skip
    labels["axes"] = "Compared"
    usual = _usual(page.context, run)
    rows = {name: (str(labels.get(name) or name.replace("_", " ").capitalize()), value_in_words(name, value))
            for name, value in run.settings.items()}  # fmt: skip
    changed = [
        rows[name] for name, value in run.settings.items() if name not in SHOWN_ABOVE and usual.get(name, "") != value
    ]
    head = _definitions(changed) if changed else '<p class="bd-history-meta">All settings are the usual ones.</p>'
    fold = f'<details class="bd-words"><summary>All settings</summary>{_definitions(list(rows.values()))}</details>'
    title = "Settings other than the usual" if changed else "Settings"
    return f'<h3 class="bd-history-title">{title}</h3>{head}{fold}'


def _usual(context: AppContext, run: Run) -> dict[str, Any]:
    """The settings that a run's task starts with; empty where they are not known here."""
    if run.family not in FAMILIES or run.image_model not in getattr(TASKS.get(run.task), "every_image_model", ()):
        return {}
    return shared.defaults_of(replace(context, family=run.family), run.task, run.image_model).settings()


def _definitions(rows: Sequence[tuple[str, str]]) -> str:
    listed = "".join(f"<div><dt>{escape(label)}</dt><dd>{escape(text)}</dd></div>" for label, text in rows)
    return f'<dl class="bd-history-settings">{listed}</dl>'


def deletion_unasked() -> tuple[Any, Any, str]:
    """The button as it is before anybody thought of deleting."""
    return gr.update(value="Delete", variant="secondary"), gr.update(visible=False), ""
