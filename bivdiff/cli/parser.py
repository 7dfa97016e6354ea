"""The parser of all commands; each command adds itself."""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import Any

from bivdiff.cli.arguments import Parser
from bivdiff.cli.batch import add_batch_command
from bivdiff.cli.bench import add_bench_command
from bivdiff.cli.compare import add_compare_command
from bivdiff.cli.evaluate import add_evaluate_command
from bivdiff.cli.models import add_models_commands
from bivdiff.cli.output import report_as_text
from bivdiff.cli.probe import add_probe_command
from bivdiff.cli.run import add_run_command
from bivdiff.settings import Settings


class _Version(argparse.Action):
    """Prints the start-up line, which wants torch, and ends."""

    def __init__(self, **options: Any) -> None:
        super().__init__(nargs=0, **options)

    def __call__(self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, *_: Any) -> None:
        from bivdiff.models.startup import startup_line

        settings = Settings.from_env()
        print(startup_line(replace(settings, device=namespace.device) if namespace.device else settings))
        parser.exit()


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands. What it returns carries a command out: `args.carry_out(args, settings)`."""
    parser = Parser(
        prog="python -m bivdiff",
        description="Make a video with an image diffusion model, bridged to a video model by Mixed Inversion.",
    )
    parser.add_argument("--device", help="auto, cpu, cuda or mps (default: auto, or BIVDIFF_DEVICE)")
    parser.add_argument("--version", action=_Version, help="say what computes here, and with which versions")
    parser.set_defaults(as_text=report_as_text)
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    for add in (
        add_run_command, add_compare_command, add_batch_command, add_evaluate_command, add_bench_command,
        add_models_commands, add_probe_command,
    ):  # fmt: skip
        add(commands)
    return parser
