"""The family that ships with the app: tiny networks that run anywhere."""

from __future__ import annotations

from typing import Any

from bivdiff.catalog.image_models import OWN_UNET
from bivdiff.catalog.specs import Family, ModelSpec, VideoModel
from bivdiff.types import GenerationRequest


def _toybox(name: str, kind: str, **facts: Any) -> ModelSpec:
    return ModelSpec(key=f"toybox/{name}", kind=kind, folder=name, **facts)


# Measured by `benchmarks/findings.py`, on scenes apart from those of docs/results.md, which says what was found.
_BASE: dict[str, Any] = {
    "mixing_ratio": 0.75,
    "frame_prior": "mean",
    "start_level": 0.4,
    "inversion_prompt": "{prompt}",
    "num_inversion_steps": 10,
    "num_smoothing_steps": 10,
    "guidance_scale": 4.0,
    "smoothing_guidance_scale": 1.0,
}
_FAST: dict[str, Any] = {**_BASE, "sampler": "dpm++", "num_inference_steps": 10, "guided_share": 0.5}
# At guidance 4 a night comes out as noon now and then. A frame that shows another time of day, or another instruction
# carried out, flashes, and no bridge can cure that: frames that see the first one agree with it.
_CONTROL: dict[str, Any] = {**_FAST, "guidance_scale": 5.5, "frame_attention": "first"}
# What the paper does beside its bridge, in fewer steps than its 50: these small models need no more.
_PAPER: dict[str, Any] = {
    name: getattr(GenerationRequest, name) for name in ("sampler", "guided_share", "frame_attention")
} | {"num_inference_steps": 20, "num_inversion_steps": 20, "num_smoothing_steps": 20}

TOYBOX = Family(
    title="Toybox: tiny built-in models, 128x128, for trying the method",
    size=(128, 128),
    num_frames=8,
    vae=_toybox("vae", "vae"),
    text_encoder=_toybox("text_encoder", "text_encoder"),
    tokenizer=_toybox("tokenizer", "tokenizer"),
    unet=_toybox("unet", "unet", size=(128, 128)),
    scheduler=_toybox("scheduler", "scheduler"),
    networks={
        "controlnet": {kind: _toybox(f"controlnet-{kind}", "controlnet") for kind in ("canny", "depth")},
        "t2i-adapter": {kind: _toybox(f"t2i-adapter-{kind}", "t2i_adapter") for kind in ("depth", "canny")},
        "instruct-pix2pix": {OWN_UNET: _toybox("instruct-pix2pix", "unet", size=(128, 128))},
        "inpainting": {OWN_UNET: _toybox("inpainting", "unet", size=(128, 128))},
    },
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
    presets={
        "controlnet": _CONTROL,
        # Its frames flicker more: at 1 it gains 0.1 dB over 0.75, and flicker falls from 0.47 of theirs to 0.4.
        "t2i-adapter": {**_CONTROL, "mixing_ratio": 1.0},
        "instruct-pix2pix": {**_FAST, "frame_attention": "first"},
        "prompt2prompt": {
            **_BASE, "num_inference_steps": 12, "cross_replace_steps": 0.8, "frame_attention": "first",
        },
        "inpainting": _FAST,
        "given": _BASE,
    },
    other_presets={"paper": _PAPER},
)  # fmt: skip
