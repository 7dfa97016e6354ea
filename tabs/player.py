"""The studio's own widgets: player, progress of a run, strip of sample clips, painter, list of models.

A clip travels as a sprite sheet, all frames in one picture, and is drawn on a canvas: so all clips of a player show the
same frame at the same moment, which video elements cannot promise.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from gradio.data_classes import FileData

from bivdiff.media.sheets import sprite_sheet
from bivdiff.settings import ASSETS
from bivdiff.toybox.clips import SampleClip

LOSSLESS_PIXELS = 2**20  # clips up to this many pixels travel without loss
QUALITY = 88


def sync_player(value: dict[str, Any], **options: Any) -> gr.HTML:
    """Clips beside each other, always at the same frame. Its value is made by `player_value`."""
    return _widget("player", value, {"type": "object", "description": "what the player shows"}, **options)


def progress_panel(value: dict[str, Any], **options: Any) -> gr.HTML:
    """How far a run is. Its value is made by `tabs.running.Meter`."""
    return _widget("progress", value, {"type": "object", "description": "how far the run is"}, **options)


def sample_strip(samples: Sequence[SampleClip], carries: bool = True, **options: Any) -> gr.HTML:
    """The sample clips as buttons. Its value is the index of the chosen one, -1 for none; choosing triggers `pick`.

    One strip of a page, which must be shown before the others, `carries` the clips for all.
    """
    clips = [{"name": sample.name, "caption": sample.caption, "clip": _inline(sample.file)} for sample in samples]
    about = {"type": "integer", "description": "index of a sample clip, read where no video is given"}
    return _widget("samples", 0, about, clips=clips if carries else [], **options)


def painter(**options: Any) -> gr.HTML:
    """A picture to paint a mask on; painting triggers `paint`.

    Its value is a dictionary: `sheet` is the picture (see `sheet`), or None; `paint` what was painted on it, the data
    address of a PNG that is white where there is paint, or empty.
    """
    about = {"type": "object", "description": "a mask painted on the first frame: {'paint': data address of a PNG}"}
    return _widget("painter", {"sheet": None, "paint": ""}, about, **options)


def model_list(**options: Any) -> gr.HTML:
    """Models as rows to choose from; choosing one triggers `pick`.

    Its value is a dictionary: `rows` has texts by name for each model, `chosen` is the key of one of them, and `note`
    is told where there are no rows.
    """
    about = {"type": "object", "description": "the models that are listed, and the key of the chosen one"}
    return _widget("models", {"rows": [], "chosen": "", "note": ""}, about, **options)


def job_strip(**options: Any) -> gr.HTML:
    """A visitor's jobs, a line each; its buttons trigger `act`. Its value is made by `tabs.queue.queue_value`."""
    about = {"type": "object", "description": "the jobs that run or wait, and what was asked of one of them"}
    return _widget("jobs", {"jobs": []}, about, **options)


def _widget(name: str, value: Any, about: dict[str, str], **options: Any) -> gr.HTML:
    """A gr.HTML drawn by a script of ours. Its template holds no values: in the browser they are data, never code."""
    # Not a subclass: Gradio writes a stub file beside the source of each one.
    script = (ASSETS / f"{name}.js").read_text("utf-8")
    widget = gr.HTML(
        value, html_template=f'<div class="bd-{name}"></div>', js_on_load=script, apply_default_css=False, **options
    )
    widget.api_info = lambda: about
    return widget


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


def _inline(path: Path) -> str:
    return "data:video/mp4;base64," + base64.b64encode(path.read_bytes()).decode()
