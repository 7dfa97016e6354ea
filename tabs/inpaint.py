"""The tab "Inpainting": a part of a clip is made anew."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np

from bivdiff.errors import InputError
from bivdiff.fields import table
from bivdiff.studio import form as forms
from bivdiff.studio.form import MaskForm
from bivdiff.units import say_percent
from tabs import controls as shared
from tabs.binding import Values, bind
from tabs.bridge import bridge_controls, ratio_control, wire_models
from tabs.context import AppContext
from tabs.events import PRIVATE, QUICK, READING
from tabs.failures import sentence
from tabs.presets import preset_controls
from tabs.prompts import other_prompts, prompt_box, word_list
from tabs.requests import (
    Source,
    Submission,
    chosen_sample,
    fill_in,
    read_source,
    restored_source,
    source_form,
    submission_of,
    whole,
)
from tabs.results import shown_masks
from tabs.source import TRIM, Preview, notes_of, wire_source
from tabs.task_tab import PageParts, TaskTab, add_result
from tabs.widgets.painter import painter
from tabs.widgets.player import preview_value, sheet, tile

TASK = "inpaint"
SOURCES = [
    ("The sample's moving object", "object"),
    ("Painted", "paint"),
    ("Boxes", "boxes"),
    ("A colour", "color"),
    ("Uploaded", "upload"),
]
POLARITIES = [("Marked", "white"), ("The rest", "black")]


def build(context: AppContext, tab: gr.Tab | gr.Blocks, page: PageParts) -> TaskTab:
    """Lay the tab out and connect it. Call it inside a `gr.Tab` of the page."""
    defaults = shared.defaults_of(context, TASK)
    controls: shared.Controls = {}
    with shared.columns():
        with shared.ask():
            controls |= shared.clip_controls(TASK, page.visitor)
            notes = shared.source_notes(TASK)
            controls |= _mask_controls()
            controls |= shared.model_choice(context, TASK)
            image_model = controls.get("image_model")
            controls["prompt"] = prompt_box(
                context, TASK, context.samples[0].erased,
                info="What the whole clip then shows; leave the marked thing out to erase it",
            )  # fmt: skip
            word_list(context)
            ratio = ratio_control(context, TASK, controls["sample"])
            buttons = shared.run_controls(TASK)
            shared.more()
            controls |= _mask_edge(defaults.feather)
            controls |= bridge_controls(context, TASK, ratio, image_model)
            controls |= shared.trim_controls(context)
            controls |= other_prompts(defaults)
            controls |= shared.step_controls(defaults, image_model=image_model)
            with gr.Accordion("Advanced", open=False):
                controls |= shared.advanced_controls(context, defaults, image_model=image_model)
                controls |= keep_control(defaults.preserve_known)
            preset_controls(context, TASK, controls)
            wire_models(context, TASK, controls)
        view = shared.see(context, TASK)
    built = add_result(context, read_job, TASK, controls, buttons, view, page.queue, tab)
    own = ["mask_source", "boxes", "color", "tolerance", "mask_video", "polarity", "grow"]
    outputs: list[gr.HTML] = [view.player, controls["painted"]]
    shown = Preview(partial(preview_mask, context), outputs, [*TRIM, *own], api_name="inpaint_mask")
    wire_source(context, tab, built, shown, {"prompt": lambda sample: sample.erased}, notes)
    # An event of our own, which Gradio lets stand only alone.
    controls["painted"].paint(
        bind(shown.show, controls), list(controls.values()), outputs, show_progress="hidden",
        trigger_mode="always_last", **READING, api_visibility="private",
    )  # fmt: skip
    return built


def keep_control(value: bool) -> shared.Controls:
    """Whether what is outside the mask stays as it is."""
    return {"preserve_known": shared.setting("preserve_known", value)}


# From the page to a request


def read_job(context: AppContext, values: Values) -> Submission:
    """Turn the filled-in tab into a request.

    Raises:
        InputError: a value, the clip or the mask cannot be used.
    """
    source = restored_source(context, values)
    masks = mask_form(context, values) if source is None else MaskForm()
    return submission_of(context, fill_in(context, TASK, values, masks=masks), values, source)


def read_masks(context: AppContext, values: Values, source: Source) -> tuple[np.ndarray, tuple[str, ...]]:
    """The masks that the page describes, grown as it says, uint8 `(F, H, W)`, and what is to be said of them.

    A restored run's are as they were.

    Raises:
        InputError: they cannot be made of what is there.
    """
    if source.earlier is not None and source.earlier.request.masks is not None:
        return source.earlier.request.masks, ()
    with context.decoding():
        return forms.read_masks(mask_form(context, values), source_form(context, values), source.clip)


def mask_form(context: AppContext, values: Values) -> MaskForm:
    """What is made anew, in the one way that is chosen.

    Raises:
        InputError: what that way needs is not there.
    """
    source = values.get("mask_source") or "object"
    if source not in WAYS:
        raise InputError(f"{source!r:.40} is not a valid value for mask_source. Use {' or '.join(WAYS)}.")
    given = {name: whole(values[name]) for name in ("tolerance", "grow") if values.get(name) is not None}
    return MaskForm(**WAYS[source](context, values), **given)


def _of_object(context: AppContext, values: Values) -> dict[str, Any]:
    sample = chosen_sample(context, values)
    if values.get("video"):
        raise InputError(
            "Only the samples come with a mask of their moving object. Paint a mask on your clip, draw boxes, choose "
            "a colour or upload one."
        )
    return {"clip": sample.masks}


def _painted(_: AppContext, values: Values) -> dict[str, Any]:
    painted = values.get("painted")
    paint = painted.get("paint") if isinstance(painted, Mapping) else painted
    if not paint:
        raise InputError("Nothing is painted yet. Paint over what should be made anew.")
    return {"painted": paint}


def _boxes(_: AppContext, values: Values) -> dict[str, Any]:
    if not str(values.get("boxes") or "").strip():
        raise InputError("There is no box yet. Write left, top, right and bottom, in pixels or percent.")
    return {"boxes": values["boxes"]}


def _colored(_: AppContext, values: Values) -> dict[str, Any]:
    if not values.get("color"):
        raise InputError("There is no colour yet. Choose the colour of what should be made anew.")
    return {"color": str(values["color"])}


def _uploaded(_: AppContext, values: Values) -> dict[str, Any]:
    if not values.get("mask_video"):
        raise InputError(
            "There is no mask yet. Upload a clip or a picture that marks what to make anew: white on black, or painted."
        )
    return {"clip": Path(values["mask_video"]), "black_regenerates": values.get("polarity") == "black"}


WAYS: Mapping[str, Callable[[AppContext, Values], dict[str, Any]]] = {
    "object": _of_object, "paint": _painted, "boxes": _boxes, "color": _colored, "upload": _uploaded,
}  # fmt: skip
"""Ways to say what is made anew, and the fields of MaskForm that each fills in."""


# The preview


def preview_tiles(frames: np.ndarray | None, masked: np.ndarray | None, note: str = "") -> list[dict[str, Any]]:
    """The source and the source under its mask; `note` says why one is missing."""
    wait = frames is not None and masked is None and not note
    return [
        tile("Source", frames, note=note if frames is None else ""),
        tile("Made anew", masked, note=note or "Reading the clip", pending=wait),
    ]


def preview_mask(context: AppContext, values: Values) -> Iterator[tuple[dict[str, Any], Any]]:
    """Show the trimmed source with its mask over it, and give the painter the first frame."""
    frames, fps, canvas = None, 8.0, gr.skip()
    try:
        source = read_source(context, values)
        frames, fps = source.clip.frames, source.clip.fps
        painted, picture = values.get("painted"), sheet(frames[:1])
        if not isinstance(painted, Mapping) or painted.get("sheet") != picture:
            # What was painted on another picture says nothing about this one.
            kept = painted if isinstance(painted, Mapping) and painted.get("sheet") is None else {}
            canvas = {"sheet": picture, "paint": kept.get("paint", "")}
            values = {**values, "painted": canvas}
        masks, told = read_masks(context, values, source)
        facts = [
            ("Made anew", f"{say_percent(float((masks > 0).mean()))} of the picture"),
            *notes_of((*source.clip.notes, *told)),
        ]
        yield preview_value(preview_tiles(frames, shown_masks(frames, masks)), frames, fps, facts), canvas
    except Exception as error:  # noqa: BLE001 - `sentence` logs what is not meant for users
        yield preview_value(preview_tiles(frames, None, sentence(error)), frames, fps), canvas


# The controls


def _mask_controls() -> shared.Controls:
    """Which part is made anew: a choice of ways, and what the chosen one needs."""
    masks = table(MaskForm)
    controls: shared.Controls = {
        "mask_source": gr.Radio(
            SOURCES, value="object", label="What to make anew", info="Shown in colour beside the result",
            elem_id=f"{TASK}-mask-source", elem_classes="bd-choice",
        )
    }  # fmt: skip
    parts = {}
    with gr.Column(visible=False, elem_classes="bd-group") as parts["paint"]:
        shared.remark("Paint on the first frame; the mask is carried over to the others.")
        controls["painted"] = painter(elem_id=f"{TASK}-painter")
    with gr.Column(visible=False, elem_classes="bd-group") as parts["boxes"]:
        controls["boxes"] = shared.setting("boxes", "25%, 25%, 75%, 75%", MaskForm, elem_id=f"{TASK}-boxes")
    with gr.Column(visible=False, elem_classes="bd-group") as parts["color"], shared.fields():
        controls["color"] = gr.ColorPicker(
            "#c03030", min_width=150, elem_id=f"{TASK}-color", **shared.words_of("color", MaskForm)
        )
        controls["tolerance"] = shared.setting(
            "tolerance", masks["tolerance"].default, MaskForm, elem_id=f"{TASK}-tolerance"
        )
    with gr.Column(visible=False, elem_classes="bd-group") as parts["upload"]:
        controls["mask_video"] = shared.upload(
            f"{masks['clip'].label}: {masks['clip'].info.lower()}", elem_id=f"{TASK}-mask"
        )
        controls["polarity"] = gr.Radio(
            POLARITIES, value="white", label="Made anew", info="White, paint or colour is marked",
            elem_classes="bd-choice bd-inline",
        )  # fmt: skip
    controls["mask_source"].change(
        lambda source: [gr.update(visible=key == source) for key in parts], controls["mask_source"],
        list(parts.values()), **QUICK, **PRIVATE,
    )  # fmt: skip
    return controls


def _mask_edge(feather: int) -> shared.Controls:
    """How far the mask grows, and how softly it ends."""
    with shared.fields():
        grow = shared.setting("grow", table(MaskForm)["grow"].default, MaskForm)
        return {"grow": grow, "feather": shared.setting("feather", feather)}
