"""Choosing what a figure for a paper shows: frames, rows, what is enlarged, the column over time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import gradio as gr

from bivdiff.catalog.image_models import IMAGE_MODELS
from bivdiff.compare.axes import before_names, label_of, values_of_cells
from bivdiff.errors import InputError
from tabs import controls as shared
from tabs.context import AppContext
from tabs.events import PRIVATE, QUICK
from tabs.failures import telling
from tabs.films import ALONE, make_paper
from tabs.visitors import visitor_of


def figure_panel(context: AppContext, made: gr.State, visitor: gr.Textbox, name: str) -> None:
    """A fold with the choices for a figure, and the button that makes it.

    Args:
        context: its history has the comparison.
        made: has the comparison's id as `run_id`; None before there is one.
        visitor: what the page knows its visitor by.
        name: of the tab, for the elements' ids.
    """
    with gr.Accordion("Figure for a paper", open=False, elem_id=f"{name}-figure") as fold:
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
    fold.expand(partial(offer_rows, context), [made, visitor], rows, **QUICK, **PRIVATE)
    pressed = button.click(
        partial(make_chosen, context), [made, frames, rows, zoom, column, visitor], file, **ALONE, **PRIVATE
    )
    pressed.success(None, file, None, js="(file) => window.bdSave(file)", **PRIVATE)


def offer_rows(context: AppContext, made: Mapping[str, Any] | None, visitor: str) -> Any:
    """The clips of the comparison that is shown, to choose rows from."""
    if not made:
        return gr.update(choices=[], value=[])
    run = context.runs.get(made["run_id"], visitor_of(visitor).owner)
    return gr.update(choices=row_labels(run.image_model, run.settings["axes"], made["cells"]), value=[])


def row_labels(image_model: str, axes: Mapping[str, Sequence[Any]], cells: Sequence[Any]) -> list[str]:
    """What the clips of a comparison are called in a figure: source, frames, and the cells that were made."""
    first = [name.lower() for name in before_names(image_model, axes)]
    source = ["source"] if IMAGE_MODELS[image_model].makes_frames else []
    ready = [label_of(each) for each, cell in zip(values_of_cells(axes), cells, strict=True) if cell is not None]
    return [*source, *first, *ready]


@telling
def make_chosen(
    context: AppContext, made: Mapping[str, Any] | None, frames: str, rows: Sequence[str], zoom: str, column: str,
    visitor: str,
) -> str:  # fmt: skip
    """The figure as it was chosen.

    Raises:
        gr.Error: nothing was made yet, or the choice cannot be met.
    """
    if not made:
        raise InputError(
            "There is nothing to make a figure of yet, or this window has been open for so long that the studio has "
            "forgotten it. Press “Compare” first, or choose an earlier comparison in the history."
        )
    return make_paper(context, made["run_id"], frames, rows, zoom, column, visitor)
