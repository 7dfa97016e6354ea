"""What only a CUDA card can tell: `python benchmarks/card.py`."""

from __future__ import annotations

import argparse
import gc
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import torch

from bivdiff.bridge.pipeline import last, run
from bivdiff.bridge.reuse import StageCache
from bivdiff.errors import BIVDiffError
from bivdiff.evaluate.bench import Load, bench
from bivdiff.evaluate.evaluation import case_of, score
from bivdiff.models.device import free_memory
from bivdiff.models.estimate import estimate
from bivdiff.models.manager import ModelManager
from bivdiff.settings import Settings
from bivdiff.units import say_bytes

STEPS = 50
FULL_SIZE = Load(size=512, num_frames=8, random_weights=True)
POLICIES: dict[str, dict[str, Any]] = {
    "none": {"offload": "none"},
    "model": {"offload": "model"},
    "model, budget 8 GB": {"offload": "model", "device_memory": "8GB"},
    "group": {"offload": "group"},
}
VARIANTS: dict[str, dict[str, Any]] = {
    "fp8": {"offload": "model", "fp8": True},
    "fp16": {"offload": "model", "dtype": "float16"},
    "compiled": {"offload": "model", "compile": True},
}
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "controlnet, animatediff": ("control", {"video_model": "animatediff-v1-5-3"}),
    "t2i-adapter, vidrd": ("control", {"image_model": "t2i-adapter", "video_model": "vidrd"}),
    "instruct-pix2pix, modelscope": ("edit", {"image_model": "instruct-pix2pix", "video_model": "modelscope"}),
    "prompt2prompt": ("edit", {"image_model": "prompt2prompt"}),
    "inpainting": ("inpaint", {}),
}
DIGITS: dict[str, dict[str, Any]] = {
    "float16": {"dtype": "float16"},
    "bfloat16": {"dtype": "bfloat16"},
    "bfloat16, fp8": {"dtype": "bfloat16", "fp8": True},
}


def full_size(name: str, own: dict[str, Any], steps: int, task: str = "control", runs: int = 1, **changes: Any) -> str:
    """One line on runs at full size: seconds and peak memory of each stage, the foretold memory, the swap."""
    wanted = {"mixing_ratio": 0.5, **changes}
    wanted |= dict.fromkeys(("num_inference_steps", "num_inversion_steps", "num_smoothing_steps"), steps)
    settings = Settings(device="cuda", **own)
    begun = time.perf_counter()
    found = bench(task, "sd15", runs, settings, FULL_SIZE, **wanted)
    whole = time.perf_counter() - begun
    stages = ", ".join(
        f"{stage} {seconds:.2f} s {say_bytes(found['stage_peak_bytes'][stage])}"
        for stage, seconds in found["stages"].items()
    )
    swap = found["swap"]
    return (
        f"{name}: {found['total_seconds']:.2f} s in all, peak {say_bytes(max(found['stage_peak_bytes'].values()))}, "
        f"foretold {foretold(task, settings, wanted)}; {stages}; loading {found['load_seconds']:.1f} s; last swap "
        f"{say_bytes(swap['bytes'])} at {say_bytes(swap['bytes_per_second'])}/s, pinned copies at "
        f"{say_bytes(swap['pinned_copy_bytes_per_second'])}/s; measured in {whole:.0f} s"
    )


def foretold(task: str, settings: Settings, changes: dict[str, Any]) -> str:
    """The device memory that the page would tell before such a run."""
    request = case_of(task, 0, "sd15", **changes).request
    frames = np.zeros((FULL_SIZE.num_frames, FULL_SIZE.size, FULL_SIZE.size, 3), np.uint8)
    masks = None if request.masks is None else frames[..., 0]
    request = replace(request, frames=frames, masks=masks)
    return say_bytes(estimate(request, ModelManager(settings)).device_bytes)


def with_fewer_digits(scenes: int) -> Iterator[str]:
    """How near the toybox's clips stay to those of float32, and how they score."""
    reference: list[np.ndarray] = []
    for name, own in {"float32": {"dtype": "float32"}, **DIGITS}.items():
        manager = ModelManager(Settings(device="cuda", **own))
        near, scores = [], []
        begun = time.perf_counter()
        for index in range(scenes):
            case, cache = case_of("control", index, "toybox", mixing_ratio=0.5), StageCache()
            scores.append(score(case, manager, cache)["bridged"])
            frames = last(run(case.request, manager, cache)).frames
            if name == "float32":
                reference.append(frames)
            error = np.mean((frames.astype(float) - reference[index]) ** 2)
            near.append(10 * np.log10(255**2 / max(error, 1e-9)))
        told = ", ".join(f"{key} {np.mean([each[key] for each in scores]):.4g}" for key in scores[0])
        yield (
            f"toybox, {name}: {np.median(near):.1f} dB from float32 (median of {scenes}, worst {min(near):.1f}); "
            f"{told}; {(time.perf_counter() - begun) / scenes:.1f} s a scene"
        )


def measurements(wanted: list[str], scenes: int, runs: int) -> Iterator[Callable[[], Iterable[str]]]:
    """What was asked for: each gives its lines once it is called."""
    ways = {**POLICIES, **VARIANTS}
    for name in wanted:
        if name in ways:
            yield lambda n=name: [full_size(n, ways[n], STEPS, runs=runs)]
        elif name in MODELS:
            task, changes = MODELS[name]
            yield lambda n=name, t=task, c=changes: [full_size(n, {"offload": "model"}, 10, t, runs, **c)]
        else:
            yield lambda: with_fewer_digits(scenes)


def main() -> int:
    """Measure what was asked for, and go on where something fails."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    every = [*POLICIES, "digits", *MODELS, *VARIANTS]
    parser.add_argument("wanted", nargs="*", default=every, help=f"some of: {'; '.join(every)}")
    parser.add_argument("--scenes", type=int, default=8, help="of the toybox's world, for digits (default: 8)")
    parser.add_argument("--runs", type=int, default=1, help="runs after the first; 0 tells of that one (default: 1)")
    args = parser.parse_args()
    if not torch.cuda.is_available():
        print("There is no CUDA card here, and all that this measures is measured on one.", file=sys.stderr)
        return 1
    print(torch.cuda.get_device_name(), torch.__version__)
    failed = 0
    for measure in measurements(args.wanted, args.scenes, args.runs):
        try:
            for line in measure():
                print(line, flush=True)
        except (BIVDiffError, RuntimeError) as error:
            print(f"FAILED: {type(error).__name__}: {error}", flush=True)
            failed += 1
        gc.collect()
        free_memory(torch.device("cuda"))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
