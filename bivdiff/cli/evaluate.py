"""`evaluate`: score a task against the toybox world."""

from __future__ import annotations

import argparse
from typing import Any

from bivdiff.cli.filling import controls_of
from bivdiff.cli.flags import add_request_flags, changes_of
from bivdiff.cli.output import note
from bivdiff.cli.planning import manager_of
from bivdiff.settings import Settings


def add_evaluate_command(commands: Any) -> None:
    """Add the command and its flags to the parser's commands."""
    score = commands.add_parser(
        "evaluate", help="score a task against the toybox world",
        description="Run a task on evaluation scenes, whose right answer is known, and score the clips.",
    )  # fmt: skip
    score.add_argument("--clips", type=int, default=24, help="number of scenes (default: 24)")
    score.add_argument("--first-scene", type=int, default=0, help="number of the first scene (default: 0)")
    add_request_flags(score)
    score.set_defaults(carry_out=evaluate_command)


def evaluate_command(args: argparse.Namespace, settings: Settings) -> dict[str, Any]:
    """Score a task."""
    from bivdiff.evaluate.evaluation import evaluate

    changes = {**changes_of(args), "controls": controls_of(args)}
    return evaluate(args.task, args.family, args.clips, args.first_scene, manager_of(settings), note, **changes)
