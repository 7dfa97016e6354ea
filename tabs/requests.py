"""A filled-in page as a request. Not here: what a form is, and how its files are read (see studio/form)."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from bivdiff.errors import InputError
from bivdiff.fields import table
from bivdiff.media.reading import Clip
from bivdiff.media.sound import Sound
from bivdiff.studio import form as forms
from bivdiff.studio.form import Earlier, Form, SourceForm
from bivdiff.studio.limits import check_clip, sound_seconds
from bivdiff.toybox.clips import SampleClip
from bivdiff.types import GenerationRequest
from tabs.binding import Values
from tabs.context import AppContext
from tabs.visitors import visitor_of


class Submission(NamedTuple):
    """A request, the rate at which its clip plays, and whether it may be changed so that it fits into the memory.

    `notes` is what is to be said of its files, in sentences, and `sound` what is heard with its clip.
    """

    request: GenerationRequest
    fps: float
    to_fit: bool = True
    notes: tuple[str, ...] = ()
    sound: Sound | None = None


class Source(NamedTuple):
    """The clip that a page starts from, and the run that it is of, where one was restored."""

    clip: Clip
    earlier: Earlier | None = None


ReadJob = Callable[[AppContext, Values], Submission]


def read_source(context: AppContext, values: Values) -> Source:
    """The frames that the source controls choose, at the size they choose. A restored run's are as they were.

    Raises:
        InputError: the clip cannot be used.
    """
    with context.decoding():
        earlier = restored_source(context, values)
        return earlier or Source(forms.read_source(source_form(context, values), context.family))


def fill_in(context: AppContext, task: str, values: Values, prompt: str | None = None, **parts: Any) -> Form:
    """The form that the values of a page's controls are.

    Args:
        context: knows the family.
        task: key of the catalog's tasks.
        values: of all controls; those that bear the name of a field of the request are its settings.
        prompt: where the page makes it of several controls.
        parts: fields of Form that the task makes of its own controls.

    Raises:
        InputError: a value cannot be used.
    """
    entries = table(GenerationRequest)
    settings = {name: whole(value) for name, value in values.items() if name in entries}
    for name, entry in entries.items():
        if entry.none_as is not None and settings.get(name) == entry.none_as:
            settings[name] = None
    settings |= {"window": settings.get("window"), "seed": None if values.get("random_seed") else settings.get("seed")}
    prompt = settings.get("prompt") if prompt is None else prompt
    return Form(
        task=task, family=context.family, prompt="" if prompt is None else prompt, settings=settings,
        source=source_form(context, values), **parts,
    )  # fmt: skip


def submission_of(context: AppContext, form: Form, values: Values, source: Source | None = None) -> Submission:
    """What a filled-in form asks for.

    Args:
        context: says when it is whose turn to read files.
        form: what is filled in.
        values: of all controls.
        source: its clip, where it is read already, or the run that was restored.

    Raises:
        InputError: a value or a file cannot be used.
    """
    clip, earlier = (None, None) if source is None else source
    with context.decoding():
        found = forms.read_pictures(form, earlier, clip)
        request = forms.request_of(form, found, None if earlier is None else earlier.request)
        if earlier is None:
            sound, more = _sound_of(context, form.source, found.clip)
        else:
            sound, more = earlier.sound if form.source.sound else None, ()
    notes = (*found.notes, *more)
    return Submission(request, found.clip.fps, values.get("fit_memory") is not False, notes, sound)


def _sound_of(context: AppContext, source: SourceForm, clip: Clip) -> tuple[Sound | None, tuple[str, ...]]:
    """The sound that goes with a clip of a source, and what is to be said of it."""
    lasts, most = len(clip.frames) / clip.fps, sound_seconds(context.settings)
    if source.sound and lasts > most:
        told = (
            f"The clip is made without sound: it plays for {lasts:.0f} s, and here sound may last {most:.0f} s. Take a "
            "shorter part or a smaller stride to keep it."
        )
        return None, (told,)
    return forms.read_sound_of(source, len(clip.frames), clip.fps, clip.taken and clip.taken.source), ()


def restored_source(context: AppContext, values: Values) -> Source | None:
    """The source of the run that was restored, where one was; a clip that is not read yet is read with the form.

    Raises:
        InputError: the run is not there any more.
    """
    run_id = values.get("restored")
    if not run_id:
        return None
    owner = visitor_of(values.get("visitor")).owner
    check_clip(context.runs.shape(run_id, owner), context.settings)  # before it is unpacked
    with context.decoding():
        earlier = Earlier(*context.runs.job(run_id, owner), context.runs.sound(run_id, owner))
    return Source(Clip(earlier.request.frames, earlier.fps), earlier)


def source_form(context: AppContext, values: Values) -> SourceForm:
    """The clip that the source controls choose, and how it is trimmed and brought to size.

    Raises:
        InputError: there is no such sample, or more frames are asked for than are made here.
    """
    names = table(SourceForm).keys() & values.keys()
    chosen = {name: whole(values[name]) for name in names if values[name] is not None}
    asked, most = chosen.get("num_frames"), context.settings.max_frames
    if most and isinstance(asked, int) and asked > most:
        raise InputError(f"Here a clip may have up to {most} frames, and {asked} are asked for. Take fewer.")
    return SourceForm(**{**chosen, "video": Path(values.get("video") or chosen_sample(context, values).file)})


def chosen_sample(context: AppContext, values: Values) -> SampleClip:
    """The sample that is chosen, or was last.

    Raises:
        InputError: there is no such sample.
    """
    index = whole(values.get("sample")) or 0
    if not isinstance(index, int) or not -1 <= index < len(context.samples):
        raise InputError(f"There are {len(context.samples)} sample clips, numbered from 0; got {index!r}.")
    return context.samples[max(index, 0)]


def whole(value: Any) -> Any:
    """20.0 as 20: clients send whole numbers either way."""
    return int(value) if isinstance(value, float) and math.isfinite(value) and value == int(value) else value
