"""The loop over timesteps, as a generator: all three stages run through it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, UniPCMultistepScheduler
from torch import Tensor

from bivdiff.bridge.guidance import Predict
from bivdiff.bridge.latents import unfold_frames
from bivdiff.types import Sampler

Correct = Callable[[Tensor, Tensor | None], Tensor]
_ALL = slice(None)
SCHEDULERS: Mapping[Sampler, Any] = {
    "ddim": DDIMScheduler, "dpm++": DPMSolverMultistepScheduler, "unipc": UniPCMultistepScheduler,
}  # fmt: skip


class Step(NamedTuple):
    """`number` of `total` steps are done; `latents` are what they came to, `pred_original_sample` where these lead."""

    number: int
    total: int
    latents: Tensor
    pred_original_sample: Tensor


def step_through(
    predict: Predict, latents: Tensor, scheduler: Any, num_steps: int, correct: Correct | None = None,
    part: slice = _ALL,
) -> Iterator[Step]:  # fmt: skip
    """Follow a scheduler from its first timestep to its last.

    Args:
        predict: `(latents, timestep)` to the predicted noise.
        latents: where to start, any shape that `predict` takes.
        scheduler: a DDIMScheduler or another of `SCHEDULERS` to denoise, a DDIMInverseScheduler to invert. Its
            timesteps are set here.
        num_steps: predictions of the whole schedule.
        correct: what is done to the latents after every step; it gets the timestep they are at, None at the end.
        part: of the schedule that is walked.

    Yields:
        One `Step` after every prediction.
    """
    scheduler.set_timesteps(num_steps, device=latents.device)
    walked = scheduler.timesteps[part]
    timesteps = [*walked, None]
    for number, timestep in enumerate(walked, 1):
        taken = scheduler.step(predict(latents, timestep), timestep, latents)
        latents = taken.prev_sample if correct is None else correct(taken.prev_sample, timesteps[number])
        # Solvers that look back at earlier steps keep what each of them led to.
        clean = taken.pred_original_sample if hasattr(taken, "pred_original_sample") else scheduler.model_outputs[-1]
        yield Step(number, len(walked), latents, clean)


def denoising_scheduler(scheduler: Any, sampler: Sampler = "ddim") -> Any:
    """A scheduler of its own for one walk, with the schedule of another one, which is left as it is."""
    return SCHEDULERS[sampler].from_config(scheduler.config)


def unfold_step(step: Step) -> Step:
    """A step over pictures `(F, C, h, w)` as one over a video `(1, C, F, h, w)`."""
    latents, pred = unfold_frames(step.latents), unfold_frames(step.pred_original_sample)
    return step._replace(latents=latents, pred_original_sample=pred)


def in_batches(function: Callable[..., Tensor], batch_size: int, *tensors: Any) -> Tensor:
    """Apply `function` to slices of `batch_size` along the first dimension of every tensor, and join the results.

    A bundle of tensors is sliced as one is.
    """
    slices = zip(*(tensor.split(batch_size) for tensor in tensors), strict=True)
    return torch.cat([function(*parts) for parts in slices])


def initial_noise(shape: tuple[int, int, int, int], noise_sharing: float, seed: int) -> Tensor:
    """Noise for every frame of a clip, drawn on the CPU so that the device does not matter.

    Args:
        shape: `(F, C, h, w)`.
        noise_sharing: correlation of any two frames' noise, 0 to 1.
        seed: decides the noise. A clip with more frames starts with the same ones.

    Returns:
        Unit Gaussian float32 `(F, C, h, w)`.
    """
    generator = torch.Generator("cpu").manual_seed(seed)
    common = torch.randn(shape[1:], generator=generator)
    own = torch.stack([torch.randn(shape[1:], generator=generator) for _ in range(shape[0])])
    return noise_sharing**0.5 * common + (1 - noise_sharing) ** 0.5 * own
