"""The family that ships with the app: tiny networks that run anywhere."""

from __future__ import annotations

from typing import Any

from bivdiff.catalog.image_models import OWN_UNET
from bivdiff.catalog.specs import Family, ModelSpec, VideoModel


def _toybox(name: str, kind: str, **facts: Any) -> ModelSpec:
    return ModelSpec(key=f"toybox/{name}", kind=kind, folder=name, **facts)


# Measured by `python -m bivdiff evaluate` and, for the ratios, by `benchmarks/findings.py`: see docs/results.md.
_BASE: dict[str, Any] = {
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
_CONTROL: dict[str, Any] = {**_BASE, "mixing_ratio": 0.0, "guidance_scale": 5.5}

TOYBOX = Family(
    title="Toybox: built in, runs anywhere",
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
        # With edges 0.1 is 0.26 dB better and as calm; with depth it leaves 0.74 of two scenes' flicker, this < 0.7.
        "t2i-adapter": {**_CONTROL, "mixing_ratio": 0.25},
        "instruct-pix2pix": _BASE,
        "prompt2prompt": {**_BASE, "mixing_ratio": 0.0, "cross_replace_steps": 0.8},
        # The image model's inversion moves the noise enough for the video model to draw a solid into a hole where there
        # was to be none: erasing scene 4, the hole is at 37 dB without it, at 22 with a tenth, at 18 with a quarter.
        "inpainting": {**_BASE, "mixing_ratio": 0.0},
        "given": _BASE,
    },
    # Outpainting calms down with a larger share of the image model, inpainting does not.
    task_presets={"outpaint": {"mixing_ratio": 0.25}},
)  # fmt: skip
