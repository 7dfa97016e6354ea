"""What the owner of a copy allows those who use its page, in words.

In it: `limits_sentence`. Not in it: the values (settings.py), who enforces them (jobs.py, own_models.py, zerogpu.py),
what an upload may be (media.py).
"""

from __future__ import annotations

from bivdiff.own_models import are_allowed
from bivdiff.settings import Settings
from bivdiff.zerogpu import MOST_SECONDS, on_zerogpu


def limits_sentence(settings: Settings) -> str:
    """The bounds of a clip, a run and a visitor in one or a few sentences, for the page."""
    told = [
        f"A clip has up to {settings.max_frames} frames.",
        f"You may have {_jobs(settings.max_jobs)} waiting or running, and {settings.max_queue} may wait in all.",
    ]
    if on_zerogpu():
        most = 60 * settings.max_minutes or MOST_SECONDS
        told.append(f"Hugging Face lends the card: a run takes {most} s at most, and counts against your quota there.")
    elif settings.max_minutes:
        told.append(f"A run may be expected to take up to {_minutes(settings.max_minutes)}.")
    if not are_allowed(settings):
        told.append("Which models there are is the owner's choice.")
    return " ".join(told)


def _jobs(count: int) -> str:
    return f"{count} job" if count == 1 else f"{count} jobs"


def _minutes(count: int) -> str:
    return f"{count} minute" if count == 1 else f"{count} minutes"
