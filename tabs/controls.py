"""The labelled controls that tabs are put together from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import gradio as gr

from bivdiff.bridge.inputs import framewise_inputs
from bivdiff.catalog.families import family_named
from bivdiff.catalog.image_models import IMAGE_MODELS, title_of
from bivdiff.catalog.own import OWN_MODELS, are_allowed
from bivdiff.catalog.requests import blank_request
from bivdiff.catalog.tasks import TASKS
from bivdiff.fields import Entry, table
from bivdiff.media.source import LIMITS
from bivdiff.studio.form import SourceForm
from bivdiff.types import GenerationRequest
from bivdiff.units import say_bytes
from tabs.context import AppContext
from tabs.events import PRIVATE, QUICK
from tabs.examples import first_player
from tabs.progress import idle_panel
from tabs.widgets.component import Widget
from tabs.widgets.footage import footage
from tabs.widgets.player import clip_player
from tabs.widgets.progress import progress_panel
from tabs.widgets.samples import sample_strip
from tabs.widgets.upload import Upload

Controls = dict[str, Any]  # components; Gradio gives their classes the events when they are made, so no type has them

TOYBOX = "toybox"
SIZES = ["512x512", "576x320", "320x576", "448x448", "384x384", "256x256"]
MOST_STEPS = 600  # that a slider can tell apart
RESTORED = (
    "An earlier run is restored: its clip, its mask and its control maps are used as they were. Choose a clip to go on "
    "with another."
)


def defaults_of(
    context: AppContext, task: str, image_model: str | None = None, video_model: str | None = None
) -> GenerationRequest:
    """The values that a task's controls start with: those of its models, the first ones unless they are named."""
    return blank_request(task, context.family, image_model, video_model)


# Parts of a tab


def columns() -> gr.Row:
    """The row of a tab's two cards: what one asks for, and what one sees."""
    return gr.Row(elem_classes="bd-columns", equal_height=False)


def card(looks: str = "") -> gr.Column:
    """One of the cards."""
    return gr.Column(elem_classes=f"bd-card {looks}", min_width=320)


def ask() -> gr.Column:
    """The card of what one asks for: first what every run needs, then, after `more`, all else."""
    return card("bd-ask")


def more() -> gr.HTML:
    """The line between what every run needs and all else."""
    return gr.HTML('<h2 class="bd-more">More</h2>', apply_default_css=False)


def fields() -> gr.Row:
    """Controls beside each other, where there is room."""
    return gr.Row(elem_classes="bd-fields")


def heading(number: int, text: str) -> gr.HTML:
    """The heading of a numbered part of a tab; `text` is ours, not a user's."""
    return gr.HTML(f'<h2 class="bd-step"><span>{number}</span> {text}</h2>', apply_default_css=False)


def remark(text: str = "", **options: Any) -> gr.HTML:
    """A quiet line of our own words between controls; hidden while it is empty."""
    return gr.HTML(text and f"<p>{text}</p>", elem_classes="bd-remark", apply_default_css=False, **options)


# The clip one has


def clip_controls(task: str, visitor: gr.Textbox, sample_clips: str = "file") -> Controls:
    """The clip to start from: a sample or an upload, or that of a restored run; and who asks.

    `sample_clips` is the field of the samples' clips that the task starts from, where it is not the usual.
    """
    earlier = gr.Textbox("", visible="hidden", label="Restored run", elem_id=f"{task}-restored")
    told = remark(RESTORED, visible=False, elem_id=f"{task}-restored-note")
    earlier.change(lambda run_id: gr.update(visible=bool(run_id)), earlier, told, **QUICK, **PRIVATE)
    most = f"up to {LIMITS.file_bytes // 2**30} GB, {LIMITS.seconds / 3600:g} hours, 8K"
    return {
        "sample": sample_strip(
            sample_clips,
            label="Sample clips",
            elem_id=f"{task}-samples",
            elem_classes="bd-strip",
        ),
        "video": upload(f"Or a clip of your own, or a zip of pictures ({most})", elem_id=f"{task}-video"),
        "restored": earlier,
        "visitor": visitor,
    }


class SourceNotes(NamedTuple):
    """What is said of the clip that was chosen: what an upload holds, and whose words the prompts are."""

    footage: gr.HTML
    words: gr.HTML
    take: gr.Button


def source_notes(task: str) -> SourceNotes:
    """Places for what is said of the chosen clip; empty at first. Call it below `clip_controls`."""
    strip = footage(elem_id=f"{task}-footage")
    words = remark(visible=False, elem_id=f"{task}-words-note")
    take = gr.Button("Use the sample's words", size="sm", visible=False, elem_id=f"{task}-sample-words")
    return SourceNotes(strip, words, take)


def upload(label: str, **options: Any) -> Upload:
    """A place for one clip or picture, one line high. It is judged by its content, and so takes any name."""
    return Upload(label=label, height=48, elem_classes="bd-upload", **options)


def trim_controls(context: AppContext, shape: bool = True) -> Controls:
    """Which part of the clip to use, and, unless `shape` is off, what happens where it is not square."""
    usual, source = family_named(context.family).num_frames, table(SourceForm)
    with gr.Accordion("Trim and shape" if shape else "Trim", open=False):
        with fields():
            controls: Controls = {"start": setting("start", source["start"].default, SourceForm, min_width=150)}
            controls["stride"] = setting("stride", source["stride"].default, SourceForm, min_width=150)
        with fields():
            controls["num_frames"] = setting(
                "num_frames", usual, SourceForm, f"Here that is {usual}",
                maximum=context.settings.max_frames or source["num_frames"].high, min_width=150,
            )  # fmt: skip
            controls["fps"] = setting("fps", source["fps"].default, SourceForm, min_width=150)
            controls["sound"] = setting("sound", source["sound"].default, SourceForm, min_width=150)
            if shape and context.family != TOYBOX:
                controls["size"] = gr.Dropdown(
                    SIZES, value=SIZES[0], allow_custom_value=True, min_width=150, **words_of("size", SourceForm)
                )
            if shape:
                fit = source["fit"]
                controls["fit"] = gr.Radio(
                    [(label, key) for key, label in (fit.choices or {}).items()], value=fit.default, min_width=150,
                    elem_classes="bd-choice", **words_of("fit", SourceForm),
                )  # fmt: skip
    return controls


def words_of(name: str, described: type = GenerationRequest) -> dict[str, Any]:
    """A field's label and info line, for a control whose choices only the page knows."""
    entry = table(described)[name]
    return {"label": entry.label, "info": entry.info}


# What makes the frames


def model_choice(context: AppContext, task: str) -> Controls:
    """Which image model makes the frames, where there are several, and the pipeline that may be one of them."""
    models = image_models_of(context, task)
    if len(models) == 1:
        return {}
    controls: Controls = {"image_model": _model_radio(task, models)}
    pipelines = [name for name in models if IMAGE_MODELS[name].pipeline]
    of_them = [name for name in PIPELINE if any(reads(model, name) for model in pipelines)]
    if of_them:
        entries = table(GenerationRequest)
        with gr.Column(visible=False, elem_classes="bd-group") as group:
            for name in of_them:
                controls[name] = setting(name, entries[name].default, elem_id=f"{task}-{name.replace('_', '-')}")
        named = [controls[name] for name in of_them if name in OWN_MODELS]
        controls["image_model"].change(
            # What is named and not read is refused: it stays in sight until it is cleared.
            lambda model, *given: gr.update(visible=reads(model, "pipeline") or any(given)),
            [controls["image_model"], *named], group, **QUICK, **PRIVATE,
        )  # fmt: skip
    return controls


PIPELINE = ("pipeline", "pipeline_controlnet", "pipeline_strength")


def image_models_of(context: AppContext, task: str) -> tuple[str, ...]:
    """The image models that a visitor may choose for a task."""
    return TASKS[task].every_image_model if takes_own_models(context) else TASKS[task].image_models


def _model_radio(task: str, models: Sequence[str]) -> gr.Radio:
    return gr.Radio(
        [(title_of(model), model) for model in models],
        value=models[0],
        elem_id=f"{task}-image-model",
        elem_classes="bd-choice",
        **words_of("image_model"),
    )


SAMPLING = ("sampler", "guided_share")
"""Settings of image models that start from noise of their own."""


def step_controls(
    defaults: GenerationRequest, elsewhere: Sequence[str] = (), image_model: gr.Radio | None = None
) -> Controls:
    """Steps and guidance of the three stages, and how the frames are sampled where the image model reads that.

    Args:
        defaults: of the task.
        elsewhere: settings that the tab has in another place, or not at all.
        image_model: the choice of one; what the chosen one does not read is hidden.
    """
    steps = (
        "num_inference_steps", "guidance_scale", "num_smoothing_steps", "smoothing_guidance_scale",
        "num_inversion_steps", "inversion_guidance_scale",
    )  # fmt: skip
    controls: Controls = {}
    with gr.Accordion("Steps and guidance", open=False):
        names = [name for name in steps if name not in elsewhere]
        for pair in (names[at : at + 2] for at in range(0, len(names), 2)):
            with fields():
                for name in pair:
                    controls[name] = setting(name, getattr(defaults, name))
        if IMAGE_MODELS[defaults.image_model].makes_frames:
            with fields() as sampling:
                for name in SAMPLING:
                    controls[name] = setting(name, getattr(defaults, name))
            _show_where_read(sampling, SAMPLING[0], image_model)
    return controls


def _show_where_read(part: Any, name: str, image_model: gr.Radio | None) -> None:
    """Hide a part of the tab while an image model is chosen that does not read the field."""
    if image_model is not None:
        image_model.change(lambda model: gr.update(visible=reads(model, name)), image_model, part, **QUICK, **PRIVATE)


def reads(image_model: str, name: str) -> bool:
    """Whether an image model reads a field of the request to make its frames."""
    return image_model in IMAGE_MODELS and name in framewise_inputs(image_model).fields


def advanced_controls(
    context: AppContext, defaults: GenerationRequest, with_noise: bool = True, image_model: gr.Radio | None = None
) -> Controls:
    """Settings of the method that are rarely touched, and of memory. Call it inside the tab's "Advanced" part.

    Args:
        context: knows the family.
        defaults: of the task.
        with_noise: whether frames start from noise, which they may share.
        image_model: the choice of one; what the chosen one does not read is hidden.
    """
    controls: Controls = {}
    if IMAGE_MODELS[defaults.image_model].makes_frames:
        with gr.Column(elem_classes="bd-group") as looks:
            controls["frame_attention"] = setting("frame_attention", defaults.frame_attention)
        _show_where_read(looks, "frame_attention", image_model)
    with fields():
        if with_noise:
            with gr.Column(min_width=180, elem_classes="bd-group") as noise:
                controls["noise_sharing"] = setting("noise_sharing", defaults.noise_sharing)
            _show_where_read(noise, "noise_sharing", image_model)
        controls["frame_batch_size"] = setting("frame_batch_size", defaults.frame_batch_size)
        window = family_named(context.family).video_models[defaults.video_model].window
        controls["window"] = setting("window", defaults.window, more=f"Here that is {window}")
    controls["fit_memory"] = gr.Checkbox(
        True, label="Fit to my memory", elem_classes="bd-check",
        info="Where a run would not fit: offload, fewer frames at once, a shorter window, then a smaller picture. The "
        "result says what was changed",
    )  # fmt: skip
    return controls | (_own_models(defaults.task) if takes_own_models(context) else {})


def takes_own_models(context: AppContext) -> bool:
    """Whether visitors may name models of their own here; none goes with the toybox's."""
    return context.family != TOYBOX and are_allowed(context.settings)


def _own_models(task: str) -> Controls:
    """What may take the place of the base model, or of an image model that is a U-Net of its own, or come on top."""
    kinds = {IMAGE_MODELS[name].denoiser for name in TASKS[task].every_image_model}
    elsewhere = {*PIPELINE} if "own" in kinds else {*PIPELINE, "image_checkpoint"}  # with the image model, or nowhere
    return {name: setting(name, "") for name in OWN_MODELS if name not in elsewhere}


def setting(name: str, value: Any, described: type = GenerationRequest, more: str = "", **options: Any) -> Any:
    """The control of a field: its bounds, step and words are those of the table.

    Args:
        name: of the field.
        value: what it starts with.
        described: the dataclass that has the field.
        more: a sentence on it that only the page knows.
        options: of the component.
    """
    entry = table(described)[name]
    options = {"label": entry.label, "info": f"{entry.info}. {more}" if more else entry.info, **options}
    if entry.kind == "switch":
        return gr.Checkbox(value, **{"elem_classes": "bd-check", **options})
    options = {"min_width": 180, **options}
    if entry.kind == "choice":
        return gr.Dropdown([(label, key) for key, label in (entry.choices or {}).items()], value=value, **options)
    if entry.kind == "text":
        return gr.Textbox(value, **options)
    return _number(entry, value, options)


def _number(entry: Entry, value: Any, options: dict[str, Any]) -> Any:
    """A slider where its steps can be told apart, a box to write into where they cannot."""
    low, step = entry.low if entry.none_as is None else min(entry.low, entry.none_as), cast("float", entry.step)
    shown, high = entry.none_as if value is None else value, options.pop("maximum", entry.high)
    if (high - low) / step <= MOST_STEPS:
        return gr.Slider(low, high, shown, step=step, **options)
    return gr.Number(shown, minimum=low, maximum=high, step=step, precision=0 if entry.whole else None, **options)


# The run


class RunControls(NamedTuple):
    """The buttons that start a run, stop it, tell what it will take, and compare ratios, elsewhere or in place."""

    start: gr.Button
    stop: gr.Button
    estimate: gr.Button
    compare: gr.Button
    ratios: gr.Button


def run_controls(task: str) -> RunControls:
    """The buttons of a run."""
    with gr.Row(elem_classes="bd-run"):
        start = gr.Button(
            "Generate", variant="primary", size="lg", scale=3, elem_id=f"{task}-generate", elem_classes="bd-generate"
        )
        stop = gr.Button(
            "Cancel", variant="secondary", size="lg", scale=1, interactive=False, elem_id=f"{task}-cancel",
            min_width=96,
        )  # fmt: skip
    with gr.Row(elem_classes="bd-asides"):
        estimate = gr.Button("What will it take?", size="sm", elem_id=f"{task}-estimate", min_width=120)
        compare = gr.Button("Compare ratios", size="sm", elem_id=f"{task}-compare", min_width=120)
    ratios = gr.Button("Try five ratios", visible="hidden", elem_id=f"{task}-ratios")  # the ratio's scale presses it
    return RunControls(start, stop, estimate, compare, ratios)


class ResultView(NamedTuple):
    """How far a run is, and the player of what goes into it and comes out of it; and the card that they are in."""

    card: gr.Column
    panel: Widget
    player: Widget


def see(context: AppContext, task: str) -> ResultView:
    """The card of what one sees: one player before, during and after a run, and how far that is."""
    with card("bd-see") as made:
        made.elem_id = f"{task}-result"
        first = first_player(task, context.family, missing_models(context))
        player = clip_player(first, elem_id=f"{task}-player", elem_classes="bd-results")
        panel = progress_panel(idle_panel(task), elem_id=f"{task}-progress", elem_classes="bd-panel")
    return ResultView(made, panel, player)


def missing_models(context: AppContext) -> str:
    """That models of the family are not on this machine yet, and what to do; empty where all are."""
    absent = [entry for entry in context.models.inventory(context.family) if entry.state == "absent"]
    if not absent:
        return ""
    size = sum(entry.bytes for entry in absent)
    told = f", {say_bytes(size)} in all" if size else ""
    return (
        f"{len(absent)} models of this family are not on this machine yet{told}. “Generate” downloads those that it "
        "needs; the tab “Models” shows and pulls them."
    )
