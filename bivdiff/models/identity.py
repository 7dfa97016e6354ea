"""What models are at work, in words for the keys of cached outputs: equal words mean equal output of equal input."""

from __future__ import annotations

from collections.abc import Iterable

from bivdiff.catalog.specs import ModelSpec
from bivdiff.models.manager import ModelManager


def identity_of(specs: Iterable[ModelSpec], manager: ModelManager) -> str:
    """What components load, and the files as they were then, or are for what is not loaded."""
    return " ".join(f"{spec.load_id} {manager.stamp(spec)}" for spec in specs)


def numerics_of(manager: ModelManager) -> str:
    """All that changes what equal models make of equal input: device, digits, and how they are run."""
    switches = [name for name in ("tiling", "fp8", "compile") if getattr(manager.settings, name)]
    return " ".join([manager.device.type, str(manager.dtype), *switches])
