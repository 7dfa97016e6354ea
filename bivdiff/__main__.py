"""The same jobs without a browser: `python -m bivdiff run | evaluate | bench`.

In it: flags, progress on standard error, results as text or JSON on standard output, exit status 0 done, 1 failed,
2 wrong usage. Not in it: anything that computes.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bivdiff import masks, media
from bivdiff.canvas import plan_canvas
from bivdiff.catalog import FAMILIES, IMAGE_MODELS, TASKS, default_request, family
from bivdiff.errors import BIVDiffError, InputError
from bivdiff.settings import Settings
from bivdiff.tracking import track
from bivdiff.types import MIXING_RULES, Control, GenerationResult, StepEvent

if TYPE_CHECKING:
    from bivdiff.models.manager import ModelManager

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
}

# One number for each control, or one for all: default and help.
CONTROL_FLAGS: dict[str, tuple[float, str]] = {
    "controlnet_conditioning_scale": (1.0, "weight of each control, 0 to 2"),
    "control_start": (0.0, "share of the steps after which it steers"),
    "control_end": (1.0, "share of the steps until which it steers"),
}


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = argparse.ArgumentParser(
        prog="python -m bivdiff",
        description="Make a video with an image diffusion model, bridged to a video model by Mixed Inversion.",
    )
    parser.add_argument("--device", help="auto, cpu, cuda or mps (default: auto, or BIVDIFF_DEVICE)")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")

    run = commands.add_parser("run", help="regenerate a clip", description="Regenerate a clip under a new prompt.")
    run.add_argument("--video", required=True, type=Path, help="source clip: any video, GIF or picture")
    run.add_argument("--prompt", required=True, help="what the new clip shows")
    run.add_argument("--output", type=Path, default=Path("out.mp4"), help="where the clip goes: .mp4, .gif or .zip")
    run.add_argument("--num-frames", type=int, help="frames to make (default: the video model's window)")
    run.add_argument("--frame-stride", type=int, default=1, help="take every n-th source frame (default: 1)")
    run.add_argument("--start", type=float, default=0.0, help="seconds into the source (default: 0)")
    run.add_argument("--fit", choices=media.FITS, default="crop", help="how the source comes to size (default: crop)")
    run.add_argument("--control-video", type=Path, nargs="+", metavar="MAP", help="clips that are the control maps")
    _add_mask_flags(run)
    _add_request_flags(run)

    score = commands.add_parser(
        "evaluate", help="score a task against the toybox world",
        description="Run a task on evaluation scenes, whose right answer is known, and score the clips.",
    )  # fmt: skip
    score.add_argument("--clips", type=int, default=24, help="number of scenes (default: 24)")
    score.add_argument("--first-scene", type=int, default=0, help="number of the first scene (default: 0)")
    _add_request_flags(score)

    bench = commands.add_parser("bench", help="measure speed and memory", description="Time whole runs of a task.")
    bench.add_argument("--runs", type=int, default=3, help="runs after loading; the median is told (default: 3)")
    _add_request_flags(bench)
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    args = build_parser().parse_args(arguments)
    settings = Settings.from_env()
    if args.device:
        settings = replace(settings, device=args.device)
    try:
        report = COMMANDS[args.command](args, settings)
    except BIVDiffError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("error: Stopped. Nothing was written.", file=sys.stderr)
        return 1
    print(json.dumps(_finite(report), indent=2) if args.json else _as_text(report))
    return 0


def run_command(args: argparse.Namespace, settings: Settings) -> dict[str, Any]:
    """Make a clip and write it, its frame-wise and its control clips."""
    write = _writer(args.output)
    source, changes = _read_source(args)
    request = default_request(args.task, args.family, source.frames, args.prompt, **{**_changes(args), **changes})
    from bivdiff.pipeline import last, run

    result = last(_followed(run(request, _manager(settings))))
    shown = {"result": result.frames, "framewise": result.framewise_frames}
    for number, control_frames in enumerate(result.control_frames):
        shown[f"control-{number + 1}" if number else "control"] = control_frames
    if request.masks is not None:
        shown["mask"] = masks.overlay(request.frames, request.masks)
    paths = {}
    for name, frames in shown.items():
        path = args.output if name == "result" else args.output.with_stem(f"{args.output.stem}-{name}")
        write(path, frames, source.fps)
        paths[name] = str(path)
    return {**_summary(result), "fps": source.fps, "paths": paths}


def _read_source(args: argparse.Namespace) -> tuple[media.Clip, dict[str, Any]]:
    """The source clip, and what else the task reads from files: control maps, masks, the canvas."""
    chosen = family(args.family)
    trim = {"start": args.start, "stride": args.frame_stride, "num_frames": args.num_frames or chosen.num_frames}
    if args.task == "outpaint":
        info = media.probe(args.video)
        plan = plan_canvas(args.extend, info.width, info.height, chosen.size)
        clip = media.read_clip(args.video, size=(plan.width, plan.height), fit=args.fit, **trim)
        canvas, holes = masks.extend_canvas(clip.frames, *plan.sides)
        return clip._replace(frames=canvas), {"masks": holes}
    clip = media.read_clip(args.video, size=chosen.size, fit=args.fit, **trim)
    if args.task == "inpaint":
        return clip, {"masks": _read_masks(args, clip.frames)}
    if args.task == "control":
        return clip, {"controls": _controls(args, clip.frames)}
    return clip, {}


def _read_masks(args: argparse.Namespace, frames: np.ndarray) -> np.ndarray:
    """The masks that the flags describe; several kinds of them add up."""
    count, height, width = frames.shape[:3]
    found = np.zeros((count, height, width), np.uint8)
    if args.mask:
        pictures = _read_beside(args, args.mask, frames)
        given = masks.fit_masks(pictures, count, height, width, white_regenerates=not args.black_regenerates)
        found |= track(frames, given[0]) if args.track else given
    if args.box:
        found |= masks.box_masks(masks.parse_boxes(args.box, width, height), count, height, width)
    if args.color_key:
        found |= masks.color_key_masks(frames, args.color_key, args.tolerance)
    return masks.grow(found, args.grow)


def _controls(args: argparse.Namespace, frames: np.ndarray | None = None) -> tuple[Control, ...]:
    """The controls that the flags describe: one for each control type; a single number holds for all of them."""
    types = args.control_type or ["canny"]
    maps: list[np.ndarray | None] = [None] * len(types)
    if frames is not None and args.control_video:
        maps = [_read_beside(args, path, frames) for path in args.control_video]
    columns = [maps, *(_one_each(getattr(args, name), len(types)) for name in CONTROL_FLAGS)]
    if any(len(column) != len(types) for column in columns):
        raise InputError(f"{len(types)} control types need as many maps, strengths, starts and ends, or one for all.")
    return tuple(
        Control(control_type=kind, frames=shown, conditioning_scale=scale, start=start, end=end)
        for kind, shown, scale, start, end in zip(types, *columns, strict=True)
    )


def _read_beside(args: argparse.Namespace, path: Path, frames: np.ndarray) -> np.ndarray:
    return media.read_beside(path, frames, start=args.start, stride=args.frame_stride, fit=args.fit)


def _one_each(values: list[float], count: int) -> list[float]:
    return values * count if len(values) == 1 else values


def evaluate_command(args: argparse.Namespace, settings: Settings) -> dict[str, Any]:
    """Score a task."""
    from bivdiff.evaluation import evaluate

    def report(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    changes = {**_changes(args), "controls": _controls(args) if args.task == "control" else None}
    return evaluate(args.task, args.family, args.clips, args.first_scene, _manager(settings), report, **changes)


def bench_command(args: argparse.Namespace, settings: Settings) -> dict[str, Any]:
    """Measure a task's speed and memory."""
    from bivdiff.bench import bench

    changes = {**_changes(args), "controls": _controls(args) if args.task == "control" else None}
    return bench(args.task, args.family, args.runs, settings, **changes)


COMMANDS = {"run": run_command, "evaluate": evaluate_command, "bench": bench_command}


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


def _add_request_flags(parser: argparse.ArgumentParser) -> None:
    control_types = sorted({kind for item in FAMILIES.values() for kind in (*item.controlnets, *item.t2i_adapters)})
    video_models = [name for item in FAMILIES.values() for name in item.video_models]
    parser.add_argument("--task", choices=TASKS, default="control", help="what to do (default: control)")
    parser.add_argument("--family", choices=FAMILIES, default="toybox", help="models to use (default: toybox)")
    parser.add_argument("--image-model", choices=IMAGE_MODELS, help="what makes the frames (default: the task's first)")
    parser.add_argument("--video-model", choices=video_models, help="what smooths them (default: the family's first)")
    parser.add_argument("--control-type", choices=control_types, nargs="+", help="what to keep (default: canny)")
    for name, (default, text) in CONTROL_FLAGS.items():
        parser.add_argument(
            _flag(name), type=float, nargs="+", default=[default], help=f"{text} (default: {default:g})"
        )
    parser.add_argument("--mixing-rule", choices=MIXING_RULES, help="how the two inversions are blended")
    parser.add_argument("--preserve-known", action=argparse.BooleanOptionalAction,
                        help="in- and outpainting: keep what is outside the mask (default: yes)")  # fmt: skip
    for name, (kind, text) in REQUEST_FLAGS.items():
        parser.add_argument(_flag(name), type=kind, help=text)
    parser.add_argument("--json", action="store_true", help="print the report as JSON")


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _changes(args: argparse.Namespace) -> dict[str, Any]:
    names = (*REQUEST_FLAGS, "image_model", "video_model", "mixing_rule", "preserve_known")
    return {name: getattr(args, name) for name in names}


def _manager(settings: Settings) -> ModelManager:
    from bivdiff.models.manager import ModelManager

    return ModelManager(settings)


def _writer(path: Path) -> Any:
    """The writer for a path's ending, found before anything is computed."""
    writers = {
        ".mp4": media.write_mp4,
        ".gif": media.write_gif,
        ".zip": lambda path, frames, _: media.write_png_zip(path, frames),
    }
    if path.suffix.lower() not in writers:
        raise BIVDiffError(f"The output '{path.name}' must end in {', '.join(writers)}. Rename it.")
    if not path.parent.is_dir():
        raise BIVDiffError(f"The folder of the output, '{path.parent}', does not exist. Make it first.")
    return writers[path.suffix.lower()]


def _followed(events: Iterator[StepEvent | GenerationResult]) -> Iterator[StepEvent | GenerationResult]:
    """The events of a run as they come, shown on standard error."""
    for event in events:
        if isinstance(event, GenerationResult):
            print(file=sys.stderr)
        else:
            print(f"\r\033[K{event.message} {event.step}/{event.total}", end="", file=sys.stderr, flush=True)
        yield event


def _summary(result: GenerationResult) -> dict[str, Any]:
    frames, height, width = result.frames.shape[:3]
    return {
        "num_frames": frames,
        "width": width,
        "height": height,
        "seed": result.seed,
        "seconds": {stage: round(value, 3) for stage, value in result.seconds.items()},
        "evaluations": result.evaluations,
        "forward_seconds": round(result.forward_seconds, 3),
        "peak_memory_bytes": result.peak_memory_bytes,
        "settings": result.request.settings(),
    }


def _finite(value: Any) -> Any:
    """The same with null for NaN, which JSON does not have."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _as_text(report: dict[str, Any]) -> str:
    """A report as indented lines; lists, which hold single clips, are left to --json."""
    lines = []
    for key, value in report.items():
        if isinstance(value, dict):
            lines += [f"{key}:", *(f"  {line}" for line in _as_text(value).splitlines())]
        elif not isinstance(value, list):
            lines.append(f"{key}: {value:.4g}" if isinstance(value, float) else f"{key}: {value}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
