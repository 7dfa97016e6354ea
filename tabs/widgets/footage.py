"""What a clip of one's own holds, and what is used of it."""

from __future__ import annotations

from typing import Any

from tabs.widgets.component import Widget


def footage(**options: Any) -> Widget:
    """A clip as a film strip, with the part that is used; nothing while its value is None.

    Its value is made by `tabs.footage.footage_value`. Its buttons trigger `trim`, and the value has as `asked` what to
    set: controls of the source by name.
    """
    return Widget(None, drawn_by="footage", about="what an uploaded clip holds, and what is used of it", **options)
