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
MAX_FEATHER = 64


@dataclass(frozen=True, eq=False, kw_only=True)
class Control:
    """One thing to keep of the source: a kind of control map, and how strongly it steers, and when.

    Attributes:
        control_type: key of the family's control types.
        frames: the maps, uint8 `(F, H, W, 3)`; None lets the annotator make them from the source.
        conditioning_scale: weight, 0 to 2; 0 ignores it.
        start, end: the share of the steps in which it steers.
    """

    control_type: str = "canny"
    frames: np.ndarray | None = None
    conditioning_scale: float = 1.0
    start: float = 0.0
    end: float = 1.0

    def __post_init__(self) -> None:
        if self.frames is not None:
            check_frames(self.frames, "The control clip")
        _check_number("conditioning_scale", self.conditioning_scale, 0, MAX_CONDITIONING_SCALE)
        _check_number("control start", self.start, 0, 1)
        _check_number("control end", self.end, 0, 1)
        if self.end <= self.start:
            raise InputError(
                f"The control would steer from {self.start:g} to {self.end:g} of the steps, which is never. "
                "Let it end after it starts."
            )


@dataclass(frozen=True, eq=False, kw_only=True)
class GenerationRequest:
    """All that decides a result. Made by `catalog.default_request`, changed with `dataclasses.replace`.

    Attributes:
        frames: the source clip, uint8 `(F, H, W, 3)` RGB at the size to generate; sides are multiples of 8. For
            outpainting it is the whole canvas (`masks.extend_canvas`).
        prompt: for the image model: what to show, or InstructPix2Pix's instruction.
        video_prompt: for the video model; empty leaves it to `prompts.smoothing_prompt`.
        negative_prompt: for both models.
        inversion_prompt: for both inversions; "{prompt}" in it stands for what the video model is told.
        source_prompt: what the source clip shows; Prompt2Prompt needs it.
        task, family: keys of the catalog.
        image_model: how the frames are made, a key of the task's image models; video_model: of the family's.
        controls: what to keep of the source, for controllable generation.
        low_threshold, high_threshold: gradient thresholds of the canny annotator, 1 to 255.
        masks: uint8 `(F, H, W)`, 255 = regenerate, for in- and outpainting.
        preserve_known: keep what lies outside the masks as it is in the source.
        feather: pixels over which the kept and the new part of a picture run into each other.
        image_guidance_scale: InstructPix2Pix's second guidance, towards the source; 1 = off.
        cross_replace_steps, self_replace_steps: share of the steps in which Prompt2Prompt keeps the source's attention
            to words, and its layout.
        blend_words: words of the prompts whose places Prompt2Prompt may change; empty means everywhere.
        reweight: weights of words for Prompt2Prompt, such as "red:2, cube:0.5".
        mixing_ratio: weight of the image model's inversion, 0 to 1; 1 = image model only.
        mixing_rule: how the two inversions are blended.
        noise_sharing: 0 gives every frame its own initial noise, 1 the same noise to all, between them a share.
        num_inference_steps, num_inversion_steps, num_smoothing_steps: steps of the three stages.
        guidance_scale, inversion_guidance_scale, smoothing_guidance_scale: of the three stages; 1 = guidance off.
        seed: of the initial noise; None draws one, and the result names it.
        frame_batch_size: frames the image model and the autoencoder take at once; fewer need less memory.
        window: frames the video model sees at once, at least 2; longer clips are covered by overlapping windows. None
            is the number it was trained with.
        base_model: a fine-tuned checkpoint in the place of the family's base model: a repository, a folder in
            diffusers' layout or a `.safetensors` file; empty keeps the family's.
        loras: LoRA files or repositories on the base model, each with its scale, as in "style.safetensors:0.8".
        embeddings: files of textual inversion, between commas.
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
    source_prompt: str = ""
    controls: tuple[Control, ...] = ()
    low_threshold: int = 40
    high_threshold: int = 100
    masks: np.ndarray | None = None
    preserve_known: bool = True
    feather: int = 4
    image_guidance_scale: float = 1.5
    cross_replace_steps: float = 0.4
    self_replace_steps: float = 0.4
    blend_words: str = ""
    reweight: str = ""
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
    window: int | None = None
    base_model: str = ""
    loras: str = ""
    embeddings: str = ""

    def __post_init__(self) -> None:
        check_frames(self.frames, "The source clip")
        height, width = self.frames.shape[1:3]
        if height % 8 or width % 8:
            raise InputError(
                f"The size must be a multiple of 8 pixels per side; got {width}x{height}. Resize the clip."
            )
        for control in self.controls:
            if control.frames is not None and control.frames.shape != self.frames.shape:
                raise InputError(
                    f"The control clip is {_shape_words(control.frames)}, the source clip "
                    f"{_shape_words(self.frames)}. Give a control clip of the same length and size."
                )
        if self.masks is not None:
            _check_masks(self.masks, self.frames)
        if self.mixing_rule not in MIXING_RULES:
            raise InputError(f"Unknown mixing_rule '{self.mixing_rule}'. Choose one of {', '.join(MIXING_RULES)}.")
        self._check_texts_and_numbers()

    def _check_texts_and_numbers(self) -> None:
        for name in ("prompt", "video_prompt", "negative_prompt", "inversion_prompt", "source_prompt", "blend_words",
                     "reweight", "base_model", "loras", "embeddings"):  # fmt: skip
            _check_prompt(name, getattr(self, name))
        for name in ("num_inference_steps", "num_inversion_steps", "num_smoothing_steps"):
            _check_number(name, getattr(self, name), 1, MAX_STEPS, whole=True)
        for name in ("guidance_scale", "image_guidance_scale", "inversion_guidance_scale", "smoothing_guidance_scale"):
            _check_number(name, getattr(self, name), 1, MAX_GUIDANCE)
        for name in ("mixing_ratio", "noise_sharing", "cross_replace_steps", "self_replace_steps"):
            _check_number(name, getattr(self, name), 0, 1)
        _check_number("feather", self.feather, 0, MAX_FEATHER, whole=True)
        _check_number("low_threshold", self.low_threshold, 1, 255, whole=True)
        _check_number("high_threshold", self.high_threshold, self.low_threshold, 255, whole=True)
        _check_number("frame_batch_size", self.frame_batch_size, 1, 1024, whole=True)
        if self.window is not None:
            _check_number("window", self.window, 2, 1024, whole=True)
        if self.seed is not None:
            _check_number("seed", self.seed, 0, MAX_SEED, whole=True)

    def settings(self) -> dict[str, Any]:
        """Every setting but the pictures, ready for JSON."""
        pictures = {"frames", "masks", "controls"}
        controls = [
            {item.name: getattr(control, item.name) for item in fields(control) if item.name != "frames"}
            for control in self.controls
        ]
        settings = {item.name: getattr(self, item.name) for item in fields(self) if item.name not in pictures}
        return {**settings, "controls": controls}


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
        control_frames: the control maps that were used, uint8 `(F, H, W, 3)` for each of the request's controls.
        framewise_frames: the image model's frames, uint8 `(F, H, W, 3)`; they flicker.
        frames: the bridged clip, uint8 `(F, H, W, 3)`.
        seed: of the initial noise.
        seconds: wall time per stage.
        peak_bytes: highest memory per stage: of the device if it is a CUDA card, else of the process.
        evaluations: model evaluations per stage, counted in single frames (guidance counts twice).
        forward_seconds: wall time inside the models' forward passes.
        peak_memory_bytes: highest resident memory of the process, or of the device where it has its own.
    """

    request: GenerationRequest
    control_frames: tuple[np.ndarray, ...]
    framewise_frames: np.ndarray
    frames: np.ndarray
    seed: int
    seconds: dict[str, float] = field(default_factory=dict)
    peak_bytes: dict[str, int] = field(default_factory=dict)
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


def _check_masks(masks: np.ndarray, frames: np.ndarray) -> None:
    if not isinstance(masks, np.ndarray) or masks.dtype != np.uint8 or masks.shape != frames.shape[:3]:
        found = f"{masks.dtype} {masks.shape}" if isinstance(masks, np.ndarray) else type(masks).__name__
        raise InputError(f"The masks must be a uint8 array {frames.shape[:3]}, as the source clip; got {found}.")
    if not masks.any():
        raise InputError("The mask is empty, so there is nothing to regenerate. Mark what should be made anew.")


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
