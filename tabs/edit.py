"""The tab "Editing": a clip is changed by an instruction (InstructPix2Pix) or by another wording (Prompt2Prompt)."""

from __future__ import annotations

import html
from functools import partial
from typing import Any

import gradio as gr

from bivdiff.catalog.image_models import IMAGE_MODELS, ImageModel
from bivdiff.catalog.tasks import TASKS
from bivdiff.errors import InputError
from bivdiff.late import importing
from bivdiff.toybox.clips import SampleClip
from bivdiff.types import GenerationRequest
from tabs import controls as shared
from tabs.binding import Values
from tabs.bridge import bridge_controls, ratio_control, wire_models
from tabs.context import AppContext
from tabs.events import PRIVATE, QUICK
from tabs.presets import preset_controls
from tabs.prompts import other_prompts, prompt_box, word_list
from tabs.requests import Submission, fill_in, restored_source, submission_of
from tabs.source import TRIM, Preview, preview_source, wire_source
from tabs.task_tab import PageParts, TaskTab, add_result

TASK = "edit"
NOTHING_TO_DO = "It is not said what to change. Write an instruction, such as “make the cube yellow”."


def build(context: AppContext, tab: gr.Tab | gr.Blocks, page: PageParts) -> TaskTab:
    """Lay the tab out and connect it. Call it inside a `gr.Tab` of the page."""
    defaults = shared.defaults_of(context, TASK)
    controls: shared.Controls = {}
    with shared.columns():
        with shared.ask():
            controls |= shared.clip_controls(TASK, page.visitor)
            notes = shared.source_notes(TASK)
            controls |= shared.model_choice(context, TASK)
            prompts, told = _prompts(context, controls["image_model"])
            controls |= prompts
            word_list(context)
            ratio = ratio_control(context, TASK, controls["sample"])
            buttons = shared.run_controls(TASK)
            shared.more()
            controls["source_prompt"] = prompt_box(context, TASK, context.samples[0].caption, "source_prompt")
            controls |= _details(defaults, controls["image_model"])
            controls |= bridge_controls(context, TASK, ratio, controls["image_model"])
            controls |= shared.trim_controls(context)
            controls |= other_prompts(defaults)
            controls |= shared.step_controls(defaults, ["guidance_scale"], controls["image_model"])
            with gr.Accordion("Advanced", open=False):
                controls |= shared.advanced_controls(context, defaults, image_model=controls["image_model"])
            preset_controls(context, TASK, controls)
            wire_models(context, TASK, controls)
        view = shared.see(context, TASK)
    built = add_result(context, read_job, TASK, controls, buttons, view, page.queue, tab)
    show = partial(preview_source, context, "Source")
    shown = Preview(show, [view.player], list(TRIM), api_name="edit_source")
    texts = {
        "source_prompt": lambda sample: sample.caption, "instruction": lambda sample: sample.instruction,
        "prompt": edited_prompt,
    }  # fmt: skip
    wire_source(context, tab, built, shown, texts, notes)
    _wire_description(tab, controls, told)
    # Composed once the tab is opened, and not while the page is built, which should be quick.
    tab.select(  # type: ignore[union-attr]  # Gradio gives it to the page too
        lambda now: now or edited_prompt(context.samples[0]), controls["prompt"], controls["prompt"],
        show_progress="hidden", concurrency_id="words", **PRIVATE,
    )  # fmt: skip
    return built


def read_job(context: AppContext, values: Values) -> Submission:
    """Turn the filled-in tab into a request.

    Raises:
        InputError: a value or the clip cannot be used.
    """
    if _model(values.get("image_model")).by_instruction:
        prompt = values.get("instruction")
    else:
        prompt = values.get("prompt") or describe(values.get("source_prompt"), values.get("instruction"))
    if not (prompt or "").strip():
        raise InputError(NOTHING_TO_DO)
    return submission_of(
        context, fill_in(context, TASK, values, prompt or ""), values, restored_source(context, values)
    )


def edited_prompt(sample: SampleClip) -> str:
    """What a sample shows once its instruction is carried out."""
    return describe(sample.caption, sample.instruction)


def describe(source_prompt: str | None, instruction: str | None) -> str:
    """What a clip shows once an instruction is carried out."""
    with importing():
        from bivdiff.bridge.prompts import describe_edit

    return describe_edit(source_prompt or "", instruction or "")


def description(source_prompt: str | None, instruction: str | None, video_prompt: str | None) -> str:
    """A line on what the video model will be told, as HTML."""
    told = video_prompt or describe(source_prompt, instruction)
    if not told:
        return "<p>The video model has no words to go by: say what the source shows, or write a video prompt.</p>"
    return f"<p>What the video model reads: <q>{html.escape(told)}</q></p>"


def _wire_description(tab: gr.Tab | gr.Blocks, controls: shared.Controls, told: gr.HTML) -> None:
    """Keep the line on the video model's words true."""
    words = [controls[name] for name in ("source_prompt", "instruction", "video_prompt")]
    quick: dict[str, Any] = {"show_progress": "hidden", "trigger_mode": "always_last", "concurrency_id": "words"}
    gr.on([word.change for word in words], description, words, told, api_name="edit_description", **quick)
    tab.select(description, words, told, api_visibility="private", **quick)  # type: ignore[union-attr]


def _prompts(context: AppContext, image_model: gr.Radio) -> tuple[shared.Controls, gr.HTML]:
    """The words for either image model, hidden unless theirs is chosen, and the line on the video model's words."""
    first = context.samples[0]
    controls: shared.Controls = {}
    with gr.Column(elem_classes="bd-group", visible=True) as by_instruction:
        controls["instruction"] = prompt_box(
            context, TASK, first.instruction, label="Instruction", info="What to change, as an order"
        )
        told = shared.remark(elem_id=f"{TASK}-description")
    with gr.Column(elem_classes="bd-group", visible=False) as by_prompts:
        controls["prompt"] = prompt_box(
            context, TASK, "", label="Edited prompt",
            info="The words of the source, with the change; empty = composed from the instruction",
        )  # fmt: skip
    image_model.change(follow_words, image_model, [by_instruction, by_prompts], **QUICK, **PRIVATE)
    return controls, told


def _details(defaults: GenerationRequest, image_model: gr.Radio) -> shared.Controls:
    """What else steers either image model, hidden unless that is chosen."""
    controls: shared.Controls = {}
    with gr.Column(elem_classes="bd-group", visible=False) as by_prompts:
        with shared.fields():
            for name in ("cross_replace_steps", "self_replace_steps"):
                controls[name] = shared.setting(name, getattr(defaults, name))
        with shared.fields():
            controls["blend_words"] = shared.setting(
                "blend_words", defaults.blend_words, placeholder="cube cone", elem_id=f"{TASK}-blend-words"
            )
            controls["reweight"] = shared.setting(
                "reweight", defaults.reweight, placeholder="red:2, cube:0.5", elem_id=f"{TASK}-reweight"
            )
    with shared.fields():
        controls["guidance_scale"] = shared.setting("guidance_scale", defaults.guidance_scale)
        with gr.Column(min_width=180, elem_classes="bd-group") as picture_guidance:
            controls["image_guidance_scale"] = shared.setting("image_guidance_scale", defaults.image_guidance_scale)
    image_model.change(follow_details, image_model, [by_prompts, picture_guidance], **QUICK, **PRIVATE)
    return controls


def follow_words(image_model: str) -> list[Any]:
    """Show the words of the chosen image model: an instruction, or the edited prompt."""
    by_instruction = _model(image_model).by_instruction
    return [gr.update(visible=by_instruction), gr.update(visible=not by_instruction)]


def follow_details(image_model: str) -> list[Any]:
    """Show what else steers the chosen image model: which attention is kept, or the second guidance."""
    model = _model(image_model)
    visible = (not model.by_instruction, "image_guidance_scale" in model.settings)
    return [gr.update(visible=each) for each in visible]


def _model(image_model: str | None) -> ImageModel:
    """The record of the tab's chosen image model; of its first where none, or none of its own, is named."""
    known = TASKS[TASK].every_image_model
    return IMAGE_MODELS[image_model if image_model in known else known[0]]
