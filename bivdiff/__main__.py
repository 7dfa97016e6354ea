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

from bivdiff import media
from bivdiff.catalog import FAMILIES, TASKS, default_request, family
from bivdiff.errors import BIVDiffError
from bivdiff.settings import Settings
from bivdiff.types import MIXING_RULES, GenerationResult, StepEvent

if TYPE_CHECKING:
    from bivdiff.models.manager import ModelManager

# Flags that bear the name of a request's field: type and help. None, the default, leaves the task's preset alone.
REQUEST_FLAGS: dict[str, tuple[type, str]] = {
    "video_prompt": (str, "prompt for the video model; the same as --prompt by default"),
    "negative_prompt": (str, "what neither model should show"),
    "inversion_prompt": (str, "prompt of the inversions; empty by default"),
    "controlnet_conditioning_scale": (float, "weight of the control maps, 0 to 2"),
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
    """Make a clip and write it, its frame-wise and its control clip."""
    chosen = family(args.family)
    clip = media.read_clip(
        args.video, start=args.start, stride=args.frame_stride, num_frames=args.num_frames or chosen.num_frames,
        size=chosen.size, fit=args.fit,
    )  # fmt: skip
    write = _writer(args.output)
    request = default_request(args.task, args.family, clip.frames, args.prompt, **_changes(args))
    from bivdiff.pipeline import run

    result = _followed(run(request, _manager(settings)))
    paths = {}
    for name, frames in (
        ("result", result.frames), ("framewise", result.framewise_frames), ("control", result.control_frames)
    ):  # fmt: skip
        path = args.output if name == "result" else args.output.with_stem(f"{args.output.stem}-{name}")
        write(path, frames, clip.fps)
        paths[name] = str(path)
    return {**_summary(result), "fps": clip.fps, "paths": paths}


def evaluate_command(args: argparse.Namespace, settings: Settings) -> dict[str, Any]:
    """Score a task."""
    from bivdiff.evaluation import evaluate

    def report(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    manager = _manager(settings)
    return evaluate(args.task, args.family, args.clips, args.first_scene, manager, report, **_changes(args))


def bench_command(args: argparse.Namespace, settings: Settings) -> dict[str, Any]:
    """Measure a task's speed and memory."""
    from bivdiff.bench import bench

    return bench(args.task, args.family, args.runs, settings, **_changes(args))


COMMANDS = {"run": run_command, "evaluate": evaluate_command, "bench": bench_command}


def _add_request_flags(parser: argparse.ArgumentParser) -> None:
    control_types = sorted({kind for item in FAMILIES.values() for kind in item.control_types})
    parser.add_argument("--task", choices=TASKS, default="control", help="what to do (default: control)")
    parser.add_argument("--family", choices=FAMILIES, default="toybox", help="models to use (default: toybox)")
    parser.add_argument("--control-type", choices=control_types, help="kind of control map (default: canny)")
    parser.add_argument("--mixing-rule", choices=MIXING_RULES, help="how the two inversions are blended")
    for name, (kind, text) in REQUEST_FLAGS.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=kind, help=text)
    parser.add_argument("--json", action="store_true", help="print the report as JSON")


def _changes(args: argparse.Namespace) -> dict[str, Any]:
    return {name: getattr(args, name) for name in (*REQUEST_FLAGS, "control_type", "mixing_rule")}


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


def _followed(events: Iterator[StepEvent | GenerationResult]) -> GenerationResult:
    """Show a run's progress on standard error; returns its result."""
    for event in events:
        if isinstance(event, GenerationResult):
            print(file=sys.stderr)
            return event
        print(f"\r\033[K{event.message} {event.step}/{event.total}", end="", file=sys.stderr, flush=True)
    raise RuntimeError("The run ended without a result.")


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
