"""The sample clips that ship with the app: `python -m bivdiff.toybox.clips` renders them into `assets/clips`."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from bivdiff.errors import InputError
from bivdiff.media.sheets import sprite_sheet
from bivdiff.media.writing import write_mp4
from bivdiff.settings import ASSETS
from bivdiff.toybox import data, world
from bivdiff.toybox.flicker import flickering
from bivdiff.toybox.world import Scene, Solid

CLIPS_FOLDER = ASSETS / "clips"
SIZE = 128
INDEX = "index.json"
SHEET_QUALITY = 80


@dataclass(frozen=True)
class Sample:
    """A scene and what to try on it.

    Attributes:
        scene: what the clip shows. The first solid moves.
        colors, floor: of the scene that `prompt` describes; shapes, motion and light stay.
        instruction: for instruction-driven editing, in words that `world.edit` understands.
    """

    scene: Scene
    colors: tuple[str, ...]
    floor: str
    instruction: str

    @property
    def prompted(self) -> Scene:
        """The truth of a control task with the clip's prompt: the same geometry in other colours."""
        solids = (replace(solid, color=color) for solid, color in zip(self.scene.solids, self.colors, strict=True))
        return replace(self.scene, solids=tuple(solids), floor=self.floor)

    @property
    def erased(self) -> Scene:
        """The scene without its moving object."""
        return world.without(self.scene)


@dataclass(frozen=True)
class SampleClip:
    """A shipped clip.

    Attributes:
        name: short and unique, fit for a label.
        file: the clip, mp4.
        caption: what it shows.
        prompt: a new look for controllable generation.
        instruction: an edit to ask for.
        erased: what the clip would show without its moving object.
        masks: the moving object, mp4: white inside, black outside, to be read with a threshold at 128.
        depth: the control maps of its depth, mp4: near is white.
        flickering: the clip, mp4, each of whose frames flickers on its own: what there is to be smoothed.
        sheets: of the clips in `SHOWN`, what a page shows of them before any is read, json by name.
    """

    name: str
    file: Path
    caption: str
    prompt: str
    instruction: str
    erased: str
    masks: Path
    depth: Path
    flickering: Path
    sheets: Path


SHOWN = ("file", "flickering")
_FILES = ("file", "masks", "depth", "flickering", "sheets")


# Pairs of colour and shape that training leaves out (`world.HELD_OUT`) would make a poor first impression.
SAMPLES = {
    "bouncing ball": Sample(
        Scene(
            (Solid("sphere", "red", -0.76, 0.2, 0.74), Solid("cube", "blue", 0.92, 0.7, 0.74, 0.5)),
            "jumps",
            "grey",
            "noon",
        ),
        ("yellow", "pink"),
        "green",
        "make the cube yellow",
    ),
    "evening drive": Sample(
        Scene(
            (Solid("cube", "yellow", -1.05, -0.5, 0.62, 0.35), Solid("sphere", "purple", 0.9, 1.2, 0.82)),
            "right",
            "blue",
            "sunset",
        ),
        ("white", "red"),
        "brown",
        "make it night",
    ),
    "moonlit chess": Sample(
        Scene(
            (Solid("cylinder", "white", 1.1, -0.4, 0.66), Solid("cone", "red", -0.85, 1.1, 0.84)),
            "left",
            "blue",
            "night",
        ),
        ("green", "white"),
        "pink",
        "turn the cone into a sphere",
    ),
    "setting out": Sample(
        Scene(
            (Solid("cylinder", "orange", 0.65, -0.7, 0.72), Solid("cone", "white", -0.85, 0.6, 0.8)),
            "away",
            "green",
            "noon",
        ),
        ("blue", "yellow"),
        "grey",
        "remove the cone",
    ),
    "sunset visit": Sample(
        Scene(
            (Solid("cube", "blue", -0.75, 1.4, 0.74, 0.6), Solid("sphere", "orange", 0.9, 0.5, 0.72)),
            "closer",
            "brown",
            "sunset",
        ),
        ("red", "white"),
        "green",
        "make the sphere white",
    ),
    "pink jump": Sample(
        Scene((Solid("sphere", "pink", 0.0, 0.3, 0.8),), "jumps", "green", "noon"),
        ("blue",),
        "pink",
        "make the sphere orange",
    ),
    "white cube": Sample(
        Scene((Solid("cube", "white", -0.7, 0.1, 0.8, 0.45),), "right", "grey", "sunset"),
        ("red",),
        "green",
        "turn the cube into a sphere",
    ),
    "night hop": Sample(
        Scene(
            (Solid("cylinder", "red", 0.78, 0.3, 0.68), Solid("cube", "white", -0.84, 0.5, 0.76, 0.3)),
            "jumps",
            "green",
            "night",
        ),
        ("white", "pink"),
        "blue",
        "make it noon",
    ),
    "passing by": Sample(
        Scene(
            (Solid("cone", "green", 1.1, -0.5, 0.68), Solid("cube", "pink", -0.6, 1.2, 0.82, 0.7)),
            "left",
            "blue",
            "noon",
        ),
        ("white", "orange"),
        "brown",
        "make the cone red",
    ),
    "homecoming": Sample(
        Scene((Solid("cone", "yellow", 0.1, 1.6, 0.82),), "closer", "pink", "sunset"),
        ("blue",),
        "grey",
        "make the floor blue",
    ),
}


def load_index(folder: Path = CLIPS_FOLDER) -> tuple[SampleClip, ...]:
    """The shipped clips in the order of the index, with whole paths.

    Raises:
        InputError: the folder has no readable index.
    """
    try:
        entries = json.loads((folder / INDEX).read_text("utf-8"))
        return tuple(SampleClip(**{**entry, **{name: folder / entry[name] for name in _FILES}}) for entry in entries)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(
            f"The sample clips have no readable {INDEX}. Run 'python -m bivdiff.toybox.clips' to render them again."
        ) from error


def write_clips(folder: Path = CLIPS_FOLDER) -> None:
    """Render every sample into `folder`, with its masks, depth, flicker and sheets, and the index.

    The same code gives the same bytes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    entries = [asdict(_write(folder, *item, seed)) for seed, item in enumerate(SAMPLES.items())]
    text = json.dumps(entries, indent=2, default=lambda path: path.name)
    (folder / INDEX).write_text(text + "\n", "utf-8")


def _write(folder: Path, name: str, sample: Sample, seed: int) -> SampleClip:
    rendering = world.render(sample.scene, SIZE, SIZE)
    stem = name.replace(" ", "-")
    clip = SampleClip(
        name=name,
        file=folder / f"{stem}.mp4",
        caption=sample.scene.caption,
        prompt=sample.prompted.caption,
        instruction=sample.instruction,
        erased=sample.erased.caption,
        masks=folder / f"{stem}-masks.mp4",
        depth=folder / f"{stem}-depth.mp4",
        flickering=folder / f"{stem}-flickering.mp4",
        sheets=folder / f"{stem}-sheets.json",
    )
    depth = np.rint(data.depth_maps(data.inverse_depth(rendering.depth))).astype(np.uint8)
    frames = {"file": rendering.frames, "flickering": flickering(rendering.frames, seed)}
    for field in SHOWN:
        write_mp4(getattr(clip, field), frames[field], world.FPS)
    sheets = {field: sprite_sheet(_middle(frames[field]), lossless=False, quality=SHEET_QUALITY) for field in SHOWN}
    clip.sheets.write_text(json.dumps(sheets) + "\n", "utf-8")
    for file, maps in ((clip.masks, rendering.masks[0]), (clip.depth, depth)):
        write_mp4(file, np.repeat(maps[..., None], 3, axis=-1), world.FPS)
    return clip


def _middle(frames: np.ndarray) -> np.ndarray:
    """What a strip shows of a clip: the middle two thirds of its height."""
    cut = frames.shape[1] // 6
    return frames[:, cut:-cut]


def build_parser() -> argparse.ArgumentParser:
    """The command's options."""
    parser = argparse.ArgumentParser(prog="python -m bivdiff.toybox.clips", description="Render the sample clips.")
    parser.add_argument("--folder", type=Path, default=CLIPS_FOLDER, help="where to (default: assets/clips)")
    return parser


if __name__ == "__main__":
    write_clips(build_parser().parse_args().folder)
