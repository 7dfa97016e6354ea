"""The panel that says how far something is: a chip for each stage, what is being done, and how long it takes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tabs.widgets.component import Widget


def progress_panel(value: dict[str, Any], **options: Any) -> Widget:
    """How far a run is. Its value is made by `progress_value`."""
    return Widget(value, drawn_by="progress", about="how far the run is", **options)


def progress_value(
    state: str, chips: list[dict[str, Any]], headline: str = "", detail: str = "",
    elapsed: float | None = None, remaining: float | None = None,
) -> dict[str, Any]:  # fmt: skip
    """The value of a progress panel.

    Args:
        state: "idle", "running", "done", "stopped" or "failed".
        chips: see `stage_chips`.
        headline: what is being done, in words; `detail` below it.
        elapsed, remaining: seconds; None where there are none to tell.
    """
    return {
        "state": state, "stages": chips, "headline": headline, "detail": detail,
        "elapsed": elapsed, "remaining": remaining,
    }  # fmt: skip


def stage_chips(
    labels: Mapping[Any, str], shares: Mapping[Any, float], current: str | None = None
) -> list[dict[str, Any]]:
    """A chip for each stage, in their order, in one of the states that the panel knows: done, now or todo.

    Args:
        labels: what is written on each, by the key of its stage.
        shares: how much of a stage is done, in [0, 1]; nothing of those that are not named.
        current: the stage that is being done.
    """
    return [
        {
            "key": key, "label": label, "percent": round(100 * shares.get(key, 0)),
            "state": "done" if shares.get(key, 0) >= 1 else "now" if key == current else "todo",
        }
        for key, label in labels.items()
    ]  # fmt: skip
