"""What a clip made of a sample should show: the world that the samples were rendered from knows."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import cache

import numpy as np

from bivdiff.catalog.image_models import IMAGE_MODELS
from bivdiff.catalog.tasks import TASKS
from bivdiff.errors import InputError
from bivdiff.media.reading import read_clip
from bivdiff.toybox import world
from bivdiff.toybox.clips import SAMPLES, SIZE, Sample, load_index
from bivdiff.toybox.world import Scene
from bivdiff.types import GenerationRequest


def truth_of(request: GenerationRequest) -> np.ndarray | None:
    """The true clip of a request, where its source is a sample, whole or trimmed, and the world knows what is asked.

    Known are: controllable generation in the sample's own new colours, an instruction that `world.edit` understands,
    the sample's edited prompt, the moving object erased by masks that cover it, and the sample smoothed, as it is or as
    it flickers.

    Returns:
        uint8 `(F, H, W, 3)`, or None.
    """
    found = _sample_of(request.frames)
    if found is None:
        return None
    sample, places = found
    if TASKS[request.task].masks == "drawn":
        return _erased(sample, places, request)
    scene = _scene_of(sample, request)
    return None if scene is None else world.render(scene, SIZE, SIZE).frames[places]


def _sample_of(frames: np.ndarray) -> tuple[Sample, Sequence[int]] | None:
    """The sample that has all of these frames, and their places in it."""
    if frames.shape[1:] != (SIZE, SIZE, 3):
        return None
    digests = [_digest(frame) for frame in frames]
    for name, places in _places_of_samples().items():
        found = [places.get(digest, -1) for digest in digests]
        if min(found) >= 0:
            return SAMPLES[name], found
    return None


@cache
def _places_of_samples() -> Mapping[str, Mapping[bytes, int]]:
    """Of every sample the places of its frames by their digests: decoded once, for every run asks."""
    return {
        clip.name: {
            _digest(frame): place
            for file in (clip.file, clip.flickering)
            for place, frame in enumerate(read_clip(file).frames)
        }
        for clip in load_index()
    }


def _digest(frame: np.ndarray) -> bytes:
    return hashlib.sha256(frame.tobytes()).digest()


def _scene_of(sample: Sample, request: GenerationRequest) -> Scene | None:
    task = TASKS[request.task]
    if task.starts_from_frames:
        return sample.scene
    if task.is_steered:
        return sample.prompted if request.prompt == sample.prompted.caption else None
    if task.masks:
        return None
    if not IMAGE_MODELS[request.image_model].by_instruction:
        edited = world.edit(sample.scene, sample.instruction)
        return edited if request.prompt == edited.caption else None
    try:
        return world.edit(sample.scene, request.prompt)
    except InputError:  # an instruction in other words is no error: its truth is not known
        return None


def _erased(sample: Sample, places: Sequence[int], request: GenerationRequest) -> np.ndarray | None:
    """The scene without its moving object inside the masks, and as it is outside, shadow included."""
    masks = request.masks
    if masks is None or request.prompt != sample.erased.caption:
        return None
    source, erased = (world.render(scene, SIZE, SIZE) for scene in (sample.scene, sample.erased))
    if (source.masks[0][places] > masks).any():
        return None
    return np.where(masks[..., None] > 0, erased.frames[places], source.frames[places])
