"""What stands under the slider of the mixing ratio: its ends in words, and a mark where a clip is there to see."""

from __future__ import annotations

from typing import Any

from tabs.widgets.component import Widget


def ratio_scale(task: str, paper: float | None, **options: Any) -> Widget:
    """The scale of a task's mixing ratio. The task's player says which ratios have a clip.

    Args:
        task: key of the catalog's tasks, whose elements it finds by their ids.
        paper: the ratio that the paper takes; None where it has none.
        options: of gr.HTML.
    """
    return Widget(
        {"task": task, "paper": paper}, drawn_by="scale", about="the scale of the mixing ratio", **options
    )  # fmt: skip
