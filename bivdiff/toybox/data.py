"""The toybox's training set: rendered once into memory-mapped arrays, with the captions training reads.

In it: the shards of clips under the training folder, and captions worded the many ways people may word them.
Not in it: what a scene is (world.py), the training loops (train.py).
"""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np

from bivdiff.toybox import world

SIZE = 128
NUM_FRAMES = world.NUM_FRAMES
SHARD_CLIPS = 100
_NEAREST = 1.8  # metres: closer than anything in the world, so that inverse depth stays below 1

SYNONYMS = {
    "sphere": ("ball",),
    "cube": ("box", "block"),
    "cylinder": ("can", "pillar"),
    "cone": ("pyramid",),
    "grey": ("gray",),
    "floor": ("ground",),
    "moves left": ("slides left", "moving left", "going left"),
    "moves right": ("slides right", "moving right", "going right"),
    "jumps": ("hops", "jumping", "bouncing"),
    "comes closer": ("approaches", "coming closer"),
    "goes away": ("moves away", "going away"),
    "stands still": ("rests", "standing still", "not moving"),
    "next to": ("beside", "and"),
    "at noon": ("at midday", "in daylight", "on a sunny day"),
    "at sunset": ("at dusk", "in the evening"),
    "at night": ("at midnight", "in the dark", "in moonlight"),
}
_PREFIXES = ("a video of ", "a photo of ", "a picture of ", "a render of ", "there is ")
_SUFFIXES = (", best quality", ", highly detailed", ", beautiful", ", soft light", ", 3d render")
_LETTERS = np.array(list("abcdefghijklmnopqrstuvwxyz"))


def vocabulary() -> list[str]:
    """Every word that occurs in a training caption: the words the toybox knows."""
    phrases = [*world.SHAPES, *world.COLORS, *world.FLOORS, *world.TIMES, *world.MOTIONS.values(), *SYNONYMS]
    phrases += [other for others in SYNONYMS.values() for other in others] + [
        *_PREFIXES,
        *_SUFFIXES,
        "nothing on an at",
    ]
    return sorted({word for phrase in phrases for word in phrase.replace(",", " ").split()})


def reworded(scene: world.Scene, rng: np.random.Generator, still: bool = False) -> str:
    """A training caption: usually the scene's own, sometimes with synonyms, parts left out or strange words put in.

    Args:
        scene: what to describe.
        rng: decides the wording.
        still: the picture shows one moment, so the motion is left out more often.
    """
    caption = scene.caption
    if rng.random() < (0.55 if still else 0.1):
        caption = caption.replace(f" {world.MOTIONS[scene.motion]}", "", 1)
    if rng.random() < 0.08:
        caption = caption.replace(f" on a {scene.floor} floor", "")
    if rng.random() < 0.08:
        caption = caption.replace(f" at {scene.time}", "")
    if rng.random() < 0.35:
        for phrase, others in SYNONYMS.items():
            if phrase in caption and rng.random() < 0.5:
                caption = caption.replace(phrase, str(rng.choice(others)))
    if rng.random() < 0.15:
        caption = str(rng.choice(_PREFIXES)) + caption
    if rng.random() < 0.1:
        caption += str(rng.choice(_SUFFIXES))
    if rng.random() < 0.05:  # an unknown word must not upset the rest of the sentence
        words = caption.split()
        words.insert(int(rng.integers(len(words) + 1)), "".join(rng.choice(_LETTERS, rng.integers(3, 9))))
        caption = " ".join(words)
    return caption


def inverse_depth(depth: np.ndarray) -> np.ndarray:
    """Depth in metres to uint8 inverse depth of the same shape: 255 is nearest, 0 the sky."""
    return (255 * np.clip(_NEAREST / depth, 0, 1) + 0.5).astype(np.uint8)


def render_shards(folder: Path, clips: int, workers: int) -> None:
    """Render training clips `0..clips-1` into `folder`; shards already there are kept."""
    folder.mkdir(parents=True, exist_ok=True)
    missing = [n for n in range(clips // SHARD_CLIPS) if not (folder / f"depth-{n:04}.npy").exists()]
    with ProcessPoolExecutor(workers) as pool:
        for number in pool.map(_render_shard, [folder] * len(missing), missing):
            print(f"rendered clips {number * SHARD_CLIPS} to {(number + 1) * SHARD_CLIPS - 1}", flush=True)


class Clips:
    """The rendered clips of a folder, opened without being read.

    Attributes:
        frames: one uint8 array `(SHARD_CLIPS, F, H, W, 3)` per shard.
        depths: one uint8 array `(SHARD_CLIPS, F, H, W)` of inverse depth per shard.
        scenes: the scene of every clip.
    """

    def __init__(self, folder: Path) -> None:
        numbers = sorted(int(path.stem.split("-")[1]) for path in folder.glob("depth-*.npy"))
        if not numbers:
            raise FileNotFoundError(f"No training clips in {folder}; run --stage data first.")
        self.numbers = numbers
        self.frames = [np.load(folder / f"frames-{n:04}.npy", mmap_mode="r") for n in numbers]
        self.depths = [np.load(folder / f"depth-{n:04}.npy", mmap_mode="r") for n in numbers]
        self.scenes = [world.sample_scene(n * SHARD_CLIPS + i) for n in numbers for i in range(SHARD_CLIPS)]

    def __len__(self) -> int:
        return len(self.scenes)


def _render_shard(folder: Path, number: int) -> int:
    clips = [world.render(world.sample_scene(number * SHARD_CLIPS + i), SIZE, SIZE) for i in range(SHARD_CLIPS)]
    _save(folder / f"frames-{number:04}.npy", np.stack([clip.frames for clip in clips]))
    _save(folder / f"depth-{number:04}.npy", np.stack([inverse_depth(clip.depth) for clip in clips]))
    return number


def _save(path: Path, array: np.ndarray) -> None:
    partial = path.with_suffix(".partial.npy")
    np.save(partial, array)
    partial.replace(path)  # a reader never meets half a file
