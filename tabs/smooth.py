"""The tab "Your own frames": frames that another image model made are only inverted, mixed and smoothed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gradio as gr

from tabs import controls as shared
from tabs.binding import Values
from tabs.bridge import bridge_controls, ratio_control, wire_models
from tabs.context import AppContext
from tabs.presets import preset_controls
from tabs.prompts import other_prompts, prompt_box, word_list
from tabs.requests import Submission, chosen_sample, fill_in, restored_source, submission_of
from tabs.source import TRIM, Preview, preview_source, wire_source
from tabs.task_tab import PageParts, TaskTab, add_result

TASK = "smooth"
ABOUT = "Frames from any image model go straight to the bridge. Upload a clip that flickers; the samples were made to."


def build(context: AppContext, tab: gr.Tab | gr.Blocks, page: PageParts) -> TaskTab:
    """Lay the tab out and connect it. Call it inside a `gr.Tab` of the page."""
    defaults = shared.defaults_of(context, TASK)
    controls: shared.Controls = {}
    with shared.columns():
        with shared.ask():
            shared.remark(ABOUT)
            controls |= shared.clip_controls(TASK, page.visitor, "flickering")
            notes = shared.source_notes(TASK)
            controls["prompt"] = prompt_box(
                context, TASK, context.samples[0].caption, info="What the frames show, for the video model"
            )
            word_list(context)
            ratio = ratio_control(context, TASK, controls["sample"])
            buttons = shared.run_controls(TASK)
            shared.more()
            controls |= bridge_controls(context, TASK, ratio)
            controls |= shared.trim_controls(context)
            controls |= other_prompts(defaults)
            controls |= shared.step_controls(defaults, elsewhere=["num_inference_steps", "guidance_scale"])
            with gr.Accordion("Advanced", open=False):
                controls |= shared.advanced_controls(context, defaults, with_noise=False)
            preset_controls(context, TASK, controls)
            wire_models(context, TASK, controls)
        view = shared.see(context, TASK)
    built = add_result(context, read_job, TASK, controls, buttons, view, page.queue, tab)

    def show(values: Values) -> Iterator[dict[str, Any]]:
        yield from preview_source(context, "Your frames", _with_flicker(context, values), main=True)

    shown = Preview(show, [view.player], list(TRIM), api_name="smooth_source")
    wire_source(context, tab, built, shown, {"prompt": lambda sample: sample.caption}, notes)
    return built


def read_job(context: AppContext, values: Values) -> Submission:
    """Turn the filled-in tab into a request.

    Raises:
        InputError: a value or the clip cannot be used.
    """
    values = _with_flicker(context, values)
    return submission_of(context, fill_in(context, TASK, values), values, restored_source(context, values))


def _with_flicker(context: AppContext, values: Values) -> Values:
    """The values with the chosen sample as it flickers, where there is no clip of one's own."""
    if values.get("video") or values.get("restored"):
        return values
    return {**values, "video": str(chosen_sample(context, values).flickering)}
