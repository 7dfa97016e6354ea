"""What the studio writes into its pages: what is shown where its address is posted, and which scripts may run."""

from __future__ import annotations

import re

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tabs.guard import NONCE
from tabs.links import STUDIO_CARD, TITLE, public_address, tags

SAYS = "Image diffusion models make videos, without training: frame by frame they flicker, bridged they do not."

# Gradio's template has its own, of which readers take the first.
_OTHERS = re.compile(rb'<meta\s+(?:property|name)="(?:og|twitter):[^"]*"\s+content="[^"]*"\s*/?>\s*')
_FIRST = re.compile(rb"<head[^>]*>")


class Introduced:
    """Middleware that writes what introduces the studio into the head of its pages, and takes out what does not.

    It also marks the scripts that stand there, so that a browser runs these and no others (see guard).

    Args:
        app: gives the pages.
        root: where a proxy has them, as `--root-path` says it.
    """

    def __init__(self, app: ASGIApp, root: str = "") -> None:
        self._app, self._root = app, root

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on all but pages."""
        if scope["type"] != "http" or scope["method"] != "GET":
            await self._app(scope, receive, send)
            return
        held: list[Message] = []
        parts: list[bytes] = []

        async def introduced(message: Message) -> None:
            if message["type"] == "http.response.start" and _is_page(message):
                held.append(message)
            elif message["type"] == "http.response.body" and held:
                parts.append(message.get("body", b""))
                if not message.get("more_body"):
                    page = _with_tags(b"".join(parts), public_address(scope, self._root))
                    page = page.replace(b"<script", b'<script nonce="%s"' % scope.get(NONCE, "").encode())
                    MutableHeaders(raw=held[0]["headers"])["content-length"] = str(len(page))
                    await send(held[0])
                    await send({"type": "http.response.body", "body": page})
            else:
                await send(message)

        await self._app(scope, receive, introduced)


def _is_page(start: Message) -> bool:
    headers = MutableHeaders(raw=start["headers"])
    plain = "content-encoding" not in headers
    return start["status"] == 200 and plain and headers.get("content-type", "").startswith("text/html")


def _with_tags(page: bytes, address: str) -> bytes:
    """A page with tags of its own in its head, instead of those that it has; one without a head as it is."""
    first = _FIRST.search(page)
    if first is None:
        return page
    end = page.find(b"</head>", first.end())
    head = _OTHERS.sub(b"", page[first.end() : end])
    return page[: first.end()] + tags(TITLE, SAYS, address, f"{address}{STUDIO_CARD}").encode() + head + page[end:]
