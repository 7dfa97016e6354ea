"""The flags that several commands share, and what they give a request."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from bivdiff.catalog.families import FAMILIES, list_control_types
from bivdiff.catalog.image_models import IMAGE_MODELS
from bivdiff.catalog.tasks import TASKS
from bivdiff.pixels.fitting import FITS
from bivdiff.types import MIXING_RULES

# Flags that bear the name of a request's field: type and help. None, the default, leaves the task's preset alone.
REQUEST_FLAGS: dict[str, tuple[type, str]] = {
    "video_prompt": (str, "prompt for the video model; the same as --prompt by default"),
    "negative_prompt": (str, "what neither model should show"),
    "inversion_prompt": (str, "prompt of the inversions; '{prompt}' stands for what the video model is told"),
    "source_prompt": (str, "what the source shows: needed by prompt2prompt, helps instruct-pix2pix"),
    "image_guidance_scale": (float, "instruct-pix2pix: guidance towards the source; 1 = off"),
    "cross_replace_steps": (float, "prompt2prompt: share of the steps that keep the source's attention to words"),
    "self_replace_steps": (float, "prompt2prompt: share of the steps that keep the source's layout"),
    "blend_words": (str, "prompt2prompt: words whose places may change; everything may by default"),
    "reweight": (str, "prompt2prompt: weights of words, such as 'red:2, cube:0.5'"),
    "feather": (int, "in- and outpainting: pixels over which kept and new run into each other"),
    "low_threshold": (int, "weaker gradients are no edge, 1 to 255"),
    "high_threshold": (int, "stronger gradients always are, 1 to 255"),
    "mixing_ratio": (float, "weight of the image model's inversion: 1 smoothest, 0 closest to the frames"),
    "noise_sharing": (float, "0 = every frame starts from its own noise, 1 = all from the same"),
    "num_inference_steps": (int, "steps of the image model"),
    "num_inversion_steps": (int, "steps of each inversion"),
    "num_smoothing_steps": (int, "steps of the video model"),
    "guidance_scale": (float, "guidance of the image model; 1 = off"),
    "inversion_guidance_scale": (float, "guidance of the inversions; 1 = off"),
    "smoothing_guidance_scale": (float, "guidance of the video model; 1 = off"),
    "seed": (int, "of the initial noise; drawn, and told, when not given"),
    "frame_batch_size": (int, "frames the image model takes at once"),
    "window": (int, "frames the video model sees at once (default: as many as it was trained with)"),
    "base_model": (str, "a checkpoint in the base model's place: repository, folder or .safetensors file"),
    "loras": (str, "LoRAs on the base model, such as 'style.safetensors:0.8, owner/name'"),
    "embeddings": (str, "files of textual inversion, between commas"),
}


# One number for each control, or one for all: default and help.
CONTROL_FLAGS: dict[str, tuple[float, str]] = {
    "controlnet_conditioning_scale": (1.0, "weight of each control, 0 to 2"),
    "control_start": (0.0, "share of the steps after which it steers"),
    "control_end": (1.0, "share of the steps until which it steers"),
}


def add_request_flags(parser: argparse.ArgumentParser) -> None:
    """The flags of the request's own fields, and --json."""
    control_types = list_control_types()
    video_models = [name for item in FAMILIES.values() for name in item.video_models]
    parser.add_argument("--task", choices=TASKS, default="control", help="what to do (default: control)")
    parser.add_argument("--family", choices=FAMILIES, default="toybox", help="models to use (default: toybox)")
    parser.add_argument("--image-model", choices=IMAGE_MODELS, help="what makes the frames (default: the task's first)")
    parser.add_argument("--video-model", choices=video_models, help="what smooths them (default: the family's first)")
    parser.add_argument("--control-type", choices=control_types, nargs="+", help="what to keep (default: canny)")
    for name, (default, text) in CONTROL_FLAGS.items():
        parser.add_argument(
            flag_of(name), type=float, nargs="+", default=[default], help=f"{text} (default: {default:g})"
        )
    parser.add_argument("--mixing-rule", choices=MIXING_RULES, help="how the two inversions are blended")
    parser.add_argument("--preserve-known", action=argparse.BooleanOptionalAction,
                        help="in- and outpainting: keep what is outside the mask (default: yes)")  # fmt: skip
    for name, (kind, text) in REQUEST_FLAGS.items():
        parser.add_argument(flag_of(name), type=kind, help=text)
    parser.add_argument("--json", action="store_true", help="print the report as JSON")


def add_source_flags(parser: argparse.ArgumentParser) -> None:
    """The flags that say which part of a source is used, and how: trim, size, control maps, masks."""
    parser.add_argument("--num-frames", type=int, help="frames to make (default: the video model's window)")
    parser.add_argument("--frame-stride", type=int, default=1, help="take every n-th source frame (default: 1)")
    parser.add_argument("--start", type=float, default=0.0, help="seconds into the source (default: 0)")
    parser.add_argument("--fit", choices=FITS, default="crop", help="how the source comes to size (default: "
                        "crop)")  # fmt: skip
    parser.add_argument("--size", help="width and height to generate at, such as 576x320 (default: the family's)")
    parser.add_argument("--control-video", type=Path, nargs="+", metavar="MAP", help="clips that are the control maps")
    parser.add_argument(
        "--fit-memory", action="store_true", help="make the request fit into the memory, and say what was changed"
    )
    _add_mask_flags(parser)


def _add_mask_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--mask", type=Path, help="inpaint: mask clip or picture, white where the clip is made anew")
    parser.add_argument("--black-regenerates", action="store_true", help="inpaint: the mask is black there instead")
    parser.add_argument("--track", action="store_true", help="inpaint: carry the mask's first frame over the others")
    parser.add_argument("--box", help="inpaint: left,top,right,bottom in pixels or percent; several between semicolons")
    parser.add_argument("--color-key", metavar="#RRGGBB", help="inpaint: make anew whatever has this colour")
    parser.add_argument("--tolerance", type=float, default=20.0, help="of the colour key, 0 to 100 (default: 20)")
    parser.add_argument("--grow", type=int, default=0, help="inpaint: grow the mask by so many pixels (default: 0)")
    parser.add_argument("--extend", default="25%", help="outpaint: left,top,right,bottom in pixels or percent, one for "
                        "all sides, or an aspect ratio such as 16:9 (default: 25%%)")  # fmt: skip


def flag_of(name: str) -> str:
    """The flag that bears a field's name: --mixing-ratio for mixing_ratio."""
    return f"--{name.replace('_', '-')}"


def changes_of(args: argparse.Namespace) -> dict[str, Any]:
    """The request's fields as the flags give them; None leaves the task's default alone."""
    names = (*REQUEST_FLAGS, "image_model", "video_model", "mixing_rule", "preserve_known")
    return {name: getattr(args, name) for name in names}
