"""How often a request evaluates which network: the one count that progress, estimate and the seconds asked for read."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from bivdiff.catalog.bridging import Inversion, inversions_of, steps_walked
from bivdiff.catalog.components import Components, components_of
from bivdiff.catalog.families import models_for
from bivdiff.catalog.image_models import IMAGE_MODELS, Steps, guided_passes
from bivdiff.catalog.specs import ModelSpec, VideoModel
from bivdiff.models.loaders import KINDS
from bivdiff.models.windows import windows_of
from bivdiff.types import GenerationRequest, Stage

PREVIEWS = 4  # of each denoising stage: enough to see it form, too few to cost much where they must be decoded


@dataclass(frozen=True)
class Walk:
    """One way over the timesteps.

    Attributes:
        stage: that it belongs to. The stages' events count the steps of one walk after the other.
        networks: what runs in every step: the denoiser, and behind it what steers it.
        steps: in their order, those together that cost alike.
        frames: that the denoiser is shown in one pass: more than the clip has where its windows overlap, fewer where
            its latents are compressed in time.
        at_once: frames, copies for guidance included, that it is shown together at most.
        seen: frames that see each other at most.
    """

    stage: Stage
    networks: tuple[ModelSpec, ...]
    steps: tuple[Steps, ...]
    frames: int
    at_once: int
    seen: int = 1

    @property
    def evaluations(self) -> int:
        """Single frames that the denoiser evaluates."""
        return self.frames * sum(steps.count * steps.passes for steps in self.steps)

    def evaluations_after(self, share: float) -> float:
        """Single frames that it has evaluated after a share of its steps, 0 to 1."""
        left, done = share * sum(steps.count for steps in self.steps), 0.0
        for steps in self.steps:
            taken = min(left, steps.count)
            done, left = done + taken * steps.passes, left - taken
        return self.frames * done


def walks_of(request: GenerationRequest, inversions: Collection[Inversion] | None = None) -> tuple[Walk, ...]:
    """The walks of a whole run in their order; of the inversions only those given, where some are there already."""
    parts = components_of(request)
    named = inversions_of(request) if inversions is None else inversions
    walks = (*_framewise(request, parts), *_inversions(request, parts, named), _smoothing(request, parts))
    return tuple(walk for walk in walks if walk.evaluations)


def evaluations_of(request: GenerationRequest) -> dict[Stage, int]:
    """Single frames that denoisers evaluate in each stage of a whole run, as `GenerationResult.evaluations`."""
    found: dict[Stage, int] = {}
    for walk in walks_of(request):
        found[walk.stage] = found.get(walk.stage, 0) + walk.evaluations
    return found


def is_previewed(step: int, total: int, previews: int = PREVIEWS) -> bool:
    """Whether a denoising step, counted from 1, has a preview; the last has none, since its frames follow."""
    return previews > 0 and step % max(1, total // previews) == 0 and step < total


def smoothing_walk(request: GenerationRequest) -> Walk:
    """The walk of the last stage, of which a comparison makes one for each clip."""
    return _smoothing(request, components_of(request))


def _framewise(request: GenerationRequest, parts: Components[ModelSpec]) -> Iterator[Walk]:
    model = IMAGE_MODELS[request.image_model]
    steps = model.steps(request)
    networks = (parts.unet, *parts.networks) if model.denoiser == "base" else parts.networks
    if model.makes_frames:
        frames = len(request.frames)
        yield _by_frames("framewise", request, networks, steps, frames, whole_frames=model.batches == "frames")


def _inversions(
    request: GenerationRequest, parts: Components[ModelSpec], names: Collection[Inversion]
) -> Iterator[Walk]:
    count = steps_walked(request.num_inversion_steps, request.start_level)
    steps = (Steps(count, guided_passes(request.inversion_guidance_scale)),)
    for name in names:
        if name == "video":
            yield _by_video_model("inversion", request, parts, steps)
        else:
            by_base = name == "image" or KINDS[parts.video_unet.kind].sees_frames_by_base
            count = len(request.frames) if by_base else _video_model(request).latents_of(len(request.frames))
            yield _by_frames("inversion", request, (parts.unet if by_base else parts.video_unet,), steps, count)


def _video_model(request: GenerationRequest) -> VideoModel:
    return models_for(request).video_models[request.video_model]


def _smoothing(request: GenerationRequest, parts: Components[ModelSpec]) -> Walk:
    count = steps_walked(request.num_smoothing_steps, request.start_level)
    if KINDS[parts.video_scheduler.kind].asks_twice_first:
        count += 1
    steps = (Steps(count, guided_passes(request.smoothing_guidance_scale)),)
    return _by_video_model("smoothing", request, parts, steps)


def _by_frames(
    stage: Stage, request: GenerationRequest, networks: tuple[ModelSpec, ...], steps: tuple[Steps, ...],
    frames: int, *, whole_frames: bool = False,
) -> Walk:  # fmt: skip
    passes = _most_passes(steps)
    at_once = (
        min(request.frame_batch_size, frames) * passes
        if whole_frames
        else min(request.frame_batch_size, frames * passes)
    )
    return Walk(stage, networks, steps, frames, at_once)


def _by_video_model(
    stage: Stage, request: GenerationRequest, parts: Components[ModelSpec], steps: tuple[Steps, ...]
) -> Walk:
    video = _video_model(request)
    window = video.latents_of(request.window or video.window)
    seen = [len(span) for span in windows_of(video.latents_of(len(request.frames)), window)]
    return Walk(stage, (parts.video_unet,), steps, sum(seen), max(seen) * _most_passes(steps), max(seen))


def _most_passes(steps: tuple[Steps, ...]) -> int:
    return max((each.passes for each in steps if each.count), default=0)
