"""What flows through the house: the request, the events of a run, and its result."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import Field, dataclass, field, fields
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
MAX_AXES = 2  # settings that one comparison varies


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
            raise InputError(f"Unknown mixing_rule {self.mixing_rule!r:.40}. Choose one of {', '.join(MIXING_RULES)}.")
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

    @classmethod
    def from_settings(
        cls,
        settings: Mapping[str, Any],
        frames: np.ndarray,
        masks: np.ndarray | None = None,
        control_frames: Sequence[np.ndarray | None] = (),
    ) -> GenerationRequest:
        """The inverse of `settings`: the request with these settings and pictures. Nothing in them is trusted.

        Args:
            settings: as `settings` gives them; what an older version did not have yet keeps its default.
            frames, masks: as in the request.
            control_frames: the maps given with each of the controls, None where the annotator makes them.

        Raises:
            InputError: a setting is missing, out of range or of the wrong kind, or not known to this version: without
                it the result would be another one.
        """
        known = {item.name: item for item in fields(cls) if item.name not in {"frames", "masks", "controls"}}
        _check_names("setting", settings, known.keys() | {"controls"})
        values = {name: _read_setting(known[name], settings[name]) for name in known.keys() & settings.keys()}
        for name in ("prompt", "task", "family", "image_model", "video_model"):
            _check_prompt(name, values.get(name))
        described = settings.get("controls", [])
        if not isinstance(described, list | tuple):
            raise InputError(f"The controls must be a list; got {type(described).__name__}.")
        if len(control_frames) > len(described):
            raise InputError(f"There are {len(control_frames)} control clips for {len(described)} controls.")
        maps = [*control_frames, *[None] * (len(described) - len(control_frames))]
        controls = tuple(_read_control(item, given) for item, given in zip(described, maps, strict=True))
        return cls(frames=frames, masks=masks, controls=controls, **values)


@dataclass(frozen=True, eq=False)
class StepEvent:
    """Progress of a run: `step` of `total` steps of a stage are done.

    `preview`, where there is one, is what the stage has made so far: uint8 `(F, H, W, 3)`, possibly at a lower
    resolution; that of the last event of "framewise" is the frames themselves. `message` says in words what is going
    on, `note` what the user should know about the result.
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


def _read_control(described: Any, frames: np.ndarray | None) -> Control:
    if not isinstance(described, Mapping):
        raise InputError(f"A control must be described by its settings; got {type(described).__name__}.")
    known = {item.name: item for item in fields(Control) if item.name != "frames"}
    _check_names("setting of a control", described, known.keys())
    values = {name: _read_setting(known[name], value) for name, value in described.items()}
    _check_prompt("control_type", values.get("control_type", ""))
    return Control(frames=frames, **values)


def _check_names(what: str, given: Mapping[str, Any], known: AbstractSet[str]) -> None:
    unknown = sorted(str(name)[:40] for name in given.keys() - known)
    if unknown:
        raise InputError(
            f"There is no {what} named {unknown[0]!r} in this version of the studio, and without it the result would "
            "be another one. Update the studio and try again."
        )


def _read_setting(item: Field, value: Any) -> Any:
    """A value as its field has it: JSON knows one kind of number, and its writer may be any program."""
    kind = str(item.type)
    if kind == "bool" and not isinstance(value, bool):
        raise InputError(f"{item.name} must be true or false; got {value!r:.40}.")
    if kind.startswith("int") and isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def _shape_words(frames: np.ndarray) -> str:
    return f"{frames.shape[0]} frames of {frames.shape[2]}x{frames.shape[1]}"


def _check_prompt(name: str, text: str) -> None:
    if not isinstance(text, str):
        raise InputError(f"{name} must be text; got {type(text).__name__}.")
    if len(text) > MAX_PROMPT_CHARACTERS:
        raise InputError(f"{name} has {len(text)} characters; at most {MAX_PROMPT_CHARACTERS} are read. Shorten it.")
    if any(unicodedata.category(char) in ("Cc", "Cs") and char not in "\t\n\r" for char in text):
        raise InputError(f"{name} holds control characters, which no model can read. Remove them.")


def _check_number(name: str, value: float, low: float, high: float, whole: bool = False) -> None:
    right_type = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
    if not right_type or not low <= value <= high or (whole and value != int(value)):
        kind = "a whole number" if whole else "a number"
        raise InputError(f"{name} must be {kind} from {low:g} to {high:g}; got {value!r:.40}.")
