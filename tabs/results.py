"""What a run shows and leaves: clips for the player, figures, files.

In it: the player's value during a run and after it, the files of a result, and its record. Not in it: the run
(running.py), the player itself (player.py).
"""

from __future__ import annotations

import math
import secrets
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from gradio.utils import get_upload_folder

from bivdiff import media
from bivdiff.errors import BIVDiffError, InputError
from bivdiff.types import GenerationRequest, GenerationResult, StepEvent
from tabs.player import player_value, served, tile


class LiveTiles:
    """The player during a run: the source at once, the others as they come."""

    def __init__(self, request: GenerationRequest, fps: float) -> None:
        self._fps = fps
        self._tiles = result_tiles(request.frames, request.control_frames, None, None)
        self._places = {"control": 1, "framewise": 2, "smoothing": 3}

    def take(self, event: StepEvent) -> bool:
        """Put an event's preview in its place; say whether there was one."""
        place = self._places.get(event.stage)
        if place is None or event.preview is None:
            return False
        shown = self._tiles[place]
        self._tiles[place] = tile(shown["label"], event.preview, tone=shown["tone"], pending=event.stage != "control")
        if event.stage == "smoothing":
            self._tiles[2]["pending"] = False
        return True

    def value(self) -> dict[str, Any]:
        """The player's value now; shares nothing with later ones."""
        return player_value([dict(shown) for shown in self._tiles], self._fps)


def result_tiles(
    frames: np.ndarray | None,
    control_frames: np.ndarray | None,
    framewise_frames: np.ndarray | None,
    bridged_frames: np.ndarray | None,
) -> list[dict[str, Any]]:
    """The four places of a result; what is not there yet says what it waits for."""
    begun = frames is not None
    return [
        tile("Source", frames, note="The clip you choose"),
        tile("Control map", control_frames, note="Its edges or depth", pending=begun and control_frames is None),
        tile(
            "Frame by frame", framewise_frames, tone="image", pending=begun and framewise_frames is None,
            note="The image model's frames: faithful, but they flicker",
        ),
        tile(
            "Bridged", bridged_frames, tone="blend", note="The same frames, made to belong together",
            pending=begun and bridged_frames is None,
        ),
    ]  # fmt: skip


def empty_player() -> dict[str, Any]:
    """The result player before the first run."""
    return player_value(result_tiles(None, None, None, None), 8)


def result_player(result: GenerationResult, fps: float, files: Sequence[Path | None]) -> dict[str, Any]:
    """The value of the result player: four clips with their scores, what the run took, and files to keep."""
    source, control, framewise, bridged = result_tiles(
        result.request.frames, result.control_frames, result.framewise_frames, result.frames
    )
    keep = [served(path) if path else None for path in files]
    source["scores"] = [["Flicker", _number(_flicker(result.request.frames))]]
    framewise |= {"file": keep[1], "scores": _scores(result.framewise_frames, result.framewise_frames)}
    bridged |= {"file": keep[0], "scores": _scores(result.frames, result.framewise_frames)}
    labels = ("GIF", "PNG frames (zip)")
    downloads = [{"label": label, "file": file} for label, file in zip(labels, keep[3:], strict=True) if file]
    control["file"] = keep[2]
    shown = [source, framewise, bridged] if result.control_frames is None else [source, control, framewise, bridged]
    return player_value(shown, fps, _facts(result), downloads)


def write_files(result: GenerationResult, fps: float) -> tuple[Path | None, ...]:
    """Write a result into a folder of its own, whose name cannot be guessed.

    Returns:
        Paths of the bridged, frame-by-frame and control clips (None without control), the GIF and the zip.

    Raises:
        InputError: it cannot be written; nothing is left behind.
    """
    folder = Path(get_upload_folder()) / secrets.token_hex(16)
    names = ("bridged.mp4", "frame-by-frame.mp4", "control.mp4", "bridged.gif", "bridged-frames.zip")
    bridged, framewise, control, gif, pngs = (folder / name for name in names)
    try:
        folder.mkdir(mode=0o700, parents=True)
        media.write_mp4(bridged, result.frames, fps)
        media.write_mp4(framewise, result.framewise_frames, fps)
        if result.control_frames is not None:
            media.write_mp4(control, result.control_frames, fps)
        media.write_gif(gif, result.frames, min(fps, media.MAX_GIF_FPS))
        media.write_png_zip(pngs, result.frames)
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise InputError("The clips could not be written: the disk may be full. Make room and try again.") from error
    except BIVDiffError:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return bridged, framewise, None if result.control_frames is None else control, gif, pngs


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
    stages = [
        (label, f"{result.seconds.get(stage, 0):.1f} s, {result.evaluations.get(stage, 0):,} evaluations")
        for stage, label in words.items()
    ]
    memory = [("Peak memory", f"{result.peak_memory_bytes / 2**30:.1f} GB")] if result.peak_memory_bytes else []
    ratio = f"{result.request.mixing_ratio:g}"
    return [("Seed", str(result.seed)), ("Mixing ratio", ratio), *stages, *memory]


def _number(value: float, digits: int = 1) -> str:
    return f"{value:.{digits}f}" if math.isfinite(value) else "none"


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
