"""Which training stages wait for which, how the minutes are shared among them, and how they run side by side."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import NamedTuple


class Part(NamedTuple):
    """A stage's part of a whole training.

    Attributes:
        share: of the time, beside the other stages'; 0 for one that takes what it takes.
        after: the stages whose results it reads.
    """

    share: float
    after: tuple[str, ...] = ()


# The video model is the heart; the autoencoder and the image model bound all the rest. Clips are rendered on the
# processor, so beside a card most of them come while the autoencoder learns. The decoder is done before others load it.
PARTS: Mapping[str, Part] = {
    "data": Part(6),
    "vae": Part(14, ("data",)),
    "more-data": Part(12, ("data",)),
    "latents": Part(0, ("vae", "more-data")),
    "text-to-image": Part(16, ("latents",)),
    "edits": Part(4, ("more-data",)),
    "vae-decoder": Part(8, ("latents",)),
    "text-to-video": Part(26, ("text-to-image", "vae-decoder")),
    "inpainting": Part(12, ("text-to-image", "vae-decoder", "edits")),
    "controlnet-canny": Part(12, ("text-to-image", "vae-decoder")),
    "instruct-pix2pix": Part(10, ("inpainting",)),
    "controlnet-depth": Part(9, ("text-to-image", "vae-decoder")),
    "t2i-adapter-canny": Part(8, ("text-to-image", "vae-decoder")),
    "t2i-adapter-depth": Part(8, ("text-to-image", "vae-decoder")),
    "depth-estimator": Part(3, ("more-data",)),
    "preview": Part(1, ("latents",)),
}


def minutes_of(parts: Mapping[str, Part], minutes: float, side_by_side: int) -> dict[str, float]:
    """The minutes of each stage with which all are done in `minutes`, `side_by_side` of them at a time."""
    unit = minutes / _length(parts, side_by_side)
    return {name: part.share * unit for name, part in parts.items()}


def _length(parts: Mapping[str, Part], side_by_side: int) -> float:
    """How long all of it takes, in shares."""
    now, done, begun = 0.0, set[str](), set[str]()
    running: list[tuple[float, str]] = []
    while len(done) < len(parts):
        for name in _ready(parts, done, begun):
            if len(running) < side_by_side:
                begun.add(name)
                heapq.heappush(running, (now + parts[name].share, name))
        now, finished = heapq.heappop(running)
        done.add(finished)
    return now


def _ready(parts: Mapping[str, Part], done: set[str], begun: set[str]) -> Iterator[str]:
    """Stages that may begin, in the order in which they are listed."""
    return (name for name, part in parts.items() if name not in begun and done.issuperset(part.after))


def run_parts(parts: Mapping[str, Part], side_by_side: int, carry_out: Callable[[str], bool]) -> list[str]:
    """Carry out all stages, each after those it waits for, `side_by_side` of them at a time.

    Args:
        parts: the stages.
        side_by_side: how many run at once.
        carry_out: runs a stage to its end, on a thread of its own; says whether it is done.

    Returns:
        The stages that are not done: those that failed, and those that waited for one.
    """
    done, begun = set[str](), set[str]()
    running: dict[Future[bool], str] = {}
    with ThreadPoolExecutor(side_by_side) as pool:
        while True:
            for name in list(_ready(parts, done, begun)):
                if len(running) < side_by_side:
                    begun.add(name)
                    running[pool.submit(carry_out, name)] = name
            if not running:
                return [name for name in parts if name not in done]
            finished, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                name = running.pop(future)
                if future.result():
                    done.add(name)
