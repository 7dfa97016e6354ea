"""The player's script and style, which the studio's page and the page of a comparison on disk share."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from bivdiff.settings import ASSETS

FOLDER = ASSETS / "player"
PARTS = (
    "dom", "clock", "camera", "pointers", "drawing", "tile", "wipe", "views", "pager", "keys", "transport", "readout",
    "player",
)  # fmt: skip
"""In the order in which they are one script: a page on disk takes no modules."""


def player_script() -> str:
    """The script that sets `window.bdStudio`, with `mountPlayer(root, data, options)`; empty where there are no files.

    The root is an element of class `bd-player`.
    """
    if not FOLDER.is_dir():
        return ""
    parts = "\n".join((FOLDER / f"{name}.js").read_text("utf-8") for name in PARTS)
    return f'(() => {{\n"use strict";\n\n{parts}}})();\n'


def player_scripts(value: Mapping[str, Any]) -> str:
    """What a page of its own has of the player, as HTML: its script, which plays a value in the page's one root.

    Empty where there are no files.
    """
    if not (script := player_script()):
        return ""
    data = json.dumps(value).replace("<", "\\u003c")
    return (
        f"<script>const clips = {data};</script>\n<script>{script}\n"
        'bdStudio.mountPlayer(document.querySelector(".bd-player"), clips);</script>'
    )


def player_style() -> str:
    """How the player looks; empty where its files are missing."""
    return (FOLDER / "player.css").read_text("utf-8") if FOLDER.is_dir() else ""
