"""Who may come in, and by which way: the addresses that are served, and the names that the studio is called by."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

NAME = r"[A-Za-z0-9_-]{1,64}"
API = "/gradio_api"
UPLOAD = f"{API}/upload"
PROGRESS = f"{API}/upload_progress"
FILE = f"{API}/file="
NO_ADDRESS = r"(?!\s*([A-Za-z][A-Za-z0-9+.-]+(:|%3[Aa])|([/\\]|%2[Ff]|%5[Cc]){2}))"
"""What a file's path does not begin with: Gradio would fetch it from there. A letter and a colon are a drive."""

LINKS = "/r/"
"""Below it are the results that their owners have published (see links)."""

ACTIONS = rf"{API}/(queue/join|run/{NAME}|call/(v2/)?{NAME})"
STREAMS = rf"{API}/(queue/data|call/(v2/)?{NAME}/{NAME})"
"""What is read as it comes, by who has asked for it."""

READ = (
    "/", "/config/?", r"/theme\.css", r"/(static|assets|svelte)/.+", r"/favicon\.ico", r"/robots\.txt",
    r"/manifest\.json", f"/pwa_icon(/{NAME})?", "/logout", f"{API}/login_check/?", f"{API}/info/?",
    f"{API}/startup-events", f"{API}/heartbeat/{NAME}", f"{API}/app_id", STREAMS,
    PROGRESS, f"{FILE}{NO_ADDRESS}.+",
    f"{LINKS}.*",
)  # fmt: skip
"""Paths that are read, relative to the root: what the page calls, what clients do, and no others."""

WRITTEN = ("/login/?", f"{UPLOAD}/?", f"{ACTIONS}/?", f"{API}/(cancel|reset)/?")
MCP = f"{API}/mcp(/.*)?"
"""The tools, by any method; where they are not asked for, Gradio has nothing there."""


@dataclass(frozen=True)
class Door:
    """Who may come in, and by which way.

    Attributes:
        pages: names of the pages beside the front page.
        hosts: names that the studio may be called by, beside those of this machine alone; None allows any.
        behind_proxy: whether a proxy says who asks, and for whom.
        from_afar: whether it is one of the Hub's or of a public link, so that all who ask come over the Internet.
        on_space: whether the Hugging Face Hub shows the page in a frame.
    """

    pages: tuple[str, ...] = ()
    hosts: tuple[str, ...] | None = ()
    behind_proxy: bool = False
    from_afar: bool = False
    on_space: bool = False

    def serves(self, method: str, path: str) -> bool:
        """Whether there is anything at a path."""
        if re.fullmatch(MCP, path):
            return True
        if method in ("GET", "HEAD"):
            return any(re.fullmatch(each, path) for each in (*READ, *(f"/{re.escape(name)}/?" for name in self.pages)))
        return method == "POST" and any(re.fullmatch(each, path) for each in WRITTEN)

    def knows(self, host: str) -> bool:
        """Whether the studio may be called by a host, with or without a port."""
        return self.hosts is None or is_loopback(host_name(host)) or host_name(host) in self.hosts

    def lets_in(self, origin: str, host: str) -> bool:
        """Whether pages of an origin may use the studio at a host: its own may, and those of a name that is allowed."""
        place = origin.partition("://")[2].lower()
        return self.hosts is None or place == host.lower() or host_name(place) in self.hosts


def host_name(place: str) -> str:
    """The name in a host or an origin, without scheme, port and brackets."""
    place = place.rpartition("://")[2].lower()
    if place.count(":") > 1 and not place.startswith("["):
        return place  # an address of version 6 by itself
    return place[1:].partition("]")[0] if place.startswith("[") else place.partition(":")[0].rstrip(".")


def is_loopback(name: str) -> bool:
    """Whether an address is reached from this machine alone."""
    try:
        return name == "localhost" or ipaddress.ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return False
