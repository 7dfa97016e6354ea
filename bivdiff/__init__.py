"""BIVDiff Studio's library: what a program of one's own needs of it, imported when it is first asked for."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from bivdiff.version import __version__ as __version__  # which is not asked for lazily

if TYPE_CHECKING:
    from bivdiff.bridge.pipeline import run
    from bivdiff.catalog.requests import default_request
    from bivdiff.media.reading import read_clip
    from bivdiff.models.manager import ModelManager
    from bivdiff.settings import Settings

__all__ = ["ModelManager", "Settings", "default_request", "read_clip", "run"]
_PLACES = {
    "run": "bivdiff.bridge.pipeline",
    "default_request": "bivdiff.catalog.requests",
    "read_clip": "bivdiff.media.reading",
    "ModelManager": "bivdiff.models.manager",
    "Settings": "bivdiff.settings",
}


def __getattr__(name: str) -> object:
    if name not in _PLACES:
        raise AttributeError(f"module 'bivdiff' has no attribute '{name}'")
    return getattr(import_module(_PLACES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
