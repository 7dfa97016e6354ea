"""A picture to paint a mask on."""

from __future__ import annotations

from typing import Any

from tabs.widgets.component import Widget


def painter(**options: Any) -> Widget:
    """A picture to paint a mask on; painting triggers `paint`.

    Its value is a dictionary: `sheet` is the picture (see `tabs.widgets.player.sheet`), or None; `paint` what was
    painted on it, the data address of a PNG that is white where there is paint, or empty.
    """
    about = "a mask painted on the first frame: {'paint': data address of a PNG}"
    return Widget({"sheet": None, "paint": ""}, drawn_by="painter", about=about, **options)
