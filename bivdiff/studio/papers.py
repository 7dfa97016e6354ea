"""What a paper takes of a run or a comparison of the history.

Not here: how figure, table and caption are made (see compare/paper).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from bivdiff.compare.axes import clip_names
from bivdiff.compare.paper import Material, PaperRow
from bivdiff.compare.steadiness import flicker_at_rest
from bivdiff.toybox.truths import truth_of
from bivdiff.types import GenerationRequest

BRIDGED = {"excess_flicker": "excess_flicker", "sharpness": "sharpness", "true_sharpness": "true_sharpness"}
BEFORE = {"excess_flicker": "framewise_excess_flicker", "true_sharpness": "framewise_true_sharpness"}
"""Scores of a table, and what a run's scores call them: of the bridged clip, and of the frames before."""


def material_of_run(
    request: GenerationRequest, settings: Mapping[str, Any], scores: Mapping[str, Any], framewise: np.ndarray,
    bridged: np.ndarray,
) -> Material:  # fmt: skip
    """A run's clips for a paper: source, frames before the bridge, bridged.

    Args:
        request: what was asked.
        settings: as the history keeps them, with the seed that was used.
        scores: as `steadiness.figures_of` gives them.
        framewise, bridged: uint8 `(F, H, W, 3)`.
    """
    heat = flicker_at_rest(request, framewise, truth_of(request)).heat
    before = {"sharpness": 1.0, **{name: scores.get(key) for name, key in BEFORE.items()}}
    after = {name: scores.get(key) for name, key in BRIDGED.items()}
    *source, frames_label, bridged_label = clip_names(request.image_model, request.mixing_ratio)
    rows = [
        *(PaperRow(label, request.frames) for label in source),
        PaperRow(frames_label, framewise, before, heat),
        PaperRow(bridged_label, bridged, after, bridged=True),
    ]
    return Material(rows, settings)
