"""What the commands print: progress on standard error, a report as JSON or as text."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable
from typing import Any, Final

from tqdm import tqdm

from bivdiff.units import finite

PLAIN_EVERY: Final = 5.0
"""Seconds between two lines of progress where standard error is a file or a pipe."""
ON_TERMINAL: Final = "{desc} {n_fmt}/{total_fmt} |{bar}| [{elapsed}<{remaining}, {rate_fmt}]"
PLAIN: Final = "{desc} {n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_fmt}]"


def print_report(report: dict[str, Any], as_json: bool, as_text: Callable[[dict[str, Any]], str]) -> None:
    """Print what a command reports."""
    print(json.dumps(finite(report), indent=2) if as_json else as_text(report))


def note(line: str) -> None:
    """Print a line on standard error, where progress goes; a bar that is drawn there moves below it."""
    tqdm.write(line, file=sys.stderr)
    sys.stderr.flush()


def hide_bars_of_libraries() -> None:
    """Leave standard error to `Progress`: bars of others would cross it, and fill a log with carriage returns."""
    import diffusers
    import transformers

    transformers.utils.logging.disable_progress_bar()  # and the model hub's, which it uses
    diffusers.utils.logging.disable_progress_bar()


class Progress:
    """How far a job is, on standard error: a bar on a terminal, elsewhere a plain line every few seconds.

    Close it at the end.

    Args:
        unit: what is counted, "step" or "B" for bytes.
        stay: whether the last line of each part stays; where parts are many, only the running one is shown.
        clock: seconds from any start.
    """

    def __init__(self, unit: str = "step", stay: bool = True, clock: Callable[[], float] = time.monotonic) -> None:
        self._options: dict[str, Any] = {"unit": unit, "unit_scale": unit == "B"}
        self._stay = stay
        self._clock = clock
        self._terminal = sys.stderr.isatty()
        self._part = ""
        self._bar: tqdm[Any] | None = None
        self._since = self._printed = clock()

    def show(self, part: str, words: str, done: int, total: int) -> None:
        """Say that `done` of `total` are done.

        Args:
            part: what the numbers count; rate and time left start anew with another.
            words: what is shown before the numbers.
            done, total: in the unit; an unknown total is 0.
        """
        if part != self._part:
            self.close()
            self._part, self._since = part, self._clock()
        (self._draw if self._terminal else self._print)(words, done, total)

    def _draw(self, words: str, done: int, total: int) -> None:
        if self._bar is None:
            self._bar = tqdm(
                file=sys.stderr, dynamic_ncols=True, leave=self._stay, bar_format=ON_TERMINAL, total=total,
                **self._options,
            )  # fmt: skip
        self._bar.total, self._bar.n = total or None, done
        self._bar.set_description_str(words)

    def _print(self, words: str, done: int, total: int) -> None:
        now = self._clock()
        if now - self._printed < PLAIN_EVERY and not (self._stay and done == total):
            return
        self._printed = now
        note(tqdm.format_meter(done, total, now - self._since, prefix=words, bar_format=PLAIN, **self._options))

    def close(self) -> None:
        """Leave the terminal's cursor on a line of its own."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def report_as_text(report: dict[str, Any]) -> str:
    """A report as indented lines; lists, which hold single clips, are left to --json."""
    lines = []
    for key, value in report.items():
        if isinstance(value, dict):
            lines += [f"{key}:", *(f"  {line}" for line in report_as_text(value).splitlines())]
        elif not isinstance(value, list):
            lines.append(f"{key}: {_rounded(value)}" if isinstance(value, float) else f"{key}: {value}")
    return "\n".join(lines)


def _rounded(value: float) -> str:
    """To four digits, or all of those before the point."""
    return f"{value:.4g}" if abs(value) < 1e4 or not math.isfinite(value) else f"{value:.0f}"
