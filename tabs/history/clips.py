"""The clips of a run, read back from its files."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bivdiff.errors import InputError
from bivdiff.media.reading import probe, read_clip
from bivdiff.studio.history.files import map_names
from tabs.failures import sentence
from tabs.history.wording import setting_in_words
from tabs.progress import STAGES
from tabs.results import control_place, result_tiles, scores_by_clip, shown_masks, steadiness_fact
from tabs.widgets.player import film_buttons, player_value, served, tile

if TYPE_CHECKING:
    from bivdiff.studio.history.records import Run
    from bivdiff.types import GenerationRequest

FILES = {
    "bridged": "Bridged clip", "framewise": "Frame by frame", "control": "Control map", "mask": "Mask", "gif": "GIF",
    "pngs": "PNG frames (zip)", "zip": "Everything (zip)", "grid": "All clips in one (mp4)", "page": "Page (HTML)",
    "contact_sheet": "Contact sheet", "scores_csv": "Scores (CSV)", "scores_json": "Scores (JSON)", "plot": "Curves",
}  # fmt: skip


def run_player(run: Run, request: GenerationRequest | None, why: str) -> dict[str, Any]:
    """The clips of a run, read back from its files, with what it took and what there is to download.

    Args:
        run: whose.
        request: what was asked; None if that is not there, and then `why`.
    """
    tiles = _compared_clips(run, request) if run.kind == "comparison" else _clips(run, request, why)
    shown = {one["file"]["path"] for one in tiles if "file" in one}
    downloads = [
        {"label": FILES.get(name, name.capitalize()), "file": served(path)}
        for name, path in run.files.items() if str(path) not in shown
    ]  # fmt: skip
    if {"framewise", "bridged"} <= run.files.keys():
        downloads += film_buttons(run.id)
    facts = steadiness_fact(run.scores) if run.kind != "comparison" else []
    facts += [("Seed", str(run.seed))] if run.seed is not None else []
    facts += [(label, f"{run.seconds[stage]:.1f} s") for stage, label in STAGES.items() if stage in run.seconds]
    return player_value(tiles, run.fps, facts, downloads)


def _clips(run: Run, request: GenerationRequest | None, why: str) -> list[dict[str, Any]]:
    pictures, notes = {}, {"source": why}
    if request is not None:
        pictures["source"] = request.frames
        if request.masks is not None:
            pictures["mask"] = shown_masks(request.frames, request.masks)
    names = {"framewise": "framewise", "bridged": "bridged", "mask": "mask"}
    names |= {
        control_place(number): name
        for number, name in enumerate(map_names(len(run.settings.get("controls", []))), 1)
        if name in run.files
    }
    for key, name in names.items():
        if name in run.files and key not in pictures:
            frames, notes[key] = _read_back(run.files[name])
            pictures |= {} if frames is None else {key: frames}
    tiles = result_tiles(run.task, pictures, request.controls if request else ())
    for key, one in tiles.items():
        if one["sheet"] is None:
            one |= {"note": notes.get(key) or "Not made", "pending": False}
        if path := run.files.get(names.get(key, key)):
            one["file"] = served(path)
    for key, scores in scores_by_clip(run.scores, run.image_model).items():
        if key in tiles:
            tiles[key]["scores"] = scores
    return list(tiles.values())


def _compared_clips(run: Run, request: GenerationRequest | None) -> list[dict[str, Any]]:
    """The source and the clips of a comparison, each named by the values it was made with."""
    tiles = [] if request is None else [tile("Source", request.frames)]
    if run.state == "dropped":  # none of them travelled, and a file may name thousands
        return tiles
    axes = run.settings.get("axes") or {}
    for number, values in enumerate(product(*axes.values()), 1):
        label = ", ".join(setting_in_words(name, value) for name, value in zip(axes, values, strict=True))
        if path := run.files.get(f"cell {number}"):
            frames, why = _read_back(path)
            tiles.append(tile(label, frames, tone="blend", note=why, file=served(path)))
        else:
            tiles.append(tile(label, None, note="Not made"))
    return tiles


def _read_back(path: Path) -> tuple[np.ndarray | None, str]:
    """All frames of a file, or why there are none."""
    try:
        return read_frames(path), ""
    except InputError as error:
        return None, sentence(error)


def read_frames(path: Path) -> np.ndarray:
    """All frames of a file, uint8 `(F, H, W, 3)`.

    Raises:
        InputError: it cannot be read.
    """
    return read_clip(path, num_frames=probe(path).num_frames).frames
