"""The tables of the results: every task and image model, frame by frame and bridged, scored against the toybox world.

`python benchmarks/table.py --clips 24` prints one per task as Markdown; `--task edit inpaint` takes only these.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bivdiff.catalog.families import FAMILIES
from bivdiff.catalog.tasks import TASKS
from bivdiff.errors import BIVDiffError
from bivdiff.evaluate.evaluation import evaluate, ways
from bivdiff.models.manager import ModelManager
from bivdiff.pixels.metrics import markdown_table
from bivdiff.settings import Settings


def main() -> int:
    """Print a table for each task as soon as it is known; returns the exit status, 1 if a row is missing."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--task", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--family", choices=FAMILIES, default="toybox")
    parser.add_argument("--video-model", help="of the family (default: its first)")
    parser.add_argument("--clips", type=int, default=24)
    parser.add_argument("--first-scene", type=int, default=0)
    args = parser.parse_args()

    def report(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    manager, failed = ModelManager(Settings.from_env()), False
    for task in args.task:
        rows = {}
        for label, changes in ways(task, args.family):
            report(f"{TASKS[task].title}: {label}")
            try:
                scores = evaluate(
                    task, args.family, args.clips, args.first_scene, manager, report,
                    **{**changes, "video_model": args.video_model},
                )  # fmt: skip
            except BIVDiffError as error:
                report(f"error: {error}")
                failed = True
                continue
            rows[f"{label}: frame by frame"], rows[f"{label}: **bridged**"] = scores["framewise"], scores["bridged"]
        print(f"**{TASKS[task].title}**\n\n{markdown_table(rows)}\n", flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
