"""Noise paths: how clean latents turn into noise, level by level, and how a walk goes there and back.

Latents on a path are x = signal * clean + noise * e. Diffusion models have signal^2 + noise^2 = 1, rectified flows
signal + noise = 1. Whatever a network predicts of x, it can be taken apart into clean latents and noise; the two at the
middle of a step say where the step leads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias

import torch
from diffusers import CogVideoXDDIMScheduler, DDIMInverseScheduler, DDIMScheduler, FlowMatchEulerDiscreteScheduler
from torch import Tensor

from bivdiff.bridge.guidance import Predict
from bivdiff.bridge.sampling import Step, step_through
from bivdiff.catalog.bridging import steps_walked

PredictionType: TypeAlias = Literal["epsilon", "v_prediction", "sample", "flow"]
FLOW_TIMESTEPS = 1000  # what rectified flows are told of a level is this many times its noise


class Level(NamedTuple):
    """How deep in noise latents are: the weights of the clean latents and of the noise in them."""

    signal: float
    noise: float

    @classmethod
    def of_alpha(cls, cumulative: float) -> Level:
        """That of a diffusion model's cumulative alpha."""
        return cls(cumulative**0.5, (1 - cumulative) ** 0.5)


def noise_in(latents: Tensor, clean: Tensor, level: Level) -> Tensor:
    """The noise under which latents lie at a level; all of one shape."""
    return (latents - level.signal * clean) / level.noise


def noised(clean: Tensor, noise: Tensor, level: Level) -> Tensor:
    """Clean latents under noise at a level; the inverse of `noise_in`."""
    return level.signal * clean + level.noise * noise


def at_level(latents: Tensor, clean: Callable[[], Tensor], level: Level, wanted: Level) -> Tensor:
    """Inverted latents at another noise level: the same clean latents under the same noise.

    Models with schedules of their own, and stages with other numbers of steps, end and begin at different levels. What
    an inversion finds is the noise under the clean latents, and these are known; so the noise is taken out and put
    over them again at the level wanted. For a linear blend at one level this changes nothing: what is blended is
    always noise.

    Args:
        latents: `(1, C, F, h, w)`, inverted as far as `level`.
        clean: gives the latents that were inverted; not asked where nothing changes.
        level, wanted: on any path.
    """
    if level == wanted:
        return latents
    start = clean()
    return noised(start, noise_in(latents, start, level), wanted)


class Known(NamedTuple):
    """Content of a clip that is kept: its clean `latents` `(1, C, F, h, w)`, and the `holes` in it.

    `holes`: bool, `(1, 1, F, h, w)`, True where the clip is made anew.
    """

    latents: Tensor
    holes: Tensor


class Path(Protocol):
    """The way of a model's latents into noise and back.

    Not here: what a network predicts (see `models.video`); `predict` gives it as the path takes it apart.
    """

    def level(self, num_steps: int, start_level: float = 1.0) -> Level:
        """Where inversion ends and denoising begins.

        Args:
            num_steps: of the whole schedule.
            start_level: share of it that is walked, from the clean end.
        """
        ...

    def up(self, predict: Predict, clean: Tensor, num_steps: int, start_level: float = 1.0) -> Iterator[Step]:
        """Invert clean latents as far as `level`; the last step has them."""
        ...

    def down(
        self, predict: Predict, latents: Tensor, num_steps: int, start_level: float = 1.0, known: Known | None = None
    ) -> Iterator[Step]:
        """Denoise latents from `level` to the clean end.

        Args:
            predict: what the network makes of latents at a timestep.
            latents: at `level`.
            num_steps, start_level: as for `level`.
            known: content that is put back after every step, under the noise that it has in `latents`.

        Source: Blended Latent Diffusion (arXiv:2206.02779) for known content; its noise is the clip's own here, so that
        what is kept and what is made agree.
        """
        ...


@dataclass(frozen=True)
class DiffusionPath:
    """DDIM there and back, as diffusers has it, over the levels of a DDIMScheduler that is left as it is.

    `predict` gives noise.

    Source: arXiv:2010.02502.
    """

    scheduler: Any

    def level(self, num_steps: int, start_level: float = 1.0) -> Level:
        """As in `Path`."""
        ddim = DDIMScheduler.from_config(self.scheduler.config)
        ddim.set_timesteps(num_steps)
        first = ddim.timesteps[num_steps - steps_walked(num_steps, start_level)]
        return Level.of_alpha(ddim.alphas_cumprod[first].item())

    def up(self, predict: Predict, clean: Tensor, num_steps: int, start_level: float = 1.0) -> Iterator[Step]:
        """As in `Path`."""
        inverse = DDIMInverseScheduler.from_config(self.scheduler.config)
        part = slice(steps_walked(num_steps, start_level))
        return step_through(predict, clean, inverse, num_steps, part=part)

    def down(
        self, predict: Predict, latents: Tensor, num_steps: int, start_level: float = 1.0, known: Known | None = None
    ) -> Iterator[Step]:
        """As in `Path`."""
        ddim = DDIMScheduler.from_config(self.scheduler.config)
        part = slice(num_steps - steps_walked(num_steps, start_level), None)
        put_back = None
        if known is not None:
            noise = noise_in(latents, known.latents, self.level(num_steps, start_level))
            put_back = partial(_put_back, known, noise, ddim)
        return step_through(predict, latents, ddim, num_steps, put_back, part)


def _put_back(known: Known, noise: Tensor, ddim: Any, clip: Tensor, timestep: Tensor | None) -> Tensor:
    """The clip with what is known around its holes: under the noise of a timestep, or clean where that is None."""
    at_this_noise = known.latents if timestep is None else ddim.add_noise(known.latents, noise, timestep)
    return torch.where(known.holes, clip, at_this_noise)


class Point(NamedTuple):
    """A place on a path, and the timestep that the network is told there."""

    level: Level
    timestep: float


class Schedule(Protocol):
    """The points of a path.

    Attributes:
        predicts: what the network predicts there.
    """

    @property
    def predicts(self) -> PredictionType:
        """As above."""
        ...

    def points(self, num_steps: int) -> list[Point]:
        """From clean latents to the deepest noise, one more than steps."""
        ...

    def between(self, one: Point, other: Point) -> Point:
        """The point in the middle of two."""
        ...


@dataclass(frozen=True)
class FlowSchedule:
    """A rectified flow's: evenly spaced noise, shifted towards its deep end.

    Attributes:
        shift: 1 is evenly spaced; 3 and 5 are usual for videos.
    """

    shift: float = 1.0
    predicts: PredictionType = "flow"

    def points(self, num_steps: int) -> list[Point]:
        """As in `Schedule`."""
        shares = [step / num_steps for step in range(num_steps + 1)]
        return [self._at(self.shift * share / (1 + (self.shift - 1) * share)) for share in shares]

    def between(self, one: Point, other: Point) -> Point:
        """As in `Schedule`."""
        return self._at((one.level.noise + other.level.noise) / 2)

    def _at(self, noise: float) -> Point:
        return Point(Level(1 - noise, noise), FLOW_TIMESTEPS * noise)


@dataclass(frozen=True)
class DiscreteSchedule:
    """A diffusion model's, its timesteps counted back from the last: so it may end in nothing but noise.

    Attributes:
        alphas: the cumulative alpha of every timestep.
    """

    alphas: tuple[float, ...]
    predicts: PredictionType

    def points(self, num_steps: int) -> list[Point]:
        """As in `Schedule`."""
        every = len(self.alphas)
        timesteps = [round(every - step * every / num_steps) - 1 for step in range(num_steps)]
        return [self._at(timestep) for timestep in (-1, *reversed(timesteps))]

    def between(self, one: Point, other: Point) -> Point:
        """As in `Schedule`; of two neighbours the noisier one, since the network knows no clean latents."""
        return self._at(-(-int(one.timestep + other.timestep) // 2))

    def _at(self, timestep: int) -> Point:
        return Point(Level.of_alpha(self.alphas[timestep]) if timestep >= 0 else Level(1.0, 0.0), timestep)


class Parts(NamedTuple):
    """What latents are made of, as a network sees it."""

    clean: Tensor
    noise: Tensor


def taken_apart(predicted: Tensor, latents: Tensor, level: Level, predicts: PredictionType) -> Parts:
    """Clean latents and noise of what a network predicts.

    Velocities are sound at every level, also where nothing of the clean latents is left; noise is not there, nor are
    clean latents where there is no noise.

    Args:
        predicted: by the network; shaped as the latents.
        latents: that it was shown.
        level: of the latents.
        predicts: "epsilon" noise, "sample" clean latents, "v_prediction" signal times noise less noise times clean,
            "flow" noise less clean.

    Source: v: arXiv:2202.00512, appendix D; flow: arXiv:2209.03003.
    """
    signal, noise = level
    if predicts == "epsilon":
        return Parts((latents - noise * predicted) / signal, predicted)
    if predicts == "sample":
        return Parts(predicted, (latents - signal * predicted) / noise)
    if predicts == "v_prediction":
        return Parts(signal * latents - noise * predicted, noise * latents + signal * predicted)
    whole = signal + noise
    return Parts((latents - noise * predicted) / whole, (latents + signal * predicted) / whole)


@dataclass(frozen=True)
class MidpointPath:
    """Steps of second order at one evaluation each: what the last one found leads to the middle of the next.

    Clean latents lie under no noise, so what is expected of it there is 0; no network is asked where it was never
    trained.

    Source: FireFlow (arXiv:2412.07517), here for every path.
    """

    schedule: Schedule

    def level(self, num_steps: int, start_level: float = 1.0) -> Level:
        """As in `Path`."""
        return self._points(num_steps, start_level)[-1].level

    def up(self, predict: Predict, clean: Tensor, num_steps: int, start_level: float = 1.0) -> Iterator[Step]:
        """As in `Path`."""
        return self._walk(predict, clean, Parts(clean, torch.zeros_like(clean)), self._points(num_steps, start_level))

    def down(
        self, predict: Predict, latents: Tensor, num_steps: int, start_level: float = 1.0, known: Known | None = None
    ) -> Iterator[Step]:
        """As in `Path`; its first step asks twice, since nothing was found before."""
        points = self._points(num_steps, start_level)[::-1]
        correct = None
        if known is not None:
            correct = partial(_kept, known, Parts(known.latents, noise_in(latents, known.latents, points[0].level)))
        return self._walk(predict, latents, None, points, correct)

    def _points(self, num_steps: int, start_level: float) -> list[Point]:
        return self.schedule.points(num_steps)[: steps_walked(num_steps, start_level) + 1]

    def _walk(
        self, predict: Predict, latents: Tensor, found: Parts | None, points: list[Point],
        correct: Callable[[Tensor, Parts, Level], tuple[Tensor, Parts]] | None = None,
    ) -> Iterator[Step]:  # fmt: skip
        def asked(shown: Tensor, point: Point) -> Parts:
            timestep = torch.tensor(point.timestep, device=shown.device)
            return taken_apart(predict(shown, timestep), shown, point.level, self.schedule.predicts)

        for number, (start, end) in enumerate(pairwise(points), 1):
            found = asked(latents, start) if found is None else found
            middle = self.schedule.between(start, end)
            found = asked(moved(latents, found, start.level, middle.level), middle)
            latents = moved(latents, found, start.level, end.level)
            if correct is not None:
                latents, found = correct(latents, found, end.level)
            yield Step(number, len(points) - 1, latents, found.clean)


def moved(latents: Tensor, parts: Parts, start: Level, end: Level) -> Tensor:
    """Latents at another level, on the straight way that their parts lead."""
    return latents + (end.signal - start.signal) * parts.clean + (end.noise - start.noise) * parts.noise


def _kept(known: Known, own: Parts, latents: Tensor, found: Parts, level: Level) -> tuple[Tensor, Parts]:
    """Latents and their parts with what is known around the holes."""
    kept = (torch.where(known.holes, made, of_known) for made, of_known in zip(found, own, strict=True))
    return torch.where(known.holes, latents, noised(*own, level)), Parts(*kept)


def path_of(scheduler: Any) -> Path:
    """The path of a model's scheduler, as its loader gives it."""
    if isinstance(scheduler, FlowMatchEulerDiscreteScheduler):
        return MidpointPath(FlowSchedule(scheduler.config.shift))
    if isinstance(scheduler, CogVideoXDDIMScheduler):
        alphas = tuple(scheduler.alphas_cumprod.tolist())
        return MidpointPath(DiscreteSchedule(alphas, scheduler.config.prediction_type))
    return DiffusionPath(scheduler)
