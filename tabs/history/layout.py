"""The tab "History": every run with its clips and settings, to find, look at, compare, restore, run again or delete."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import gradio as gr

from bivdiff.catalog.tasks import TASKS
from tabs import controls as shared
from tabs.binding import bind
from tabs.context import AppContext
from tabs.events import PRIVATE, QUICK, slow
from tabs.figures import figure_panel
from tabs.films import wire_films
from tabs.history.acting import adopt, again, arrive, delete, press_delete, recall, restore, tell_interrupted, unlink
from tabs.history.comparing import compare
from tabs.history.details import deletion_unasked, show
from tabs.history.listing import ALL, PAGE, list_runs, refresh, set_favourite, show_more
from tabs.history.view import HistoryPage, HistoryView, Rerun
from tabs.restoring import PARTS, controls_to_fill
from tabs.task_tab import TaskTab
from tabs.visitors import LOOK_AGAIN
from tabs.widgets.history import run_cards
from tabs.widgets.player import ComparedClip, clip_player, comparison_value, player_value

NAME, TITLE = "history", "History"
REFRESH = 4  # seconds
ABOUT = (
    "Every run is kept here with its clips and settings, for you alone. Choose one to see it, restore it or run it "
    "again; tick several to compare them."
)
SLOW = slow(NAME)
REVEAL = "() => window.bdReveal('%s')"


def build(
    context: AppContext,
    tab: gr.Tab,
    tabs: gr.Tabs,
    task_tabs: Sequence[TaskTab],
    visitor: gr.Textbox,
    rerun: Rerun,
) -> None:
    """Lay the tab out and connect it. Call it inside a `gr.Tab` of the page.

    Args:
        context: its `runs` are shown.
        tab: this one; `tabs`: all of them.
        task_tabs: those that a run can be restored to.
        visitor: what the page knows its visitor by, see `visitors.visitor_of`.
        rerun: gives a run of the history to the queue, by its id and what `visitor` holds, and says so in a sentence.
    """
    page = HistoryPage(context, task_tabs, rerun)
    filters, drop, cards, more = _list_parts()
    details = _detail_parts(context, visitor)
    shown = HistoryView(cards, more, gr.State(PAGE), gr.State({"filters": [None] * 3, "content": None}), *details)
    inputs = {**filters, "visitor": visitor, "limit": shown.limit, "run_id": shown.run_id}
    _wire_list(page, tab, tabs, inputs, shown)
    _wire_details(page, inputs, drop, shown)
    _wire_restore(page, tabs, inputs, shown)
    visitor.change(partial(tell_interrupted, page), visitor, None, **SLOW, **PRIVATE)
    wire_films(context, shown.player, visitor, api_name="film")
    _add_comparison(page, cards, visitor)


def _list_parts() -> tuple[shared.Controls, gr.File, gr.HTML, gr.Button]:
    """The card with all runs: filters, the place for a file, the cards, and the button for more of them."""
    tasks = [("All", ALL), *((task.title, name) for name, task in TASKS.items())]
    with gr.Column(elem_classes="bd-card"):
        shared.heading(1, "Your runs")
        shared.remark(ABOUT)
        with shared.fields():
            filters: shared.Controls = {
                "search": gr.Textbox(
                    label="Search", info="Words of the prompt, the models or the settings", elem_id=f"{NAME}-search",
                    min_width=180, max_lines=1, scale=2,
                ),
                "task": gr.Dropdown(
                    tasks, value=ALL, label="Task", info="Which tab it was made in", elem_id=f"{NAME}-task",
                    min_width=180,
                ),
                "favourites": gr.Checkbox(
                    False, label="Favourites only", info="Those with a star", elem_id=f"{NAME}-favourites",
                    elem_classes="bd-check", min_width=150,
                ),
            }  # fmt: skip
        drop = shared.upload(
            "Drop an mp4, PNG, GIF or zip made here to restore it, from another machine too", elem_id=f"{NAME}-drop"
        )
        cards = run_cards(elem_id=f"{NAME}-list")
        with gr.Row(elem_classes="bd-asides"):
            more = gr.Button("Show more", size="sm", visible=False, elem_id=f"{NAME}-more", min_width=140)
    return filters, drop, cards, more


def _detail_parts(context: AppContext, visitor: gr.Textbox) -> tuple[Any, ...]:
    """The card of the chosen run: the parts of a `HistoryView` from `run_id` on."""
    run_id = gr.Textbox(visible=False)
    with gr.Column(visible=False, elem_classes="bd-card bd-result", elem_id=f"{NAME}-details") as details:
        shared.heading(2, "The chosen run")
        about = gr.HTML(elem_id=f"{NAME}-about", apply_default_css=False)
        player = clip_player(player_value([], 8), elem_id=f"{NAME}-player")
        figure_panel(context, player, visitor, NAME)
        with gr.Row(elem_classes="bd-run bd-history-acts"):
            restore = gr.Button("Restore to its tab", variant="primary", elem_id=f"{NAME}-restore", min_width=150)
            again = gr.Button("Run again", elem_id=f"{NAME}-again", min_width=110)
            delete = gr.Button("Delete", elem_id=f"{NAME}-delete", min_width=110)
            keep = gr.Button("Keep it", visible=False, elem_id=f"{NAME}-keep", min_width=90)
            unlink = gr.Button("Switch its link off", visible=False, elem_id=f"{NAME}-unlink", min_width=150)
        with gr.Row(elem_classes="bd-recalls") as recalls:
            gr.HTML("Take only its", apply_default_css=False, padding=False)
            for part in PARTS:
                gr.Button(part, size="sm", elem_id=f"{NAME}-recall-{part}", min_width=76)
        settings = gr.HTML(elem_id=f"{NAME}-settings", apply_default_css=False)
    return run_id, details, about, player, restore, again, delete, keep, gr.State(""), settings, unlink, recalls


def _wire_list(page: HistoryPage, tab: gr.Tab, tabs: gr.Tabs, inputs: shared.Controls, shown: HistoryView) -> None:
    """The list, its filters and its stars; it is looked at again while the tab is open."""
    given, outputs = list(inputs.values()), [shown.cards, shown.more, shown.limit, shown.seen]
    show_list = bind(partial(list_runs, page), inputs)
    changes = [inputs["search"].change, inputs["task"].change, inputs["favourites"].change]
    gr.on(changes, show_list, given, outputs, api_name="history_list", trigger_mode="always_last", **QUICK)
    tab.select(show_list, given, outputs, **QUICK, **PRIVATE)
    shown.more.click(bind(partial(show_more, page), inputs), given, outputs, **QUICK, **PRIVATE)
    timer = gr.Timer(REFRESH, active=False)
    tabs.select(_is_open, None, timer, **QUICK, **PRIVATE)
    timer.tick(bind(partial(refresh, page), inputs, "seen"), [*given, shown.seen], outputs, **QUICK, **PRIVATE)
    starred, favourite = gr.Textbox(visible=False), gr.Checkbox(visible=False)
    pressed = shown.cards.star(
        None, shown.cards, [starred, favourite], js="(value) => [value.starred, value.favourite]", **PRIVATE
    )
    pressed.then(
        bind(partial(set_favourite, page), inputs, "starred", "favourite"), [*given, starred, favourite],
        outputs, api_name="history_favourite", **QUICK,
    )  # fmt: skip


def _is_open(chosen: gr.SelectData) -> gr.Timer:
    return gr.Timer(active=chosen.value == TITLE)


def _wire_details(page: HistoryPage, inputs: shared.Controls, drop: gr.File, shown: HistoryView) -> None:
    """The chosen run, a dropped file, and what can be done with either."""
    given, outputs = list(inputs.values()), list(shown)
    reveal: dict[str, Any] = {"fn": None, "js": REVEAL % f"{NAME}-details", **PRIVATE}
    picked = shown.cards.pick(None, shown.cards, shown.run_id, js="(value) => value.chosen", **PRIVATE)
    picked.then(bind(partial(show, page), inputs), given, outputs, **SLOW, **PRIVATE).success(**reveal)
    dropped = drop.upload(
        bind(partial(adopt, page), inputs, "file"), [*given, drop], outputs, api_name="history_adopt", **SLOW
    )
    for ended in (dropped.success, dropped.failure):  # the page leaves out what comes `then` after a refusal
        ended(lambda: None, None, drop, **QUICK, **PRIVATE)
    dropped.success(**reveal)
    restarted = shown.again.click(bind(partial(again, page), inputs), given, outputs, **SLOW, **PRIVATE)
    look_again = f"(visitor) => window.bdLookAgain(visitor, '{LOOK_AGAIN}')"
    restarted.success(None, inputs["visitor"], inputs["visitor"], js=look_again, **PRIVATE)
    shown.delete.click(
        bind(partial(press_delete, page), inputs, "to_delete"), [*given, shown.to_delete], outputs, **QUICK, **PRIVATE
    )
    shown.unlink.click(bind(partial(unlink, page), inputs), given, outputs, **QUICK, **PRIVATE)
    shown.keep.click(deletion_unasked, None, [shown.delete, shown.keep, shown.to_delete], **QUICK, **PRIVATE)
    gr.Button(visible=False).click(
        bind(partial(delete, page), inputs), given, outputs, api_name="history_delete", **QUICK
    )


def _wire_restore(page: HistoryPage, tabs: gr.Tabs, inputs: shared.Controls, shown: HistoryView) -> None:
    """Let a run fill the controls of its task's tab."""
    outputs = [tabs, *controls_to_fill(page.task_tabs)]
    shown.restore.click(partial(restore, page), [shown.run_id, inputs["visitor"]], outputs, **SLOW, **PRIVATE)
    for button in shown.recalls.children:
        if isinstance(button, gr.Button):
            button.click(
                partial(recall, page, button.value), [shown.run_id, inputs["visitor"]],
                [tabs, *controls_to_fill(page.task_tabs, button.value)], **SLOW, **PRIVATE,
            )  # fmt: skip
    # Who comes from a published result finds it in the tab that made it.
    link = gr.Textbox(visible=False)
    arrived = inputs["visitor"].change(None, None, link, js="() => window.bdArrivedFrom()", **PRIVATE)
    arrived.success(partial(arrive, page), [link, inputs["visitor"]], outputs, **SLOW, **PRIVATE)


def _add_comparison(page: HistoryPage, cards: gr.HTML, visitor: gr.Textbox) -> None:
    """The card that compares the runs that are ticked."""
    with gr.Column(visible=False, elem_classes="bd-card bd-result", elem_id=f"{NAME}-comparison") as comparison:
        shared.heading(3, "The selected runs, playing in step")
        player = clip_player(comparison_value([ComparedClip("")], 8), "grid", elem_id=f"{NAME}-compare-player")
    picked = gr.Textbox(visible=False)
    ticked = cards.compare(None, cards, picked, js="(value) => value.selected.join(' ')", **PRIVATE)
    compared = ticked.then(partial(compare, page), [picked, visitor], [comparison, player], **SLOW, **PRIVATE)
    compared.success(None, js=REVEAL % f"{NAME}-comparison", **PRIVATE)
