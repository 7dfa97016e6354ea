"""What the commands print: progress on standard error, a report as JSON or as text."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable
from typing import Any


def print_report(report: dict[str, Any], as_json: bool, as_text: Callable[[dict[str, Any]], str]) -> None:
    """Print what a command reports."""
    print(json.dumps(_finite(report), indent=2) if as_json else as_text(report))


def tell(line: str, end: str = "\n") -> None:
    """Print a line on standard error, where progress goes."""
    print(line, end=end, file=sys.stderr, flush=True)


def _finite(value: Any) -> Any:
    """The same with null for NaN, which JSON does not have."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def report_as_text(report: dict[str, Any]) -> str:
    """A report as indented lines; lists, which hold single clips, are left to --json."""
    lines = []
    for key, value in report.items():
        if isinstance(value, dict):
            lines += [f"{key}:", *(f"  {line}" for line in report_as_text(value).splitlines())]
        elif not isinstance(value, list):
            lines.append(f"{key}: {value:.4g}" if isinstance(value, float) else f"{key}: {value}")
    return "\n".join(lines)
