"""An entry of the history, and the texts that it is stored as."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bivdiff.errors import InputError
from bivdiff.types import GenerationRequest

STATES = ("queued", "running", "done", "failed", "cancelled", "interrupted", "dropped")
"""Of a run; "dropped" is one from a file that somebody dropped on the page."""

UNFINISHED = ("queued", "running")
NOT_THERE = "This run is not in your history. It was deleted, made room for newer ones, or belongs to somebody else."

NO_LINK = "There is nothing at this link. It was switched off, or the result that it showed was deleted."


@dataclass(frozen=True)
class Run:
    """An entry of the history.

    Attributes:
        id: 32 hexadecimal digits that cannot be guessed; owner: who may see it.
        created: seconds since 1970.
        task, family, image_model, video_model, prompt: of its settings.
        state: one of `STATES`; message: the error, or what else the user should know.
        settings: as `carried.settings_of` gives them, with the seed that was used once there is one.
        scores: by name, None where there is none; seconds: per stage.
        favourite: it does not leave to make room.
        fps: frames a second; seed: None where none was drawn yet.
        files: by what they are, such as bridged, framewise, control, control-2, mask, gif, pngs; only those that exist.
        thumbnail: a small WebP, which may move, or nothing.
        kind: "run" or "comparison".
    """

    id: str
    owner: str
    created: float
    task: str
    family: str
    image_model: str
    video_model: str
    prompt: str
    state: str
    message: str
    settings: dict[str, Any]
    scores: dict[str, Any]
    seconds: dict[str, float]
    favourite: bool
    fps: float
    seed: int | None
    files: dict[str, Path]
    thumbnail: bytes
    kind: str


@dataclass(frozen=True)
class Changes:
    """New values of an entry's columns; those that are None stay as they are. Dictionaries are texts in JSON."""

    state: str | None = None
    message: str | None = None
    settings: str | None = None
    words: str | None = None
    seed: int | None = None
    scores: str | None = None
    seconds: str | None = None
    files: str | None = None
    thumbnail: bytes | None = None


def run_of(row: sqlite3.Row, folder: Path) -> Run:
    """The entry of a row of the database, whose files lie in a folder."""
    files = {name: folder / file for name, file in json.loads(row["files"]).items()}
    return Run(
        id=row["id"], owner=row["owner"], created=row["created"], task=row["task"], family=row["family"],
        image_model=row["image_model"], video_model=row["video_model"], prompt=row["prompt"], state=row["state"],
        message=row["message"], settings=json.loads(row["settings"]), scores=json.loads(row["scores"]),
        seconds=json.loads(row["seconds"]), favourite=bool(row["favourite"]), fps=row["fps"], seed=row["seed"],
        files={name: path for name, path in files.items() if path.is_file()}, thumbnail=row["thumbnail"],
        kind=row["kind"],
    )  # fmt: skip


def settings_as_used(row: sqlite3.Row, request: GenerationRequest) -> dict[str, Any]:
    """The settings of a run as they were used: what was left open, or made smaller to fit, is not as it was asked.

    The inversion's prompt stays as it was asked: it may hold "{prompt}", for which the words are put in.
    """
    settings = json.loads(row["settings"])
    seed = None if request.seed is None else int(request.seed)  # SQLite takes no number of NumPy's for one
    return {**settings, **request.settings(), "inversion_prompt": settings["inversion_prompt"], "seed": seed}


def card_words(settings: Mapping[str, Any]) -> dict[str, str]:
    """What a card of the history says of the settings that it shows, by their names; of what is left open, nothing."""
    said = {}
    for name, word in (("mixing_ratio", "ratio"), ("seed", "seed")):
        value = settings.get(name)
        if value is not None:
            said[name] = f"{word} {value:g}" if isinstance(value, float) else f"{word} {value}"
    return said


def searchable(settings: Mapping[str, Any]) -> str:
    """What the search looks for: the settings' values, and what a card says of them.

    Folded here, since SQLite itself folds the case of ASCII alone.
    """
    values = [settings["prompt"], *card_words(settings).values()]
    for name, value in settings.items():
        if name == "controls":
            values += [control["control_type"] for control in value]
        elif name != "prompt" and isinstance(value, str | int | float) and not isinstance(value, bool):
            values.append(value)
    return storable("\n".join(map(str, values))).casefold()


def checked_id(given: str) -> str:
    """An id as it was given.

    Raises:
        InputError: that is no id.
    """
    if not isinstance(given, str) or not re.fullmatch(r"[0-9a-f]{32}", given):
        raise InputError(NOT_THERE)
    return given


def checked_owner(owner: str) -> str:
    """An owner as it was given.

    Raises:
        InputError: that is nobody.
    """
    if not isinstance(owner, str) or not re.fullmatch(r"[!-~]{1,200}", owner):
        raise InputError("The page did not say whose runs these are. Reload it, and let it keep data in this browser.")
    return owner


def to_json(value: Any) -> str:
    """A value as JSON, numbers of NumPy as numbers."""
    return json.dumps(value, default=lambda number: number.item())


def storable(text: str) -> str:
    """The same, but half a surrogate pair, which SQLite takes no more than UTF-8 does, becomes a question mark."""
    return text.encode("utf-8", "replace").decode()
