"""What people write on a command line that argparse would take for something else."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

_FILE = re.compile(r"--?[^\s=]*\.\w{1,6}", re.ASCII)
_NUMBER = re.compile(r"-\d*\.?\d+(e[+-]?\d+)?", re.IGNORECASE)


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
