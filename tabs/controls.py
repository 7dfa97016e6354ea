"""The labelled controls that tabs are put together from."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import product
from typing import Any, NamedTuple, cast

import gradio as gr

from bivdiff.bridge.inputs import framewise_inputs
from bivdiff.catalog.families import family_named
from bivdiff.catalog.image_models import BRIDGE, IMAGE_MODELS, title_of
from bivdiff.catalog.own import OWN_MODELS, are_allowed
from bivdiff.catalog.requests import APART, blank_request
from bivdiff.catalog.tasks import TASKS
from bivdiff.fields import MAX_PROMPT_CHARACTERS, Entry, table
from bivdiff.media.source import LIMITS
from bivdiff.studio.form import SourceForm
from bivdiff.toybox import world
from bivdiff.toybox.data import vocabulary
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
from tabs.widgets.scale import ratio_scale
from tabs.widgets.upload import Upload

Controls = dict[str, Any]  # components; Gradio gives their classes the events when they are made, so no type has them

TOYBOX = "toybox"
SIZES = ["512x512", "576x320", "320x576", "448x448", "384x384", "256x256"]
FIRST = next(iter(TASKS))  # its tab is the one that the page opens with
VIDEO_LABELS = {
    "zeroscope": "ZeroScope v2", "modelscope": "ModelScope 1.7b", "animatediff-v1-5-3": "AnimateDiff v1.5.3",
    "animatediff-v1-5-2": "AnimateDiff v1.5.2", "vidrd": "VidRD (the paper's)", "wan2.1-1.3b": "Wan 2.1, 1.3B",
    "wan2.1-14b": "Wan 2.1, 14B", "wan2.2-5b": "Wan 2.2, 5B", "wan2.2-a14b": "Wan 2.2, A14B",
    "cogvideox-2b": "CogVideoX, 2B", "cogvideox-5b": "CogVideoX, 5B", "ltx-0.9.5": "LTX-Video 0.9.5, 2B",
}  # fmt: skip
FOLLOWING = (*BRIDGE, "num_inversion_steps", "num_smoothing_steps", "smoothing_guidance_scale")
"""Settings that depend on the models that are chosen."""
MOST_STEPS = 600  # that a slider can tell apart
RESTORED = (
    "An earlier run is restored: its clip, its mask and its control maps are used as they were. Choose a clip to go on "
    "with another."
)
# Words of instructions, which are not in captions.
INSTRUCTION_WORDS = "make turn paint color colour remove delete erase the it into floor"


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
        controls["image_model"].change(
            # What is named and not read is refused: it stays in sight until it is cleared.
            lambda model, named: gr.update(visible=reads(model, "pipeline") or bool(named)),
            [controls["image_model"], controls["pipeline"]], group, **QUICK, **PRIVATE,
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


KEPT = "bd-prompt"
"""The class of what is typed, and is there again after a reload."""


def prompt_box(
    context: AppContext, task: str, value: str, field: str = "prompt", label: str = "", info: str = ""
) -> gr.Textbox:
    """A prompt; below it stand the words that the toybox does not know.

    Args:
        context: knows the family.
        task: key of the catalog's tasks.
        value: what it starts with.
        field: of the request.
        label, info: what the task calls it, and what it says in the task; as in the table where it is not given.
    """
    words = words_of(field)
    label, info = label or words["label"], info or words["info"]
    name = re.sub(r"\W+", "-", label.lower())
    box = gr.Textbox(
        value, label=label, info=info, lines=2, max_lines=6, elem_id=f"{task}-{name}", elem_classes=KEPT
    )  # fmt: skip
    if context.family != TOYBOX:
        return box
    hint = gr.HTML(elem_id=f"{task}-{name}-hint", elem_classes="bd-word-hint", apply_default_css=False)
    # One endpoint is enough: they are all alike.
    named: dict[str, Any] = {"api_name": "unknown_words"} if task == FIRST else {"api_visibility": "private"}
    box.change(
        unknown_words, box, hint, show_progress="hidden", trigger_mode="always_last", queue=False, **named,
    )  # fmt: skip
    return box


def other_prompts(defaults: GenerationRequest) -> Controls:
    """The prompts that are rarely needed."""
    with gr.Accordion("More prompts", open=False):
        names = ("video_prompt", "negative_prompt", "inversion_prompt")
        return {name: setting(name, getattr(defaults, name), elem_classes=KEPT) for name in names}


# The bridge


class RatioControl(NamedTuple):
    """The slider of the mixing ratio, and the scale below it."""

    slider: gr.Slider
    scale: gr.HTML


def ratio_control(context: AppContext, task: str) -> RatioControl:
    """The mixing ratio, which the method is about: the same in every tab."""
    defaults = defaults_of(context, task)
    bridge = [getattr(defaults, name) for name in BRIDGE]
    with gr.Column(elem_classes="bd-group bd-ratio-group"):
        slider: gr.Slider = setting(
            "mixing_ratio", defaults.mixing_ratio, elem_id=f"{task}-mixing-ratio", elem_classes="bd-ratio",
            info=ratio_info(defaults.image_model, *bridge),
        )  # fmt: skip
        scale = ratio_scale({"task": task, **paper_mark(defaults.image_model, *bridge)}, elem_id=f"{task}-ratio-scale")
    return RatioControl(slider, scale)


def bridge_controls(
    context: AppContext, task: str, ratio: RatioControl, image_model: gr.Radio | None = None
) -> Controls:
    """What else makes the bridge, and the seed: the same in every tab.

    Args:
        context: knows the family.
        task: key of the catalog's tasks.
        ratio: made by `ratio_control`; it comes back among the controls.
        image_model: the choice of one, whose own defaults the bridge then follows.
    """
    defaults = defaults_of(context, task)
    controls: Controls = {"mixing_ratio": ratio.slider}
    videos = list(family_named(context.family).video_models)
    if len(videos) > 1:
        controls["video_model"] = gr.Dropdown(
            [(VIDEO_LABELS.get(name, name), name) for name in videos], value=videos[0],
            **words_of("video_model"), elem_id=f"{task}-video-model",
        )  # fmt: skip
    controls["frame_prior"] = setting("frame_prior", defaults.frame_prior, elem_id=f"{task}-frame-prior")
    with gr.Accordion("Rule and start level", open=False), fields():
        controls["mixing_rule"] = setting("mixing_rule", defaults.mixing_rule, elem_id=f"{task}-mixing-rule")
        controls["start_level"] = setting("start_level", defaults.start_level, elem_id=f"{task}-start-level")
    with fields():
        controls |= {
            "random_seed": gr.Checkbox(
                True, label="Random seed", info="Untick it to use the seed beside it", elem_id=f"{task}-random-seed",
                elem_classes="bd-check",
            ),
            "seed": setting("seed", 0, min_width=130, elem_id=f"{task}-seed"),
        }  # fmt: skip
    _wire_bridge(context, task, controls, ratio.scale, image_model)
    return controls


def _wire_bridge(
    context: AppContext, task: str, controls: Controls, scale: gr.HTML, image_model: gr.Radio | None
) -> None:
    """Keep the ratio's info line and the paper's mark on its scale true."""
    parts = [controls[name] for name in BRIDGE]
    watched: list[Any] = [image_model, *parts]
    told: Callable[..., Any] = say_ratio
    if image_model is None:
        model = defaults_of(context, task).image_model
        watched, told = parts, lambda name, *now: say_ratio(name, model, *now)
    # Not where the ratio itself moves: what is told of it depends on the others.
    others = [part.change for part in watched if part is not parts[0]]
    gr.on(others, partial(told, task), watched, [parts[0], scale], trigger_mode="always_last", **QUICK, **PRIVATE)


def wire_models(context: AppContext, task: str, controls: Controls) -> None:
    """Let the settings of `FOLLOWING` follow the models that are chosen. Call it after all controls.

    Only where the user chooses another: what is restored keeps its settings.
    """
    choices = {name: controls[name] for name in ("image_model", "video_model") if name in controls}
    led = [controls[name] for name in FOLLOWING]

    def follow(*given: Any) -> list[Any]:
        chosen = dict(zip(choices, given, strict=False))
        return follow_models(context, task, chosen.get("image_model"), chosen.get("video_model"), *given[len(chosen) :])

    for choice in choices.values():
        choice.input(follow, [*choices.values(), *led], led, **QUICK, **PRIVATE)


def follow_models(
    context: AppContext, task: str, image_model: str | None, video_model: str | None, *now: Any
) -> list[Any]:
    """The values of `FOLLOWING` for the models that are chosen: their defaults, and what the user has chosen stays.

    Ratio, noise and rule are one choice, since a ratio means something else with another noise; each of the others is
    one. A choice is the user's own where no models of the task have it as their default; but the image model's noise is
    none of latents that are not its own.
    """
    videos = family_named(context.family).video_models
    models = TASKS[task].every_image_model
    image_model, video_model = image_model or models[0], video_model or next(iter(videos))
    if image_model not in models or video_model not in videos:
        return [gr.skip() for _ in FOLLOWING]
    usual = {
        chosen: [getattr(defaults_of(context, task, *chosen), name) for name in FOLLOWING]
        for chosen in product(models, videos)
    }
    given, followed = list(now), []
    for part in (slice(0, 3), *(slice(place, place + 1) for place in range(3, len(FOLLOWING)))):
        is_usual = given[part] in [each[part] for each in usual.values()]
        followed += usual[image_model, video_model][part] if is_usual else given[part]
    if followed[1] == "image" and not videos[video_model].shares_space:
        followed[1:3] = [APART["frame_prior"], APART["mixing_rule"]]
    return followed


def say_ratio(task: str, image_model: str, *bridge: Any) -> tuple[Any, Any]:
    """The ratio's info line and scale for the image model and the values of `BRIDGE` that are chosen now."""
    if image_model not in IMAGE_MODELS:
        return gr.skip(), gr.skip()
    scale = {"task": task, **paper_mark(image_model, *bridge)}
    return gr.update(info=ratio_info(image_model, *bridge)), scale


def ratio_info(image_model: str, *bridge: Any) -> str:
    """What the mixing ratio does with the chosen frame noise, and what the paper takes where that is the paper's noise.

    `bridge` is as in `BRIDGE`.
    """
    chosen = dict(zip(BRIDGE, bridge, strict=True))
    line = table(GenerationRequest)["mixing_ratio"].info_where(chosen["frame_prior"])
    return f"{line}. {paper_words(image_model, chosen)}".strip()


def paper_mark(image_model: str, *bridge: Any) -> dict[str, Any]:
    """The paper's ratio, None where it has none, and whether it is of the chosen frame noise."""
    model, chosen = IMAGE_MODELS[image_model], dict(zip(BRIDGE, bridge, strict=True))
    alike = chosen["frame_prior"] == model.paper_bridge["frame_prior"]
    return {"paper": model.paper_ratio if model.in_paper else None, "alike": alike}


def paper_words(image_model: str, chosen: Mapping[str, Any]) -> str:
    """Which mixing ratio the paper takes, or that the chosen one is; empty where that does not mean the same here.

    Args:
        image_model: key of `IMAGE_MODELS`.
        chosen: the fields of `BRIDGE`: a ratio is the paper's only with its noise, its rule and its whole schedule.
    """
    model = IMAGE_MODELS[image_model]
    paper, name = model.paper_bridge, _told_name(model.title)
    if not model.in_paper:
        return ""
    if chosen == paper:
        return f"This is the paper's bridge for {name}."
    # With another noise the ratio means something else.
    same = chosen["frame_prior"] == paper["frame_prior"]
    return f"The paper takes {model.paper_ratio:g} for {name}." if same else ""


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


def _told_name(label: str) -> str:
    return f"the {label.lower()}" if label.endswith("model") else label


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
    """How far a run is, and the player of what goes into it and comes out of it."""

    panel: Widget
    player: Widget


def see(context: AppContext, task: str) -> ResultView:
    """The card of what one sees: one player before, during and after a run, and how far that is."""
    with card("bd-see") as made:
        made.elem_id = f"{task}-result"
        first = first_player(task, context.family, missing_models(context))
        player = clip_player(first, elem_id=f"{task}-player", elem_classes="bd-results")
        panel = progress_panel(idle_panel(task), elem_id=f"{task}-progress", elem_classes="bd-panel")
    return ResultView(panel, player)


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


def word_list(context: AppContext) -> None:
    """The words that the toybox knows, each to be put into the prompt by a press; other families know any."""
    if context.family != TOYBOX:
        return
    # Of things and colours a prompt may have several; of the others one, behind these words.
    groups = (
        ("Things", "", world.SHAPES), ("Colours", "", world.COLORS), ("They", " ", world.MOTIONS.values()),
        ("Floor", " on a ", world.FLOORS), ("Light", " at ", world.TIMES),
    )  # fmt: skip
    rows = "".join(
        f'<dt>{name}</dt><dd data-leads="{leads}">'
        + "".join(f'<button type="button" data-word="{word}">{word}</button>' for word in words)
        + "</dd>"
        for name, leads, words in groups
    )
    gr.HTML(
        '<details class="bd-words"><summary>The words the toybox knows</summary>'
        f"<dl>{rows}</dl><p>and many ways to say so: “a ball hops beside a box at dusk”.</p></details>",
        apply_default_css=False,
    )


def unknown_words(prompt: str) -> str:
    """A line on the words of a prompt that the toybox does not know; empty if it knows all."""
    known = {*vocabulary(), *INSTRUCTION_WORDS.split()}
    words = re.findall(r"[^\W_]+", (prompt or "")[:MAX_PROMPT_CHARACTERS].lower())
    strange = [word for word in words if word not in known]
    if not strange:
        return ""
    listed = ", ".join(dict.fromkeys(strange[:6]))
    return f'<p class="bd-hint">The toybox does not know: {listed}. It ignores what it does not know.</p>'
