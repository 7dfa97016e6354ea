"""What the tabs share: the way from a filled-in page to a result on it.

A tab collects its controls in one dictionary, whose keys are fields of `GenerationRequest` or names that it reads
itself (`sample`, `video`, `restored`, `visitor`, `start`, `stride`, `num_frames`, `fit`, `random_seed` are read here),
and hands it to `add_result` with a function that makes a `Job` of them. Handlers get the same dictionary, filled with
values.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import Any, NamedTuple

import gradio as gr
import numpy as np

from bivdiff.catalog.families import family_named
from bivdiff.catalog.own import check_allowed
from bivdiff.catalog.requests import default_request
from bivdiff.catalog.tasks import TASKS
from bivdiff.errors import InputError
from bivdiff.media import reading
from bivdiff.media.reading import Clip, read_clip
from bivdiff.pixels.canvas import parse_size
from bivdiff.studio.jobs import Job as QueuedJob
from bivdiff.studio.limits import check_length
from bivdiff.toybox.clips import SampleClip
from bivdiff.types import GenerationRequest
from tabs.boards import RunBoard, Visitor, begin_job, panel_of, sentence, visitor_of, waiting_words, watch
from tabs.context import AppContext
from tabs.controls import Controls, RunControls, heading
from tabs.examples import example_player
from tabs.player import player_value, sync_player, tile
from tabs.queue import queue_value
from tabs.results import record_of
from tabs.running import HEARTBEAT, idle_panel

Values = Mapping[str, Any]

# Runs in the browser before a run starts: the result may be out of sight, and the page not yet told who uses it.
SHOW_RESULT = """(...values) => {
  const calm = window.matchMedia("(prefers-reduced-motion: reduce)").matches;
  document.querySelector("#%s-progress")?.scrollIntoView({ behavior: calm ? "auto" : "smooth", block: "start" });
  values[%d] ||= window.bdVisitor();
  return values;
}"""
# Many may watch their jobs at a time; what they watch is done one after the other.
WATCHING: dict[str, Any] = {"concurrency_id": "watch", "concurrency_limit": 32, "show_progress": "hidden"}
TRIM = ("start", "stride", "num_frames", "fit")


class Job(NamedTuple):
    """A request, the rate at which its clip plays, and whether it may be changed so that it fits into the memory."""

    request: GenerationRequest
    fps: float
    to_fit: bool = True


class PageParts(NamedTuple):
    """What every tab of a page has to do with: the visitor's token, and the strip of the visitor's jobs."""

    visitor: gr.Textbox
    queue: gr.HTML


ReadJob = Callable[[AppContext, Values], Job]


class TaskTab(NamedTuple):
    """A task's tab, once it is laid out: what another tab needs to take over its settings, or to send some back."""

    task: str
    read: ReadJob
    controls: Controls
    compare: gr.Button


class View(NamedTuple):
    """What a run shows on the page, in the order of the event's outputs; `gr.skip()` leaves a part as it is."""

    panel: Any = gr.skip()
    player: Any = gr.skip()
    seed: Any = gr.skip()
    stop: Any = gr.skip()
    queue: Any = gr.skip()


@dataclass(frozen=True)
class Preview:
    """What is shown of a source before a run.

    Attributes:
        show: handler that takes the values of the controls and yields the values of `outputs`.
        outputs: where it shows, the player first.
        watched: names of the controls whose change shows it anew; the source itself always does.
        api_name: its endpoint.
    """

    show: Callable[[Values], Iterator[Any]]
    outputs: Sequence[gr.HTML]
    watched: Sequence[str]
    api_name: str


# From the page to a request


def make_job(context: AppContext, task: str, values: Values, clip: Clip, **own: Any) -> Job:
    """Turn a filled-in page and its clip into a request.

    Args:
        context: knows the family.
        task: key of the catalog's tasks.
        values: of all controls; those that are fields of the request go into it.
        clip: the source.
        own: fields of the request that the task makes of several controls.

    Raises:
        InputError: a value cannot be used.
    """
    known = {item.name for item in fields(GenerationRequest)}
    changes = {name: whole(value) for name, value in values.items() if name in known} | own
    changes["window"] = changes.get("window") or None  # 0 stands for the model's own
    changes["seed"] = None if values.get("random_seed") else whole(values.get("seed"))
    if earlier := restored(context, values):  # what the page has no control for stays as it was
        own = {name: getattr(earlier.request, name) for name in known} | {
            name: value for name, value in changes.items() if value is not None or name in ("window", "seed")
        }
        changes = {name: value for name, value in own.items() if name not in ("frames", "task", "family")}
    prompt = changes.pop("prompt", None)
    request = default_request(task, context.family, clip.frames, "" if prompt is None else prompt, **changes)
    return Job(request, clip.fps, values.get("fit_memory") is not False)


def restored(context: AppContext, values: Values) -> Job | None:
    """The run whose pictures stand in for the source, where one was restored.

    Raises:
        InputError: it is not there any more.
    """
    run_id = values.get("restored")
    return Job(*context.runs.job(run_id, visitor_of(values.get("visitor")).owner)) if run_id else None


def source_path(context: AppContext, values: Values) -> Any:
    """The path of the clip that the source controls choose.

    Raises:
        InputError: there is no such sample.
    """
    sample = chosen_sample(context, values)
    return values.get("video") or sample.file


def chosen_sample(context: AppContext, values: Values) -> SampleClip:
    """The sample that is chosen, or was last.

    Raises:
        InputError: there is no such sample.
    """
    index = whole(values.get("sample")) or 0
    if not isinstance(index, int) or not -1 <= index < len(context.samples):
        raise InputError(f"There are {len(context.samples)} sample clips, numbered from 0; got {index!r}.")
    return context.samples[max(index, 0)]


def read_source(context: AppContext, values: Values, size: tuple[int, int] | None = None) -> Clip:
    """The frames that the source controls choose, at the size they choose or another `(width, height)`.

    A restored run's are as they were.

    Raises:
        InputError: the clip cannot be used.
    """
    if earlier := restored(context, values):
        return Clip(earlier.request.frames, earlier.fps)
    chosen = {name: whole(values[name]) for name in TRIM if values.get(name) is not None}
    wanted = parse_size(values["size"]) if values.get("size") else family_named(context.family).size
    size, num_frames = size or wanted, family_named(context.family).num_frames
    asked, most = chosen.get("num_frames", num_frames), context.settings.max_frames
    if isinstance(asked, int) and asked > most:
        raise InputError(f"Here a clip may have up to {most} frames, and {asked} are asked for. Take fewer.")
    return read_clip(source_path(context, values), size=size, **{"num_frames": num_frames, **chosen})


def read_beside(values: Values, path: Any, frames: np.ndarray) -> np.ndarray:
    """A clip that goes with the source `frames` one by one and is trimmed as they are; see `reading.read_beside`."""
    chosen = {name: whole(values[name]) for name in TRIM if name != "num_frames" and values.get(name) is not None}
    return reading.read_beside(path, frames, **chosen)


def whole(value: Any) -> Any:
    """20.0 as 20: clients send whole numbers either way."""
    return int(value) if isinstance(value, float) and math.isfinite(value) and value == int(value) else value


# Before a run


def preview_source(context: AppContext, label: str, values: Values) -> Iterator[dict[str, Any]]:
    """Show the trimmed source: what the models will be given."""
    try:
        clip = read_source(context, values)
        yield player_value([tile(label, clip.frames)], clip.fps)
    except Exception as error:  # noqa: BLE001 - `sentence` logs what is not meant for users
        yield player_value([tile(label, None, note=sentence(error))], 8)


# Running


def place_of(context: AppContext, name: str) -> str:
    """Where the jobs of a tab belong: each family's page has its own."""
    return f"{context.family}/{name}"


def submit(context: AppContext, task: str, job: Job, owner: str) -> QueuedJob:
    """Give a run to the queue.

    Raises:
        InputError: too many wait, or the owner does not allow what is asked for.
    """
    check_allowed(job.request, context.settings)  # now, and not when its turn has come
    check_length(job.request, context.settings)
    title = f"{TASKS[task].title}: {job.request.prompt or job.request.video_prompt}"
    return begin_job(
        context, owner, lambda: RunBoard(context, job.request, job.fps, owner),
        lambda board: context.run(board.request, job.to_fit), place=place_of(context, task), title=title,
    )  # fmt: skip


def generate(context: AppContext, read: ReadJob, task: str, values: Values) -> Iterator[View]:
    """Give a run to the queue and show how far it is. Whoever leaves the page leaves the run as it is.

    Args:
        context: gives the run.
        read: makes a job of the values.
        task: key of the catalog's tasks.
        values: of all controls.

    Yields:
        What to show, step by step.
    """
    visitor = visitor_of(values.get("visitor"))
    try:
        submit(context, task, read(context, values), visitor.owner)
    except Exception as error:  # noqa: BLE001 - `sentence` logs what is not meant for users
        yield View(_failed(idle_panel(task), error))
        return
    yield from followed(context, task, visitor)


def resume(context: AppContext, task: str, visitor: str) -> Iterator[View]:
    """Show the visitor's running or last job of a tab again: after a reload, in another window."""
    who = visitor_of(visitor)
    yield View(queue=queue_value(context, who))  # there may be nothing to follow
    yield from followed(context, task, who)


def followed(context: AppContext, task: str, visitor: Visitor) -> Iterator[View]:
    """Views of the jobs of a tab until none of them waits any more."""
    drawn: Any = None
    for job in watch(context, visitor, place_of(context, task)):
        board, ended = job.board, not job.waits
        mark, player = (job.id, board.version), gr.skip()
        if mark != drawn:
            drawn, player = mark, board.player()
        panel = panel_of(context, job)
        if job.state == "queued":
            panel["headline"] = waiting_words(context, job)
        elif job.stopping and not ended:
            panel |= {"headline": "Stopping after this step", "remaining": None}
        elif job.state in ("failed", "cancelled"):
            kept = next((old.board for old in context.jobs.of(visitor.owner, job.place) if old.state == "done"), None)
            if kept:
                player = kept.player()
            elif job.state == "cancelled":
                player = board.player()
            panel["detail"] = _kept_words(job, kept)
        if job.state == "failed":
            gr.Warning(board.told, duration=12)
        seed = board.request.seed if job.state == "done" else gr.skip()
        yield View(panel, player, seed, gr.update(interactive=not ended), queue_value(context, visitor))


def _kept_words(job: QueuedJob, kept: Any) -> str:
    shown = "The last finished run is shown." if kept else "What there was by then is shown."
    return shown + (" What was made is in the history too." if job.board.run_id else "")


def cancel(context: AppContext, task: str, visitor: str) -> None:
    """Stop the visitor's job that a tab shows."""
    jobs = context.jobs.of(visitor_of(visitor).owner, place_of(context, task))
    if jobs:
        context.jobs.cancel(jobs[0])


def foresee(context: AppContext, read: ReadJob, task: str, values: Values) -> dict[str, Any]:
    """Tell what a run would take, without running it: the value of the progress panel."""
    try:
        return {**idle_panel(task), "state": "stopped", "headline": context.expected(read(context, values).request)}
    except Exception as error:  # noqa: BLE001 - `sentence` logs what is not meant for users
        return _failed(idle_panel(task), error)


def generate_files(context: AppContext, read: ReadJob, task: str, values: Values) -> Iterator[tuple[Any, ...]]:
    """Run a job for a client: the bridged and frame-by-frame clips, control maps or mask, a GIF, PNG frames, a record.

    Until the end only the record has a value: how far the run is. Closing the generator stops the run.
    """
    queued = None
    try:
        job = read(context, values)
        queued = submit(context, task, job, visitor_of(values.get("visitor")).owner)
        board, seen = queued.board, -1
        while queued.waits:
            yield (None, None, None, None, None, board.progress())
            seen = context.jobs.wait(seen, HEARTBEAT)
        if board.result is None or not board.files:
            raise InputError(board.told or "The run was cancelled.")
        files = {name: str(path) for name, path in board.files.items()}
        bridged, framewise, gif, pngs = (files.pop(name) for name in ("bridged", "framewise", "gif", "pngs"))
        yield bridged, framewise, list(files.values()) or None, gif, pngs, record_of(board.result, job.fps)
    except Exception as error:  # noqa: BLE001 - `sentence` logs what is not meant for users
        raise gr.Error(sentence(error), print_exception=False) from None
    finally:
        if queued is not None:
            context.jobs.cancel(queued)


def _failed(panel: dict[str, Any], error: Exception) -> dict[str, Any]:
    told = sentence(error)
    gr.Warning(told, duration=12)
    return {**panel, "state": "failed", "headline": told, "detail": "", "remaining": None}


# Layout and wiring


def add_result(
    context: AppContext, read: ReadJob, task: str, controls: Controls, buttons: RunControls, queue: gr.HTML
) -> TaskTab:
    """The card of the results at the end of every tab, and the run that fills it.

    Clients get `/{task}`, files and a record, and `/{task}_page`, `/{task}_resume` and `/{task}_stop`, what the page
    shows and does.

    Args:
        context: gives the run.
        read: makes a job of the tab's values.
        task: key of the catalog's tasks.
        controls: the tab's.
        buttons: what `run_controls` returned.
        queue: shows the visitor's jobs.

    Returns:
        The tab, as others may use it.
    """
    with gr.Column(elem_classes="bd-card bd-result", elem_id=f"{task}-result"):
        heading(3, "Side by side, in step")
        player = sync_player(example_player(task, context.family), elem_id=f"{task}-player", elem_classes="bd-results")
    start, stop, estimate, compare, panel = buttons
    inputs = list(controls.values())
    visitor = controls["visitor"]
    shown = [panel, player, controls["seed"], stop, queue]
    start.click(
        bind(partial(generate, context, read, task), controls), inputs, shown, api_name=f"{task}_page",
        js=SHOW_RESULT % (task, list(controls).index("visitor")), trigger_mode="multiple", **WATCHING,
    )  # fmt: skip
    estimate.click(
        bind(partial(foresee, context, read, task), controls), inputs, panel, show_progress="hidden",
        api_name=f"{task}_estimate", concurrency_id="preview",
    )  # fmt: skip
    stop.click(partial(cancel, context, task), visitor, None, queue=False, api_name=f"{task}_stop")
    visitor.change(partial(resume, context, task), visitor, shown, api_name=f"{task}_resume", **WATCHING)
    clips = [gr.File(label=label, visible=False) for label in ("Bridged clip", "Frame-by-frame clip")]
    steering = gr.File(label="Control clips or mask clip", file_count="multiple", visible=False)
    others = [gr.File(label=label, visible=False) for label in ("Bridged clip as GIF", "PNG frames in a zip")]
    outputs = [*clips, steering, *others, gr.JSON(label="Record", visible=False)]
    gr.Button(visible=False).click(
        bind(partial(generate_files, context, read, task), controls), inputs, outputs, api_name=task, **WATCHING
    )
    return TaskTab(task, read, controls, compare)


def wire_source(
    context: AppContext,
    tab: gr.Tab | gr.Blocks,
    controls: Controls,
    preview: Preview,
    texts: Mapping[str, Callable[[SampleClip], str]],
    task: str,
) -> None:
    """Connect samples and upload with each other, with a sample's texts, and with the preview.

    Args:
        context: knows the samples.
        tab: shows the preview when it is first opened; the page itself for the tab that the page opens with.
        controls: the tab's.
        preview: what to show whenever the source changes.
        texts: names of the controls that a sample fills in, and what to fill in.
        task: key of the catalog's tasks.
    """
    sample, video, inputs = controls["sample"], controls["video"], list(controls.values())
    earlier = controls["restored"]  # gives way to another clip
    show = bind(preview.show, controls)
    quick: dict[str, Any] = {"queue": False, "show_progress": "hidden"}
    slow: dict[str, Any] = {"show_progress": "hidden", "trigger_mode": "always_last", "concurrency_id": "preview"}
    hidden: dict[str, Any] = {"api_visibility": "private"}
    picked = sample.pick(
        bind(partial(pick_sample, context, texts), {}, "index"), sample,
        [video, earlier, *(controls[name] for name in texts)], api_name=f"{task}_sample", **quick,
    )  # fmt: skip
    outputs = list(preview.outputs)
    picked.then(show, inputs, outputs, **slow, **hidden)
    video.upload(lambda: (-1, ""), None, [sample, earlier], **quick, **hidden)
    video.clear(lambda: (0, ""), None, [sample, earlier], **quick, **hidden)
    changes = [video.upload, video.clear, earlier.change, *(controls[name].change for name in preview.watched)]
    gr.on(changes, show, inputs, outputs, api_name=preview.api_name, **slow)
    if isinstance(tab, gr.Blocks) and not isinstance(tab, gr.Tab):
        tab.load(show, inputs, outputs, **slow, **hidden)
        return
    opened = gr.State(False)
    once = bind(partial(_first_time, preview.show, len(outputs)), controls, "opened")
    tab.select(once, [*inputs, opened], [*outputs, opened], **slow, **hidden)


def _first_time(
    show: Callable[[Values], Iterator[Any]], count: int, values: Values, opened: bool
) -> Iterator[tuple[Any, ...]]:
    """Show a preview unless that was done before; it says itself whenever something changes."""
    if opened:
        yield (*(gr.skip() for _ in range(count)), True)
        return
    for shown in show(values):
        yield (*(shown if count > 1 else (shown,)), True)


def pick_sample(context: AppContext, texts: Mapping[str, Callable[[SampleClip], str]], index: int) -> Any:
    """Choose a sample clip: no upload and no restored run any more, and the clip's own texts."""
    if not isinstance(index, int) or not 0 <= index < len(context.samples):
        raise gr.Error(f"There are {len(context.samples)} sample clips, numbered from 0.", print_exception=False)
    return None, "", *(text_of(context.samples[index]) for text_of in texts.values())


def bind(handler: Callable[..., Any], controls: Controls, *others: str) -> Callable[..., Any]:
    """Let Gradio call `handler(values, *others)`, where `values` is keyed like `controls`.

    Without controls there are no values. The names of the controls become the names of the endpoint's parameters.
    """
    names = list(controls)

    def call(*given: Any) -> Any:
        values = [dict(zip(names, given, strict=False))] if names else []
        return handler(*values, *given[len(names) :])

    def stream(*given: Any) -> Iterator[Any]:
        yield from call(*given)

    inner = handler.func if isinstance(handler, partial) else handler
    bound = stream if inspect.isgeneratorfunction(inner) else call
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    bound.__signature__ = inspect.Signature([inspect.Parameter(name, kind, default=None) for name in [*names, *others]])
    bound.__doc__, bound.__name__ = inner.__doc__, inner.__name__
    return bound
