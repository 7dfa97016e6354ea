"""Where the time of a run goes on a card, and what each way of running its networks gains.

    python benchmarks/throughput.py
    python benchmarks/throughput.py plain graphs --profile
    python benchmarks/throughput.py --device cpu --family toybox --size 64 --frames 2 --steps 2 plain channels-last

Networks of the full size with random weights, unless the family is the toybox; by default 512x512, 8 frames, 50 steps,
ratio 0.5. A way is taken by itself, in a model manager of its own: one run that loads, compiles and is not timed, then
`--runs`, of which medians are told for each stage. How far its clip is from that of the first way tells whether more
than rounding changed. `--profile` runs once more under torch's profiler and tells for each stage how much of its time
the device computed, how many kernels it was sent and which took longest: a device that waits is bound by launches, and
graphs and larger batches help; one that does not is bound by its arithmetic or its memory. A line of JSON for each way.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile

from bivdiff.bridge.pipeline import last, run
from bivdiff.errors import BIVDiffError
from bivdiff.evaluate.bench import Load, resized
from bivdiff.evaluate.evaluation import case_of
from bivdiff.models.device import allow_compiling, free_memory
from bivdiff.models.loaders import KINDS
from bivdiff.models.manager import ModelManager
from bivdiff.models.random_weights import read_random
from bivdiff.settings import Settings
from bivdiff.types import GenerationRequest, GenerationResult

STEPS = ("num_inference_steps", "num_inversion_steps", "num_smoothing_steps")
PROFILED_STEPS = 4  # of each stage: one step is as another
LONGEST = 8  # kernels of a stage that are told


def channels_last(network: Any) -> None:
    """Keep pictures, and clips, with their channels innermost, as tensor cores read them."""
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    for parameter in network.parameters():
        if parameter.ndim in formats:
            parameter.data = parameter.data.contiguous(memory_format=formats[parameter.ndim])


def compiled_whole(network: Any, mode: str | None = None) -> None:
    """Compile a network's forward pass as one."""
    allow_compiling()
    network.forward = torch.compile(network.forward, mode=mode)


def compiled_by_blocks(network: Any) -> None:
    """Compile the blocks that a network repeats, each once: nearly the gain, and a fraction of the wait."""
    allow_compiling()
    network.compile_repeated_blocks()


class Way(NamedTuple):
    """How the networks of every step are run.

    Attributes:
        tune: what is done to each of them, one after the other, once they are read.
        changes: fields of the request.
        settings: of the process.
    """

    tune: tuple[Callable[[Any], None], ...] = ()
    changes: Mapping[str, Any] = {}
    settings: Mapping[str, Any] = {}


def _graphs(network: Any) -> None:
    compiled_whole(network, "reduce-overhead")  # records CUDA graphs, and replays them with one launch


WAYS: dict[str, Way] = {
    "plain": Way(),
    "no offload": Way(settings={"offload": "none"}),
    "frames 4 at once": Way(changes={"frame_batch_size": 4}),
    "frames 16 at once": Way(changes={"frame_batch_size": 16}),
    "channels-last": Way((channels_last,)),
    "blocks": Way((compiled_by_blocks,)),
    "blocks, channels-last": Way((channels_last, compiled_by_blocks)),
    "whole": Way((compiled_whole,)),
    "whole, channels-last": Way((channels_last, compiled_whole)),
    "graphs": Way((_graphs,), settings={"offload": "none"}),
    "graphs, channels-last": Way((channels_last, _graphs), settings={"offload": "none"}),
}


def manager_of(way: Way, args: argparse.Namespace) -> ModelManager:
    """A model manager whose networks of every step are run that way."""
    offload = "model" if args.device == "cuda" else "none"
    settings = replace(Settings(device=args.device), **{"offload": offload, **way.settings})
    manager: ModelManager

    def read(spec: Any, base: Any) -> Any:
        if args.family == "toybox":
            component = manager.from_disk(spec, base)
        else:
            component = read_random(spec, base, manager.dtype_of(spec))
        for change in way.tune if KINDS[spec.kind].in_every_step else ():
            change(component)
        return component

    manager = ModelManager(settings, read=read)
    return manager


def request_of(way: Way, args: argparse.Namespace) -> GenerationRequest:
    """What is run: the first scene of the world, steered by its edges."""
    request = resized(case_of("control", 0, args.family).request, Load(args.size, args.frames))
    steps = dict.fromkeys(STEPS, args.steps)
    return replace(request, mixing_ratio=0.5, frame_batch_size=args.frames, **{**steps, **way.changes})


def measured(way: Way, args: argparse.Namespace) -> tuple[dict[str, Any], np.ndarray]:
    """Seconds and peak memory of each stage, and the clip."""
    manager, request = manager_of(way, args), request_of(way, args)
    first = last(run(request, manager))
    results = [last(run(request, manager)) for _ in range(args.runs)]
    stages = [stage for stage in results[0].seconds if stage != "load"]
    told = {
        "first_seconds": round(_total(first), 2),
        "seconds": round(statistics.median(map(_total, results)), 3),
        "stages": {stage: round(statistics.median(result.seconds[stage] for result in results), 3) for stage in stages},
        "peak_bytes": max(results[-1].peak_bytes.values()),
    }
    if args.profile:
        few = replace(request, **dict.fromkeys(STEPS, PROFILED_STEPS))
        told["profile"] = profiled(run(few, manager), manager.device.type == "cuda")
    return told, results[-1].frames


def _total(result: GenerationResult) -> float:
    return sum(result.seconds.values())


def profiled(events: Iterator[Any], on_card: bool) -> dict[str, Any]:
    """Of each stage of a run: how much of its time the device computed, the kernels sent to it, and the longest."""
    seconds, kernels, times = Counter[str](), Counter[str](), dict[str, Counter[str]]()
    for stage, recorded in _by_stage(events, on_card):
        seen = recorded.events()
        ranges = [event.time_range for event in seen]
        seconds[stage] += (max(each.end for each in ranges) - min(each.start for each in ranges)) / 1e6 if ranges else 0
        for event in seen:
            if not on_card or event.device_type == torch.autograd.DeviceType.CUDA:
                kernels[stage] += 1
                spent = event.self_device_time_total if on_card else event.self_cpu_time_total
                times.setdefault(stage, Counter())[event.name] += spent / 1e6
    return {
        stage: {
            "seconds": round(seconds[stage], 3), "device_share": round(spent.total() / seconds[stage], 3),
            "kernels": kernels[stage],
            "longest": {name[:60]: round(time, 4) for name, time in spent.most_common(LONGEST)},
        }
        for stage, spent in times.items()
    }  # fmt: skip


def _by_stage(events: Iterator[Any], on_card: bool) -> Iterator[tuple[str, Any]]:
    """What a profiler saw of each step of a run, and its stage: an event tells of a step that is done."""
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_card else [])]
    stage = ""
    while True:
        with profile(activities=activities, acc_events=True) as recorded:
            event = next(events, None)
        if event is None:
            return
        stage = getattr(event, "stage", stage)  # the result comes after the last stage's decoding
        yield stage, recorded


def main() -> int:
    """Measure way by way, and go on where one fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ways", nargs="*", metavar="WAY", help=f"all, or some of: {'; '.join(WAYS)}")
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--family", default="sd15", choices=["sd15", "toybox"])
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--profile", action="store_true")
    args = parser.parse_args()
    unknown = [name for name in args.ways if name not in WAYS]
    if unknown or args.runs < 1:
        parser.error(f"There is no way {unknown[0]!r}." if unknown else "At least one run is timed.")
    if args.device == "cuda" and not torch.cuda.is_available():
        print("There is no CUDA card here. --device cpu tries the ways, and tells nothing of a card.", file=sys.stderr)
        return 1
    reference, failed = None, 0
    for name in args.ways or WAYS:
        try:
            told, frames = measured(WAYS[name], args)
        except (BIVDiffError, RuntimeError) as error:
            print(json.dumps({"way": name, "error": f"{type(error).__name__}: {error}"[:400]}), flush=True)
            failed += 1
        else:
            reference = frames if reference is None else reference
            apart = float(np.abs(frames.astype(float) - reference).mean())
            print(json.dumps({"way": name, "levels_from_first": round(apart, 4), **told}), flush=True)
        gc.collect()
        free_memory(torch.device(args.device))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
