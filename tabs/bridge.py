"""The controls of the bridge: the ratio with its scale, what else makes it, and how they follow the models."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import product
from typing import Any, NamedTuple

import gradio as gr

from bivdiff.catalog.families import family_named
from bivdiff.catalog.image_models import BRIDGE, IMAGE_MODELS
from bivdiff.catalog.requests import APART
from bivdiff.catalog.tasks import TASKS
from bivdiff.fields import table
from bivdiff.types import GenerationRequest
from tabs.context import AppContext
from tabs.controls import Controls, defaults_of, fields, setting, words_of
from tabs.events import PRIVATE, QUICK
from tabs.examples import ratio_clips
from tabs.widgets.component import Widget
from tabs.widgets.meaning import ratio_meaning
from tabs.widgets.scale import ratio_scale

VIDEO_LABELS = {
    "zeroscope": "ZeroScope v2", "modelscope": "ModelScope 1.7b", "animatediff-v1-5-3": "AnimateDiff v1.5.3",
    "animatediff-v1-5-2": "AnimateDiff v1.5.2", "vidrd": "VidRD (the paper's)", "wan2.1-1.3b": "Wan 2.1, 1.3B",
    "wan2.1-14b": "Wan 2.1, 14B", "wan2.2-5b": "Wan 2.2, 5B", "wan2.2-a14b": "Wan 2.2, A14B",
    "cogvideox-2b": "CogVideoX, 2B", "cogvideox-5b": "CogVideoX, 5B", "ltx-0.9.5": "LTX-Video 0.9.5, 2B",
}  # fmt: skip
FOLLOWING = (*BRIDGE, "num_inversion_steps", "num_smoothing_steps", "smoothing_guidance_scale")
"""Settings that depend on the models that are chosen."""


class RatioControl(NamedTuple):
    """The slider of the mixing ratio, and the scale below it."""

    slider: gr.Slider
    scale: gr.HTML


def ratio_control(context: AppContext, task: str, sample: Widget) -> RatioControl:
    """The mixing ratio, which the method is about, the same in every tab; the chosen sample shows what it does."""
    defaults = defaults_of(context, task)
    bridge = [getattr(defaults, name) for name in BRIDGE]
    with gr.Column(elem_classes="bd-group bd-ratio-group"):
        slider: gr.Slider = setting(
            "mixing_ratio", defaults.mixing_ratio, elem_id=f"{task}-mixing-ratio", elem_classes="bd-ratio",
            info=ratio_info(defaults.image_model, *bridge),
        )  # fmt: skip
        scale = ratio_scale({"task": task, **paper_mark(defaults.image_model, *bridge)}, elem_id=f"{task}-ratio-scale")
        meaning = ratio_meaning(elem_id=f"{task}-ratio-meaning")
    names = [each.name for each in context.samples]
    meaning.open(partial(ratio_clips, task, names), sample, meaning, **QUICK, **PRIVATE)
    # Whether there are clips is all that is asked of them, and they are large.
    sample.change(
        partial(_other_clips, task, names), [sample, meaning], meaning,
        js="(sample, shown) => [sample, shown && {of: shown.of}]", **QUICK, **PRIVATE,
    )  # fmt: skip
    return RatioControl(slider, scale)


def _other_clips(task: str, names: Sequence[str], sample: int | None, shown: Any) -> Any:
    """The clips of another sample, where clips were asked for."""
    return ratio_clips(task, names, sample) if shown else gr.skip()


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


def _told_name(label: str) -> str:
    return f"the {label.lower()}" if label.endswith("model") else label
