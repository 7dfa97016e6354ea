"""Whether what is asked for fits, said before anything is computed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from bivdiff.cli.output import hide_bars_of_libraries, note
from bivdiff.errors import OutOfMemoryError
from bivdiff.settings import Settings
from bivdiff.types import GenerationRequest

if TYPE_CHECKING:
    from bivdiff.models.manager import ModelManager


def manager_of(settings: Settings) -> ModelManager:
    """The models of this process; torch is imported only now."""
    from bivdiff.models.manager import ModelManager

    hide_bars_of_libraries()
    return ModelManager(settings)


def checked_plan(
    request: GenerationRequest, manager: ModelManager, to_fit: bool, axes: Mapping[str, Sequence[Any]] | None = None
) -> tuple[GenerationRequest, Any]:
    """The request, made to fit if that is wanted, and what it is expected to take, said on standard error.

    Args:
        request: of a run, or of a comparison.
        manager: knows the budgets.
        to_fit: whether to make it fit.
        axes: what a comparison varies.

    Raises:
        OutOfMemoryError: it does not fit.
    """
    from bivdiff.compare.planning import planned

    request, found, changed = planned(request, manager, to_fit, axes)
    if changed:
        note(changed)
    if not found.fits:
        raise OutOfMemoryError(f"{found.advice} Or let --fit-memory do it.")
    note(found.sentence)
    return request, asdict(found)
