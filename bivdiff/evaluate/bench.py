"""Speed and memory of whole runs, on the machine at hand."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch

from bivdiff.bridge.pipeline import last, run
from bivdiff.bridge.reuse import StageCache
from bivdiff.compare.sweep import SweepResult, sweep
from bivdiff.compare.sweep import last as last_of_sweep
from bivdiff.errors import InputError
from bivdiff.evaluate.evaluation import case_of
from bivdiff.models.manager import ModelManager
from bivdiff.models.random_weights import read_random
from bivdiff.pixels.masks import fit_masks
from bivdiff.settings import Settings
from bivdiff.toybox import world
from bivdiff.types import GenerationRequest, GenerationResult

COPIED_BYTES = 2**30  # how much is copied to a card to learn how fast that goes
COPIES = 5


class Load(NamedTuple):
    """What a run is given to do, where it is not what the family's own evaluation has.

    Attributes:
        size: width and height in pixels; None is the family's.
        num_frames: length of the clip; None is the family's.
        random_weights: run networks of the real shapes without their weights, which need not be there.
    """

    size: int | None = None
    num_frames: int | None = None
    random_weights: bool = False


def bench(
    task: str, family_name: str, runs: int, settings: Settings, load: Load | None = None, **changes: Any
) -> dict[str, Any]:
    """Time whole runs of a task on the first case of its evaluation.

    Args:
        task, family_name: keys of the catalog.
        runs: timed runs, after one that loads the models and is not timed. 0 times that one, without the loading.
        settings: of the process.
        load: another size or length, or random weights.
        changes: fields of GenerationRequest; None keeps the default.

    Returns:
        `load_seconds`: reading the models, libraries already imported. `stages`, `total_seconds`: medians over the
        runs. `stage_peak_bytes`: the highest memory of any of them, per stage, of the device if it has its own.
        `outside_forward_share`: share of the total outside models' forward passes. `peak_memory_bytes`. On CUDA also
        `swap`, see `_swap`.

    Raises:
        InputError: there is no such task, `runs` is below 0, or there is no such family with random weights.
        ModelUnavailableError: the models are not there, and their weights should not be random.
    """
    if runs < 0:
        raise InputError(f"A benchmark needs at least 0 runs after the first; got {runs}.")
    load = load or Load()
    request = resized(case_of(task, 0, family_name, **changes).request, load)
    manager = _manager(settings, load.random_weights)
    first, seconds = _timed(request, manager)
    timed = [_timed(request, manager) for _ in range(runs)] or [(first, seconds - first.seconds["load"])]
    return {
        "device": str(manager.device),
        "dtype": str(manager.dtype).removeprefix("torch."),
        "offload": manager.policy,
        "random_weights": load.random_weights,
        "frames": request.frames.shape[0],
        "width": request.frames.shape[2],
        "height": request.frames.shape[1],
        "load_seconds": first.seconds["load"],
        **_medians([result for result, _ in timed], [total for _, total in timed]),
        "evaluations": first.evaluations,
        **({"swap": _swap(manager)} if manager.device.type == "cuda" else {}),
        "settings": request.settings(),
    }


def bench_sweep(
    task: str, family_name: str, ratios: int, runs: int, settings: Settings, load: Load | None = None, **changes: Any
) -> dict[str, Any]:
    """Time a comparison of mixing ratios beside a single run, on the first case of a task's evaluation.

    What the two are compared by is timed in turns, so that a machine that slows down slows down both.

    Args:
        task, family_name: keys of the catalog.
        ratios: how many, evenly from 0 to 1.
        runs: rounds, after one that loads the models and is not timed; medians are told.
        settings, load, changes: as for `bench`.

    Returns:
        `single_seconds`: a run, at 0.5 where both inversions are needed. `smoothing_seconds`: its smoothing alone.
        `sweep_seconds`, `warm_sweep_seconds`: the comparison from nothing, and once its stages are kept, scores
        included. `sweep_bound_seconds` and `warm_sweep_bound_seconds`: a run and the smoothing of all other ratios;
        the smoothing of all. `single_peak_bytes`, `sweep_peak_bytes`: highest memory of any stage.

    Raises:
        InputError: `ratios` is below 2 or `runs` below 1; or as `bench`.
    """
    if ratios < 2 or runs < 1:
        raise InputError(f"A comparison is timed with 2 ratios or more, 1 run or more; got {ratios} and {runs}.")
    load = load or Load()
    request = replace(resized(case_of(task, 0, family_name, **changes).request, load), mixing_ratio=0.5)
    manager = _manager(settings, load.random_weights)
    values = [number / (ratios - 1) for number in range(ratios)]
    _timed(request, manager)
    rounds = [_one_round(request, values, manager) for _ in range(runs)]
    spent = {name: statistics.median(each[name] for each in rounds) for name in rounds[0]}
    single, smoothing = spent["single_seconds"], spent["smoothing_seconds"]
    return {
        "device": str(manager.device),
        "ratios": values,
        **spent,
        "sweep_bound_seconds": single + (ratios - 1) * smoothing,
        "warm_sweep_bound_seconds": ratios * smoothing,
        "settings": request.settings(),
    }


def _one_round(request: GenerationRequest, ratios: Sequence[float], manager: ModelManager) -> dict[str, float]:
    result, single = _timed(request, manager)
    cache = StageCache()
    cold, warm = (_timed_sweep(request, ratios, manager, cache) for _ in range(2))
    return {
        "single_seconds": single,
        "smoothing_seconds": result.seconds["smoothing"],
        "sweep_seconds": cold[1],
        "warm_sweep_seconds": warm[1],
        "single_peak_bytes": max(result.peak_bytes.values()),
        "sweep_peak_bytes": cold[0].peak_bytes or 0,
    }


def _timed_sweep(
    request: GenerationRequest, ratios: Sequence[float], manager: ModelManager, cache: StageCache
) -> tuple[SweepResult, float]:
    started = time.perf_counter()
    result = last_of_sweep(sweep(request, {"mixing_ratio": ratios}, manager, cache))
    return result, time.perf_counter() - started


def resized(request: GenerationRequest, load: Load) -> GenerationRequest:
    """The request with its source rendered anew, where another size or length is wanted."""
    num_frames, height, width = request.frames.shape[:3]
    wanted = load.num_frames or num_frames, load.size or height, load.size or width
    if wanted == (num_frames, height, width):
        return request
    num_frames, height, width = wanted
    frames = world.render(world.evaluation_scene(0), width, height, num_frames).frames
    # One picture of them serves any number of frames.
    masks = None if request.masks is None else fit_masks(request.masks[:1], num_frames, height, width)
    return replace(request, frames=frames, masks=masks)


def _manager(settings: Settings, random_weights: bool) -> ModelManager:
    if not random_weights:
        return ModelManager(settings)
    manager = ModelManager(settings, read=lambda spec, base: read_random(spec, base, manager.dtype_of(spec)))
    return manager


def _timed(request: GenerationRequest, manager: ModelManager) -> tuple[GenerationResult, float]:
    started = time.perf_counter()
    result = last(run(request, manager))
    return result, time.perf_counter() - started


def _medians(results: Sequence[GenerationResult], totals: Sequence[float]) -> dict[str, Any]:
    shares = [1 - result.forward_seconds / total for result, total in zip(results, totals, strict=True)]
    stages = results[0].seconds
    return {
        "stages": {stage: statistics.median(result.seconds[stage] for result in results) for stage in stages},
        "stage_peak_bytes": {
            stage: max(result.peak_bytes[stage] for result in results) for stage in results[0].peak_bytes
        },
        "total_seconds": statistics.median(totals),
        "outside_forward_share": statistics.median(shares),
        "peak_memory_bytes": results[-1].peak_memory_bytes,
    }


def _swap(manager: ModelManager) -> dict[str, float]:
    """How fast the last component came to the card, and how fast pinned memory can, in bytes per second."""
    readout = manager.readout()
    pinned = torch.empty(COPIED_BYTES, dtype=torch.uint8, pin_memory=True)
    arrived = torch.empty_like(pinned, device=manager.device)
    rates = []
    for _ in range(COPIES):
        torch.cuda.synchronize(manager.device)
        started = time.perf_counter()
        arrived.copy_(pinned, non_blocking=True)
        torch.cuda.synchronize(manager.device)
        rates.append(COPIED_BYTES / (time.perf_counter() - started))
    return {
        "bytes": readout.swap_bytes,
        "seconds": readout.swap_seconds,
        "bytes_per_second": readout.swap_bytes / readout.swap_seconds if readout.swap_seconds else 0.0,
        "pinned_copy_bytes_per_second": statistics.median(rates),
    }
