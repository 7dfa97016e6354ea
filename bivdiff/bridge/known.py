"""What is kept of the source around what is made anew: latents while a clip is smoothed, pixels at its end."""

from __future__ import annotations

import numpy as np

from bivdiff.bridge.loaded import LoadedModels
from bivdiff.bridge.paths import Known
from bivdiff.pixels.masks import composite, feather
from bivdiff.types import GenerationRequest


def known_content(request: GenerationRequest, models: LoadedModels) -> Known | None:
    """The source around the masks, as the video model sees it; None where the whole clip is made anew."""
    if request.masks is None or not request.preserve_known:
        return None
    clean = models.encode_for_video(request.frames)
    return Known(clean, models.video_space.holes(request.masks, clean))


def with_known_content(request: GenerationRequest, made: np.ndarray) -> np.ndarray:
    """The made frames with the source outside the masks, where the request wants that; uint8 `(F, H, W, 3)`."""
    if request.masks is None or not request.preserve_known:
        return made
    return composite(request.frames, made, feather(request.masks, request.feather))
