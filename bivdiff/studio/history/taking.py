"""What one takes of a run that is done: its clips, a film, and what a paper shows of it."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from bivdiff.late import importing
from bivdiff.media import carried
from bivdiff.media.film import FilmOptions
from bivdiff.media.reading import read_clip
from bivdiff.media.writing import write_film, write_png, write_zip
from bivdiff.studio.films import film_name, film_of
from bivdiff.studio.history.files import packed_pictures
from bivdiff.studio.history.records import Run
from bivdiff.studio.history.runs import Runs
from bivdiff.types import GenerationRequest

if TYPE_CHECKING:
    from bivdiff.compare.choice import FigureChoice
    from bivdiff.compare.sweep import SweepResult


class Pair(NamedTuple):
    """The two clips of a run.

    Attributes:
        request: what was asked.
        framewise, bridged: the frames before the bridge, and the result, uint8 `(F, H, W, 3)`.
        levels: flicker at rest of the result and of the frames as it was measured before they were written, if it was.
    """

    request: GenerationRequest
    framewise: np.ndarray
    bridged: np.ndarray
    levels: tuple[float, float] | None


def pair(runs: Runs, run: Run) -> Pair:
    """The two clips of a run; of a comparison the recommended one's.

    Raises:
        InputError: they cannot be read.
    """
    if run.kind == "comparison":
        best = comparison(runs, run).best
        both = best.scores.get("excess_flicker"), best.framewise_scores.get("excess_flicker")
        return Pair(best.request, best.framewise_frames, best.frames, _levels(*both))
    request, _ = runs.job(run.id, run.owner)
    clips = (read_clip(run.files[name], num_frames=len(request.frames)) for name in ("framewise", "bridged"))
    framewise, bridged = (clip.frames for clip in clips)
    both = run.scores.get("excess_flicker"), run.scores.get("framewise_excess_flicker")
    return Pair(request, framewise, bridged, _levels(*both))


def comparison(runs: Runs, run: Run) -> SweepResult:
    """A comparison read back from its files, see `stored.read_comparison`.

    Raises:
        InputError: they are not all there.
    """
    with importing():
        from bivdiff.compare.stored import read_comparison

    request, _ = runs.job(run.id, run.owner)
    count = len(request.frames)
    return read_comparison(
        request, run.settings["axes"], run.files, lambda path: read_clip(path, num_frames=count).frames
    )


def film(runs: Runs, run_id: str, owner: str, options: FilmOptions) -> Path:
    """The film of a run, made when it is first asked for: it takes seconds, and few runs are posted.

    That of a comparison is of its recommended clip.

    Args:
        runs: the history.
        run_id: a run that is done.
        owner: who asks.
        options: how it looks; each look has a file of its own.

    Raises:
        InputError: the run is not there or not the owner's, has no result, or the film cannot be written.
    """
    run = runs.with_result(run_id, owner, "A film")
    path = runs.folder(run_id) / film_name(options)
    if not path.is_file():
        request, framewise, bridged, levels = pair(runs, run)
        with runs.adding(run_id, path.name) as folder:
            carry = carried.carry(run.settings, packed_pictures(folder))
            sound = runs.sound(run_id, owner) if options.speed == 1 else None
            write_film(path, film_of(request, framewise, bridged, run.fps, options, sound, levels), carry)
    return path


def contact_sheet(runs: Runs, run_id: str, owner: str) -> Path:
    """The clips of a run frame by frame in one picture, made when it is first asked for; a comparison has its own.

    Args:
        runs: the history.
        run_id: a run that is done.
        owner: who asks.

    Raises:
        InputError: the run is not there or not the owner's, has no result, or the picture cannot be written.
    """
    with importing():
        from bivdiff.compare.axes import clip_names
        from bivdiff.compare.figures import sheet_of_rows

    run = runs.with_result(run_id, owner, "A contact sheet")
    if "contact_sheet" in run.files:
        return run.files["contact_sheet"]
    path = runs.folder(run_id) / "contact-sheet.png"
    if not path.is_file():
        request, framewise, bridged, _ = pair(runs, run)
        names = clip_names(request.image_model, request.mixing_ratio)
        clips = (request.frames, framewise, bridged)[-len(names) :]
        sheet = sheet_of_rows(list(zip(names, clips, strict=True)))
        with runs.adding(run_id, path.name) as folder:
            write_png(path, sheet, carried.carry(run.settings, packed_pictures(folder)))
    return path


def paper(runs: Runs, run_id: str, owner: str, choice: FigureChoice) -> Path:
    """What a paper takes of a run or a comparison: figure, caption, table and reference, in a zip.

    Args:
        runs: the history.
        run_id: a run that is done.
        owner: who asks.
        choice: what the figure shows.

    Raises:
        InputError: the run is not there or not the owner's, has no result, the choice cannot be met, or the files
            cannot be written.
    """
    with importing():
        from bivdiff.compare.paper import material_of, write_paper
        from bivdiff.studio.papers import material_of_run

    run = runs.with_result(run_id, owner, "A figure")
    if run.kind == "comparison":
        material = material_of(comparison(runs, run))
    else:
        request, framewise, bridged, _ = pair(runs, run)
        material = material_of_run(request, run.settings, run.scores, framewise, bridged)
    with runs.adding(run_id) as folder, tempfile.TemporaryDirectory(dir=folder) as place:
        path, written = folder / "paper.zip", write_paper(Path(place), material, choice)
        write_zip(path, {file.name: file for file in written.values()})
    return path


def _levels(bridged: float | None, framewise: float | None) -> tuple[float, float] | None:
    return None if bridged is None or framewise is None else (bridged, framewise)
