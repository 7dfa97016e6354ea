"""What a run shows: clips for the player, and figures."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from bivdiff.catalog.image_models import IMAGE_MODELS
from bivdiff.catalog.tasks import TASKS, Task
from bivdiff.late import importing
from bivdiff.media.heat import heat_picture
from bivdiff.studio.history.files import map_names
from bivdiff.types import Control, GenerationRequest, GenerationResult, StepEvent
from bivdiff.units import SHARPNESS
from tabs.widgets.player import film_buttons, mark_of, player_value, served, sheet, tile

if TYPE_CHECKING:
    from bivdiff.compare.steadiness import Rest

CONTROL_LABELS = {
    "canny": "Edges", "depth": "Depth", "pose": "Pose", "softedge": "Soft edges", "scribble": "Scribble",
    "lineart": "Line art", "normal": "Surface directions", "sketch": "Sketch", "mlsd": "Straight lines",
    "segmentation": "Regions", "lineart-anime": "Anime line art", "shuffle": "Shuffled content",
    "instruction": "Instruction", "tile": "Tile",
}  # fmt: skip
SCORED = {
    "true_sharpness": ("bridged", SHARPNESS.format(of="truth"), "{:.0%}"),
    "framewise_true_sharpness": ("framewise", SHARPNESS.format(of="truth"), "{:.0%}"),
    "sharpness": ("bridged", SHARPNESS.format(of="frame by frame"), "{:.0%}"),
    "flicker": ("bridged", "Change from frame to frame", "{:.1f}"),
    "framewise_flicker": ("framewise", "Change from frame to frame", "{:.1f}"),
    "source_flicker": ("source", "Change from frame to frame", "{:.1f}"),
}  # fmt: skip
"""The scores of a run beside its flicker at rest: of which clip each is, what it is called below it, and its format.
The last three, which count motion, are of runs that an earlier version kept."""
OF_YOURS = SHARPNESS.format(of="your frames") + ", their flicker included"


class LiveTiles:
    """The player during a run: the source at once, the others as they come.

    Pictures are encoded when they are asked for, so that a run does not wait for them.

    Attributes:
        version: grows with every picture.
        given: the sheets of what the request brought with it.
    """

    def __init__(self, request: GenerationRequest, fps: float) -> None:
        self._fps, self._mark = fps, mark_of(request.frames)
        given = _given(request)
        self._tiles = result_tiles(request.task, given, request.controls)
        self.given = {key: one["sheet"] for key, one in self._tiles.items() if key in given}
        self._waiting: dict[str, tuple[np.ndarray, bool]] = {}
        self._encoding = threading.Lock()
        self.version = 0

    def take(self, event: StepEvent) -> None:
        """Note an event's preview."""
        key = {"control": control_place(event.step), "framewise": "framewise", "smoothing": "bridged"}.get(event.stage)
        if event.stage == "smoothing" and "framewise" in self._tiles:
            self._tiles["framewise"]["pending"] = False
        if key in self._tiles and event.preview is not None:
            self._waiting[str(key)] = (event.preview, event.stage != "control")
            self.version += 1

    def value(self) -> dict[str, Any]:
        """The player's value now; shares nothing with later ones."""
        with self._encoding:  # several windows may watch one run
            while self._waiting:
                key, (preview, pending) = self._waiting.popitem()
                shown = self._tiles[key]
                self._tiles[key] = {**shown, "sheet": sheet(preview), "pending": pending}
            value = player_value([dict(shown) for shown in self._tiles.values()], self._fps)
            return value | {"of": self._mark, "job": True}


def result_tiles(
    task: str,
    pictures: Mapping[str, np.ndarray],
    controls: Sequence[Control] = (Control(),),
    sheets: Mapping[str, Any] = MappingProxyType({}),
) -> dict[str, dict[str, Any]]:
    """The places of a task's result, by key; what is not there yet says what it waits for.

    Args:
        task: key of the catalog's tasks.
        pictures: uint8 `(F, H, W, 3)` of the places that are filled; a result has begun once there is a source.
        controls: of the request; each has a place of its own.
        sheets: of places that are not among the pictures, made before.
    """
    places = {
        "framewise": ("Frame by frame", "image", "The image model's frames: faithful, but they flicker"),
        "bridged": ("Bridged", "blend", "The same frames, made to belong together"),
        "source": ("Source", "", "The clip you choose"),
    }
    known = TASKS.get(task, Task(task, task))  # a run may be of a later version's
    if known.is_steered:
        for number, control in enumerate(controls, 1):
            kind = CONTROL_LABELS.get(control.control_type, control.control_type)
            label = "Control map" if len(controls) == 1 else f"Control map: {kind.lower()}"
            places[control_place(number)] = (label, "", "What steers the image model")
    elif known.masks == "drawn":
        places["mask"] = ("Mask", "", "The part that is made anew, in colour")
    elif known.masks == "canvas":
        # The source is part of the canvas.
        places["mask"] = ("Canvas", "", "The clip you choose, with what is added in colour")
        del places["source"]
    elif known.starts_from_frames:
        places = {
            "source": ("Your frames", "image", "The clip you choose, as it flickers"), "bridged": places["bridged"],
        }  # fmt: skip
    filled = pictures.keys() | sheets.keys()
    tiles = {
        key: tile(
            label, pictures.get(key), tone=tone, note=note, main=bool(tone),
            pending="source" in filled and key not in filled,
        )
        for key, (label, tone, note) in places.items()
    }  # fmt: skip
    return {key: one | {"sheet": sheets.get(key, one["sheet"])} for key, one in tiles.items()}


def control_place(number: int) -> str:
    """The key of a control map's place, counted from 1."""
    return f"control-{number}"


def empty_player(task: str, missing: str = "") -> dict[str, Any]:
    """The result player before the first run; `missing` says what its places wait for, if not for a run."""
    tiles = result_tiles(task, {}).values()
    return player_value([{**each, "note": missing or each["note"]} for each in tiles], 8)


def result_player(
    result: GenerationResult,
    fps: float,
    scores: Mapping[str, Any],
    files: Mapping[str, Path],
    run_id: str = "",
    sheets: Mapping[str, Any] = MappingProxyType({}),
    rests: Mapping[str, Rest] = MappingProxyType({}),
) -> dict[str, Any]:
    """The value of the result player: its clips with their scores, what the run took, and files to keep.

    Args:
        result: of a run.
        fps: at which its clips play.
        scores: of the result, as `scores_of` measured them.
        files: those that were written of it, by the names of `Runs.finish`.
        run_id: in the history, if that keeps it: then a film of it can be asked for.
        sheets: of places whose pictures were shown before, see `LiveTiles.given`.
        rests: of the clips, where they are measured already, see `rests_of`.
    """
    request = result.request
    given = {key: frames for key, frames in _given(request).items() if key not in sheets}
    made = {"framewise": result.framewise_frames, "bridged": result.frames}
    maps = {control_place(number): frames for number, frames in enumerate(result.control_frames, 1)}
    tiles = result_tiles(request.task, {**given, **maps, **made}, request.controls, sheets)
    names = {name: control_place(number) for number, name in enumerate(map_names(len(maps)), 1)}
    for key, path in files.items():
        if (place := names.get(key, key)) in tiles:
            tiles[place]["file"] = served(path)
    shown = {key: made[key] for key in made if key in tiles}
    fill_scores(tiles, scores, request.image_model, request, shown, rests)
    kept = {"GIF": "gif", "PNG frames (zip)": "pngs"}
    downloads = [{"label": label, "file": served(files[key])} for label, key in kept.items() if key in files]
    downloads += film_buttons(run_id, single=True) if files else []
    shown = player_value(list(tiles.values()), fps, [*steadiness_fact(scores), *_facts(result)], downloads)
    return shown | {
        "of": mark_of(request.frames), "series": series_of(request), "ratio": request.mixing_ratio, "job": True,
    }  # fmt: skip


def series_of(request: GenerationRequest) -> str:
    """A short text that is the same for requests which differ in nothing but the mixing ratio."""
    pictures = [request.frames, *([] if request.masks is None else [request.masks])]
    maps = [control.frames for control in request.controls if control.frames is not None]
    settings = {name: value for name, value in request.settings().items() if name != "mixing_ratio"}
    told = json.dumps([settings, *map(mark_of, [*pictures, *maps])], sort_keys=True, default=str)
    return hashlib.sha256(told.encode()).hexdigest()[:16]


def rests_of(result: GenerationResult) -> dict[str, Rest]:
    """Flicker at rest of a run's clips, by their keys."""
    with importing():
        from bivdiff.compare import steadiness  # half a second, and the first page needs none of it

    return steadiness.rests_of(result)


def scores_of(result: GenerationResult, rests: Mapping[str, Rest] | None = None) -> dict[str, Any]:
    """What a run is scored by in its record and in the history, ready for JSON; `rests` where they are measured."""
    with importing():
        from bivdiff.compare.steadiness import figures_of

    return figures_of(result, rests)


def fill_scores(
    tiles: Mapping[str, dict[str, Any]], scores: Mapping[str, Any], image_model: str,
    request: GenerationRequest | None, clips: Mapping[str, np.ndarray],
    rests: Mapping[str, Rest] = MappingProxyType({}),
) -> None:  # fmt: skip
    """Write below the clips of a run what they are scored by, and where they flicker at rest.

    Args:
        tiles: by key; they are changed.
        scores: as `scores_of` gives them.
        image_model: key of the catalog's image models.
        request: what was asked; without it nothing says where a clip flickers.
        clips: uint8 `(F, H, W, 3)` of those tiles that were made, by key.
        rests: of those of them that are measured already.
    """
    for key, figures in scores_by_clip(scores, image_model).items():
        if key in tiles:
            tiles[key]["scores"] = figures
    rest = rest_of(scores)
    if rest is None:
        return
    frames = "framewise" if "framewise" in tiles else "source"
    clips = {**({} if request is None else {"source": request.frames}), **clips}
    for key, name, told in ((frames, "framewise", rest_before(rest)), ("bridged", "bridged", rest)):
        if key not in tiles:
            continue
        tiles[key]["rest"] = told
        if request is not None and key in clips:
            heat = rests[name].heat if name in rests else heat_at_rest(request, clips[key])
            tiles[key]["heat"] = None if heat is None else heat_picture(heat, told["level"])


def heat_of(request: GenerationRequest, frames: np.ndarray, level: float | None) -> dict[str, Any] | None:
    """Where a clip made of a request flickers at rest, as the player takes it; None where that is not measured."""
    heat = heat_at_rest(request, frames)
    return None if heat is None else heat_picture(heat, level)


def heat_at_rest(request: GenerationRequest, frames: np.ndarray) -> np.ndarray | None:
    """Where a clip made of a request flickers at rest, float32 `(H, W)`; None where that is not measured."""
    with importing():
        from bivdiff.compare.steadiness import flicker_at_rest
        from bivdiff.toybox.truths import truth_of

    return flicker_at_rest(request, frames, truth_of(request)).heat


def rest_of(scores: Mapping[str, Any]) -> dict[str, Any] | None:
    """Flicker at rest of a run's bridged clip, as the player draws it; None for an earlier version's run."""
    if "excess_flicker" not in scores:
        return None
    return {
        "level": scores["excess_flicker"], "before": scores.get("framewise_excess_flicker"),
        "words": scores.get("steadiness", ""),
    }  # fmt: skip


def rest_before(rest: Mapping[str, Any]) -> dict[str, Any]:
    """The same of the frames that the clip was made of."""
    return {**rest, "level": rest["before"], "words": ""}


def scores_by_clip(scores: Mapping[str, Any], image_model: str) -> dict[str, dict[str, str]]:
    """What stands below each clip of a run, by its key and by what it is of.

    Args:
        scores: as `scores_of` gives them, or an earlier version's.
        image_model: key of the catalog's image models; given frames are the source.
    """
    model = IMAGE_MODELS.get(image_model)
    framewise = "framewise" if model is None or model.makes_frames else "source"
    shown: dict[str, dict[str, str]] = {"source": {}, "framewise": {}, "bridged": {}}
    for name, (clip, label, form) in SCORED.items():
        if name in scores and (name != "sharpness" or "true_sharpness" not in scores):
            shown[framewise if clip == "framewise" else clip][label] = _number(scores[name], form)
    if "true_sharpness" not in scores and scores.get("sharpness") is not None:
        shown[framewise][SCORED["sharpness"][1]] = _number(1.0, SCORED["sharpness"][2])
    if framewise == "source":
        theirs = SCORED["sharpness"][1]
        shown = {clip: {OF_YOURS if label == theirs else label: text for label, text in figures.items()}
                 for clip, figures in shown.items()}  # fmt: skip
    return shown


def record_of(result: GenerationResult, fps: float, scores: Mapping[str, Any]) -> dict[str, Any]:
    """What was run and what it took, ready for JSON; `scores` as `scores_of` measured them."""
    return {
        "settings": {**result.request.settings(), "seed": result.seed},
        "seed": result.seed, "fps": fps, "seconds": result.seconds, "evaluations": result.evaluations,
        "forward_seconds": result.forward_seconds, "peak_memory_bytes": result.peak_memory_bytes,
        "scores": dict(scores),
    }  # fmt: skip


def shown_masks(frames: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """The frames with what is made anew in colour, uint8 `(F, H, W, 3)`."""
    with importing():
        from bivdiff.pixels.masks import overlay  # loads what the first page can do without

    return overlay(frames, masks)


def _given(request: GenerationRequest) -> dict[str, np.ndarray]:
    """What there is to show of a request before anything is made."""
    given = {"source": request.frames}
    if request.masks is not None:
        given["mask"] = shown_masks(request.frames, request.masks)
    return given


def steadiness_fact(scores: Mapping[str, Any]) -> list[tuple[str, str]]:
    """How calm the bridged clip is, in words, as a fact below the clips; of an earlier version's run there is none."""
    words = scores.get("steadiness")
    return [("Flicker at rest", str(words))] if words else []


def _facts(result: GenerationResult) -> list[tuple[str, str]]:
    words = {"framewise": "Frame by frame", "inversion": "Inversion", "smoothing": "Smoothing"}
    if not IMAGE_MODELS[result.request.image_model].makes_frames:
        del words["framewise"]
    stages = [(label, _cost(result, stage)) for stage, label in words.items()]
    memory = [("Peak memory", f"{result.peak_memory_bytes / 2**30:.1f} GB")] if result.peak_memory_bytes else []
    ratio = f"{result.request.mixing_ratio:g}"
    return [("Seed", str(result.seed)), ("Mixing ratio", ratio), *stages, *memory]


def _cost(result: GenerationResult, stage: str) -> str:
    if not result.evaluations.get(stage):
        return "kept from an earlier run"
    return f"{result.seconds.get(stage, 0):.1f} s, {result.evaluations[stage]:,} evaluations"


def _number(value: float | None, form: str) -> str:
    return "not measured" if value is None else form.format(value)
