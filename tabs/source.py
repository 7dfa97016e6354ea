"""The source clip on the page: what is shown of it before a run, and the controls that follow it."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import gradio as gr

from bivdiff.toybox.clips import SampleClip
from tabs.binding import Values, bind
from tabs.context import AppContext
from tabs.controls import Controls, SourceNotes
from tabs.events import PRIVATE, QUICK, READING
from tabs.examples import example_of
from tabs.failures import refusal, sentence
from tabs.footage import wire_footage
from tabs.requests import read_source
from tabs.task_tab import TaskTab
from tabs.widgets.player import preview_value, tile

TRIM = ("start", "stride", "num_frames", "fps", "fit")


Texts = Mapping[str, Callable[[SampleClip], str]]
"""What a sample fills in, by the names of the controls."""


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


def preview_source(context: AppContext, label: str, values: Values, main: bool = False) -> Iterator[dict[str, Any]]:
    """Show the trimmed source, what the models will be given; `main` where it is one of the two large clips."""
    try:
        clip = read_source(context, values).clip
        yield preview_value([tile(label, clip.frames, main=main)], clip.frames, clip.fps, notes_of(clip.notes))
    except Exception as error:  # noqa: BLE001 - `sentence` logs what is not meant for users
        yield preview_value([tile(label, None, note=sentence(error), main=main)], None, 8)


def notes_of(notes: Sequence[str]) -> list[tuple[str, str]]:
    """What is to be said of files before a run, as facts below a preview."""
    return [("Note", note) for note in notes]


def wire_source(
    context: AppContext,
    tab: gr.Tab | gr.Blocks,
    built: TaskTab,
    preview: Preview,
    texts: Texts,
    notes: SourceNotes,
) -> None:
    """Connect samples and upload with each other, with a sample's texts, and with the preview.

    Args:
        context: knows the samples.
        tab: shows the preview when it is first opened; the page itself for the tab that the page opens with.
        built: the tab's controls, and what makes a request of them.
        preview: what to show whenever the source changes.
        texts: names of the controls that a sample fills in, and what to fill in.
        notes: where it is said what is used of an upload, and whose words the prompts are.
    """
    task, controls = built.task, built.controls
    sample, video, inputs = controls["sample"], controls["video"], list(controls.values())
    earlier = controls["restored"]  # gives way to another clip
    shown = with_examples(context, task, controls, preview)
    show = bind(shown, controls)
    slow: dict[str, Any] = {"show_progress": "hidden", "trigger_mode": "always_last", **READING}
    words = {name: controls[name] for name in texts}
    said = [*words.values(), notes.words, notes.take]
    picked = sample.pick(
        bind(partial(pick_sample, context, texts), words, "index"), [*words.values(), sample],
        [video, earlier, *said], **QUICK, **PRIVATE,
    )  # fmt: skip
    gr.Button(visible=False).click(  # for clients, who have no words of their own that could be lost
        bind(partial(texts_of_sample, context, texts), {}, "index"), sample, [video, earlier, *words.values()],
        api_name=f"{task}_sample", **QUICK,
    )  # fmt: skip
    notes.take.click(bind(partial(take_words, context, texts), {}, "index"), sample, said, **QUICK, **PRIVATE)
    video.upload(
        bind(partial(words_of_a_sample, context, texts), words), list(words.values()), [notes.words, notes.take],
        **QUICK, **PRIVATE,
    )  # fmt: skip
    wire_footage(context, notes.footage, built, preview.watched)
    outputs = list(preview.outputs)
    picked.then(show, inputs, outputs, **slow, **PRIVATE)
    video.upload(lambda: (-1, ""), None, [sample, earlier], **QUICK, **PRIVATE)
    video.clear(lambda: (0, ""), None, [sample, earlier], **QUICK, **PRIVATE)
    changes = [video.upload, video.clear, earlier.change, *(controls[name].change for name in preview.watched)]
    gr.on(changes, show, inputs, outputs, **slow, **PRIVATE)
    # Clients get what goes into a run, and no example of what came out of one.
    gr.Button(visible=False).click(
        bind(preview.show, controls), inputs, outputs, api_name=preview.api_name, **slow
    )  # fmt: skip
    if isinstance(tab, gr.Blocks) and not isinstance(tab, gr.Tab):
        tab.load(bind(partial(_at_first, shown), controls), inputs, outputs, **slow, **PRIVATE)
        return
    opened = gr.State(False)
    once = bind(partial(_first_time, shown, len(outputs)), controls, "opened")
    tab.select(once, [*inputs, opened], [*outputs, opened], **slow, **PRIVATE)


def with_examples(
    context: AppContext, task: str, controls: Controls, preview: Preview
) -> Callable[[Values], Iterator[Any]]:
    """The preview's handler, but that a sample at the tab's first settings comes with its finished run."""
    usual = {name: controls[name].value for name in preview.watched}

    def show(values: Values) -> Iterator[Any]:
        example, is_first = None, all(values.get(name) == value for name, value in usual.items())
        if is_first and not values.get("video") and not values.get("restored"):
            example = example_of(task, context.family, values.get("sample") or 0)
        for shown in preview.show(values):
            player, *rest = shown if isinstance(shown, tuple) else (shown,)
            if example is not None:
                player = {**example, "of": player["preview"]}
            yield (player, *rest) if rest else player
            if example is not None:
                return

    return show


def _first_time(
    show: Callable[[Values], Iterator[Any]], count: int, values: Values, opened: bool
) -> Iterator[tuple[Any, ...]]:
    """Show a preview unless that was done before; it says itself whenever something changes."""
    if opened:
        yield (*(gr.skip() for _ in range(count)), True)
        return
    for shown in _at_first(show, values):
        yield (*(shown if count > 1 else (shown,)), True)


def _at_first(show: Callable[[Values], Iterator[Any]], values: Values) -> Iterator[Any]:
    """A preview that nobody asked for: it gives way to what a run has brought."""
    for shown in show(values):
        player, *rest = shown if isinstance(shown, tuple) else (shown,)
        player = {**player, "first": True}
        yield (player, *rest) if rest else player


def pick_sample(context: AppContext, texts: Texts, values: Values, index: int) -> Any:
    """Choose a sample clip: no upload and no restored run any more, and the clip's own texts.

    Words that somebody wrote stay, and it is said how the sample's are to be had.
    """
    sample = _sample(context, index)
    own = [name for name in texts if not _is_a_samples(context, texts[name], values.get(name))]
    filled = [gr.skip() if name in own else text_of(sample) for name, text_of in texts.items()]
    if not own:
        return None, "", *filled, *NOTHING_SAID
    told = f"<p>Your own words stay. The sample's: <q>{html.escape(texts[own[0]](sample))}</q></p>"
    return None, "", *filled, gr.update(value=told, visible=True), gr.update(visible=True)


def texts_of_sample(context: AppContext, texts: Texts, index: int) -> Any:
    """A sample clip with its own texts: no upload and no restored run any more."""
    sample = _sample(context, index)
    return None, "", *(text_of(sample) for text_of in texts.values())


def take_words(context: AppContext, texts: Texts, index: int) -> Any:
    """The texts of the chosen sample in the place of whatever was written."""
    return *texts_of_sample(context, texts, index)[2:], *NOTHING_SAID


def words_of_a_sample(context: AppContext, texts: Texts, values: Values) -> tuple[Any, Any]:
    """Say that a sample's words do not describe a clip of one's own, where they still stand there."""
    left = [values[name] for name in texts if values.get(name)]
    if not left or not all(_is_a_samples(context, texts[name], values.get(name)) for name in texts):
        return NOTHING_SAID
    told = "<p>These words describe the sample. Write what your own clip should show.</p>"
    return gr.update(value=told, visible=True), gr.update(visible=False)


NOTHING_SAID = (gr.update(value="", visible=False), gr.update(visible=False))


def _sample(context: AppContext, index: int) -> SampleClip:
    if not isinstance(index, int) or not 0 <= index < len(context.samples):
        raise refusal(f"There are {len(context.samples)} sample clips, numbered from 0.")
    return context.samples[index]


def _is_a_samples(context: AppContext, text_of: Callable[[SampleClip], str], text: str | None) -> bool:
    """Whether a text is one of the samples', or none at all."""
    return not (text or "").strip() or text in {text_of(sample) for sample in context.samples}
