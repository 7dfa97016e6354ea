"""What the mixing ratio does, in three clips, for whoever asks."""

from __future__ import annotations

from typing import Any

from tabs.widgets.component import Widget


def ratio_meaning(**options: Any) -> Widget:
    """A fold with clips of a few mixing ratios, playing in step; who wants no motion sees frames of each beside others.

    Its value is made by `tabs.examples.ratio_clips`, or None: opening the fold then triggers `open`.
    """
    return Widget(None, drawn_by="meaning", about="clips of a few mixing ratios", **options)
