"""What one takes away of a result, made when somebody asks for it: a film, what a paper takes, a link."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import gradio as gr

from bivdiff.compare.choice import FigureChoice
from bivdiff.errors import InputError
from bivdiff.media.film import FilmOptions
from bivdiff.studio.history import taking
from tabs.context import AppContext
from tabs.events import PRIVATE
from tabs.failures import inform, telling
from tabs.links import write_published
from tabs.visitors import visitor_of
from tabs.widgets.component import Widget

# One at a time: composing takes a core for seconds, and the device's own work goes on beside it.
ALONE: dict[str, Any] = {"concurrency_limit": 1, "concurrency_id": "film", "show_progress": "hidden"}
NO_LINKS = "The owner of this studio does not let results be published. Take the film or the files instead."
GIVE = "(file, link) => link ? window.bdShowLink(link) : window.bdSave(file)"


def wire_films(context: AppContext, player: Widget, visitor: gr.Textbox, *, api_name: str | None = None) -> None:
    """Let the buttons of a player make a film, what a paper takes, or a link, and the browser save or show it.

    Args:
        context: its history has the runs.
        player: its buttons, made by `player.film_buttons`, trigger `film` with the run and what is `wanted` of it.
        visitor: what the page knows its visitor by.
        api_name: where clients get films, beside `/figure` and `/link`; None where there is one already.
    """
    run_id, what = gr.Textbox(visible=False), gr.Textbox(visible=False)
    file, link = gr.File(label="Film", visible=False), gr.Textbox(visible=False)
    pressed = player.film(None, player, [run_id, what], js="(value) => value.wanted", **PRIVATE)
    made = pressed.then(partial(take, context), [run_id, what, visitor], [file, link], **ALONE, **PRIVATE)
    made.success(None, [file, link], None, js=GIVE, **PRIVATE)
    if api_name is not None:
        _add_endpoints(context, run_id, what, visitor, api_name)


def _add_endpoints(
    context: AppContext, run_id: gr.Textbox, shape: gr.Textbox, visitor: gr.Textbox, api_name: str
) -> None:
    film, paper = gr.File(label="Film", visible=False), gr.File(label="Zip", visible=False)
    button = gr.Button(visible=False)
    button.click(partial(make_film, context), [run_id, shape, visitor], film, api_name=api_name, **ALONE)
    choice = [gr.Textbox(value, visible=False) for value in ("", "", "auto", "auto")]
    button.click(partial(make_paper, context), [run_id, *choice, visitor], paper, api_name="figure", **ALONE)
    sheet = gr.File(label="Contact sheet", visible=False)
    button.click(partial(make_sheet, context), [run_id, visitor], sheet, api_name="contact_sheet", **ALONE)
    link, on = gr.Textbox(label="Link", visible=False), gr.Checkbox(value=True, visible=False)
    button.click(partial(switch_link, context), [run_id, on, visitor], link, api_name="link", **ALONE)


@telling
def take(context: AppContext, run_id: str, what: str, visitor: str) -> tuple[str | None, str]:
    """What a button of a player wants of a run: a file, or the id of its link."""
    if what == "link":
        return None, switch_link(context, run_id, True, visitor)
    if what == "figure":
        return make_paper(context, run_id, "", "", "auto", "auto", visitor), ""
    if what == "sheet":
        return make_sheet(context, run_id, visitor), ""
    return make_film(context, run_id, what, visitor), ""


@telling
def make_film(context: AppContext, run_id: str, shape: str, visitor: str) -> str:
    """A film of a run to post: frame by frame beside bridged, with names and flicker, then a wipe; it loops; mp4.

    Args:
        context: its history has the run.
        run_id: from the list of the history.
        shape: "wide" (1920x1080) or "square" (1080x1080).
        visitor: who made the run.
    """
    inform("The film is being made; it is saved in some seconds.")
    options = FilmOptions(shape=shape or "wide")
    return str(taking.film(context.runs, run_id or "", visitor_of(visitor).owner, options))


@telling
def make_paper(
    context: AppContext, run_id: str, frames: str, rows: str | Sequence[str], zoom: str, column: str, visitor: str
) -> str:
    """What a paper takes of a run or a comparison, in a zip: figure (PDF, SVG, PNG), caption, LaTeX table, BibTeX.

    Args:
        context: its history has the run.
        run_id: from the list of the history.
        frames: their numbers between commas, from 1; empty takes four.
        rows: labels of the clips, in a list or one a line; empty takes the usual ones.
        zoom: "auto", or left, top and side in pixels, or empty for none.
        column: of pixels that is shown over time: "auto", a number, or empty for none.
        visitor: who made the run.
    """
    inform("The figure is being made; it is saved in some seconds.")
    chosen = rows.splitlines() if isinstance(rows, str) else list(rows or ())
    choice = FigureChoice(frames or "", tuple(filter(None, map(str.strip, chosen))), zoom or "", column or "")
    return str(taking.paper(context.runs, run_id or "", visitor_of(visitor).owner, choice))


@telling
def make_sheet(context: AppContext, run_id: str, visitor: str) -> str:
    """The clips of a run frame by frame in one picture, a row for each: source, frames before the bridge, bridged.

    Args:
        context: its history has the run.
        run_id: from the list of the history.
        visitor: who made the run.
    """
    inform("The contact sheet is being made; it is saved in some seconds.")
    return str(taking.contact_sheet(context.runs, run_id or "", visitor_of(visitor).owner))


@telling
def switch_link(context: AppContext, run_id: str, on: bool, visitor: str) -> str:
    """Publish a result, or end that; returns what stands behind "/r/" in its link, and nothing once it is switched off.

    Whoever has the link sees the clips, the source among them, the prompt and all settings.

    Args:
        context: its history has the run.
        run_id: from the list of the history.
        on: whether it is published.
        visitor: who made the run.
    """
    owner = visitor_of(visitor).owner
    if not on:
        context.runs.unpublish(run_id or "", owner)
        return ""
    if context.settings.links == "no":
        raise InputError(NO_LINKS)
    return context.runs.publish(run_id or "", owner, partial(write_published, context.runs, context.families[0]))
