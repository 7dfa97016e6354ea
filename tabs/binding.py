"""The way from Gradio's list of values to a handler that takes them by the names of their controls."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from tabs.controls import Controls

Values = Mapping[str, Any]
"""What a tab's controls hold, by their names: fields of `GenerationRequest`, or those that it reads itself.

Every tab has `sample`, `video`, `restored`, `visitor`, `start`, `stride`, `num_frames`, `fit` and `random_seed`.
"""


def bind(handler: Callable[..., Any], controls: Controls, *others: str) -> Callable[..., Any]:
    """Let Gradio call `handler(values, *others)`, where `values` is keyed like `controls`.

    Without controls there are no values. The names of the controls become the names of the endpoint's parameters: what
    is bound says so by a signature of its own, in which all may be left out. (Gradio's `inputs_kwargs` gives names,
    too, but makes clients send a value for every component that has none, such as an upload.)
    """
    names = list(controls)

    def call(*given: Any) -> Any:
        values = [dict(zip(names, given, strict=False))] if names else []
        return handler(*values, *given[len(names) :])

    def stream(*given: Any) -> Iterator[Any]:
        yield from call(*given)

    inner = handler.func if isinstance(handler, partial) else handler
    bound: Any = stream if inspect.isgeneratorfunction(inner) else call
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    bound.__signature__ = inspect.Signature([inspect.Parameter(name, kind, default=None) for name in [*names, *others]])
    bound.__doc__, bound.__name__ = _described(inner.__doc__ or "", controls), inner.__name__
    return bound


def _described(doc: str, controls: Controls) -> str:
    """What a handler does, and of each of its parameters what the control says: Gradio tells clients and tools both."""
    does = re.split(r"\n\n(?:Args|Raises|Returns|Yields):", inspect.cleandoc(doc))[0]
    words = {name: [shown.label, getattr(shown, "info", None)] for name, shown in controls.items()}
    lines = [f"    {name}: {'. '.join(filter(None, said))}" for name, said in words.items() if any(said)]
    return "\n".join([does, "", "Args:", *lines]) if lines else does
