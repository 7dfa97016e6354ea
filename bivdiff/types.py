"""What flows through the house: the request, the events of a run, and its result.

In it: frozen dataclasses and the limits of their values. Not in it: the defaults of a task (catalog.py), anything
that computes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from typing import Any, Literal

import numpy as np

from bivdiff.errors import InputError

MixingRule = Literal["linear", "variance_preserving", "slerp"]
Stage = Literal["load", "control", "framewise", "inversion", "smoothing"]

MIXING_RULES: tuple[MixingRule, ...] = ("linear", "variance_preserving", "slerp")
MAX_PROMPT_CHARACTERS = 2000
MAX_SEED = 2**32 - 1
MAX_STEPS = 200
MAX_GUIDANCE = 30.0
MAX_CONDITIONING_SCALE = 2.0


@dataclass(frozen=True, eq=False, kw_only=True)
class GenerationRequest:
    """All that decides a result. Made by `catalog.default_request`, changed with `dataclasses.replace`.

    Attributes:
        frames: the source clip, uint8 `(F, H, W, 3)` RGB at the size to generate; sides are multiples of 8.
        prompt: for the image model.
        video_prompt: for the video model; empty means the same as `prompt`.
        negative_prompt: for both models.
        inversion_prompt: for both inversions.
        task, family: keys of the catalog.
        image_model, video_model: keys of the family's image and video models.
        control_type: key of the family's control types.
        control_frames: control maps, uint8 `(F, H, W, 3)`; None lets the annotator make them from `frames`.
        controlnet_conditioning_scale: weight of the control; 0 ignores it.
        low_threshold, high_threshold: gradient thresholds of the canny annotator, 1 to 255.
        mixing_ratio: weight of the image model's inversion, 0 to 1; 1 = image model only.
        mixing_rule: how the two inversions are blended.
        noise_sharing: 0 gives every frame its own initial noise, 1 the same noise to all, between them a share.
        num_inference_steps, num_inversion_steps, num_smoothing_steps: steps of the three stages.
        guidance_scale, inversion_guidance_scale, smoothing_guidance_scale: of the three stages; 1 = guidance off.
        seed: of the initial noise; None draws one, and the result names it.
        frame_batch_size: frames the image model and the autoencoder take at once; fewer need less memory.
    """

    frames: np.ndarray
    prompt: str
    task: str
    family: str
    image_model: str
    video_model: str
    video_prompt: str = ""
    negative_prompt: str = ""
    inversion_prompt: str = ""
    control_type: str = "canny"
    control_frames: np.ndarray | None = None
    controlnet_conditioning_scale: float = 1.0
    low_threshold: int = 40
    high_threshold: int = 100
    mixing_ratio: float = 1.0
    mixing_rule: MixingRule = "linear"
    noise_sharing: float = 0.0
    num_inference_steps: int = 50
    num_inversion_steps: int = 50
    num_smoothing_steps: int = 50
    guidance_scale: float = 7.5
    inversion_guidance_scale: float = 1.0
    smoothing_guidance_scale: float = 7.5
    seed: int | None = None
    frame_batch_size: int = 8

    def __post_init__(self) -> None:
        check_frames(self.frames, "The source clip")
        height, width = self.frames.shape[1:3]
        if height % 8 or width % 8:
            raise InputError(
                f"The size must be a multiple of 8 pixels per side; got {width}x{height}. Resize the clip."
            )
        if self.control_frames is not None:
            check_frames(self.control_frames, "The control clip")
            if self.control_frames.shape != self.frames.shape:
                raise InputError(
                    f"The control clip is {_shape_words(self.control_frames)}, the source clip "
                    f"{_shape_words(self.frames)}. Give a control clip of the same length and size."
                )
        for name in ("prompt", "video_prompt", "negative_prompt", "inversion_prompt"):
            _check_prompt(name, getattr(self, name))
        for name in ("num_inference_steps", "num_inversion_steps", "num_smoothing_steps"):
            _check_number(name, getattr(self, name), 1, MAX_STEPS, whole=True)
        for name in ("guidance_scale", "inversion_guidance_scale", "smoothing_guidance_scale"):
            _check_number(name, getattr(self, name), 1, MAX_GUIDANCE)
        for name in ("mixing_ratio", "noise_sharing"):
            _check_number(name, getattr(self, name), 0, 1)
        _check_number("controlnet_conditioning_scale", self.controlnet_conditioning_scale, 0, MAX_CONDITIONING_SCALE)
        _check_number("low_threshold", self.low_threshold, 1, 255, whole=True)
        _check_number("high_threshold", self.high_threshold, self.low_threshold, 255, whole=True)
        _check_number("frame_batch_size", self.frame_batch_size, 1, 1024, whole=True)
        if self.seed is not None:
            _check_number("seed", self.seed, 0, MAX_SEED, whole=True)
        if self.mixing_rule not in MIXING_RULES:
            raise InputError(f"Unknown mixing_rule '{self.mixing_rule}'. Choose one of {', '.join(MIXING_RULES)}.")

    def settings(self) -> dict[str, Any]:
        """Every setting but the pictures, ready for JSON."""
        pictures = {"frames", "control_frames"}
        return {item.name: getattr(self, item.name) for item in fields(self) if item.name not in pictures}


@dataclass(frozen=True, eq=False)
class StepEvent:
    """Progress of a run: `step` of `total` steps of a stage are done.

    `preview`, where there is one, is what the stage has made so far: uint8 `(F, H, W, 3)`, possibly at a lower
    resolution. `message` says in words what is going on, `note` what the user should know about the result.
    """

    stage: Stage
    step: int
    total: int
    message: str
    preview: np.ndarray | None = None
    note: str = ""


@dataclass(frozen=True, eq=False)
class GenerationResult:
    """What a run made, and what it took.

    Attributes:
        request: what was asked, with the seed that was used.
        control_frames: the control maps that were used, uint8 `(F, H, W, 3)`; None for a task without.
        framewise_frames: the image model's frames, uint8 `(F, H, W, 3)`; they flicker.
        frames: the bridged clip, uint8 `(F, H, W, 3)`.
        seed: of the initial noise.
        seconds: wall time per stage.
        evaluations: model evaluations per stage, counted in single frames (guidance counts twice).
        forward_seconds: wall time inside the models' forward passes.
        peak_memory_bytes: highest resident memory of the process, or of the device where it has its own.
    """

    request: GenerationRequest
    control_frames: np.ndarray | None
    framewise_frames: np.ndarray
    frames: np.ndarray
    seed: int
    seconds: dict[str, float] = field(default_factory=dict)
    evaluations: dict[str, int] = field(default_factory=dict)
    forward_seconds: float = 0.0
    peak_memory_bytes: int = 0


def check_frames(frames: np.ndarray, what: str) -> None:
    """Raise InputError unless `frames` is a uint8 `(F, H, W, 3)` array with at least one frame."""
    if not isinstance(frames, np.ndarray) or frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] != 3:
        found = f"{frames.dtype} {frames.shape}" if isinstance(frames, np.ndarray) else type(frames).__name__
        raise InputError(f"{what} must be a uint8 array (frames, height, width, 3); got {found}.")
    if 0 in frames.shape:
        raise InputError(f"{what} is empty: it has {_shape_words(frames)}.")


def _shape_words(frames: np.ndarray) -> str:
    return f"{frames.shape[0]} frames of {frames.shape[2]}x{frames.shape[1]}"


def _check_prompt(name: str, text: str) -> None:
    if not isinstance(text, str):
        raise InputError(f"{name} must be text; got {type(text).__name__}.")
    if len(text) > MAX_PROMPT_CHARACTERS:
        raise InputError(f"{name} has {len(text)} characters; at most {MAX_PROMPT_CHARACTERS} are read. Shorten it.")
    if any(ord(char) < 32 and char not in "\t\n\r" for char in text):
        raise InputError(f"{name} holds control characters, which no model can read. Remove them.")


def _check_number(name: str, value: float, low: float, high: float, whole: bool = False) -> None:
    right_type = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
    if not right_type or not math.isfinite(value) or not low <= value <= high or (whole and value != int(value)):
        kind = "a whole number" if whole else "a number"
        raise InputError(f"{name} must be {kind} from {low:g} to {high:g}; got {value!r}.")
