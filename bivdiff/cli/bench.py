"""`bench`: measure a task's speed and memory."""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import Any

from bivdiff.cli.filling import controls_of
from bivdiff.cli.flags import add_request_flags, changes_of
from bivdiff.cli.output import hide_bars_of_libraries
from bivdiff.settings import Settings


def add_bench_command(commands: Any) -> None:
    """Add the command and its flags to the parser's commands."""
    bench = commands.add_parser("bench", help="measure speed and memory", description="Time whole runs of a task.")
    bench.add_argument("--runs", type=int, default=3, help="runs after the first, which loads the models; the median "
                        "is reported. 0 reports the first itself (default: 3)")  # fmt: skip
    bench.add_argument("--random-weights", action="store_true", help="do without the real weights: random ones instead")
    bench.add_argument("--sweep", type=int, metavar="K", help="time a comparison of K mixing ratios beside a run")
    bench.add_argument("--steps", type=int, help="steps of every stage that has no number of its own")
    bench.add_argument("--size", type=int, help="width and height in pixels (default: the family's)")
    bench.add_argument("--frames", type=int, help="length of the clip (default: the family's)")
    bench.add_argument("--offload", help="none, model, group or zerogpu (default: auto, or BIVDIFF_OFFLOAD)")
    bench.add_argument("--dtype", help="float16, bfloat16 or float32 (default: auto, or BIVDIFF_DTYPE)")
    add_request_flags(bench)
    bench.set_defaults(carry_out=bench_command)


def bench_command(args: argparse.Namespace, settings: Settings) -> dict[str, Any]:
    """Measure a task's speed and memory."""
    from bivdiff.evaluate.bench import Load, bench

    changes = {**changes_of(args), "controls": controls_of(args)}
    for name in ("num_inference_steps", "num_inversion_steps", "num_smoothing_steps"):
        changes[name] = args.steps if changes[name] is None else changes[name]
    hide_bars_of_libraries()
    own = {name: getattr(args, name) for name in ("offload", "dtype") if getattr(args, name)}
    load = Load(args.size, args.frames, args.random_weights)
    if args.sweep:
        from bivdiff.evaluate.bench import bench_sweep

        own_settings = replace(settings, **own)
        return bench_sweep(args.task, args.family, args.sweep, args.runs, own_settings, load, **changes)
    return bench(args.task, args.family, args.runs, replace(settings, **own), load, **changes)
