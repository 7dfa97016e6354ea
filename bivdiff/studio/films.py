"""The film of a run: which clips are in it, and what is written under them.

Not here: how a film looks and is composed (see media/film).
"""

from __future__ import annotations

import numpy as np

from bivdiff.catalog.image_models import IMAGE_MODELS
from bivdiff.catalog.tasks import TASKS
from bivdiff.media.film import Film, FilmOptions, Tile, compose
from bivdiff.media.sound import Sound
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
) -> Film:
    """Compose the film of a run, ready for `writing.write_film`.

    Args:
        request: what was asked.
        framewise: the image model's frames, uint8 `(F, H, W, 3)`.
        bridged: the result, uint8 `(F, H, W, 3)`.
        fps: playback rate of the clips.
        options: how the film looks.
        sound: of the source.
    """
    model = IMAGE_MODELS[request.image_model]
    tiles = [
        Tile(framewise, "Frame by frame", model.title if model.makes_frames else ""),
        Tile(bridged, "BIVDiff", f"mixing ratio {request.mixing_ratio:g}"),
    ]
    if model.makes_frames:  # else the frames are the source
        tiles.insert(0, Tile(request.frames, "Source"))
    words = (request.prompt or request.video_prompt).strip()
    title = f"“{words}”" if words else TASKS[request.task].title
    return compose(tiles, fps, title, options, sound)
