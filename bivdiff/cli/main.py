"""The same jobs without a browser: `python -m bivdiff run | compare | evaluate | bench | models`."""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bivdiff.catalog.families import FAMILIES, extend, family_named
from bivdiff.catalog.image_models import IMAGE_MODELS
from bivdiff.catalog.requests import default_request
from bivdiff.catalog.tasks import TASKS
from bivdiff.compare.axes import read_values
from bivdiff.errors import BIVDiffError, CancelledError, InputError, OutOfMemoryError
from bivdiff.media.carried import carry_of
from bivdiff.media.reading import Clip, probe, read_beside, read_clip
from bivdiff.media.writing import write_gif, write_mp4, write_png_zip
from bivdiff.pixels import masks
from bivdiff.pixels.canvas import parse_size, plan_canvas
from bivdiff.pixels.fitting import FITS
from bivdiff.pixels.tracking import track
from bivdiff.settings import Settings
from bivdiff.types import MIXING_RULES, Control, GenerationRequest, GenerationResult, StepEvent
from bivdiff.units import say_bytes

if TYPE_CHECKING:
    from bivdiff.compare.sweep import Cell, CellEvent, SweepResult
    from bivdiff.models.inventory import Entry
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
    "window": (int, "frames the video model sees at once (default: as many as it was trained with)"),
    "base_model": (str, "a checkpoint in the base model's place: repository, folder or .safetensors file"),
    "loras": (str, "LoRAs on the base model, such as 'style.safetensors:0.8, owner/name'"),
    "embeddings": (str, "files of textual inversion, between commas"),
}

DEFAULT_RATIOS = "0,0.25,0.5,0.75,1"

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
    _add_source_flags(run)
    _add_request_flags(run)
    _add_compare_command(commands)

    score = commands.add_parser(
        "evaluate", help="score a task against the toybox world",
        description="Run a task on evaluation scenes, whose right answer is known, and score the clips.",
    )  # fmt: skip
    score.add_argument("--clips", type=int, default=24, help="number of scenes (default: 24)")
    score.add_argument("--first-scene", type=int, default=0, help="number of the first scene (default: 0)")
    _add_request_flags(score)

    bench = commands.add_parser("bench", help="measure speed and memory", description="Time whole runs of a task.")
    _add_bench_flags(bench)
    _add_request_flags(bench)
    _add_models_commands(commands)
    parser.set_defaults(as_text=_as_text)
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    try:
        settings = Settings.from_env()
        if settings.catalog:
            extend(settings.catalog)  # before the flags, whose choices come from the catalog
        args = build_parser().parse_args(arguments)
        if args.device:
            settings = replace(settings, device=args.device)
        report = COMMANDS[args.command](args, settings)
    except BIVDiffError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("error: Stopped. Nothing was written.", file=sys.stderr)
        return 1
    print(json.dumps(_finite(report), indent=2) if args.json else args.as_text(report))
    return 1 if report.get("wrong") else 0


def run_command(args: argparse.Namespace, settings: Settings) -> dict[str, Any]:
    """Make a clip and write it, its frame-wise and its control clips."""
    write = _writer(args.output)
    source, changes = _read_source(args)
    request = default_request(args.task, args.family, source.frames, args.prompt, **{**_changes(args), **changes})
    from bivdiff.bridge.pipeline import last, run

    manager = _manager(settings)
    request, found = _planned(request, manager, args.fit_memory)
    result = last(_followed(run(request, manager)))
    shown = {"result": result.frames, "framewise": result.framewise_frames}
    for number, control_frames in enumerate(result.control_frames):
        shown[f"control-{number + 1}" if number else "control"] = control_frames
    if request.masks is not None:
        shown["mask"] = masks.overlay(request.frames, request.masks)
    carry = carry_of(replace(request, seed=result.seed), source.fps)
    paths = {}
    for name, frames in shown.items():
        path = args.output if name == "result" else args.output.with_stem(f"{args.output.stem}-{name}")
        write(path, frames, source.fps, carry)
        paths[name] = str(path)
    return {**_summary(result), "estimate": found, "fps": source.fps, "paths": paths}


def compare_command(args: argparse.Namespace, settings: Settings) -> dict[str, Any]:
    """Make a clip for each value of a setting, and write what shows and scores them."""
    from bivdiff.bridge.store import StageStore
    from bivdiff.compare.export import check_folder, export, report
    from bivdiff.compare.sweep import gathered, last, sweep
    from bivdiff.toybox.truths import truth_of

    check_folder(args.output)
    axes = _axes(args)
    request, truth, fps = _compared_source(args)
    manager = _manager(settings)
    request, found = _planned(request, manager, args.fit_memory, axes)
    truth = truth_of(request) if truth is None else truth
    cells: list[Cell] = []
    try:
        result = last(_followed_cells(sweep(request, axes, manager, StageStore(settings), truth), cells))
    except (KeyboardInterrupt, BIVDiffError) as error:
        if not cells:
            raise
        stopped = gathered(request, axes, cells)
        export(args.output, stopped, fps)
        told = "Stopped." if isinstance(error, KeyboardInterrupt) else str(error)
        ready = f"The {len(cells)} of {stopped.size} clips that were ready are in '{args.output}'."
        raise CancelledError(f"{told} {ready}") from None
    paths = {name: str(path) for name, path in export(args.output, result, fps).items()}
    return {**report(result), "estimate": found, "fps": fps, "paths": paths}


def _followed_cells(
    events: Iterator[CellEvent | Cell | SweepResult], cells: list[Cell]
) -> Iterator[CellEvent | Cell | SweepResult]:
    """The events of a sweep as they come, shown on standard error; `cells` grows by those that are ready."""
    from bivdiff.compare.sweep import Cell

    for event in events:
        if isinstance(event, StepEvent):
            _tell(f"\r\033[K{event.message} {event.step}/{event.total}", end="")
            if event.note:
                _tell(f"\r\033[K{event.note}")
        elif isinstance(event, Cell):
            cells.append(event)
            reused = f", reused: {', '.join(event.reused)}" if event.reused else ""
            _tell(f"\r\033[K{event.label}: {event.seconds['total']:.1f} s{reused}")
        yield event


def _compared_source(args: argparse.Namespace) -> tuple[GenerationRequest, np.ndarray | None, float]:
    """What is to be made, the true clip where there is one, and the playback rate."""
    if args.scene is not None:
        from bivdiff.evaluate.evaluation import case_of
        from bivdiff.toybox.world import FPS

        _refuse_beside_a_scene(args)
        changes = {**_changes(args), "controls": _controls(args) if args.task == "control" else None}
        case = case_of(args.task, args.scene, args.family, **changes)
        return case.request, case.truth, FPS
    if args.prompt is None:
        raise InputError("There is no prompt. Say with --prompt what the new clip shows.")
    source, changes = _read_source(args)
    request = default_request(args.task, args.family, source.frames, args.prompt, **{**_changes(args), **changes})
    return request, None, source.fps


def _refuse_beside_a_scene(args: argparse.Namespace) -> None:
    """Refuse what a scene of the evaluation has of its own.

    Raises:
        InputError: such a flag was given.
    """
    own = ("prompt", "num_frames", "size", "control_video", "mask", "box", "color_key", "fit_memory")
    given = [_flag(name) for name in own if getattr(args, name)]
    if given:
        raise InputError(f"A scene has its own clip, prompt and masks, and {', '.join(given)} would change them. Leave "
                         "that out, or give a clip with --video.")  # fmt: skip


def _axes(args: argparse.Namespace) -> dict[str, list[Any]]:
    """The settings that are compared, each with its values."""
    axes: dict[str, list[Any]] = {}
    if args.mixing_ratios or not args.vary:
        axes["mixing_ratio"] = read_values("mixing_ratio", args.mixing_ratios or DEFAULT_RATIOS)
    for given in args.vary:
        name, found, values = given.partition("=")
        if not found:
            raise InputError(f"'{given}' names no values. Write it as in seed=1,2.")
        name = name.strip().replace("-", "_")
        axes[name] = [*axes.get(name, []), *read_values(name, values)]
    return axes


def _planned(
    request: GenerationRequest, manager: ModelManager, to_fit: bool, axes: Mapping[str, Sequence[Any]] | None = None
) -> tuple[GenerationRequest, Any]:
    """The request, made to fit if that is wanted, and what it is expected to take, told on standard error.

    Args:
        request: of a run, or of a comparison.
        manager: knows the budgets.
        to_fit: whether to make it fit.
        axes: what a comparison varies.

    Raises:
        InputError: a setting cannot be compared.
        OutOfMemoryError: it does not fit.
    """
    from bivdiff.compare.axes import check_axes
    from bivdiff.compare.planning import expected_of_all, fitted_for_all
    from bivdiff.models.planning import expected, fitted

    if axes:
        check_axes(request, axes)
    if to_fit:
        request, changed = fitted_for_all(request, axes, manager) if axes else fitted(request, manager)
        if changed:
            _tell(changed)
    found = expected_of_all(request, axes, manager) if axes else expected(request, manager)
    if not found.fits:
        raise OutOfMemoryError(f"{found.advice} Or let --fit-memory do it.")
    _tell(found.sentence)
    return request, asdict(found)


def _read_source(args: argparse.Namespace) -> tuple[Clip, dict[str, Any]]:
    """The source clip, and what else the task reads from files: control maps, masks, the canvas."""
    chosen = family_named(args.family)
    trim = {"start": args.start, "stride": args.frame_stride, "num_frames": args.num_frames or chosen.num_frames}
    if args.task == "outpaint":
        info = probe(args.video)
        plan = plan_canvas(args.extend, info.width, info.height, chosen.size)
        clip = read_clip(args.video, size=(plan.width, plan.height), fit=args.fit, **trim)
        canvas, holes = masks.extend_canvas(clip.frames, *plan.sides)
        return clip._replace(frames=canvas), {"masks": holes}
    size = parse_size(args.size) if args.size else chosen.size
    clip = read_clip(args.video, size=size, fit=args.fit, **trim)
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
    return read_beside(path, frames, start=args.start, stride=args.frame_stride, fit=args.fit)


def _one_each(values: list[float], count: int) -> list[float]:
    return values * count if len(values) == 1 else values


def evaluate_command(args: argparse.Namespace, settings: Settings) -> dict[str, Any]:
    """Score a task."""
    from bivdiff.evaluate.evaluation import evaluate

    def report(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    changes = {**_changes(args), "controls": _controls(args) if args.task == "control" else None}
    return evaluate(args.task, args.family, args.clips, args.first_scene, _manager(settings), report, **changes)


def bench_command(args: argparse.Namespace, settings: Settings) -> dict[str, Any]:
    """Measure a task's speed and memory."""
    from bivdiff.evaluate.bench import Load, bench

    changes = {**_changes(args), "controls": _controls(args) if args.task == "control" else None}
    for name in ("num_inference_steps", "num_inversion_steps", "num_smoothing_steps"):
        changes[name] = args.steps if changes[name] is None else changes[name]
    own = {name: getattr(args, name) for name in ("offload", "dtype") if getattr(args, name)}
    load = Load(args.size, args.frames, args.random_weights)
    if args.sweep:
        from bivdiff.evaluate.bench import bench_sweep

        own_settings = replace(settings, **own)
        return bench_sweep(args.task, args.family, args.sweep, args.runs, own_settings, load, **changes)
    return bench(args.task, args.family, args.runs, replace(settings, **own), load, **changes)


def models_command(args: argparse.Namespace, settings: Settings) -> dict[str, Any]:
    """List, show, pull or check models."""
    return MODELS_COMMANDS[args.action](args, settings)


def _list_models(args: argparse.Namespace, settings: Settings) -> dict[str, Any]:
    from bivdiff.models.inventory import inventory

    return {"models": [_facts(entry) for entry in inventory(None, settings, args.family)]}


def _show_model(args: argparse.Namespace, settings: Settings) -> dict[str, Any]:
    return {"models": [_facts(entry) for entry in _entries([args.name], settings)]}


def _pull_models(args: argparse.Namespace, settings: Settings) -> dict[str, Any]:
    """Download what is not there. What must be fetched by hand comes last, since no more comes after its error."""
    entries = _entries(args.names, settings)
    absent = sorted((entry for entry in entries if entry.state == "absent"), key=lambda entry: not entry.spec.on_hub)
    for entry in absent:
        size = say_bytes(entry.bytes) if entry.bytes else "of unknown size"
        _tell(f"{entry.key}: {size}, {entry.kind}, licence {_licence(_facts(entry))}")
    if absent:
        _tell(f"In all: at least {say_bytes(sum(entry.bytes for entry in absent))}")
    begun = time.monotonic()
    pulled = {entry.key: _pull(entry, settings) for entry in absent}
    there = [entry.key for entry in entries if entry not in absent]
    return {"pulled": pulled, "already_there": there, "seconds": round(time.monotonic() - begun, 1)}


def _pull(entry: Entry, settings: Settings) -> int:
    """Download a component, followed on standard error; returns its bytes."""
    from bivdiff.models.pulling import pulling

    begun, total = time.monotonic(), 0
    try:
        for done, total in pulling(entry.spec, settings):
            speed = say_bytes(done / max(time.monotonic() - begun, 1e-3))
            _tell(f"\r\033[K{entry.key}: {say_bytes(done)} of {say_bytes(total)}, {speed}/s", end="")
    except KeyboardInterrupt:
        raise CancelledError("Stopped. What has arrived is kept for the next time.") from None
    finally:
        _tell("")
    return total


def _check_models(args: argparse.Namespace, settings: Settings) -> dict[str, Any]:
    from bivdiff.models.inventory import check, inventory

    named = bool(args.names)
    entries = _entries(args.names, settings) if named else inventory(None, settings)
    checked, wrong = [], {}
    for entry in entries:
        if named or entry.state != "absent":
            _tell(f"\r\033[KChecking {entry.key}", end="")
            checked.append(entry.key)
            if sentence := check(entry.spec, settings, thorough=args.thorough):
                wrong[entry.key] = sentence
    _tell("\r\033[K", end="")
    return {"checked": checked, "wrong": wrong}


def _entries(names: Sequence[str], settings: Settings) -> list[Entry]:
    from bivdiff.models.inventory import find_specs, inventory

    wanted = {spec for name in names for spec in find_specs(name)}
    return [entry for entry in inventory(None, settings) if entry.spec in wanted]


def _facts(entry: Entry) -> dict[str, Any]:
    facts = {item.name: getattr(entry, item.name) for item in fields(entry) if item.name != "spec"}
    return {**facts, "families": list(entry.families), "non_commercial": entry.non_commercial, "native": entry.native}


def _licence(facts: dict[str, Any]) -> str:
    return f"{facts['licence']} (non-commercial)" if facts["non_commercial"] else facts["licence"]


def _models_as_table(report: dict[str, Any]) -> str:
    rows = [("model", "state", "size", "licence", "trained at")]
    for facts in report["models"]:
        size = say_bytes(facts["bytes"]) if facts["bytes"] else "unknown"
        rows.append((facts["key"], facts["state"], size, _licence(facts), facts["native"]))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def _models_in_full(report: dict[str, Any]) -> str:
    def tell(facts: dict[str, Any]) -> str:
        told = {
            "what": facts["kind"], "where from": facts["place"], "state": facts["state"],
            "size": say_bytes(facts["bytes"]) if facts["bytes"] else "unknown", "licence": _licence(facts),
            "trained at": facts["native"] or "any size", "families": ", ".join(facts["families"]),
            "looked up": facts["checked"], "on the hub": "yes" if facts["on_hub"] else "no",
        }  # fmt: skip
        return "\n".join([facts["key"], *(f"  {label + ':':<12}{text}" for label, text in told.items() if text)])

    return "\n\n".join(map(tell, report["models"]))


def _pulled_as_text(report: dict[str, Any]) -> str:
    pulled, there = report["pulled"], len(report["already_there"])
    if not pulled:
        return f"Nothing was pulled: {there} of {there} models are on this machine already."
    size = say_bytes(sum(pulled.values()))
    return f"Pulled {len(pulled)} models, {size} in {report['seconds']:.0f} s; {there} were on this machine already."


def _checked_as_text(report: dict[str, Any]) -> str:
    fine = len(report["checked"]) - len(report["wrong"])
    told = [f"{key}: {sentence}" for key, sentence in report["wrong"].items()]
    return "\n".join([*told, f"{fine} of {len(report['checked'])} models are whole."])


def _tell(line: str, end: str = "\n") -> None:
    print(line, end=end, file=sys.stderr, flush=True)


MODELS_COMMANDS = {"list": _list_models, "show": _show_model, "pull": _pull_models, "check": _check_models}
COMMANDS = {
    "run": run_command, "compare": compare_command, "evaluate": evaluate_command, "bench": bench_command,
    "models": models_command,
}  # fmt: skip


def _add_models_commands(commands: Any) -> None:
    models = commands.add_parser(
        "models", help="list, show, pull or check models",
        description="What models there are, where they are, and whether their files are whole.",
    )  # fmt: skip
    actions = models.add_subparsers(dest="action", required=True, metavar="action")
    listed = actions.add_parser("list", help="all of them in a table", description="All models in a table.")
    listed.add_argument("--family", choices=FAMILIES, help="those of one family alone")
    listed.set_defaults(as_text=_models_as_table)
    shown = actions.add_parser("show", help="all that is known of one", description="All that is known of a model.")
    shown.add_argument("name", metavar="KEY", help="as in the list, such as sd15/controlnet-canny")
    shown.set_defaults(as_text=_models_in_full)
    names = {"metavar": "NAME", "help": "a model, a family such as sd15, or what a task needs, such as sd15/control"}
    pulled = actions.add_parser("pull", help="download them", description="Download models that are not there.")
    pulled.add_argument("names", nargs="+", **names)
    pulled.set_defaults(as_text=_pulled_as_text)
    checked = actions.add_parser(
        "check", help="see whether their files are whole",
        description="See whether the files of models are whole: of all that are there, unless some are named.",
    )  # fmt: skip
    checked.add_argument("names", nargs="*", **names)
    checked.add_argument("--thorough", action="store_true", help="also load each of them, on the CPU")
    checked.set_defaults(as_text=_checked_as_text)
    for parser in (listed, shown, pulled, checked):
        parser.add_argument("--json", action="store_true", help="print the report as JSON")


def _add_source_flags(parser: argparse.ArgumentParser) -> None:
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


def _add_compare_command(commands: Any) -> None:
    compare = commands.add_parser(
        "compare", help="make a clip for each value of a setting, beside each other",
        description="Make a clip for each mixing ratio, or each value of one or two other settings, and score them.",
    )  # fmt: skip
    source = compare.add_mutually_exclusive_group(required=True)
    source.add_argument("--video", type=Path, help="source clip: any video, GIF or picture")
    source.add_argument("--scene", type=int, help="instead: a scene of the evaluation, whose true clip is known")
    compare.add_argument("--prompt", help="what the new clip shows; a scene has its own")
    compare.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder for the clips, grid, scores "
                         "and page; made if need be")  # fmt: skip
    compare.add_argument("--mixing-ratios", metavar="R1,R2,...", help="ratios to compare (default: "
                         f"{DEFAULT_RATIOS}, unless --vary names something else)")  # fmt: skip
    compare.add_argument("--vary", action="append", default=[], metavar="FIELD=V1,V2,...", help="another setting to "
                         "compare, such as seed=1,2 or mixing_rule=linear,slerp; two settings make a grid")  # fmt: skip
    _add_source_flags(compare)
    _add_request_flags(compare)


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


def _add_bench_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--runs", type=int, default=3, help="runs after the first, which loads the models; the median "
                        "is told. 0 tells of the first itself (default: 3)")  # fmt: skip
    parser.add_argument(
        "--random-weights", action="store_true", help="do without the real weights: random ones instead"
    )
    parser.add_argument("--sweep", type=int, metavar="K", help="time a comparison of K mixing ratios beside a run")
    parser.add_argument("--steps", type=int, help="steps of every stage that has no number of its own")
    parser.add_argument("--size", type=int, help="width and height in pixels (default: the family's)")
    parser.add_argument("--frames", type=int, help="length of the clip (default: the family's)")
    parser.add_argument("--offload", help="none, model, group or zerogpu (default: auto, or BIVDIFF_OFFLOAD)")
    parser.add_argument("--dtype", help="float16, bfloat16 or float32 (default: auto, or BIVDIFF_DTYPE)")


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
        ".mp4": write_mp4,
        ".gif": write_gif,
        ".zip": lambda path, frames, _, carry: write_png_zip(path, frames, carry),
    }
    if path.suffix.lower() not in writers:
        raise BIVDiffError(f"The output '{path.name}' must end in {', '.join(writers)}. Rename it.")
    if not path.parent.is_dir():
        raise BIVDiffError(f"The folder of the output, '{path.parent}', does not exist. Make it first.")
    if not os.access(path.parent, os.W_OK):
        raise BIVDiffError(f"The folder of the output, '{path.parent}', may not be written to. Choose another.")
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
