"""Speed and memory of whole runs, on the machine at hand.

In it: `bench`. Not in it: quality (evaluation.py).
"""

from __future__ import annotations

import statistics
import time
from typing import Any

from bivdiff.catalog import default_request, family
from bivdiff.errors import InputError
from bivdiff.evaluation import last
from bivdiff.models.manager import ModelManager
from bivdiff.pipeline import run
from bivdiff.settings import Settings
from bivdiff.toybox import world


def bench(task: str, family_name: str, runs: int, settings: Settings, **changes: Any) -> dict[str, Any]:
    """Time whole runs of a task on an evaluation scene.

    Args:
        task, family_name: keys of the catalog.
        runs: timed runs, after one that loads the models and is not timed.
        settings: of the process.
        changes: fields of GenerationRequest; None keeps the default.

    Returns:
        `load_seconds`: reading the models, libraries already imported. `stages` and `total_seconds`: medians over
        the runs. `outside_forward_share`: share of the total outside models' forward passes. `peak_memory_bytes`.

    Raises:
        InputError: `runs` is below 1.
    """
    if runs < 1:
        raise InputError(f"A benchmark needs at least 1 run; got {runs}.")
    chosen = family(family_name)
    scene = world.evaluation_scene(0)
    frames = world.render(scene, *chosen.size, chosen.num_frames).frames
    changes["seed"] = 0 if changes.get("seed") is None else changes["seed"]
    request = default_request(task, family_name, frames, world.recolored(scene, 0).caption, **changes)
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
