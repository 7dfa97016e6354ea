"""Every model family, task and default in one readable table. Every dropdown and flag reads it.

In it: what there is and what it starts with. Not in it: how a model is loaded (`bivdiff.models`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from bivdiff.errors import InputError
from bivdiff.types import Control, GenerationRequest


@dataclass(frozen=True)
class ModelSpec:
    """One loadable component.

    Attributes:
        kind: key of its loader.
        folder: its place inside the family's folder or the repository; empty for the repository's root.
        repo: repository on the model hub; empty for what ships with the app.
    """

    kind: str
    folder: str
    repo: str = ""


@dataclass(frozen=True)
class VideoModel:
    """A video U-Net and what reads its prompts."""

    unet: ModelSpec
    text_encoder: ModelSpec
    tokenizer: ModelSpec


@dataclass(frozen=True)
class Family:
    """Models that share a latent space.

    Attributes:
        size: width and height the image models were trained at, in pixels.
        num_frames: frames of the video models' window.
        vae, text_encoder, tokenizer, unet, scheduler: shared components; `unet` is the plain base image model.
        controlnets, t2i_adapters: by the control type they read.
        instruct_pix2pix, inpainting: the base U-Net's relatives of 8 and 9 input channels, if there are.
        video_models: by key, the default first.
        annotators: control type -> the model that draws its maps; a type without one needs none.
    """

    size: tuple[int, int]
    num_frames: int
    vae: ModelSpec
    text_encoder: ModelSpec
    tokenizer: ModelSpec
    unet: ModelSpec
    scheduler: ModelSpec
    video_models: Mapping[str, VideoModel]
    controlnets: Mapping[str, ModelSpec] = field(default_factory=dict)
    t2i_adapters: Mapping[str, ModelSpec] = field(default_factory=dict)
    instruct_pix2pix: ModelSpec | None = None
    inpainting: ModelSpec | None = None
    annotators: Mapping[str, ModelSpec] = field(default_factory=dict)

    def steering(self, image_model: str) -> Mapping[str, ModelSpec]:
        """The networks that read control maps, by control type, for the image model `controlnet` or `t2i-adapter`."""
        return {"controlnet": self.controlnets, "t2i-adapter": self.t2i_adapters}[image_model]

    def annotator(self, control: Control) -> ModelSpec | None:
        """The model that draws a control's maps; None where they are given, or drawn without a model."""
        return self.annotators.get(control.control_type) if control.frames is None else None


@dataclass(frozen=True)
class Task:
    """A thing to do with a clip: its title, and the image models that can make its frames, the default first."""

    title: str
    image_models: tuple[str, ...]


TASKS: Mapping[str, Task] = {
    "control": Task("Controllable generation", ("controlnet", "t2i-adapter")),
    "edit": Task("Editing", ("instruct-pix2pix", "prompt2prompt")),
    "inpaint": Task("Inpainting", ("inpainting",)),
    "outpaint": Task("Outpainting", ("inpainting",)),
    "smooth": Task("Your own frames", ("given",)),
}
IMAGE_MODELS: Mapping[str, str] = {
    "controlnet": "ControlNet",
    "t2i-adapter": "T2I-Adapter",
    "instruct-pix2pix": "InstructPix2Pix",
    "prompt2prompt": "Prompt2Prompt",
    "inpainting": "Inpainting model",
    "given": "None: the frames are given",
}

_SD15 = "stable-diffusion-v1-5/stable-diffusion-v1-5"
_ANNOTATORS = "lllyasviel/Annotators"
_ZEROSCOPE = "cerspense/zeroscope_v2_576w"

FAMILIES: Mapping[str, Family] = {
    "toybox": Family(
        size=(128, 128),
        num_frames=8,
        vae=ModelSpec("vae", "vae"),
        text_encoder=ModelSpec("text_encoder", "text_encoder"),
        tokenizer=ModelSpec("tokenizer", "tokenizer"),
        unet=ModelSpec("unet", "unet"),
        scheduler=ModelSpec("scheduler", "scheduler"),
        controlnets={
            "canny": ModelSpec("controlnet", "controlnet-canny"),
            "depth": ModelSpec("controlnet", "controlnet-depth"),
        },
        t2i_adapters={
            "depth": ModelSpec("t2i_adapter", "t2i-adapter-depth"),
            "canny": ModelSpec("t2i_adapter", "t2i-adapter-canny"),
        },
        instruct_pix2pix=ModelSpec("unet", "instruct-pix2pix"),
        inpainting=ModelSpec("unet", "inpainting"),
        video_models={
            "toybox-video": VideoModel(
                unet=ModelSpec("video_unet", "video_unet"),
                text_encoder=ModelSpec("text_encoder", "text_encoder"),
                tokenizer=ModelSpec("tokenizer", "tokenizer"),
            )
        },
        annotators={"depth": ModelSpec("depth_estimator", "depth_estimator")},
    ),
    "sd15": Family(
        size=(512, 512),
        num_frames=8,
        vae=ModelSpec("vae", "vae", _SD15),
        text_encoder=ModelSpec("text_encoder", "text_encoder", _SD15),
        tokenizer=ModelSpec("tokenizer", "tokenizer", _SD15),
        unet=ModelSpec("unet", "unet", _SD15),
        scheduler=ModelSpec("scheduler", "scheduler", _SD15),
        controlnets={
            "canny": ModelSpec("controlnet", "", "lllyasviel/control_v11p_sd15_canny"),
            "depth": ModelSpec("controlnet", "", "lllyasviel/control_v11f1p_sd15_depth"),
            "pose": ModelSpec("controlnet", "", "lllyasviel/control_v11p_sd15_openpose"),
            "softedge": ModelSpec("controlnet", "", "lllyasviel/control_v11p_sd15_softedge"),
            "lineart": ModelSpec("controlnet", "", "lllyasviel/control_v11p_sd15_lineart"),
            "scribble": ModelSpec("controlnet", "", "lllyasviel/control_v11p_sd15_scribble"),
            "normal": ModelSpec("controlnet", "", "lllyasviel/control_v11p_sd15_normalbae"),
        },
        t2i_adapters={
            "canny": ModelSpec("t2i_adapter", "", "TencentARC/t2iadapter_canny_sd15v2"),
            "depth": ModelSpec("t2i_adapter", "", "TencentARC/t2iadapter_depth_sd15v2"),
            "sketch": ModelSpec("t2i_adapter", "", "TencentARC/t2iadapter_sketch_sd15v2"),
        },
        instruct_pix2pix=ModelSpec("unet", "unet", "timbrooks/instruct-pix2pix"),
        inpainting=ModelSpec("unet", "unet", "stable-diffusion-v1-5/stable-diffusion-inpainting"),
        video_models={
            "zeroscope": VideoModel(
                unet=ModelSpec("video_unet", "unet", _ZEROSCOPE),
                text_encoder=ModelSpec("text_encoder", "text_encoder", _ZEROSCOPE),
                tokenizer=ModelSpec("tokenizer", "tokenizer", _ZEROSCOPE),
            )
        },
        annotators={
            "depth": ModelSpec("depth_estimator", "", "depth-anything/Depth-Anything-V2-Small-hf"),
            "pose": ModelSpec("body_pose", "", _ANNOTATORS),
            "softedge": ModelSpec("hed", "", _ANNOTATORS),
            "lineart": ModelSpec("lineart", "", _ANNOTATORS),
            "scribble": ModelSpec("hed", "", _ANNOTATORS),
            "normal": ModelSpec("normalbae", "", _ANNOTATORS),
            "sketch": ModelSpec("pidinet", "", _ANNOTATORS),
        },
    ),
}

# Settings of a task, where they differ from GenerationRequest's own defaults, which are the paper's for controllable
# generation and InstructPix2Pix. First what every family has of a task or its image model, as the paper has it, then
# the toybox's, from `python -m bivdiff evaluate`; the README holds the table.
PAPER: Mapping[str, Mapping[str, Any]] = {
    "controlnet": {},
    "t2i-adapter": {},
    "instruct-pix2pix": {},
    "prompt2prompt": {"mixing_ratio": 0.25},
    "inpainting": {"mixing_ratio": 0.1},
    "given": {},
}
_TOYBOX = {
    "mixing_ratio": 0.25,
    "inversion_prompt": "{prompt}",
    "num_inference_steps": 20,
    "num_inversion_steps": 20,
    "num_smoothing_steps": 20,
    "guidance_scale": 4.0,
    "smoothing_guidance_scale": 1.0,
}
# At guidance 4 a night comes out as noon now and then; above 6 the bridge drifts farther from the frames. Noise that
# frames share in part helps scenes that fail, and costs the others more (24 scenes, 0.5: 0.6 dB).
_TOYBOX_CONTROL = {**_TOYBOX, "guidance_scale": 5.5}
PRESETS: Mapping[tuple[str, str], Mapping[str, Any]] = {
    ("controlnet", "toybox"): _TOYBOX_CONTROL,
    ("t2i-adapter", "toybox"): _TOYBOX_CONTROL,
    ("instruct-pix2pix", "toybox"): _TOYBOX,
    ("prompt2prompt", "toybox"): {**_TOYBOX, "cross_replace_steps": 0.8},
    ("inpainting", "toybox"): _TOYBOX,
    ("given", "toybox"): _TOYBOX,
}


def family(name: str) -> Family:
    """The family of that name.

    Raises:
        InputError: there is none; the message lists those there are.
    """
    if name not in FAMILIES:
        raise InputError(f"Unknown family '{name}'. Choose one of: {', '.join(FAMILIES)}.")
    return FAMILIES[name]


def default_request(task: str, family_name: str, frames: np.ndarray, prompt: str, **changes: Any) -> GenerationRequest:
    """The request of a task with a family's defaults, and `changes` on top.

    Args:
        task: key of `TASKS`.
        family_name: key of `FAMILIES`.
        frames: source clip, uint8 `(F, H, W, 3)`.
        prompt: for the image model.
        changes: fields of GenerationRequest; None keeps the default.

    Raises:
        InputError: an unknown task, family, image model, video model or control type, a value out of range, or
            something that the task needs is missing.
    """
    if task not in TASKS:
        raise InputError(f"Unknown task '{task}'. Choose one of: {', '.join(TASKS)}.")
    chosen = family(family_name)
    changes = {name: value for name, value in changes.items() if value is not None}
    image_model = _chosen("image model", changes.pop("image_model", None), TASKS[task].image_models)
    video_model = _chosen("video model", changes.pop("video_model", None), tuple(chosen.video_models))
    if task == "control":
        changes.setdefault("controls", (Control(),))
        _check_controls(changes["controls"], chosen.steering(image_model), image_model)
    request = GenerationRequest(
        frames=frames, prompt=prompt, task=task, family=family_name, image_model=image_model, video_model=video_model
    )
    request = replace(request, **{**PAPER[image_model], **PRESETS.get((image_model, family_name), {}), **changes})
    if image_model == "inpainting" and request.masks is None:
        raise InputError("There is no mask, so there is nothing to regenerate. Mark what should be made anew.")
    if image_model == "prompt2prompt" and not request.source_prompt.strip():
        raise InputError("Prompt2Prompt needs the source prompt: say what the source clip shows.")
    return request


def _chosen(what: str, name: str | None, known: tuple[str, ...]) -> str:
    if name is not None and name not in known:
        raise InputError(f"Unknown {what} '{name}'. Choose one of: {', '.join(known)}.")
    return known[0] if name is None else name


def _check_controls(controls: tuple[Control, ...], networks: Mapping[str, ModelSpec], image_model: str) -> None:
    if not controls:
        raise InputError("Controllable generation needs at least one control. Choose what to keep of the source.")
    for control in controls:
        if control.control_type not in networks:
            raise InputError(
                f"There is no {IMAGE_MODELS[image_model]} for the control type '{control.control_type}'. "
                f"Choose one of: {', '.join(networks)}."
            )
