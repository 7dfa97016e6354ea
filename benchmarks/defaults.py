"""Which defaults are best for a task with the toybox: `python benchmarks/defaults.py --task edit --clips 8`."""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import MISSING, fields, replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bivdiff.bridge.reuse import StageCache
from bivdiff.catalog.image_models import IMAGE_MODELS
from bivdiff.catalog.tasks import TASKS
from bivdiff.errors import BIVDiffError
from bivdiff.evaluate.evaluation import case_of, score
from bivdiff.models.manager import ModelManager
from bivdiff.pixels import metrics
from bivdiff.settings import Settings
from bivdiff.types import MIXING_RULES, Control, GenerationRequest

Values = tuple[Any, ...]

# What is tried when --vary names no values: settings of the bridge, of whatever generates, and of each image model.
BRIDGE: dict[str, Values] = {
    "mixing_ratio": (0.0, 0.1, 0.25, 0.5, 0.75, 1.0),
    "mixing_rule": MIXING_RULES,
    "smoothing_guidance_scale": (1.0, 1.5, 2.0, 4.0),
    "num_smoothing_steps": (10, 15, 20, 30),
    "num_inversion_steps": (10, 15, 20, 30),
}
GENERATION: dict[str, Values] = {
    "num_inference_steps": (10, 15, 20, 30),
    "guidance_scale": (1.0, 2.0, 3.0, 4.0, 6.0),
}
NOISE: dict[str, Values] = {"noise_sharing": (0.0, 0.5, 0.8, 1.0)}
OWN: dict[str, dict[str, Values]] = {
    "controlnet": {**NOISE, **GENERATION},
    "t2i-adapter": {**NOISE, **GENERATION},
    "instruct-pix2pix": {**NOISE, **GENERATION, "image_guidance_scale": (1.0, 1.25, 1.5, 2.0)},
    "prompt2prompt": {
        **GENERATION,
        "cross_replace_steps": (0.0, 0.2, 0.4, 0.6, 0.8),
        "self_replace_steps": (0.0, 0.2, 0.4, 0.6, 0.8),
    },
    "inpainting": {**NOISE, **GENERATION, "preserve_known": (True, False), "feather": (0, 2, 4, 8)},
    "given": {},
}
SIMPLE = (bool, int, float, str)
# The value of each simple setting tells its type; those without a default are pictures and what the flags choose.
DEFAULTS = {
    item.name: item.default
    for item in fields(GenerationRequest)
    if item.default is not MISSING and isinstance(item.default, SIMPLE)
}


def read_value(name: str, text: str) -> Any:
    """The value of a request's setting, as its type has it.

    Raises:
        ValueError: there is no such setting, or the text is no such value.
    """
    if name == "seed":
        return int(text)
    if name not in DEFAULTS:
        raise ValueError(f"'{name}' is no number, switch or text of a request. Choose one of: {', '.join(DEFAULTS)}.")
    if isinstance(DEFAULTS[name], bool):
        if text.lower() not in {"true", "false"}:
            raise ValueError(f"{name} is true or false; got '{text}'.")
        return text.lower() == "true"
    return type(DEFAULTS[name])(text)


def variants(names: list[str], image_model: str) -> dict[str, Values]:
    """The values to try of each named setting; all that matter to the image model when none is named.

    Raises:
        ValueError: a setting without values has none to try by default.
    """
    known = {**BRIDGE, **OWN[image_model]}
    chosen = {}
    for entry in names or known:
        name, given, values = entry.partition("=")
        if not given and name not in known:
            raise ValueError(f"Say which values of {name} to try: {name}=VALUE,VALUE.")
        chosen[name] = tuple(read_value(name, text) for text in values.split(",")) if given else known[name]
    return chosen


def measure(
    task: str, tried: Mapping[str, Values], scenes: range, changes: Mapping[str, Any]
) -> dict[str, dict[str, float]]:
    """Mean scores of the frame-wise baseline and of every variant, by label."""
    manager = ModelManager(Settings.from_env())
    rows: dict[str, list[dict[str, float]]] = defaultdict(list)
    for index in scenes:
        case, cache = case_of(task, index, "toybox", **changes), StageCache(entries=60)
        for name, values in tried.items():
            for number, value in enumerate(values):
                scores = score(case._replace(request=replace(case.request, **{name: value})), manager, cache)
                if not number:
                    rows[f"frame-wise ({name})"].append(scores["framewise"])
                rows[f"{name} = {value}"].append(scores["bridged"])
        print(f"scene {index} done", file=sys.stderr, flush=True)
    return {label: metrics.average(scored) for label, scored in rows.items()}


def main() -> int:
    """Print the table as Markdown; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--task", choices=TASKS, default="control")
    parser.add_argument("--image-model", choices=IMAGE_MODELS, help="default: the task's first")
    parser.add_argument("--control-type", help="kind of control map, for --task control (default: canny)")
    parser.add_argument("--vary", nargs="+", default=[], metavar="FIELD[=VALUE,VALUE]", help="default: all that matter")
    parser.add_argument("--clips", type=int, default=8)
    parser.add_argument("--first-scene", type=int, default=100, help="away from the scenes that evaluate reports")
    parser.add_argument("--set", nargs="*", default=[], metavar="FIELD=VALUE", help="other values to start from")
    args = parser.parse_args()
    image_model = args.image_model or TASKS[args.task].image_models[0]
    try:
        changes = {name: read_value(name, value) for name, _, value in (pair.partition("=") for pair in args.set)}
        tried = variants(args.vary, image_model)
        if args.control_type:
            changes["controls"] = (Control(control_type=args.control_type),)
        scenes = range(args.first_scene, args.first_scene + args.clips)
        table = measure(args.task, tried, scenes, {**changes, "image_model": image_model})
    except (BIVDiffError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(metrics.markdown_table(table))
    return 0


if __name__ == "__main__":
    sys.exit(main())
