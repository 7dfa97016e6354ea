"""What the method does, in motion, for whoever is here for the first time."""

from __future__ import annotations

from typing import Any

from tabs.widgets.component import Widget


def hero(value: dict[str, Any], **options: Any) -> Widget:
    """One clip frame by frame and bridged, in one clock, with a line that wanders between them; it can be put away.

    Args:
        value: sprite sheets `framewise` and `bridged`, `flicker` of both in levels of 255, `fps`, and the `sample` of
            controllable generation that it was made of.
        options: of gr.HTML.
    """
    return Widget(value, drawn_by="hero", about="the clip that the page opens with", **options)
