"""Downloads that can be followed and stopped."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator, Sequence
from typing import NamedTuple

from bivdiff.catalog.specs import ModelSpec, with_bases
from bivdiff.errors import CancelledError
from bivdiff.models import hub
from bivdiff.settings import Settings

REPORT_EVERY = 0.25  # seconds


class _Pull(threading.Thread):
    """A download that reports how far it is, and stops at its next report once `stopped` is set."""

    def __init__(self, spec: ModelSpec, settings: Settings) -> None:
        super().__init__(name="bivdiff-pull", daemon=True)
        self._spec, self._settings = spec, settings
        self.progress = (0, spec.bytes)
        self.error: Exception | None = None
        self.stopped, self.ended = threading.Event(), threading.Event()

    def run(self) -> None:
        try:
            hub.pull(self._spec, self._settings, self._report)
        except Exception as error:  # noqa: BLE001 - it is raised where the download is followed
            self.error = error
        finally:
            self.ended.set()

    def _report(self, done: int, total: int) -> None:
        if self.stopped.is_set():
            raise CancelledError("The download was stopped. What has arrived is kept for the next time.")
        self.progress = (done, total)


def pulling(spec: ModelSpec, settings: Settings) -> Generator[tuple[int, int], None, None]:
    """Download a component's files. Closing this generator stops that; files that have arrived are kept.

    Yields:
        Bytes that have arrived and bytes in all, a few times a second and at the end; as the catalog has them until
        the hub has answered.

    Raises:
        ModelUnavailableError: the files are not there, and cannot be downloaded.
    """
    pull = _Pull(spec, settings)
    pull.start()
    try:
        while not pull.ended.wait(REPORT_EVERY):
            yield pull.progress
        if pull.error is not None:
            raise pull.error
        yield pull.progress
    finally:
        pull.stopped.set()


class Arrived(NamedTuple):
    """How far the download of one component of several is: bytes there, and bytes in all."""

    spec: ModelSpec
    done: int
    total: int


def pulling_all(specs: Sequence[ModelSpec], settings: Settings) -> Iterator[Arrived]:
    """Download what of several components is not on this machine, with all that they are built on and that is added.

    Closing this generator stops it. Raises and reports as `pulling`.
    """
    # What is built on a base goes first: a pipeline's index may say that it is of no use.
    needed = [part for spec in with_bases(specs) for part in (spec, *hub.additions(spec))]
    for spec in dict.fromkeys(needed):
        if hub.find(spec, settings) is None:
            for done, total in pulling(spec, settings):
                yield Arrived(spec, done, total)
