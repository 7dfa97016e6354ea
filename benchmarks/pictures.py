"""Make the README's moving pictures with the shipped weights: one large one, and a small one for each task.

    python benchmarks/pictures.py [NAME ...]

They go to `docs/pictures` as animated WebP: source, frame by frame, bridged, at the speed of the sample. Each is one
run with the settings written here; nothing is picked from several seeds.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bivdiff.bridge.pipeline import last, run
from bivdiff.catalog.requests import default_request
from bivdiff.media import film
from bivdiff.media.reading import read_clip
from bivdiff.models.manager import ModelManager
from bivdiff.pixels.masks import extend_canvas, fit_masks, overlay
from bivdiff.settings import Settings
from bivdiff.studio.films import film_of
from bivdiff.toybox.clips import SampleClip, load_index
from bivdiff.types import GenerationRequest, GenerationResult

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "docs" / "pictures"
COUNT, FPS, SEED = 8, 8, 1
QUALITY = 84
HERO = ("hero", "control", 6, {})
TASKS: dict[str, tuple[str, int, dict[str, Any]]] = {
    "control": ("control", 0, {}),
    "edit": ("edit", 9, {"image_model": "instruct-pix2pix"}),
    "inpaint": ("inpaint", 0, {}),
    "outpaint": ("outpaint", 3, {}),
    "smooth": ("smooth", 0, {}),
}


def main(names: list[str]) -> None:
    """Make the pictures of these names, or all of them."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    models = ModelManager(replace(Settings(), cache_size="0"))
    for name in names or [HERO[0], *TASKS]:
        task, place, changes = HERO[1:] if name == HERO[0] else TASKS[name]
        result = last(run(request_of(task, load_index()[place], changes), models))
        pictures = hero(result) if name == HERO[0] else strip(result)
        path = FOLDER / f"{name}.webp"
        write(path, pictures)
        print(f"{path.relative_to(ROOT)}: {path.stat().st_size / 1000:.0f} kB", flush=True)


def request_of(task: str, sample: SampleClip, changes: dict[str, Any]) -> GenerationRequest:
    """What is run for a task on a sample."""
    frames = read_clip(sample.flickering if task == "smooth" else sample.file, num_frames=COUNT).frames
    if task == "smooth":
        return default_request(task, "toybox", frames, sample.caption, seed=SEED, **changes)
    if task == "inpaint":
        masks = fit_masks(read_clip(sample.masks, num_frames=COUNT).frames, *frames.shape[:3])
        return default_request(task, "toybox", frames, sample.erased, seed=SEED, masks=masks, **changes)
    if task == "outpaint":
        smaller = read_clip(sample.file, num_frames=COUNT, size=(88, 128), fit="crop").frames
        canvas, masks = extend_canvas(smaller, 20, 0, 20, 0)
        return default_request(task, "toybox", canvas, sample.caption, seed=SEED, masks=masks, **changes)
    prompt = sample.instruction if task == "edit" else sample.prompt
    return default_request(task, "toybox", frames, prompt, seed=SEED, **changes)


def hero(result: GenerationResult) -> np.ndarray:
    """The film of a run, once through, uint8 `(F, H, W, 3)`."""
    options = film.FilmOptions(shape="banner", seconds=COUNT / FPS, wipe=False)
    made = film_of(result.request, result.framewise_frames, result.frames, FPS, options)
    every = round(made.fps / FPS)
    return np.stack([frame for number, frame in enumerate(made.frames()) if number % every == 0])


def strip(result: GenerationResult) -> np.ndarray:
    """The clips of a run in a row under their names, uint8 `(F, H, W, 3)`."""
    request, source = result.request, ("source", result.request.frames)
    if request.masks is not None:
        source = ("what is made anew", overlay(request.frames, request.masks))
    cells = [source, ("frame by frame", result.framewise_frames), ("BIVDiff", result.frames)]
    if request.task == "smooth":
        cells = [("your frames", result.framewise_frames), cells[-1]]
    return film.labelled_grid([cells])


def write(path: Path, pictures: np.ndarray) -> None:
    """Write an endless WebP."""
    first, *others = [Image.fromarray(picture) for picture in pictures]
    duration = round(1000 / FPS)
    first.save(path, save_all=True, append_images=others, duration=duration, loop=0, quality=QUALITY, method=6)


if __name__ == "__main__":
    main(sys.argv[1:])
