"""What a batch shows: a table in words, a page with all clips, the scores as CSV."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from urllib.parse import quote

from bivdiff.batch.folder import PAGE, SCORES
from bivdiff.batch.jobs import Outcome
from bivdiff.media.writing import replace_whole
from bivdiff.spreadsheet import csv_of
from bivdiff.units import say_bytes, say_seconds

_CLIPS = {"result": "bridged", "framewise": "frame by frame"}
_ORDER = ("failed", "refused", "done")


def write_report(folder: Path, outcomes: Sequence[Outcome]) -> None:
    """Write the page and the scores of a batch into its folder.

    Raises:
        InputError: they cannot be written.
    """
    for name, text in ((PAGE, page_of(outcomes)), (SCORES, scores_of(outcomes))):
        with replace_whole(folder / name) as path:
            path.write_text(text, "utf-8")


def scores_of(outcomes: Iterable[Outcome]) -> str:
    """A row for each job as CSV: how it ended, what it took, its scores, and the settings in which jobs differ."""
    every = list(outcomes)
    settings = {each.id: dict(each.record.get("settings", {})) for each in every}
    names = list(dict.fromkeys(name for each in settings.values() for name in each if name != "controls"))
    told = [name for name in names if len({str(each.get(name)) for each in settings.values() if each}) > 1]
    measured = list(dict.fromkeys(name for each in every for name in each.scores))
    rows: list[list[object]] = [["id", "status", "seconds", "memory", "host", *measured, *told, "file", "sentence"]]
    for each in every:
        scores = [_digits(each.scores.get(name)) for name in measured]
        own = [settings[each.id].get(name, "") for name in told]
        rows.append([
            each.id, each.status, f"{each.seconds:.3f}", each.memory, each.host, *scores, *own,
            each.files.get("result", ""), each.sentence,
        ])  # fmt: skip
    return csv_of(rows)


def _digits(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float | int) else str(value or "")


def table_of(counts: Mapping[str, int], trouble: Mapping[str, str], seconds: float) -> str:
    """How many jobs ended how, and a line for each that has no clip."""
    total = sum(counts.values())
    lines = [f"{total} jobs in {say_seconds(seconds)}:"]
    width = max((len(str(count)) for count in counts.values()), default=1)
    lines += [f"  {count:>{width}}  {what}" for what, count in counts.items() if count]
    lines += [f"{name}: {sentence}" for name, sentence in trouble.items()]
    return "\n".join(lines)


def page_of(outcomes: Sequence[Outcome]) -> str:
    """A page that opens from the disk: what has no clip and why, then every clip beside its frames."""
    ordered = sorted(outcomes, key=lambda each: _ORDER.index(each.status))
    counts = {status: sum(each.status == status for each in outcomes) for status in _ORDER}
    told = ", ".join(f"{count} {status}" for status, count in counts.items() if count)
    trouble = "".join(
        f"<tr><th>{escape(each.id)}</th><td>{each.status}</td><td>{escape(each.sentence)}</td></tr>"
        for each in ordered if each.status != "done"
    )  # fmt: skip
    clips = "".join(_card(each) for each in ordered if each.status == "done")
    table = f'<div class="scroll"><table>{trouble}</table></div>' if trouble else ""
    return _PAGE.format(told=escape(told), trouble=table, clips=clips)


def _card(outcome: Outcome) -> str:
    shown = "".join(_clip(outcome.files[name], title) for name, title in _CLIPS.items() if name in outcome.files)
    record = outcome.record
    facts = [f"seed {record.get('seed')}", say_seconds(outcome.seconds), say_bytes(outcome.memory)]
    steadiness = outcome.scores.get("steadiness")
    facts += [str(steadiness)] if steadiness else []
    prompt = str(dict(record.get("settings", {})).get("prompt", ""))
    note = f"<p>{escape(outcome.sentence)}</p>" if outcome.sentence else ""
    return (
        f'<section id="{escape(outcome.id, quote=True)}"><h2>{escape(outcome.id)}</h2><p>{escape(prompt)}</p>'
        f'<div class="clips">{shown}</div><p class="facts">{escape(" · ".join(facts))}</p>{note}</section>'
    )


def _clip(file: str, title: str) -> str:
    source = escape(quote(file), quote=True)
    if file.endswith(".mp4"):
        shown = f'<video src="{source}" loop muted playsinline controls preload="metadata"></video>'
    elif file.endswith(".gif"):
        shown = f'<img src="{source}" alt="{title}" loading="lazy">'
    else:
        shown = f'<a href="{source}">{escape(Path(file).name)}</a>'
    return f"<figure>{shown}<figcaption>{title}</figcaption></figure>"


_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Batch</title>
<style>
:root {{ color-scheme: light dark; }}
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 1280px; margin: 0 auto; padding: 24px 16px 64px; }}
main {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 380px), 1fr)); gap: 32px 24px; }}
section {{ min-width: 0; }}
h2 {{ font-size: 16px; margin: 0; overflow-wrap: anywhere; }}
p {{ margin: 4px 0; overflow-wrap: anywhere; }}
.clips {{ display: flex; gap: 8px; }}
figure {{ margin: 0; flex: 1; min-width: 0; }}
video, img {{ display: block; width: 100%; background: #8883; }}
figcaption, .facts {{ font-size: 14px; opacity: 0.8; font-variant-numeric: tabular-nums; }}
.scroll {{ overflow-x: auto; margin-bottom: 24px; }}
table {{ border-collapse: collapse; font-size: 14px; }}
th, td {{ padding: 4px 12px 4px 0; text-align: left; vertical-align: top; border-bottom: 1px solid #8884; }}
</style>
</head>
<body>
<h1>Batch</h1>
<p>{told}. <a href="scores.csv">Scores and settings as a table</a></p>
{trouble}
<main>{clips}</main>
</body>
</html>
"""
