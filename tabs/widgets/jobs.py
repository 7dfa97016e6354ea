"""The strip of a visitor's jobs."""

from __future__ import annotations

from typing import Any

from tabs.widgets.component import Widget


def job_strip(**options: Any) -> Widget:
    """A visitor's jobs, a line each; its buttons trigger `act`. Its value is made by `tabs.queue.queue_value`."""
    about = "the jobs that run or wait, and what was asked of one of them"
    return Widget({"jobs": []}, drawn_by="jobs", about=about, **options)
