"""Other ways to invert and to smooth than the product has: `python benchmarks/inversions.py --clips 8`.

All of them blend alike, and take as many evaluations to invert:
- "scheduler pair", the product's: the inversion evaluates at the level that it goes to.
- "own level": it evaluates at the level that the latents are at, one step beyond the last, and comes back by the noise.
- "midpoint": both ways evaluate in the middle of a step, reached by the last prediction (FireFlow, in terms of noise).
- "exact": every second step alone, and each is solved: what is found at its end leads back to its beginning, as near as
  `ROUNDS` evaluations of it come (fixed points, as in ReNoise).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from findings import differences, share

from bivdiff.bridge.latents import fold_frames, unfold_frames
from bivdiff.bridge.mixing import mean_noise, mix_noise
from bivdiff.bridge.outcomes import outcome_of
from bivdiff.bridge.paths import Level, noise_in, noised
from bivdiff.bridge.pipeline import blend, resolved
from bivdiff.bridge.prompts import smoothing_prompt
from bivdiff.bridge.reuse import StageCache
from bivdiff.bridge.session import Session, enter
from bivdiff.catalog.bridging import steps_walked
from bivdiff.catalog.tasks import TASKS
from bivdiff.evaluate.evaluation import Case, case_of
from bivdiff.models.manager import ModelManager
from bivdiff.pixels import metrics
from bivdiff.settings import Settings
from bivdiff.types import GenerationRequest

Predict = Callable[[Tensor, int], Tensor]
ROUNDS = 2
FROM_CLEAN = -1  # the timestep of latents without noise
SCORES = ("psnr", "object_psnr", "background_flicker", "warp_error", "sharpness")


class Schedule(NamedTuple):
    """The timesteps that are walked, rising, and the cumulative alpha at each timestep there is."""

    timesteps: list[int]
    alphas: Tensor

    @classmethod
    def of(cls, session: Session) -> Schedule:
        """That of the session's request and video model."""
        request, scheduler = session.request, session.models.video.scheduler
        scheduler.set_timesteps(request.num_smoothing_steps)
        walked = steps_walked(request.num_smoothing_steps, request.start_level)
        return cls(scheduler.timesteps.tolist()[-walked:][::-1], scheduler.alphas_cumprod)

    @property
    def halved(self) -> list[int]:
        """Every second timestep, with the last."""
        return self.timesteps[::-1][::2][::-1]

    def level(self, timestep: int) -> Level:
        """Of latents at a timestep."""
        return Level.of_alpha(1.0 if timestep == FROM_CLEAN else self.alphas[timestep].item())

    def moved(self, latents: Tensor, noise: Tensor, start: int, end: int) -> Tensor:
        """DDIM's step from one timestep to another with the noise that was predicted."""
        level = self.level(start)
        clean = (latents - level.noise * noise) / level.signal
        return noised(clean, noise, self.level(end))


def pair(predict: Predict, clean: Tensor, schedule: Schedule) -> Tensor:
    """The noise that the product's inversion finds, but for the first step, which it takes from alpha 0."""
    return _inverted(predict, clean, schedule, schedule.timesteps, 1)


def own_level(predict: Predict, clean: Tensor, schedule: Schedule) -> Tensor:
    """The noise that is found at each level itself, the clean latents taken for those of the first timestep."""
    steps = schedule.timesteps
    beyond = min(len(schedule.alphas) - 1, 2 * steps[-1] - steps[-2])
    latents = clean
    for start, end in zip(steps, [*steps[1:], beyond], strict=True):
        latents = schedule.moved(latents, predict(latents, start), start, end)
    return noise_in(latents, clean, schedule.level(beyond))


def midpoint(predict: Predict, clean: Tensor, schedule: Schedule) -> Tensor:
    """The noise that is found in the middle of each step; what stands under clean latents is none."""
    latents, noise, reached = clean, torch.zeros_like(clean), FROM_CLEAN
    for timestep in schedule.timesteps:
        middle = (max(reached, 0) + timestep) // 2
        noise = predict(schedule.moved(latents, noise, reached, middle), middle)
        latents, reached = schedule.moved(latents, noise, reached, timestep), timestep
    return noise_in(latents, clean, schedule.level(reached))


def exact(predict: Predict, clean: Tensor, schedule: Schedule) -> Tensor:
    """The noise that leads back to the clean latents, in half as many steps."""
    return _inverted(predict, clean, schedule, schedule.halved, ROUNDS)


def _inverted(predict: Predict, clean: Tensor, schedule: Schedule, timesteps: Sequence[int], rounds: int) -> Tensor:
    latents, reached = clean, FROM_CLEAN
    for timestep in timesteps:
        found = latents
        for _ in range(rounds):
            found = schedule.moved(latents, predict(found, timestep), reached, timestep)
        latents, reached = found, timestep
    return noise_in(latents, clean, schedule.level(reached))


def smooth_halved(predict: Predict, latents: Tensor, noise: Tensor, schedule: Schedule) -> Tensor:  # noqa: ARG001
    """Denoise in half as many steps."""
    return _denoised(predict, latents, schedule, [*schedule.halved[::-1], FROM_CLEAN])


def smooth_ddim(predict: Predict, latents: Tensor, noise: Tensor, schedule: Schedule) -> Tensor:  # noqa: ARG001
    """Denoise as the product does."""
    return _denoised(predict, latents, schedule, [*schedule.timesteps[::-1], 0])


def _denoised(predict: Predict, latents: Tensor, schedule: Schedule, timesteps: Sequence[int]) -> Tensor:
    for start, end in pairwise(timesteps):
        latents = schedule.moved(latents, predict(latents, start), start, end)
    return latents


def smooth_midpoint(predict: Predict, latents: Tensor, noise: Tensor, schedule: Schedule) -> Tensor:
    """Denoise by the middle of each step; `noise` is that under the latents."""
    steps = schedule.timesteps[::-1]
    for start, end in zip(steps, [*steps[1:], FROM_CLEAN], strict=True):
        middle = (start + max(end, 0)) // 2
        noise = predict(schedule.moved(latents, noise, start, middle), middle)
        latents = schedule.moved(latents, noise, start, end)
    return latents


WAYS: Mapping[str, tuple[Callable[..., Tensor], Callable[..., Tensor]]] = {
    "scheduler pair": (pair, smooth_ddim), "own level": (own_level, smooth_ddim),
    "midpoint": (midpoint, smooth_midpoint), "exact": (exact, smooth_halved),
}  # fmt: skip
BLENDS = (("mean", 0.0), ("mean", 0.75), ("video", 0.5), ("video", 1.0))


@torch.inference_mode()
def measure(case: Case, manager: ModelManager) -> Iterator[tuple[str, dict[str, float]]]:
    """The scores of the frame-wise clip, and of each way with each blend."""
    with ExitStack() as exits:
        session = enter(resolved(case.request), manager, StageCache(), exits)
        frames, _ = outcome_of(blend(session))
        yield "frame by frame", _scores(case, frames, frames)
        request, models, schedule = session.request, session.models, Schedule.of(session)
        clean = models.encode(frames)
        inverting, smoothing = (
            models.embed_for_video(text) for text in (request.inversion_prompt, smoothing_prompt(request))
        )
        for name, (invert, smooth) in WAYS.items():
            clip_noise = invert(partial(_of_clip, models.video, inverting), clean, schedule)
            frame_noise = invert(partial(_of_frames, models.video, inverting), clean, schedule)
            for prior, ratio in BLENDS:
                second = mean_noise(clip_noise) if prior == "mean" else frame_noise
                noise = mix_noise(clip_noise, second, ratio, "capped")
                latents = noised(clean, noise, schedule.level(schedule.timesteps[-1]))
                made = smooth(partial(_of_clip, models.video, smoothing), latents, noise, schedule)
                yield f"{name}, {prior} {ratio:g}", _scores(case, models.decode_video(made, len(frames)), frames)


def _of_clip(video: Any, embeds: Tensor, latents: Tensor, timestep: int) -> Tensor:
    noise: Tensor = video.predict(latents, torch.tensor(timestep), embeds)
    return noise


def _of_frames(video: Any, embeds: Tensor, latents: Tensor, timestep: int) -> Tensor:
    pictures = fold_frames(latents)
    return unfold_frames(video.predict_frames(pictures, torch.tensor(timestep), embeds.expand(len(pictures), -1, -1)))


def _scores(case: Case, frames: np.ndarray, framewise: np.ndarray) -> dict[str, float]:
    found = metrics.score_clip(frames, case.truth, case.masks, case.background, framewise, case.colored)
    return {name: float(found[name]) for name in SCORES}


def table(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """Differences to the frame-wise clip, mean ± standard error (median), and shares of its flicker (median)."""
    lines = ["| | PSNR, dB | object PSNR, dB | flicker, share | warp error, share | sharpness |", "|" + " --- |" * 6]
    frames = rows["frame by frame"]
    for name, scenes in rows.items():
        told = [differences(scenes, frames, score) for score in ("psnr", "object_psnr")]
        said = [f"{each.mean:+.2f} ± {each.error:.2f} ({each.median:+.2f})" for each in told]
        said += [f"{share(scenes, frames, score):.2f}" for score in ("background_flicker", "warp_error")]
        said.append(f"{np.mean([row['scores']['sharpness'] for row in scenes.values()]):.2f}")
        lines.append(f"| {name} | {' | '.join(said)} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and print a table for each task; returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--task", nargs="+", choices=("control", "edit", "smooth"), default=["control", "smooth"])
    parser.add_argument("--clips", type=int, default=8)
    parser.add_argument("--first-scene", type=int, default=300)
    parser.add_argument("--start-level", type=float, default=GenerationRequest.start_level)
    args = parser.parse_args(arguments)
    manager = ModelManager(Settings.from_env())
    for task in args.task:
        rows: dict[str, dict[str, Any]] = {}
        for scene in range(args.first_scene, args.first_scene + args.clips):
            for name, scores in measure(case_of(task, scene, "toybox", start_level=args.start_level), manager):
                rows.setdefault(name, {})[str(scene)] = {"scores": scores}
            print(f"scene {scene}: {task} done", file=sys.stderr, flush=True)
        print(f"### {TASKS[task].title}, start level {args.start_level:g}\n\n{table(rows)}\n", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
