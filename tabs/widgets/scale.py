"""What stands under the slider of the mixing ratio: its ends in words, and a mark where a clip is there to see."""

from __future__ import annotations

from typing import Any

from tabs.widgets.component import Widget


def ratio_scale(value: dict[str, Any], **options: Any) -> Widget:
    """The scale of a task's mixing ratio. The task's player says which ratios have a clip.

    Args:
        value: "task", key of the catalog's tasks, whose elements it finds by their ids; "paper", the ratio that the
            paper takes, None where it has none; "alike", whether it takes it of the same frame noise.
        options: of gr.HTML.
    """
    return Widget(value, drawn_by="scale", about="the scale of the mixing ratio", **options)
