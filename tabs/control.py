"""The tab "Controllable generation": a clip is made anew from its edges, its depth, or both."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np

from bivdiff.catalog.families import control_types_of, family_named
from bivdiff.catalog.image_models import IMAGE_MODELS, title_of
from bivdiff.errors import InputError
from bivdiff.fields import table
from bivdiff.studio.form import SourceForm
from bivdiff.types import Control, GenerationRequest
from tabs import controls as shared
from tabs.binding import Values
from tabs.bridge import bridge_controls, ratio_control, wire_models
from tabs.context import AppContext
from tabs.events import PRIVATE, QUICK
from tabs.failures import refusal, sentence
from tabs.presets import preset_controls
from tabs.prompts import other_prompts, prompt_box, word_list
from tabs.requests import (
    Source,
    Submission,
    chosen_sample,
    fill_in,
    read_source,
    restored_source,
    submission_of,
)
from tabs.results import CONTROL_LABELS
from tabs.source import TRIM, Preview, notes_of, wire_source
from tabs.task_tab import PageParts, TaskTab, add_result
from tabs.widgets.player import preview_value, tile

TASK = "control"
NO_SECOND = "none"
FEW = 4
MAP_SOURCES = [
    ("Drawn from the clip", "drawn"),
    ("The sample's true depth", "sample"),
    ("A clip that is the map", "upload"),
]


def build(context: AppContext, tab: gr.Tab | gr.Blocks, page: PageParts) -> TaskTab:
    """Lay the tab out and connect it. Call it inside a `gr.Tab` of the page."""
    defaults = shared.defaults_of(context, TASK)
    controls: shared.Controls = {}
    with shared.columns():
        with shared.ask():
            controls |= shared.clip_controls(TASK, page.visitor)
            notes = shared.source_notes(TASK)
            controls["prompt"] = prompt_box(context, TASK, context.samples[0].prompt)
            word_list(context)
            ratio = ratio_control(context, TASK, controls["sample"])
            buttons = shared.run_controls(TASK)
            shared.more()
            controls |= _control_choice(context, defaults)
            controls |= bridge_controls(context, TASK, ratio, controls["image_model"])
            controls |= _control_details(context, defaults)
            controls |= shared.trim_controls(context)
            controls |= other_prompts(defaults)
            controls |= shared.step_controls(defaults, image_model=controls["image_model"])
            with gr.Accordion("Advanced", open=False):
                controls |= shared.advanced_controls(context, defaults, image_model=controls["image_model"])
            preset_controls(context, TASK, controls)
            wire_models(context, TASK, controls)
        view = shared.see(context, TASK)
    built = add_result(context, read_job, TASK, controls, buttons, view, page.queue, tab)
    watched = [
        *TRIM, "control_type", "second_control_type", "map_source", "control_video", "turn_maps", "low_threshold",
        "high_threshold",
    ]  # fmt: skip
    _wire_choices(context, controls)
    shown = Preview(partial(preview_control, context), [view.player], watched, api_name="control_map")
    wire_source(context, tab, built, shown, {"prompt": lambda sample: sample.prompt}, notes)
    return built


# From the page to a request


def read_job(context: AppContext, values: Values) -> Submission:
    """Turn the filled-in tab into a request.

    Raises:
        InputError: a value or a clip cannot be used.
    """
    return _submission_of(context, values, restored_source(context, values))


def _submission_of(context: AppContext, values: Values, source: Source | None) -> Submission:
    controls = _controls_of(values)
    again = source is not None and source.earlier is not None  # then the maps are as they were
    maps = () if again else (_map_path(context, values), None)[: len(controls)]
    return submission_of(context, fill_in(context, TASK, values, controls=controls, maps=maps), values, source)


def _controls_of(values: Values) -> tuple[Control, ...]:
    """What to keep of the source, without its maps. What is not filled in is as Control has it."""
    first = values.get("control_type") or table(Control)["control_type"].default
    kinds = {"": first, "second_": values.get("second_control_type") or NO_SECOND}
    if kinds["second_"] == NO_SECOND:
        del kinds["second_"]
    elif kinds["second_"] == kinds[""]:
        raise InputError("Both controls are of the same kind. Choose another second control, or none.")
    span = {"start": values.get("control_start"), "end": values.get("control_end")}
    given: list[dict[str, Any]] = [
        {"control_type": kind, "conditioning_scale": values.get(f"{prefix}conditioning_scale"), **span}
        for prefix, kind in kinds.items()
    ]
    return tuple(Control(**{name: value for name, value in each.items() if value is not None}) for each in given)


def _map_path(context: AppContext, values: Values) -> Path | None:
    """The clip that is the first control's map; None if it is to be drawn."""
    source = values.get("map_source") or "drawn"
    if source not in (known := [key for _, key in MAP_SOURCES]):
        raise InputError(f"{source!r:.40} is not a valid value for map_source. Use {' or '.join(known)}.")
    if source == "upload":
        if not values.get("control_video"):
            raise InputError("There is no control clip yet. Upload one, or let the map be drawn from the clip.")
        return Path(values["control_video"])
    if source == "drawn":
        return None
    if values.get("video"):
        raise InputError("Only the samples come with their true depth. Let the map be drawn from your clip instead.")
    if values.get("control_type") != "depth":
        raise InputError("The true map of a sample is its depth. Keep its depth, or let the map be drawn.")
    return chosen_sample(context, values).depth


# The preview


def preview_tiles(
    controls: Sequence[Control], frames: np.ndarray | None, maps: Sequence[np.ndarray] | None, note: str = ""
) -> list[dict[str, Any]]:
    """The source and its control maps; `note` says why one is missing."""
    wait = frames is not None and maps is None and not note
    shown = list(controls) or [Control()]
    return [
        tile("Source", frames, note=note if frames is None else ""),
        *(
            tile(
                CONTROL_LABELS.get(control.control_type, control.control_type), maps[number] if maps else None,
                note=note or "Reading the clip", pending=wait,
            )
            for number, control in enumerate(shown)
        ),
    ]  # fmt: skip


def preview_control(context: AppContext, values: Values) -> Iterator[dict[str, Any]]:
    """Show the trimmed source at once, then its control maps: what the image model will be given."""
    frames, fps = None, 8.0
    controls: tuple[Control, ...] = ()
    try:
        source = read_source(context, values)
        frames, fps = source.clip.frames, source.clip.fps
        asked = _submission_of(context, values, source)
        request, controls, facts = asked.request, asked.request.controls, notes_of(asked.notes)
        yield preview_value(preview_tiles(controls, frames, None), frames, fps, facts)
        # Edges need no model. Depth does, and a run that has the device may take minutes.
        needy = any(family_named(context.family).annotator(item) for item in controls)
        if needy and not context.device.acquire(blocking=False):
            note = "The models are busy: this map is shown when you generate, or change a setting here later."
            yield preview_value(preview_tiles(controls, frames, None, note), frames, fps, facts)
            return
        try:
            maps = context.control_maps(request)
        finally:
            if needy:
                context.device.release()
        yield preview_value(preview_tiles(controls, frames, maps), frames, fps, facts)
    except Exception as error:  # noqa: BLE001 - `sentence` logs what is not meant for users
        yield preview_value(preview_tiles(controls, frames, None, sentence(error)), frames, fps)


# The controls


def _control_choice(context: AppContext, defaults: GenerationRequest) -> shared.Controls:
    kinds = control_types_of(defaults.image_model, context.family)
    controls = shared.model_choice(context, TASK)
    kept = table(Control)["control_type"]
    with shared.fields():
        controls["control_type"] = _choice(
            _labelled(kinds), value=kinds[0], elem_id=f"{TASK}-type", label=kept.label,
            info=kept.info, elem_classes="bd-choice", min_width=180,
        )  # fmt: skip
        controls["conditioning_scale"] = shared.setting("conditioning_scale", 1.0, Control)
    return controls


def _control_details(context: AppContext, defaults: GenerationRequest) -> shared.Controls:
    kinds = control_types_of(defaults.image_model, context.family)
    controls: shared.Controls = {}
    with gr.Accordion("More on the control", open=False):
        controls["map_source"] = gr.Radio(
            MAP_SOURCES, value="drawn", label="The control map is", elem_id=f"{TASK}-map-source",
            info="A map of your own must go with the clip frame by frame", elem_classes="bd-choice",
        )  # fmt: skip
        with gr.Column(visible=False) as uploads:
            controls["control_video"] = shared.upload(
                "The control map: a clip as long as the source, or a picture", elem_id=f"{TASK}-map"
            )
            controls["turn_maps"] = shared.setting("turn_maps", False, SourceForm)
        controls["map_source"].change(
            lambda source: gr.update(visible=source == "upload"), controls["map_source"], uploads,
            **QUICK, **PRIVATE,
        )  # fmt: skip
        with shared.fields():
            controls["second_control_type"] = _choice(
                [("None", NO_SECOND), *_labelled(kinds)], value=NO_SECOND, label="Second control", min_width=180,
                info="Keeps something else as well", elem_classes="bd-choice", elem_id=f"{TASK}-second-type",
            )  # fmt: skip
            controls["second_conditioning_scale"] = shared.setting(
                "conditioning_scale",
                1.0,
                Control,
                label="Strength of the second",
                info="Its map is drawn from the source clip",
            )
        with shared.fields():
            controls["control_start"] = shared.setting("start", 0.0, Control)
            controls["control_end"] = shared.setting("end", 1.0, Control)
        with shared.fields():
            for name in ("low_threshold", "high_threshold"):
                controls[name] = shared.setting(name, getattr(defaults, name))
    return controls


def _choice(choices: list[tuple[str, str]], **options: Any) -> gr.Radio | gr.Dropdown:
    """A few choices side by side, many behind one another."""
    return (gr.Radio if len(choices) <= FEW else gr.Dropdown)(choices, **options)


def _labelled(kinds: Sequence[str]) -> list[tuple[str, str]]:
    return [(CONTROL_LABELS.get(kind, kind), kind) for kind in kinds]


def _wire_choices(context: AppContext, controls: shared.Controls) -> None:
    """Let the control types follow the image model."""
    chosen = [controls[name] for name in ("image_model", "control_type", "second_control_type")]
    chosen[0].change(lambda *given: follow_model(context, *given), chosen, chosen[1:], **QUICK, **PRIVATE)


def follow_model(context: AppContext, image_model: str, control_type: str, second: str) -> tuple[Any, Any]:
    """The control types that an image model can read; what was chosen stays where it is one of them."""
    models = shared.image_models_of(context, TASK)
    if image_model not in models:
        raise refusal(f"Choose one of these image models: {', '.join(map(title_of, models))}.")
    kinds = control_types_of(image_model, context.family)
    beside = () if IMAGE_MODELS[image_model].pipeline else kinds  # a pipeline has one control
    first = control_type if control_type in kinds else kinds[0]
    other = second if second in beside else NO_SECOND
    return (
        gr.update(choices=_labelled(kinds), value=first),
        gr.update(choices=[("None", NO_SECOND), *_labelled(beside)], value=other),
    )
