"""What the tabs share: the way from a filled-in page to a result on it.

In it: `read_source` and `make_job`, the handlers that run a job for the page and for clients, and `add_result` and
`wire_source`, which connect them. Not in it: the controls (controls.py), what a result shows (results.py), the thread
of a run (running.py), a tab's layout and what is particular to its task (its own file).

A tab collects its controls in one dictionary, whose keys are fields of `GenerationRequest` or names that it reads
itself (`sample`, `video`, `start`, `stride`, `num_frames`, `fit`, `random_seed` are read here), and hands it to
`add_result` with a function that makes a `Job` of them. Handlers get the same dictionary, filled with values.
"""

from __future__ import annotations

import inspect
import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, fields
from functools import partial
from typing import Any, NamedTuple

import gradio as gr
import numpy as np

from bivdiff import media
from bivdiff.canvas import parse_size
from bivdiff.catalog import default_request, family
from bivdiff.errors import BIVDiffError, InputError
from bivdiff.toybox.clips import SampleClip
from bivdiff.types import GenerationRequest, GenerationResult
from tabs.context import AppContext
from tabs.controls import Controls, RunControls, heading
from tabs.player import player_value, sync_player, tile
from tabs.results import Files, LiveTiles, empty_player, record_of, result_player, write_files
from tabs.running import Failure, Meter, follow, idle_panel

Values = Mapping[str, Any]

UNEXPECTED = (
    "Something failed that should not have. Nothing of yours is lost; try again, or look into the server's log."
)
# Runs in the browser before a run starts: the result may be out of sight.
SHOW_RESULT = """(...values) => {
  const calm = window.matchMedia("(prefers-reduced-motion: reduce)").matches;
  document.querySelector("#%s-progress")?.scrollIntoView({ behavior: calm ? "auto" : "smooth", block: "start" });
  return values;
}"""
# More than one job may be followed at a time: all but one of them wait for the device, say so, and can be cancelled.
DEVICE_QUEUE: dict[str, Any] = {"concurrency_id": "gpu", "concurrency_limit": 8}
TRIM = ("start", "stride", "num_frames", "fit")

_log = logging.getLogger(__name__)


class Job(NamedTuple):
    """A request, the rate at which its clip plays, and whether it may be changed so that it fits into the memory."""

    request: GenerationRequest
    fps: float
    to_fit: bool = True


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
    last: Any = gr.skip()
    seed: Any = gr.skip()
    start: Any = gr.skip()
    stop: Any = gr.skip()


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


def make_job(context: AppContext, task: str, values: Values, clip: media.Clip, **own: Any) -> Job:
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
    prompt = changes.pop("prompt", None)
    request = default_request(task, context.family, clip.frames, "" if prompt is None else prompt, **changes)
    return Job(request, clip.fps, values.get("fit_memory") is not False)


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


def read_source(context: AppContext, values: Values, size: tuple[int, int] | None = None) -> media.Clip:
    """The frames that the source controls choose, at the size they choose or another `(width, height)`.

    Raises:
        InputError: the clip cannot be used.
    """
    chosen = {name: whole(values[name]) for name in TRIM if values.get(name) is not None}
    wanted = parse_size(values["size"]) if values.get("size") else family(context.family).size
    size, num_frames = size or wanted, family(context.family).num_frames
    return media.read_clip(source_path(context, values), size=size, **{"num_frames": num_frames, **chosen})


def read_beside(values: Values, path: Any, frames: np.ndarray) -> np.ndarray:
    """A clip that goes with the source `frames` one by one and is trimmed as they are; see `media.read_beside`."""
    chosen = {name: whole(values[name]) for name in TRIM if name != "num_frames" and values.get(name) is not None}
    return media.read_beside(path, frames, **chosen)


def sentence(error: Exception) -> str:
    """What to tell the user; an error that is not meant for users is logged and described in general."""
    if isinstance(error, BIVDiffError):
        return str(error)
    _log.error("A run failed unexpectedly.", exc_info=error)
    return UNEXPECTED


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


def generate(context: AppContext, read: ReadJob, task: str, values: Values, last: Any) -> Iterator[View]:
    """Run a job for the page. Closing the generator stops the run.

    Args:
        context: gives the run.
        read: makes a job of the values.
        task: key of the catalog's tasks.
        values: of all controls.
        last: the player's value of the last finished run, which returns to the player if this one fails.

    Yields:
        What to show, step by step.
    """
    idle = idle_buttons()
    try:
        job = read(context, values)
        meter, live = Meter(job.request), LiveTiles(job.request, job.fps)
    except Exception as error:  # noqa: BLE001 - `sentence` logs what is not meant for users
        yield View(_failed(idle_panel(task), error), **idle)
        return
    yield View(meter.panel(), live.value(), start=gr.update(interactive=False), stop=gr.update(interactive=True))
    with closing(follow(partial(context.run, job.request, job.to_fit), context.device)) as updates:
        for update in updates:
            if isinstance(update, Failure):
                yield View(_failed(meter.panel(), update.error), last or live.value(), **idle)
            elif isinstance(update, GenerationResult):
                yield _finished(update, job.fps, meter)._replace(**idle)
            else:
                if update is not None:
                    meter.take(update)
                yield View(meter.panel(), live.value() if update is not None and live.take(update) else gr.skip())


def foresee(context: AppContext, read: ReadJob, task: str, values: Values) -> dict[str, Any]:
    """Tell what a run would take, without running it: the value of the progress panel."""
    try:
        return {**idle_panel(task), "state": "stopped", "headline": context.expected(read(context, values).request)}
    except Exception as error:  # noqa: BLE001 - `sentence` logs what is not meant for users
        return _failed(idle_panel(task), error)


def stopped(task: str, last: Any) -> View:
    """What to show once a run is cancelled: the last finished run, if there is one."""
    detail = "The last finished run is shown." if last else "What there was by then is shown."
    panel = {**idle_panel(task), "state": "stopped", "headline": "Stopped.", "detail": detail}
    return View(panel, last or gr.skip(), **idle_buttons())


def idle_buttons() -> dict[str, Any]:
    """The buttons of a `View` while nothing runs."""
    return {"start": gr.update(interactive=True), "stop": gr.update(interactive=False)}


def generate_files(context: AppContext, read: ReadJob, values: Values) -> Iterator[tuple[Any, ...]]:
    """Run a job for a client: the bridged and frame-by-frame clips, control maps or mask, a GIF, PNG frames, a record.

    Until the end only the record has a value: how far the run is. Closing the generator stops the run.
    """
    try:
        job = read(context, values)
        meter, progress = Meter(job.request), {"stage": "load", "step": 0, "total": 1}
        with closing(follow(partial(context.run, job.request, job.to_fit), context.device)) as updates:
            for update in updates:
                if isinstance(update, Failure):
                    raise update.error
                if isinstance(update, GenerationResult):
                    files = write_files(update, job.fps)
                    steering = [str(path) for path in files.steering] or None
                    singles = (str(path) for path in (files.bridged, files.framewise, files.gif, files.pngs))
                    bridged, framewise, gif, pngs = singles
                    yield bridged, framewise, steering, gif, pngs, record_of(update, job.fps)
                    return
                if update is not None:
                    meter.take(update)
                    progress = {"stage": update.stage, "step": update.step, "total": update.total}
                yield (None, None, None, None, None, {**progress, "remaining": meter.remaining()})
    except Exception as error:  # noqa: BLE001 - `sentence` logs what is not meant for users
        raise gr.Error(sentence(error), print_exception=False) from None


def _finished(result: GenerationResult, fps: float, meter: Meter) -> View:
    """A result on the page. Clips that cannot be written are shown all the same."""
    total = sum(result.seconds.values())
    try:
        files, detail = write_files(result, fps), meter.note or "The clips below play in step."
    except BIVDiffError as error:
        files, detail = Files(), sentence(error)
    player = result_player(result, fps, files)
    panel = meter.panel("done", f"Done in {total:.1f} s", detail)
    return View(panel, player, player, result.seed)


def _failed(panel: dict[str, Any], error: Exception) -> dict[str, Any]:
    told = sentence(error)
    gr.Warning(told, duration=12)
    return {**panel, "state": "failed", "headline": told, "detail": "", "remaining": None}


# Layout and wiring


def add_result(context: AppContext, read: ReadJob, task: str, controls: Controls, buttons: RunControls) -> TaskTab:
    """The card of the results at the end of every tab, and the run that fills it.

    Clients get two endpoints: `/{task}`, files and a record, and `/{task}_page`, what the page shows.

    Args:
        context: gives the run.
        read: makes a job of the tab's values.
        task: key of the catalog's tasks.
        controls: the tab's.
        buttons: what `run_controls` returned.

    Returns:
        The tab, as others may use it.
    """
    with gr.Column(elem_classes="bd-card bd-result", elem_id=f"{task}-result"):
        heading(3, "Side by side, in step")
        player = sync_player(empty_player(task), elem_id=f"{task}-player", elem_classes="bd-results")
    last = gr.State(None)  # the player's value of the last finished run
    start, stop, estimate, compare, panel = buttons
    inputs = list(controls.values())
    shown = [panel, player, last, controls["seed"], start, stop]
    started = start.click(
        bind(partial(generate, context, read, task), controls, "last"), [*inputs, last], shown,
        show_progress="hidden", api_name=f"{task}_page", js=SHOW_RESULT % task, **DEVICE_QUEUE,
    )  # fmt: skip
    estimate.click(
        bind(partial(foresee, context, read, task), controls), inputs, panel, show_progress="hidden",
        api_name=f"{task}_estimate", concurrency_id="preview",
    )  # fmt: skip
    halted = stop.click(None, cancels=[started], queue=False, api_visibility="private")
    # Through the queue, so that it comes after the last thing the run had to show.
    halted.then(
        bind(partial(stopped, task), {}, "last"), last, shown, show_progress="hidden", concurrency_limit=None,
        api_name=f"{task}_stop",
    )  # fmt: skip
    clips = [gr.File(label=label, visible=False) for label in ("Bridged clip", "Frame-by-frame clip")]
    steering = gr.File(label="Control clips or mask clip", file_count="multiple", visible=False)
    others = [gr.File(label=label, visible=False) for label in ("Bridged clip as GIF", "PNG frames in a zip")]
    outputs = [*clips, steering, *others, gr.JSON(label="Record", visible=False)]
    gr.Button(visible=False).click(
        bind(partial(generate_files, context, read), controls), inputs, outputs, api_name=task, **DEVICE_QUEUE
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
    show = bind(preview.show, controls)
    quick: dict[str, Any] = {"queue": False, "show_progress": "hidden"}
    slow: dict[str, Any] = {"show_progress": "hidden", "trigger_mode": "always_last", "concurrency_id": "preview"}
    hidden: dict[str, Any] = {"api_visibility": "private"}
    picked = sample.pick(
        bind(partial(pick_sample, context, texts), {}, "index"), sample, [video, *(controls[name] for name in texts)],
        api_name=f"{task}_sample", **quick,
    )  # fmt: skip
    outputs = list(preview.outputs)
    picked.then(show, inputs, outputs, **slow, **hidden)
    video.upload(lambda: -1, None, sample, **quick, **hidden)
    video.clear(lambda: 0, None, sample, **quick, **hidden)
    changes = [video.upload, video.clear, *(controls[name].change for name in preview.watched)]
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
    """Choose a sample clip: no upload any more, and the clip's own texts."""
    if not isinstance(index, int) or not 0 <= index < len(context.samples):
        raise gr.Error(f"There are {len(context.samples)} sample clips, numbered from 0.", print_exception=False)
    return None, *(text_of(context.samples[index]) for text_of in texts.values())


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
