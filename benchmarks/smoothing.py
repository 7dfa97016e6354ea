"""What makes smoothing cheaper at equal scores: `python benchmarks/smoothing.py --clips 8 --state FILE`."""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    PyramidAttentionBroadcastConfig,
    UniPCMultistepScheduler,
    apply_pyramid_attention_broadcast,
)
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bivdiff.bridge.guidance import guided
from bivdiff.bridge.known import known_content, with_known_content
from bivdiff.bridge.mixing import at_level, noise_level
from bivdiff.bridge.outcomes import outcome_of
from bivdiff.bridge.pipeline import blend, resolved
from bivdiff.bridge.prompts import smoothing_prompt
from bivdiff.bridge.reuse import StageCache
from bivdiff.bridge.session import Session, enter
from bivdiff.bridge.windows import over_windows
from bivdiff.catalog.tasks import TASKS
from bivdiff.errors import BIVDiffError
from bivdiff.evaluate.evaluation import Case, case_of
from bivdiff.models.manager import ModelManager
from bivdiff.pixels import metrics
from bivdiff.settings import Settings
from bivdiff.types import GenerationRequest

SAMPLERS = {
    "DDIM": DDIMScheduler,
    "DPM-Solver++": DPMSolverMultistepScheduler,
    "UniPC": UniPCMultistepScheduler,
}
SCORES = ("psnr", "warp_error", "background_flicker", "sharpness")
TITLES = ("PSNR", "warp error", "flicker", "sharpness")
BOUNDS = {"psnr": -0.1, "background_flicker": 0.1, "sharpness": -0.02}
"""What still counts as equal: dB lost, levels of flicker added (nobody sees a tenth), share of the sharpness lost."""


@dataclass(frozen=True)
class Variant:
    """A way to smooth: a sampler and its steps, of which the first `skipped` are left out; guidance in some of them.

    `guided_share` is the share of the steps, from the first one on, in which guidance counts. Attention is computed in
    every step, or in one of `broadcast` between the timesteps 100 and 800.
    """

    steps: int = 20
    sampler: str = "DDIM"
    guidance: float = 1.0
    guided_share: float = 1.0
    skipped: int = 0
    broadcast: int = 1

    @classmethod
    def of(cls, request: GenerationRequest) -> Variant:
        """What a run of the product does."""
        return cls(request.num_smoothing_steps, guidance=request.smoothing_guidance_scale)

    @property
    def label(self) -> str:
        """In words."""
        parts = [f"{self.sampler}, {self.steps} steps"]
        if self.skipped:
            parts.append(f"the first {self.skipped} left out")
        if self.guidance > 1:
            share = "" if self.guided_share == 1 else f" in the first {self.guided_share:.0%}"
            parts.append(f"guidance {self.guidance:g}{share}")
        if self.broadcast > 1:
            parts.append(f"attention in one step of {self.broadcast}")
        return ", ".join(parts)

    @property
    def evaluations(self) -> int:
        """Of the video model; a guided step takes two."""
        return sum(2 if self.is_guided(step) else 1 for step in range(self.skipped, self.steps))

    def is_guided(self, step: int) -> bool:
        """Whether guidance counts in a step, from 0."""
        return self.guidance > 1 and step < self.guided_share * self.steps


REFERENCE = Variant()
VARIANTS = (
    REFERENCE,
    *(Variant(steps) for steps in (15, 10, 8, 5)),
    *(Variant(steps, sampler) for sampler in ("DPM-Solver++", "UniPC") for steps in (10, 5)),
    *(Variant(skipped=skipped) for skipped in (5, 10)),
    *(Variant(guidance=4.0, guided_share=share) for share in (1.0, 0.5)),
    *(Variant(broadcast=steps) for steps in (2, 4)),
)


@torch.inference_mode()
def measure(case: Case, manager: ModelManager) -> list[dict[str, float]]:
    """Scores of the frame-wise clip, and then of every variant."""
    with ExitStack() as exits:
        session = enter(resolved(case.request), manager, StageCache(), exits)
        framewise, blended = outcome_of(blend(session))
        told = [{**scores_of(case, framewise, framewise), "seconds": 0.0}]
        for variant in VARIANTS:
            begun = time.perf_counter()
            frames = smoothed(session, blended, variant)
            told.append({**scores_of(case, frames, framewise), "seconds": time.perf_counter() - begun})
    return told


def scores_of(case: Case, frames: np.ndarray, framewise: np.ndarray) -> dict[str, float]:
    """Those of `SCORES`."""
    found = metrics.score_clip(frames, case.truth, case.masks, case.background, framewise, case.colored)
    return {name: float(found[name]) for name in SCORES}


def smoothed(session: Session, blended: Tensor, variant: Variant) -> np.ndarray:
    """Frames of the blend `(1, C, F, h, w)` of the session's request, without the previews that a run shows."""
    request, models, video = session.request, session.models, session.models.video
    begins = noise_level(video.scheduler, request.num_smoothing_steps)
    scheduler = SAMPLERS[variant.sampler].from_config(video.scheduler.config)
    levels = [*_noise_levels(scheduler, variant.steps), 1.0]
    framewise = partial(_clean, session)
    latents = start = at_level(blended, framewise, begins, levels[variant.skipped])
    known = known_content(request, models)
    plain, steered = (_predictor(session, guidance) for guidance in (1.0, variant.guidance))
    with models.running(video.unet), broadcasting(video.unet, variant.broadcast):
        for step in range(variant.skipped, variant.steps):
            predict, timestep = steered if variant.is_guided(step) else plain, scheduler.timesteps[step]
            latents = scheduler.step(predict(latents, timestep), timestep, latents).prev_sample
            if known is not None:
                level = levels[step + 1]
                kept = level**0.5 * known.latents + (1 - level) ** 0.5 * start  # as `smoothing.smooth` has it
                latents = torch.where(known.holes, latents, kept)
    return with_known_content(request, models.decode_video(latents))


@contextmanager
def broadcasting(unet: Any, steps: int) -> Iterator[None]:
    """A U-Net that computes its attention in one of so many steps."""
    if steps == 1:
        yield
        return
    now = [0]
    watch = unet.register_forward_pre_hook(lambda _, given: now.__setitem__(0, int(given[1])))
    apply_pyramid_attention_broadcast(unet, PyramidAttentionBroadcastConfig(
        spatial_attention_block_skip_range=steps, temporal_attention_block_skip_range=steps,
        cross_attention_block_skip_range=steps, spatial_attention_block_identifiers=("attentions",),
        temporal_attention_block_identifiers=("temp_attentions",), current_timestep_callback=lambda: now[0],
    ))  # fmt: skip
    try:
        yield
    finally:
        watch.remove()
        for module in unet.modules():
            if hasattr(module, "_diffusers_hook"):
                module._diffusers_hook.remove_hook("pyramid_attention_broadcast", recurse=False)


def _clean(session: Session) -> Tensor:
    """Latents of the frame-wise clip, which the cache has."""
    return session.models.encode(outcome_of(blend(session))[0])


def _noise_levels(scheduler: Any, num_steps: int) -> list[float]:
    """The cumulative alpha at each of a sampler's timesteps, which are set."""
    scheduler.set_timesteps(num_steps)
    return scheduler.alphas_cumprod[scheduler.timesteps].tolist()


def _predictor(session: Session, guidance: float) -> Callable[[Tensor, Tensor], Tensor]:
    request, models = session.request, session.models
    prompts = [models.embed_for_video(text) for text in (smoothing_prompt(request), request.negative_prompt)]
    noise_pred = over_windows(models.video.noise_pred, request.window or models.video.window)
    return guided(noise_pred, *prompts, guidance)


# What is printed


def table(rows: Mapping[Any, Sequence[Mapping[str, float]]]) -> str:
    """The ways to smooth, most evaluations first, with means, and differences to the reference scene by scene."""
    by_way = {"frame by frame": [told[0] for told in rows.values()]}
    by_way |= {variant.label: [told[1 + number] for told in rows.values()] for number, variant in enumerate(VARIANTS)}
    reference = by_way[REFERENCE.label]
    against = [f"{TITLES[SCORES.index(name)]} - reference" for name in BOUNDS]
    head = ["", "evaluations", "seconds", *TITLES, *against, "equal"]
    lines = [head, ["---"] * len(head), _line("frame by frame", "0", by_way["frame by frame"], [""] * 4)]
    for variant in sorted(VARIANTS, key=lambda variant: -variant.evaluations):
        told, said = by_way[variant.label], [""] * 4
        if variant != REFERENCE:
            differences = {name: _paired(told, reference, name) for name in BOUNDS}
            said = [*(f"{mean:+.2g} ± {error:.1g}" for mean, error in differences.values()), _verdict(differences)]
        label = f"**{variant.label}**" if variant == REFERENCE else variant.label
        lines.append(_line(label, str(variant.evaluations), told, said))
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _line(label: str, evaluations: str, told: Sequence[Mapping[str, float]], said: Sequence[str]) -> list[str]:
    means = metrics.average(told)
    return [label, evaluations, *(f"{means[name]:.3g}" for name in ("seconds", *SCORES)), *said]


def _paired(
    rows: Sequence[Mapping[str, float]], others: Sequence[Mapping[str, float]], score: str
) -> tuple[float, float]:
    """Mean difference over scenes and its standard error, which one scene does not have."""
    found = np.array([row[score] - other[score] for row, other in zip(rows, others, strict=True)])
    return float(found.mean()), float(found.std(ddof=1) / math.sqrt(len(found))) if len(found) > 1 else math.nan


def _verdict(differences: Mapping[str, tuple[float, float]]) -> str:
    """Whether a way is as good as the reference: "yes" and "no" hold two standard errors further on, too."""
    margins = [((mean - BOUNDS[name]) * math.copysign(1, -BOUNDS[name]), error)
               for name, (mean, error) in differences.items()]  # fmt: skip
    if any(margin + 2 * error < 0 for margin, error in margins):
        return "no"
    return "yes" if all(margin - 2 * error >= 0 for margin, error in margins) else "not known"


# Running


def gather(
    tasks: Sequence[str], scenes: range, ratio: float | None, state: Path | None
) -> dict[str, dict[str, list[dict[str, float]]]]:
    """Rows by task and scene; what `state` holds is not made again, and it is kept up to date."""
    rows: dict[str, dict[str, list[dict[str, float]]]] = {}
    if state and state.exists():
        rows = json.loads(state.read_text("utf-8"))
    manager = ModelManager(Settings.from_env())
    for scene in scenes:
        for task in tasks:
            mine = rows.setdefault(task, {})
            if str(scene) in mine:
                continue
            mine[str(scene)] = measure(case_of(task, scene, "toybox", mixing_ratio=ratio), manager)
            if state:
                part = state.with_suffix(".part")
                part.write_text(json.dumps(rows), "utf-8")
                part.replace(state)
            print(f"scene {scene}: {task} done", file=sys.stderr, flush=True)
    return rows


def main() -> int:
    """Measure what is missing, and print a table for each task; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--task", nargs="+", choices=TASKS, default=["control", "edit", "smooth"])
    parser.add_argument("--clips", type=int, default=8)
    parser.add_argument("--first-scene", type=int, default=200, help="away from the scenes that evaluate reports")
    parser.add_argument("--mixing-ratio", type=float, help="of the blends; default: the preset's")
    parser.add_argument("--state", type=Path, help="where rows are kept after each scene, to go on from")
    args = parser.parse_args()
    scenes = range(args.first_scene, args.first_scene + args.clips)
    try:
        rows = gather(args.task, scenes, args.mixing_ratio, args.state)
    except BIVDiffError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    told = {task: {scene: rows[task][str(scene)] for scene in scenes} for task in args.task}
    for task, found in told.items():
        print(f"### {TASKS[task].title}, {len(found)} scenes\n\n{table(found)}\n", flush=True)
    together = {(task, scene): scored for task, found in told.items() for scene, scored in found.items()}
    print(f"### Together, {len(together)} clips\n\n{table(together)}\n")
    print("Equal: it loses at most 0.1 dB and 2% of the sharpness and adds at most 0.1 levels of flicker; two standard "
          "errors further on, too.")  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
