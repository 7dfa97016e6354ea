"""Which defaults are best for controllable generation with the toybox: `python benchmarks/defaults.py --clips 8`.

In it: one setting after the other is varied around the preset, each variant scored on evaluation scenes. Stages that
a variant leaves as they were are computed once.
Not in it: the scores (bivdiff.metrics), the cases (bivdiff.evaluation).
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bivdiff import metrics
from bivdiff.evaluation import control_case, score
from bivdiff.models.manager import ModelManager
from bivdiff.reuse import StageCache
from bivdiff.settings import Settings

VARIANTS: dict[str, tuple[Any, ...]] = {
    "noise_sharing": (0.0, 0.5, 0.8, 1.0),
    "mixing_ratio": (0.0, 0.1, 0.25, 0.5, 0.75, 1.0),
    "mixing_rule": ("linear", "variance_preserving", "slerp"),
    "smoothing_guidance_scale": (1.0, 1.5, 2.0, 4.0),
    "num_smoothing_steps": (10, 15, 20, 30),
    "num_inversion_steps": (10, 15, 20, 30),
    "num_inference_steps": (10, 15, 20, 30),
    "guidance_scale": (1.0, 2.0, 3.0, 4.0, 6.0),
}
COLUMNS = ("psnr", "object_psnr", "object_iou", "color_error", "background_flicker", "warp_error", "sharpness")


def measure(names: list[str], clips: int, first_scene: int, changes: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Mean scores of the frame-wise baseline and of every variant, by label."""
    manager = ModelManager(Settings.from_env())
    rows: dict[str, list[dict[str, float]]] = defaultdict(list)
    for index in range(first_scene, first_scene + clips):
        case, cache = control_case(index, "toybox", **changes), StageCache(entries=60)
        seen = set()
        for name in names:
            for value in VARIANTS[name]:
                request = replace(case.request, **{name: value})
                scores = score(case._replace(request=request), manager, cache)
                rows[f"{name} = {value}"].append(scores["bridged"])
                if name not in seen:
                    seen.add(name)
                    rows[f"frame-wise ({name})"].append(scores["framewise"])
        print(f"scene {index} done", file=sys.stderr, flush=True)
    return {label: metrics.average(scored) for label, scored in rows.items()}


def main() -> None:
    """Print the table as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vary", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--clips", type=int, default=8)
    parser.add_argument("--first-scene", type=int, default=100, help="away from the scenes that evaluate reports")
    parser.add_argument("--set", nargs="*", default=[], metavar="FIELD=NUMBER", help="other values to start from")
    args = parser.parse_args()
    changes = {}
    for pair in args.set:
        name, value = pair.split("=")
        changes[name] = int(value) if value.isdigit() else float(value)
    table = measure(args.vary, args.clips, args.first_scene, changes)
    print(f"| | {' | '.join(COLUMNS)} |\n|{' --- |' * (len(COLUMNS) + 1)}")
    for label, scores in table.items():
        print(f"| {label} | {' | '.join(f'{scores[column]:.3g}' for column in COLUMNS)} |")


if __name__ == "__main__":
    main()
