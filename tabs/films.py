"""The film of a run, made when somebody asks for it on the page or by the API."""

from __future__ import annotations

from functools import partial
from typing import Any

import gradio as gr

from bivdiff.media.film import FilmOptions
from tabs.context import AppContext
from tabs.failures import inform, telling
from tabs.visitors import visitor_of
from tabs.widgets.component import Widget

# One at a time: composing takes a core for seconds, and the device's own work goes on beside it.
ALONE: dict[str, Any] = {"concurrency_limit": 1, "concurrency_id": "film", "show_progress": "hidden"}
PRIVATE: dict[str, Any] = {"api_visibility": "private"}


def wire_films(context: AppContext, player: Widget, visitor: gr.Textbox, *, api_name: str | None = None) -> None:
    """Let the film buttons of a player make a film, and the browser save it.

    Args:
        context: its history has the runs.
        player: its buttons, made by `player.film_buttons`, trigger `film` with the run and the shape as `wanted`.
        visitor: what the page knows its visitor by.
        api_name: the endpoint for clients, or None where there is one already.
    """
    run_id, shape = gr.Textbox(visible=False), gr.Textbox(visible=False)
    file = gr.File(label="Film", visible=False)
    shown: dict[str, Any] = PRIVATE if api_name is None else {"api_name": api_name}
    pressed = player.film(None, player, [run_id, shape], js="(value) => value.wanted", **PRIVATE)
    made = pressed.then(partial(make_film, context), [run_id, shape, visitor], file, **ALONE, **shown)
    made.success(None, file, None, js="(file) => window.bdSave(file)", **PRIVATE)


@telling
def make_film(context: AppContext, run_id: str, shape: str, visitor: str) -> str:
    """A film of a run to post: source, frame by frame and bridged side by side under captions, then a wipe; mp4.

    Args:
        context: its history has the run.
        run_id: from the list of the history.
        shape: "wide" (16:9) or "square".
        visitor: who made the run.
    """
    inform("The film is being made; it is saved in some seconds.")
    options = FilmOptions(shape=shape or "wide")
    return str(context.runs.film(run_id or "", visitor_of(visitor).owner, options))
