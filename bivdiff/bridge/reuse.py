"""What an earlier run made that a later one need not make again."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from dataclasses import fields
from typing import Any

import numpy as np

from bivdiff.types import Control, GenerationRequest

FORMAT = "bivdiff stage 3"  # to be raised when a stage computes something else from the same request
_CHUNKING = {"frame_batch_size"}  # changes memory, not the result
_BRIDGE = {
    "video_model", "window", "video_prompt", "inversion_prompt", "mixing_ratio", "mixing_rule", "num_inversion_steps",
    "num_smoothing_steps", "inversion_guidance_scale", "smoothing_guidance_scale",
}  # fmt: skip
FRAMEWISE_FIELDS = tuple(item.name for item in fields(GenerationRequest) if item.name not in _BRIDGE | _CHUNKING)
# Beside the frames that are inverted, whatever made them.
IMAGE_INVERSION_FIELDS = ("inversion_prompt", "negative_prompt", "inversion_guidance_scale", "num_inversion_steps")
VIDEO_INVERSION_FIELDS = (*IMAGE_INVERSION_FIELDS, "video_model", "window")


def stage_key(
    stage: str, request: GenerationRequest, names: tuple[str, ...], models: str = "", frames: np.ndarray | None = None
) -> str:
    """Equal keys mean equal output of a stage.

    Args:
        stage: its name.
        request: what is made.
        names: the fields of it that the stage depends on.
        models: that are at work, as the manager names them.
        frames: what the stage reads beside them, uint8 `(F, H, W, 3)`.
    """
    digest = hashlib.sha256(f"{FORMAT};{stage};{models}".encode())
    for name in names:
        digest.update(f";{name}=".encode())
        _add(digest, getattr(request, name))
    _add(digest, frames)
    return digest.hexdigest()


def _add(digest: Any, value: Any) -> None:
    if isinstance(value, np.ndarray):
        digest.update(repr((value.shape, value.dtype)).encode() + value.tobytes())
    elif isinstance(value, Control):
        for item in fields(value):
            _add(digest, getattr(value, item.name))
    elif isinstance(value, tuple):
        for item in value:
            _add(digest, item)
    else:
        digest.update(repr(value).encode() + b",")


class StageCache:
    """Keeps the last outputs of stages, the least recently used one leaving first.

    Args:
        entries: outputs kept; a run with both inversions makes three.
    """

    def __init__(self, entries: int = 12) -> None:
        self._entries = entries
        self._outputs: OrderedDict[str, Any] = OrderedDict()

    def get(self, key: str) -> Any | None:
        """The output kept under a key, or None."""
        if key in self._outputs:
            self._outputs.move_to_end(key)
        return self._outputs.get(key)

    def put(self, key: str, output: Any) -> None:
        """Keep an output; whoever reads it must not change it."""
        self._outputs[key] = output
        self._outputs.move_to_end(key)
        while len(self._outputs) > self._entries:
            self._outputs.popitem(last=False)

    def clear(self) -> None:
        """Forget everything."""
        self._outputs.clear()
