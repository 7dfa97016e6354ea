"""The files of a run on the command line and in a batch: which there are, and what is in each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bivdiff.errors import InputError
from bivdiff.media.carried import carry, pack, settings_of
from bivdiff.media.sound import Sound
from bivdiff.media.writing import MAX_GIF_FPS, Carry, write_gif, write_mp4, write_png_zip
from bivdiff.pixels import masks
from bivdiff.studio.history.files import map_names
from bivdiff.types import GenerationRequest, GenerationResult

Writer = Callable[[Path, np.ndarray, float, Carry], None]
WRITERS: Mapping[str, Writer] = {
    ".mp4": write_mp4,
    ".gif": lambda path, frames, fps, carry: write_gif(path, frames, min(fps, MAX_GIF_FPS), carry),
    ".zip": lambda path, frames, _, carry: write_png_zip(path, frames, carry),
}
"""By the ending of a file's name."""


def writer_of(path: Path) -> Writer:
    """The writer for a path's ending.

    Raises:
        InputError: there is none.
    """
    if path.suffix.lower() not in WRITERS:
        raise InputError(f"The output '{path.name}' must end in {', '.join(WRITERS)}. Rename it.")
    return WRITERS[path.suffix.lower()]


def slowed(output: Path, fps: float) -> str:
    """What is to be said before a run of a clip that its file cannot play at its rate; empty where it can."""
    if output.suffix.lower() != ".gif" or fps <= MAX_GIF_FPS:
        return ""
    return (
        f"A GIF plays at most {MAX_GIF_FPS:g} frames a second, so this clip of {fps:.4g} will be slower in it. Write "
        "an mp4 to keep its rate."
    )


def output_files(output: Path, request: GenerationRequest) -> dict[str, Path]:
    """The files that a run writes, known before it runs: `output` is its "result", the others lie beside it.

    Raises:
        InputError: nothing can be written to a file of that ending.
    """
    writer_of(output)
    names = ["framewise", *map_names(len(request.controls)), *(["mask"] if request.masks is not None else [])]
    return {"result": output, **{name: output.with_stem(f"{output.stem}-{name}") for name in names}}


def write_outputs(
    files: Mapping[str, Path], result: GenerationResult, fps: float, sound: Sound | None = None,
    tell: Callable[[Path], object] = lambda _: None,
) -> Callable[[], Carry]:  # fmt: skip
    """Write what a run made, each file with the settings and the pictures of its run.

    Args:
        files: as `output_files` names them.
        result: what was made.
        fps: playback rate.
        sound: of the source, for the result where it is an mp4.
        tell: is given each file that is whole.

    Returns:
        What another file of the run is to carry; its pictures are packed once.

    Raises:
        InputError: one cannot be written.
    """
    request = result.request
    clips = {"result": result.frames, "framewise": result.framewise_frames}
    clips |= dict(zip(map_names(len(result.control_frames)), result.control_frames, strict=True))
    if request.masks is not None:
        clips["mask"] = masks.overlay(request.frames, request.masks)
    carrying = partial(carry, settings_of(replace(request, seed=result.seed), fps), pack(request))
    for name, path in files.items():
        carried = carrying("bridged" if name == "result" else name)
        if name == "result" and sound is not None and path.suffix.lower() == ".mp4":
            write_mp4(path, clips[name], fps, carried, sound)
        else:
            writer_of(path)(path, clips[name], fps, carried)
        tell(path)
    return carrying


def report_of(result: GenerationResult) -> dict[str, Any]:
    """What a run took, and all its settings, ready for JSON."""
    frames, height, width = result.frames.shape[:3]
    return {
        "num_frames": frames,
        "width": width,
        "height": height,
        "seed": result.seed,
        "seconds": {stage: round(value, 3) for stage, value in result.seconds.items()},
        "evaluations": result.evaluations,
        "forward_seconds": round(result.forward_seconds, 3),
        "peak_memory_bytes": result.peak_memory_bytes,
        "settings": result.request.settings(),
    }
