"""What Gradio refuses before a handler sees it, told like all else: which field, what it takes, what it got."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr

from tabs.failures import refusal, sentence
from tabs.uploads import upload_folder

NOT_UPLOADED = (
    "Only files that were uploaded to this page are read: neither paths of the server nor addresses are followed. "
    "Upload the file, and send what the upload returns."
)


def tell_refusals(page: gr.Blocks) -> None:
    """Let every endpoint answer what it cannot take or do with a sentence, and fetch nothing from elsewhere."""
    # `validator` of an event comes after its components have read what was sent, so there is no documented door.
    page.preprocess_data = partial(_read_inputs, page.preprocess_data)  # type: ignore[method-assign]
    page.process_api = partial(_carry_out, page.process_api)  # type: ignore[method-assign]


async def _carry_out(carry_out: Callable[..., Awaitable[Any]], *given: Any, **named: Any) -> Any:
    """Gradio's own way of an event, with a sentence for whatever fails in it: it would tell clients nothing at all."""
    try:
        return await carry_out(*given, **named)
    except gr.Error:
        raise
    except Exception as error:  # noqa: BLE001 - `sentence` logs what is not meant for users
        raise refusal(sentence(error)) from None


async def _read_inputs(
    read: Callable[..., Awaitable[Any]], event: Any, inputs: Sequence[Any], state: Any, *others: Any
) -> Any:
    """Gradio's own reading of an event's inputs, with its refusals in our words."""
    if not all(map(_is_uploaded, _paths(inputs))):
        raise refusal(NOT_UPLOADED)
    try:
        return await read(event, inputs, state, *others)
    except Exception as error:
        for field, given in zip(event.inputs, inputs, strict=False):
            now = state[field._id] if state is not None and field._id in state else field
            if not _takes(now, given):
                choosing = "Choose again, or reload the page where it has been open for long"
                how = choosing if getattr(now, "choices", None) else "Change it"
                told = f"“{now.label}” takes {_wanted(now)}, not {given!r:.60}. {how}, and try again."
                raise refusal(told) from error
        raise


def _paths(given: Any) -> Iterator[Any]:
    """The path of every file in a value, as Gradio knows files."""
    if isinstance(given, Mapping):
        if "path" in given and "meta" in given:
            yield given["path"]
        given = given.values()
    elif not isinstance(given, list | tuple):
        return
    for part in given:
        yield from _paths(part)


def _is_uploaded(path: Any) -> bool:
    """Whether a path leads into the folder of uploads and results, whose names cannot be guessed."""
    try:
        return "://" not in path and Path(path).resolve().is_relative_to(upload_folder().resolve())
    except (TypeError, ValueError, OSError):
        return False


def _takes(field: Any, given: Any) -> bool:
    model = getattr(field, "data_model", None)
    try:
        field.preprocess(given if given is None or model is None else model.model_validate(given))
    except Exception:  # noqa: BLE001 - a component may raise anything for what it was not made for
        return False
    return True


def _wanted(field: Any) -> str:
    """What a field takes, in words."""
    if isinstance(field, gr.File):
        return "an uploaded file"
    if getattr(field, "choices", None):
        return f"one of {', '.join(str(value) for _, value in field.choices)}"
    if isinstance(field, gr.Number | gr.Slider):
        kind = "a whole number" if field.precision == 0 else "a number"
        bounds = [f"{word} {bound:,.10g}" for word, bound in (("from", field.minimum), ("to", field.maximum))
                  if bound is not None]  # fmt: skip
        return " ".join([kind, *bounds])
    return "another kind of value"
