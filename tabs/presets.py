"""Settings that a visitor keeps under a name, for one task."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import gradio as gr

from bivdiff.catalog.families import family_named
from bivdiff.catalog.requests import preset_of
from bivdiff.catalog.tasks import TASKS
from bivdiff.errors import BIVDiffError
from bivdiff.fields import check_text
from tabs import controls as shared
from tabs.binding import Values, bind
from tabs.context import AppContext
from tabs.failures import refusal, telling
from tabs.visitors import address_of_visitor, visitor_of

# What belongs to a clip, and not to the way in which clips are made.
OF_THE_CLIP = {
    "sample", "video", "restored", "visitor", "start", "control_video", "mask_video", "painted", "boxes", "seed",
    "random_seed",
}  # fmt: skip
BUILT_IN = "built-in/"  # before the names of the family's presets


def preset_controls(context: AppContext, task: str, controls: shared.Controls) -> None:
    """Lay out the presets of a task, below its settings. Call it where they should stand, after all controls.

    Args:
        context: knows where they are kept.
        task: key of the catalog's tasks.
        controls: the tab's; those of the clip are left out.
    """
    names = [name for name in controls if name not in OF_THE_CLIP]
    visitor = controls["visitor"]
    with gr.Accordion("Presets", open=False):
        with shared.fields():
            chosen = gr.Dropdown(
                _choices(context, ()), value=None, label="Preset", info="Settings that you saved; the clip stays",
                elem_id=f"{task}-preset", min_width=190, scale=2,
            )  # fmt: skip
            name = gr.Textbox(label="Name", info="To save the settings under", max_lines=1, min_width=150)
        with gr.Row(elem_classes="bd-asides"):
            apply = gr.Button("Apply", size="sm", min_width=80)
            save = gr.Button("Save these settings", size="sm", min_width=140, elem_id=f"{task}-preset-save")
            delete = gr.Button("Delete", size="sm", min_width=80)
        answer = shared.remark(visible=False)
    settings = {key: controls[key] for key in names}
    # Where there is no choice, what stands in its place is not read.
    model: Any = controls.get("image_model", visitor)
    quick: dict[str, Any] = {"show_progress": "hidden", "concurrency_id": "presets"}
    save.click(
        bind(partial(save_preset, context, task), {"visitor": visitor, **settings}, "name"),
        [visitor, *settings.values(), name], [chosen, answer], api_name=f"{task}_preset_save", **quick,
    )  # fmt: skip
    apply.click(
        partial(apply_preset, context, task, names), [visitor, chosen, model], [*settings.values(), answer],
        api_name=f"{task}_preset", **quick,
    )  # fmt: skip
    delete.click(
        partial(delete_preset, context, task), [visitor, chosen], [chosen, answer], api_name=f"{task}_preset_delete",
        **quick,
    )  # fmt: skip
    visitor.change(partial(list_presets, context, task), visitor, chosen, api_visibility="private", **quick)


def list_presets(context: AppContext, task: str, visitor: str) -> Any:
    """The family's presets and a visitor's own, as choices; of these none where they cannot be read.

    Why they cannot be read is told by the history.
    """
    try:
        names = list(context.runs.presets.of(visitor_of(visitor).owner, _key(context, task)))
    except BIVDiffError:
        names = []
    return gr.update(choices=_choices(context, names), value=None)


@telling
def save_preset(context: AppContext, task: str, values: Values, name: str) -> tuple[Any, Any]:
    """Keep the settings under a name; one of the same name is replaced.

    Raises:
        gr.Error: the name cannot be used, or there are too many.
    """
    owner, key = visitor_of(values.get("visitor")).owner, _key(context, task)
    settings = {field: value for field, value in values.items() if field != "visitor"}
    for field, value in settings.items():
        if isinstance(value, str):
            check_text(field, value)  # a run would refuse it too
    context.runs.presets.save(owner, key, (name or "").strip(), settings, address_of_visitor())
    names = list(context.runs.presets.of(owner, key))
    return gr.update(choices=_choices(context, names), value=name.strip()), _answer(context.runs.trouble or "Saved.")


@telling
def apply_preset(
    context: AppContext, task: str, names: Sequence[str], visitor: str, chosen: str, image_model: str = ""
) -> list[Any]:
    """The settings of a preset for the controls `names`; what it does not know stays as it is.

    Args:
        context: knows the family, and where visitors' own are kept.
        task: key of the catalog's tasks.
        names: of the controls that are filled.
        visitor: who asks.
        chosen: a visitor's own preset, or one of the family's.
        image_model: that the tab has chosen, for one of the family's; of a task with one, that.

    Raises:
        gr.Error: there is none of that name, or they cannot be read.
    """
    known = context.runs.presets.of(visitor_of(visitor).owner, _key(context, task))
    built_in = {f"{BUILT_IN}{name}": name for name in family_named(context.family).other_presets}
    if chosen in known:
        settings = known[chosen]
    elif chosen in built_in:
        models = TASKS[task].image_models
        model = image_model if image_model in models else models[0]
        settings = preset_of(built_in[chosen], task, model, context.family)
    else:
        raise refusal("No preset is chosen. Choose one, or save these settings under a name.")
    updates = [gr.update(value=settings[name]) if name in settings else gr.skip() for name in names]
    return [*updates, _answer("Applied.")]


@telling
def delete_preset(context: AppContext, task: str, visitor: str, chosen: str) -> tuple[Any, Any]:
    """Forget a preset.

    Raises:
        gr.Error: it cannot be forgotten.
    """
    context.runs.presets.delete(visitor_of(visitor).owner, _key(context, task), chosen or "")
    return list_presets(context, task, visitor), _answer("Deleted." if chosen else "No preset is chosen.")


def _choices(context: AppContext, names: Sequence[str]) -> list[tuple[str, str]]:
    """The family's presets first, then the visitor's own."""
    built_in = [
        (f"{name.capitalize()} (built in)", f"{BUILT_IN}{name}") for name in family_named(context.family).other_presets
    ]
    return [*built_in, *((name, name) for name in names)]


def _key(context: AppContext, task: str) -> str:
    """Settings of one family's models mean something else to another's."""
    return f"{context.family}/{task}"


def _answer(text: str) -> Any:
    return gr.update(value=f"<p>{text}</p>", visible=True)
