"""How far one click on "Generate" travels through our code: the functions it enters, and how often it changes module.

    python benchmarks/hops.py --list

A run of the task "Control" with the toybox is followed from the page's handler until its files are written, on all
threads. It has two steps a stage: loops are counted once, however long they are. `--list` prints the walk of each
thread: every function where it was entered first, indented by the functions of ours that called it.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from inspect import CO_GENERATOR
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bivdiff.settings import Settings
from tabs import control, task_tab
from tabs.context import AppContext, warm_up

ROOT = Path(__file__).resolve().parent.parent
OURS = ("bivdiff", "tabs")
PARTS = {"<listcomp>", "<setcomp>", "<dictcomp>", "<genexpr>"}  # of the function that they are written in
VALUES = {
    "sample": 0, "prompt": "a yellow sphere jumps next to a pink cube", "random_seed": False, "seed": 7,
    "num_frames": 4, "num_inference_steps": 2, "num_inversion_steps": 2, "num_smoothing_steps": 2, "mixing_ratio": 0.5,
}  # fmt: skip


class Walk:
    """What was entered, in order.

    Attributes:
        functions: each once, with the thread and the depth at which it was entered first.
        changes: how often a function called one of another module, by caller and called.
    """

    def __init__(self) -> None:
        self.functions: dict[CodeType, tuple[str, int]] = {}
        self.changes: Counter[tuple[CodeType, CodeType]] = Counter()

    @contextmanager
    def followed(self) -> Iterator[None]:
        """Note what this thread enters, and what those enter that start meanwhile."""
        threading.setprofile(self._enter)
        sys.setprofile(self._enter)
        try:
            yield
        finally:
            sys.setprofile(None)
            threading.setprofile(None)

    def _enter(self, frame: FrameType, event: str, _: Any) -> None:
        code = frame.f_code
        if event != "call" or module_of(code) is None or code.co_name in PARTS:
            return
        callers = list(callers_of(frame))
        if any(caller.co_name == "<module>" for caller in (code, *callers)):
            return  # an import, which is no part of the click
        known = code in self.functions
        self.functions.setdefault(code, (threading.current_thread().name, len(callers)))
        goes_on = code.co_flags & CO_GENERATOR and known  # a generator is entered again for each of its values
        if callers and module_of(callers[0]) != module_of(code) and not goes_on:
            self.changes[callers[0], code] += 1


@cache
def module_of(code: CodeType) -> str | None:
    """The module of ours that code is in; None for code of others."""
    path = Path(code.co_filename)
    if not path.is_relative_to(ROOT) or path.relative_to(ROOT).parts[0] not in OURS:
        return None
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def callers_of(frame: FrameType) -> Iterator[CodeType]:
    """The functions of ours that a frame was called by, the nearest first."""
    above = frame.f_back
    while above is not None:
        if module_of(above.f_code) is not None and above.f_code.co_name not in PARTS:
            yield above.f_code
        above = above.f_back


def click() -> Walk:
    """Press the button once; history and stages lie in a folder of their own, and the libraries are imported before."""
    walk = Walk()
    warm_up()
    with tempfile.TemporaryDirectory() as folder:
        settings = replace(
            Settings.from_env(), history_folder=Path(folder, "history"), cache_folder=Path(folder, "stages")
        )
        context = AppContext.from_settings(settings)
        with walk.followed():
            *_, last = task_tab.generate(context, control.read_job, control.TASK, VALUES)
    if last.panel["state"] != "done":
        raise SystemExit(f"The run did not come to its end: {last.panel['headline']}")
    return walk


def main() -> None:
    """Print the figures as Markdown, and the walk if it is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--list", action="store_true", help="print the walk as well")
    args = parser.parse_args()
    walk = click()
    if args.list:
        for thread in dict.fromkeys(name for name, _ in walk.functions.values()):
            print(f"{thread}:")
            for code, (name, depth) in walk.functions.items():
                if name == thread:
                    print(f"{'  ' * (depth + 1)}{module_of(code)}.{getattr(code, 'co_qualname', code.co_name)}")
    print("| functions | modules | calls from one module into another, each once |\n| --- | --- | --- |")
    print(f"| {len(walk.functions)} | {len(set(map(module_of, walk.functions)))} | {len(walk.changes)} |")


if __name__ == "__main__":
    main()
