"""Generators that return something at their end: run through unwatched, or with each event changed."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import closing
from typing import Any, TypeVar

Event = TypeVar("Event")
Changed = TypeVar("Changed")
Outcome = TypeVar("Outcome")


def outcome_of(events: Generator[Any, None, Outcome]) -> Outcome:
    """What a generator returns at its end; its events are not looked at."""
    try:
        while True:
            next(events)
    except StopIteration as end:
        outcome: Outcome = end.value
        return outcome


def changed(
    events: Generator[Event, None, Outcome], change: Callable[[Event], Changed]
) -> Generator[Changed, None, Outcome]:
    """A generator's events, each as `change` makes it; returns what the generator returns, and is closed with it."""
    with closing(events):
        try:
            while True:
                yield change(next(events))
        except StopIteration as end:
            outcome: Outcome = end.value
            return outcome
