"""The blend of the two inversions: both brought to one level of noise, then mixed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from diffusers import DDIMScheduler
from torch import Tensor

from bivdiff.errors import InputError
from bivdiff.types import MIXING_RULES, MixingRule


def noise_level(scheduler: Any, num_steps: int) -> float:
    """How much of the clean latents is left where denoising begins and inversion ends: the cumulative alpha there."""
    ddim = DDIMScheduler.from_config(scheduler.config)
    ddim.set_timesteps(num_steps)
    return ddim.alphas_cumprod[ddim.timesteps[0]].item()


def at_level(latents: Tensor, clean: Callable[[], Tensor], level: float, wanted: float) -> Tensor:
    """Inverted latents at another noise level: the same clean latents under the same noise.

    Models with schedules of their own, and stages with other numbers of steps, end and begin at different levels. What
    an inversion finds is the noise under the clean latents, and these are known; so the noise is taken out and put
    over them again at the level wanted. For a linear blend at one level this changes nothing: what is blended is
    always noise.

    Args:
        latents: `(1, C, F, h, w)`, inverted as far as `level`.
        clean: gives the latents that were inverted; not asked where nothing changes.
        level, wanted: cumulative alphas.
    """
    if level == wanted:
        return latents
    start = clean()
    noise = (latents - level**0.5 * start) / (1 - level) ** 0.5
    return wanted**0.5 * start + (1 - wanted) ** 0.5 * noise


def mix_latents(
    image_latents: Tensor | None, video_latents: Tensor | None, mixing_ratio: float, mixing_rule: MixingRule = "linear"
) -> Tensor:
    """Blend the two models' inverted latents.

    Args:
        image_latents: `(B, C, F, h, w)`, inverted with the image model; may be None at ratio 0.
        video_latents: same shape, dtype and device, inverted with the video model; may be None at ratio 1.
        mixing_ratio: weight of the image latents in [0, 1]; 1 ignores the video model.
        mixing_rule: "linear" is the paper's weighted sum, which loses variance where the two differ;
            "variance_preserving" scales that sum to the weighted mean of their standard deviations; "slerp" goes
            along the great circle between them, per video.

    Returns:
        `(B, C, F, h, w)`; shares no memory with the inputs.

    Raises:
        InputError: the shapes differ, `mixing_ratio` is outside [0, 1], the rule is unknown, or latents that have
            weight are missing.

    Source: BIVDiff (arXiv:2312.02813), Mixed Inversion.
    """
    if not 0 <= mixing_ratio <= 1:
        raise InputError(f"mixing_ratio must be a number from 0 to 1; got {mixing_ratio!r}.")
    if mixing_rule not in MIXING_RULES:
        raise InputError(f"Unknown mixing_rule '{mixing_rule}'. Choose one of {', '.join(MIXING_RULES)}.")
    if mixing_ratio in (0, 1):
        alone = image_latents if mixing_ratio == 1 else video_latents
        if alone is None:
            raise InputError(f"A mixing_ratio of {mixing_ratio:g} needs the latents it keeps.")
        return alone.clone()
    if image_latents is None or video_latents is None:
        raise InputError(f"A mixing_ratio of {mixing_ratio:g} needs the latents of both models.")
    if image_latents.shape != video_latents.shape:
        raise InputError(
            f"The two models' latents differ in shape: {tuple(image_latents.shape)} and {tuple(video_latents.shape)}."
        )
    # In float32: sums over a whole clip overflow half precision.
    image, video = image_latents.float(), video_latents.float()
    if mixing_rule == "slerp":
        mixed = _slerp(image, video, mixing_ratio)
    else:
        mixed = mixing_ratio * image + (1 - mixing_ratio) * video
        if mixing_rule == "variance_preserving":
            wanted = mixing_ratio * image.std() + (1 - mixing_ratio) * video.std()
            mixed = mixed * (wanted / mixed.std())
    return mixed.to(image_latents.dtype)


def _slerp(image: Tensor, video: Tensor, mixing_ratio: float) -> Tensor:
    """Spherical interpolation of each video of the batch; the lengths are interpolated linearly."""
    axes = tuple(range(1, image.ndim))
    image_norm = torch.linalg.vector_norm(image, dim=axes, keepdim=True)
    video_norm = torch.linalg.vector_norm(video, dim=axes, keepdim=True)
    cosine = (image / image_norm * video / video_norm).sum(axes, keepdim=True).clamp(-1, 1)
    angle = torch.acos(cosine)
    # Nearly parallel vectors have no plane to turn in; there the straight line is the arc.
    sine = torch.sin(angle).clamp_min(1e-4)
    parallel = angle < 1e-3
    weight_image = torch.where(parallel, mixing_ratio, torch.sin(mixing_ratio * angle) / sine)
    weight_video = torch.where(parallel, 1 - mixing_ratio, torch.sin((1 - mixing_ratio) * angle) / sine)
    norm = mixing_ratio * image_norm + (1 - mixing_ratio) * video_norm
    return (weight_image * image / image_norm + weight_video * video / video_norm) * norm
