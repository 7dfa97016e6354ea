"""A comparison as a page that opens from disk: the player of the app, the plot, the scores, the settings."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from bivdiff.compare.before import Before, befores
from bivdiff.compare.player import player_scripts, player_style
from bivdiff.compare.scores import RULE, TITLES, Recommendation, below_a_clip, best_below, rest_below
from bivdiff.compare.sweep import Cell
from bivdiff.compare.tables import digits, measured
from bivdiff.media.heat import heat_picture
from bivdiff.media.sheets import fits_sprite_sheet, sprite_sheet
from bivdiff.media.writing import replace_whole

LOSSLESS_PIXELS = 32_000_000  # of all clips of a page; beyond them lossless pictures would make it too heavy to send
QUALITY = 95


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
    videos = "".join(_video(folder, path, cell) for path, cell in zip(clips, cells, strict=False))
    chosen = recommended.index if recommended else None
    scripts = player_scripts(player_data(cells, fps, chosen, paper)) if fits_sprite_sheet(cells[0].frames) else ""
    player = f'<div class="bd-player"></div>{scripts}<noscript>{videos}</noscript>' if scripts else videos
    empty: tuple[object, ...] = ("", None, [])
    shown = {name: value for name, value in (settings or {}).items() if name not in cells[0].values}
    written = {name: _written(value) for name, value in shown.items() if value not in empty}
    told = "".join(f"<tr><th>{escape(name)}</th><td>{escape(text)}</td></tr>" for name, text in written.items())
    why = escape(recommended.why) if recommended else ""
    page = _PAGE.format(
        style=player_style(), player=player, why=why, rule=escape(RULE), plot=plot,
        scores=_scores_table(cells, chosen, paper), settings=told,
    )  # fmt: skip
    path = folder / "index.html"
    with replace_whole(path) as temporary:
        temporary.write_text(page, "utf-8")
    return path


def player_data(
    cells: Sequence[Cell], fps: float, recommended: int | None = None, paper: int | None = None
) -> dict[str, Any]:
    """What the player (`assets/player`) shows: the clips as sheets, their labels and their scores.

    The frames before the bridge come first; `recommended` and `paper` count the cells.
    """
    first = befores(cells)
    frames = [*(each.frames for each in first), *(cell.frames for cell in cells)]
    lossless = sum(clip[..., 0].size for clip in frames) <= LOSSLESS_PIXELS

    def shown(one: Before | Cell, best: Sequence[str] = ()) -> dict[str, Any]:
        cell, before = (one.cell, True) if isinstance(one, Before) else (one, False)
        level = one.scores.get("excess_flicker", math.nan)
        return {
            "label": one.label, "sublabel": "", "tone": "image" if before else "blend",
            "sheet": sprite_sheet(one.frames, lossless=lossless, quality=QUALITY),
            "heat": None if one.heat is None else heat_picture(one.heat, level),
            "scores": below_a_clip(cell.request, one.scores), "best": list(best),
            "rest": rest_below(cell.request, one.scores, one.scores if before else cell.framewise_scores),
        }  # fmt: skip

    best = best_below(cells[0].request, [cell.scores for cell in cells])
    places = {cell.index: len(first) + number for number, cell in enumerate(cells)}
    return {
        "fps": fps,
        "numFrames": len(cells[0].frames),
        "before": len(first),
        "tiles": [*map(shown, first), *map(shown, cells, best)],
        "recommended": places.get(recommended) if recommended is not None else None,
        "paper": places.get(paper) if paper is not None else None,
        "lossy": not lossless,
    }


def _video(folder: Path, path: Path, cell: Cell) -> str:
    source = escape(path.relative_to(folder).as_posix())
    return (
        f'<figure><video src="{source}" autoplay loop muted playsinline controls></video>'
        f"<figcaption>{escape(cell.label)}</figcaption></figure>"
    )


def _written(value: Any) -> str:
    """A setting's value, one that has parts as its parts."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_written(part)}" for name, part in value.items())
    return "; ".join(map(_written, value)) if isinstance(value, list | tuple) else str(value)


def _scores_table(cells: Sequence[Cell], recommended: int | None, paper: int | None) -> str:
    names = measured(cells)
    head = "".join(f"<th>{escape(TITLES[name])}</th>" for name in names)
    rows = [_scores_row(each.label, each.scores, names) for each in befores(cells)]
    for cell in cells:
        marks = [text for text, index in (("recommended", recommended), ("paper", paper)) if index == cell.index]
        rows.append(_scores_row(" · ".join([cell.label, *marks]), cell.scores, names))
    return f"<table><thead><tr><th></th>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def _scores_row(label: str, scores: Mapping[str, float], names: Sequence[str]) -> str:
    values = "".join(f"<td>{digits(scores.get(name, math.nan))}</td>" for name in names)
    return f"<tr><th>{escape(label)}</th>{values}</tr>"


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
summary {{ cursor: pointer; }}
</style>
</head>
<body>
<h1>Comparison</h1>
{player}
<h2>What the scores say</h2>
<p>{why}</p>
<details><summary>Why?</summary><p>{rule}</p></details>
<div class="scroll">{plot}</div>
<div class="scroll">{scores}</div>
<h2>Settings of all clips</h2>
<div class="scroll"><table>{settings}</table></div>
</body>
</html>
"""
