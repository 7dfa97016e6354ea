"""The tab "History": every run with its clips and settings, to find, look at, compare, restore, run again or delete."""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from functools import partial
from html import escape
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import gradio as gr
import numpy as np

from bivdiff.catalog.families import FAMILIES
from bivdiff.catalog.image_models import title_of
from bivdiff.catalog.tasks import TASKS
from bivdiff.errors import BIVDiffError, InputError
from bivdiff.media.reading import probe, read_clip
from bivdiff.settings import ASSETS
from tabs import controls as shared
from tabs.binding import Values, bind
from tabs.boards import LOOK_AGAIN, sentence, telling, visitor_of
from tabs.context import AppContext
from tabs.following import TaskTab
from tabs.restoring import filled
from tabs.results import CONTROL_LABELS, result_tiles, shown_masks
from tabs.running import STAGES
from tabs.widgets.compare_player import Cell, compare_player, compare_value
from tabs.widgets.player import player_value, served, sync_player, tile

if TYPE_CHECKING:
    from bivdiff.studio.history.records import Run
    from bivdiff.types import GenerationRequest

Rerun = Callable[[str, str], str]

NAME, TITLE = "history", "History"
PAGE = 24  # runs that are shown, and that "Show more" adds
REFRESH = 4  # seconds
LEAST, MOST = 2, 12  # clips that can be compared
ALL = ""
ABOUT = (
    "Every run is kept here with its clips and settings, for you alone. Choose one to see it, restore it or run it "
    "again; tick several to compare them."
)
KINDS = [".mp4", ".png", ".gif", ".zip"]
SAID = {
    "queued": "Waiting", "running": "Running", "done": "", "failed": "Failed", "cancelled": "Cancelled",
    "interrupted": "Interrupted", "dropped": "From a file",
}  # fmt: skip
STATES = {
    "queued": "It waits for its turn.",
    "running": "It is being made. Its tab shows how far it is.",
    "failed": "It failed. What was made by then is kept.",
    "cancelled": "It was cancelled. What was made by then is kept.",
    "interrupted": "The studio was stopped while this was being made. “Run again” goes on from the stages that were "
    "finished, where they are still kept.",
    "dropped": "It comes from a file that you gave. “Restore to its tab” brings back its settings and pictures.",
}
UNDER_WAY = ("queued", "running")
HOW_TO_BEGIN = (
    "Press “Generate” in one of the tabs: each run is kept here with its clips and settings. Or drop a file above that "
    "was made here or by another copy of the studio."
)
NOTHING_YET = ["Nothing has been run yet.", HOW_TO_BEGIN]
NOTHING_FOUND = ["No run matches.", "Take away a word, choose all tasks, or turn “Favourites only” off."]
FILES = {
    "bridged": "Bridged clip", "framewise": "Frame by frame", "control": "Control map", "mask": "Mask", "gif": "GIF",
    "pngs": "PNG frames (zip)", "zip": "Everything (zip)", "grid": "All clips in one (mp4)", "page": "Page (HTML)",
    "contact_sheet": "Contact sheet", "scores_csv": "Scores (CSV)", "scores_json": "Scores (JSON)", "plot": "Curves",
}  # fmt: skip
SCORED = {
    "flicker": ("bridged", "Flicker"), "sharpness": ("bridged", "Sharpness"),
    "framewise_flicker": ("framewise", "Flicker"), "source_flicker": ("source", "Flicker"),
}  # fmt: skip
ELSEWHERE = (
    "task",
    "family",
    "image_model",
    "fps",
    "prompt",
    "seed",
)  # told in another place than the list of settings
QUICK: dict[str, Any] = {"show_progress": "hidden", "queue": False}
SLOW: dict[str, Any] = {"show_progress": "hidden", "concurrency_limit": 8, "concurrency_id": NAME}
PRIVATE: dict[str, Any] = {"api_visibility": "private"}
# Runs in the browser once a part is filled: it may be out of sight, and whoever cannot see should hear of it.
REVEAL = """() => requestAnimationFrame(() => {
  const part = document.querySelector("#%s");
  if (!part) return;
  const calm = window.matchMedia("(prefers-reduced-motion: reduce)").matches;
  part.tabIndex = -1;
  part.focus({ preventScroll: true });
  part.scrollIntoView({ behavior: calm ? "auto" : "smooth", block: "start" });
})"""


class View(NamedTuple):
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
    doomed: Any = gr.skip()
    settings: Any = gr.skip()


class Page(NamedTuple):
    """What the handlers need: the app, the tabs of the tasks, and what gives a stored run to the queue."""

    context: AppContext
    task_tabs: Sequence[TaskTab]
    rerun: Rerun


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
        visitor: what the page knows its visitor by, see `boards.visitor_of`.
        rerun: gives a run of the history to the queue, by its id and what `visitor` holds, and says so in a sentence.
    """
    page = Page(context, task_tabs, rerun)
    filters, drop, cards, more = _list_parts()
    details = _detail_parts()
    shown = View(cards, more, gr.State(PAGE), gr.State({"filters": [None] * 3, "content": None}), *details)
    inputs = {**filters, "visitor": visitor, "limit": shown.limit, "run_id": shown.run_id}
    _wire_list(page, tab, tabs, inputs, shown)
    _wire_details(page, inputs, drop, shown)
    _wire_restore(page, tabs, inputs, shown)
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
        drop = gr.File(
            label="Drop an mp4, PNG, GIF or zip made here to restore it, from another machine too", height=48,
            file_types=KINDS, elem_id=f"{NAME}-drop", elem_classes="bd-upload",
        )  # fmt: skip
        cards = _run_cards(elem_id=f"{NAME}-list")
        with gr.Row(elem_classes="bd-asides"):
            more = gr.Button("Show more", size="sm", visible=False, elem_id=f"{NAME}-more", min_width=140)
    return filters, drop, cards, more


def _run_cards(**options: Any) -> gr.HTML:
    """Runs as cards. Its value is made by `look`.

    Choosing a card triggers `pick`, with the run's id as `chosen`; its star `star`, with `starred` and `favourite`; the
    bar above the cards `compare`, with the ids that are `selected`.
    """
    value = {"rows": [], "chosen": "", "empty": None, "note": "", "trouble": ""}
    widget = gr.HTML(
        value, html_template='<div class="bd-history"></div>', apply_default_css=False,
        js_on_load=(ASSETS / "history.js").read_text("utf-8"), **options,
    )  # fmt: skip
    widget.api_info = lambda: {"type": "object", "description": "the runs that are listed, and the chosen one"}
    return widget


def _detail_parts() -> tuple[Any, ...]:
    """The card of the chosen run: the parts of a `View` from `run_id` on."""
    run_id = gr.Textbox(visible=False)
    with gr.Column(visible=False, elem_classes="bd-card bd-result", elem_id=f"{NAME}-details") as details:
        shared.heading(2, "The chosen run")
        about = gr.HTML(elem_id=f"{NAME}-about", apply_default_css=False)
        player = sync_player(player_value([], 8), elem_id=f"{NAME}-player")
        with gr.Row(elem_classes="bd-run bd-history-acts"):
            restore = gr.Button("Restore to its tab", variant="primary", elem_id=f"{NAME}-restore", min_width=150)
            again = gr.Button("Run again", elem_id=f"{NAME}-again", min_width=110)
            delete = gr.Button("Delete", elem_id=f"{NAME}-delete", min_width=110)
            keep = gr.Button("Keep it", visible=False, elem_id=f"{NAME}-keep", min_width=90)
        settings = gr.HTML(elem_id=f"{NAME}-settings", apply_default_css=False)
    return run_id, details, about, player, restore, again, delete, keep, gr.State(""), settings


# Wiring


def _wire_list(page: Page, tab: gr.Tab, tabs: gr.Tabs, inputs: shared.Controls, shown: View) -> None:
    """The list, its filters and its stars; it is looked at again while the tab is open."""
    given, outputs = list(inputs.values()), [shown.cards, shown.more, shown.limit, shown.seen]
    show_list = bind(partial(look, page), inputs)
    changes = [inputs["search"].change, inputs["task"].change, inputs["favourites"].change]
    gr.on(changes, show_list, given, outputs, api_name="history_list", trigger_mode="always_last", **QUICK)
    tab.select(show_list, given, outputs, **QUICK, **PRIVATE)
    shown.more.click(bind(partial(show_more, page), inputs), given, outputs, **QUICK, **PRIVATE)
    timer = gr.Timer(REFRESH, active=False)
    tabs.select(_is_open, None, timer, **QUICK, **PRIVATE)
    timer.tick(
        bind(partial(refresh, page), inputs, "seen"), [*given, shown.seen], outputs, **QUICK, **PRIVATE
    )  # fmt: skip
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


def _wire_details(page: Page, inputs: shared.Controls, drop: gr.File, shown: View) -> None:
    """The chosen run, a dropped file, and what can be done with either."""
    given, outputs = list(inputs.values()), list(shown)
    reveal: dict[str, Any] = {"fn": None, "js": REVEAL % f"{NAME}-details", **PRIVATE}
    picked = shown.cards.pick(None, shown.cards, shown.run_id, js="(value) => value.chosen", **PRIVATE)
    picked.then(bind(partial(show, page), inputs), given, outputs, **SLOW, **PRIVATE).success(**reveal)
    dropped = drop.upload(
        bind(partial(adopt, page), inputs, "file"), [*given, drop], outputs, api_name="history_adopt", **SLOW
    )
    dropped.then(lambda: None, None, drop, **QUICK, **PRIVATE)
    dropped.success(**reveal)
    restarted = shown.again.click(bind(partial(again, page), inputs), given, outputs, **SLOW, **PRIVATE)
    look_again = f"(visitor) => `${{visitor.split('{LOOK_AGAIN}')[0]}}{LOOK_AGAIN}${{Date.now()}}`"
    restarted.success(None, inputs["visitor"], inputs["visitor"], js=look_again, **PRIVATE)
    shown.delete.click(
        bind(partial(press_delete, page), inputs, "doomed"), [*given, shown.doomed], outputs, **QUICK, **PRIVATE
    )
    shown.keep.click(keep, None, [shown.delete, shown.keep, shown.doomed], **QUICK, **PRIVATE)
    gr.Button(visible=False).click(
        bind(partial(delete, page), inputs), given, outputs, api_name="history_delete", **QUICK
    )


def _wire_restore(page: Page, tabs: gr.Tabs, inputs: shared.Controls, shown: View) -> None:
    """Let a run fill the controls of its task's tab."""
    filled_in = [each for tab in page.task_tabs for name, each in tab.controls.items() if name != "visitor"]
    shown.restore.click(
        partial(restore, page), [shown.run_id, inputs["visitor"]], [tabs, *filled_in], **SLOW, **PRIVATE
    )


def _add_comparison(page: Page, cards: gr.HTML, visitor: gr.Textbox) -> None:
    """The card that compares the runs that are ticked."""
    with gr.Column(visible=False, elem_classes="bd-card bd-result", elem_id=f"{NAME}-comparison") as comparison:
        shared.heading(3, "The selected runs, in one clock")
        player = compare_player(compare_value([Cell("", None)], 8), elem_id=f"{NAME}-compare-player")
    picked = gr.Textbox(visible=False)
    ticked = cards.compare(None, cards, picked, js="(value) => value.selected.join(' ')", **PRIVATE)
    compared = ticked.then(partial(compare, page), [picked, visitor], [comparison, player], **SLOW, **PRIVATE)
    compared.success(None, js=REVEAL % f"{NAME}-comparison", **PRIVATE)


def _owner(values: Values) -> str:
    return visitor_of(values.get("visitor")).owner


# The list


@telling
def look(page: Page, values: Values) -> tuple[Any, ...]:
    """The runs that the filters leave, and whether there are more: the first parts of a `View`."""
    limit, runs = values.get("limit") or PAGE, page.context.runs
    chosen = {
        "search": (values.get("search") or "").strip(), "task": values.get("task") or ALL,
        "favourites": bool(values.get("favourites")),
    }  # fmt: skip
    found = runs.find(_owner(values), **chosen, limit=limit + 1)
    rows = [_row(run) for run in found[:limit]]
    more, counted = len(found) > limit, "1 run" if len(rows) == 1 else f"{len(rows)} runs"
    cards = {
        "rows": rows, "chosen": values.get("run_id") or "", "trouble": runs.trouble,
        "empty": NOTHING_FOUND if any(chosen.values()) else NOTHING_YET,
        "note": f"{counted}, and there are more" if more else counted if rows else "",
    }  # fmt: skip
    seen = {"filters": _filters(values), "content": hash(repr((rows, more, cards["trouble"])))}
    return cards, gr.update(visible=more), limit, seen


def _filters(values: Values) -> list[Any]:
    return [values.get(name) or None for name in ("search", "task", "favourites")]


def show_more(page: Page, values: Values) -> tuple[Any, ...]:
    """The list with one page more of it."""
    return look(page, {**values, "limit": (values.get("limit") or PAGE) + PAGE})


def refresh(page: Page, values: Values, seen: Mapping[str, Any]) -> tuple[Any, ...]:
    """The list again, where it differs from what was `seen`. With other filters a look of its own is on its way.

    It leaves the choice to the page, where another may have been made since this was asked. Where the history cannot be
    read the list stays as it is: nobody asked, and the next look is near.
    """
    try:
        cards, *others, now = look(page, values)
    except gr.Error:
        return (gr.skip(),) * 4
    if seen["filters"] != now["filters"] or seen["content"] == now["content"]:
        return (gr.skip(),) * 4
    return {**cards, "chosen": None}, *others, now


@telling
def set_favourite(page: Page, values: Values, starred: str, favourite: bool) -> tuple[Any, ...]:
    """Give the run `starred` a star, or take it away. Favourites stay when the history grows too large."""
    page.context.runs.set_favourite(starred or "", _owner(values), bool(favourite))
    return look(page, values)


def _row(run: Run) -> dict[str, Any]:
    """What a card shows."""
    seconds = sum(run.seconds.values())
    return {
        "id": run.id, "prompt": run.prompt.strip() or "No prompt", "what": _what(run), "created": run.created,
        "key": run.state, "state": SAID[run.state], "seconds": f"{seconds:.1f} s" if seconds else "",
        "favourite": run.favourite, "thumbnail": _inline(run.thumbnail),
    }  # fmt: skip


def _what(run: Run) -> str:
    task = TASKS[run.task].title if run.task in TASKS else run.task
    made = title_of(run.image_model)
    return f"Comparison: {task}" if run.kind == "comparison" else task if run.task == "smooth" else f"{task}, {made}"


def _inline(picture: bytes) -> str:
    return "data:image/webp;base64," + base64.b64encode(picture).decode() if picture else ""


# The chosen run


@telling
def show(page: Page, values: Values) -> View:
    """The chosen run with its clips, its settings, and what can be done with it."""
    owner = _owner(values)
    return _details(page, page.context.runs.get(values.get("run_id") or "", owner), owner)


@telling
def adopt(page: Page, values: Values, file: str | None) -> View:
    """Take the run that a file carries into the history, and show it."""
    if not file:
        raise InputError("There is no file. Give an mp4, PNG, GIF or zip that was made here.")
    owner = _owner(values)
    run_id = page.context.runs.adopt(Path(file), owner)
    shown = _details(page, page.context.runs.get(run_id, owner), owner)
    return shown._replace(**_listed(page, {**values, "run_id": run_id}))


@telling
def again(page: Page, values: Values) -> View:
    """Run exactly the stored request of the chosen run once more."""
    run = page.context.runs.get(values.get("run_id") or "", _owner(values))
    gr.Info(page.rerun(run.id, values.get("visitor") or ""), duration=8)
    return View(**_listed(page, values))


def press_delete(page: Page, values: Values, doomed: str) -> View:
    """Ask at the first press, delete at the second."""
    if doomed == values.get("run_id"):
        return delete(page, values)
    sure = gr.update(value="Delete for good?", variant="stop")
    return View(delete=sure, keep=gr.update(visible=True), doomed=values.get("run_id"))


@telling
def delete(page: Page, values: Values) -> View:
    """Delete the chosen run and its files."""
    page.context.runs.delete(values.get("run_id") or "", _owner(values))
    button, hidden, none = keep()
    return View(
        **_listed(page, {**values, "run_id": ""}), run_id="", details=gr.update(visible=False), delete=button,
        keep=hidden, doomed=none,
    )  # fmt: skip


def _listed(page: Page, values: Values) -> dict[str, Any]:
    """The parts of a `View` that are the list."""
    return dict(zip(View._fields, look(page, values), strict=False))


def keep() -> tuple[Any, Any, str]:
    """The button as it is before anybody thought of deleting."""
    return gr.update(value="Delete", variant="secondary"), gr.update(visible=False), ""


def _details(page: Page, run: Run, owner: str) -> View:
    request, why = _request(page.context, run, owner)
    ended = run.state not in UNDER_WAY
    button, hidden, none = keep()
    return View(
        run_id=run.id, details=gr.update(visible=True), about=_about(page.context, run),
        player=_player(run, request, why),
        restore=gr.update(interactive=run.family == page.context.family and run.task in TASKS),
        again=gr.update(interactive=ended and request is not None), delete={**button, "interactive": ended},
        keep=hidden, doomed=none, settings=_settings(page, run),
    )  # fmt: skip


def _request(context: AppContext, run: Run, owner: str) -> tuple[GenerationRequest | None, str]:
    """What was asked, with its pictures, or why it is not there."""
    try:
        return context.runs.job(run.id, owner)[0], ""
    except BIVDiffError as error:
        return None, sentence(error)


def _about(context: AppContext, run: Run) -> str:
    """What a run is and how it ended, as HTML."""
    said = SAID[run.state]
    pill = f'<span class="bd-pill" data-state="{run.state}">{said}</span> ' if said else ""
    family = FAMILIES[run.family].title.partition(":")[0] if run.family in FAMILIES else run.family
    known = STATES.get(run.state, "")
    told = {"dropped": run.message or known, "interrupted": known}.get(run.state, f"{known} {run.message}".strip())
    made = datetime.fromtimestamp(run.created, timezone.utc)
    when = f"{made.day} {made:%B %Y, %H:%M} UTC"
    place = _elsewhere(context, run) if run.family != context.family else ""
    said_last = escape(_asks_for_models(run)), place
    paragraphs = "".join(f'<p class="bd-history-told">{text}</p>' for text in (escape(told), *said_last) if text)
    return (
        f'<h3 class="bd-history-prompt">{escape(run.prompt.strip() or "No prompt")}</h3>'
        f'<p class="bd-history-meta">{pill}{escape(_what(run))}. {escape(family)}, {when}.</p>{paragraphs}'
    )


def _asks_for_models(run: Run) -> str:
    """What a file from elsewhere would fetch and load, so that nobody runs a stranger's choice unknowingly."""
    asked = [run.settings.get(name) for name in ("base_model", "loras", "embeddings")] if run.state == "dropped" else []
    named = ", ".join(str(text) for text in asked if text)
    trust = "Running it fetches and loads them: do that only if you trust where the file is from."
    return f"The file asks for models of its own: {named}. {trust}" if named else ""


def _elsewhere(context: AppContext, run: Run) -> str:
    """Where a run of another family can be restored, as HTML."""
    if run.family not in context.families:
        return (
            f"It was made with the models of “{escape(run.family)}”, which this copy of the studio does not offer, so "
            "it cannot be restored here. Start the studio with BIVDIFF_FAMILIES=all."
        )
    # Relative, so that it holds wherever the app is served.
    name, place = FAMILIES[run.family].title.partition(":")[0], "" if run.family == context.families[0] else run.family
    return (
        f"It was made with other models than this page's. "
        f'<a href="./{escape(place)}">Restore it on the page {escape(name)}</a>.'
    )


# Its clips


def _player(run: Run, request: GenerationRequest | None, why: str) -> dict[str, Any]:
    """The clips of a run, read back from its files, with what it took and what there is to download.

    Args:
        run: whose.
        request: what was asked; None if that is not there, and then `why`.
    """
    tiles = _compared_clips(run, request) if run.kind == "comparison" else _clips(run, request, why)
    shown = {one["file"]["path"] for one in tiles if "file" in one}
    downloads = [
        {"label": FILES.get(name, name.capitalize()), "file": served(path)}
        for name, path in run.files.items() if str(path) not in shown
    ]  # fmt: skip
    facts = [("Seed", str(run.seed))] if run.seed is not None else []
    facts += [(label, f"{run.seconds[stage]:.1f} s") for stage, label in STAGES.items() if stage in run.seconds]
    return player_value(tiles, run.fps, facts, downloads)


def _map_names(run: Run) -> list[str]:
    """The files of a run's control maps, first to last."""
    return [name for name in run.files if name == "control" or name.startswith("control-")]


def _clips(run: Run, request: GenerationRequest | None, why: str) -> list[dict[str, Any]]:
    pictures, missed = {}, {"source": why}
    if request is not None:
        pictures["source"] = request.frames
        if request.masks is not None:
            pictures["mask"] = shown_masks(request.frames, request.masks)
    names = {"framewise": "framewise", "bridged": "bridged", "mask": "mask"}
    names |= {f"control-{number}": name for number, name in enumerate(_map_names(run), 1)}
    for key, name in names.items():
        if name in run.files and key not in pictures:
            frames, missed[key] = _read_back(run.files[name])
            pictures |= {} if frames is None else {key: frames}
    tiles = result_tiles(run.task, pictures, request.controls if request else ())
    for key, one in tiles.items():
        if one["sheet"] is None:
            one |= {"note": missed.get(key) or "Not made", "pending": False}
        if path := run.files.get(names.get(key, key)):
            one["file"] = served(path)
    for key, scores in _scores(run).items():
        if key in tiles:
            tiles[key]["scores"] = [[label, f"{score:.2f}"] for label, score in scores.items()]
    return list(tiles.values())


def _compared_clips(run: Run, request: GenerationRequest | None) -> list[dict[str, Any]]:
    """The source and the clips of a comparison, each named by the values it was made with."""
    axes = run.settings.get("axes") or {}
    tiles = [] if request is None else [tile("Source", request.frames)]
    for number, values in enumerate(product(*axes.values()), 1):
        label = ", ".join(_told(name, value) for name, value in zip(axes, values, strict=True))
        if path := run.files.get(f"cell {number}"):
            frames, why = _read_back(path)
            tiles.append(tile(label, frames, tone="blend", note=why, file=served(path)))
        else:
            tiles.append(tile(label, None, note="Not made"))
    return tiles


def _read_back(path: Path) -> tuple[np.ndarray | None, str]:
    """All frames of a file, or why there are none."""
    try:
        return read_all(path), ""
    except InputError as error:
        return None, sentence(error)


def read_all(path: Path) -> np.ndarray:
    """All frames of a file, uint8 `(F, H, W, 3)`.

    Raises:
        InputError: it cannot be read.
    """
    return read_clip(path, num_frames=probe(path).num_frames).frames


def _scores(run: Run) -> dict[str, dict[str, float]]:
    """What a run is scored by, in words, for each of its clips."""
    from bivdiff.compare.scores import SHORT_TITLES

    scores: dict[str, dict[str, float]] = {"source": {}, "framewise": {}, "bridged": {}}
    for name, score in run.scores.items():
        clip, label = SCORED.get(name, ("bridged", SHORT_TITLES.get(name, "")))
        if label and isinstance(score, int | float) and math.isfinite(score):
            scores[clip][label] = score
    return scores


# Its settings


def _settings(page: Page, run: Run) -> str:
    """The settings of a run as lists of HTML: those that are not the defaults, and all of them behind a fold."""
    labels = {
        name: part.label for tab in page.task_tabs if tab.task == run.task for name, part in tab.controls.items()
        if part.label
    }  # fmt: skip
    labels["axes"] = "Compared"
    usual = _usual(page.context, run)
    rows = {name: (labels.get(name) or name.replace("_", " ").capitalize(), _say(name, value))
            for name, value in run.settings.items()}  # fmt: skip
    changed = [
        rows[name] for name, value in run.settings.items() if name not in ELSEWHERE and usual.get(name, "") != value
    ]
    head = _definitions(changed) if changed else '<p class="bd-history-meta">All settings are the usual ones.</p>'
    fold = f'<details class="bd-words"><summary>All settings</summary>{_definitions(list(rows.values()))}</details>'
    title = "Settings other than the usual" if changed else "Settings"
    return f'<h3 class="bd-history-title">{title}</h3>{head}{fold}'


def _usual(context: AppContext, run: Run) -> dict[str, Any]:
    """The settings that a run's task starts with; empty where they are not known here."""
    if run.family not in FAMILIES or run.image_model not in getattr(TASKS.get(run.task), "image_models", ()):
        return {}
    return shared.defaults_of(replace(context, family=run.family), run.task, run.image_model).settings()


def _say(name: str, value: Any) -> str:
    """A setting's value in words."""
    if name == "controls":
        return "; ".join(_say_control(item) for item in value) or "none"
    if name == "axes":
        return "; ".join(f"{axis.replace('_', ' ')} {', '.join(map(str, values))}" for axis, values in value.items())
    if name == "image_model":
        return title_of(str(value))
    if value is None:
        return "the model's own" if name == "window" else "none"
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"{value:g}" if isinstance(value, float) else str(value) if value != "" else "empty"


def _say_control(item: Mapping[str, Any]) -> str:
    kind = item.get("control_type", "")
    start, end = item.get("start", 0), item.get("end", 1)
    span = "" if (start, end) == (0, 1) else f", from {start:g} to {end:g} of the steps"
    return f"{CONTROL_LABELS.get(kind, kind)}, strength {item.get('conditioning_scale', 1):g}{span}"


def _definitions(rows: Sequence[tuple[str, str]]) -> str:
    listed = "".join(f"<div><dt>{escape(label)}</dt><dd>{escape(text)}</dd></div>" for label, text in rows)
    return f'<dl class="bd-history-settings">{listed}</dl>'


# Restoring


@telling
def restore(page: Page, run_id: str, visitor: str) -> list[Any]:
    """Fill the controls of the task's tab as the run has them, and open that tab.

    Raises:
        gr.Error: it is not there, or belongs to another page.
    """
    run = page.context.runs.get(run_id or "", visitor_of(visitor).owner)
    if run.family != page.context.family:
        raise InputError(f"This run is one of '{run.family}', which has a page of its own. Restore it there.")
    tab = next((tab for tab in page.task_tabs if tab.task == run.task), None)
    if tab is None:
        raise InputError(f"There is no tab for the task '{run.task}', so this run cannot be restored.")
    updates, missed = filled(page.context, tab, run)
    request, told = _request(page.context, run, run.owner)
    if request is None:
        updates["restored"] = gr.update(value="")
    if asks := _asks_for_models(run):
        gr.Warning(asks, duration=15)
    if missed:
        told += f" The tab cannot show all of this run: {'; '.join(missed)}. “Run again” uses exactly what it used."
    if told:
        gr.Warning(f"Restored, but not all of it. {told.strip()}", duration=15)
    else:
        gr.Info("The settings and pictures of that run are in this tab.", duration=6)
    return [
        gr.update(selected=run.task),
        *(updates.get(name, gr.skip()) if each is tab else gr.skip() for each in page.task_tabs
          for name in each.controls if name != "visitor"),
    ]  # fmt: skip


# Comparing


@telling
def compare(page: Page, picked: str, visitor: str) -> tuple[Any, dict[str, Any]]:
    """The bridged clips of several runs, whose ids have spaces between them, in one comparison player.

    Raises:
        gr.Error: they cannot be compared.
    """
    ids = (picked or "").split()
    if not LEAST <= len(ids) <= MOST:
        raise InputError(f"From {LEAST} to {MOST} runs can be compared; {len(ids)} are selected.")
    owner = visitor_of(visitor).owner
    runs = [page.context.runs.get(run_id, owner) for run_id in ids]
    clips = [_bridged(run) for run in runs]
    shapes = list(dict.fromkeys(f"{len(clip)} frames of {clip.shape[2]}x{clip.shape[1]}" for clip in clips))
    if len(shapes) > 1:
        raise InputError(
            f"Only clips of the same size and length can be compared, and these have {', '.join(shapes[:-1])} and "
            f"{shapes[-1]}. Take the others away."
        )
    cells = [
        Cell(label, clip, sublabel, scores=_scores(run)["bridged"])
        for (label, sublabel), clip, run in zip(_labels(runs), clips, runs, strict=True)
    ]
    return gr.update(visible=True), compare_value(cells, runs[0].fps or 8)


def _bridged(run: Run) -> np.ndarray:
    if "bridged" not in run.files:
        raise InputError(f"“{_short(run.prompt)}” has no finished clip of its own, so it cannot be compared.")
    return read_all(run.files["bridged"])


def _labels(runs: Sequence[Run]) -> list[tuple[str, str]]:
    """What tells runs from each other: the first setting that differs, and the second."""
    names = [name for name in ("mixing_ratio", "prompt", *runs[0].settings) if name not in {"fps", "controls", "seed"}]
    differing = [name for name in dict.fromkeys(names) if len({repr(run.settings.get(name)) for run in runs}) > 1]
    told = [[_short(_told(name, run.settings.get(name))) for name in differing[:2]] for run in runs]
    return [(*own, *(f"Seed {run.seed}", "")[: 2 - len(own)]) for own, run in zip(told, runs, strict=True)]


def _told(name: str, value: Any) -> str:
    said = _say(name, value)
    return said if name in {"prompt", "image_model"} else f"{name.replace('_', ' ').capitalize()} {said}"


def _short(text: str, most: int = 48) -> str:
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"
