"""Runs beside each other in one clock."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import gradio as gr
import numpy as np

from bivdiff.errors import InputError
from tabs.failures import telling
from tabs.history.clips import read_frames
from tabs.history.details import request_of
from tabs.history.view import HistoryPage
from tabs.history.wording import setting_in_words, shortened
from tabs.results import heat_at_rest, rest_of, scores_by_clip
from tabs.visitors import visitor_of
from tabs.widgets.history import LEAST, MOST
from tabs.widgets.player import ComparedClip, comparison_value

if TYPE_CHECKING:
    from bivdiff.studio.history.records import Run


@telling
def compare(page: HistoryPage, picked: str, visitor: str) -> tuple[Any, dict[str, Any]]:
    """The bridged clips of several runs, whose ids have spaces between them, in one comparison player.

    Raises:
        gr.Error: they cannot be compared.
    """
    ids = (picked or "").split()
    if not LEAST <= len(ids) <= MOST:
        raise InputError(f"From {LEAST} to {MOST} runs can be compared; {len(ids)} are selected.")
    owner = visitor_of(visitor).owner
    runs = [page.context.runs.get(run_id, owner) for run_id in ids]
    with page.context.decoding():
        return gr.update(visible=True), _side_by_side(page, runs)


def _side_by_side(page: HistoryPage, runs: Sequence[Run]) -> dict[str, Any]:
    """The comparison player's value.

    Raises:
        InputError: they cannot be compared.
    """
    clips = [_bridged(run) for run in runs]
    shapes = list(dict.fromkeys(f"{len(clip)} frames of {clip.shape[2]}x{clip.shape[1]}" for clip in clips))
    if len(shapes) > 1:
        raise InputError(
            f"Only clips of the same size and length can be compared, and these have {', '.join(shapes[:-1])} and "
            f"{shapes[-1]}. Take the others away."
        )
    cells = [
        ComparedClip(
            label,
            clip,
            sublabel,
            scores=scores_by_clip(run.scores, run.image_model)["bridged"],
            tone="blend",
            rest=rest_of(run.scores),
            heat=_heat(page, run, clip),
        )
        for (label, sublabel), clip, run in zip(_labels(runs), clips, runs, strict=True)
    ]
    return comparison_value(cells, runs[0].fps or 8)


def _heat(page: HistoryPage, run: Run, clip: np.ndarray) -> np.ndarray | None:
    """Where a run's clip flickers at rest; None where its source is not there to say so."""
    request, _ = request_of(page.context, run, run.owner)
    return None if request is None else heat_at_rest(request, clip)


def _bridged(run: Run) -> np.ndarray:
    if "bridged" not in run.files:
        raise InputError(f"“{shortened(run.prompt)}” has no finished clip of its own, so it cannot be compared.")
    return read_frames(run.files["bridged"])


def _labels(runs: Sequence[Run]) -> list[tuple[str, str]]:
    """What tells runs from each other: the first setting that differs, and the second."""
    names = [name for name in ("mixing_ratio", "prompt", *runs[0].settings) if name not in {"fps", "controls", "seed"}]
    differing = [name for name in dict.fromkeys(names) if len({repr(run.settings.get(name)) for run in runs}) > 1]
    named = [[shortened(setting_in_words(name, run.settings.get(name))) for name in differing[:2]] for run in runs]
    filled = ([*own, f"Seed {run.seed}", ""] for own, run in zip(named, runs, strict=True))
    return [(first, second) for first, second, *_ in filled]
