"""Keeps loaded components, so that the second run does not load again.

In it: `ModelManager`, the cache, and where models run. Not in it: how a component is read (loaders.py), which there
are (catalog.py).
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from bivdiff.catalog import ModelSpec
from bivdiff.errors import InputError
from bivdiff.models.loaders import load_component
from bivdiff.settings import Settings


class ModelManager:
    """Loads components on first use and keeps them until `unload`.

    Attributes:
        device: where models run.
        dtype: of their weights: float16 on CUDA, float32 elsewhere.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.device = _choose_device(settings.device)
        self.dtype = torch.float16 if self.device.type == "cuda" else torch.float32
        self._loaded: dict[ModelSpec, Any] = {}
        self._users: dict[ModelSpec, int] = {}
        self._lock = threading.RLock()

    @contextmanager
    def use(self, *specs: ModelSpec) -> Iterator[list[Any]]:
        """Give the components of `specs`, on the device; while in use they are not unloaded.

        Raises:
            ModelUnavailableError: one cannot be loaded.
        """
        with self._lock:
            components = [self._load(spec) for spec in specs]
            for spec in specs:
                self._users[spec] = self._users.get(spec, 0) + 1
        try:
            yield components
        finally:
            with self._lock:
                for spec in specs:
                    self._users[spec] -= 1

    def unload(self) -> None:
        """Drop every component that no job is using, and give its memory back."""
        with self._lock:
            self._loaded = {spec: item for spec, item in self._loaded.items() if self._users.get(spec)}
        free_memory(self.device)

    def loaded(self) -> list[str]:
        """Names of the components in memory."""
        return sorted(f"{spec.repo}/{spec.folder}".strip("/") for spec in self._loaded)

    def _folder(self, spec: ModelSpec) -> Path:
        """Where the files of a component's family or repository lie, or would."""
        return self._settings.models_folder / spec.repo if spec.repo else self._settings.toybox_folder

    def _load(self, spec: ModelSpec) -> Any:
        if spec not in self._loaded:
            component = load_component(spec, self._folder(spec), self.dtype)
            self._loaded[spec] = component.to(self.device) if isinstance(component, torch.nn.Module) else component
        return self._loaded[spec]


def free_memory(device: torch.device) -> None:
    """Return cached memory of an accelerator to its driver."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()


def _choose_device(name: str) -> torch.device:
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InputError(f"Unknown device '{name}'. Use auto, cpu, cuda, cuda:0 or mps.") from error
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not available.get(device.type, False):
        raise InputError(f"The device '{name}' is not there. Use --device cpu, or auto to take the best there is.")
    return device
