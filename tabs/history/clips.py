"""The clips of a run, read back from its files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bivdiff.compare.axes import before_names, before_places, framewise_file, values_of_cells
from bivdiff.errors import InputError
from bivdiff.late import importing
from bivdiff.media.reading import probe, read_clip
from bivdiff.studio.history.files import map_names
from tabs.failures import sentence
from tabs.history.wording import setting_in_words
from tabs.progress import STAGES
from tabs.results import (
    control_place,
    fill_scores,
    heat_of,
    rest_before,
    rest_of,
    result_tiles,
    shown_masks,
    steadiness_fact,
)
from tabs.widgets.player import film_buttons, player_value, served, tile

if TYPE_CHECKING:
    from bivdiff.studio.history.records import Run
    from bivdiff.types import GenerationRequest

FILES = {
    "bridged": "Bridged clip", "framewise": "Frame by frame", "control": "Control map", "mask": "Mask", "gif": "GIF",
    "pngs": "PNG frames (zip)", "zip": "Everything (zip)", "grid": "All clips in one (mp4)", "page": "Page (HTML)",
    "contact_sheet": "Contact sheet", "scores_csv": "Scores (CSV)", "scores_json": "Scores (JSON)", "plot": "Curves",
}  # fmt: skip


def _numbered(run: Run) -> set[str]:
    """Of a run's files those that there may be several of; what a paper takes is in a zip of its own."""
    return {name for name in run.files if name.startswith(("control-", "cell ", "framewise "))}


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
        for name, path in run.files.items() if str(path) not in shown and name in FILES.keys() | _numbered(run)
    ]  # fmt: skip
    if ({"scores_json"} if run.kind == "comparison" else {"framewise", "bridged"}) <= run.files.keys():
        downloads += film_buttons(run.id, single=run.kind != "comparison")
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
    fill_scores(tiles, run.scores, run.image_model, request, {key: pictures[key] for key in names if key in pictures})
    return list(tiles.values())


def _compared_clips(run: Run, request: GenerationRequest | None) -> list[dict[str, Any]]:
    """The frames before the bridge, the clips made of them, each named by its values, and the source."""
    source = [] if request is None else [tile("Source", request.frames)]
    if run.state == "dropped":  # none of the others travelled, and a file may name thousands
        return source
    axes = run.settings.get("axes") or {}
    places, told = before_places(axes), scores_of_cells(run)
    tiles = []
    for place, label in enumerate(before_names(run.image_model, axes)):
        scored = {name: rest_before(rest) for name, rest in _rest(told.get(places.index(place))).items()}
        tiles.append(_compared(run, request, framewise_file(place), label, tone="image", **scored))
    for number, each in enumerate(values_of_cells(axes)):
        label = ", ".join(setting_in_words(name, value) for name, value in each.items())
        tiles.append(_compared(run, request, f"cell {number + 1}", label, tone="blend", **_rest(told.get(number))))
    return [*tiles, *source]


def _rest(scores: Mapping[str, Any] | None) -> dict[str, Any]:
    rest = rest_of(scores or {})
    return {} if rest is None else {"rest": rest}


def _compared(run: Run, request: GenerationRequest | None, name: str, label: str, **more: Any) -> dict[str, Any]:
    """One clip of a comparison, by the name of its file."""
    path = run.files.get(name)
    if path is None:
        return tile(label, None, note="Not made")
    frames, why = _read_back(path)
    if request is not None and frames is not None and "rest" in more:
        more["heat"] = heat_of(request, frames, more["rest"]["level"])
    return tile(label, frames, note=why, file=served(path), **more)


def scores_of_cells(run: Run) -> dict[int, dict[str, Any]]:
    """The scores of a comparison's clips by their places, named as a run's are, see `figures_of`.

    Nothing where their file is gone, or is of an earlier version.
    """
    with importing():
        from bivdiff.compare.steadiness import steadiness_of_scores

    try:
        told = json.loads(run.files["scores_json"].read_text("utf-8"))["cells"]
        return {
            each["index"]: steadiness_of_scores(run.image_model, each["scores"], each["framewise_scores"])
            for each in told
        }
    except (KeyError, TypeError, OSError, ValueError):
        return {}


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
