"""What a tab may use: `AppContext`."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np

from bivdiff.catalog.components import components_of
from bivdiff.catalog.families import FAMILIES, family_named, models_for
from bivdiff.catalog.own import check_may_manage, parse_list
from bivdiff.catalog.specs import ModelSpec
from bivdiff.errors import InputError, ModelUnavailableError, OutOfMemoryError
from bivdiff.late import importing
from bivdiff.models import hub
from bivdiff.models.inventory import IN_MEMORY, Entry, find_spec
from bivdiff.models.inventory import inventory as list_models
from bivdiff.models.pulling import pulling
from bivdiff.settings import Settings
from bivdiff.studio import zerogpu
from bivdiff.studio.history.runs import Runs
from bivdiff.studio.jobs import Jobs
from bivdiff.toybox.clips import SampleClip, load_index
from bivdiff.toybox.truths import truth_of
from bivdiff.types import GenerationRequest, GenerationResult, StepEvent
from bivdiff.units import say_bytes

if TYPE_CHECKING:
    from bivdiff.bridge.reuse import StageCache
    from bivdiff.models.manager import ModelManager, Readout
    from bivdiff.models.planning import Planned

Events: TypeAlias = Iterator[StepEvent | GenerationResult]

MAP_SECONDS = 0.0  # of control maps that a model draws: less than the least that is asked for
_log = logging.getLogger(__name__)


class Models(Protocol):
    """What the tab of the models may ask for; models go by their keys in the inventory."""

    def inventory(self, family: str | None = None) -> list[Entry]:
        """Every model, or those of a family; does not wait for the model libraries."""

    def readout(self) -> Readout:
        """The memory as it is now."""

    def memory(self) -> str:
        """How full the memory is that models run in, in a few words; empty where that is not known."""

    def pull(self, key: str) -> Generator[tuple[int, int], None, None]:
        """Download a model; yields the bytes that have arrived and those in all. Closing it stops that."""

    def load(self, key: str) -> None:
        """Read a model into memory. The caller holds the context's `device`."""

    def unload(self, key: str | None = None) -> None:
        """Drop a model from memory, or all that no run holds."""


def _pipeline() -> ModuleType:
    """The pipeline, and with it all model libraries, by one thread at a time."""
    with importing():
        from bivdiff.bridge import pipeline

    return pipeline


def _control_maps(request: GenerationRequest, manager: ModelManager) -> tuple[np.ndarray, ...]:
    _pipeline()
    with importing():
        from bivdiff.bridge.control_maps import control_maps

    return control_maps(request, manager)


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
                with importing():
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

    def memory(self) -> str:
        """Nothing is known before there is a manager, nor of a card that is lent to another process."""
        manager = self._manager.made
        if manager is None or zerogpu.on_zerogpu():
            return ""
        read = manager.readout()
        whose = "the machine's memory" if read.device_budget is None else f"the memory of {read.device}"
        used = read.device_memory.total - read.device_memory.free
        return f"{say_bytes(used)} of {say_bytes(read.device_memory.total)} of {whose} in use"

    def pull(self, key: str) -> Generator[tuple[int, int], None, None]:
        """Download in a thread of its own.

        Raises:
            InputError: there is no such model, or the owner does not allow it.
            ModelUnavailableError: it cannot be downloaded.
        """
        check_may_manage(self._settings)
        return pulling(find_spec(key), self._settings)

    def load(self, key: str) -> None:
        """Load what is on the disk; nothing is downloaded.

        Raises:
            InputError: there is no such model, or the owner does not allow it.
            ModelUnavailableError: its files are not there, or broken.
        """
        check_may_manage(self._settings)
        spec = find_spec(key)
        for each in (spec, spec.base):
            if each is not None and hub.find(each, self._settings) is None:
                raise ModelUnavailableError(f"The files of '{each.key}' are not on this machine. Pull it first.")
        with self._manager().hold(spec):
            pass  # it stays for as long as there is room

    def unload(self, key: str | None = None) -> None:
        """Drop one, or all.

        Raises:
            InputError: there is no such model, a run holds it, or the owner does not allow it.
        """
        check_may_manage(self._settings)
        specs = [] if key is None else [find_spec(key)]
        manager = self._manager()
        manager.unload(*specs)
        if any(manager.state(spec) in IN_MEMORY for spec in specs):
            raise InputError(f"'{key}' is in use by a run. Wait until that has ended, or cancel it.")


def components_of_all(request: GenerationRequest, axes: Mapping[str, Sequence[Any]], *_: Any) -> Iterator[ModelSpec]:
    """All that the clips of a comparison run with."""
    for video_model in axes.get("video_model", (request.video_model,)):
        yield from components_of(replace(request, video_model=video_model)).every


def _announced(plan: Planned) -> StepEvent:
    """The first event of a run or a comparison: what it will take."""
    return StepEvent("load", 0, 1, plan.expected.sentence, note=plan.note)


class _Maker:
    """What computes with the models; on ZeroGPU with a card that is lent for as long as it takes."""

    def __init__(self, settings: Settings, manager: _OneManager) -> None:
        self._settings, self._manager = settings, manager
        self._stages: Callable[[], StageCache] = cache(self._open_stages)
        card = zerogpu.Card(manager, settings)
        self._run = card.lend(self._run_there, lambda request: components_of(request).every)
        self._sweep = card.lend(self._sweep_there, components_of_all)
        self._maps = card.lend(self._maps_there, lambda request: components_of(request).annotators)

    def run(self, request: GenerationRequest, to_fit: bool) -> Events:
        """See `AppContext`."""
        with self._manager().policy_restored():
            plan = self._planned(request, to_fit)
            yield _announced(plan)
            yield from self._run(plan.expected.seconds, plan.request)

    def sweep(self, request: GenerationRequest, axes: Mapping[str, Sequence[Any]], to_fit: bool) -> Iterator[Any]:
        """See `AppContext`."""
        with self._manager().policy_restored():
            plan = self._planned(request, to_fit, axes)
            yield _announced(plan)
            truth = truth_of(plan.request)  # not on a lent card: it needs none
            yield from self._sweep(plan.expected.seconds, plan.request, axes, truth)

    def expected(self, request: GenerationRequest) -> str:
        """See `AppContext`."""
        _pipeline()
        with importing():
            from bivdiff.models.estimate import estimate

        return estimate(request, self._manager()).sentence

    def control_maps(self, request: GenerationRequest) -> tuple[np.ndarray, ...]:
        """See `AppContext`; what is drawn without a model needs no card."""
        if not any(map(models_for(request).annotator, request.controls)):
            return _control_maps(request, self._manager())
        (maps,) = self._maps(MAP_SECONDS, request)
        return maps

    def _planned(
        self, request: GenerationRequest, to_fit: bool, axes: Mapping[str, Sequence[Any]] | None = None
    ) -> Planned:
        _pipeline()
        with importing():
            from bivdiff.compare.planning import planned

        plan = planned(request, self._manager(), to_fit, axes)
        found = plan.expected
        if not found.fits:
            raise OutOfMemoryError(f"{found.advice} Or tick “Fit to my memory” under “Advanced”.")
        most = self._settings.max_minutes
        if most and found.seconds > 60 * most:
            raise InputError(
                f"This would take about {found.seconds / 60:.0f} minutes, and here a run may take {most}. Take fewer "
                "steps, fewer frames or a smaller size."
            )
        return plan

    def _run_there(self, request: GenerationRequest) -> Events:
        return _pipeline().run(request, self._manager(), self._stages())

    def _sweep_there(
        self, request: GenerationRequest, axes: Mapping[str, Sequence[Any]], truth: np.ndarray | None
    ) -> Iterator[Any]:
        with importing():
            from bivdiff.compare.sweep import sweep

        return sweep(request, axes, self._manager(), self._stages(), truth)

    def _maps_there(self, request: GenerationRequest) -> Iterator[tuple[np.ndarray, ...]]:
        yield _control_maps(request, self._manager())

    def _open_stages(self) -> StageCache:
        with importing():
            from bivdiff.bridge.store import StageStore

        return StageStore(self._settings)


@dataclass(frozen=True)
class AppContext:
    """All that a tab may use.

    Attributes:
        run: a request and whether it may be changed to fit into the memory in, events out, the result last; closing it
            stops the run and frees what it took.
        sweep: a request, the settings to compare with their values, and whether it may be changed to fit, to the
            events, cells and result of `bivdiff.compare.sweep`.
        expected: a sentence on the time and memory that a run will take.
        control_maps: the control maps of a request alone, uint8 `(F, H, W, 3)` for each of its controls.
        samples: the clips that come with the studio, best first; at least one.
        models: those there are, and what may be done with them.
        runs: what was made, kept on the disk.
        jobs: the queue of what is to be made; its worker holds the device.
        settings: what the owner allows, and how much.
        family: key of the model family that a page's tabs offer; families: of all pages, the front page's first.
        device: held by whoever computes with the models, so that only one does.
        watches: by visitor, window and place, the lock of the watch of jobs there that came last; see `watch`.
    """

    run: Callable[[GenerationRequest, bool], Events]
    expected: Callable[[GenerationRequest], str]
    sweep: Callable[[GenerationRequest, Mapping[str, Sequence[Any]], bool], Iterator[Any]]
    control_maps: Callable[[GenerationRequest], tuple[np.ndarray, ...]]
    samples: tuple[SampleClip, ...]
    models: Models
    runs: Runs
    jobs: Jobs[Any]
    device: threading.Lock
    settings: Settings
    family: str = "toybox"
    families: tuple[str, ...] = ("toybox",)
    watches: dict[tuple[str, ...], threading.Lock] = field(default_factory=dict)

    @classmethod
    def from_settings(cls, settings: Settings) -> AppContext:
        """The real thing. Starts nothing: the first call of `run` or `control_maps` loads what it needs.

        The exception is ZeroGPU, where models are placed at once, so that each lent card finds them.
        """
        manager = _OneManager(settings)
        made = _Maker(settings, manager)
        models = ManagedModels(settings, manager)
        families = tuple(FAMILIES) if settings.families == "all" else parse_list(settings.families)
        for name in families:
            family_named(name)  # an unknown one is told now, and not by a page that is not there
        if zerogpu.on_zerogpu():
            zerogpu.place_models(manager(), settings, families[0])
        device = threading.Lock()
        return cls(
            run=made.run, sweep=made.sweep, expected=made.expected, control_maps=made.control_maps,
            samples=load_index(), models=models, runs=Runs(settings),
            jobs=Jobs(device, settings.max_queue, settings.max_jobs), device=device, settings=settings,
            families=families,
        )  # fmt: skip


def warm_up() -> None:
    """Import the heavy libraries, so that the first visitor need not wait for them."""
    try:
        _pipeline()
    except (ImportError, RuntimeError):  # the first run meets the same error, and tells its user
        _log.exception("The models' libraries could not be loaded ahead of the first run.")
