"""Hugging Face's ZeroGPU: a card that is lent for the length of a run, to a process of its own.

How it works there: the app's process has no card, only the package `spaces`, which plays one to torch. Models that are
moved to it before the page is served are put aside; a function that `spaces.GPU` has wrapped before then runs in a fork
of the process, on a real card, with these models on it. Arguments, and all that it yields, are pickled on the way.
Whose quota it costs is told by the request that is in the calling thread's context.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bivdiff.catalog.families import FAMILIES
from bivdiff.catalog.specs import ModelSpec, with_bases
from bivdiff.catalog.tasks import TASKS
from bivdiff.errors import BIVDiffError, InputError, ModelUnavailableError
from bivdiff.late import importing
from bivdiff.models import hub
from bivdiff.models.inventory import find_specs
from bivdiff.settings import Settings

if TYPE_CHECKING:
    from bivdiff.models.manager import ModelManager

LEAST_SECONDS = 10
MOST_SECONDS = 300  # unless the owner sets BIVDIFF_MAX_MINUTES; Hugging Face grants some visitors less
START_SECONDS = 6.0  # until the models that were put aside are on the card
MARGIN = 1.5  # a run that takes longer than it asked for is ended
ASSUMED_PACE = 20_000.0  # operations a second in units of 1e9, until a run has told
NOT_LENT = ("Connection closed by visitor", "Unexpected end of stream", "Error while re-trying", "ZeroGPU API")

Work = Callable[..., Iterator[Any]]
Needed = Callable[..., Iterable[ModelSpec]]


class CardUnavailableError(BIVDiffError):
    """Hugging Face lends no card: the visitor's quota is used up, or none was free."""


@dataclass(frozen=True)
class _Failed:
    """An error meant for users, on its way out of the other process: that lets nothing but an error's name through."""

    error: BIVDiffError


@dataclass(frozen=True)
class _Pace:
    """How fast the other process was, see `models.pace`."""

    family: str
    gflops: float


def on_zerogpu() -> bool:
    """Whether this is a Space whose card is lent."""
    return os.environ.get("SPACES_ZERO_GPU", "").lower() in {"1", "t", "true"}


class Card:
    """Lends the card to functions; on any other machine they run as they are.

    Make it, and lend it to all that need it, before the page is served and in the main thread.

    Args:
        manager: gives the models' manager, in this process and in the other.
        settings: name the bound of a run.

    Raises:
        ModelUnavailableError: this is such a Space, and the package `spaces` is missing.
    """

    def __init__(self, manager: Callable[[], ModelManager], settings: Settings) -> None:
        self._manager = manager
        self._most = 60 * settings.max_minutes or MOST_SECONDS
        self._spaces = _import_spaces() if on_zerogpu() else None

    def lend(self, work: Work, needed: Needed) -> Work:
        """The same generator function, each call of which has the card to itself.

        Args:
            work: takes a request first; what it takes and yields can be pickled.
            needed: takes the same; the models that it runs with.

        Returns:
            A generator function, which takes before the rest how many seconds `work` is expected to take, and raises
            what `work` does. Where the card is lent it raises besides, before one is asked for, an InputError if that
            is longer than there is to be had, and a ModelUnavailableError if a model is not on the disk: it would be
            downloaded on the visitor's time; and a CardUnavailableError if none is lent. Closing what it returns ends
            `work` before its next step and gives the card back.
        """
        if self._spaces is None:
            return lambda _, *given: work(*given)

        def on_the_card(_: int, *given: Any) -> Iterator[Any]:
            try:
                yield from work(*given)
            except BIVDiffError as error:
                yield _Failed(error)
            else:
                family = given[0].family
                yield _Pace(family, self._manager().pace.of(family))

        lent = self._spaces.GPU(duration=lambda seconds, *_: seconds)(on_the_card)

        def brought_back(expected: float, *given: Any) -> Iterator[Any]:
            _check_on_disk(needed(*given), self._manager())
            with closing(lent(asked_seconds(expected, self._most), *given)) as events:
                for event in _in_words(events):
                    if isinstance(event, _Failed):
                        raise event.error
                    if isinstance(event, _Pace):
                        self._manager().pace.note(event.family, event.gflops, 1.0)
                    else:
                        yield event

        return brought_back


def place_models(manager: ModelManager, settings: Settings, family: str) -> tuple[str, ...]:
    """Put models aside for the card before there is one: those of a family's tasks, as far as they are on the disk.

    What is not put aside now is read anew by every process that needs it, on the visitor's time. Call it in the main
    thread, after a `Card` was made and before the page is served.

    Returns:
        The keys of what was placed.

    Raises:
        ModelUnavailableError: files are there and cannot be read.
    """
    specs = dict.fromkeys(spec for task in TASKS for spec in find_specs(f"{family}/{task}"))
    found = [spec for spec in specs if all(hub.find(each, settings) is not None for each in with_bases([spec]))]
    with manager.hold(*found):
        pass  # the policy `zerogpu` moves each as soon as it is loaded
    for name in FAMILIES:
        manager.pace.note(name, ASSUMED_PACE, 1.0)  # there is no card yet that could be measured
    return tuple(spec.key for spec in found)


def asked_seconds(expected: float, most: int) -> int:
    """What to ask for, in whole seconds, where a run is expected to take so many.

    Raises:
        InputError: that is more than there is to be had, so the run would be ended before it is done.
    """
    if expected > most:
        raise InputError(
            f"This would take about {math.ceil(expected)} s of the lent card, and {most} s is the most for one run. "
            "Take fewer steps, fewer frames, a smaller size, or compare fewer values."
        )
    return min(max(math.ceil(MARGIN * expected + START_SECONDS), LEAST_SECONDS), most)


def _check_on_disk(specs: Iterable[ModelSpec], manager: ModelManager) -> None:
    missing = [spec.key for spec in with_bases(specs) if manager.state(spec) == "absent"]
    if missing:
        raise ModelUnavailableError(
            f"The model '{missing[0]}' is not on this machine, and only its owner can put it there. Choose another, or "
            "run a copy of your own."
        )


# What the package says


def _import_spaces() -> Any:
    try:
        with importing():
            import spaces
    except ImportError as error:
        raise ModelUnavailableError(
            "This Space has a lent card, and the package 'spaces', by which it is lent, cannot be imported: "
            f"{error}. Add 'spaces' to requirements.txt."
        ) from error
    return spaces


def _in_words(events: Iterator[Any]) -> Iterator[Any]:
    """The events of a lent function; what the package raises about the card itself becomes a sentence."""
    try:
        yield from events
    except Exception as error:
        told = _sentence(error)
        if told is None:
            raise
        raise CardUnavailableError(told) from error


def _sentence(error: Exception) -> str | None:
    """What an error of the package's own says about the card, as a sentence; None for any other."""
    if isinstance(error, RuntimeError) and str(error).startswith(NOT_LENT):
        return "Hugging Face lent no card: the page was closed, or the service did not answer. Start the run again."
    title, message = str(getattr(error, "title", "")), str(getattr(error, "message", "")).strip()
    if not title.startswith("ZeroGPU") or not message:
        return None
    if title == "ZeroGPU worker error":
        if message != "GPU task aborted":
            return None  # the name of an error that is not meant for users; the package has logged it
        return (
            "The lent card was taken back before the run was done, most likely because the run took longer than it "
            "had asked for. Take fewer steps, fewer frames or a smaller size."
        )
    ending = "" if message.endswith((".", "!", "?")) else "."
    return f"Hugging Face lends no card for this run: {message}{ending}"
