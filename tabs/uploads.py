"""The bound on all uploads together; Gradio itself bounds each of them, and deletes them after a day."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from gradio.utils import get_upload_folder
from starlette.concurrency import run_in_threadpool
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

FULL = (
    "The studio has no room for more uploads now. They are deleted within a day: try again later, or use a sample clip."
    " The owner can give them more room with BIVDIFF_UPLOADS_SIZE."
)


class BoundedUploads:
    """Middleware that refuses an upload where the folder of them, with it, would be larger than `most` bytes."""

    def __init__(self, app: ASGIApp, most: int) -> None:
        self._app, self._most = app, most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on what is no upload, or fits."""
        if scope["type"] == "http" and scope["method"] == "POST" and scope["path"].rstrip("/").endswith("/upload"):
            coming = int(dict(scope["headers"]).get(b"content-length", b"0"))
            if await run_in_threadpool(bytes_in, Path(get_upload_folder())) + coming > self._most:
                await PlainTextResponse(FULL, status_code=507)(scope, receive, send)
                return
        await self._app(scope, receive, send)


def bytes_in(folder: Path) -> int:
    """What the files in a folder and below it take."""
    found = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):  # deleted meanwhile
                found += (Path(parent) / name).stat().st_size
    return found
