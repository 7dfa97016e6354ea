"""A comparison as files: for a paper, for a talk, and for somebody without the app."""

from __future__ import annotations

import csv
import io
import json
import math
import re
import tempfile
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from itertools import cycle
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from bivdiff.compare.axes import AXES, label_of, say
from bivdiff.compare.player import player_script, player_style
from bivdiff.compare.scores import RULE, SHORT_TITLES, TITLES, Recommendation
from bivdiff.compare.sweep import Cell, SweepResult, paper_cell
from bivdiff.errors import InputError
from bivdiff.media.carried import carry_of
from bivdiff.media.sheets import fits_sprite_sheet, sprite_sheet
from bivdiff.media.writing import MAX_GIF_FPS, ZIP_DATE, write_gif, write_mp4, write_png

LOSSLESS_PIXELS = 32_000_000  # of all clips of a page; beyond them lossless pictures would make it too heavy to send
QUALITY = 95
GAP = 4  # pixels between pictures
SMALLEST_TEXT = 9
PAPER_WHITE = (250, 250, 250)
INK = (24, 24, 27)
MUTED = (82, 82, 91)


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
    frames, carry = labelled_grid(result), carry_of(result.request, fps, result.axes)
    write_mp4(paths["grid"], frames, fps, carry)
    write_gif(paths["gif"], frames, min(fps, MAX_GIF_FPS), carry)
    write_png(paths["contact_sheet"], contact_sheet(result), carry)
    paths["scores_csv"].write_text(scores_csv(result), "utf-8")
    paths["scores_json"].write_text(json.dumps({"fps": fps, **report(result)}, indent=2), "utf-8")
    paths["plot"].write_text(trade_off_svg(result), "utf-8")
    framewise = _shared_framewise(result.cells)
    if framewise is not None:
        paths["framewise"] = folder / "cells" / "frame-wise.mp4"
        write_mp4(paths["framewise"], framewise, fps)
    clips = []
    for cell in result.cells:
        clips.append(folder / "cells" / f"{cell.index + 1:02}-{_file_name(cell.label)}.mp4")
        write_mp4(clips[-1], cell.frames, fps, carry_of(cell.request, fps))
        paths[f"cell {cell.index + 1}"] = clips[-1]
    paths["page"] = write_page(
        folder, result.cells, fps, recommended=result.recommended,
        paper=paper_cell(result.request, result.cells), clips=clips, plot=trade_off_svg(result),
        settings=result.request.settings(),
    )  # fmt: skip
    paths["zip"] = folder / "compare.zip"
    _write_zip(paths["zip"], folder, [path for name, path in paths.items() if name != "zip"])
    return paths


def report(result: SweepResult) -> dict[str, Any]:
    """Scores and settings of a comparison, ready for JSON; what could not be measured is None."""
    return {
        "rule": RULE,
        "recommended": result.recommended._asdict(),
        "paper": paper_cell(result.request, result.cells),
        "settings": result.request.settings(),
        "axes": {name: list(values) for name, values in result.axes.items()},
        "framewise": _finite(result.cells[0].framewise_scores),
        "cells": [
            {
                "label": cell.label, "values": dict(cell.values), "scores": _finite(cell.scores),
                "framewise_scores": _finite(cell.framewise_scores), "settings": cell.request.settings(),
                "seconds": dict(cell.seconds), "evaluations": dict(cell.evaluations), "reused": list(cell.reused),
            }
            for cell in result.cells
        ],
        "seconds": result.seconds,
        "peak_memory_bytes": result.peak_bytes,
    }  # fmt: skip


def scores_csv(result: SweepResult) -> str:
    """One row for each cell: its values, its scores, seconds, marks as the paper's or recommended, other settings."""
    names, others = _measured(result.cells), [name for name in result.request.settings() if name not in result.axes]
    paper = paper_cell(result.request, result.cells)
    table = io.StringIO()
    rows = csv.writer(table, lineterminator="\n")
    rows.writerow(["cell", *result.axes, *names, "seconds", "recommended", "paper", *others])
    for cell in result.cells:
        scores = [_digits(cell.scores.get(name, math.nan)) for name in names]
        marks = [int(cell.index == index) for index in (result.recommended.index, paper)]
        settings = cell.request.settings()
        told = [value if isinstance(value, str | int | float) else json.dumps(value)
                for value in (settings[name] for name in others)]  # fmt: skip
        rows.writerow([cell.index + 1, *cell.values.values(), *scores, _digits(cell.seconds["total"]), *marks, *told])
    return table.getvalue()


def _measured(cells: Sequence[Cell]) -> list[str]:
    """The scores that any of the cells has, in the order of their columns."""
    return [name for name in TITLES if any(name in cell.scores for cell in cells)]


# Pictures


def labelled_grid(result: SweepResult) -> np.ndarray:
    """All cells beside each other under their labels, uint8 `(F, H, W, 3)`; two settings make rows and columns."""
    cells = result.cells
    columns = len(list(result.axes.values())[1]) if len(result.axes) == 2 else math.ceil(math.sqrt(result.size))
    rows = math.ceil(result.size / columns)
    count, height, width = cells[0].frames.shape[:3]
    header = max(16, width // 10)
    tall, wide = height + header + GAP, width + GAP
    canvas = np.full((count, rows * tall + GAP, columns * wide + GAP, 3), PAPER_WHITE, np.uint8)
    for cell in cells:  # of a comparison that was stopped, the others' places stay empty
        row, column = divmod(cell.index, columns)
        top, left = row * tall + GAP, column * wide + GAP
        canvas[:, top : top + header, left : left + width] = _text_strip(cell.label, width, header)
        canvas[:, top + header : top + header + height, left : left + width] = cell.frames
    return canvas


def contact_sheet(result: SweepResult) -> np.ndarray:
    """A row for each cell, a column for each frame, uint8 `(H, W, 3)`; the frame-wise clip above, if it is one."""
    paper, recommended = paper_cell(result.request, result.cells), result.recommended.index
    rows: list[tuple[str, np.ndarray]] = []
    framewise = _shared_framewise(result.cells)
    if framewise is not None:
        rows.append(("frame by frame", framewise))
    for cell in result.cells:
        marks = [mark for mark, index in (("paper", paper), ("recommended", recommended)) if index == cell.index]
        rows.append((" | ".join([cell.label, *marks]), cell.frames))
    count, height, width = rows[0][1].shape[:3]
    header = max(16, width // 10)
    strips = []
    for label, frames in rows:
        across = count * (width + GAP) + GAP
        strip = np.full((height + header + GAP, across, 3), PAPER_WHITE, np.uint8)
        strip[:header, GAP : across - GAP] = _text_strip(label, across - 2 * GAP, header)
        for number, frame in enumerate(frames):
            left = GAP + number * (width + GAP)
            strip[header : header + height, left : left + width] = frame
        strips.append(strip)
    return np.concatenate(strips)


def _text_strip(text: str, width: int, height: int) -> np.ndarray:
    """One line of text, uint8 `(height, width, 3)`, as large as fits."""
    strip = Image.new("RGB", (width, height), PAPER_WHITE)
    draw = ImageDraw.Draw(strip)
    size = max(SMALLEST_TEXT, int(height * 0.72))
    while size > SMALLEST_TEXT and draw.textlength(text, ImageFont.load_default(size)) > width - 2:
        size -= 1
    draw.text((1, height / 2), text, INK, ImageFont.load_default(size), anchor="lm")
    return np.asarray(strip)


def _shared_framewise(cells: Sequence[Cell]) -> np.ndarray | None:
    """The frame-wise clip that all cells were made of; None if there are several."""
    first = cells[0].framewise_frames
    return first if all(np.array_equal(first, cell.framewise_frames) for cell in cells) else None


# The plot


class _Line(NamedTuple):
    """One score over the values of a setting: how it is called, its colour, and its numbers."""

    title: str
    color: str
    values: list[float]


class _Panel(NamedTuple):
    """Where a plot is drawn: its left end, and what is on its axes."""

    left: float
    places: list[float]
    highest: float

    def x(self, place: float) -> float:
        low, high = min(self.places), max(self.places)
        return self.left + _WIDE * ((place - low) / (high - low) if high > low else 0.5)

    def y(self, value: float) -> float:
        return _TOP + _TALL * (1 - value / self.highest)


_WIDE, _TALL, _TOP, _MARGIN = 420.0, 240.0, 80.0, 56.0


def trade_off_svg(result: SweepResult) -> str:
    """Smoothness against fidelity and sharpness over the first setting, as SVG; a second one makes panels.

    All lines have one scale, on which the frame-wise clip is at 1: its warp error and flicker, its sharpness, its
    likeness to itself. Each clip is held against the frames that it was made of.
    """
    name, *others = result.axes
    across = list(result.axes[name])
    numeric = all(isinstance(value, int | float) for value in across) and name != "seed"
    ordered = sorted(across) if numeric else across
    places = [float(value) if numeric else float(number) for number, value in enumerate(ordered)]
    panels = [{}] if not others else [{others[0]: value} for value in result.axes[others[0]]]
    width = len(panels) * (_WIDE + _MARGIN) + _MARGIN
    drawn = [_legend(_lines(result.cells))]
    for number, fixed in enumerate(panels):
        by_value = {cell.values[name]: cell for cell in result.cells if fixed.items() <= cell.values.items()}
        cells = [by_value.get(value) for value in ordered]
        lines = _lines(cells)
        highest = max([1.1, *(1.05 * value for line in lines for value in line.values if math.isfinite(value))])
        panel = _Panel(_MARGIN + number * (_WIDE + _MARGIN), places, highest)
        title = label_of(fixed)
        drawn += [_axes_svg(panel, ordered, AXES[name], title), *(_line_svg(panel, line) for line in lines)]
        drawn += _marks_svg(panel, result, cells)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} 384" width="{width:g}" height="384" '
        'font-family="system-ui, sans-serif" font-size="12" role="img" aria-label="Smoothness, sharpness and fidelity">'
        f'<rect width="100%" height="100%" fill="#fff"/>{"".join(drawn)}</svg>'
    )


def _lines(cells: Sequence[Cell | None]) -> list[_Line]:
    """The scores of cells, NaN in the places of those that were not made."""
    made = [cell for cell in cells if cell]
    at_rest = bool(made) and all(math.isfinite(cell.scores.get("background_flicker", math.nan)) for cell in made)

    def line(title: str, color: str, name: str, *, relative: bool) -> _Line:
        references = [(cell.framewise_scores[name] or math.nan) if cell and relative else 1.0 for cell in cells]
        values = [cell.scores[name] if cell else math.nan for cell in cells]
        return _Line(title, color, [value / reference for value, reference in zip(values, references, strict=True)])

    return [
        line("warp error", "#a21caf", "warp_error", relative=True),
        line("flicker", "#c2410c", "background_flicker" if at_rest else "temporal_flicker", relative=True),
        line("sharpness", "#1d4ed8", "sharpness", relative=False),
        line("SSIM to the frames", "#15803d", "framewise_ssim", relative=False),
    ]


def _legend(lines: Iterable[_Line]) -> str:
    entries = []
    for number, line in enumerate(lines):
        left = _MARGIN + number * 110
        entries.append(
            f'<path d="M{left:g} 18h22" stroke="{line.color}" stroke-width="2.5"/>'
            f'<text x="{left + 28:g}" y="22" fill="#18181b">{line.title}</text>'
        )
    return "".join(entries)


def _axes_svg(panel: _Panel, values: Sequence[Any], name: str, title: str) -> str:
    bottom, middle = _TOP + _TALL, panel.left + _WIDE / 2
    parts = [f'<text x="{panel.left:g}" y="46" font-weight="600" fill="#18181b">{escape(title)}</text>']
    for tick in np.arange(0, panel.highest + 1e-9, _tick_step(panel.highest)):
        y = panel.y(float(tick))
        parts.append(
            f'<path d="M{panel.left:g} {y:.1f}h{_WIDE:g}" stroke="{"#71717a" if tick in {0, 1} else "#e4e4e7"}"/>'
            f'<text x="{panel.left - 6:g}" y="{y + 4:.1f}" text-anchor="end" fill="#52525b">{tick:g}</text>'
        )
    for value, place in zip(values, panel.places, strict=True):
        parts.append(
            f'<text x="{panel.x(place):.1f}" y="{bottom + 18:g}" text-anchor="middle" fill="#52525b">'
            f"{escape(say(value))}</text>"
        )
    parts.append(f'<text x="{middle:g}" y="{bottom + 40:g}" text-anchor="middle" fill="#18181b">{escape(name)}</text>')
    return "".join(parts)


def _tick_step(highest: float) -> float:
    """The distance of ticks, so that there are 12 at most: 0.25, 0.5, 1, 2.5, 5, 10, ..."""
    step, factors = 0.25, cycle((2, 2, 2.5))
    while highest / step > 12:
        step *= next(factors)
    return step


def _line_svg(panel: _Panel, line: _Line) -> str:
    points = [
        (panel.x(place), panel.y(value))
        for place, value in zip(panel.places, line.values, strict=True) if math.isfinite(value)
    ]  # fmt: skip
    dots = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{line.color}"/>' for x, y in points)
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<polyline points="{path}" fill="none" stroke="{line.color}" stroke-width="2.5"/>{dots}'


def _marks_svg(panel: _Panel, result: SweepResult, cells: Sequence[Cell | None]) -> list[str]:
    marked = (
        (result.recommended.index, "recommended", 0, "#6d28d9"),
        (paper_cell(result.request, result.cells), "paper", 12, "#71717a"),
    )
    drawn = []
    for cell, place in zip(cells, panel.places, strict=True):
        for index, text, drop, color in marked:
            if cell and cell.index == index:
                x = panel.x(place)
                drawn.append(
                    f'<path d="M{x:.1f} {_TOP:g}v{_TALL:g}" stroke="{color}" stroke-dasharray="4 3"/>'
                    f'<text x="{x:.1f}" y="{_TOP - 6 - drop:g}" text-anchor="middle" fill="{color}">{text}</text>'
                )
    return drawn


# The page


def write_page(
    folder: Path, cells: Sequence[Cell], fps: float, *, recommended: Recommendation | None = None,
    paper: int | None = None, clips: Sequence[Path] = (), plot: str = "", settings: Mapping[str, Any] | None = None,
) -> Path:  # fmt: skip
    """Write `index.html`, which opens from disk: the player of the app, the plot, the scores, the settings.

    The pictures are in the page itself, since a browser does not let a page on disk look into those of other files,
    which the views of differences need. Without scripts, or without the player's files, the clips show as videos, and
    so they do where they are too long for the player.

    Args:
        folder: where to.
        cells: what is compared, at least one.
        fps: playback rate.
        recommended: which cell is, and why.
        paper: index of the one that the paper would take.
        clips: files of the cells in `folder`, in their order, for a browser without scripts.
        plot: SVG.
        settings: what all cells have in common.
    """
    script = player_script() if fits_sprite_sheet(cells[0].frames) else ""
    videos = "".join(_video(folder, path, cell) for path, cell in zip(clips, cells, strict=False))
    chosen = recommended.index if recommended else None
    data = json.dumps(player_data(cells, fps, chosen, paper)).replace("<", "\\u003c") if script else ""
    player = (
        f'<div class="bd-compare"></div><script>const clips = {data};</script><script>{script}\n'
        'mountComparePlayer(document.querySelector(".bd-compare"), clips);</script>'
        f"<noscript>{videos}</noscript>"
    )  # fmt: skip
    empty = ("", None, [])
    shown = {name: value for name, value in (settings or {}).items() if name not in cells[0].values}
    shown = {name: value for name, value in shown.items() if value not in empty}
    told = "".join(f"<tr><th>{escape(name)}</th><td>{escape(str(value))}</td></tr>" for name, value in shown.items())
    why = escape(recommended.why) if recommended else ""
    page = _PAGE.format(
        style=player_style(), player=player if script else videos, why=why, rule=escape(RULE), plot=plot,
        scores=_scores_table(cells, chosen, paper), settings=told,
    )  # fmt: skip
    path = folder / "index.html"
    path.write_text(page, "utf-8")
    return path


def player_data(
    cells: Sequence[Cell], fps: float, recommended: int | None = None, paper: int | None = None
) -> dict[str, Any]:
    """What the player (`assets/player`) shows: the clips as sheets, their labels and their scores."""
    lossless = sum(cell.frames[..., 0].size for cell in cells) <= LOSSLESS_PIXELS
    return {
        "fps": fps,
        "numFrames": len(cells[0].frames),
        "cells": [
            {
                "label": cell.label, "sublabel": "",
                "sheet": sprite_sheet(cell.frames, lossless=lossless, quality=QUALITY),
                "scores": {SHORT_TITLES[name]: value for name, value in _finite(cell.scores).items()},
            }
            for cell in cells
        ],
        "recommended": recommended,
        "paper": paper,
        "lossy": not lossless,
    }  # fmt: skip


def _video(folder: Path, path: Path, cell: Cell) -> str:
    source = escape(path.relative_to(folder).as_posix())
    return (
        f'<figure><video src="{source}" autoplay loop muted playsinline controls></video>'
        f"<figcaption>{escape(cell.label)}</figcaption></figure>"
    )


def _scores_table(cells: Sequence[Cell], recommended: int | None, paper: int | None) -> str:
    names = _measured(cells)
    head = "".join(f"<th>{escape(TITLES[name])}</th>" for name in names)
    rows = []
    for cell in cells:
        marks = [text for text, index in (("recommended", recommended), ("paper", paper)) if index == cell.index]
        label = " · ".join([cell.label, *marks])
        values = "".join(f"<td>{_digits(cell.scores.get(name, math.nan))}</td>" for name in names)
        rows.append(f"<tr><th>{escape(label)}</th>{values}</tr>")
    return f"<table><thead><tr><th></th>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Comparison</title>
<style>{style}</style>
<style>
:root {{ color-scheme: light dark; }}
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 1280px; margin: 0 auto; padding: 24px 16px 64px; }}
figure {{ display: inline-block; margin: 0 12px 12px 0; }}
figure video {{ display: block; min-width: 256px; }}
.scroll {{ overflow-x: auto; }}
table {{ border-collapse: collapse; font-size: 14px; font-variant-numeric: tabular-nums; }}
th, td {{ padding: 4px 12px 4px 0; text-align: left; vertical-align: top; border-bottom: 1px solid #8884; }}
svg {{ max-width: none; }}
</style>
</head>
<body>
<h1>Comparison</h1>
{player}
<h2>What the scores say</h2>
<p>{why}</p>
<p>The rule: {rule}</p>
<div class="scroll">{plot}</div>
<div class="scroll">{scores}</div>
<h2>Settings of all clips</h2>
<div class="scroll"><table>{settings}</table></div>
</body>
</html>
"""


# Texts and files


def _finite(scores: Mapping[str, float]) -> dict[str, float | None]:
    """The same with None for NaN, which JSON does not have."""
    return {name: value if math.isfinite(value) else None for name, value in scores.items()}


def _digits(value: float) -> str:
    return f"{value:.4g}" if math.isfinite(value) else ""


def _file_name(label: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "-", label.lower()).strip("-.")


def _write_zip(path: Path, folder: Path, files: Iterable[Path]) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in files:
            entry = zipfile.ZipInfo(file.relative_to(folder).as_posix(), date_time=ZIP_DATE)
            archive.writestr(entry, file.read_bytes(), zipfile.ZIP_DEFLATED)
