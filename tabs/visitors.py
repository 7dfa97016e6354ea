"""Who uses a page: a token that only that browser has, and which of its windows it is."""

from __future__ import annotations

import re
import secrets
from typing import Any, NamedTuple

TOKEN = re.compile(r"[A-Za-z0-9-]{16,64}")

LOOK_AGAIN = "~"
"""Ends what a page sends of itself; what comes behind it changes where the page is to look for its jobs anew."""


class Visitor(NamedTuple):
    """The owner of what is made on a page, and the window in which it is watched."""

    owner: str
    window: str


def visitor_of(text: Any) -> Visitor:
    """Read what a page sends; whoever sends nothing is somebody new each time, and sees nobody's jobs."""
    owner, _, window = str(text or "").partition(".")
    window = window.partition(LOOK_AGAIN)[0]
    return Visitor(owner if TOKEN.fullmatch(owner) else secrets.token_hex(16), window[:64])
