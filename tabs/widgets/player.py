"""The synchronised player: clips beside each other, always at the same frame.

A clip travels as a sprite sheet, all frames in one picture, and is drawn on a canvas: so all clips of a player show the
same frame at the same moment, which video elements cannot promise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from gradio.data_classes import FileData

from bivdiff.media.sheets import sprite_sheet
from tabs.widgets.component import Widget

LOSSLESS_PIXELS = 2**20  # clips up to this many pixels travel without loss
QUALITY = 88


def sync_player(value: dict[str, Any], **options: Any) -> Widget:
    """Clips beside each other, always at the same frame. Its value is made by `player_value`."""
    return Widget(value, drawn_by="player", about="what the player shows", **options)


def tile(label: str, frames: np.ndarray | None, *, tone: str = "", note: str = "", **more: Any) -> dict[str, Any]:
    """One clip of a player.

    Args:
        label: its name.
        frames: uint8 `(F, H, W, 3)`; None leaves the place empty.
        tone: "image", "video", "blend" or "": which model made it, as a colour.
        note: what an empty place says.
        more: `pending` (bool: it is being made), `scores` (pairs of name and text), `file` (see `served`).
    """
    return {"label": label, "tone": tone, "note": note, "sheet": None if frames is None else sheet(frames), **more}


def player_value(
    tiles: Sequence[Mapping[str, Any]],
    fps: float,
    facts: Sequence[tuple[str, str]] = (),
    downloads: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """The value of a `SyncPlayer`: tiles, playback rate, and below them facts and files to download."""
    return {"tiles": list(tiles), "fps": fps, "facts": [list(fact) for fact in facts], "downloads": list(downloads)}


def sheet(frames: np.ndarray) -> dict[str, Any]:
    """All frames in one picture, row by row, as a data address with what is needed to cut it up again."""
    return sprite_sheet(frames, lossless=frames.size <= 3 * LOSSLESS_PIXELS, quality=QUALITY)


def served(path: Path) -> dict[str, Any]:
    """A file that the browser may fetch, to be saved under its own name."""
    return FileData(path=str(path), orig_name=path.name).model_dump()
