"""The panel that says how far a run is."""

from __future__ import annotations

from typing import Any

from tabs.widgets.component import Widget


def progress_panel(value: dict[str, Any], **options: Any) -> Widget:
    """How far a run is. Its value is made by `tabs.running.Meter`."""
    return Widget(value, drawn_by="progress", about="how far the run is", **options)
