"""What an earlier run made that a later one need not make again.

In it: `StageCache`, and which fields of a request each stage's output depends on.
Not in it: the stages (pipeline.py), loaded models (`bivdiff.models`).
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from typing import Any

from bivdiff.types import GenerationRequest

CONTROL_FIELDS = ("family", "control_type", "low_threshold", "high_threshold")
FRAMEWISE_FIELDS = (
    *CONTROL_FIELDS, "task", "image_model", "prompt", "negative_prompt", "controlnet_conditioning_scale",
    "noise_sharing", "num_inference_steps", "guidance_scale", "seed",
)  # fmt: skip
IMAGE_INVERSION_FIELDS = (*FRAMEWISE_FIELDS, "inversion_prompt", "inversion_guidance_scale", "num_inversion_steps")
VIDEO_INVERSION_FIELDS = (*IMAGE_INVERSION_FIELDS, "video_model")


def stage_key(stage: str, request: GenerationRequest, fields: tuple[str, ...]) -> str:
    """A digest of the clips of a request and of those fields: equal keys mean equal output of the stage."""
    digest = hashlib.sha256(stage.encode())
    for clip in (request.frames, request.control_frames):
        digest.update(b"none" if clip is None else repr(clip.shape).encode() + clip.tobytes())
    for name in fields:
        digest.update(f"{name}={getattr(request, name)!r};".encode())
    return digest.hexdigest()


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
