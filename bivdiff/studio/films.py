"""The film of a run: which clips are in it, and what is written under them.

Not here: how a film looks and is composed (see media/film).
"""

from __future__ import annotations

import math

import numpy as np

from bivdiff.catalog.image_models import IMAGE_MODELS, frames_name
from bivdiff.catalog.tasks import TASKS
from bivdiff.compare.steadiness import FLICKER, flickers_at_rest, steadiness
from bivdiff.media.film import Film, FilmOptions, Tile, compose
from bivdiff.media.sound import Sound
from bivdiff.toybox.truths import truth_of
from bivdiff.types import GenerationRequest


def film_name(options: FilmOptions) -> str:
    """The name of a file for a film that looks so."""
    slow = "" if options.speed == 1 else f"-{options.speed:g}x"
    return f"film-{options.shape}-{options.seconds:g}s{slow}{'' if options.wipe else '-no-wipe'}.mp4"


def film_of(
    request: GenerationRequest,
    framewise: np.ndarray,
    bridged: np.ndarray,
    fps: float,
    options: FilmOptions,
    sound: Sound | None = None,
    levels: tuple[float, float] | None = None,
) -> Film:
    """Compose the film of a run, ready for `writing.write_film`.

    Args:
        request: what was asked.
        framewise: the image model's frames, uint8 `(F, H, W, 3)`.
        bridged: the result, uint8 `(F, H, W, 3)`.
        fps: playback rate of the clips.
        options: how the film looks.
        sound: of the source.
        levels: flicker at rest of the result and of the frames, as they were measured before the clips were written;
            without them they are measured here.
    """
    model = IMAGE_MODELS[request.image_model]
    tiles = [
        Tile(framewise, frames_name(request.image_model), model.title if model.makes_frames else ""),
        Tile(bridged, "Bridged", f"ratio {request.mixing_ratio:g}"),
    ]
    banner = options.shape == "banner"
    if banner and model.makes_frames:  # which has room for it; without a model the frames are the source
        tiles.insert(0, Tile(request.frames, "Source"))
    words = (request.prompt or request.video_prompt).strip()
    title = f"“{words}”" if words else TASKS[request.task].title
    says = "" if banner else _says(request, levels or _levels(request, framewise, bridged))
    return compose(tiles, fps, title, options, sound, says=says)


def _levels(request: GenerationRequest, framewise: np.ndarray, bridged: np.ndarray) -> tuple[float, float]:
    after, before = flickers_at_rest(request, [bridged, framewise], truth_of(request))
    return after.level, before.level


def _says(request: GenerationRequest, levels: tuple[float, float]) -> str:
    """What is to be seen, as a line: the flicker at rest; nothing where it was not measured."""
    return "" if any(map(math.isnan, levels)) else f"{FLICKER}: {steadiness(request, *levels)}"
