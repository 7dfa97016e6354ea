"""How events of the page run, in Gradio's options."""

from __future__ import annotations

from typing import Any

PRIVATE: dict[str, Any] = {"api_visibility": "private"}
"""The page's own: no endpoint for clients."""

QUICK: dict[str, Any] = {"show_progress": "hidden", "queue": False}
"""Done at once, before what waits in the queue."""

READING: dict[str, Any] = {"concurrency_id": "preview", "concurrency_limit": 8}
"""They read a visitor's files before a run, and wait for `decoding` in turn."""


def slow(name: str) -> dict[str, Any]:
    """They wait for files or the network: so many of a name at a time."""
    return {"show_progress": "hidden", "concurrency_limit": 8, "concurrency_id": name}
