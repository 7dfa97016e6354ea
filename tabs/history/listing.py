"""The list of runs: what the filters leave, more of it, and stars."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import gradio as gr

from tabs.binding import Values
from tabs.failures import telling
from tabs.history.view import HistoryPage, HistoryView, owner_of
from tabs.history.wording import STATE_LABELS, facts_of, made_with
from tabs.widgets.history import cards_value

if TYPE_CHECKING:
    from bivdiff.studio.history.records import Run

PAGE = 24  # runs that are shown, and that "Show more" adds
MOST = 20 * PAGE  # runs that are shown at once: each brings its thumbnail
ALL = ""
HOW_TO_BEGIN = (
    "Press “Generate” in one of the tabs: each run is kept here with its clips and settings. Or drop a file above that "
    "was made here or by another copy of the studio."
)
NOTHING_YET = ["Nothing has been run yet.", HOW_TO_BEGIN]
NOTHING_FOUND = ["No run matches.", "Take away a word, choose all tasks, or turn “Favourites only” off."]


@telling
def list_runs(page: HistoryPage, values: Values) -> tuple[Any, ...]:
    """The runs that the filters leave, and whether there are more: the first parts of a `HistoryView`."""
    limit, runs = min(values.get("limit") or PAGE, MOST), page.context.runs
    chosen: dict[str, Any] = {
        "search": (values.get("search") or "").strip(), "task": values.get("task") or ALL,
        "favourites": bool(values.get("favourites")),
    }  # fmt: skip
    found = runs.find(owner_of(values), **chosen, limit=limit + 1)
    rows = [_row(run) for run in found[:limit]]
    more = len(found) > limit
    cards = cards_value(
        rows, values.get("run_id") or "", NOTHING_FOUND if any(chosen.values()) else NOTHING_YET,
        _count(len(rows), more), runs.trouble,
    )  # fmt: skip
    seen = {"filters": _filters(values), "content": hash(repr((rows, more, cards["trouble"])))}
    return cards, gr.update(visible=more and limit < MOST), limit, seen


def _count(number: int, more: bool) -> str:
    """How many runs are shown, and how to see the others."""
    if more and number == MOST:
        return f"The newest {number} runs. Search to find older ones."
    counted = "1 run" if number == 1 else f"{number} runs"
    return f"{counted}, and there are more" if more else counted if number else ""


def _filters(values: Values) -> list[Any]:
    return [values.get(name) or None for name in ("search", "task", "favourites")]


def show_more(page: HistoryPage, values: Values) -> tuple[Any, ...]:
    """The list with one page more of it."""
    return list_runs(page, {**values, "limit": (values.get("limit") or PAGE) + PAGE})


def refresh(page: HistoryPage, values: Values, seen: Mapping[str, Any]) -> tuple[Any, ...]:
    """The list again, where it differs from what was `seen`. With other filters a look of its own is on its way.

    It leaves the choice to the page, where another may have been made since this was asked. Where the history cannot be
    read the list stays as it is: nobody asked, and the next look is near.
    """
    try:
        cards, *others, now = list_runs(page, values)
    except gr.Error:
        return (gr.skip(),) * 4
    if seen["filters"] != now["filters"] or seen["content"] == now["content"]:
        return (gr.skip(),) * 4
    return {**cards, "chosen": None}, *others, now


@telling
def set_favourite(page: HistoryPage, values: Values, starred: str, favourite: bool) -> tuple[Any, ...]:
    """Give the run `starred` a star, or take it away. Favourites stay when the history grows too large."""
    page.context.runs.set_favourite(starred or "", owner_of(values), bool(favourite))
    return list_runs(page, values)


def listed(page: HistoryPage, values: Values) -> dict[str, Any]:
    """The parts of a `HistoryView` that are the list."""
    return dict(zip(HistoryView._fields, list_runs(page, values), strict=False))


def _row(run: Run) -> dict[str, Any]:
    """What a card shows."""
    seconds = sum(run.seconds.values())
    return {
        "id": run.id, "prompt": run.prompt.strip() or "No prompt", "what": made_with(run), "created": run.created,
        "key": run.state, "state": STATE_LABELS[run.state], "seconds": f"{seconds:.1f} s" if seconds else "",
        "facts": facts_of(run), "favourite": run.favourite, "thumbnail": _data_address(run.thumbnail),
    }  # fmt: skip


def _data_address(picture: bytes) -> str:
    return "data:image/webp;base64," + base64.b64encode(picture).decode() if picture else ""
