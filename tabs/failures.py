"""What went wrong, as a sentence for the user."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import wraps
from html import escape
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


def refusal(text: str) -> gr.Error:
    """What an event raises to end with a sentence, which the page shows as HTML."""
    return gr.Error(escape(text, quote=False), print_exception=False)


def warn(text: str, seconds: float = 12) -> None:
    """Show a warning over the page, which takes it for HTML."""
    gr.Warning(escape(text, quote=False), duration=seconds)


def inform(text: str, seconds: float = 6) -> None:
    """Show a remark over the page, which takes it for HTML."""
    gr.Info(escape(text, quote=False), duration=seconds)


def telling(handler: Callable[..., Any]) -> Callable[..., Any]:
    """A handler of the page that tells there, in a sentence, what went wrong."""

    @wraps(handler)
    def call(*given: Any) -> Any:
        try:
            return handler(*given)
        except gr.Error:
            raise
        except Exception as error:  # noqa: BLE001 - `sentence` logs what is not meant for users
            raise refusal(sentence(error)) from None

    return call
