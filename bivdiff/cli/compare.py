"""`compare`: make a clip for each value of a setting."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bivdiff.cli.arguments import as_path
from bivdiff.cli.filling import controls_of, form_of, note_unread, targets_of, varied
from bivdiff.cli.flags import add_force_flag, add_request_flags, add_source_flags, changes_of, flag_of, help_of
from bivdiff.cli.output import Progress, note
from bivdiff.cli.planning import checked_plan, manager_of
from bivdiff.compare.axes import check_axes, read_values
from bivdiff.errors import BIVDiffError, CancelledError, InputError, StoppedError
from bivdiff.fields import table
from bivdiff.settings import Settings
from bivdiff.studio.form import SourceForm, read_form
from bivdiff.types import GenerationRequest, StepEvent

if TYPE_CHECKING:
    from bivdiff.compare.sweep import Cell, CellEvent, SweepResult


DEFAULT_RATIOS = "0,0.25,0.5,0.75,1"


def add_compare_command(commands: Any) -> None:
    """Add the command and its flags to the parser's commands."""
    compare = commands.add_parser(
        "compare", help="make a clip for each value of a setting, beside each other",
        description="Make a clip for each mixing ratio, or each value of one or two other settings, and score them.",
    )  # fmt: skip
    source = compare.add_mutually_exclusive_group(required=True)
    source.add_argument("--video", type=as_path, help=help_of(table(SourceForm)["video"]))
    source.add_argument("--scene", type=int, help="instead: a scene of the evaluation, whose true clip is known")
    compare.add_argument("--prompt", help=f"{help_of(table(GenerationRequest)['prompt'])}; a scene has its own")
    compare.add_argument("--output", type=as_path, required=True, metavar="DIR", help="folder for the clips, grid, "
                         "scores and page; made if need be. Nothing in it is written over")  # fmt: skip
    compare.add_argument("--mixing-ratios", metavar="R1,R2,...", help="ratios to compare (default: "
                         f"{DEFAULT_RATIOS}, unless --vary names something else)")  # fmt: skip
    compare.add_argument("--vary", action="append", default=[], metavar="FIELD=V1,V2,...", help="another setting to "
                         "compare, such as seed=1,2 or mixing_rule=linear,slerp; two settings make a grid")  # fmt: skip
    add_force_flag(compare)
    add_source_flags(compare, sound=False)
    add_request_flags(compare)
    compare.set_defaults(carry_out=compare_command)


def compare_command(args: argparse.Namespace, settings: Settings) -> dict[str, Any]:
    """Make a clip for each value of a setting, and write what shows and scores them."""
    from bivdiff.bridge.store import StageStore
    from bivdiff.compare.export import file_names
    from bivdiff.compare.sweep import last, result_of, sweep
    from bivdiff.compare.tables import report
    from bivdiff.toybox.truths import truth_of

    axes = _axes(args)
    request, truth, fps = _compared_source(args)
    check_axes(request, axes)
    note_unread(args, request)
    targets_of(args).folder(args.output, file_names(request.image_model, axes).values())
    manager = manager_of(settings)
    request, found = checked_plan(request, manager, args.fit_memory, axes)
    truth = truth_of(request) if truth is None else truth
    cells: list[Cell] = []
    try:
        result = last(_followed_cells(sweep(request, axes, manager, StageStore(settings), truth), cells))
    except (KeyboardInterrupt, BIVDiffError) as error:
        if not cells:
            raise
        stopped = result_of(request, axes, cells)
        _exported(args.output, stopped, fps)
        ready = f"The {len(cells)} of {stopped.size} clips that were ready are in '{args.output}'."
        if isinstance(error, KeyboardInterrupt):
            raise StoppedError(f"Stopped. {ready}") from None
        raise CancelledError(f"{error} {ready}") from None
    paths = {name: str(path) for name, path in _exported(args.output, result, fps).items()}
    return {**report(result), "estimate": found, "fps": fps, "paths": paths}


def _exported(folder: Path, result: SweepResult, fps: float) -> Mapping[str, Path]:
    """The files of a comparison, once they are written.

    Raises:
        StoppedError: it was interrupted meanwhile.
    """
    from bivdiff.compare.export import export

    try:
        return export(folder, result, fps)
    except KeyboardInterrupt:
        raise StoppedError(
            f"Stopped while the files were written. Those in '{folder}' are whole, and others are missing: call the "
            "same with --force to have them all."
        ) from None


def _followed_cells(
    events: Iterator[CellEvent | Cell | SweepResult], cells: list[Cell]
) -> Iterator[CellEvent | Cell | SweepResult]:
    """The events of a sweep as they come, shown on standard error; `cells` grows by those that are ready."""
    from bivdiff.compare.sweep import Cell

    with closing(Progress(stay=False)) as progress:
        for event in events:
            if isinstance(event, StepEvent):
                progress.show(f"{event.stage} {len(cells)}", event.message, event.step, event.total)
                if event.note:
                    note(event.note)
            elif isinstance(event, Cell):
                cells.append(event)
                reused = f", reused: {', '.join(event.reused)}" if event.reused else ""
                note(f"{event.label}: {event.seconds['total']:.1f} s{reused}")
            yield event


def _compared_source(args: argparse.Namespace) -> tuple[GenerationRequest, np.ndarray | None, float]:
    """What is to be made, the true clip where there is one, and the playback rate."""
    if args.scene is not None:
        from bivdiff.evaluate.evaluation import case_of
        from bivdiff.toybox.world import FPS

        _refuse_beside_a_scene(args)
        changes = {**changes_of(args), "controls": controls_of(args)}
        case = case_of(args.task, args.scene, args.family, **changes)
        return case.request, case.truth, FPS
    if args.prompt is None:
        raise InputError("There is no prompt. Say with --prompt what the new clip shows.")
    request, fps = read_form(form_of(args), note)
    return request, None, fps


def _refuse_beside_a_scene(args: argparse.Namespace) -> None:
    """Refuse what a scene of the evaluation has of its own.

    Raises:
        InputError: such a flag was given.
    """
    own = (
        "prompt", "num_frames", "size", "fps", "control_video", "turn_maps", "mask", "box", "color_key", "fit_memory",
    )  # fmt: skip
    given = [flag_of(name) for name in own if getattr(args, name)]
    if given:
        raise InputError(f"A scene has its own clip, prompt and masks, and {', '.join(given)} would change them. Leave "
                         "that out, or give a clip with --video.")  # fmt: skip


def _axes(args: argparse.Namespace) -> dict[str, list[Any]]:
    """The settings that are compared, each with its values."""
    axes: dict[str, list[Any]] = {}
    if args.mixing_ratios or not args.vary:
        axes["mixing_ratio"] = read_values("mixing_ratio", args.mixing_ratios or DEFAULT_RATIOS)
    return varied(args.vary, axes)
