"""What people write on a command line that argparse would take for something else."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_FILE = re.compile(r"--?[^\s=]*\.\w{1,6}", re.ASCII)
_DASHED = re.compile(r"-[^-]")
_NUMBER = re.compile(r"-\d*\.?\d+(e[+-]?\d+)?", re.IGNORECASE)


class Parser(argparse.ArgumentParser):
    """A parser that takes a value for a value and a file for a file, also where they begin with a dash.

    No flag but -h has a single dash, so what has one behind a flag that wants a value is the value.
    """

    def parse_known_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:  # type: ignore[override]
        """See argparse; a parser of commands leaves all that is behind a command's name to the command's own."""
        given = sys.argv[1:] if args is None else args
        return super().parse_known_args(given if self._subparsers else with_plain_names(self._joined(given)), namespace)

    def error(self, message: str) -> Any:
        """See argparse; says how a value is written that looks like a flag."""
        lacking = re.match(r"argument (--[\w-]+): expected one argument$", message)
        hint = f"; one that begins with two dashes is written {lacking[1]}=--value" if lacking else ""
        super().error(message + hint)

    def _joined(self, arguments: Sequence[str]) -> list[str]:
        """Arguments in which a flag and its value with a dash are one: `--negative-prompt=-ugly`."""
        joined: list[str] = []
        for argument in arguments:
            if _DASHED.match(argument) and argument not in self._option_string_actions and self._wants_one(joined[-1:]):
                joined[-1] += f"={argument}"
            else:
                joined.append(argument)
        return joined

    def _wants_one(self, last: Sequence[str]) -> bool:
        """Whether this is a flag, or the beginning of one, with exactly one value."""
        flag, actions = "".join(last), self._option_string_actions
        names = [flag] if flag in actions else [name for name in actions if name.startswith(flag)]
        return flag.startswith("--") and len(names) == 1 and actions[names[0]].nargs is None


def with_plain_names(arguments: Sequence[str]) -> list[str]:
    """Arguments in which a file whose name begins with a dash is no flag: -clip.mp4 becomes ./-clip.mp4."""
    return [f"./{argument}" if _is_file(argument) else argument for argument in arguments]


def as_path(text: str) -> Path:
    """A path as it was written, with the home for its `~`, which no shell sees behind a `=` or in a list of jobs."""
    return Path(text if os.path.lexists(text) else os.path.expanduser(text))  # noqa: PTH111 - leaves ~ of nobody alone


def _is_file(argument: str) -> bool:
    if not argument.startswith("-") or argument in {"-", "--", "-h"} or _NUMBER.fullmatch(argument):
        return False
    return bool(_FILE.fullmatch(argument)) or ("=" not in argument and Path(argument).exists())
