"""What a tab may use: `AppContext`.

In it: the doors through which tabs reach the models and the sample clips. Not in it: anything that computes, any
widget. The models, and the libraries under them, are loaded on first use or by `warm_up`, never by an import.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np

from bivdiff.catalog import FAMILIES, family
from bivdiff.errors import InputError, ModelUnavailableError, OutOfMemoryError
from bivdiff.inventory import IN_MEMORY, Entry, find_spec, pulling
from bivdiff.inventory import inventory as list_models
from bivdiff.models import hub
from bivdiff.own_models import parse_list
from bivdiff.settings import Settings
from bivdiff.toybox.clips import SampleClip, load_index
from bivdiff.types import GenerationRequest, GenerationResult, StepEvent

if TYPE_CHECKING:
    from bivdiff.models.manager import ModelManager, Readout
    from bivdiff.reuse import StageCache

Events: TypeAlias = Iterator[StepEvent | GenerationResult]

_IMPORTING = threading.Lock()
_log = logging.getLogger(__name__)


class Models(Protocol):
    """What the tab of the models may ask for; models go by their keys in the inventory."""

    def inventory(self, family: str | None = None) -> list[Entry]:
        """Every model, or those of a family; does not wait for the model libraries."""

    def readout(self) -> Readout:
        """The memory as it is now."""

    def pull(self, key: str) -> Iterator[tuple[int, int]]:
        """Download a model; yields the bytes that have arrived and those in all. Closing it stops that."""

    def load(self, key: str) -> None:
        """Read a model into memory. The caller holds the context's `device`."""

    def unload(self, key: str | None = None) -> None:
        """Drop a model from memory, or all that no run holds."""


def _pipeline() -> ModuleType:
    """The pipeline, and with it all model libraries, imported one at a time: diffusers breaks when two threads do."""
    with _IMPORTING:
        from bivdiff import pipeline

        return pipeline


class _OneManager:
    """Makes the process's manager on first use."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self.made: ModelManager | None = None

    def __call__(self) -> ModelManager:
        with self._lock:  # two first users must not make two managers
            if self.made is None:
                _pipeline()
                from bivdiff.models.manager import ModelManager

                self.made = ModelManager(self._settings)
            return self.made


class ManagedModels:
    """The `Models` of the process's manager."""

    def __init__(self, settings: Settings, manager: _OneManager) -> None:
        self._settings, self._manager = settings, manager

    def inventory(self, family: str | None = None) -> list[Entry]:
        """Nothing is in memory before there is a manager."""
        return list_models(self._manager.made, self._settings, family)

    def readout(self) -> Readout:
        """Makes the manager, which knows the device."""
        return self._manager().readout()

    def pull(self, key: str) -> Iterator[tuple[int, int]]:
        """Download in a thread of its own.

        Raises:
            InputError: there is no such model.
            ModelUnavailableError: it cannot be downloaded.
        """
        return pulling(find_spec(key), self._settings)

    def load(self, key: str) -> None:
        """Load what is on the disk; nothing is downloaded.

        Raises:
            InputError: there is no such model.
            ModelUnavailableError: its files are not there, or broken.
        """
        spec = find_spec(key)
        for each in (spec, spec.base):
            if each is not None and hub.find(each, self._settings) is None:
                raise ModelUnavailableError(f"The files of '{each.key}' are not on this machine. Pull it first.")
        with self._manager().hold(spec):
            pass  # it stays for as long as there is room

    def unload(self, key: str | None = None) -> None:
        """Drop one, or all.

        Raises:
            InputError: there is no such model, or a run holds it.
        """
        specs = [] if key is None else [find_spec(key)]
        manager = self._manager()
        manager.unload(*specs)
        if any(manager.state(spec) in IN_MEMORY for spec in specs):
            raise InputError(f"'{key}' is in use by a run. Wait until that has ended, or cancel it.")


@dataclass(frozen=True)
class AppContext:
    """All that a tab may use.

    Attributes:
        run: a request and whether it may be changed to fit into the memory in, events out, the result last; closing it
            stops the run and frees what it took.
        sweep: a request, the settings to compare with their values, and whether it may be changed to fit, to the
            events, cells and result of `bivdiff.sweep`.
        expected: a sentence on the time and memory that a run will take.
        control_maps: the control maps of a request alone, uint8 `(F, H, W, 3)` for each of its controls.
        samples: the clips that come with the studio, best first; at least one.
        models: those there are, and what may be done with them.
        family: key of the model family that a page's tabs offer; families: of all pages, the front page's first.
        device: held by whoever computes with the models, so that only one does.
    """

    run: Callable[[GenerationRequest, bool], Events]
    expected: Callable[[GenerationRequest], str]
    sweep: Callable[[GenerationRequest, Mapping[str, Sequence[Any]], bool], Iterator[Any]]
    control_maps: Callable[[GenerationRequest], tuple[np.ndarray, ...]]
    samples: tuple[SampleClip, ...]
    models: Models
    family: str = "toybox"
    families: tuple[str, ...] = ("toybox",)
    device: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def from_settings(cls, settings: Settings) -> AppContext:
        """The real thing. Starts nothing: the first call of `run` or `control_maps` loads what it needs."""
        manager = _OneManager(settings)

        @cache
        def stages() -> StageCache:
            from bivdiff.store import StageStore

            return StageStore(settings)

        def planned(request: GenerationRequest, to_fit: bool) -> tuple[GenerationRequest, StepEvent]:
            _pipeline()
            from bivdiff import planning

            changed = ""
            if to_fit:
                request, changed = planning.fitted(request, manager())
            found = planning.expected(request, manager())
            if not found.fits:
                raise OutOfMemoryError(f"{found.advice} Or tick “Fit to my memory” under “Advanced”.")
            return request, StepEvent("load", 0, 1, found.sentence, note=changed)

        def run(request: GenerationRequest, to_fit: bool) -> Events:
            request, told = planned(request, to_fit)
            yield told
            yield from _pipeline().run(request, manager(), stages())

        def sweep(request: GenerationRequest, axes: Mapping[str, Sequence[Any]], to_fit: bool) -> Iterator[Any]:
            request, told = planned(request, to_fit)
            yield told
            from bivdiff.sweep import sweep as compare

            yield from compare(request, axes, manager(), stages())

        def expected(request: GenerationRequest) -> str:
            _pipeline()
            from bivdiff import planning

            return planning.expected(request, manager()).sentence

        def control_maps(request: GenerationRequest) -> tuple[np.ndarray, ...]:
            return _pipeline().control_maps(request, manager())

        models = ManagedModels(settings, manager)
        families = tuple(FAMILIES) if settings.families == "all" else parse_list(settings.families)
        for name in families:
            family(name)  # an unknown one is told now, and not by a page that is not there
        return cls(
            run=run, sweep=sweep, expected=expected, control_maps=control_maps, samples=load_index(), models=models,
            families=families,
        )  # fmt: skip


def warm_up() -> None:
    """Import the heavy libraries, so that the first visitor need not wait for them."""
    try:
        _pipeline()
    except (ImportError, RuntimeError):  # the first run meets the same error, and tells its user
        _log.exception("The models' libraries could not be loaded ahead of the first run.")
