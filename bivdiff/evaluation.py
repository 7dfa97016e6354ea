"""How well a task is done, scored against the toybox world, which knows the right answer.

In it: `evaluate`, from evaluation scenes to a table. Not in it: the scores themselves (metrics.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from bivdiff import metrics
from bivdiff.catalog import default_request, family
from bivdiff.errors import InputError
from bivdiff.models.manager import ModelManager
from bivdiff.pipeline import framewise_frames, run
from bivdiff.reuse import StageCache
from bivdiff.toybox import world
from bivdiff.types import GenerationRequest, GenerationResult


class Case(NamedTuple):
    """One clip of the evaluation: the request, and what a perfect answer looks like.

    `truth`: uint8 `(F, H, W, 3)`. `masks`: uint8 `(N, F, H, W)`, one per object, the moving one first.
    `background`: the truth without the moving object.
    """

    request: GenerationRequest
    caption: str
    truth: np.ndarray
    masks: np.ndarray
    background: np.ndarray


def control_case(index: int, family_name: str, **changes: Any) -> Case:
    """Evaluation scene `index`, to be regenerated from its control maps in other colours.

    Args:
        index: number of the scene, from 0.
        family_name: key of the catalog's families.
        changes: fields of GenerationRequest; None keeps the default.
    """
    chosen = family(family_name)
    scene = world.evaluation_scene(index)
    wanted = world.recolored(scene, index)
    source = world.render(scene, *chosen.size, chosen.num_frames).frames
    truth = world.render(wanted, *chosen.size, chosen.num_frames)
    empty = replace(wanted, solids=wanted.solids[1:], motion="still")
    background = world.render(empty, *chosen.size, chosen.num_frames).frames
    seed = changes.pop("seed", None)
    request = default_request(
        "control", family_name, source, wanted.caption, seed=index if seed is None else seed, **changes
    )
    return Case(request, wanted.caption, truth.frames, truth.masks, background)


CASES: dict[str, Callable[..., Case]] = {"control": control_case}


def evaluate(
    task: str, family_name: str, clips: int, first_scene: int, manager: ModelManager,
    report: Callable[[str], None], **changes: Any,
) -> dict[str, Any]:  # fmt: skip
    """Run a task on evaluation scenes and score the frame-wise and the bridged clips.

    The frame-wise baseline starts every frame from its own noise, as the paper does, whatever the bridged clip used.

    Args:
        task, family_name: keys of the catalog.
        clips: number of scenes.
        first_scene: number of the first one.
        manager: gives the models.
        report: is told a line of progress per clip.
        changes: fields of GenerationRequest; None keeps the default.

    Returns:
        `{"settings", "framewise", "bridged", "clips"}`: the means, and the scores of every clip.

    Raises:
        InputError: the task has no evaluation, or `clips` is below 1.
    """
    if task not in CASES:
        raise InputError(f"The task '{task}' has no evaluation. Choose one of: {', '.join(CASES)}.")
    if clips < 1:
        raise InputError(f"An evaluation needs at least 1 clip; got {clips}.")
    rows = []
    for index in range(first_scene, first_scene + clips):
        case = CASES[task](index, family_name, **changes)
        row = score(case, manager, StageCache())
        rows.append({"scene": index, "prompt": case.caption, **row})
        report(f"scene {index}: bridged PSNR {row['bridged']['psnr']:.1f} dB ({case.caption})")
    settings = case.request.settings()
    settings.update(seed=changes.get("seed"), prompt=None, clips=clips, first_scene=first_scene)
    means = {kind: metrics.average([row[kind] for row in rows]) for kind in ("framewise", "bridged")}
    return {"settings": settings, **means, "clips": rows}


def score(case: Case, manager: ModelManager, cache: StageCache) -> dict[str, dict[str, float]]:
    """Scores of the frame-wise baseline and of the bridged clip of one case."""
    result = last(run(case.request, manager, cache))
    baseline = result.framewise_frames
    if case.request.noise_sharing > 0:
        baseline = framewise_frames(replace(case.request, noise_sharing=0.0), manager, cache)
    truth = (case.truth, case.masks, case.background)
    return {
        "framewise": metrics.score_clip(baseline, *truth, reference=baseline),
        "bridged": metrics.score_clip(result.frames, *truth, reference=baseline),
    }


def last(events: Iterator[Any]) -> GenerationResult:
    """The result at the end of a run's events."""
    for event in events:
        if isinstance(event, GenerationResult):
            return event
    raise RuntimeError("The run ended without a result.")
