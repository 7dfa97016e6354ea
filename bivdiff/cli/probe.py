"""`probe`: say what is seen in a file."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from bivdiff.cli.flags import help_of
from bivdiff.fields import table
from bivdiff.media.reading import open_source, sound_of
from bivdiff.media.source import LIMITS, damaged
from bivdiff.pixels.markings import MarkingFinder
from bivdiff.settings import Settings
from bivdiff.studio.form import SourceForm

LOOKED_AT = 16  # frames, spread over a clip, that are looked at


def add_probe_command(commands: Any) -> None:
    """Add the command and its flags to the parser's commands."""
    probe = commands.add_parser(
        "probe", help="say what is seen in a file",
        description="Say what is seen in a clip, a picture, or a folder, a pattern or a zip of pictures: size, rate, "
        "frames, colours, transparency, and what it would mark as a mask.",
    )  # fmt: skip
    probe.add_argument("file", type=Path, help=help_of(table(SourceForm)["video"]))
    probe.add_argument("--json", action="store_true", help="print the report as JSON")
    probe.set_defaults(carry_out=probe_command)


def probe_command(args: argparse.Namespace, _: Settings) -> dict[str, Any]:
    """Say what is seen in a file."""
    source = open_source(args.file, LIMITS)
    count = len(source.seconds)
    looked_at = np.unique(np.linspace(0, count - 1, LOOKED_AT).astype(int))
    source = source.used(looked_at.tolist())
    finder, alphas = MarkingFinder(), []
    for frame in source.frames(looked_at.tolist(), deep=True):
        finder.add(frame)
        alphas.append(frame[..., 3])
    if not alphas:
        raise damaged(source.name)
    notes, seen = list(source.notes), looked_at[: len(alphas)]
    if len(seen) < len(looked_at):
        last, lost = source.seconds[[seen[-1], looked_at[len(seen)]]] - source.seconds[0]
        notes.append(
            f"{source.name} can be decoded up to {last:.2f} s, and at {lost:.2f} s no longer: it is damaged, or was "
            "not copied whole. What is said here is of the frames before."
        )
    marking = finder.found()
    shares = [float(marking.marked(frame).mean()) for frame in source.frames(seen.tolist(), deep=True)]
    sound = sound_of(source, 0, 1)
    return {
        "kind": source.kind,
        "width": source.width,
        "height": source.height,
        "num_frames": source.frames_from(0),
        "fps": source.fps,
        "rate": "its own" if source.timed else "none of its own",
        "seconds": source.duration,
        **source.facts,
        "transparency": _of_alpha(np.concatenate([alpha.ravel() for alpha in alphas])),
        "sound": "yes" if sound else "no",
        "as_a_mask": " ".join(
            [
                f"Marks {100 * float(np.mean(shares)):.3g} % of the picture.",
                *(f"It {words}" for words in marking.words()),
            ]
        ),
        "marked": float(np.mean(shares)),
        "notes": " ".join(notes) or "none",
    }


def _of_alpha(alpha: np.ndarray) -> str:
    low, high = int(alpha.min()), int(alpha.max())
    if low == high:
        return "none" if low == 65535 else "the same everywhere"
    return f"{100 * float((alpha < 65535).mean()):.3g} % of the picture"
