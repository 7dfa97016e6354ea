"""A comparison as files: for a paper, for a talk, and for somebody without the app."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bivdiff.compare.axes import before_names, before_places, framewise_file, label_of, values_of_cells
from bivdiff.compare.before import befores
from bivdiff.compare.figures import contact_sheet, labelled_grid, trade_off
from bivdiff.compare.page import write_page
from bivdiff.compare.paper import FILES, material_of, write_paper
from bivdiff.compare.sweep import SweepResult, paper_cell
from bivdiff.compare.tables import report, scores_csv
from bivdiff.errors import InputError
from bivdiff.media.carried import carry, pack, settings_of
from bivdiff.media.vector import chart, on_any_ground
from bivdiff.media.writing import MAX_GIF_FPS, replace_whole, write_gif, write_mp4, write_png, write_zip


def export(folder: Path, result: SweepResult, fps: float) -> dict[str, Path]:
    """Write a comparison into a folder, which is made if need be; files of the same names are replaced.

    Args:
        folder: where to.
        result: what was compared.
        fps: playback rate.

    Returns:
        The files by what they are: `grid`, `gif`, `contact_sheet`, `scores_csv`, `scores_json`, `plot` and `plot_pdf`,
        `page`, those of `paper.FILES`, `framewise`, `framewise 2` and so on, the frames before the bridge, `cell 1`,
        `cell 2` and so on, and `zip`, which holds all the others.

    Raises:
        InputError: the folder cannot be written.
    """
    try:
        return _export(folder, result, fps)
    except OSError as error:
        raise _refused(folder, error) from error


def file_names(image_model: str, axes: Mapping[str, Sequence[Any]]) -> dict[str, str]:
    """The files of a whole comparison of these settings, by what they are, as paths in its folder; see `export`."""
    before = {
        framewise_file(place): f"cells/00-{_file_name(name)}.mp4"
        for place, name in enumerate(before_names(image_model, axes))
    }
    made = {
        f"cell {number}": f"cells/{number:02}-{_file_name(label_of(values))}.mp4"
        for number, values in enumerate(values_of_cells(axes), 1)
    }
    return {
        "grid": "grid.mp4", "gif": "grid.gif", "contact_sheet": "contact-sheet.png", "scores_csv": "scores.csv",
        "scores_json": "scores.json", "plot": "trade-off.svg", "plot_pdf": "trade-off.pdf",
        **{name: f"paper/{file}" for name, file in FILES.items()}, **before, **made, "page": "index.html",
        "zip": "compare.zip",
    }  # fmt: skip


def _refused(folder: Path, error: OSError) -> InputError:
    return InputError(
        f"The comparison could not be written to '{folder}': {error.strerror or 'the system refused'}. "
        "Choose a folder that may be written to and has free space."
    )


def _export(folder: Path, result: SweepResult, fps: float) -> dict[str, Path]:
    for name in ("cells", "paper"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    names, places = file_names(result.request.image_model, result.axes), before_places(result.axes)
    before = {framewise_file(places[each.cell.index]): each for each in befores(result.cells)}
    made = {f"cell {cell.index + 1}": cell for cell in result.cells}
    paths = {
        name: folder / file for name, file in names.items()
        if name in before or name in made or not name.startswith(("framewise", "cell "))
    }  # fmt: skip
    frames, source = labelled_grid(result), pack(result.request)  # no axis changes the source, so all cells share it
    whole = carry(settings_of(result.request, fps, result.axes), source)
    write_mp4(paths["grid"], frames, fps, whole)
    write_gif(paths["gif"], frames, min(fps, MAX_GIF_FPS), whole)
    write_png(paths["contact_sheet"], contact_sheet(result), whole)
    panels = trade_off(result)
    plot = chart(panels, "svg")
    _write(paths["scores_csv"], scores_csv(result).encode())
    _write(paths["scores_json"], json.dumps({"fps": fps, **report(result)}, indent=2).encode())
    _write(paths["plot"], plot)
    _write(paths["plot_pdf"], chart(panels, "pdf"))
    write_paper(paths["caption"].parent, material_of(result))
    for name, each in before.items():
        write_mp4(paths[name], each.frames, fps)
    for name, cell in made.items():
        write_mp4(paths[name], cell.frames, fps, carry(settings_of(cell.request, fps), source, "bridged"))
    write_page(
        folder, result.cells, fps, recommended=result.recommended, paper=paper_cell(result.request, result.cells),
        clips=[paths[name] for name in made], plot=on_any_ground(plot), settings=result.request.settings(),
    )  # fmt: skip
    files = [path for name, path in paths.items() if name != "zip"]
    write_zip(paths["zip"], {file.relative_to(folder).as_posix(): file for file in files})
    return paths


def _write(path: Path, content: bytes) -> None:
    with replace_whole(path) as temporary:
        temporary.write_bytes(content)


def _file_name(label: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "-", label.lower()).strip("-.")
