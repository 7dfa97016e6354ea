"""How much processor time decoding may take where a file is a stranger's: one can be made to take for ever."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from bivdiff.errors import InputError


@dataclass
class _Effort:
    """Seconds that decoding may take, and has taken."""

    most: float
    spent: float = 0.0


_EFFORT: ContextVar[_Effort | None] = ContextVar("effort", default=None)


@contextmanager
def bounded(most: float) -> Iterator[None]:
    """Let all that is decoded meanwhile take so many seconds of a processor together; a bound that holds already stays.

    Args:
        most: infinity is no bound.
    """
    if math.isinf(most) or _EFFORT.get() is not None:
        yield
        return
    token = _EFFORT.set(_Effort(most))
    try:
        yield
    finally:
        _EFFORT.reset(token)


def left() -> float:
    """Seconds that may still be taken; infinity where there is no bound."""
    effort = _EFFORT.get()
    return math.inf if effort is None else max(effort.most - effort.spent, 0.0)


def took(seconds: float) -> None:
    """Note what was taken."""
    effort = _EFFORT.get()
    if effort is not None:
        effort.spent += seconds


def check() -> None:
    """Go no further where the bound is reached.

    Raises:
        InputError: it is.
    """
    effort = _EFFORT.get()
    if effort is not None and effort.spent >= effort.most:
        raise InputError(
            f"Decoding this file takes more than the {effort.most:.0f} seconds of a processor that there are here for "
            "what visitors send. Take fewer frames, an earlier start or a smaller stride, or make the clip smaller or "
            "shorter, and try again."
        )


@contextmanager
def counted() -> Iterator[None]:
    """Count what this thread does meanwhile.

    Raises:
        InputError: with it the bound is reached.
    """
    begun = time.thread_time()
    yield
    took(time.thread_time() - begun)
    check()
