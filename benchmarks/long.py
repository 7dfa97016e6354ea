"""What a long clip takes, and whether one sees where the video model's windows meet.

    python benchmarks/long.py memory --frames 16 200 600
    python benchmarks/long.py borders --frames 64 --windows 8 16

`memory` runs the command line in a process of its own for each length, and gives the highest memory that it had, what
the estimate said, and how many bytes each further frame took beside those of its pixels. `borders` holds background
flicker and warp error between two frames where a window begins or ends against those between all others; the frames
that the image model made alone know no windows, and show what the same places are without them. `--overlaps` tries
other weights of the overlap. All figures come as JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch

from bivdiff.bridge import windows
from bivdiff.bridge.pipeline import last, run
from bivdiff.bridge.reuse import StageCache
from bivdiff.catalog.requests import default_request
from bivdiff.media.writing import write_mp4
from bivdiff.models.manager import ModelManager
from bivdiff.models.windows import windows_of
from bivdiff.pixels import metrics
from bivdiff.settings import Settings
from bivdiff.toybox import world

ROOT = Path(__file__).resolve().parent.parent
RENDERED = 48  # frames of a scene, played there and back where a clip is longer
PLACES = ("borders", "inside")
STEPS = ("num_inference_steps", "num_inversion_steps", "num_smoothing_steps")
OVERLAPS: Mapping[str, Callable[[int], torch.Tensor]] = {
    "tent": windows._tent,
    "even": torch.ones,
    "smooth": lambda window: torch.sin(torch.pi * (torch.arange(window) + 0.5) / window).square(),
}
"""Weights of a window's frames, where windows overlap."""


def main() -> int:
    """Measure, and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = parser.add_subparsers(dest="part", required=True)
    memory = parts.add_parser("memory")
    memory.add_argument("--frames", type=int, nargs="+", default=[16, 200, 600])
    memory.add_argument("--steps", type=int, default=2)
    memory.add_argument("--side", type=int, default=128, help="of the picture, in pixels")
    borders = parts.add_parser("borders")
    borders.add_argument("--frames", type=int, default=64)
    borders.add_argument("--windows", type=int, nargs="+", default=[8, 16])
    borders.add_argument("--scenes", type=int, default=3)
    borders.add_argument("--steps", type=int, default=10)
    borders.add_argument("--ratio", type=float, nargs="+", help="mixing ratios; the task's own where none is given")
    borders.add_argument("--overlaps", nargs="+", choices=OVERLAPS, default=["tent"])
    args = parser.parse_args()
    report = memory_of(args) if args.part == "memory" else borders_of(args)
    print(json.dumps({"load": os.getloadavg()[0], "cores": os.cpu_count(), **report}, indent=2))
    return 0


# Memory


def memory_of(args: argparse.Namespace) -> dict[str, Any]:
    """The highest memory of a run of each length."""
    found, pixels = {}, 3 * args.side**2
    with tempfile.TemporaryDirectory() as folder:
        for count in args.frames:
            source = Path(folder) / f"{count}.mp4"
            write_mp4(source, _there_and_back(count, args.side), 24)
            found[count] = _measured(source, count, args)
    runs = [found[count]["peak_bytes"] for count in args.frames]
    return {
        "side": args.side, "steps": args.steps, "runs": found, "times_the_first": round(runs[-1] / runs[0], 3),
        "clips_of_pixels_for_each_frame": [
            round((after - before) / (longer - shorter) / pixels, 1)
            for (before, after), (shorter, longer) in zip(pairwise(runs), pairwise(args.frames), strict=True)
        ],
    }  # fmt: skip


def _there_and_back(count: int, side: int) -> np.ndarray:
    frames = world.render(world.evaluation_scene(0), side, side, min(count, RENDERED)).frames
    order = [*range(len(frames)), *range(len(frames) - 2, 0, -1)]
    return frames[[order[place % len(order)] for place in range(count)]]


def _measured(source: Path, count: int, args: argparse.Namespace) -> dict[str, Any]:
    steps = [word for name in STEPS for word in (f"--{name.replace('_', '-')}", str(args.steps))]
    command = [sys.executable, "-m", "bivdiff", "run", "--video", str(source), "--num-frames", str(count), *steps]
    command += ["--prompt", "a red sphere jumps on a green floor", "--size", f"{args.side}x{args.side}", "--json"]
    began = time.monotonic()
    with subprocess.Popen(
        [*command, "--output", str(source.with_name(f"{count}-out.mp4"))], cwd=ROOT, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, env={**os.environ, "BIVDIFF_DEVICE": "cpu"}, text=True,
    ) as process:  # fmt: skip
        told = json.load(process.stdout)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    seconds = round(time.monotonic() - began, 1)
    return {"peak_bytes": usage.ru_maxrss * 1024, "seconds": seconds, "estimate": told["estimate"]}


# Where windows meet


def borders_of(args: argparse.Namespace) -> dict[str, Any]:
    """Scores between frames where windows meet, times those between all other frames."""
    manager, sums = ModelManager(Settings(device="cpu")), {}
    for number in range(args.scenes):
        scene, cache = world.evaluation_scene(number), StageCache(4)
        truth = world.render(scene, 128, 128, args.frames).frames
        request = default_request("control", "toybox", truth, scene.caption, seed=number)
        request = replace(request, **dict.fromkeys(STEPS, args.steps))
        for window in args.windows:
            for overlap in args.overlaps:
                for ratio in args.ratio or [request.mixing_ratio]:
                    with _overlapping(overlap):
                        made = last(run(replace(request, window=window, mixing_ratio=ratio), manager, cache))
                    for name, frames in (("bridged", made.frames), ("framewise", made.framewise_frames)):
                        scores = sums.setdefault((window, overlap, ratio, name), {})
                        _add(scores, frames, truth, window)
                    print(number, window, overlap, ratio, file=sys.stderr, flush=True)
    told = [
        {"window": window, "overlap": overlap, "mixing_ratio": ratio, "clip": name, **_told(scores)}
        for (window, overlap, ratio, name), scores in sums.items()
    ]
    return {"frames": args.frames, "scenes": args.scenes, "steps": args.steps, "clips": told}


@contextmanager
def _overlapping(name: str) -> Iterator[None]:
    usual = windows._tent
    windows._tent = OVERLAPS[name]
    try:
        yield
    finally:
        windows._tent = usual


def _add(scores: dict[str, list[float]], frames: np.ndarray, truth: np.ndarray, window: int) -> None:
    """Add the scores of each two frames that follow each other, by whether a window begins or ends between them."""
    spans = windows_of(len(frames), window)
    meeting = {place for span in spans for place in (span.start, span.stop)} - {0, len(frames)}
    for later in range(1, len(frames)):
        where, two = PLACES[later not in meeting], slice(later - 1, later + 1)
        for name, score in (("flicker", metrics.background_flicker), ("warp_error", metrics.warp_error)):
            scores.setdefault(f"{name} {where}", []).append(score(frames[two], truth[two]))


def _told(scores: Mapping[str, list[float]]) -> dict[str, float]:
    means = {name: float(np.nanmean(values)) for name, values in scores.items()}
    told = {name: round(mean, 4) for name, mean in means.items()}
    for name in ("flicker", "warp_error"):
        told[f"{name} borders over inside"] = round(means[f"{name} borders"] / means[f"{name} inside"], 3)
    return told


if __name__ == "__main__":
    sys.exit(main())
