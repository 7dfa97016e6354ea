"""A comparison as files: for a paper, for a talk, and for somebody without the app."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from bivdiff.compare.axes import label_of
from bivdiff.compare.figures import contact_sheet, labelled_grid, shared_framewise, trade_off_svg
from bivdiff.compare.page import write_page
from bivdiff.compare.sweep import SweepResult, paper_cell
from bivdiff.compare.tables import report, scores_csv
from bivdiff.errors import InputError
from bivdiff.media.carried import carry, pack, settings_of
from bivdiff.media.writing import MAX_GIF_FPS, ZIP_DATE, replace_whole, write_gif, write_mp4, write_png


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


def file_names(axes: Mapping[str, Sequence[Any]]) -> dict[str, str]:
    """The files of a comparison of these settings, by what they are, as paths in its folder; see `export`."""
    cells = (label_of(dict(zip(axes, values, strict=True))) for values in product(*axes.values()))
    return {
        "grid": "grid.mp4", "gif": "grid.gif", "contact_sheet": "contact-sheet.png", "scores_csv": "scores.csv",
        "scores_json": "scores.json", "plot": "trade-off.svg", "framewise": "cells/frame-wise.mp4",
        **{f"cell {number}": f"cells/{number:02}-{_file_name(label)}.mp4" for number, label in enumerate(cells, 1)},
        "page": "index.html", "zip": "compare.zip",
    }  # fmt: skip


def _refused(folder: Path, error: OSError) -> InputError:
    return InputError(
        f"The comparison could not be written to '{folder}': {error.strerror or 'the system refused'}. "
        "Choose a folder that may be written to and has free space."
    )


def _export(folder: Path, result: SweepResult, fps: float) -> dict[str, Path]:
    (folder / "cells").mkdir(parents=True, exist_ok=True)
    framewise = shared_framewise(result.cells)
    made = {f"cell {cell.index + 1}": cell for cell in result.cells}
    left_out = set() if framewise is not None else {"framewise"}
    paths = {
        name: folder / file for name, file in file_names(result.axes).items()
        if name not in left_out and (name in made or not name.startswith("cell "))
    }  # fmt: skip
    frames, source = labelled_grid(result), pack(result.request)  # no axis changes the source, so all cells share it
    whole = carry(settings_of(result.request, fps, result.axes), source)
    write_mp4(paths["grid"], frames, fps, whole)
    write_gif(paths["gif"], frames, min(fps, MAX_GIF_FPS), whole)
    write_png(paths["contact_sheet"], contact_sheet(result), whole)
    plot = trade_off_svg(result)
    _write_text(paths["scores_csv"], scores_csv(result))
    _write_text(paths["scores_json"], json.dumps({"fps": fps, **report(result)}, indent=2))
    _write_text(paths["plot"], plot)
    if framewise is not None:
        write_mp4(paths["framewise"], framewise, fps)
    for name, cell in made.items():
        write_mp4(paths[name], cell.frames, fps, carry(settings_of(cell.request, fps), source))
    write_page(
        folder, result.cells, fps, recommended=result.recommended, paper=paper_cell(result.request, result.cells),
        clips=[paths[name] for name in made], plot=plot, settings=result.request.settings(),
    )  # fmt: skip
    _write_zip(paths["zip"], folder, [path for name, path in paths.items() if name != "zip"])
    return paths


def _write_text(path: Path, text: str) -> None:
    with replace_whole(path) as temporary:
        temporary.write_text(text, "utf-8")


def _file_name(label: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "-", label.lower()).strip("-.")


def _write_zip(path: Path, folder: Path, files: Iterable[Path]) -> None:
    with replace_whole(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in files:
            entry = zipfile.ZipInfo(file.relative_to(folder).as_posix(), date_time=ZIP_DATE)
            archive.writestr(entry, file.read_bytes(), zipfile.ZIP_DEFLATED)
