"""How well a task is done, scored against the toybox world, which knows the right answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from bivdiff.bridge.pipeline import framewise_frames, last, run
from bivdiff.bridge.reuse import StageCache
from bivdiff.catalog.families import family_named
from bivdiff.catalog.image_models import IMAGE_MODELS, title_of
from bivdiff.catalog.requests import default_request
from bivdiff.catalog.tasks import TASKS
from bivdiff.errors import InputError
from bivdiff.models.manager import ModelManager
from bivdiff.pixels import metrics
from bivdiff.pixels.masks import extend_canvas, grow
from bivdiff.pixels.tracking import track
from bivdiff.toybox import data, world
from bivdiff.toybox.flicker import flickering
from bivdiff.toybox.world import Scene
from bivdiff.types import Control, GenerationRequest

# The kinds of edits take turns over the scenes, known by how their instructions start.
EDITS = ("make the floor", "make it", "turn the", "make the")
MASK_GROWTH = 5 / 128  # of the width: how loosely an object is masked
CUTS = (24 / 128, 40 / 128)  # of the width: how much of a side outpainting has to add


class Case(NamedTuple):
    """One clip of the evaluation: the request, and what a perfect answer looks like.

    Attributes:
        request: what to make.
        truth: uint8 `(F, H, W, 3)`.
        masks: uint8 `(N, F, H, W)`, one clip of masks per object of the truth that is scored. The first is the one that
            counts: the edited or replaced object, otherwise the moving one.
        background: the truth without the first of these objects.
        colored: like `masks`, what the request gives a colour to; None means the objects.
        touched: uint8 `(F, H, W)`, where the edited object is, was or both; None if the edit changes no object.
        erased: uint8 `(F, H, W)`, the object that is to vanish from the source or to be replaced.
    """

    request: GenerationRequest
    truth: np.ndarray
    masks: np.ndarray
    background: np.ndarray
    colored: np.ndarray | None = None
    touched: np.ndarray | None = None
    erased: np.ndarray | None = None


def control_case(index: int, family_name: str, **changes: Any) -> Case:
    """Evaluation scene `index`, to be regenerated from its control maps in other colours.

    Args:
        index: number of the scene, from 0.
        family_name: key of the catalog's families.
        changes: fields of GenerationRequest; None keeps the default.
    """
    scene = world.evaluation_scene(index)
    wanted = world.recolored(scene, index)
    truth = _rendered(wanted, family_name)
    source = _rendered(scene, family_name).frames
    request = _request("control", index, family_name, source, wanted.caption, changes)
    return Case(request, truth.frames, truth.masks, _background(wanted, family_name))


def edit_case(index: int, family_name: str, **changes: Any) -> Case:
    """Evaluation scene `index`, to be changed in one respect: floor, time of day, an object's shape or its colour.

    These take turns with the index. An instruction is the prompt where the image model takes one, and the edited
    scene's caption where it takes two prompts. Arguments as for `control_case`.
    """
    before = world.evaluation_scene(index)
    instruction = instruction_of(before, index)
    after = world.edit(before, instruction)
    source, truth = _rendered(before, family_name), _rendered(after, family_name)
    image_model = changes.get("image_model") or TASKS["edit"].image_models[0]
    prompt = instruction if IMAGE_MODELS[image_model].by_instruction else after.caption
    changes = {**changes, "source_prompt": before.caption}
    request = _request("edit", index, family_name, source.frames, prompt, changes)
    edited = [number for number, solid in enumerate(after.solids) if solid != before.solids[number]]
    if edited:
        number = edited[0]
        touched = source.masks[number] | truth.masks[number]
        background = _background(after, family_name, number)
        return Case(request, truth.frames, truth.masks[[number]], background, touched=touched)
    colored = _floor_masks(truth)[None] if after.floor != before.floor else None
    return Case(request, truth.frames, truth.masks, _background(after, family_name), colored)


def inpaint_case(index: int, family_name: str, **changes: Any) -> Case:
    """Evaluation scene `index`, whose moving object is erased if the index is even and replaced if it is odd.

    The masks are the object's own, grown. Its shadow lies outside them and is to be kept like all the rest, so the
    truth is the source there and the scene without the object, or with another one, inside. Another one is of another
    colour, and of another shape if the masks have room for one. Arguments as for `control_case`.
    """
    before = world.evaluation_scene(index)
    source = _rendered(before, family_name)
    masks = grow(source.masks[0], round(MASK_GROWTH * source.frames.shape[2]))
    inside = masks[..., None] > 0
    background = np.where(inside, _background(before, family_name), source.frames)
    if index % 2:
        after, rendering = _replaced(before, masks, index, family_name)
        truth, objects = np.where(inside, rendering.frames, source.frames), rendering.masks[:1]
    else:
        after, truth, objects = world.without(before), background, source.masks[:0]
    changes = {**changes, "masks": masks}
    request = _request("inpaint", index, family_name, source.frames, after.caption, changes)
    return Case(request, truth, objects, background, erased=source.masks[0])


def outpaint_case(index: int, family_name: str, **changes: Any) -> Case:
    """Evaluation scene `index`, of which the left, the right or both sides are to be made up.

    These take turns with the index. Arguments as for `control_case`.
    """
    scene = world.evaluation_scene(index)
    truth = _rendered(scene, family_name)
    width = truth.frames.shape[2]
    low, high = (round(share * width) for share in CUTS)
    left, right = np.random.default_rng((index, 2)).integers(low, high + 1, 2).tolist()
    left, right = ((left, 0), (0, right), (left, right))[index % 3]
    canvas, masks = extend_canvas(truth.frames[:, :, left : width - right], left, 0, right, 0)
    changes = {**changes, "masks": masks}
    request = _request("outpaint", index, family_name, canvas, scene.caption, changes)
    return Case(request, truth.frames, truth.masks, _background(scene, family_name))


def smooth_case(index: int, family_name: str, **changes: Any) -> Case:
    """Evaluation scene `index`, made to flicker, to be smoothed. Arguments as for `control_case`."""
    scene = world.evaluation_scene(index)
    truth = _rendered(scene, family_name)
    frames = flickering(truth.frames, index)
    request = _request("smooth", index, family_name, frames, scene.caption, changes)
    return Case(request, truth.frames, truth.masks, _background(scene, family_name))


CASES: Mapping[str, Callable[..., Case]] = {
    "control": control_case,
    "edit": edit_case,
    "inpaint": inpaint_case,
    "outpaint": outpaint_case,
    "smooth": smooth_case,
}


def case_of(task: str, index: int, family_name: str, **changes: Any) -> Case:
    """Evaluation scene `index` as a case of a task; arguments as for `control_case`.

    Raises:
        InputError: there is no such task, family or scene, or a change does not fit.
    """
    if task not in CASES:
        raise InputError(f"Unknown task '{task}'. Choose one of: {', '.join(CASES)}.")
    return CASES[task](index, family_name, **changes)


def ways(task: str, family_name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every way a family has to do a task: how it is called, and what to change in the request."""
    for image_model in TASKS[task].image_models:
        if not IMAGE_MODELS[image_model].reads_controls:
            yield title_of(image_model), {"image_model": image_model}
            continue
        for control_type in family_named(family_name).networks_of(image_model):
            controls = (Control(control_type=control_type),)
            yield f"{title_of(image_model)}, {control_type}", {"image_model": image_model, "controls": controls}


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
        `{"settings", "framewise", "bridged", "clips"}`: the means, and the scores of every clip; see `score`.

    Raises:
        InputError: there is no such task, or `clips` is below 1.
    """
    if clips < 1:
        raise InputError(f"An evaluation needs at least 1 clip; got {clips}.")
    rows: list[dict[str, Any]] = []
    for index in range(first_scene, first_scene + clips):
        case = case_of(task, index, family_name, **changes)
        prompt = case.request.prompt
        row = score(case, manager, StageCache())
        rows.append({"scene": index, "prompt": prompt, **row})
        report(f"scene {index}: bridged PSNR {row['bridged']['psnr']:.1f} dB ({prompt})")
    settings = case.request.settings()
    settings.update(seed=changes.get("seed"), prompt=None, source_prompt=None, clips=clips, first_scene=first_scene)
    means = {kind: metrics.average([row[kind] for row in rows]) for kind in ("framewise", "bridged")}
    return {"settings": settings, **means, "clips": rows}


def score(case: Case, manager: ModelManager, cache: StageCache) -> dict[str, dict[str, float]]:
    """Scores of the frame-wise baseline and of the bridged clip of one case.

    Returns:
        `{"framewise", "bridged"}`, each with the keys of `metrics.score_clip` and those of the task. edit:
        `unedited_psnr` (dB), to the truth where the edited object neither is nor was, NaN if the edit is of no object;
        with Prompt2Prompt also `reconstruction_psnr` (dB), of what its source branch makes of the source. inpaint and
        outpaint: the keys of `metrics.score_fill`. inpaint: `mask_iou` of the object's masks as they are tracked from
        the first frame, over the frames after it.
    """
    result = last(run(case.request, manager, cache))
    baseline = result.framewise_frames
    if case.request.noise_sharing > 0:
        baseline = framewise_frames(replace(case.request, noise_sharing=0.0), manager, cache)
    alike = _scores_of_preparation(case, manager, cache)
    return {
        kind: {
            **metrics.score_clip(frames, case.truth, case.masks, case.background, baseline, case.colored),
            **_scores_of_task(case, frames),
            **alike,
        }
        for kind, frames in (("framewise", baseline), ("bridged", result.frames))
    }


def _scores_of_task(case: Case, frames: np.ndarray) -> dict[str, float]:
    request = case.request
    if request.task == "edit":
        touched = case.touched
        unedited = float("nan") if touched is None else metrics.psnr(frames, case.truth, metrics.inverted(touched))
        return {"unedited_psnr": unedited}
    if request.masks is not None:
        return metrics.score_fill(frames, case.truth, request.frames, request.masks)
    return {}


def _scores_of_preparation(case: Case, manager: ModelManager, cache: StageCache) -> dict[str, float]:
    """Scores of what comes before either clip is made, and so is the same for both."""
    request = case.request
    if case.erased is not None:
        carried = track(request.frames, case.erased[0])
        return {"mask_iou": metrics.mask_iou(carried[1:], case.erased[1:])}
    if IMAGE_MODELS[request.image_model].inverts_source:
        # Asked for what is there already, it returns what its source branch makes of the frames.
        unchanged = replace(request, prompt=request.source_prompt, blend_words="", reweight="")
        return {"reconstruction_psnr": metrics.psnr(framewise_frames(unchanged, manager, cache), request.frames)}
    return {}


def _request(
    task: str, index: int, family_name: str, frames: np.ndarray, prompt: str, changes: Mapping[str, Any]
) -> GenerationRequest:
    """The request of a case; its seed is the scene's number unless `changes` has another."""
    seed = index if changes.get("seed") is None else changes["seed"]
    return default_request(task, family_name, frames, prompt, **{**changes, "seed": seed})


def _rendered(scene: Scene, family_name: str) -> world.Rendering:
    chosen = family_named(family_name)
    return world.render(scene, *chosen.size, chosen.num_frames)


def _background(scene: Scene, family_name: str, number: int = 0) -> np.ndarray:
    return _rendered(world.without(scene, number), family_name).frames


def _floor_masks(rendering: world.Rendering) -> np.ndarray:
    """Where the floor shows, uint8 `(F, H, W)`."""
    covered = rendering.masks.max(0) > 0
    return np.where(np.isfinite(rendering.depth) & ~covered, np.uint8(255), np.uint8(0))


def instruction_of(scene: Scene, index: int) -> str:
    """An instruction worded as in training, of the kind whose turn it is."""
    rng, kind = np.random.default_rng((index, 4)), EDITS[index % len(EDITS)]
    while True:
        instruction = data.draw_instruction(scene, rng)
        if next((start for start in EDITS if instruction.startswith(start)), None) == kind:
            return instruction


def _replaced(scene: Scene, masks: np.ndarray, index: int, family_name: str) -> tuple[Scene, world.Rendering]:
    """The scene with another first solid, whose visible pixels all lie inside the masks, and its rendering."""
    rng, solid = np.random.default_rng((index, 5)), scene.solids[0]
    colors, shapes = {other.color for other in scene.solids}, {other.shape for other in scene.solids}
    color = str(rng.choice([color for color in world.COLORS if color not in colors]))
    shapes = rng.permutation([shape for shape in world.SHAPES if shape not in shapes]).tolist()
    for shape in (*shapes, solid.shape):
        after = replace(scene, solids=(replace(solid, color=color, shape=shape), *scene.solids[1:]))
        rendering = _rendered(after, family_name)
        if not (rendering.masks[0] > masks).any():
            break
    return after, rendering
