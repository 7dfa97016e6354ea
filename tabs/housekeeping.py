"""What is done while the page is served, so that it can stay open for months: old uploads leave."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from starlette.concurrency import run_in_threadpool

from tabs.uploads import Sweeping


@asynccontextmanager
async def kept_clean(app: Any) -> AsyncIterator[None]:
    """Keep house from the start of the server to its end."""
    sweeping = Sweeping(lambda: list(app.blocks.temp_file_sets) if getattr(app, "blocks", None) else ())
    try:
        yield
    finally:
        await run_in_threadpool(sweeping.end)
