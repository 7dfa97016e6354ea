"""What the tabs share: the way from a filled-in page to a result on it.

In it: `read_job`, the handlers that run a job for the page and for clients, and `wire_run`, which connects them. Not in
it: the controls (controls.py), what a result shows (results.py), the thread of a run (running.py), a tab's layout.

A tab collects its controls in one dictionary, whose keys are fields of `GenerationRequest` or names that `read_job`
knows (`sample`, `video`, `start`, `stride`, `num_frames`, `fit`, `random_seed`), and hands it to `wire_run` with its
task. Handlers get the same dictionary, filled with values.
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

from bivdiff import media
from bivdiff.catalog import default_request, family
from bivdiff.errors import BIVDiffError, InputError
from bivdiff.toybox.clips import SampleClip
from bivdiff.types import GenerationRequest, GenerationResult
from tabs.context import AppContext
from tabs.controls import Controls
from tabs.results import LiveTiles, record_of, result_player, write_files
from tabs.running import Failure, Meter, follow, idle_panel

Values = Mapping[str, Any]

UNEXPECTED = (
    "Something failed that should not have. Nothing of yours is lost; try again, or look into the server's log."
)
# Runs in the browser before a run starts: the result may be out of sight.
SHOW_RESULT = """(...values) => {
  const calm = window.matchMedia("(prefers-reduced-motion: reduce)").matches;
  document.querySelector("#progress")?.scrollIntoView({ behavior: calm ? "auto" : "smooth", block: "start" });
  return values;
}"""
DEVICE_QUEUE: dict[str, Any] = {"concurrency_id": "gpu", "concurrency_limit": 1}

_log = logging.getLogger(__name__)


class Job(NamedTuple):
    """A request, and the rate at which its clip plays."""

    request: GenerationRequest
    fps: float


class View(NamedTuple):
    """What a run shows on the page, in the order of the event's outputs; `gr.skip()` leaves a part as it is."""

    panel: Any = gr.skip()
    player: Any = gr.skip()
    last: Any = gr.skip()
    seed: Any = gr.skip()
    start: Any = gr.skip()
    stop: Any = gr.skip()


@dataclass(frozen=True)
class RunWidgets:
    """Where a run begins, ends and shows. `last` keeps the player's value of the last finished run."""

    start: gr.Button
    stop: gr.Button
    panel: gr.HTML
    player: gr.HTML
    last: gr.State


@dataclass(frozen=True)
class Preview:
    """What is shown of a source before a run.

    Attributes:
        show: handler that takes the values of the controls and yields the value of `player`.
        player: where it shows.
        watched: names of the controls whose change shows it anew; the source itself always does.
        api_name: its endpoint.
    """

    show: Callable[[Values], Iterator[Any]]
    player: gr.HTML
    watched: Sequence[str]
    api_name: str


# From the page to a request


def read_job(context: AppContext, task: str, values: Values) -> Job:
    """Turn a filled-in page into a request.

    Raises:
        InputError: a value or the clip cannot be used.
    """
    clip = read_source(context, values)
    known = {item.name for item in fields(GenerationRequest)} - {"prompt", "seed"}
    changes = {name: _whole(value) for name, value in values.items() if name in known}
    changes["seed"] = None if values.get("random_seed") else _whole(values.get("seed"))
    prompt = values.get("prompt")
    return Job(
        default_request(task, context.family, clip.frames, "" if prompt is None else prompt, **changes), clip.fps
    )


def read_source(context: AppContext, values: Values) -> media.Clip:
    """The frames that the source controls choose, at the family's size.

    Raises:
        InputError: the clip cannot be used.
    """
    index = _whole(values.get("sample")) or 0
    if not isinstance(index, int) or not -1 <= index < len(context.samples):
        raise InputError(f"There are {len(context.samples)} sample clips, numbered from 0; got {index!r}.")
    path = values.get("video") or context.samples[max(index, 0)].file
    chosen = {name: values[name] for name in ("start", "stride", "num_frames", "fit") if values.get(name) is not None}
    whole = {name: _whole(value) for name, value in chosen.items()}
    return media.read_clip(
        path, size=family(context.family).size, **{"num_frames": family(context.family).num_frames, **whole}
    )


def sentence(error: Exception) -> str:
    """What to tell the user; an error that is not meant for users is logged and described in general."""
    if isinstance(error, BIVDiffError):
        return str(error)
    _log.error("A run failed unexpectedly.", exc_info=error)
    return UNEXPECTED


def _whole(value: Any) -> Any:
    """20.0 as 20: clients send whole numbers either way."""
    return int(value) if isinstance(value, float) and math.isfinite(value) and value == int(value) else value


# Running


def generate(context: AppContext, task: str, values: Values, last: Any) -> Iterator[View]:
    """Run a job for the page. Closing the generator stops the run.

    Args:
        context: gives the run.
        task: key of the catalog's tasks.
        values: of all controls.
        last: the player's value of the last finished run, which returns to the player if this one fails.

    Yields:
        What to show, step by step.
    """
    idle = idle_buttons()
    try:
        job = read_job(context, task, values)
    except Exception as error:  # noqa: BLE001 - `sentence` logs what is not meant for users
        yield View(_failed(idle_panel(), error), **idle)
        return
    meter, live = Meter(job.request), LiveTiles(job.request, job.fps)
    yield View(meter.panel(), live.value(), start=gr.update(interactive=False), stop=gr.update(interactive=True))
    with closing(follow(partial(context.run, job.request), context.device)) as updates:
        for update in updates:
            if isinstance(update, Failure):
                yield View(_failed(meter.panel(), update.error), last or live.value(), **idle)
            elif isinstance(update, GenerationResult):
                yield _finished(update, job.fps, meter)._replace(**idle)
            else:
                if update is not None:
                    meter.take(update)
                yield View(meter.panel(), live.value() if update is not None and live.take(update) else gr.skip())


def stopped(last: Any) -> View:
    """What to show once a run is cancelled: the last finished run, if there is one."""
    detail = "The last finished run is shown." if last else "What there was by then is shown."
    panel = {**idle_panel(), "state": "stopped", "headline": "Stopped.", "detail": detail}
    return View(panel, last or gr.skip(), **idle_buttons())


def idle_buttons() -> dict[str, Any]:
    """The buttons of a `View` while nothing runs."""
    return {"start": gr.update(interactive=True), "stop": gr.update(interactive=False)}


def generate_files(context: AppContext, task: str, values: Values) -> Iterator[tuple[Any, ...]]:
    """Run a job for a client: the bridged, frame-by-frame and control clips, a GIF, PNG frames in a zip, and a record.

    Until the end only the record has a value: how far the run is. Closing the generator stops the run.
    """
    try:
        job = read_job(context, task, values)
        meter, progress = Meter(job.request), {"stage": "load", "step": 0, "total": 1}
        with closing(follow(partial(context.run, job.request), context.device)) as updates:
            for update in updates:
                if isinstance(update, Failure):
                    raise update.error
                if isinstance(update, GenerationResult):
                    files = write_files(update, job.fps)
                    yield (*(str(path) if path else None for path in files), record_of(update, job.fps))
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
        files, detail = (None,) * 5, sentence(error)
    player = result_player(result, fps, files)
    panel = meter.panel("done", f"Done in {total:.1f} s", detail)
    return View(panel, player, player, result.seed)


def _failed(panel: dict[str, Any], error: Exception) -> dict[str, Any]:
    told = sentence(error)
    gr.Warning(told, duration=12)
    return {**panel, "state": "failed", "headline": told, "detail": "", "remaining": None}


# Wiring


def wire_run(context: AppContext, task: str, controls: Controls, widgets: RunWidgets, api_name: str) -> None:
    """Connect a tab's controls with the run.

    Clients get two endpoints: `/{api_name}`, files and a record, and `/{api_name}_page`, what the page shows.
    """
    inputs = list(controls.values())
    shown = [widgets.panel, widgets.player, widgets.last, controls["seed"], widgets.start, widgets.stop]
    started = widgets.start.click(
        bind(partial(generate, context, task), controls, "last"), [*inputs, widgets.last], shown,
        show_progress="hidden", api_name=f"{api_name}_page", js=SHOW_RESULT, **DEVICE_QUEUE,
    )  # fmt: skip
    halted = widgets.stop.click(None, cancels=[started], queue=False, api_visibility="private")
    # Through the queue, so that it comes after the last thing the run had to show.
    halted.then(
        stopped, widgets.last, shown, show_progress="hidden", concurrency_limit=None, api_name=f"{api_name}_stop"
    )
    labels = ("Bridged clip", "Frame-by-frame clip", "Control clip", "Bridged clip as GIF", "PNG frames in a zip")
    outputs = [*(gr.File(label=label, visible=False) for label in labels), gr.JSON(label="Record", visible=False)]
    gr.Button(visible=False).click(
        bind(partial(generate_files, context, task), controls), inputs, outputs, api_name=api_name, **DEVICE_QUEUE
    )


def wire_source(
    context: AppContext,
    page: gr.Blocks,
    controls: Controls,
    preview: Preview,
    text: tuple[str, Callable[[SampleClip], str]],
) -> None:
    """Connect samples and upload with each other, with a sample's text, and with the preview.

    Args:
        context: knows the samples.
        page: shows the preview when it opens.
        controls: the tab's.
        preview: what to show whenever the source changes.
        text: name of the control that a sample fills in, and what to fill in.
    """
    name, text_of = text
    sample, video, inputs = controls["sample"], controls["video"], list(controls.values())
    show = bind(preview.show, controls)
    quick: dict[str, Any] = {"queue": False, "show_progress": "hidden"}
    slow: dict[str, Any] = {"show_progress": "hidden", "trigger_mode": "always_last", "concurrency_id": "preview"}
    hidden: dict[str, Any] = {"api_visibility": "private"}
    picked = sample.pick(
        partial(pick_sample, context, text_of), sample, [video, controls[name]], api_name="pick_sample", **quick
    )
    picked.then(show, inputs, preview.player, **slow, **hidden)
    video.upload(lambda: -1, None, sample, **quick, **hidden)
    video.clear(lambda: 0, None, sample, **quick, **hidden)
    changes = [video.upload, video.clear, *(controls[name].change for name in preview.watched)]
    gr.on(changes, show, inputs, preview.player, api_name=preview.api_name, **slow)
    page.load(show, inputs, preview.player, **slow, **hidden)


def pick_sample(context: AppContext, text_of: Callable[[SampleClip], str], index: int) -> tuple[None, str]:
    """Choose a sample clip: no upload any more, and the clip's own text."""
    if not 0 <= index < len(context.samples):
        raise gr.Error(f"There are {len(context.samples)} sample clips, numbered from 0.", print_exception=False)
    return None, text_of(context.samples[index])


def bind(handler: Callable[..., Any], controls: Controls, *others: str) -> Callable[..., Any]:
    """Let Gradio call `handler(values, *others)`, where `values` is keyed like `controls`.

    The names of the controls become the names of the endpoint's parameters.
    """
    names = list(controls)

    def call(*given: Any) -> Any:
        return handler(dict(zip(names, given, strict=False)), *given[len(names) :])

    def stream(*given: Any) -> Iterator[Any]:
        yield from call(*given)

    inner = handler.func if isinstance(handler, partial) else handler
    bound = stream if inspect.isgeneratorfunction(inner) else call
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    bound.__signature__ = inspect.Signature([inspect.Parameter(name, kind, default=None) for name in [*names, *others]])
    bound.__doc__, bound.__name__ = inner.__doc__, inner.__name__
    return bound
