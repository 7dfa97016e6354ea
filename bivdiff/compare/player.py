"""The player's script and style, which the studio's page and the page of a comparison on disk share."""

from __future__ import annotations

from bivdiff.settings import ASSETS

FOLDER = ASSETS / "player"
PARTS = ("dom.js", "player.js")
"""In the order in which they are one script: neither `js_on_load` nor a page on disk takes modules."""


def player_script() -> str:
    """The script that defines `mountComparePlayer(root, data, options)`; empty where the player's files are missing."""
    return read_parts(*PARTS) if FOLDER.is_dir() else ""


def player_style() -> str:
    """How the player looks; empty where the player's files are missing."""
    return read_parts("player.css") if FOLDER.is_dir() else ""


def read_parts(*names: str) -> str:
    """The files of these names in the player's folder, one after the other."""
    return "\n".join((FOLDER / name).read_text("utf-8") for name in names)
