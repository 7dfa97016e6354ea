"""What went wrong, as a sentence for the user."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import wraps
from typing import Any

import gradio as gr

from bivdiff.errors import BIVDiffError

UNEXPECTED = (
    "Something failed that should not have. Nothing of yours is lost; try again, or look into the server's log."
)

_log = logging.getLogger(__name__)


def sentence(error: Exception) -> str:
    """What to tell the user; an error that is not meant for users is logged and described in general."""
    if isinstance(error, BIVDiffError):
        return str(error)
    _log.error("A run failed unexpectedly.", exc_info=error)
    return UNEXPECTED


def telling(handler: Callable[..., Any]) -> Callable[..., Any]:
    """A handler of the page that tells there, in a sentence, what went wrong."""

    @wraps(handler)
    def call(*given: Any) -> Any:
        try:
            return handler(*given)
        except gr.Error:
            raise
        except Exception as error:  # noqa: BLE001 - `sentence` logs what is not meant for users
            raise gr.Error(sentence(error), print_exception=False) from None

    return call
