"""`run`: make a clip and write it."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from bivdiff.cli.arguments import as_path
from bivdiff.cli.filling import form_of, note_unread, targets_of
from bivdiff.cli.flags import add_force_flag, add_request_flags, add_source_flags, help_of
from bivdiff.cli.output import Progress, note
from bivdiff.cli.planning import checked_plan, manager_of
from bivdiff.errors import InputError, StoppedError
from bivdiff.fields import table
from bivdiff.media.film import SHAPES, FilmOptions
from bivdiff.media.targets import Targets
from bivdiff.media.writing import write_film
from bivdiff.settings import Settings
from bivdiff.studio.films import film_of
from bivdiff.studio.form import SourceForm, read_form, read_sound_of
from bivdiff.studio.outputs import output_files, report_of, slowed, write_outputs, writer_of
from bivdiff.types import GenerationRequest, GenerationResult, StepEvent

DEFAULT_OUTPUT = Path("out.mp4")


def add_run_command(commands: Any) -> None:
    """Add the command and its flags to the parser's commands."""
    run = commands.add_parser("run", help="regenerate a clip", description="Regenerate a clip under a new prompt.")
    run.add_argument("--video", required=True, type=as_path, help=help_of(table(SourceForm)["video"]))
    run.add_argument("--prompt", required=True, help=help_of(table(GenerationRequest)["prompt"]))
    run.add_argument("--output", type=as_path, help="where the clip goes: .mp4, .gif or .zip; the clips that show how "
                     "it was made go beside it (default: out.mp4, or the next free name)")  # fmt: skip
    run.add_argument("--film", type=as_path, help="write a film to post, too: frame by frame and bridged side by "
                     "side under captions, with the source's sound (.mp4)")  # fmt: skip
    run.add_argument("--film-shape", choices=SHAPES, default=FilmOptions.shape, help="of the film: 16:9, 1:1 or one "
                     "row (default: %(default)s)")  # fmt: skip
    run.add_argument("--film-seconds", type=float, default=FilmOptions.seconds, help="how long the clips are shown "
                     "side by side, at least (default: %(default)s)")  # fmt: skip
    run.add_argument("--film-speed", type=float, default=FilmOptions.speed, help="below 1 is slow motion, and silent "
                     "(default: %(default)s)")  # fmt: skip
    run.add_argument("--no-film-wipe", action="store_true", help="the film ends without a wipe between both clips")
    add_force_flag(run)
    add_source_flags(run)
    add_request_flags(run)
    run.set_defaults(carry_out=run_command)


def run_command(args: argparse.Namespace, settings: Settings) -> dict[str, Any]:
    """Make a clip and write it, its frame-wise and its control clips."""
    writer_of(args.output or DEFAULT_OUTPUT)
    film_options = _film_options(args)
    form = form_of(args)
    request, fps = read_form(form, note)
    note_unread(args, request)
    if slower := slowed(args.output or DEFAULT_OUTPUT, fps):
        note(slower)
    sound = read_sound_of(form.source, len(request.frames), fps)
    targets = targets_of(args)
    files, film_file = _target_files(args, request, targets)
    from bivdiff.bridge.pipeline import last, run

    manager = manager_of(settings)
    request, found = checked_plan(request, manager, args.fit_memory)
    result = last(_followed(run(request, manager)))
    files = {name: _settled(name, path, targets.at_last(path)) for name, path in files.items()}
    written: list[Path] = []
    try:
        carrying = write_outputs(files, result, fps, sound, written.append)
        if film_file is not None:
            heard = sound if film_options.speed == 1 else None
            film = film_of(result.request, result.framewise_frames, result.frames, fps, film_options, heard)
            files["film"] = _settled("film", film_file, targets.at_last(film_file))
            write_film(files["film"], film, carrying())
    except KeyboardInterrupt:
        whole = ", ".join(f"'{path}'" for path in written) or "None"
        raise StoppedError(f"Stopped while the files were written. Whole and there: {whole}.") from None
    paths = {name: str(path) for name, path in files.items()}
    return {**report_of(result), "estimate": found, "fps": fps, "paths": paths}


def _target_files(
    args: argparse.Namespace, request: GenerationRequest, targets: Targets
) -> tuple[dict[str, Path], Path | None]:
    """Where each file of a run goes, by what it is, and the film; found and tried before anything is computed.

    Raises:
        InputError: one cannot be written, or would destroy what is there.
    """
    film = None if args.film is None else targets.named(args.film)
    if args.output is None:
        output = _settled("result", DEFAULT_OUTPUT, targets.beside(DEFAULT_OUTPUT))
    else:
        output = targets.named(args.output)
    beside = {name: path for name, path in output_files(output, request).items() if name != "result"}
    free = {name: _settled(name, path, targets.beside(path)) for name, path in beside.items()}
    return {"result": output, **free}, film


def _settled(name: str, wanted: Path, free: Path) -> Path:
    """Where a file goes, said where that is not where it was wanted."""
    if free != wanted:
        note(f"'{wanted}' is taken and stays as it is: the {name} clip goes to '{free}'.")
    return free


def _film_options(args: argparse.Namespace) -> FilmOptions:
    """How the film is to look, found before anything is computed."""
    if args.film and args.film.suffix.lower() != ".mp4":
        raise InputError(f"The film '{args.film.name}' must end in .mp4. Rename it.")
    return FilmOptions(
        shape=args.film_shape, seconds=args.film_seconds, speed=args.film_speed, wipe=not args.no_film_wipe
    )


def _followed(events: Iterator[StepEvent | GenerationResult]) -> Iterator[StepEvent | GenerationResult]:
    """The events of a run as they come, shown on standard error."""
    with closing(Progress()) as progress:
        for event in events:
            if isinstance(event, StepEvent):
                progress.show(event.stage, event.message, event.step, event.total)
                if event.note:
                    note(event.note)
            yield event
