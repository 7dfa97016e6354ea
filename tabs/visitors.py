"""Who uses a page: a token that only that browser has, and which of its windows it is."""

from __future__ import annotations

import ipaddress
import re
import secrets
from typing import Any, NamedTuple

from gradio.context import LocalContext

from bivdiff.studio.turns import Asker

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


def asker() -> Asker:
    """Who waits for the request that is being handled, and in which window."""
    request = LocalContext.request.get(None)
    return Asker(address_of_visitor(), str(getattr(request, "session_hash", None) or ""))


def address_of_visitor() -> str:
    """From where the request comes that is being handled, or who signed in; empty outside of one.

    An address of version 6 stands for its network, of which one line has all.
    """
    request = LocalContext.request.get(None)
    return "" if request is None else address_of(request, request.username)


def address_of(request: Any, username: str | None) -> str:
    """As `address_of_visitor`, of a request and who signed in."""
    if username:
        return f"user {username}"
    return "" if getattr(request, "client", None) is None else network_of(request.client.host)


def network_of(host: str) -> str:
    """The address of a host, or where it is one of version 6 that of its network."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    mapped = getattr(address, "ipv4_mapped", None) or address
    return str(ipaddress.ip_network((mapped, 64), strict=False) if mapped.version == 6 else mapped)
