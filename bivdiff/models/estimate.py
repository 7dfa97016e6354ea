"""What a run will take before it runs, memory and time; and what to change where it does not fit."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from bivdiff.catalog.bridging import Inversion, steps_walked
from bivdiff.catalog.components import components_of
from bivdiff.catalog.families import models_for
from bivdiff.models.cost import Walk, is_previewed, smoothing_walk, walks_of
from bivdiff.models.loaders import KINDS, encoding_of, footprint_of
from bivdiff.models.manager import ModelManager
from bivdiff.models.placement import OffloadPolicy
from bivdiff.pixels.fitting import fit_frames
from bivdiff.types import FrameAttention, GenerationRequest, Stage
from bivdiff.units import say_bytes, say_seconds

LOOKING_WORK: Mapping[FrameAttention, float] = {"none": 1, "first": 1.15, "previous": 1.15, "both": 1.31}
"""Operations of a U-Net whose frames see each other, times those of one whose do not (benchmarks/footprint.py)."""
SLACK = 1.4  # a real device rounds up
LAYER_BYTES = 0.25e9  # what group offloading has on the device of a network at once, the next layer included
LIBRARIES = 1e9  # host memory of a process that computes with torch, diffusers and transformers, its models not counted
HELD_CLIPS = 4
"""Clips that a run has whole on the host beside its control maps: the source, the image model's frames, the result, and
the source once more as the pictures that the files carry. Measured by benchmarks/long.py."""
HELD_LATENTS = 12
"""Clips of latents in float32 that are whole where they are computed with: encoded, inverted twice, the blend, and what
a guided step makes of it. All else of a clip is computed with in batches of frames and in windows."""
SIZES = (1, 0.75, 0.5)  # shares of a picture's sides, tried in this order
SMALLEST_SIDE = 256  # pixels, below which real models make little sense


def activation_bytes(request: GenerationRequest, manager: ModelManager) -> int:
    """Bytes of the device that the hungriest stage of a request computes with, weights not counted.

    Args:
        request: what is to be made.
        manager: knows the dtypes, and how the autoencoder runs.
    """
    walks = (_walk_bytes(walk, request, manager) for walk in walks_of(request))
    return max(_coding_bytes(request, manager), *walks)


def smoothing_bytes(request: GenerationRequest, manager: ModelManager) -> int:
    """Bytes that the video model computes with for one clip, weights not counted."""
    return _walk_bytes(smoothing_walk(request), request, manager)


def _walk_bytes(walk: Walk, request: GenerationRequest, manager: ModelManager) -> int:
    """Of all networks of a walk: what steers a U-Net has added to its activations before it runs."""
    height, width = request.frames.shape[1:3]
    each = sum(footprint_of(spec).activations for spec in walk.networks)
    return int(SLACK * manager.dtype.itemsize / 2 * height * width / 512**2 * walk.at_once * each)


def latents_bytes(request: GenerationRequest) -> int:
    """Bytes where a run computes that its latents take, which are whole; four numbers for each eight pixels square."""
    frames, height, width = request.frames.shape[:3]
    return HELD_LATENTS * frames * 4 * (height // 8) * (width // 8) * 4


def held_bytes(request: GenerationRequest) -> int:
    """Bytes of the host that the clips of a run take, which are whole for as long as it runs."""
    return (HELD_CLIPS + len(request.controls)) * request.frames.nbytes


def _coding_bytes(request: GenerationRequest, manager: ModelManager) -> int:
    """Of the autoencoder, which never sees more at once than a tile of a picture where it works in tiles."""
    family = models_for(request)
    frames, height, width = request.frames.shape[:3]
    pixels = height * width
    if manager.tiles:
        pixels = min(pixels, family.size[0] * family.size[1])
    pictures = 1 if manager.slices else min(frames, request.frame_batch_size)
    video = family.video_models[request.video_model]
    own = 0.0
    if video.vae is not None and not video.shares_space:
        own = max(footprint_of(video.vae).activations, encoding_of(video.vae).activations)
        own *= manager.dtype_of(video.vae).itemsize / 2
        own *= video.latents_of(frames) if KINDS[video.vae.kind].holds_clip else 1
    of_pictures = manager.dtype_of(family.vae).itemsize / 2 * pictures * footprint_of(family.vae).activations
    return int(SLACK * pixels / 512**2 * max(own, of_pictures))


@dataclass(frozen=True)
class Estimate:
    """What a run is expected to take.

    Attributes:
        device_bytes, host_bytes: highest at any moment. Where the device has no memory of its own, all is the host's.
        stage_seconds: of each stage that runs, models already loaded.
        rough: whether the time is computed from operations alone: nothing of this family has run here yet.
        fits: whether the budgets hold it.
        advice: if they do not, what to change; else empty.
    """

    device_bytes: int
    host_bytes: int
    stage_seconds: Mapping[Stage, float]
    rough: bool
    fits: bool
    advice: str = ""

    @property
    def seconds(self) -> float:
        """Of all stages."""
        return sum(self.stage_seconds.values())

    @property
    def sentence(self) -> str:
        """Time and memory in words."""
        if not self.fits:
            return self.advice
        place = "" if self.device_bytes == self.host_bytes else f" of the device and {say_bytes(self.host_bytes)}"
        roughly = "roughly " if self.rough else ""
        return f"This takes {roughly}{say_seconds(self.seconds)} and {say_bytes(self.device_bytes)}{place} of memory."


def operations(request: GenerationRequest, inversions: Collection[Inversion] | None = None) -> dict[Stage, float]:
    """What each stage of a request computes, in units of 1e9 operations; stages in which nothing runs are left out.

    Encoding the frames counts to the inversion, decoding to the stage that ends with it.

    Args:
        request: what is to be made.
        inversions: those that run, where others are there already; None is all that the request needs.
    """
    family = models_for(request)
    frames, height, width = request.frames.shape[:3]
    share = height * width / 512**2
    video = family.video_models[request.video_model]
    coder = family.vae if video.vae is None or video.shares_space else video.vae
    coded = video.latents_of(frames)
    first = {
        "framewise": _decoded(request.num_inference_steps, family.preview) * frames * footprint_of(family.vae).gflop,
        "inversion": coded * encoding_of(coder).gflop,
        "smoothing": footprint_of(coder).gflop * coded * _decoded(
            steps_walked(request.num_smoothing_steps, request.start_level), family.preview and video.shares_space
        ),
    }  # fmt: skip
    work: dict[Stage, float] = {}
    for walk in walks_of(request, inversions):
        prints = [footprint_of(spec) for spec in walk.networks]
        cost = walk.evaluations * sum(each.gflop + each.attention * walk.seen * share for each in prints)
        if walk.stage == "framewise":
            cost *= LOOKING_WORK[request.frame_attention]
        work[walk.stage] = work.get(walk.stage, first[walk.stage]) + cost
    return {stage: share * gflop for stage, gflop in work.items()}


def _decoded(num_steps: int, preview: object) -> int:
    """Clips that a stage of so many steps decodes: its last, and its previews where nothing cheaper shows latents."""
    return 1 if preview else 1 + sum(is_previewed(step, num_steps) for step in range(1, num_steps + 1))


def estimate(request: GenerationRequest, manager: ModelManager, policy: OffloadPolicy | None = None) -> Estimate:
    """What a request will take.

    Args:
        request: what is to be made.
        manager: knows budgets, dtype, and how fast this device was.
        policy: of the offload; the manager's unless another is asked about.
    """
    policy = policy or manager.policy
    specs = components_of(request).of_stages
    bytes_of = {spec: manager.weight_bytes(spec) for spec in specs}
    computed = activation_bytes(request, manager) + latents_bytes(request)
    everything = sum(bytes_of.values())
    largest = max(sum(bytes_of[spec] for spec in dict.fromkeys(walk.networks)) for walk in walks_of(request))
    on_device = {
        "none": everything, "zerogpu": everything, "model": largest + bytes_of[models_for(request).vae],
        "group": min(int(LAYER_BYTES), largest),
    }[policy] + computed  # fmt: skip
    shared = manager.host_bytes(specs)
    held = int(LIBRARIES) + held_bytes(request)
    on_host = held + (shared if policy in {"model", "group"} else max(bytes_of.values()))
    if manager.budget.device is None:
        on_device = on_host = held + shared + computed
    rough = manager.pace.is_rough(request.family)
    return _judged(Estimate(on_device, on_host, stage_seconds(request, manager), rough, True), manager)


def seconds_of(request: GenerationRequest, num_frames: int, manager: ModelManager) -> float | None:
    """What a request would take if its clip had so many frames; None where that does not fit.

    Args:
        request: of any length; of its pictures only the size counts.
        num_frames: of the clip that is asked about.
        manager: as for `estimate`.
    """
    longer = np.broadcast_to(np.uint8(0), (num_frames, *request.frames.shape[1:]))  # which takes no memory
    controls = tuple(replace(control, frames=None) for control in request.controls)
    found = estimate(replace(request, frames=longer, masks=None, controls=controls), manager)
    return found.seconds if found.fits else None


def stage_seconds(
    request: GenerationRequest, manager: ModelManager, inversions: Collection[Inversion] | None = None
) -> dict[Stage, float]:
    """The time that each stage of a request will take; the inversions as for `operations`."""
    pace = manager.pace.of(request.family)
    return {stage: gflop / pace for stage, gflop in operations(request, inversions).items()}


def _judged(found: Estimate, manager: ModelManager) -> Estimate:
    on_host = found.host_bytes
    if manager.budget.device is not None and found.device_bytes > manager.budget.device:
        return replace(found, fits=False, advice=(
            f"The run needs about {say_bytes(found.device_bytes)} of the device, and its budget is "
            f"{say_bytes(manager.budget.device)}. Take a leaner offload policy, fewer frames at once, a shorter "
            "window, or a smaller size."
        ))  # fmt: skip
    if on_host - LIBRARIES > manager.budget.host:  # the budget is of what comes on top of them
        return replace(found, fits=False, advice=(
            f"The run needs about {say_bytes(on_host - LIBRARIES)} of memory beside its libraries, and the budget is "
            f"{say_bytes(manager.budget.host)}. "
            "Take fewer frames or a smaller size, or close other programs and start again."
        ))  # fmt: skip
    return found


def fit(request: GenerationRequest, manager: ModelManager) -> tuple[GenerationRequest, OffloadPolicy, Estimate] | None:
    """The request and offload policy nearest to those wanted that fit, and what they take; None if nothing does.

    What changes the result least goes first: the policy and the frames at once change nothing but time, the window
    changes how a clip hangs together; and only where that is not enough the picture gets smaller.
    """
    video = models_for(request).video_models[request.video_model]
    ladder: tuple[OffloadPolicy, ...] = ("none", "model", "group")
    policies = ladder[ladder.index(manager.policy) :] if manager.policy in ladder else (manager.policy,)
    batches = [size for size in (request.frame_batch_size, 8, 4, 2, 1) if size <= request.frame_batch_size]
    window = request.window or video.window
    windows = [size for size in (window, 16, 8, 4) if size <= window]
    for share in SIZES:
        resized = with_size(request, share)
        if resized is None:
            continue
        for size, batch, policy in product(dict.fromkeys(windows), dict.fromkeys(batches), policies):
            smaller = replace(resized, frame_batch_size=batch, window=None if size == video.window else size)
            found = estimate(smaller, manager, policy)
            if found.fits:
                return smaller, policy, found
    return None


def with_size(request: GenerationRequest, share: float) -> GenerationRequest | None:
    """The request with its pictures brought to a share of their sides; None where they would be too small."""
    if share == 1:
        return request
    multiple = models_for(request).video_models[request.video_model].multiple
    width, height = (round(side * share / multiple) * multiple for side in request.frames.shape[2:0:-1])
    if min(width, height) < SMALLEST_SIDE:
        return None

    def resized(frames: np.ndarray) -> np.ndarray:
        return fit_frames(frames, (width, height), "crop")

    masks = request.masks
    if masks is not None:  # a place that is made anew in part is made anew
        masks = np.where(resized(np.repeat(masks[..., None], 3, -1))[..., 0] > 0, 255, 0).astype(np.uint8)
    controls = tuple(
        control if control.frames is None else replace(control, frames=resized(control.frames))
        for control in request.controls
    )
    return replace(request, frames=resized(request.frames), masks=masks, controls=controls)
