"""What the page stores of each window that is open on it, for which Gradio copies the whole page."""

from __future__ import annotations

from collections import ChainMap
from datetime import datetime
from typing import Any

import gradio as gr
from gradio.blocks import BlocksConfig
from gradio.state_holder import SessionState

from tabs.failures import refusal
from tabs.weights import bytes_in, heaviest

CLOSED_SECONDS = 3600  # that what a window chose outlives it
MOST_OF_ONE = 2**20  # bytes that one window may keep here: many times what it does
MOST_OF_ALL = 128 * 2**20  # beyond it the windows that keep most lose what they chose
WEIGHED_EVERY = 64  # things that are kept

TOO_MUCH = "This is more than the page can keep for you. Take shorter words or a simpler mask."


def keep_sessions_small() -> None:
    """Let a session hold only what is other than on the page that all see.

    Gradio also describes all components anew for each session, so that a link can bring its state back. Such links are
    not served here (see door), and the descriptions take over a megabyte and a quarter of a second each.
    """
    for name, method in REPLACED.items():
        setattr(SessionState, name, method)


def _begin(self: Any, blocks: gr.Blocks) -> None:
    page, own = blocks.default_config, BlocksConfig(blocks)
    own.blocks, own.fns = ChainMap({}, page.blocks), ChainMap({}, page.fns)  # type: ignore[assignment]
    own.fn_id, own.renderables = page.fn_id, list(page.renderables)
    self.blocks_config = own
    self.page, self.weights = blocks, {}
    self.config_values = {}
    self.state_data = {}
    self._state_ttl = {}
    self.is_closed = False
    self.STATE_TTL_WHEN_CLOSED = CLOSED_SECONDS


def _set(self: Any, key: int, value: Any) -> None:
    block = self.blocks_config.blocks.get(key)
    weight = bytes_in(value if isinstance(block, gr.State) else getattr(value, "value", None))
    if sum(self.weights.values()) - self.weights.get(key, 0) + weight > MOST_OF_ONE:
        raise refusal(TOO_MUCH)
    self.weights[key] = weight
    _note(self.page)
    if isinstance(block, gr.State):
        self._state_ttl[key] = (block.time_to_live, datetime.now())  # noqa: DTZ005 - Gradio compares it so
        self.state_data[key] = value
    else:
        self.blocks_config.blocks[key] = value


def _note(page: Any) -> None:
    """Count what is kept, and every now and then let the windows go that keep most, where all keep too much."""
    page.kept = getattr(page, "kept", 0) + 1
    if page.kept % WEIGHED_EVERY == 0:
        holder = page.state_holder
        with holder.lock:
            taken = {name: sum(each.weights.values()) for name, each in holder.session_data.items()}
            for name in heaviest(taken, MOST_OF_ALL):
                del holder.session_data[name]
                holder.time_last_used.pop(name, None)


def _describe_nothing(*_: Any) -> None:
    pass


REPLACED = {
    "__init__": _begin, "__setitem__": _set, "_update_config": _describe_nothing,
    "_update_value_in_config": _describe_nothing,
}  # fmt: skip
"""Methods of Gradio's, which documents no door to this (see docs/architecture.md)."""
