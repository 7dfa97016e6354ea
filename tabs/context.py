"""What a tab may use: `AppContext`.

In it: the doors through which tabs reach the models and the sample clips. Not in it: anything that computes, any
widget. The models, and the libraries under them, are loaded on first use or by `warm_up`, never by an import.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from bivdiff.reuse import StageCache
from bivdiff.settings import Settings
from bivdiff.toybox.clips import SampleClip, load_index
from bivdiff.types import GenerationRequest, GenerationResult, StepEvent

if TYPE_CHECKING:
    from bivdiff.models.manager import ModelManager

Events: TypeAlias = Iterator[StepEvent | GenerationResult]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class AppContext:
    """All that a tab may use.

    Attributes:
        run: a request in, events out, the result last; closing it stops the run and frees what it took.
        control_maps: the control maps of a request alone, uint8 `(F, H, W, 3)` for each of its controls.
        samples: the clips that come with the studio, best first; at least one.
        family: key of the model family that the tabs offer.
        device: held by whoever computes with the models, so that only one does.
    """

    run: Callable[[GenerationRequest], Events]
    control_maps: Callable[[GenerationRequest], tuple[np.ndarray, ...]]
    samples: tuple[SampleClip, ...]
    family: str = "toybox"
    device: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def from_settings(cls, settings: Settings) -> AppContext:
        """The real thing. Starts nothing: the first call of `run` or `control_maps` loads what it needs."""
        opening = threading.Lock()

        stages = StageCache()

        @cache
        def open_manager() -> ModelManager:
            from bivdiff.models.manager import ModelManager

            return ModelManager(settings)

        def manager() -> ModelManager:
            with opening:  # two first users must not make two managers
                return open_manager()

        def run(request: GenerationRequest) -> Events:
            from bivdiff import pipeline

            return pipeline.run(request, manager(), stages)

        def control_maps(request: GenerationRequest) -> tuple[np.ndarray, ...]:
            from bivdiff import pipeline

            return pipeline.control_maps(request, manager())

        return cls(run=run, control_maps=control_maps, samples=load_index())


def warm_up() -> None:
    """Import the heavy libraries, so that the first visitor need not wait for them."""
    try:
        from bivdiff import pipeline  # noqa: F401
        from bivdiff.models import manager  # noqa: F401
    except ImportError:  # the first run meets the same error, and tells its user
        _log.exception("The models' libraries could not be loaded ahead of the first run.")
