"""The tab "Outpainting": a clip is continued beyond its edges."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any, cast

import gradio as gr
import numpy as np

from bivdiff.studio.form import CanvasForm, Form, Pictures, read_pictures
from bivdiff.units import say_percent
from tabs import controls as shared
from tabs.binding import Values
from tabs.bridge import bridge_controls, ratio_control, wire_models
from tabs.context import AppContext
from tabs.events import PRIVATE, QUICK
from tabs.failures import sentence
from tabs.inpaint import keep_control
from tabs.presets import preset_controls
from tabs.prompts import other_prompts, prompt_box, word_list
from tabs.requests import Submission, fill_in, restored_source, submission_of, whole
from tabs.results import shown_masks
from tabs.source import Preview, notes_of, wire_source
from tabs.task_tab import PageParts, TaskTab, add_result
from tabs.widgets.player import preview_value, tile

TASK = "outpaint"
SIDES = ("left", "top", "right", "bottom")
ASPECTS = ("16:9", "3:2", "4:3", "1:1", "3:4", "2:3", "9:16", "21:9")


def build(context: AppContext, tab: gr.Tab | gr.Blocks, page: PageParts) -> TaskTab:
    """Lay the tab out and connect it. Call it inside a `gr.Tab` of the page."""
    defaults = shared.defaults_of(context, TASK)
    controls: shared.Controls = {}
    with shared.columns():
        with shared.ask():
            controls |= shared.clip_controls(TASK, page.visitor)
            notes = shared.source_notes(TASK)
            controls |= _side_controls()
            controls |= shared.model_choice(context, TASK)
            image_model = controls.get("image_model")
            controls["prompt"] = prompt_box(
                context, TASK, context.samples[0].caption, info="What the whole, larger picture shows"
            )
            word_list(context)
            ratio = ratio_control(context, TASK, controls["sample"])
            buttons = shared.run_controls(TASK)
            shared.more()
            controls |= bridge_controls(context, TASK, ratio, image_model)
            controls |= shared.trim_controls(context, shape=False)
            controls |= other_prompts(defaults)
            controls |= shared.step_controls(defaults, image_model=image_model)
            with gr.Accordion("Advanced", open=False):
                controls |= shared.advanced_controls(context, defaults, image_model=image_model)
                controls["feather"] = shared.setting("feather", defaults.feather)
                controls |= keep_control(defaults.preserve_known)
            preset_controls(context, TASK, controls)
            wire_models(context, TASK, controls)
        view = shared.see(context, TASK)
    built = add_result(context, read_job, TASK, controls, buttons, view, page.queue, tab)
    watched = ["start", "stride", "num_frames", "fps", "extend_by", *SIDES, "aspect"]
    shown = Preview(partial(preview_canvas, context), [view.player], watched, api_name="outpaint_canvas")
    wire_source(context, tab, built, shown, {"prompt": lambda sample: sample.caption}, notes)
    return built


# From the page to a request


def read_job(context: AppContext, values: Values) -> Submission:
    """Turn the filled-in tab into a request, whose frames are the whole canvas.

    Raises:
        InputError: a value, the clip or a side cannot be used.
    """
    return submission_of(context, _form(context, values), values, restored_source(context, values))


def read_canvas(context: AppContext, values: Values) -> Pictures:
    """The clip on its canvas, with the masks of what is added; a restored run's canvas has no plan any more.

    Raises:
        InputError: the clip or a side cannot be used.
    """
    with context.decoding():
        source = restored_source(context, values)
        return read_pictures(_form(context, values), None if source is None else source.earlier)


def _form(context: AppContext, values: Values) -> Form:
    return fill_in(context, TASK, values, canvas=CanvasForm(extend=extension(values)))


def extension(values: Values) -> str:
    """How far to extend, in the words that `plan_canvas` reads."""
    if values.get("extend_by") == "aspect":
        return str(values.get("aspect") or "")
    return ", ".join(str(whole(values.get(side) or 0)).strip() or "0" for side in SIDES)


# The preview


def preview_tiles(canvas: np.ndarray | None, note: str = "") -> list[dict[str, Any]]:
    """The canvas with what is added in colour; `note` says why it is missing."""
    return [tile("Canvas", canvas, note=note)]


def preview_canvas(context: AppContext, values: Values) -> Iterator[dict[str, Any]]:
    """Show the clip on its canvas, with what will be made in colour, and say how large both are."""
    try:
        canvas = read_canvas(context, values)
        frames, plan = canvas.clip.frames, canvas.plan
        masks = cast("np.ndarray", canvas.masks)  # a canvas has them
        sizes = [] if plan is None else [("The clip on it", f"{plan.width} by {plan.height} pixels")]
        facts = [
            ("Canvas", f"{frames.shape[2]} by {frames.shape[1]} pixels"),
            *sizes,
            ("Made anew", f"{say_percent(float((masks > 0).mean()))} of the picture"),
            *notes_of(canvas.notes),
        ]
        yield preview_value(preview_tiles(shown_masks(frames, masks)), frames, canvas.clip.fps, facts)
    except Exception as error:  # noqa: BLE001 - `sentence` logs what is not meant for users
        yield preview_value(preview_tiles(None, sentence(error)), None, 8)


# The controls


def _side_controls() -> shared.Controls:
    """How far to extend: side by side, or to a shape."""
    controls: shared.Controls = {
        "extend_by": gr.Radio(
            [("By sides", "sides"), ("To a shape", "aspect")], value="sides", label="Extend the picture",
            info="The clip is made smaller, so that the canvas suits the models", elem_classes="bd-choice",
            elem_id=f"{TASK}-extend-by",
        )
    }  # fmt: skip
    with gr.Column(elem_classes="bd-group") as sides:
        shared.remark("Pixels of your clip, such as 64, or percent of its side, such as 25%.")
        with gr.Row(elem_classes="bd-fields bd-sides"):
            for side in SIDES:
                start = "25%" if side in {"left", "right"} else "0"
                controls[side] = gr.Textbox(
                    start, label=side.title(), info="Pixels, or %", min_width=60, elem_id=f"{TASK}-{side}"
                )
    with gr.Column(visible=False, elem_classes="bd-group") as shape:
        controls["aspect"] = gr.Dropdown(
            list(ASPECTS), value="16:9", label="Width to height", info="Choose, or write your own, such as 5:4",
            allow_custom_value=True, elem_id=f"{TASK}-aspect",
        )  # fmt: skip
    controls["extend_by"].change(
        lambda how: (gr.update(visible=how != "aspect"), gr.update(visible=how == "aspect")), controls["extend_by"],
        [sides, shape], **QUICK, **PRIVATE,
    )  # fmt: skip
    return controls
