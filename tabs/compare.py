"""The tab "Compare": what the mixing ratio does, or any other setting or two, side by side in one clock."""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import gradio as gr

from bivdiff.catalog.families import family_named
from bivdiff.catalog.image_models import IMAGE_MODELS, title_of
from bivdiff.catalog.tasks import TASKS
from bivdiff.compare.axes import before_places, check_axes, framewise_file, read_values
from bivdiff.errors import BIVDiffError, InputError
from bivdiff.fields import table
from bivdiff.studio.jobs import Job
from bivdiff.types import Control, GenerationRequest
from tabs import controls as shared
from tabs.binding import Values, bind
from tabs.bridge import VIDEO_LABELS
from tabs.comparison import ComparisonBoard, with_last_seed
from tabs.context import AppContext
from tabs.events import PRIVATE, QUICK, READING
from tabs.examples import comparison_example
from tabs.failures import refusal, sentence, warn
from tabs.figures import figure_panel
from tabs.films import wire_films
from tabs.following import WATCHING, Place, cancel, enqueue, resume, submit_and_follow
from tabs.history.clips import run_player, scores_of_cells
from tabs.history.details import request_of
from tabs.progress import idle_panel
from tabs.ratios import RATIOS as FIVE_RATIOS
from tabs.requests import ReadJob, Submission, fill_in, submission_of
from tabs.restoring import controls_to_fill, fill, updates_of
from tabs.results import series_of
from tabs.task_tab import SHOW_RESULT, PageParts, TaskTab
from tabs.visitors import visitor_of
from tabs.widgets.player import ComparedClip, clip_player, comparison_value, mark_of
from tabs.widgets.progress import progress_panel

if TYPE_CHECKING:
    from bivdiff.studio.history.records import Run

NAME = "compare"
SHOW_SENT = "() => window.bdRevealOpen()"
TITLE = "Compare"
RATIOS = ", ".join(f"{ratio:g}" for ratio in FIVE_RATIOS)
ABOUT = (
    "The frames are made and inverted once, and only the smoothing runs for each clip. Set a clip up in its task's tab "
    "and compare its ratios from there; or start at once, with the first sample. A random seed stays what it was in "
    "your last run of the same frames, whose stages are used again."
)
# A second setting: its key among the request's fields, and the numbers that are offered; of choices all are.
OTHERS: Mapping[str, Sequence[float]] = {
    "frame_prior": (), "mixing_rule": (), "start_level": (0.4, 0.6, 0.8, 1), "frame_attention": (),
    "smoothing_guidance_scale": (1, 2, 4), "num_smoothing_steps": (10, 20, 40), "guidance_scale": (2, 4, 8),
    "seed": (1, 2, 3), "video_model": (),
}  # fmt: skip


FORGOTTEN = (
    "This window has been open for so long that the studio has forgotten what was to be compared. The tab “{}” still "
    "has it: press “Compare” there."
)
NOTHING_MADE = (
    "There is nothing to use yet, or this window has been open for so long that the studio has forgotten it. Press "
    "“Compare” first, or choose an earlier comparison in the history."
)


class Pending(NamedTuple):
    """What is to be compared: what a task's tab holds. Its clip is read when the comparison is asked for.

    A session keeps this until it ends, and would keep the clip as well.
    """

    task: str
    values: Values


class ComparisonView(NamedTuple):
    """What a comparison shows, in the order of the event's outputs; `gr.skip()` leaves a part as it is."""

    panel: Any = gr.skip()
    player: Any = gr.skip()
    findings: Any = gr.skip()
    download: Any = gr.skip()
    made: Any = gr.skip()
    stop: Any = gr.skip()
    queue: Any = gr.skip()


PLACE = Place(NAME, ComparisonView, partial(idle_panel, next(iter(TASKS))))


def build(context: AppContext, tabs: gr.Tabs, task_tabs: Sequence[TaskTab], page: PageParts) -> None:
    """Lay the tab out and connect it with the tabs of the tasks. Call it inside a `gr.Tab` of the page."""
    pending, made = gr.State(None), gr.State(None)
    # The browser's own note of which task's settings it has given, which outlasts what a session keeps.
    taken = gr.Textbox("", visible=False, label="Taken over from", info="Leave it empty")
    with shared.columns(), shared.card():
        shared.heading(1, "What to compare")
        shared.remark(ABOUT)
        summary = gr.HTML(say_pending(context), elem_id=f"{NAME}-summary", apply_default_css=False)
        ratios = gr.Textbox(
            RATIOS, label="Mixing ratios", info="Between commas, each from 0 to 1; leave empty to keep the tab's",
            elem_id=f"{NAME}-ratios",
        )  # fmt: skip
        with shared.fields():
            other = gr.Dropdown(
                [("None", ""), *((table(GenerationRequest)[name].label, name) for name in OTHERS)], value="",
                label="A second setting", info="Two settings make a grid", elem_id=f"{NAME}-other", min_width=180,
            )  # fmt: skip
            # All there are while it is hidden, so that clients are told them.
            every = dict.fromkeys(choice for name in OTHERS for choice in _choices_of(context, name))
            values = gr.Dropdown(
                list(every), value=[], multiselect=True, allow_custom_value=True, label="Its values",
                info="Choose, or write a number and press Enter", elem_id=f"{NAME}-values", min_width=180,
                visible=False,
            )  # fmt: skip
            other.input(partial(offer_values, context), other, values, **QUICK, **PRIVATE)
        with gr.Row(elem_classes="bd-run"):
            start = gr.Button("Compare", variant="primary", size="lg", scale=3, elem_id=f"{NAME}-start")
            stop = gr.Button("Cancel", size="lg", scale=1, interactive=False, elem_id=f"{NAME}-cancel", min_width=96)
        panel = progress_panel(PLACE.idle(), elem_id=f"{NAME}-progress", elem_classes="bd-panel")
    with gr.Column(elem_classes="bd-card bd-result", elem_id=f"{NAME}-result"):
        shared.heading(2, "Side by side, playing in step")
        empty = [ComparedClip(f"ratio {ratio.strip()}", note="Not made yet") for ratio in RATIOS.split(",")]
        first = [ComparedClip("Frame by frame", note="Not made yet", tone="image")]
        example, what_to_see = comparison_example(context.family)
        player = clip_player(
            example or comparison_value(empty, 8, befores=first), "choice", elem_id=f"{NAME}-player"
        )  # fmt: skip
        with gr.Row(elem_classes="bd-asides"):
            send = gr.Button("Use the chosen one", size="sm", elem_id=f"{NAME}-use", min_width=160)
            download = gr.DownloadButton(
                "Everything in a zip", size="sm", interactive=False, elem_id=f"{NAME}-zip", min_width=160
            )
        findings = gr.HTML(what_to_see, elem_id=f"{NAME}-findings", elem_classes="bd-findings", apply_default_css=False)
        figure_panel(context, player, page.visitor, NAME)
    given = [pending, ratios, other, values, page.visitor, taken]
    shown = [panel, player, findings, download, made, stop, page.queue]
    _wire(context, task_tabs, [pending, summary, ratios, tabs, other, values, taken], given, shown)
    start.click(
        partial(compare, context, readers_of(task_tabs)), given, shown, api_name=NAME, trigger_mode="multiple",
        **WATCHING, js=SHOW_RESULT % (NAME, given.index(page.visitor)),
    )  # fmt: skip
    stop.click(partial(cancel, context, PLACE), page.visitor, None, queue=False, api_name=f"{NAME}_stop")
    page.visitor.change(
        partial(resume, context, PLACE), page.visitor, shown, api_visibility="private", **WATCHING
    )  # fmt: skip
    _wire_back(context, tabs, task_tabs, send, [player, made, page.visitor])
    wire_films(context, player, page.visitor)


def _wire(
    context: AppContext, task_tabs: Sequence[TaskTab], outputs: Sequence[Any], given: Sequence[Any],
    shown: Sequence[Any],
) -> None:  # fmt: skip
    """Let the button of each task's tab take its settings over, and compare them at once."""
    for tab in task_tabs:
        taken = tab.compare.click(
            bind(partial(take_over, context, tab), tab.controls), list(tab.controls.values()), list(outputs),
            show_progress="hidden", api_name=f"{tab.task}_compare", **READING,
        )  # fmt: skip
        taken.success(
            partial(compare, context, readers_of(task_tabs)), list(given), list(shown), api_visibility="private",
            trigger_mode="multiple", js=SHOW_RESULT % (NAME, len(given) - 2), **WATCHING,
        )  # fmt: skip


def _wire_back(
    context: AppContext, tabs: gr.Tabs, task_tabs: Sequence[TaskTab], send: gr.Button, given: Sequence[Any]
) -> None:
    """Let the chosen cell's settings go back to the tab of its task, and be seen there with its clips."""
    players = [tab.player for tab in task_tabs]
    sent = send.click(
        partial(send_back, context, task_tabs), given, [tabs, *controls_to_fill(task_tabs), *players],
        show_progress="hidden", api_visibility="private",
    )  # fmt: skip
    sent.success(None, js=SHOW_SENT, api_visibility="private")


# What comes from a task's tab, and what goes back


def take_over(context: AppContext, tab: TaskTab, values: Values) -> tuple[Any, ...]:
    """Take a tab's settings for the next comparison, the tab's ratio and the paper's among its own, and show this tab.

    Raises:
        gr.Error: they cannot be used.
    """
    try:
        request = tab.read(context, values).request
    except BIVDiffError as error:
        raise refusal(sentence(error)) from None
    ratios = {*map(float, RATIOS.split(",")), request.mixing_ratio, IMAGE_MODELS[request.image_model].paper_ratio}
    told = ", ".join(f"{ratio:g}" for ratio in sorted(ratios))
    alone = gr.update(value=""), gr.update(visible=False, value=[])
    pending = Pending(tab.task, dict(values))
    return pending, say_pending(context, tab.task, request), told, gr.update(selected=NAME), *alone, tab.task


def readers_of(task_tabs: Sequence[TaskTab]) -> Mapping[str, ReadJob]:
    """What makes a submission of the values of a task's tab, by the task."""
    return {tab.task: tab.read for tab in task_tabs}


def say_pending(context: AppContext, task: str = "", request: GenerationRequest | None = None) -> str:
    """What will be compared, as a line of HTML; without a request the first task on the first sample."""
    if request is None:
        first = TASKS[next(iter(TASKS))]
        what, words = f"{first.title}, {title_of(first.image_models[0])}, the first sample", context.samples[0].prompt
    else:
        what = f"{TASKS[task].title}, {title_of(request.image_model)}, {len(request.frames)} frames"
        words = request.prompt or request.video_prompt or "no prompt"
    return f'<p class="bd-pending"><strong>{what}</strong>: <q>{html.escape(words)}</q></p>'


def _first(context: AppContext) -> tuple[str, Submission]:
    """The first task with its defaults on the first sample, where nothing has come from a tab."""
    task = next(iter(TASKS))
    values = {"sample": 0, "prompt": context.samples[0].prompt, "random_seed": True}
    return task, submission_of(context, fill_in(context, task, values, controls=(Control(),)), values)


def send_back(
    context: AppContext, task_tabs: Sequence[TaskTab], shown: Mapping[str, Any], made: Any, visitor: str
) -> list[Any]:
    """The tab of the chosen cell's task, for its controls all settings of that cell, pictures included, and its clips.

    Raises:
        gr.Error: nothing was made, nothing is chosen, or the history has lost the comparison.
    """
    chosen = (shown or {}).get("chosen")
    if not made:
        raise refusal(NOTHING_MADE)
    place = -1 if chosen is None else chosen - made["before"]
    if not 0 <= place < len(made["cells"]) or made["cells"][place] is None:
        raise refusal("No clip is chosen. Click the one that you want to use.")
    values, owner = made["cells"][place], visitor_of(visitor).owner
    try:
        run = context.runs.get(made["run_id"], owner)
    except BIVDiffError as error:
        raise refusal(sentence(error)) from None
    cell = as_a_run(run, place, values)
    tab = next(tab for tab in task_tabs if tab.task == run.task)
    updates, unshown = updates_of(context, tab, cell)
    if unshown:
        warn(f"The tab cannot show all of it: {'; '.join(unshown)}.")
    with context.decoding():
        request, why = request_of(context, run, owner)
        shown = run_player(cell, request, why)
    if request is not None:
        own = replace(request, **values)
        shown |= {
            "of": mark_of(own.frames),
            "series": series_of(own),
            "ratio": own.mixing_ratio,
            "job": True,
            "sent": True,
        }
    # Films and links are of the whole comparison.
    shown["downloads"] = [each for each in shown["downloads"] if "film" not in each]
    return [*fill(task_tabs, tab, updates), *(shown if each is tab else gr.skip() for each in task_tabs)]


def as_a_run(run: Run, place: int, values: Mapping[str, Any]) -> Run:
    """One clip of a comparison as if it were a run of its own.

    Args:
        run: the comparison.
        place: of the clip among its cells.
        values: of the settings that are compared, and the seed.
    """
    frames = framewise_file(before_places(run.settings["axes"])[place])
    names = {"bridged": f"cell {place + 1}", "framewise": frames}
    files = {name: run.files[key] for name, key in names.items() if key in run.files}
    return replace(
        run, kind="run", settings={**run.settings, **values}, seed=values["seed"], files=files, seconds={},
        scores=scores_of_cells(run).get(place, {}),
    )  # fmt: skip


# The comparison


def offer_values(context: AppContext, other: str) -> Any:
    """The values of a second setting to choose from, in words, and all of them chosen; hidden where there is none."""
    if other not in OTHERS:
        return gr.update(visible=False, choices=[], value=[])
    choices, written = _choices_of(context, other), table(GenerationRequest)[other].kind == "number"
    info = "Choose, or write a number and press Enter" if written else "Take away what you do not want"
    return gr.update(visible=True, choices=choices, value=[key for _, key in choices], info=info)


def _choices_of(context: AppContext, other: str) -> list[tuple[str, str]]:
    """The values that are offered of a second setting, each in words and as it is sent."""
    if other == "video_model":
        return [(VIDEO_LABELS.get(name, name), name) for name in family_named(context.family).video_models]
    known = table(GenerationRequest)[other].choices or {}
    numbers = [(f"{number:g}", f"{number:g}") for number in OTHERS[other]]
    return [(label, key) for key, label in known.items()] or numbers


def axes_of(ratios: str, other: str, values: str | Sequence[Any]) -> dict[str, list[Any]]:
    """The settings to compare with their values, from what the page has or a client sends.

    Args:
        ratios: numbers between commas; empty where the ratio is not compared.
        other: key of `OTHERS`; empty where there is no second setting.
        values: of that setting: keys or numbers, in a list or between commas.

    Raises:
        InputError: it cannot be read.
    """
    axes = {"mixing_ratio": read_values("mixing_ratio", ratios)} if (ratios or "").strip() else {}
    if other:
        if other not in OTHERS:
            raise InputError(f"Unknown setting '{other}'. Choose one of: {', '.join(OTHERS)}.")
        written = values if isinstance(values, str) else ",".join(str(value) for value in values or ())
        axes[other] = read_values(other, written)
    return axes


def compare(
    context: AppContext,
    readers: Mapping[str, ReadJob],
    pending: Pending | None,
    ratios: str,
    other: str,
    values: str | Sequence[Any],
    visitor: str = "",
    taken: str = "",
) -> Iterator[ComparisonView]:
    """Make a clip for each value, and show it when it is ready. Whoever leaves the page leaves the comparison as it is.

    Args:
        context: makes them.
        readers: see `readers_of`.
        pending: what has come from a task's tab, if anything has.
        ratios, other, values: see `axes_of`.
        visitor: who asks.
        taken: the task whose settings the page has handed over, if it has; they must be there still.

    Yields:
        What to show, step by step.
    """

    def submitted(owner: str) -> Job[ComparisonBoard]:
        if pending is None and taken:
            raise InputError(FORGOTTEN.format(TASKS[taken].title if taken in TASKS else taken))
        axes = axes_of(ratios, other, values)
        task, submission = (
            _first(context) if pending is None else (pending.task, readers[pending.task](context, pending.values))
        )  # fmt: skip
        return submit(context, task, submission, axes, owner)

    yield from submit_and_follow(context, PLACE, submitted, visitor)


def submit(
    context: AppContext, task: str, submission: Submission, axes: Mapping[str, Sequence[Any]], owner: str
) -> Job[ComparisonBoard]:
    """Give a comparison to the queue.

    Raises:
        InputError: a value is out of range, too many wait, or the owner does not allow what is asked for.
    """
    check_axes(submission.request, axes)
    submission = submission._replace(request=with_last_seed(context, submission.request, owner))
    request = submission.request
    return enqueue(
        context, PLACE, lambda: ComparisonBoard(context, submission, axes, owner),
        lambda board: context.sweep(board.request, axes, submission.to_fit), request=request, owner=owner,
        title=f"Comparison, {TASKS[task].title.lower()}: {request.prompt or request.video_prompt}",
    )  # fmt: skip
