"""Speed and memory of whole runs, on the machine at hand.

In it: `bench`. Not in it: quality (evaluation.py).
"""

from __future__ import annotations

import statistics
import time
from typing import Any

from bivdiff.errors import InputError
from bivdiff.evaluation import case_of
from bivdiff.models.manager import ModelManager
from bivdiff.pipeline import last, run
from bivdiff.settings import Settings


def bench(task: str, family_name: str, runs: int, settings: Settings, **changes: Any) -> dict[str, Any]:
    """Time whole runs of a task on the first case of its evaluation.

    Args:
        task, family_name: keys of the catalog.
        runs: timed runs, after one that loads the models and is not timed.
        settings: of the process.
        changes: fields of GenerationRequest; None keeps the default.

    Returns:
        `load_seconds`: reading the models, libraries already imported. `stages` and `total_seconds`: medians over
        the runs. `outside_forward_share`: share of the total outside models' forward passes. `peak_memory_bytes`.

    Raises:
        InputError: there is no such task, or `runs` is below 1.
    """
    if runs < 1:
        raise InputError(f"A benchmark needs at least 1 run; got {runs}.")
    request = case_of(task, 0, family_name, **changes).request
    manager = ModelManager(settings)
    first = last(run(request, manager))
    totals, results = [], []
    for _ in range(runs):
        started = time.perf_counter()
        results.append(last(run(request, manager)))
        totals.append(time.perf_counter() - started)
    shares = [1 - result.forward_seconds / total for result, total in zip(results, totals, strict=True)]
    return {
        "device": str(manager.device),
        "frames": request.frames.shape[0],
        "load_seconds": first.seconds["load"],
        "stages": {stage: statistics.median(result.seconds[stage] for result in results) for stage in first.seconds},
        "total_seconds": statistics.median(totals),
        "outside_forward_share": statistics.median(shares),
        "peak_memory_bytes": results[-1].peak_memory_bytes,
        "evaluations": first.evaluations,
        "settings": request.settings(),
    }
