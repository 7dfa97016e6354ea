"""`models`: list, show, pull or check models."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from bivdiff.catalog.families import FAMILIES
from bivdiff.cli.output import Progress, hide_bars_of_libraries, note
from bivdiff.errors import StoppedError
from bivdiff.settings import Settings
from bivdiff.units import say_bytes

if TYPE_CHECKING:
    from bivdiff.models.inventory import Entry


def add_models_commands(commands: Any) -> None:
    """Add the commands and their flags to the parser's commands."""
    models = commands.add_parser(
        "models", help="list, show, pull or check models",
        description="What models there are, where they are, and whether their files are whole.",
    )  # fmt: skip
    actions = models.add_subparsers(dest="action", required=True, metavar="action")
    listed = actions.add_parser("list", help="all of them in a table", description="All models in a table.")
    listed.add_argument("--family", choices=FAMILIES, help="those of one family alone")
    listed.set_defaults(carry_out=_list_models, as_text=_models_as_table)
    shown = actions.add_parser("show", help="all that is known of one", description="All that is known of a model.")
    shown.add_argument("name", metavar="KEY", help="as in the list, such as sd15/controlnet-canny")
    shown.set_defaults(carry_out=_show_model, as_text=_models_in_full)
    names = {"metavar": "NAME", "help": "a model, a family such as sd15, or what a task needs, such as sd15/control"}
    pulled = actions.add_parser("pull", help="download them", description="Download models that are not there.")
    pulled.add_argument("names", nargs="+", **names)
    pulled.set_defaults(carry_out=_pull_models, as_text=_pulled_as_text)
    checked = actions.add_parser(
        "check", help="see whether their files are whole",
        description="See whether the files of models are whole: of all that are there, unless some are named.",
    )  # fmt: skip
    checked.add_argument("names", nargs="*", **names)
    checked.add_argument("--thorough", action="store_true", help="also load each of them, on the CPU")
    checked.set_defaults(carry_out=_check_models, as_text=_checked_as_text)
    for parser in (listed, shown, pulled, checked):
        parser.add_argument("--json", action="store_true", help="print the report as JSON")


def _list_models(args: argparse.Namespace, settings: Settings) -> dict[str, Any]:
    from bivdiff.models.inventory import inventory

    return {"models": [_facts(entry) for entry in inventory(None, settings, args.family)]}


def _show_model(args: argparse.Namespace, settings: Settings) -> dict[str, Any]:
    return {"models": [_facts(entry) for entry in _entries([args.name], settings)]}


def _pull_models(args: argparse.Namespace, settings: Settings) -> dict[str, Any]:
    """Download what is not there. What must be fetched by hand comes last, since no more comes after its error."""
    entries = _entries(args.names, settings)
    absent = sorted((entry for entry in entries if entry.state == "absent"), key=lambda entry: not entry.spec.on_hub)
    for entry in absent:
        size = say_bytes(entry.bytes) if entry.bytes else "of unknown size"
        note(f"{entry.key}: {size}, {entry.kind}, licence {_licence(_facts(entry))}")
    if absent:
        note(f"In all: at least {say_bytes(sum(entry.bytes for entry in absent))}")
    begun = time.monotonic()
    pulled = {entry.key: _pull(entry, settings) for entry in absent}
    there = [entry.key for entry in entries if entry not in absent]
    return {"pulled": pulled, "already_there": there, "seconds": round(time.monotonic() - begun, 1)}


def _pull(entry: Entry, settings: Settings) -> int:
    """Download a component, followed on standard error; returns its bytes."""
    from bivdiff.models.pulling import pulling

    total = 0
    try:
        with closing(Progress("B")) as progress:
            for done, total in pulling(entry.spec, settings):
                progress.show(entry.key, f"{entry.key}:", done, total)
    except KeyboardInterrupt:
        raise StoppedError("Stopped. What has arrived is kept for the next time.") from None
    return total


def _check_models(args: argparse.Namespace, settings: Settings) -> dict[str, Any]:
    from bivdiff.models.inventory import check, inventory

    if args.thorough:
        hide_bars_of_libraries()
    named = bool(args.names)
    entries = _entries(args.names, settings) if named else inventory(None, settings)
    checked, wrong = [], {}
    chosen = [entry for entry in entries if named or entry.state != "absent"]
    with closing(Progress("model", stay=False)) as progress:
        for number, entry in enumerate(chosen, 1):
            progress.show("check", f"Checking {entry.key}", number, len(chosen))
            checked.append(entry.key)
            if sentence := check(entry.spec, settings, thorough=args.thorough):
                wrong[entry.key] = sentence
    return {"checked": checked, "wrong": wrong}


def _entries(names: Sequence[str], settings: Settings) -> list[Entry]:
    from bivdiff.models.inventory import find_specs, inventory

    wanted = {spec for name in names for spec in find_specs(name)}
    return [entry for entry in inventory(None, settings) if entry.spec in wanted]


def _facts(entry: Entry) -> dict[str, Any]:
    facts = {item.name: getattr(entry, item.name) for item in fields(entry) if item.name != "spec"}
    return {**facts, "families": list(entry.families), "non_commercial": entry.non_commercial, "native": entry.native}


def _licence(facts: dict[str, Any]) -> str:
    return f"{facts['licence']} (non-commercial)" if facts["non_commercial"] else facts["licence"]


def _models_as_table(report: dict[str, Any]) -> str:
    rows = [("model", "state", "size", "licence", "trained at")]
    for facts in report["models"]:
        size = say_bytes(facts["bytes"]) if facts["bytes"] else "unknown"
        rows.append((facts["key"], facts["state"], size, _licence(facts), facts["native"]))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def _models_in_full(report: dict[str, Any]) -> str:
    def describe(facts: dict[str, Any]) -> str:
        known = {
            "what": facts["kind"], "where from": facts["place"], "state": facts["state"],
            "size": say_bytes(facts["bytes"]) if facts["bytes"] else "unknown", "licence": _licence(facts),
            "trained at": facts["native"] or "any size", "families": ", ".join(facts["families"]),
            "looked up": facts["checked"], "on the hub": "yes" if facts["on_hub"] else "no",
        }  # fmt: skip
        return "\n".join([facts["key"], *(f"  {label + ':':<12}{text}" for label, text in known.items() if text)])

    return "\n\n".join(map(describe, report["models"]))


def _pulled_as_text(report: dict[str, Any]) -> str:
    pulled, there = report["pulled"], len(report["already_there"])
    if not pulled:
        return f"Nothing was pulled: {there} of {there} models are on this machine already."
    size = say_bytes(sum(pulled.values()))
    return f"Pulled {len(pulled)} models, {size} in {report['seconds']:.0f} s; {there} were on this machine already."


def _checked_as_text(report: dict[str, Any]) -> str:
    fine = len(report["checked"]) - len(report["wrong"])
    lines = [f"{key}: {sentence}" for key, sentence in report["wrong"].items()]
    return "\n".join([*lines, f"{fine} of {len(report['checked'])} models are whole."])
