"""What a paper takes of a comparison or a run: figure, caption, table and reference."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bivdiff.catalog.image_models import title_of
from bivdiff.catalog.tasks import TASKS
from bivdiff.compare.before import befores
from bivdiff.compare.choice import USUAL_FRAMES, FigureChoice
from bivdiff.compare.citation import BIBTEX
from bivdiff.compare.figures import trade_off
from bivdiff.compare.sweep import SweepResult, paper_cell
from bivdiff.errors import InputError
from bivdiff.fields import table
from bivdiff.media.slices import busiest_part
from bivdiff.media.vector import Format, Layout, Panel, Strip, rows_figure
from bivdiff.media.writing import replace_whole
from bivdiff.pixels.metrics import temporal_flicker
from bivdiff.spreadsheet import csv_of
from bivdiff.types import MAX_AXES, GenerationRequest
from bivdiff.version import __version__

KINDS: tuple[Format, ...] = ("pdf", "svg", "png")
FILES = {
    "figure_pdf": "figure.pdf", "figure_svg": "figure.svg", "figure_png": "figure.png", "caption": "caption.txt",
    "table": "table.tex", "scores": "figure.csv", "bibtex": "bivdiff.bib",
}  # fmt: skip
"""The files for a paper, by what they are."""

MOST_ROWS = 7  # of a figure, where nobody has chosen
ZOOMED = 0.32  # of the shorter side: what is enlarged, where nobody has chosen
MOST_FRAMES = 12
COLUMNS = {
    "excess_flicker": ("Flicker at rest", "{:.2f}", -1), "sharpness": ("Sharpness (frames = 1)", "{:.2f}", 1),
    "true_sharpness": ("Sharpness (truth = 1)", "{:.2f}", 1), "framewise_ssim": ("SSIM to frames", "{:.3f}", 1),
    "psnr": ("PSNR to truth", "{:.2f}", 1), "ssim": ("SSIM to truth", "{:.3f}", 1),
    "known_psnr": ("PSNR outside mask", "{:.2f}", 1), "warp_error": ("Warp error ($\\times 10^3$)", "{:.3f}", -1),
}  # fmt: skip
"""Columns of the table: what they are called, how a number is written, and whether more (1) or less (-1) is better."""

CAPTIONED = (
    "mixing_ratio", "frame_prior", "mixing_rule", "start_level", "num_inference_steps", "sampler", "guidance_scale",
    "guided_share", "frame_attention", "noise_sharing", "num_inversion_steps", "inversion_guidance_scale",
    "num_smoothing_steps", "smoothing_guidance_scale", "window", "video_prompt", "inversion_prompt", "negative_prompt",
)  # fmt: skip
"""The settings that a caption names."""


@dataclass(frozen=True, eq=False)
class PaperRow:
    """A clip that a figure or a table may show.

    Attributes:
        label: what it is called.
        frames: uint8 `(F, H, W, 3)`.
        scores: by the names of `scores.TITLES`; None for what has none, as the source, which is in no table.
        heat: where it flickers at rest, float `(H, W)`, if that was measured.
        bridged: whether it is a result, of which the best is marked.
        usual: whether it is shown where nobody has chosen.
    """

    label: str
    frames: np.ndarray
    scores: Mapping[str, float | None] | None = None
    heat: np.ndarray | None = None
    bridged: bool = False
    usual: bool = True


@dataclass(frozen=True, eq=False)
class Material:
    """All that there is for a paper: the clips, what they were made with, and the panels of a chart."""

    rows: Sequence[PaperRow]
    settings: Mapping[str, Any]
    panels: Sequence[Panel] = ()


def material_of(result: SweepResult) -> Material:
    """What a comparison has for a paper: the source, the frames before the bridge, and its clips."""
    marked = {result.recommended.index, paper_cell(result.request, result.cells), result.cells[0].index,
              result.cells[-1].index}  # fmt: skip
    before = befores(result.cells)
    few = 1 + len(before) + len(result.cells) <= MOST_ROWS
    rows = [
        PaperRow("source", result.request.frames),
        *(PaperRow(each.label.lower(), each.frames, each.scores, each.heat, usual=few or not number)
          for number, each in enumerate(before)),
        *(PaperRow(cell.label, cell.frames, cell.scores, cell.heat, bridged=True, usual=few or cell.index in marked)
          for cell in result.cells),
    ]  # fmt: skip
    if before[0].label.startswith("Your"):  # they are the source
        del rows[0]
    settings = {**result.request.settings(), "axes": {name: list(values) for name, values in result.axes.items()}}
    return Material(rows, settings, trade_off(result))


def write_paper(folder: Path, material: Material, choice: FigureChoice | None = None) -> dict[str, Path]:
    """Write what a paper takes into a folder that is there.

    Args:
        folder: where to; files of the same names are replaced.
        material: what there is.
        choice: what the figure shows.

    Returns:
        The files by the keys of `FILES`.

    Raises:
        InputError: the choice cannot be met, or a file not be written.
    """
    choice = choice or FigureChoice()
    rows, layout = _chosen(material, choice)
    strips = [Strip(row.label, row.frames) for row in rows]
    contents = {f"figure_{kind}": content for kind, content in rows_figure(strips, layout, KINDS).items()}
    texts = {"caption": caption(material, rows, layout), "table": latex_table(material)}
    texts |= {"scores": scores_of_rows(material), "bibtex": BIBTEX}
    contents |= {name: text.encode() for name, text in texts.items()}
    paths = {name: folder / file for name, file in FILES.items()}
    for name, path in paths.items():
        with replace_whole(path) as temporary:
            temporary.write_bytes(contents[name])
    return paths


def _chosen(material: Material, choice: FigureChoice) -> tuple[list[PaperRow], Layout]:
    """The rows that are shown, and what of them."""
    labels = [row.label for row in material.rows]
    if unknown := [label for label in choice.rows if label not in labels]:
        raise InputError(f"There is no clip '{unknown[0]}'. Choose from: {'; '.join(labels)}.")
    rows = [row for row in material.rows if (row.label in choice.rows if choice.rows else row.usual)]
    count, height, width = material.rows[0].frames.shape[:3]
    zoom = _zoom(material, choice.zoom, (height, width))
    panels = material.panels if choice.chart and len(material.panels) <= MAX_AXES else ()
    return rows, Layout(_frames(choice.frames, count), zoom, _column(choice.column, zoom, width), panels)


def _frames(text: str, count: int) -> list[int]:
    if not text.strip():
        return sorted({round(at) for at in np.linspace(0, count - 1, min(USUAL_FRAMES, count))})
    numbers = _numbers(text, "frames", "numbers between commas, such as 1, 3, 5")
    if not 1 <= len(numbers) <= MOST_FRAMES or any(not 1 <= number <= count for number in numbers):
        raise InputError(
            f"A figure shows from 1 to {MOST_FRAMES} frames, and the clips have frames 1 to {count}. '{text:.40}' does "
            "not fit: change it, or leave it empty."
        )
    return [number - 1 for number in numbers]


def _zoom(material: Material, text: str, size: tuple[int, int]) -> tuple[int, int, int, int] | None:
    height, width = size
    if not text.strip():
        return None
    if text.strip().lower() == "auto":
        return busiest_part(_heat(material), max(8, round(ZOOMED * min(size))))
    numbers = _numbers(text, "zoom", "left, top and side in pixels, such as 40, 20, 32")
    if (
        len(numbers) != 3
        or min(numbers) < 0
        or numbers[2] < 2
        or any(start + numbers[2] > side for start, side in zip(numbers, (width, height), strict=False))
    ):
        raise InputError(
            f"'{text:.40}' is no part of a picture of {width}x{height}. Write left, top and side in pixels, such as "
            f"{width // 4}, {height // 4}, {min(size) // 3}; or auto."
        )
    left, top, side = numbers
    return left, top, side, side


def _heat(material: Material) -> np.ndarray:
    """Where the first clip flickers that is no source; its changes where that was not measured."""
    row = next((row for row in material.rows if row.scores is not None), material.rows[0])
    if row.heat is not None:
        return row.heat
    if math.isnan(temporal_flicker(row.frames)):
        return np.zeros(row.frames.shape[1:3])
    return np.abs(np.diff(row.frames.astype(np.int16), axis=0)).mean((0, 3))


def _column(text: str, zoom: tuple[int, int, int, int] | None, width: int) -> int | None:
    if not text.strip():
        return None
    if text.strip().lower() == "auto":
        return zoom[0] + zoom[2] // 2 if zoom else width // 2
    numbers = _numbers(text, "column", "one number, such as 64")
    if len(numbers) != 1 or not 1 <= numbers[0] <= width:
        raise InputError(f"The column must be one number from 1 to {width}, not '{text:.40}'; or auto.")
    return numbers[0] - 1


def _numbers(text: str, name: str, wanted: str) -> list[int]:
    try:
        return [int(part) for part in re.split(r"[,\s]+", text.strip()) if part]
    except ValueError:
        raise InputError(f"'{text:.40}' is not a valid value for {name}. Use {wanted}.") from None


def caption(material: Material, rows: Sequence[PaperRow], layout: Layout) -> str:
    """What stands below the figure: what is shown, and every setting that decides it, the seed among them."""
    settings = material.settings
    count, height, width = material.rows[0].frames.shape[:3]
    words = settings.get("prompt") or settings.get("video_prompt") or ""
    shown = [f"Frames {', '.join(str(number + 1) for number in layout.frames)} of {count} ({width}x{height} pixels)"]
    if layout.zoom is not None:
        left, top, side, _ = layout.zoom
        shown.append(f"the marked part ({side}x{side} pixels at {left}, {top}) enlarged")
    if layout.column is not None:
        shown.append(f"column {layout.column + 1} of every frame from left to right, where flicker shows as stripes")
    sentences = [
        f"{TASKS[settings['task']].title}, {title_of(settings['image_model'])}" + (f": “{words}”." if words else "."),
        f"{'; '.join(shown)}.", f"Rows: {', '.join(row.label for row in rows)}.",
        f"Video model {settings['video_model']}, seed {settings['seed']}, {_settings_words(settings)}.",
        f"Made with BIVDiff Studio {__version__}.",
    ]  # fmt: skip
    return "\n".join(sentences) + "\n"


def _settings_words(settings: Mapping[str, Any]) -> str:
    """The settings of the bridge and of the stages as the page names them, but for those that are compared or empty."""
    compared, entries = settings.get("axes") or {}, table(GenerationRequest)
    said = [f"{control['control_type']} at {_short(control['conditioning_scale'])}" for control in settings["controls"]]
    for name in CAPTIONED:
        value, entry = settings.get(name), entries[name]
        if name not in compared and value not in (None, "", "{prompt}"):
            said.append(f"{entry.label.lower()} {(entry.choices or {}).get(value) or _short(value)}")
    return ", ".join(said)


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def scores_of_rows(material: Material) -> str:
    """All scores of the rows that have some, as CSV: what could not be measured is empty."""
    rows = [row for row in material.rows if row.scores is not None]
    names = list(dict.fromkeys(name for row in rows for name in row.scores or ()))
    return csv_of([["clip", *names], *([row.label, *(_number(row, name) for name in names)] for row in rows)])


def latex_table(material: Material) -> str:
    """The scores as a table for LaTeX's booktabs, the frames before the bridge first, the best of each column bold."""
    rows = [row for row in material.rows if row.scores is not None]
    names = [name for name in COLUMNS if any(_number(row, name) is not None for row in rows)]
    if "excess_flicker" in names:
        names = [name for name in names if name != "warp_error"]
    best = {name: _best(rows, name) for name in names}
    arrows = {1: "$\\uparrow$", -1: "$\\downarrow$"}
    head = " & ".join(["", *(f"{COLUMNS[name][0]} {arrows[COLUMNS[name][2]]}" for name in names)])
    lines = []
    for row in rows:
        cells = [latex(row.label)]
        for name in names:
            number = _number(row, name)
            text = "--" if number is None else COLUMNS[name][1].format(number)
            cells.append(f"\\textbf{{{text}}}" if row.bridged and number is not None and number == best[name] else text)
        lines.append(" & ".join(cells) + " \\\\")
    first = [line for line, row in zip(lines, rows, strict=True) if not row.bridged]
    bridged = [line for line, row in zip(lines, rows, strict=True) if row.bridged]
    body = [*first, "\\midrule", *bridged] if first and bridged else [*first, *bridged]
    return "\n".join([
        "% \\usepackage{booktabs}; flicker at rest in levels of 255 beyond the motion",
        f"\\begin{{tabular}}{{l{'r' * len(names)}}}", "\\toprule", f"{head} \\\\", "\\midrule", *body, "\\bottomrule",
        "\\end{tabular}", "",
    ])  # fmt: skip


def _best(rows: Sequence[PaperRow], name: str) -> float | None:
    numbers = [number for row in rows if row.bridged and (number := _number(row, name)) is not None]
    return max(numbers, key=lambda number: COLUMNS[name][2] * number) if len(numbers) > 1 else None


def _number(row: PaperRow, name: str) -> float | None:
    value = (row.scores or {}).get(name)
    return None if value is None or not math.isfinite(value) else value


_SPECIAL = {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
}  # fmt: skip


def latex(text: str) -> str:
    """Text as LaTeX takes it."""
    return "".join(_SPECIAL.get(letter, letter) for letter in text)
