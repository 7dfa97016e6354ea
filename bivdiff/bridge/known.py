"""What is kept of the source around what is made anew: latents while a clip is smoothed, pixels at its end."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from torch import Tensor

from bivdiff.bridge.latents import fold_frames, unfold_frames
from bivdiff.bridge.loaded import LoadedModels
from bivdiff.bridge.makers.inpaint import latent_holes
from bivdiff.pixels.masks import composite, feather
from bivdiff.types import GenerationRequest


class Known(NamedTuple):
    """Content of a clip that is kept: its clean `latents` `(1, C, F, h, w)`, and the `holes` in it.

    `holes`: bool, `(1, 1, F, h, w)`, True where the clip is made anew.
    """

    latents: Tensor
    holes: Tensor


def known_content(request: GenerationRequest, models: LoadedModels) -> Known | None:
    """The source around the masks; None where the whole clip is made anew."""
    if request.masks is None or not request.preserve_known:
        return None
    clean = models.encode(request.frames)
    return Known(clean, unfold_frames(latent_holes(request.masks, fold_frames(clean))) > 0)


def with_known_content(request: GenerationRequest, made: np.ndarray) -> np.ndarray:
    """The made frames with the source outside the masks, where the request wants that; uint8 `(F, H, W, 3)`."""
    if request.masks is None or not request.preserve_known:
        return made
    return composite(request.frames, made, feather(request.masks, request.feather))
