"""A comparison as files: for a paper, for a talk, and for somebody without the app."""

from __future__ import annotations

import json
import re
import tempfile
import zipfile
from collections.abc import Iterable
from pathlib import Path

from bivdiff.compare.figures import contact_sheet, labelled_grid, shared_framewise, trade_off_svg
from bivdiff.compare.page import write_page
from bivdiff.compare.sweep import SweepResult, paper_cell
from bivdiff.compare.tables import report, scores_csv
from bivdiff.errors import InputError
from bivdiff.media.carried import carry, pack, settings_of
from bivdiff.media.writing import MAX_GIF_FPS, ZIP_DATE, write_gif, write_mp4, write_png


def export(folder: Path, result: SweepResult, fps: float) -> dict[str, Path]:
    """Write a comparison into a folder, which is made if need be; files of the same names are replaced.

    Args:
        folder: where to.
        result: what was compared.
        fps: playback rate.

    Returns:
        The files by what they are: `grid`, `gif`, `contact_sheet`, `scores_csv`, `scores_json`, `plot`, `page`,
        `framewise` where all cells were made of the same frames, `cell 1`, `cell 2` and so on, and `zip`, which holds
        all the others.

    Raises:
        InputError: the folder cannot be written.
    """
    try:
        return _export(folder, result, fps)
    except OSError as error:
        raise _refused(folder, error) from error


def check_folder(folder: Path) -> None:
    """Make the folder of an export and write into it, before hours are spent on what it is to hold.

    Raises:
        InputError: that is not possible.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise _refused(folder, error) from error


def _refused(folder: Path, error: OSError) -> InputError:
    return InputError(
        f"The comparison could not be written to '{folder}': {error.strerror or 'the system refused'}. "
        "Choose a folder that may be written to and has free space."
    )


def _export(folder: Path, result: SweepResult, fps: float) -> dict[str, Path]:
    (folder / "cells").mkdir(parents=True, exist_ok=True)
    paths = {
        "grid": folder / "grid.mp4", "gif": folder / "grid.gif", "contact_sheet": folder / "contact-sheet.png",
        "scores_csv": folder / "scores.csv", "scores_json": folder / "scores.json", "plot": folder / "trade-off.svg",
    }  # fmt: skip
    frames, source = labelled_grid(result), pack(result.request)  # no axis changes the source, so all cells share it
    whole = carry(settings_of(result.request, fps, result.axes), source)
    write_mp4(paths["grid"], frames, fps, whole)
    write_gif(paths["gif"], frames, min(fps, MAX_GIF_FPS), whole)
    write_png(paths["contact_sheet"], contact_sheet(result), whole)
    paths["scores_csv"].write_text(scores_csv(result), "utf-8")
    paths["scores_json"].write_text(json.dumps({"fps": fps, **report(result)}, indent=2), "utf-8")
    paths["plot"].write_text(trade_off_svg(result), "utf-8")
    framewise = shared_framewise(result.cells)
    if framewise is not None:
        paths["framewise"] = folder / "cells" / "frame-wise.mp4"
        write_mp4(paths["framewise"], framewise, fps)
    clips = []
    for cell in result.cells:
        clips.append(folder / "cells" / f"{cell.index + 1:02}-{_file_name(cell.label)}.mp4")
        write_mp4(clips[-1], cell.frames, fps, carry(settings_of(cell.request, fps), source))
        paths[f"cell {cell.index + 1}"] = clips[-1]
    paths["page"] = write_page(
        folder, result.cells, fps, recommended=result.recommended,
        paper=paper_cell(result.request, result.cells), clips=clips, plot=trade_off_svg(result),
        settings=result.request.settings(),
    )  # fmt: skip
    paths["zip"] = folder / "compare.zip"
    _write_zip(paths["zip"], folder, [path for name, path in paths.items() if name != "zip"])
    return paths


def _file_name(label: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "-", label.lower()).strip("-.")


def _write_zip(path: Path, folder: Path, files: Iterable[Path]) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in files:
            entry = zipfile.ZipInfo(file.relative_to(folder).as_posix(), date_time=ZIP_DATE)
            archive.writestr(entry, file.read_bytes(), zipfile.ZIP_DEFLATED)
