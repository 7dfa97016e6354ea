"""A filled-in page and its clip as a request. Not here: reading the clip (see `source`)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import fields
from typing import Any, NamedTuple

from bivdiff.catalog.requests import default_request
from bivdiff.media.reading import Clip
from bivdiff.types import GenerationRequest
from tabs.binding import Values
from tabs.boards import visitor_of
from tabs.context import AppContext


class Submission(NamedTuple):
    """A request, the rate at which its clip plays, and whether it may be changed so that it fits into the memory."""

    request: GenerationRequest
    fps: float
    to_fit: bool = True


ReadJob = Callable[[AppContext, Values], Submission]


def make_job(context: AppContext, task: str, values: Values, clip: Clip, **own: Any) -> Submission:
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
    return Submission(request, clip.fps, values.get("fit_memory") is not False)


def restored(context: AppContext, values: Values) -> Submission | None:
    """The run whose pictures stand in for the source, where one was restored.

    Raises:
        InputError: it is not there any more.
    """
    run_id = values.get("restored")
    return Submission(*context.runs.job(run_id, visitor_of(values.get("visitor")).owner)) if run_id else None


def whole(value: Any) -> Any:
    """20.0 as 20: clients send whole numbers either way."""
    return int(value) if isinstance(value, float) and math.isfinite(value) and value == int(value) else value
