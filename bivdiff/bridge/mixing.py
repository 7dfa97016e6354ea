"""The blend: the clip's own noise, and what the mixing ratio draws it towards.

Inverted latents are clean latents under noise, x = a z + s e, on whatever path (see paths.py). `e` is what is blended:
the noise that the video model finds with the whole clip in view, and a second one, the frame noise: found frame by
frame, with the image model or with the video model itself, or the first one's own mean over time.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from bivdiff.bridge.paths import Level, noise_in, noised
from bivdiff.bridge.windows import joined_windows
from bivdiff.errors import InputError
from bivdiff.types import MIXING_RULES, FramePrior, MixingRule


def blend_latents(
    clip_latents: Tensor | None, frame_latents: Tensor | None, clean: Callable[[], Tensor], level: Level, *,
    mixing_ratio: float, mixing_rule: MixingRule, frame_prior: FramePrior, window: int | None,
) -> Tensor:  # fmt: skip
    """The blend `(1, C, F, h, w)` that is smoothed, at the level of the two inversions.

    Args:
        clip_latents, frame_latents: inverted as far as `level`, with the whole clip in view and frame by frame; each
            may be None where it has no part in the blend (see `catalog.bridging.inversions_of`).
        clean: gives the latents that were inverted; not asked where the blend is a plain sum.
        level: of the inverted latents.
        mixing_ratio, mixing_rule, frame_prior: as in GenerationRequest.
        window: frames that the video model sees at once.
    """
    if mixing_ratio == 0 or (mixing_rule == "linear" and frame_prior != "mean"):
        # A weighted sum of latents is that of their noise, and needs nothing taken apart.
        return mix_noise(clip_latents, frame_latents, mixing_ratio, "linear")
    start = clean()
    clip, frame = (
        None if latents is None else noise_in(latents, start, level) for latents in (clip_latents, frame_latents)
    )
    if frame_prior == "mean" and clip is not None:
        frame = mean_noise(clip, window)
    return noised(start, mix_noise(clip, frame, mixing_ratio, mixing_rule, window=window), level)


def mix_noise(
    clip_noise: Tensor | None, frame_noise: Tensor | None, mixing_ratio: float, mixing_rule: MixingRule = "linear",
    *, window: int | None = None,
) -> Tensor:  # fmt: skip
    """Blend a clip's own noise with the frame noise.

    Args:
        clip_noise: `(B, C, F, h, w)`, found with the whole clip in view; may be None at ratio 1, but for "capped".
        frame_noise: same shape, dtype and device; may be None at ratio 0.
        mixing_ratio: weight of the frame noise in [0, 1].
        mixing_rule: "linear" is the paper's weighted sum, which loses variance where the two differ;
            "variance_preserving" scales that sum to the weighted mean of their standard deviations; "slerp" goes along
            the great circle between them, per video; "capped" is the weighted sum with the frame noise `capped` first.
        window: for "capped": frames that the video model sees at once; None is the whole clip.

    Returns:
        `(B, C, F, h, w)`; shares no memory with the inputs.

    Raises:
        InputError: the shapes differ, `mixing_ratio` is outside [0, 1], the rule is unknown, or noise that has weight
            is missing.

    Source: BIVDiff (arXiv:2312.02813), Mixed Inversion, which sums the latents: where both are as deep in noise over
    the same clean latents, which is always so here, that is the sum of the noise.
    """
    if not 0 <= mixing_ratio <= 1:
        raise InputError(f"mixing_ratio must be a number from 0 to 1; got {mixing_ratio!r}.")
    if mixing_rule not in MIXING_RULES:
        raise InputError(f"Unknown mixing_rule '{mixing_rule}'. Choose one of {', '.join(MIXING_RULES)}.")
    if mixing_ratio == 0 or (mixing_ratio == 1 and mixing_rule != "capped"):
        alone = frame_noise if mixing_ratio == 1 else clip_noise
        if alone is None:
            raise InputError(f"A mixing_ratio of {mixing_ratio:g} needs the noise it keeps.")
        return alone.clone()
    if clip_noise is None or frame_noise is None:
        raise InputError(f"A mixing_ratio of {mixing_ratio:g} by the rule {mixing_rule} needs both noises.")
    if clip_noise.shape != frame_noise.shape:
        raise InputError(f"The two noises differ in shape: {tuple(clip_noise.shape)} and {tuple(frame_noise.shape)}.")
    # In float32: sums over a whole clip overflow half precision.
    clip, frame = clip_noise.float(), frame_noise.float()
    if mixing_rule == "slerp":
        mixed = _slerp(frame, clip, mixing_ratio)
    else:
        if mixing_rule == "capped":
            frame = capped(frame, clip, window)
        mixed = mixing_ratio * frame + (1 - mixing_ratio) * clip
        if mixing_rule == "variance_preserving":
            wanted = mixing_ratio * frame.std() + (1 - mixing_ratio) * clip.std()
            mixed = mixed * (wanted / mixed.std())
    return mixed.to(clip_noise.dtype)


def capped(frame_noise: Tensor, clip_noise: Tensor, window: int | None = None) -> Tensor:
    """The frame noise, no temporal mode of it stronger than the clip's own noise has it.

    The modes are those of a cosine transform over the frames, from what stands still (0) to what changes with every
    frame. One that is stronger than in the clip's noise, in the mean square over channels and places, is scaled down to
    that; none is scaled up. Slow modes that are too strong over-drive the smoothing: contrast and colour drift.

    Args:
        frame_noise, clip_noise: `(B, C, F, h, w)`.
        window: longer clips are taken in windows of so many frames, which overlap and are averaged as those that the
            video model sees (see windows.py); None takes the whole clip at once.

    Returns:
        `(B, C, F, h, w)`.
    """

    def one_window(frame: Tensor, clip: Tensor) -> Tensor:
        basis = _cosines(frame.shape[2]).to(frame)
        of_frame, of_clip = (torch.einsum("mf,bcfhw->bcmhw", basis, noise) for noise in (frame, clip))
        strengths = [modes.square().mean((1, 3, 4), keepdim=True) for modes in (of_clip, of_frame)]
        scale = (strengths[0] / strengths[1].clamp_min(torch.finfo(frame.dtype).tiny)).clamp_max(1).sqrt()
        return torch.einsum("mf,bcmhw->bcfhw", basis, scale * of_frame)

    return joined_windows(one_window, window, frame_noise, clip_noise)


def mean_noise(clip_noise: Tensor, window: int | None = None) -> Tensor:
    """A clip's noise `(B, C, F, h, w)` at rest: its mean over the frames, of longer clips over those of each window."""
    return joined_windows(lambda noise: noise.mean(2, keepdim=True).expand_as(noise), window, clip_noise)


def _cosines(count: int) -> Tensor:
    """The orthonormal cosine transform (DCT-II) of so many samples: `(modes, samples)`, float64."""
    modes, samples = torch.arange(count, dtype=torch.float64)[:, None], torch.arange(count, dtype=torch.float64)
    basis = torch.cos(math.pi * (samples + 0.5) * modes / count) * math.sqrt(2 / count)
    basis[0] /= math.sqrt(2)
    return basis


def _slerp(towards: Tensor, start: Tensor, mixing_ratio: float) -> Tensor:
    """Spherical interpolation of each video of the batch; the lengths are interpolated linearly."""
    axes = tuple(range(1, start.ndim))
    norms = [torch.linalg.vector_norm(noise, dim=axes, keepdim=True) for noise in (towards, start)]
    cosine = (towards / norms[0] * start / norms[1]).sum(axes, keepdim=True).clamp(-1, 1)
    angle = torch.acos(cosine)
    # Nearly parallel vectors have no plane to turn in; there the straight line is the arc.
    sine = torch.sin(angle).clamp_min(1e-4)
    parallel = angle < 1e-3
    weights = [
        torch.where(parallel, share, torch.sin(share * angle) / sine) for share in (mixing_ratio, 1 - mixing_ratio)
    ]
    norm = mixing_ratio * norms[0] + (1 - mixing_ratio) * norms[1]
    return (weights[0] * towards / norms[0] + weights[1] * start / norms[1]) * norm
