"""`run`: make a clip and write it."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from bivdiff.cli.filling import form_of
from bivdiff.cli.flags import add_request_flags, add_source_flags
from bivdiff.cli.output import Progress, note
from bivdiff.cli.planning import checked_plan, manager_of
from bivdiff.errors import InputError
from bivdiff.media.carried import carry_of
from bivdiff.media.film import SHAPES, FilmOptions
from bivdiff.media.reading import read_sound
from bivdiff.media.writing import write_film
from bivdiff.settings import Settings
from bivdiff.studio.films import film_of
from bivdiff.studio.form import read_form
from bivdiff.studio.outputs import output_files, report_of, write_outputs, writer_of
from bivdiff.types import GenerationResult, StepEvent


def add_run_command(commands: Any) -> None:
    """Add the command and its flags to the parser's commands."""
    run = commands.add_parser("run", help="regenerate a clip", description="Regenerate a clip under a new prompt.")
    run.add_argument("--video", required=True, type=Path, help="source clip: any video, GIF or picture")
    run.add_argument("--prompt", required=True, help="what the new clip shows")
    run.add_argument("--output", type=Path, default=Path("out.mp4"), help="where the clip goes: .mp4, .gif or .zip")
    run.add_argument("--film", type=Path, help="write a film to post, too: source, frame by frame and bridged side by "
                     "side under captions, with the source's sound (.mp4)")  # fmt: skip
    run.add_argument("--film-shape", choices=SHAPES, default=FilmOptions.shape, help="of the film: 16:9, 1:1 or one "
                     "row (default: %(default)s)")  # fmt: skip
    run.add_argument("--film-seconds", type=float, default=FilmOptions.seconds, help="how long the clips are shown "
                     "side by side, at least (default: %(default)s)")  # fmt: skip
    run.add_argument("--film-speed", type=float, default=FilmOptions.speed, help="below 1 is slow motion, and silent "
                     "(default: %(default)s)")  # fmt: skip
    run.add_argument("--no-film-wipe", action="store_true", help="the film ends without a wipe between both clips")
    add_source_flags(run)
    add_request_flags(run)
    run.set_defaults(carry_out=run_command)


def run_command(args: argparse.Namespace, settings: Settings) -> dict[str, Any]:
    """Make a clip and write it, its frame-wise and its control clips."""
    writer_of(args.output)
    film_options = _film_options(args)
    request, fps = read_form(form_of(args))
    files = output_files(args.output, request)
    from bivdiff.bridge.pipeline import last, run

    manager = manager_of(settings)
    request, found = checked_plan(request, manager, args.fit_memory)
    for path in filter(None, (args.output, args.film)):
        _make_folder(path.parent)
    result = last(_followed(run(request, manager)))
    write_outputs(files, result, fps)
    if args.film:
        lasts = len(request.frames) / fps
        sound = read_sound(args.video, start=args.start or 0.0, seconds=lasts) if film_options.speed == 1 else None
        film = film_of(result.request, result.framewise_frames, result.frames, fps, film_options, sound)
        write_film(args.film, film, carry_of(replace(request, seed=result.seed), fps))
        files["film"] = args.film
    paths = {name: str(path) for name, path in files.items()}
    return {**report_of(result), "estimate": found, "fps": fps, "paths": paths}


def _film_options(args: argparse.Namespace) -> FilmOptions:
    """How the film is to look, found before anything is computed."""
    if args.film and args.film.suffix.lower() != ".mp4":
        raise InputError(f"The film '{args.film.name}' must end in .mp4. Rename it.")
    return FilmOptions(
        shape=args.film_shape, seconds=args.film_seconds, speed=args.film_speed, wipe=not args.no_film_wipe
    )


def _make_folder(folder: Path) -> None:
    """Make the folder of the output, before minutes are spent on what it is to hold.

    Raises:
        InputError: it cannot be made, or may not be written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = error.strerror or "the system refused"
        raise InputError(
            f"The folder of the output, '{folder}', could not be made: {reason}. Choose another."
        ) from error
    if not os.access(folder, os.W_OK):
        raise InputError(f"The folder of the output, '{folder}', may not be written to. Choose another.")


def _followed(events: Iterator[StepEvent | GenerationResult]) -> Iterator[StepEvent | GenerationResult]:
    """The events of a run as they come, shown on standard error."""
    with closing(Progress()) as progress:
        for event in events:
            if isinstance(event, StepEvent):
                progress.show(event.stage, event.message, event.step, event.total)
                if event.note:
                    note(event.note)
            yield event
