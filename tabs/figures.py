"""Choosing what a figure for a paper shows: frames, rows, what is enlarged, the column over time."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import gradio as gr

from bivdiff.catalog.image_models import IMAGE_MODELS
from bivdiff.compare.axes import before_names, clip_names, label_of, values_of_cells
from bivdiff.errors import InputError
from tabs import controls as shared
from tabs.context import AppContext
from tabs.events import PRIVATE, QUICK
from tabs.failures import telling
from tabs.films import ALONE, make_paper
from tabs.visitors import visitor_of
from tabs.widgets.component import Widget

if TYPE_CHECKING:
    from bivdiff.studio.history.records import Run


SHOWN_RUN = "(_, ...given) => [document.querySelector('#%s-player .bd-player').runId(), ...given]"
"""The run that a player shows: its value does not say, since a preview replaces that and leaves the clips shown."""


def figure_panel(context: AppContext, player: Widget, visitor: gr.Textbox, name: str) -> None:
    """A fold with the choices for a figure of what a player shows, and the button that makes it.

    Args:
        context: its history has the run or the comparison.
        player: of the tab; it triggers `run` when it shows another one.
        visitor: what the page knows its visitor by.
        name: of the tab, for the elements' ids.
    """
    run_id = gr.Textbox(visible=False)
    with gr.Accordion(
        "Figure for a paper, of chosen frames and rows", open=False, elem_id=f"{name}-figure", elem_classes="bd-figure"
    ) as fold:
        shared.remark(
            "PDF and SVG whose labels are text, with caption, LaTeX table and BibTeX, in a zip. Flicker shows as "
            "stripes in the column over time."
        )
        with shared.fields():
            frames = gr.Textbox(label="Frames", info="Numbers between commas; empty takes four", min_width=150,
                                elem_id=f"{name}-figure-frames")  # fmt: skip
            zoom = gr.Textbox("auto", label="Enlarged", info="auto: where it flickers most; left, top, side; or empty",
                              min_width=180, elem_id=f"{name}-figure-zoom")  # fmt: skip
            column = gr.Textbox("auto", label="Column over time", info="auto, a number, or empty", min_width=150,
                                elem_id=f"{name}-figure-column")  # fmt: skip
        rows = gr.CheckboxGroup([], label="Rows", info="None takes the usual ones", elem_id=f"{name}-figure-rows")
        button = gr.Button("Make the figure", size="sm", elem_id=f"{name}-figure-make")
        file = gr.File(visible=False)
    # A fold that is open stays so over the next run, whose rows have other names.
    for changed in (fold.expand, player.run):
        changed(partial(offer_rows, context), [run_id, visitor], rows, js=SHOWN_RUN % name, **QUICK, **PRIVATE)
    made = button.click(
        partial(make_chosen, context), [run_id, frames, rows, zoom, column, visitor], file, js=SHOWN_RUN % name,
        **ALONE, **PRIVATE,
    )  # fmt: skip
    made.success(None, file, None, js="(file) => window.bdSave(file)", **PRIVATE)


def offer_rows(context: AppContext, run_id: str, visitor: str) -> Any:
    """The clips of what is shown, to choose rows from."""
    choices = row_labels(context.runs.get(run_id, visitor_of(visitor).owner)) if run_id else []
    return gr.update(choices=choices, value=[])


def row_labels(run: Run) -> list[str]:
    """What the clips of a run or a comparison are called in a figure; of a comparison those that were made."""
    if run.kind != "comparison":
        return clip_names(run.image_model, run.settings["mixing_ratio"])
    axes = run.settings["axes"]
    first = [name.lower() for name in before_names(run.image_model, axes)]
    source = ["source"] if IMAGE_MODELS[run.image_model].makes_frames else []
    cells = enumerate(values_of_cells(axes), 1)
    return [*source, *first, *(label_of(values) for number, values in cells if f"cell {number}" in run.files)]


@telling
def make_chosen(
    context: AppContext, run_id: str, frames: str, rows: Sequence[str], zoom: str, column: str, visitor: str
) -> str:
    """The figure as it was chosen.

    Raises:
        gr.Error: nothing was made yet, or the choice cannot be met.
    """
    if not run_id:
        raise InputError(
            "There is nothing to make a figure of yet. Press “Generate” or “Compare” first, or choose an earlier run "
            "in the history."
        )
    return make_paper(context, run_id, frames, rows, zoom, column, visitor)
