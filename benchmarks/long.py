"""What a long clip takes, and whether one sees where the video model's windows meet.

    python benchmarks/long.py memory --frames 16 200 600
    python benchmarks/long.py borders --frames 64 --windows 8 16

`memory` runs the command line in a process of its own for each length, and gives the highest memory that it had, what
the estimate said, and how many bytes each further frame took beside those of its pixels. `borders` bridges a flickering
clip twice, the second time a quarter of a window later, so that of the same two frames one run has a window begin or
end between them and the other has none: background flicker and warp error of the first are held against those of the
second. (Against the other frames of one run they would tell how things move there.) `--overlaps` tries other weights
of the overlap. All figures come as JSON.
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
from bivdiff.toybox.flicker import flickering

ROOT = Path(__file__).resolve().parent.parent
RENDERED = 48  # frames of a scene, played there and back where a clip is longer
STEPS = ("num_inference_steps", "num_inversion_steps", "num_smoothing_steps")
BRIDGES: Mapping[str, Mapping[str, Any]] = {
    "mean": {}, "capped": {"frame_prior": "video", "mixing_rule": "capped"},
}  # fmt: skip
"""What the blend draws the clip's noise towards: the toybox's own bridge, and the one of the video model's own view."""
OVERLAPS: Mapping[str, Callable[[int], torch.Tensor]] = {
    "hann": windows._weights,
    "tent": lambda window: torch.minimum(torch.arange(window) + 1, window - torch.arange(window)).float(),
    "triangle": lambda window: torch.minimum(torch.arange(window) + 0.5, window - torch.arange(window) - 0.5),
    "even": torch.ones,
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
    borders.add_argument("--bridges", nargs="+", choices=BRIDGES, default=list(BRIDGES))
    borders.add_argument("--overlaps", nargs="+", choices=OVERLAPS, default=["hann"])
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
    """Scores between two frames where windows meet, times those of the same two where none does."""
    manager, found = ModelManager(Settings(device="cpu")), []
    for window in args.windows:
        for bridge in args.bridges:
            for overlap in args.overlaps:
                met: dict[str, list[tuple[float, float]]] = {"flicker": [], "warp_error": []}
                with _overlapping(overlap):
                    for number in range(args.scenes):
                        _compare(met, number, window, BRIDGES[bridge], manager, args)
                        print(window, bridge, overlap, number, file=sys.stderr, flush=True)
                found.append({"window": window, "bridge": bridge, "overlap": overlap, **_told(met)})
    return {"frames": args.frames, "scenes": args.scenes, "steps": args.steps, "found": found}


@contextmanager
def _overlapping(name: str) -> Iterator[None]:
    usual = windows._weights
    windows._weights = OVERLAPS[name]
    try:
        yield
    finally:
        windows._weights = usual


def _compare(
    met: dict[str, list[tuple[float, float]]], number: int, window: int, bridge: Mapping[str, Any],
    manager: ModelManager, args: argparse.Namespace,
) -> None:  # fmt: skip
    """Add each score of each two frames, with a border between them and without."""
    later = window // 4
    scene = world.evaluation_scene(number)
    truth = world.render(scene, 128, 128, args.frames + later).frames
    given = flickering(truth, number)
    runs = []
    for start in (0, later):
        part = slice(start, start + args.frames)
        request = default_request("smooth", "toybox", given[part], scene.caption, seed=number)
        request = replace(request, window=window, **dict.fromkeys(STEPS, args.steps), **bridge)
        spans = windows_of(args.frames, window)
        meeting = {start + place for span in spans for place in (span.start, span.stop)}
        runs.append((start, last(run(request, manager, StageCache(1))).frames, meeting))
    whole = range(later + window, args.frames - window)  # where the ends of the clip tell in neither run
    for place in whole:
        at = [place in meeting for _, _, meeting in runs]
        if sum(at) != 1:
            continue
        two = slice(place - 1, place + 1)
        for name, score in (("flicker", metrics.background_flicker), ("warp_error", metrics.warp_error)):
            scores = [score(frames[place - 1 - start : place + 1 - start], truth[two]) for start, frames, _ in runs]
            if not np.isnan(scores).any():
                met[name].append((scores[at.index(True)], scores[at.index(False)]))


def _told(met: Mapping[str, list[tuple[float, float]]]) -> dict[str, float]:
    told: dict[str, float] = {}
    for name, pairs in met.items():
        border, inside = np.mean(pairs, axis=0)
        resampled = np.random.default_rng(0).choice(len(pairs), (1000, len(pairs)))
        sums = np.array(pairs)[resampled].sum(1)
        told |= {
            f"{name} borders": round(float(border), 4), f"{name} inside": round(float(inside), 4),
            f"{name} borders over inside": round(float(border / inside), 3),
            f"{name} standard error": round(float((sums[:, 0] / sums[:, 1]).std()), 3),
        }  # fmt: skip
    return told


if __name__ == "__main__":
    sys.exit(main())
