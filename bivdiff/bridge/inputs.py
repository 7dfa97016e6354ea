"""What each stage reads of a request: it is shown nothing else, and its key in the cache is made of just that."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from bivdiff.catalog.image_models import IMAGE_MODELS
from bivdiff.types import Control, GenerationRequest

if TYPE_CHECKING:
    from hashlib import _Hash

FORMAT = "bivdiff stage 5"  # to be raised when a stage computes something else from the same request


@dataclass(frozen=True)
class StageInputs:
    """The declaration of a stage.

    Attributes:
        stage: its name.
        fields: of the GenerationRequest that it reads. What a request is loaded with is no field of a stage: the models
            have names of their own in its key.
    """

    stage: str
    fields: frozenset[str]

    def __post_init__(self) -> None:
        unknown = self.fields - {item.name for item in fields(GenerationRequest)}
        if unknown:
            raise ValueError(f"The stage '{self.stage}' declares what no request has: {', '.join(sorted(unknown))}.")

    def view(self, request: GenerationRequest) -> GenerationRequest:
        """The request as the stage sees it: reading a field that is not declared raises an AttributeError."""
        return cast(GenerationRequest, _View(request, self))

    def key(self, request: GenerationRequest, models: str = "", frames: np.ndarray | None = None) -> str:
        """Equal keys mean equal output of the stage.

        Args:
            request: what is made.
            models: that are at work, as the manager names them.
            frames: what the stage reads beside the request, uint8 `(F, H, W, 3)`.
        """
        digest = hashlib.sha256(f"{FORMAT};{self.stage};{models}".encode())
        for name in sorted(self.fields):
            digest.update(f";{name}=".encode())
            _add(digest, getattr(request, name))
        _add(digest, frames)
        return digest.hexdigest()


class _View:
    """Stands in for a request, as far as a stage declares that it reads it."""

    __slots__ = ("_inputs", "_request")

    def __init__(self, request: GenerationRequest, inputs: StageInputs) -> None:
        self._request, self._inputs = request, inputs

    def __getattr__(self, name: str) -> Any:
        if name not in self._inputs.fields:
            raise AttributeError(
                f"The stage '{self._inputs.stage}' reads '{name}' of the request, and does not declare it."
            )
        return getattr(self._request, name)


def _add(digest: _Hash, value: Any) -> None:
    if isinstance(value, np.ndarray):
        digest.update(repr((value.shape, value.dtype)).encode())
        digest.update(np.ascontiguousarray(value).data)
    elif isinstance(value, Control):
        for item in fields(value):
            _add(digest, getattr(value, item.name))
    elif isinstance(value, tuple):
        for item in value:
            _add(digest, item)
    else:
        digest.update(repr(value).encode() + b",")


_KNOWN_CONTENT = frozenset({"frames", "masks", "preserve_known", "feather"})
_VIDEO_TEXT = frozenset({"video_prompt", "prompt", "source_prompt", "image_model"})

IMAGE_INVERSION = StageInputs("image inversion", frozenset({
    "inversion_prompt", "negative_prompt", "inversion_guidance_scale", "num_inversion_steps", "start_level",
}))  # fmt: skip
FRAME_INVERSION = StageInputs("frame inversion", IMAGE_INVERSION.fields)
VIDEO_INVERSION = StageInputs("video inversion", IMAGE_INVERSION.fields | {"window"})
MIXING = StageInputs("mixing", frozenset({
    "mixing_ratio", "mixing_rule", "frame_prior", "num_inversion_steps", "num_smoothing_steps", "start_level", "window",
}))  # fmt: skip
SMOOTHING = StageInputs("smoothing", _KNOWN_CONTENT | _VIDEO_TEXT | {
    "negative_prompt", "smoothing_guidance_scale", "num_smoothing_steps", "start_level", "window",
})  # fmt: skip
LOADING = StageInputs("load", frozenset({
    "family", "image_model", "video_model", "controls", "base_model", "image_checkpoint", "pipeline",
    "pipeline_controlnet", "loras", "embeddings",
}))  # fmt: skip
CONTROL_MAPS = StageInputs("control", LOADING.fields | {"frames", "low_threshold", "high_threshold"})


def framewise_inputs(image_model: str) -> StageInputs:
    """What an image model reads to make the frames: what all of them do, its own settings, and what its noise needs."""
    model = IMAGE_MODELS[image_model]
    if not model.makes_frames:
        return StageInputs("framewise", frozenset({"image_model", "frames"}))
    common = {
        "image_model", "prompt", "negative_prompt", "guidance_scale", "num_inference_steps", "frame_attention",
    }  # fmt: skip
    noise = set() if model.inverts_source else {"seed", "noise_sharing", "sampler", "guided_share"}
    # A pipeline has a sampler of its own, and lets nobody into its networks.
    unreached = {"sampler", "guided_share", "frame_attention"} if model.denoiser == "pipeline" else set()
    return StageInputs("framewise", (_KNOWN_CONTENT | common | noise | set(model.settings)) - unreached)


def fields_read(image_model: str) -> frozenset[str]:
    """All fields that a run with an image model reads, those of memory included."""
    stages = (framewise_inputs(image_model), IMAGE_INVERSION, VIDEO_INVERSION, MIXING, SMOOTHING, LOADING)
    steered = {"low_threshold", "high_threshold"} if IMAGE_MODELS[image_model].reads_controls else set()
    return frozenset({"frame_batch_size"} | steered).union(*(stage.fields for stage in stages))


def same_frames(one: GenerationRequest, other: GenerationRequest) -> bool:
    """Whether the image model makes the same frames of two requests, as long as no file of a model changes."""
    loaded = StageInputs("load", LOADING.fields - {"video_model"})

    def key(request: GenerationRequest) -> str:
        return framewise_inputs(request.image_model).key(request, loaded.key(request))

    return key(one) == key(other)
