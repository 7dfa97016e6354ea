"""Whether many runs leave anything behind: memory and files after every tenth of them.

    python benchmarks/soak.py --runs 200
    python benchmarks/soak.py --strangers 240

It fails where they grow beyond a bound. Short runs of the toybox, of changing tasks and one in five cancelled, go
through the queue and the history as the page gives them. The history is bounded small, so that old runs must leave; it
and the stages lie in a folder of their own. With `--strangers` the real app is served instead, and for so many seconds
good, bad and broken clients use it side by side (see strangers.py).
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent))

import strangers

from bivdiff.settings import Settings
from tabs import control, edit, inpaint, outpaint, smooth, task_tab
from tabs.context import AppContext

OWNER = "soak-soak-soak-soak"
TABS = (control, edit, inpaint, outpaint, smooth)
HISTORY, STAGES = 8_000_000, 4_000_000  # bytes
MOST_GROWTH = {"resident_mb": 100, "threads": 8, "open_files": 8}

Row = dict[str, float]


def main() -> int:
    """Run, and print what is measured; returns the exit status, 1 if something grew."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--strangers", type=float, default=0, metavar="SECONDS")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if given.strangers:
            states, rows = strangers.besieged(Path(folder), given.strangers)
            told = strangers.wrong(states) + grown(rows, strangers.MOST_FILES)
        else:
            states, rows = soak(Settings.from_env(), Path(folder), given.runs)
            told = grown(rows)
    print(json.dumps({"states": states, "rows": rows, "grown": told}, indent=2))
    return int(bool(told))


def soak(settings: Settings, folder: Path, runs: int, every: int = 10) -> tuple[dict[str, int], list[Row]]:
    """Make many runs; how often each state was their end, and what was measured after `every` so many of them."""
    settings = replace(
        settings, history_folder=folder / "history", history_size=str(HISTORY), cache_folder=folder / "stages",
        cache_size=str(STAGES),
    )  # fmt: skip
    context, states, rows = AppContext.from_settings(settings), Counter[str](), []
    for number in range(runs):
        states[_one(context, number)] += 1
        if (number + 1) % every == 0:
            rows.append({"runs": number + 1, **strangers.measured(psutil.Process(), folder)})
            sys.stderr.write(f"{json.dumps(rows[-1])}\n")
    return dict(states), rows


def grown(rows: Sequence[Row], kept: float = HISTORY + STAGES) -> list[str]:
    """What grew after a quarter of the time, in which all models are loaded, beyond its bound; in words.

    Args:
        rows: what was measured.
        kept: bytes that may be stored.
    """
    begun, ended = rows[len(rows) // 4], rows[-1]
    told = [
        f"{name} grew from {begun[name]:g} to {ended[name]:g}, by more than {most:g}"
        for name, most in MOST_GROWTH.items() if ended[name] - begun[name] > most
    ]  # fmt: skip
    most_files = 1.2 * kept / 1e6  # a run is kept whole before the older ones leave
    if ended["files_mb"] > most_files:
        told.append(f"the files take {ended['files_mb']:g} MB, more than {most_files:g}")
    return told


def _one(context: AppContext, number: int) -> str:
    """One run to its end; every fifth is cancelled on the way."""
    tab, sample = TABS[number % len(TABS)], context.samples[number % len(context.samples)]
    values = {
        "sample": number % len(context.samples), "prompt": sample.prompt, "instruction": sample.instruction,
        "source_prompt": sample.caption, "left": "25%", "random_seed": False, "seed": number, "num_frames": 2,
        "num_inference_steps": 2, "num_inversion_steps": 2, "num_smoothing_steps": 2, "mixing_ratio": 0.5,
    }  # fmt: skip
    job = task_tab.submit(context, tab.TASK, tab.read_job(context, values), OWNER)
    seen = -1
    while job.waits:
        seen = context.jobs.wait(seen, 0.5)
        if number % 5 == 4 and job.version > 3:
            context.jobs.cancel(job)
    return job.state


if __name__ == "__main__":
    sys.exit(main())
