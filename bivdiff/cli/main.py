"""The same jobs without a browser: `python -m bivdiff run | compare | batch | evaluate | bench | models`."""

from __future__ import annotations

import sys
from dataclasses import replace

from bivdiff.catalog.families import extend
from bivdiff.cli.output import print_report
from bivdiff.cli.parser import build_parser
from bivdiff.errors import BIVDiffError, StoppedError
from bivdiff.settings import Settings

INTERRUPTED = 130  # the exit status of what Ctrl+C has ended


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    try:
        settings = Settings.from_env()
        if settings.catalog:
            extend(settings.catalog)  # before the flags, whose choices come from the catalog
        args = build_parser().parse_args(arguments)
        if args.device:
            settings = replace(settings, device=args.device)
        report = args.carry_out(args, settings)
    except StoppedError as error:
        print(error, file=sys.stderr)
        return INTERRUPTED
    except BIVDiffError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Stopped. Nothing was written.", file=sys.stderr)
        return INTERRUPTED
    print_report(report, args.json, args.as_text)
    return 1 if report.get("wrong") else 0
