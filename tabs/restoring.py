"""A run's settings as values of the controls of its task's tab."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import gradio as gr

from bivdiff.catalog.image_models import IMAGE_MODELS
from bivdiff.units import say_number
from tabs import control
from tabs.context import AppContext
from tabs.task_tab import TaskTab

if TYPE_CHECKING:
    from bivdiff.studio.history.records import Run


PARTS: Mapping[str, tuple[str, ...]] = {
    "prompt": ("prompt", "instruction", "source_prompt", "negative_prompt"),
    "seed": ("random_seed", "seed"),
    "ratio": ("mixing_ratio",),
}
"""What of a run may be taken alone, with the controls that hold it."""


def restored_values(run: Run) -> dict[str, Any]:
    """What a run's settings are on its task's tab: values of controls by name.

    "restored" is the run's id, by which the tab finds the run's pictures.
    """
    values = {
        name: value for name, value in run.settings.items() if name not in {"task", "family", "fps", "controls", "axes"}
    }
    seed = run.seed if run.seed is not None else values.get("seed")
    values |= {"random_seed": seed is None, "seed": seed or 0, "window": values.get("window") or 0, "restored": run.id}
    if run.image_model in IMAGE_MODELS and IMAGE_MODELS[run.image_model].by_instruction:
        values["instruction"] = values.pop("prompt", run.prompt)
    return values | _restored_controls(run.settings.get("controls") or ())


def _restored_controls(controls: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    if not controls:
        return {}
    first = controls[0]
    values = {
        "control_type": first["control_type"], "conditioning_scale": first["conditioning_scale"],
        "second_control_type": control.NO_SECOND, "control_start": first["start"], "control_end": first["end"],
    }  # fmt: skip
    if len(controls) > 1:
        second = controls[1]
        values |= {"second_control_type": second["control_type"],
                   "second_conditioning_scale": second["conditioning_scale"]}  # fmt: skip
    return values


def controls_to_fill(task_tabs: Sequence[TaskTab], part: str = "") -> list[Any]:
    """The controls of all tabs in the order in which `fill` fills them: those of a part, or all but the visitor's."""
    return [tab.controls[name] for tab in task_tabs for name in _names(tab, part)]


def fill(task_tabs: Sequence[TaskTab], filled: TaskTab, updates: Mapping[str, Any], part: str = "") -> list[Any]:
    """What opens a tab and fills its controls, and leaves those of the others: for the tabs, and `controls_to_fill`."""
    return [
        gr.update(selected=filled.task),
        *(updates.get(name, gr.skip()) if tab is filled else gr.skip()
          for tab in task_tabs for name in _names(tab, part)),
    ]  # fmt: skip


def _names(tab: TaskTab, part: str) -> list[str]:
    return [name for name in tab.controls if (name in PARTS[part] if part else name != "visitor")]


def updates_of(context: AppContext, tab: TaskTab, run: Run, part: str = "") -> tuple[dict[str, Any], list[str]]:
    """What fills the controls of a tab so that they are as in a run: one of `PARTS`, or all of them.

    Returns:
        Updates by the names of the controls, and what of the run the tab cannot show, in words; what it cannot show is
        left as it is.
    """
    values = restored_values(run)
    updates = {name: gr.update(value=values[name]) for name in _names(tab, part) if name in values}
    choices: dict[str, Sequence[Any]] = {}
    if "control_type" in values:
        for name in {"control_type", "second_control_type"} & {*updates}:
            choices[name] = kinds = _control_choices(context, values["image_model"], second=name.startswith("second"))
            updates[name] = gr.update(value=values[name], choices=kinds)
    reasons = {name: _beyond(tab.controls[name], values[name], choices.get(name)) for name in updates}
    unshown = [f"{tab.controls[name].label} {why}" for name, why in reasons.items() if why]
    uneven = [] if part else _uneven_controls(run)
    return {name: update for name, update in updates.items() if not reasons[name]}, unshown + uneven


def _control_choices(context: AppContext, image_model: str, second: bool) -> Sequence[Any]:
    """The control types that an image model of the tab reads, as it offers them."""
    return control.follow_model(context, image_model, "", control.NO_SECOND)[second]["choices"]


def _beyond(shown: Any, value: Any, choices: Sequence[Any] | None) -> str:
    """Why a control cannot show a value; empty where it can."""
    low, high = getattr(shown, "minimum", None), getattr(shown, "maximum", None)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if is_number and ((low is not None and value < low) or (high is not None and value > high)):
        bounds = [say_number(bound) for bound in (low, high) if bound is not None]
        return f"is {say_number(value)}, and goes from {' to '.join(bounds)} here"
    known = choices if choices is not None else getattr(shown, "choices", None)
    if known and not getattr(shown, "allow_custom_value", False) and value not in [key for _, key in known]:
        return f"is “{value}”, which is not offered here"
    return ""


def _uneven_controls(run: Run) -> list[str]:
    """What the tab has one control for, and the run several."""
    controls = run.settings.get("controls") or ()
    reasons = [f"it has {len(controls)} controls, and the tab two"] if len(controls) > 2 else []
    if len({(item["start"], item["end"]) for item in controls}) > 1:
        reasons.append("its controls steer at different times, and those of the tab at the same")
    return reasons
