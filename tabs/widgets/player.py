"""The player: clips in one clock, in a row as a task's result, or in a grid to compare and choose from.

A clip travels as a sprite sheet, all frames in one picture, and is drawn on a canvas: so all clips of a player show the
same frame at the same moment, which video elements cannot promise.
"""

from __future__ import annotations

import base64
import hashlib
import math
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import gradio as gr
import numpy as np

from bivdiff.media.heat import heat_picture
from bivdiff.media.sheets import sprite_sheet
from bivdiff.pixels.fitting import fit_frames
from tabs.uploads import upload_folder
from tabs.widgets.component import Widget

LOSSLESS_PIXELS = 2**20  # clips of a row up to this many pixels travel without loss
SHOWN_PIXELS = 2**25
"""Of all frames of a clip, as a browser holds them, four bytes each: longer clips are shown smaller, and never cut."""
QUALITY = 88
EFFORT = 30  # of the lossless encoder, 0 to 100: more takes longer, and gains next to nothing
FILMS = (("Film", "wide"), ("Film, square", "square"), ("Figure for a paper", "figure"), ("Copy link", "link"))
"""What the buttons say for what is made of a run when it is asked for, and what they ask for."""

SHEET = ("Contact sheet", "sheet")
LOOKS = {"row": "is-row", "grid": "", "choice": "has-choice"}


def clip_player(value: dict[str, Any], looks: Literal["row", "grid", "choice"] = "row", **options: Any) -> Widget:
    """Clips in one clock.

    Args:
        value: made by `player_value` or `comparison_value`.
            A button of `film_buttons` triggers `film`, and the value has the run's id and the shape as `wanted`.
            It triggers `run` when it shows another run that the history has.
        looks: "row" for what goes into a run and comes out of it; "grid" for a comparison; "choice" for one of which a
            clip can be chosen: that triggers `pick`, whose event data have the `index`, and the value has it as
            `chosen`.
        options: of gr.HTML.
    """
    return Widget(value, drawn_by="player", looks=LOOKS[looks], about="what the player shows", **options)


# A row


def tile(label: str, frames: np.ndarray | None, *, tone: str = "", note: str = "", **more: Any) -> dict[str, Any]:
    """One clip of a row.

    Args:
        label: its name.
        frames: uint8 `(F, H, W, 3)`; None leaves the place empty.
        tone: "image", "blend" or "": which model made it, as a colour.
        note: what an empty place says.
        more: `main` (bool: shown first and large), `pending` (bool: it is being made), `scores` (texts or numbers by
            name), `file` (see `served`).
    """
    return {"label": label, "tone": tone, "note": note, "sheet": None if frames is None else sheet(frames), **more}


def player_value(
    tiles: Sequence[Mapping[str, Any]],
    fps: float,
    facts: Sequence[tuple[str, str]] = (),
    downloads: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """The value of a row: tiles, playback rate, and below them facts and files to download."""
    return {"tiles": list(tiles), "fps": fps, "facts": [list(fact) for fact in facts], "downloads": list(downloads)}


def preview_value(
    tiles: Sequence[Mapping[str, Any]], frames: np.ndarray | None, fps: float, facts: Sequence[tuple[str, str]] = ()
) -> dict[str, Any]:
    """The value of a row that shows what goes into a run; the page keeps what was made of the same frames beside it.

    Args:
        tiles, fps, facts: as in `player_value`.
        frames: of the source, uint8 `(F, H, W, 3)`; None where there are none to be had.
    """
    return player_value(tiles, fps, facts) | {"preview": "" if frames is None else mark_of(frames)}


def mark_of(frames: np.ndarray) -> str:
    """A short text that is the same for the same frames."""
    return hashlib.sha256(np.ascontiguousarray(frames).data).hexdigest()[:16]


def film_buttons(run_id: str, *, single: bool = False) -> list[dict[str, Any]]:
    """Downloads of a row that are made when they are asked for; none where the history has no run.

    Of a `single` run its contact sheet is one of them; a comparison has that among its files.
    """
    wanted = [SHEET, *FILMS] if single else FILMS
    return [{"label": label, "film": [run_id, shape]} for label, shape in wanted] if run_id else []


def sheet(frames: np.ndarray) -> dict[str, Any]:
    """All frames in one picture, row by row, as a data address with what is needed to cut it up again."""
    return sprite_sheet(shown(frames), lossless=frames.size <= 3 * LOSSLESS_PIXELS, quality=QUALITY)


def shown(frames: np.ndarray) -> np.ndarray:
    """The frames as large as a browser can hold them all: these `(F, H, W, 3)`, or smaller ones."""
    count, height, width = frames.shape[:3]
    share = math.sqrt(SHOWN_PIXELS / (count * height * width))
    if share >= 1:
        return frames
    return fit_frames(frames, (max(1, int(width * share)), max(1, int(height * share))), "crop")


def served(path: Path) -> dict[str, Any]:
    """A file that the browser may fetch, to be saved under its own name."""
    return gr.FileData(path=str(path), orig_name=path.name).model_dump()


# A grid


@dataclass(frozen=True, eq=False)
class ComparedClip:
    """One place of a comparison. Keep it for the next value: its frames are encoded once.

    Attributes:
        label: its name, such as the ratio.
        frames: uint8 `(F, H, W, 3)`; None while there are none.
        sublabel: what else tells it from the others.
        pending: whether it is being made.
        note: what an empty place says instead of "Being made" or "Not made yet".
        scores: numbers by name, or words; None is shown as "none".
        tone: "image", "blend" or "": which model made it, as a colour.
        rest: its flicker at rest, as `scores.rest_below` gives it.
        heat: where it flickers, float `(H, W)`; None where that was not measured.
    """

    label: str
    frames: np.ndarray | None = None
    sublabel: str = ""
    pending: bool = False
    note: str = ""
    scores: Mapping[str, float | str | None] = field(default_factory=dict)
    tone: str = ""
    rest: Mapping[str, Any] | None = None
    heat: np.ndarray | None = None

    @cached_property
    def sheet(self) -> dict[str, Any] | None:
        """All frames in one picture, which is part of the value."""
        # Without loss: the views of differences would show the encoder's.
        return None if self.frames is None else sprite_sheet(shown(self.frames), lossless=True, quality=EFFORT)

    @cached_property
    def served_sheet(self) -> dict[str, Any] | None:
        """The same, with the picture in a file that the browser fetches once: values are sent often."""
        return None if self.sheet is None else _in_a_file(self.sheet)

    @cached_property
    def served_heat(self) -> dict[str, Any] | None:
        """Its heat map, likewise in a file."""
        if self.heat is None:
            return None
        return _in_a_file(heat_picture(self.heat, (self.rest or {}).get("level")))


def _in_a_file(picture: Mapping[str, Any]) -> dict[str, Any]:
    """A picture whose `src` is a data address, with that in a file that the browser fetches."""
    content = base64.b64decode(picture["src"].partition(",")[2])
    # The name follows from the content, so that a clip that is already shown is not fetched again.
    path = upload_folder() / hashlib.sha256(content).hexdigest() / "clip.webp"
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    unfinished = path.with_name(f"{secrets.token_hex(8)}.part")
    unfinished.write_bytes(content)
    unfinished.replace(path)  # at once: another visitor may be fetching the same clip
    return {**picture, "src": served(path)}


def comparison_value(
    clips: Sequence[ComparedClip], fps: float, recommended: int | None = None, paper: int | None = None,
    *, best: Sequence[Sequence[str]] = (), befores: Sequence[ComparedClip] = (),
    downloads: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:  # fmt: skip
    """The value of a grid.

    Args:
        clips: in the order in which they are shown.
        fps: frames per second.
        recommended: index of the one that is recommended.
        paper: index of the one that the paper would take.
        best: of each clip the names of the scores that it is best at, once they are known.
        befores: what the clips were made of; they come first, cannot be chosen, and are what the others are held
            against. The value counts them: as `before`, and in the places that are recommended and the paper's.
        downloads: files below the clips, see `player_value`.
    """
    shown, first = [*befores, *clips], len(befores)
    return {
        "fps": fps,
        "numFrames": max((len(clip.frames) for clip in shown if clip.frames is not None), default=1),
        "before": first,
        "tiles": [*map(_shown, befores), *map(_shown, clips, best or [()] * len(clips))],
        "recommended": None if recommended is None else first + recommended,
        "paper": None if paper is None else first + paper,
        "downloads": list(downloads),
    }


def _shown(clip: ComparedClip, best: Sequence[str] = ()) -> dict[str, Any]:
    scores = {name: _score(value) for name, value in clip.scores.items()}
    return {
        "label": clip.label, "sublabel": clip.sublabel, "pending": clip.pending, "note": clip.note,
        "sheet": clip.served_sheet, "scores": scores, "tone": clip.tone, "best": list(best),
        "rest": None if clip.rest is None else dict(clip.rest), "heat": clip.served_heat,
    }  # fmt: skip


def _score(value: float | str | None) -> float | str | None:
    if value is None or isinstance(value, str):
        return value
    return float(value) if math.isfinite(value) else None
