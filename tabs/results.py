"""What a run shows and leaves: clips for the player, figures, files.

In it: the player's value during a run and after it, the files of a result, and its record. Not in it: the run
(running.py), the player itself (player.py).
"""

from __future__ import annotations

import math
import secrets
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from gradio.utils import get_upload_folder

from bivdiff import media
from bivdiff.errors import BIVDiffError, InputError
from bivdiff.types import Control, GenerationRequest, GenerationResult, StepEvent
from tabs.player import player_value, served, tile

CONTROL_LABELS = {
    "canny": "Edges", "depth": "Depth", "pose": "Pose", "softedge": "Soft edges", "scribble": "Scribble",
    "lineart": "Line art", "normal": "Surface directions", "sketch": "Sketch", "mlsd": "Straight lines",
    "segmentation": "Regions", "lineart-anime": "Anime line art", "shuffle": "Shuffled content",
    "instruction": "Instruction", "tile": "Tile",
}  # fmt: skip


@dataclass(frozen=True)
class Files:
    """The files of a result. `steering` holds its control maps, or its mask."""

    bridged: Path | None = None
    framewise: Path | None = None
    steering: tuple[Path, ...] = ()
    gif: Path | None = None
    pngs: Path | None = None


class LiveTiles:
    """The player during a run: the source at once, the others as they come."""

    def __init__(self, request: GenerationRequest, fps: float) -> None:
        self._fps = fps
        self._tiles = result_tiles(request.task, _given(request), request.controls)

    def take(self, event: StepEvent) -> bool:
        """Put an event's preview in its place; say whether there was one."""
        key = {"control": f"control-{event.step}", "framewise": "framewise", "smoothing": "bridged"}.get(event.stage)
        shown = self._tiles.get(key or "")
        if shown is None or event.preview is None:
            return False
        changed = tile(shown["label"], event.preview, tone=shown["tone"], pending=event.stage != "control")
        self._tiles[str(key)] = changed
        if event.stage == "smoothing" and "framewise" in self._tiles:
            self._tiles["framewise"]["pending"] = False
        return True

    def value(self) -> dict[str, Any]:
        """The player's value now; shares nothing with later ones."""
        return player_value([dict(shown) for shown in self._tiles.values()], self._fps)


def result_tiles(
    task: str, pictures: Mapping[str, np.ndarray], controls: Sequence[Control] = (Control(),)
) -> dict[str, dict[str, Any]]:
    """The places of a task's result, by key; what is not there yet says what it waits for.

    Args:
        task: key of the catalog's tasks.
        pictures: uint8 `(F, H, W, 3)` of the places that are filled; a result has begun once there is a source.
        controls: of the request; each has a place of its own.
    """
    places = {"source": ("Source", "", "The clip you choose")}
    if task == "control":
        for number, control in enumerate(controls, 1):
            kind = CONTROL_LABELS.get(control.control_type, control.control_type)
            label = "Control map" if len(controls) == 1 else f"Control map: {kind.lower()}"
            places[f"control-{number}"] = (label, "", "What steers the image model")
    elif task == "inpaint":
        places["mask"] = ("Mask", "", "The part that is made anew, in colour")
    elif task == "outpaint":
        # The source is part of the canvas.
        places = {"mask": ("Canvas", "", "The clip you choose, with what is added in colour")}
    if task == "smooth":
        places["source"] = ("Your frames", "image", "The clip you choose, as it flickers")
    else:
        places["framewise"] = ("Frame by frame", "image", "The image model's frames: faithful, but they flicker")
    places["bridged"] = ("Bridged", "blend", "The same frames, made to belong together")
    begun = "source" in pictures
    return {
        key: tile(label, pictures.get(key), tone=tone, note=note, pending=begun and key not in pictures)
        for key, (label, tone, note) in places.items()
    }


def empty_player(task: str) -> dict[str, Any]:
    """The result player before the first run."""
    return player_value(list(result_tiles(task, {}).values()), 8)


def result_player(result: GenerationResult, fps: float, files: Files) -> dict[str, Any]:
    """The value of the result player: its clips with their scores, what the run took, and files to keep."""
    request = result.request
    made = {"framewise": result.framewise_frames, "bridged": result.frames}
    maps = {f"control-{number}": frames for number, frames in enumerate(result.control_frames, 1)}
    tiles = result_tiles(request.task, {**_given(request), **maps, **made}, request.controls)
    next(iter(tiles.values()))["scores"] = [["Flicker", _number(_flicker(request.frames))]]
    keep = {"bridged": files.bridged, "framewise": files.framewise}
    keep |= dict(zip(["mask"] if request.masks is not None else maps, files.steering, strict=False))
    for key, path in keep.items():
        if key in tiles and path:
            tiles[key]["file"] = served(path)
    for key, frames in made.items():
        if key in tiles:
            tiles[key]["scores"] = _scores(frames, result.framewise_frames)
    kept = {"GIF": files.gif, "PNG frames (zip)": files.pngs}
    downloads = [{"label": label, "file": served(path)} for label, path in kept.items() if path]
    return player_value(list(tiles.values()), fps, _facts(result), downloads)


def write_files(result: GenerationResult, fps: float) -> Files:
    """Write a result into a folder of its own, whose name cannot be guessed.

    Raises:
        InputError: it cannot be written; nothing is left behind.
    """
    folder = Path(get_upload_folder()) / secrets.token_hex(16)
    steering = {f"control-{number}" if number > 1 else "control": frames
                for number, frames in enumerate(result.control_frames, 1)}  # fmt: skip
    if result.request.masks is not None:
        steering["mask"] = np.repeat(result.request.masks[..., None], 3, axis=-1)
    files = Files(
        folder / "bridged.mp4", folder / "frame-by-frame.mp4", tuple(folder / f"{name}.mp4" for name in steering),
        folder / "bridged.gif", folder / "bridged-frames.zip",
    )  # fmt: skip
    try:
        folder.mkdir(mode=0o700, parents=True)
        media.write_mp4(folder / "bridged.mp4", result.frames, fps)
        media.write_mp4(folder / "frame-by-frame.mp4", result.framewise_frames, fps)
        for path, frames in zip(files.steering, steering.values(), strict=True):
            media.write_mp4(path, frames, fps)
        media.write_gif(folder / "bridged.gif", result.frames, min(fps, media.MAX_GIF_FPS))
        media.write_png_zip(folder / "bridged-frames.zip", result.frames)
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise InputError("The clips could not be written: the disk may be full. Make room and try again.") from error
    except BIVDiffError:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return files


def record_of(result: GenerationResult, fps: float) -> dict[str, Any]:
    """What was run and what it took, ready for JSON."""
    return {
        "settings": {**result.request.settings(), "seed": result.seed},
        "seed": result.seed, "fps": fps, "seconds": result.seconds, "evaluations": result.evaluations,
        "forward_seconds": result.forward_seconds, "peak_memory_bytes": result.peak_memory_bytes,
        "flicker": {
            "source": _finite(_flicker(result.request.frames)),
            "framewise": _finite(_flicker(result.framewise_frames)),
            "bridged": _finite(_flicker(result.frames)),
        },
        "sharpness": _finite(_sharpness(result.frames, result.framewise_frames)),
    }  # fmt: skip


def shown_masks(frames: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """The frames with what is made anew in colour, uint8 `(F, H, W, 3)`."""
    from bivdiff.masks import overlay  # loads what the first page can do without

    return overlay(frames, masks)


def _given(request: GenerationRequest) -> dict[str, np.ndarray]:
    """What there is to show of a request before anything is made."""
    given = {"source": request.frames}
    if request.masks is not None:
        given["mask"] = shown_masks(request.frames, request.masks)
    return given


def _flicker(frames: np.ndarray) -> float:
    from bivdiff.metrics import temporal_flicker  # half a second to import, and the first page needs none of it

    return temporal_flicker(frames)


def _sharpness(frames: np.ndarray, reference: np.ndarray) -> float:
    from bivdiff.metrics import relative_sharpness

    return relative_sharpness(frames, reference)


def _scores(frames: np.ndarray, framewise_frames: np.ndarray) -> list[list[str]]:
    sharpness = _sharpness(frames, framewise_frames)
    return [["Flicker", _number(_flicker(frames))], ["Sharpness", _number(sharpness, 2)]]


def _facts(result: GenerationResult) -> list[tuple[str, str]]:
    words = {"framewise": "Frame by frame", "inversion": "Inversion", "smoothing": "Smoothing"}
    if result.request.image_model == "given":
        del words["framewise"]
    stages = [(label, _cost(result, stage)) for stage, label in words.items()]
    memory = [("Peak memory", f"{result.peak_memory_bytes / 2**30:.1f} GB")] if result.peak_memory_bytes else []
    ratio = f"{result.request.mixing_ratio:g}"
    return [("Seed", str(result.seed)), ("Mixing ratio", ratio), *stages, *memory]


def _cost(result: GenerationResult, stage: str) -> str:
    if not result.evaluations.get(stage):
        return "kept from an earlier run"
    return f"{result.seconds.get(stage, 0):.1f} s, {result.evaluations[stage]:,} evaluations"


def _number(value: float, digits: int = 1) -> str:
    return f"{value:.{digits}f}" if math.isfinite(value) else "none"


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
