"""The toybox's training set: rendered once into memory-mapped arrays, with the captions training reads."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from math import inf
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


def draw_instruction(scene: world.Scene, rng: np.random.Generator) -> str:
    """An instruction for `world.edit` that changes the scene, and makes no pair that is held out of training."""
    kind = rng.choice(["color", "shape", "time", "floor", "remove"], p=[0.28, 0.2, 0.16, 0.14, 0.22])
    index = int(rng.integers(len(scene.solids)))
    solid = scene.solids[index]
    named = f"{solid.color} {solid.shape}" if rng.random() < 0.4 else solid.shape
    if kind == "color":
        colors = [c for c in world.COLORS if c != solid.color and (c, solid.shape) not in world.HELD_OUT]
        return f"make the {named} {rng.choice(colors)}"
    if kind == "shape":
        shapes = [s for s in world.SHAPES if s != solid.shape and (solid.color, s) not in world.HELD_OUT]
        return f"turn the {named} into a {rng.choice(shapes)}"
    if kind == "time":
        return f"make it {rng.choice([time for time in world.TIMES if time != scene.time])}"
    if kind == "floor":
        return f"make the floor {rng.choice([floor for floor in world.FLOORS if floor != scene.floor])}"
    return f"remove the {named}"


def inverse_depth(depth: np.ndarray) -> np.ndarray:
    """Depth in metres to uint8 inverse depth of the same shape: 255 is nearest, 0 the sky."""
    return (255 * np.clip(_NEAREST / depth, 0, 1) + 0.5).astype(np.uint8)


def depth_maps(inverse: np.ndarray) -> np.ndarray:
    """The control maps of a clip's inverse depth, float32 of its shape: its whole range stretched over 0 to 255."""
    inverse = inverse.astype(np.float32)
    return (inverse - inverse.min()) * (255 / np.ptp(inverse))


def render_shards(folder: Path, clips: int, workers: int, num_frames: int = NUM_FRAMES, minutes: float = inf) -> None:
    """Render training clips `0..clips-1` into `folder`, as many as the minutes allow; shards already there are kept."""
    folder.mkdir(parents=True, exist_ok=True)
    missing = [n for n in range(clips // SHARD_CLIPS) if not (folder / f"depth-{n:04}.npy").exists()]
    for number in _in_time(partial(_render_shard, folder, num_frames=num_frames), missing, workers, minutes):
        print(f"rendered clips {number * SHARD_CLIPS} to {(number + 1) * SHARD_CLIPS - 1}", flush=True)


def _in_time(render: Callable[[int], int], numbers: list[int], workers: int, minutes: float) -> Iterator[int]:
    """Render shards in waves of one per worker while the next wave will be done in time; at least one wave."""
    begun = time.monotonic()
    with ProcessPoolExecutor(workers) as pool:
        for start in range(0, len(numbers), workers):
            wave = time.monotonic()
            yield from pool.map(render, numbers[start : start + workers])
            now = time.monotonic()
            if now + (now - wave) > begun + 60 * minutes:
                return


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


def render_edits(folder: Path, clips: Clips, edits: int, workers: int, minutes: float = inf) -> None:
    """Render edits `0..edits-1` of a clip's frame into `folder`, as many as the minutes allow; shards stay."""
    folder.mkdir(parents=True, exist_ok=True)
    missing = [n for n in range(edits // SHARD_CLIPS) if not (folder / f"removed-{n:04}.npy").exists()]
    for number in _in_time(partial(_render_edit_shard, folder, clips=len(clips)), missing, workers, minutes):
        print(f"rendered edits {number * SHARD_CLIPS} to {(number + 1) * SHARD_CLIPS - 1}", flush=True)


class Edits:
    """Edited frames of training clips: what an instruction makes of one moment of a clip.

    Attributes:
        frames: uint8 `(N, H, W, 3)`, after the edit.
        removed: uint8 `(N, H, W)`, 255 where the solid stood that the edit removed.
        removals: the numbers of the edits that remove a solid.
        clip_indices, moments: clip and frame before the edit.
        instructions: what was asked.
    """

    def __init__(self, folder: Path, clips: Clips) -> None:
        numbers = sorted(int(path.stem.split("-")[1]) for path in folder.glob("removed-*.npy"))
        if not numbers:
            raise FileNotFoundError(f"No edited frames in {folder}; run --stage edits first.")
        self._clips = clips
        self.frames = np.concatenate([np.load(folder / f"frames-{n:04}.npy") for n in numbers])
        self.removed = np.concatenate([np.load(folder / f"removed-{n:04}.npy") for n in numbers])
        drawn = [_draw_edit(n * SHARD_CLIPS + i, len(clips)) for n in numbers for i in range(SHARD_CLIPS)]
        self.clip_indices, self.moments = (np.array([edit[part] for edit in drawn]) for part in (0, 1))
        self.instructions = [edit[2] for edit in drawn]
        self.removals = np.flatnonzero(self.removed.any((1, 2)))

    def __len__(self) -> int:
        return len(self.frames)

    def source(self, number: int) -> np.ndarray:
        """The frame before an edit, uint8 `(H, W, 3)`."""
        index = self.clip_indices[number]
        return self._clips.frames[index // SHARD_CLIPS][index % SHARD_CLIPS, self.moments[number]]

    def edited_scene(self, number: int) -> world.Scene:
        """The scene after an edit."""
        return world.edit(self._clips.scenes[self.clip_indices[number]], self.instructions[number])

    def wording(self, number: int, rng: np.random.Generator) -> str:
        """The instruction of an edit, sometimes with synonyms."""
        instruction = self.instructions[number]
        for phrase, others in SYNONYMS.items():
            if rng.random() < 0.15 and re.search(rf"\b{phrase}\b", instruction):
                instruction = instruction.replace(phrase, str(rng.choice(others)))
        return instruction


def _draw_edit(number: int, clips: int) -> tuple[int, int, str]:
    """Clip, moment and instruction of an edit."""
    rng = np.random.default_rng((number, 7))
    index, moment = int(rng.integers(clips)), int(rng.integers(NUM_FRAMES))
    return index, moment, draw_instruction(world.sample_scene(index), rng)


def _render_edit_shard(folder: Path, number: int, clips: int) -> int:
    frames, removed = [], []
    for edit in range(number * SHARD_CLIPS, (number + 1) * SHARD_CLIPS):
        index, moment, instruction = _draw_edit(edit, clips)
        scene, t = world.sample_scene(index), float(np.linspace(0.0, 1.0, NUM_FRAMES)[moment])
        after = world.edit(scene, instruction)
        frames.append(world.render_frame(after, t, SIZE, SIZE)[0])
        mask = np.zeros((SIZE, SIZE), np.uint8)
        if len(after.solids) < len(scene.solids):
            gone = next(i for i, solid in enumerate(scene.solids) if solid not in after.solids)
            mask = world.render_frame(scene, t, SIZE, SIZE)[2][gone]
        removed.append(mask)
    _save(folder / f"frames-{number:04}.npy", np.stack(frames))
    _save(folder / f"removed-{number:04}.npy", np.stack(removed))
    return number


def _render_shard(folder: Path, number: int, num_frames: int) -> int:
    seeds = range(number * SHARD_CLIPS, (number + 1) * SHARD_CLIPS)
    clips = [world.render(world.sample_scene(seed), SIZE, SIZE, num_frames) for seed in seeds]
    _save(folder / f"frames-{number:04}.npy", np.stack([clip.frames for clip in clips]))
    _save(folder / f"depth-{number:04}.npy", np.stack([inverse_depth(clip.depth) for clip in clips]))
    return number


def _save(path: Path, array: np.ndarray) -> None:
    partial = path.with_suffix(".partial.npy")
    np.save(partial, array)
    partial.replace(path)  # a reader never meets half a file
