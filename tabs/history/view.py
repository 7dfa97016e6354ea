"""What the tab shows, and what its handlers are given."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import gradio as gr

from tabs.binding import Values
from tabs.context import AppContext
from tabs.task_tab import TaskTab
from tabs.visitors import visitor_of

Rerun = Callable[[str, str], str]
"""Gives a run of the history to the queue, by its id and what the page knows its visitor by; says so in a sentence."""


class HistoryView(NamedTuple):
    """What the tab shows, in the order of the events' outputs; `gr.skip()` leaves a part as it is."""

    cards: Any = gr.skip()
    more: Any = gr.skip()
    limit: Any = gr.skip()
    seen: Any = gr.skip()
    run_id: Any = gr.skip()
    details: Any = gr.skip()
    about: Any = gr.skip()
    player: Any = gr.skip()
    restore: Any = gr.skip()
    again: Any = gr.skip()
    delete: Any = gr.skip()
    keep: Any = gr.skip()
    to_delete: Any = gr.skip()
    settings: Any = gr.skip()
    unlink: Any = gr.skip()
    recalls: Any = gr.skip()


class HistoryPage(NamedTuple):
    """What the handlers need: the app, the tabs of the tasks, and what gives a stored run to the queue."""

    context: AppContext
    task_tabs: Sequence[TaskTab]
    rerun: Rerun


def owner_of(values: Values) -> str:
    """Whose runs are asked for."""
    return visitor_of(values.get("visitor")).owner
