"""The tab "Controllable generation": a clip is made anew from its edges or its depth.

In it: the tab's layout, its preview of the control map, its events. Not in it: the controls and the run that other tabs
have too (common.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import gradio as gr

from bivdiff.catalog import family
from bivdiff.types import GenerationRequest
from tabs import common, results
from tabs import controls as shared
from tabs.context import AppContext
from tabs.player import player_value, sync_player, tile

TASK = "control"
CONTROL_LABELS = {"canny": "Edges", "depth": "Depth"}


def build(context: AppContext, page: gr.Blocks) -> None:
    """Lay the tab out and connect it. Call it inside a `gr.Tab` of the page."""
    defaults = shared.defaults_of(context, TASK)
    controls: shared.Controls = {}
    with gr.Row(elem_classes="bd-columns", equal_height=False):
        with gr.Column(elem_classes="bd-card", min_width=340):
            shared.heading(1, "The clip you have")
            controls |= shared.clip_controls(context)
            controls["control_type"] = _control_type(context, defaults)
            preview = sync_player(player_value(preview_tiles("canny", None, None), 8), elem_id="preview")
            controls |= shared.trim_controls(context)
        with gr.Column(elem_classes="bd-card", min_width=340):
            shared.heading(2, "The clip you want")
            controls |= shared.prompt_controls(defaults, context.samples[0].prompt)
            shared.word_list()
            controls |= shared.mixing_control(defaults)
            controls |= shared.seed_controls()
            controls |= shared.step_controls(defaults)
            with gr.Accordion("Advanced", open=False):
                controls |= shared.advanced_controls(defaults)
                controls |= _control_settings(defaults)
            start, stop, panel = shared.run_controls()
    with gr.Column(elem_classes="bd-card bd-result", elem_id="result"):
        shared.heading(3, "Side by side, in step")
        player = sync_player(results.empty_player(), elem_id="player")
    widgets = common.RunWidgets(start, stop, panel, player, gr.State(None))
    common.wire_run(context, TASK, controls, widgets, api_name="control")
    watched = ["start", "stride", "num_frames", "fit", "control_type", "low_threshold", "high_threshold"]
    shown = common.Preview(partial(preview_control, context), preview, watched, api_name="control_map")
    common.wire_source(context, page, controls, shown, text=("prompt", lambda sample: sample.prompt))


def preview_tiles(control_type: str, frames: Any, control_frames: Any, note: str = "") -> list[dict[str, Any]]:
    """The source and its control map; `note` says why one is missing."""
    label = CONTROL_LABELS.get(control_type, str(control_type))
    wait = frames is not None and control_frames is None and not note
    return [
        tile("Source", frames, note=note if frames is None else ""),
        tile(label, control_frames, note=note or "Reading the clip", pending=wait),
    ]


def preview_control(context: AppContext, values: common.Values) -> Iterator[dict[str, Any]]:
    """Show the trimmed source at once, then its control map: what the image model will be given."""
    control_type = values.get("control_type") or "canny"
    job = None
    try:
        job = common.read_job(context, TASK, values)
        yield player_value(preview_tiles(control_type, job.request.frames, None), job.fps)
        # Edges need no model. Depth does, and a run that has the device may take minutes.
        if control_type != "canny" and context.device.locked():
            note = "The models are busy: this map is shown when you generate, or change a setting here later."
            yield player_value(preview_tiles(control_type, job.request.frames, None, note), job.fps)
            return
        maps = context.control_maps(job.request)
        yield player_value(preview_tiles(control_type, job.request.frames, maps), job.fps)
    except Exception as error:  # noqa: BLE001 - `sentence` logs what is not meant for users
        frames = None if job is None else job.request.frames
        yield player_value(preview_tiles(control_type, frames, None, common.sentence(error)), 8)


def _control_type(context: AppContext, defaults: GenerationRequest) -> gr.Radio:
    kinds = family(context.family).control_types
    return gr.Radio(
        [(CONTROL_LABELS.get(kind, kind), kind) for kind in kinds], value=defaults.control_type, elem_id="control-type",
        label="What to keep of it", info="Its outlines, or its shapes in space", elem_classes="bd-choice bd-inline",
    )  # fmt: skip


def _control_settings(defaults: GenerationRequest) -> shared.Controls:
    controls: shared.Controls = {
        "controlnet_conditioning_scale": gr.Slider(
            0, 2, defaults.controlnet_conditioning_scale, step=0.05, label="Control strength",
            info="0 ignores the control map, 1 is usual", min_width=180,
        )
    }  # fmt: skip
    with gr.Row(elem_classes="bd-fields"):
        controls["low_threshold"] = gr.Slider(
            1,
            255,
            defaults.low_threshold,
            step=1,
            label="Weak edges",
            info="Canny: lower keeps more of them",
            min_width=180,
        )
        controls["high_threshold"] = gr.Slider(
            1,
            255,
            defaults.high_threshold,
            step=1,
            label="Strong edges",
            info="Canny: where an edge begins",
            min_width=180,
        )
    return controls
