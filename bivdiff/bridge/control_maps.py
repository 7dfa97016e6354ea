"""The control maps of a request: as they were given, or drawn from its source."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from bivdiff.bridge.inputs import CONTROL_MAPS
from bivdiff.catalog.families import models_for
from bivdiff.models.manager import ModelManager
from bivdiff.pixels.annotators import annotate
from bivdiff.types import Control, GenerationRequest


def control_maps(request: GenerationRequest, manager: ModelManager) -> tuple[np.ndarray, ...]:
    """The control maps a run of `request` would use, uint8 `(F, H, W, 3)` for each control.

    Raises:
        ModelUnavailableError: an annotator needs a model that cannot be loaded.
    """
    read = CONTROL_MAPS.view(request)
    return tuple(_control_map(control, read, manager) for control in read.controls)


def _control_map(control: Control, request: GenerationRequest, manager: ModelManager) -> np.ndarray:
    if control.frames is not None:
        return control.frames
    options: dict[str, Any] = {}
    if control.control_type == "canny":
        options = {"low_threshold": request.low_threshold, "high_threshold": request.high_threshold}
    annotator = models_for(request).annotator(control)
    with manager.use(*([annotator] if annotator else [])) as models, torch.inference_mode():
        if models:
            options["model"] = models[0]
        return annotate(control.control_type, request.frames, **options)
