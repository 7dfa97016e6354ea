"""The tab "Inpainting": a part of a clip is made anew."""

from __future__ import annotations

import base64
import binascii
import tempfile
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np

from bivdiff.errors import InputError
from bivdiff.media.reading import read_clip
from bivdiff.types import MAX_FEATHER
from tabs import controls as shared
from tabs.binding import Values, bind
from tabs.boards import sentence
from tabs.context import AppContext
from tabs.following import PageParts, TaskTab, add_result
from tabs.presets import preset_controls
from tabs.requests import Submission, make_job, restored, whole
from tabs.results import shown_masks
from tabs.source import TRIM, Preview, chosen_sample, read_beside, read_source, wire_source
from tabs.widgets.painter import painter
from tabs.widgets.player import clip_player, player_value, sheet, tile

TASK = "inpaint"
MAX_GROW = 32
TOLERANCE = 20
PNG = "data:image/png;base64,"
MAX_PAINT_CHARACTERS = 4 * 2**20
SOURCES = [
    ("The sample's moving object", "object"),
    ("Painted", "paint"),
    ("Boxes", "boxes"),
    ("A colour", "color"),
    ("Uploaded", "upload"),
]
POLARITIES = [("White", "white"), ("Black", "black")]


def build(context: AppContext, tab: gr.Tab | gr.Blocks, page: PageParts) -> TaskTab:
    """Lay the tab out and connect it. Call it inside a `gr.Tab` of the page."""
    defaults = shared.defaults_of(context, TASK)
    controls: shared.Controls = {}
    with shared.columns():
        with shared.card():
            shared.heading(1, "The clip you have")
            controls |= shared.clip_controls(context, TASK, page.visitor)
            controls |= _mask_controls(defaults.feather)
            preview = clip_player(player_value(preview_tiles(None, None), 8), "preview", elem_id=f"{TASK}-preview")
            controls |= shared.trim_controls(context)
        with shared.card():
            shared.heading(2, "The clip you want")
            controls["prompt"] = shared.prompt_box(
                context, TASK, context.samples[0].erased, "Prompt",
                "What the whole clip then shows; leave the marked thing out to erase it",
            )  # fmt: skip
            shared.word_list(context)
            controls |= shared.other_prompts(defaults)
            controls |= shared.bridge_controls(context, TASK)
            controls |= shared.step_controls(defaults)
            with gr.Accordion("Advanced", open=False):
                controls |= shared.advanced_controls(context, defaults)
                controls |= keep_control(defaults.preserve_known)
            preset_controls(context, TASK, controls)
            buttons = shared.run_controls(TASK)
    built = add_result(context, read_job, TASK, controls, buttons, page.queue)
    own = ["mask_source", "boxes", "color", "tolerance", "mask_video", "polarity", "grow"]
    outputs = [preview, controls["painted"]]
    shown = Preview(partial(preview_mask, context), outputs, [*TRIM, *own], api_name="inpaint_mask")
    wire_source(context, tab, controls, shown, {"prompt": lambda sample: sample.erased}, TASK)
    # An event of our own, which Gradio lets stand only alone.
    controls["painted"].paint(
        bind(shown.show, controls), list(controls.values()), outputs, show_progress="hidden",
        trigger_mode="always_last", concurrency_id="preview", api_visibility="private",
    )  # fmt: skip
    return built


def keep_control(value: bool) -> shared.Controls:
    """Whether what is outside the mask stays as it is."""
    return {
        "preserve_known": gr.Checkbox(
            value, label="Keep the rest as it is", info="Off lets the video model redraw the whole picture"
        )
    }


# From the page to a request


def read_job(context: AppContext, values: Values) -> Submission:
    """Turn the filled-in tab into a request.

    Raises:
        InputError: a value, the clip or the mask cannot be used.
    """
    clip = read_source(context, values)
    return make_job(context, TASK, values, clip, masks=read_masks(context, values, clip.frames))


def read_masks(context: AppContext, values: Values, frames: np.ndarray) -> np.ndarray:
    """The masks that the page describes, grown as it says, uint8 `(F, H, W)`.

    Raises:
        InputError: they cannot be made of what is there.
    """
    from bivdiff.pixels.masks import grow

    if (earlier := restored(context, values)) and earlier.request.masks is not None:
        return earlier.request.masks
    source = values.get("mask_source") or "object"
    if source not in READERS:
        raise InputError(f"Unknown mask_source '{source}'. Choose one of: {', '.join(READERS)}.")
    masks = grow(READERS[source](context, values, frames), whole(values.get("grow") or 0))
    if not masks.any():
        raise InputError("The mask is empty, so there is nothing to make anew. Mark more of the picture.")
    return masks


def _of_object(context: AppContext, values: Values, frames: np.ndarray) -> np.ndarray:
    from bivdiff.pixels.masks import fit_masks

    sample = chosen_sample(context, values)
    if values.get("video"):
        raise InputError(
            "Only the samples come with a mask of their moving object. Paint a mask on your clip, draw boxes, choose "
            "a colour or upload one."
        )
    return fit_masks(read_beside(values, sample.masks, frames), *frames.shape[:3])


def _painted(_: AppContext, values: Values, frames: np.ndarray) -> np.ndarray:
    from bivdiff.pixels.tracking import track

    first = painted_mask(values.get("painted"), frames)
    if not first.any():
        raise InputError("Nothing is painted yet. Paint over what should be made anew.")
    return track(frames, first)


def _boxes(_: AppContext, values: Values, frames: np.ndarray) -> np.ndarray:
    from bivdiff.pixels.masks import box_masks, parse_boxes

    count, height, width = frames.shape[:3]
    return box_masks(parse_boxes(values.get("boxes") or "", width, height), count, height, width)


def _colored(_: AppContext, values: Values, frames: np.ndarray) -> np.ndarray:
    from bivdiff.pixels.masks import color_key_masks

    tolerance = values.get("tolerance")
    return color_key_masks(frames, str(values.get("color") or ""), TOLERANCE if tolerance is None else tolerance)


def _uploaded(_: AppContext, values: Values, frames: np.ndarray) -> np.ndarray:
    from bivdiff.pixels.masks import fit_masks

    if not values.get("mask_video"):
        raise InputError("There is no mask yet. Upload a clip or a picture that is white where to make anew.")
    pictures = read_beside(values, values["mask_video"], frames)
    return fit_masks(pictures, *frames.shape[:3], white_regenerates=values.get("polarity") != "black")


READERS: Mapping[str, Callable[[AppContext, Values, np.ndarray], np.ndarray]] = {
    "object": _of_object,
    "paint": _painted,
    "boxes": _boxes,
    "color": _colored,
    "upload": _uploaded,
}


def painted_mask(painted: Any, frames: np.ndarray) -> np.ndarray:
    """What was painted, uint8 `(H, W)` of the size of `frames`; all zero where nothing was.

    Raises:
        InputError: it is no picture.
    """
    height, width = frames.shape[1:3]
    paint = painted.get("paint") if isinstance(painted, Mapping) else painted
    if not paint:
        return np.zeros((height, width), np.uint8)
    if not isinstance(paint, str) or not paint.startswith(PNG) or len(paint) > MAX_PAINT_CHARACTERS:
        raise InputError("What was painted is not the data address of a PNG. Clear it and paint again.")
    try:
        data = base64.b64decode(paint.removeprefix(PNG), validate=True)
    except binascii.Error as error:
        raise InputError("What was painted arrived damaged. Clear it and paint again.") from error
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "paint.png"
        path.write_bytes(data)
        picture = read_clip(path, num_frames=1, size=(width, height)).frames[0]
    return np.where(picture.max(-1) > 127, 255, 0).astype(np.uint8)


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
        clip = read_source(context, values)
        frames, fps = clip.frames, clip.fps
        painted, picture = values.get("painted"), sheet(frames[:1])
        if not isinstance(painted, Mapping) or painted.get("sheet") != picture:
            # What was painted on another picture says nothing about this one.
            same = isinstance(painted, Mapping) and painted.get("sheet") is None
            canvas = {"sheet": picture, "paint": painted.get("paint", "") if same else ""}
            values = {**values, "painted": canvas}
        masks = read_masks(context, values, frames)
        share = [("Made anew", f"{100 * (masks > 0).mean():.0f}% of the picture")]
        yield player_value(preview_tiles(frames, shown_masks(frames, masks)), fps, share), canvas
    except Exception as error:  # noqa: BLE001 - `sentence` logs what is not meant for users
        yield player_value(preview_tiles(frames, None, sentence(error)), fps), canvas


# The controls


def _mask_controls(feather: int) -> shared.Controls:
    """Which part is made anew: a choice of ways, and what the chosen one needs."""
    controls: shared.Controls = {
        "mask_source": gr.Radio(
            SOURCES, value="object", label="What to make anew", info="Shown in colour below",
            elem_id=f"{TASK}-mask-source", elem_classes="bd-choice",
        )
    }  # fmt: skip
    parts = {}
    with gr.Column(visible=False, elem_classes="bd-group") as parts["paint"]:
        shared.remark("Paint on the first frame; the mask is carried over to the others.")
        controls["painted"] = painter(elem_id=f"{TASK}-painter")
    with gr.Column(visible=False, elem_classes="bd-group") as parts["boxes"]:
        controls["boxes"] = gr.Textbox(
            "25%, 25%, 75%, 75%", label="Boxes", elem_id=f"{TASK}-boxes",
            info="Left, top, right, bottom, in pixels or percent; a semicolon between boxes",
        )  # fmt: skip
    with gr.Column(visible=False, elem_classes="bd-group") as parts["color"], shared.fields():
        controls["color"] = gr.ColorPicker(
            "#c03030", label="Colour", info="Whatever has about this colour", min_width=150, elem_id=f"{TASK}-color"
        )
        controls["tolerance"] = shared.slider(
            0, 100, TOLERANCE, 1, "Tolerance", "Higher takes in more shades", elem_id=f"{TASK}-tolerance"
        )
    with gr.Column(visible=False, elem_classes="bd-group") as parts["upload"]:
        controls["mask_video"] = shared.upload(
            "The mask: a clip as long as the source, or a picture for all frames", elem_id=f"{TASK}-mask"
        )
        controls["polarity"] = gr.Radio(
            POLARITIES, value="white", label="Made anew is what is", info="In the uploaded mask",
            elem_classes="bd-choice bd-inline",
        )  # fmt: skip
    controls["mask_source"].change(
        lambda source: [gr.update(visible=key == source) for key in parts], controls["mask_source"],
        list(parts.values()), show_progress="hidden", queue=False, api_visibility="private",
    )  # fmt: skip
    with shared.fields():
        controls["grow"] = shared.slider(-MAX_GROW, MAX_GROW, 4, 1, "Grow", "Pixels; below 0 it shrinks")
        controls["feather"] = shared.slider(
            0, MAX_FEATHER, feather, 1, "Feather", "Pixels over which old and new run into each other"
        )
    return controls
