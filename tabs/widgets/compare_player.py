"""The comparison player: 2 to 12 clips in one clock, to look at, lay over each other and choose from."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from gradio.utils import get_upload_folder

from bivdiff.compare.player import player_script, player_style
from bivdiff.media.sheets import sprite_sheet
from tabs.widgets.player import served

EFFORT = 30  # of the lossless encoder, 0 to 100: more takes longer, and gains next to nothing
MOUNT = """
if (!document.querySelector("style[data-of=bd-compare]")) {
  const style = document.createElement("style");
  style.dataset.of = "bd-compare";
  style.textContent = STYLE;
  document.head.append(style);
}
const root = element.querySelector(".bd-compare");
root.player = mountComparePlayer(root, props.value, {
  onChoose: (index) => {
    props.value = { ...props.value, chosen: index };
    trigger("pick", { index });
  },
});
watch("value", () => {
  root.player.update(props.value);
  // The server does not know what was chosen meanwhile.
  const { chosen } = root.player.state();
  if (chosen !== (props.value.chosen ?? null)) props.value = { ...props.value, chosen };
});
"""


@dataclass(frozen=True, eq=False)
class Cell:
    """One place of a comparison. Keep it for the next value: its frames are encoded once.

    Attributes:
        label: its name, such as the ratio.
        frames: uint8 `(F, H, W, 3)`; None while there are none.
        sublabel: what else tells it from the others.
        pending: whether it is being made.
        note: what an empty place says instead of "Being made" or "Not made yet".
        scores: numbers by name.
    """

    label: str
    frames: np.ndarray | None = None
    sublabel: str = ""
    pending: bool = False
    note: str = ""
    scores: Mapping[str, float] = field(default_factory=dict)

    @cached_property
    def sheet(self) -> dict[str, Any] | None:
        """All frames in one picture, which is part of the value."""
        # Without loss: the views of differences would show the encoder's.
        return None if self.frames is None else sprite_sheet(self.frames, lossless=True, quality=EFFORT)

    @cached_property
    def served_sheet(self) -> dict[str, Any] | None:
        """The same, with the picture in a file that the browser fetches once: values are sent often."""
        if self.sheet is None:
            return None
        picture = base64.b64decode(self.sheet["src"].partition(",")[2])
        # The name follows from the content, so that a clip that is already shown is not fetched again.
        path = Path(get_upload_folder()) / hashlib.sha256(picture).hexdigest() / "clip.webp"
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        part = path.with_name(f"{secrets.token_hex(8)}.part")
        part.write_bytes(picture)
        part.replace(path)  # at once: another visitor may be fetching the same clip
        return {**self.sheet, "src": served(path)}


def compare_player(value: dict[str, Any], **options: Any) -> gr.HTML:
    """Clips in one clock. Its value is made by `compare_value`.

    Choosing a clip triggers `pick`: its event data have the `index`, and the value has it as `chosen`.
    """
    # The style is part of the script: props of one's own are lost where an update comes before the tab is first opened.
    style = json.dumps(player_style())
    widget = gr.HTML(
        value,
        html_template='<div class="bd-compare"></div>',
        js_on_load=f"const STYLE = {style};\n" + player_script() + MOUNT,
        apply_default_css=False,
        **options,
    )
    widget.api_info = lambda: {"type": "object", "description": "the clips that are compared, and which is chosen"}
    return widget


def compare_value(
    cells: Sequence[Cell], fps: float, recommended: int | None = None, paper: int | None = None
) -> dict[str, Any]:
    """The value of a comparison player.

    Args:
        cells: the clips, in the order in which they are shown.
        fps: frames per second.
        recommended: index of the one that is recommended.
        paper: index of the one that the paper would take.
    """
    return {
        "fps": fps,
        "numFrames": max((len(cell.frames) for cell in cells if cell.frames is not None), default=1),
        "cells": [_shown(cell) for cell in cells],
        "recommended": recommended,
        "paper": paper,
    }


def _shown(cell: Cell) -> dict[str, Any]:
    scores = {name: float(value) if math.isfinite(value) else None for name, value in cell.scores.items()}
    return {
        "label": cell.label, "sublabel": cell.sublabel, "pending": cell.pending, "note": cell.note,
        "sheet": cell.served_sheet, "scores": scores,
    }  # fmt: skip
