"""Whether many runs leave anything behind: memory and files after every tenth run.

    python benchmarks/soak.py --runs 200

Short runs of the toybox, of changing tasks and one in five cancelled, go through the queue and the history as the page
gives them. The history is bounded small, so that old runs must leave; it and the stages lie in a folder of their own.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bivdiff.settings import Settings
from tabs import common, control, edit, inpaint, outpaint, smooth
from tabs.context import AppContext

OWNER = "soak-soak-soak-soak"
TABS = (control, edit, inpaint, outpaint, smooth)
BOUND = 8_000_000


def main() -> None:
    """Run, and print what is measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=200)
    runs = parser.parse_args().runs
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        settings = replace(
            Settings.from_env(), history_folder=Path(folder) / "history", history_size=str(BOUND),
            cache_folder=Path(folder) / "stages", cache_size="4MB",
        )  # fmt: skip
        context, states = AppContext.from_settings(settings), {}
        for number in range(runs):
            state = _one(context, number)
            states[state] = states.get(state, 0) + 1
            if (number + 1) % 10 == 0:
                rows.append({"runs": number + 1, **_measured(Path(folder))})
                sys.stderr.write(f"{json.dumps(rows[-1])}\n")
    print(json.dumps({"states": states, "rows": rows}, indent=2))


def _one(context: AppContext, number: int) -> str:
    """One run to its end; every fifth is cancelled on the way."""
    tab, sample = TABS[number % len(TABS)], context.samples[number % len(context.samples)]
    values = {
        "sample": number % len(context.samples), "prompt": sample.prompt, "instruction": sample.instruction,
        "source_prompt": sample.caption, "left": "25%", "random_seed": False, "seed": number, "num_frames": 2,
        "num_inference_steps": 2, "num_inversion_steps": 2, "num_smoothing_steps": 2, "mixing_ratio": 0.5,
    }  # fmt: skip
    job = common.submit(context, tab.TASK, tab.read_job(context, values), OWNER)
    seen = -1
    while job.waits:
        seen = context.jobs.wait(seen, 0.5)
        if number % 5 == 4 and job.version > 3:
            context.jobs.cancel(job)
    return job.state


def _measured(folder: Path) -> dict[str, float]:
    process = psutil.Process()
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {
        "resident_mb": round(process.memory_info().rss / 1e6, 1), "threads": process.num_threads(),
        "open_files": process.num_fds(), "files": len(files),
        "files_mb": round(sum(path.stat().st_size for path in files) / 1e6, 2),
    }  # fmt: skip


if __name__ == "__main__":
    main()
