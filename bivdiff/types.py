"""What flows through the house: the request, the events of a run, and its result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import Field, dataclass, field, fields
from typing import Any, Literal

import numpy as np

from bivdiff.errors import InputError
from bivdiff.fields import choice, count, number, pictures, switch, table, text

MixingRule = Literal["linear", "variance_preserving", "slerp", "capped"]
FramePrior = Literal["image", "video", "mean"]
Sampler = Literal["ddim", "dpm++", "unipc"]
FrameAttention = Literal["none", "first", "previous", "both"]
Stage = Literal["load", "control", "framewise", "inversion", "smoothing"]

RULE_LABELS: Mapping[MixingRule, str] = {
    "linear": "Linear (the paper)", "variance_preserving": "Variance preserving", "slerp": "Spherical",
    "capped": "Capped at the clip's own strength",
}  # fmt: skip
MIXING_RULES: tuple[MixingRule, ...] = tuple(RULE_LABELS)
PRIOR_LABELS: Mapping[FramePrior, str] = {
    "image": "The image model's (the paper)", "video": "The video model's, frame by frame",
    "mean": "The clip's own, at rest",
}  # fmt: skip
RATIO_EFFECTS: Mapping[FramePrior, str] = {
    "image": "towards 1 it is smoother, and colours drift",
    "video": "towards 1 it is calmer, colours stay, and fast motion suffers last",
    "mean": "higher is calmer, and may smear what moves",
}  # fmt: skip
FRAME_PRIORS: tuple[FramePrior, ...] = tuple(PRIOR_LABELS)
SAMPLER_LABELS: Mapping[Sampler, str] = {
    "ddim": "DDIM (the paper)", "dpm++": "DPM-Solver++", "unipc": "UniPC",
}  # fmt: skip
ATTENTION_LABELS: Mapping[FrameAttention, str] = {
    "none": "Alone (the paper)", "first": "With the first frame", "previous": "With the frame before",
    "both": "With the first and the one before",
}  # fmt: skip
MAX_SEED = 2**32 - 1
MAX_AXES = 2  # settings that one comparison varies


def _steps(label: str, info: str) -> dict[str, Any]:
    return count(label, info, 1, 200, unit="steps")


def _guidance(label: str, info: str) -> dict[str, Any]:
    return number(label, info, 1, 30, 0.5)


def _share(label: str, info: str, **more: Any) -> dict[str, Any]:
    return number(label, info, 0, 1, 0.05, **more)


@dataclass(frozen=True, eq=False, kw_only=True)
class Control:
    """One thing to keep of the source: a kind of control map, and how strongly it steers, and when.

    `frames` are the maps, uint8 `(F, H, W, 3)`. What the other fields are is said at them, see `fields`.
    """

    control_type: str = field(
        default="canny", metadata=text("What to keep of it", "Its outlines, its shapes in space, or another map of it")
    )
    frames: np.ndarray | None = field(
        default=None, metadata=pictures("Control map", "One for each frame of the source; empty = drawn from it")
    )
    conditioning_scale: float = field(
        default=1.0, metadata=number("Control strength", "0 ignores the map, 1 is usual", 0, 2, 0.05)
    )
    start: float = field(default=0.0, metadata=_share("Control starts", "After this share of the image steps"))
    end: float = field(
        default=1.0, metadata=_share("Control ends", "After this share; earlier leaves details to the prompt")
    )

    def __post_init__(self) -> None:
        if self.frames is not None:
            check_frames(self.frames, "The control clip")
        entries = table(Control)
        entries["control_type"].check("control_type", self.control_type)
        entries["conditioning_scale"].check("conditioning_scale", self.conditioning_scale)
        entries["start"].check("control start", self.start)
        entries["end"].check("control end", self.end)
        if self.end <= self.start:
            raise InputError(
                f"The control would steer from {self.start:g} to {self.end:g} of the steps, which is never. "
                "Let it end after it starts."
            )


@dataclass(frozen=True, eq=False, kw_only=True)
class GenerationRequest:
    """All that decides a result. Made by `catalog.default_request`, changed with `dataclasses.replace`.

    What a field is, its bounds and its default are said at the field, see `fields`; here is only what is of arrays:

    Attributes:
        frames: the source clip, uint8 `(F, H, W, 3)` RGB at the size to generate; sides are multiples of 8. For
            outpainting it is the whole canvas (`masks.extend_canvas`).
        masks: uint8 `(F, H, W)`, 255 = regenerate, for in- and outpainting.
        frame_batch_size: for the image model and the autoencoder.
        window: longer clips are covered by overlapping windows.
    """

    frames: np.ndarray = field(metadata=pictures("Source clip", "What is made anew"))
    prompt: str = field(metadata=text("Prompt", "What the new clip should show"))
    task: str = field(metadata=text("Task", "What to do with the clip"))
    family: str = field(metadata=text("Family", "Models that go together"))
    image_model: str = field(metadata=text("Image model", "Makes the frames, each on its own"))
    video_model: str = field(metadata=text("Video model", "Makes the frames belong together"))
    video_prompt: str = field(
        default="", metadata=text("Video prompt", "Words for the video model; empty = the image model's")
    )
    negative_prompt: str = field(default="", metadata=text("Negative prompt", "What neither model should show"))
    inversion_prompt: str = field(
        default="",
        metadata=text("Inversion prompt", "Words on the way back to noise; {prompt} stands for the video model's"),
    )
    source_prompt: str = field(
        default="", metadata=text("What it shows", "The source in words; Prompt2Prompt needs it")
    )
    controls: tuple[Control, ...] = field(
        default=(), metadata=pictures("Controls", "What to keep of the source, each with its map")
    )
    low_threshold: int = field(default=40, metadata=count("Weak edges", "Lower keeps more of them", 1, 255))
    high_threshold: int = field(default=100, metadata=count("Strong edges", "Where an edge surely is one", 1, 255))
    masks: np.ndarray | None = field(
        default=None, metadata=pictures("Masks", "One for each frame, white where the clip is made anew")
    )
    preserve_known: bool = field(
        default=True,
        metadata=switch("Keep the rest as it is", "Off lets the video model redraw the whole picture"),
    )
    feather: int = field(
        default=4, metadata=count("Feather", "Pixels over which old and new run into each other", 0, 64, unit="pixels")
    )
    image_guidance_scale: float = field(
        default=1.5, metadata=number("Source guidance", "How closely it keeps the source; 1 = off", 1, 30, 0.1)
    )
    cross_replace_steps: float = field(
        default=0.4,
        metadata=_share("Keep places of words", "How long, as a share of the steps; less changes more"),
    )
    self_replace_steps: float = field(
        default=0.4,
        metadata=_share("Keep the layout", "How long, as a share of the steps; less changes shapes"),
    )
    blend_words: str = field(
        default="", metadata=text("Change only these", "Words whose places may change; empty = all")
    )
    reweight: str = field(
        default="", metadata=text("Weights of words", "Stronger above 1, weaker below, as in red:2, cube:0.5")
    )
    mixing_ratio: float = field(
        default=1.0,
        metadata=_share("Mixing ratio", "0 stays closest to the frames", depends_on="frame_prior", infos=RATIO_EFFECTS),
    )
    mixing_rule: MixingRule = field(
        default="linear", metadata=choice("Mixing rule", "How the two noises are combined", RULE_LABELS)
    )
    frame_prior: FramePrior = field(
        default="image",
        metadata=choice("Frame noise", "The calmer noise that the ratio blends in", PRIOR_LABELS),
    )
    start_level: float = field(
        default=1.0,
        metadata=number(
            "Start level", "How far back to noise the clip goes: low keeps more of it, high calms more and may drift",
            0.05, 1, 0.05,
        ),
    )  # fmt: skip
    frame_attention: FrameAttention = field(
        default="none",
        metadata=choice("Shared look", "Whether a frame takes its look from another one", ATTENTION_LABELS),
    )
    noise_sharing: float = field(
        default=0.0, metadata=_share("Noise sharing", "0 = each frame starts from a noise of its own, 1 = all from one")
    )
    num_inference_steps: int = field(
        default=50, metadata=_steps("Image steps", "Of the frame-by-frame stage; more = finer")
    )
    sampler: Sampler = field(default="ddim", metadata=choice("Sampler", "Of the frame-by-frame stage", SAMPLER_LABELS))
    guided_share: float = field(
        default=1.0,
        metadata=_share("Guided steps", "How long the prompt steers, as a share of the steps; less is faster"),
    )
    num_inversion_steps: int = field(
        default=50, metadata=_steps("Inversion steps", "More = closer to the frames of the first stage")
    )
    num_smoothing_steps: int = field(
        default=50, metadata=_steps("Smoothing steps", "Of the video model; more = cleaner")
    )
    guidance_scale: float = field(
        default=7.5, metadata=_guidance("Image guidance", "How strictly it follows the prompt; 1 = off")
    )
    inversion_guidance_scale: float = field(
        default=1.0, metadata=_guidance("Inversion guidance", "1 = off, the most faithful")
    )
    smoothing_guidance_scale: float = field(
        default=7.5, metadata=_guidance("Video guidance", "1 = off, and takes half the time")
    )
    seed: int | None = field(
        default=None,
        metadata=count("Seed", "Of the first noise; with none, one is drawn and shown", 0, MAX_SEED, optional=True),
    )
    frame_batch_size: int = field(
        default=8, metadata=count("Frames at once", "Fewer need less memory", 1, 1024, unit="frames")
    )
    window: int | None = field(
        default=None,
        metadata=count(
            "Window", "Frames the video model sees at once; 0 = as many as it was trained with", 2, 1024,
            unit="frames", optional=True, none_as=0,
        ),
    )  # fmt: skip
    base_model: str = field(
        default="",
        metadata=text(
            "Base model of your own",
            "A relative of the family's: a repository, a folder or a file of weights; empty = the usual",
        ),
    )
    image_checkpoint: str = field(
        default="",
        metadata=text(
            "Image model of your own",
            "A checkpoint for inpainting or InstructPix2Pix: a repository, a folder or a file; its U-Net is taken",
        ),
    )
    pipeline: str = field(
        default="",
        metadata=text(
            "Pipeline of your own",
            "A repository or folder of diffusers with model_index.json: SDXL, Flux, Qwen-Image, Z-Image and others",
        ),
    )
    pipeline_controlnet: str = field(
        default="",
        metadata=text(
            "ControlNet of the pipeline",
            "A repository or folder, made for that pipeline; empty where the pipeline holds what reads control maps",
        ),
    )
    pipeline_strength: float = field(
        default=0.6,
        metadata=number(
            "Pipeline strength", "How far it may leave the frame, where it asks that; editors by instruction do not",
            0.05, 1, 0.05,
        ),
    )  # fmt: skip
    loras: str = field(
        default="",
        metadata=text("LoRAs", "Files or repositories, each with its scale: style.safetensors:0.8, owner/name"),
    )
    embeddings: str = field(
        default="", metadata=text("Textual inversion", "Files with words of your own, between commas")
    )

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
        for name, entry in table(GenerationRequest).items():
            entry.check(name, getattr(self, name))
        if self.high_threshold < self.low_threshold:
            raise InputError(
                f"high_threshold is {self.high_threshold:g}, and low_threshold {self.low_threshold:g}. Let the strong "
                "edges begin above the weak ones."
            )

    @property
    def prompts(self) -> tuple[str, ...]:
        """All that models are told in words; some of it may be empty."""
        return (self.prompt, self.source_prompt, self.video_prompt, self.negative_prompt, self.inversion_prompt)

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
            table(GenerationRequest)[name].check(name, values.get(name))
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
    return Control(frames=frames, **values)


def _check_names(what: str, given: Mapping[str, Any], known: AbstractSet[str]) -> None:
    unknown = sorted(str(name)[:40] for name in given.keys() - known)
    if unknown:
        raise InputError(
            f"There is no {what} named {unknown[0]!r} in this version of the studio, and without it the result would "
            "be another one. Update the studio and try again."
        )


def _read_setting(item: Field[Any], value: Any) -> Any:
    """A value as its field has it: JSON knows one kind of number, and its writer may be any program."""
    kind = str(item.type)
    if kind.startswith("int") and isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def _shape_words(frames: np.ndarray) -> str:
    return f"{frames.shape[0]} frames of {frames.shape[2]}x{frames.shape[1]}"
