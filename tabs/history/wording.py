"""A run and its settings in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from bivdiff.catalog.image_models import IMAGE_MODELS, title_of
from bivdiff.catalog.own import OWN_MODELS
from bivdiff.catalog.tasks import TASKS
from bivdiff.studio.history.records import card_words
from bivdiff.units import say_number
from tabs.results import CONTROL_LABELS

if TYPE_CHECKING:
    from bivdiff.studio.history.records import Run

STATE_LABELS = {
    "queued": "Waiting", "running": "Running", "done": "", "failed": "Failed", "cancelled": "Cancelled",
    "interrupted": "Interrupted", "dropped": "From a file",
}  # fmt: skip
STATE_SENTENCES = {
    "queued": "It waits for its turn.",
    "running": "It is being made. Its tab shows how far it is.",
    "failed": "It failed. What was made by then is kept.",
    "cancelled": "It was cancelled. What was made by then is kept.",
    "interrupted": "The studio was stopped while this was being made. “Run again” goes on from the stages that were "
    "finished, where they are still kept.",
    "dropped": "It comes from a file that you gave. “Restore to its tab” brings back its settings and pictures.",
}


def made_with(run: Run) -> str:
    """The task of a run, and the image model that made its frames."""
    task = TASKS[run.task].title if run.task in TASKS else run.task
    if run.kind == "comparison":
        return f"Comparison: {task}"
    known = IMAGE_MODELS.get(run.image_model)
    return f"{task}, {title_of(run.image_model)}" if known is None or known.makes_frames else task


def facts_of(run: Run) -> str:
    """What tells a run from its neighbours: its ratio or what it compares, its seed, and how much it flickers."""
    compared = run.settings.get("axes")
    words = card_words({**run.settings, "seed": run.seed})
    varied = value_in_words("axes", compared) if compared else words.get("mixing_ratio")
    told, _, beside = str(run.scores.get("steadiness", "")).partition(" than ")
    return ", ".join(filter(None, [varied, words.get("seed"), f"flicker {told}" if beside else ""]))


def wanted_models(run: Run) -> str:
    """What a file from elsewhere would fetch and load, so that nobody runs a stranger's choice unknowingly."""
    asked = [run.settings.get(name) for name in OWN_MODELS] if run.state == "dropped" else []
    named = ", ".join(str(text) for text in asked if text)
    trust = "Running it fetches and loads them: do that only if you trust where the file is from."
    return f"The file asks for models of its own: {named}. {trust}" if named else ""


def setting_in_words(name: str, value: Any) -> str:
    """A setting and its value, where the value alone would not say what it is of."""
    words = value_in_words(name, value)
    return words if name in {"prompt", "image_model"} else f"{name.replace('_', ' ').capitalize()} {words}"


def value_in_words(name: str, value: Any) -> str:
    """A setting's value in words."""
    if name == "controls":
        return "; ".join(_control_in_words(item) for item in value) or "none"
    if name == "axes":
        written = {axis: ", ".join(value_in_words("", each) for each in values) for axis, values in value.items()}
        return "; ".join(f"{axis.replace('_', ' ')} {values}" for axis, values in written.items())
    if name == "image_model":
        return title_of(str(value))
    if value is None:
        return "the model's own" if name == "window" else "none"
    if isinstance(value, bool):
        return "on" if value else "off"
    return say_number(value) if isinstance(value, float) else str(value) if value != "" else "empty"


def _control_in_words(item: Mapping[str, Any]) -> str:
    kind = item.get("control_type", "")
    start, end = item.get("start", 0), item.get("end", 1)
    span = "" if (start, end) == (0, 1) else f", from {start:g} to {end:g} of the steps"
    return f"{CONTROL_LABELS.get(kind, kind)}, strength {item.get('conditioning_scale', 1):g}{span}"


def shortened(text: str, most: int = 48) -> str:
    """A text of at most so many characters."""
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"
