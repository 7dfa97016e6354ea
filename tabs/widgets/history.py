"""The runs of the history as cards."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tabs.widgets.component import Widget

LEAST, MOST = 2, 12  # clips that the comparison player shows


def run_cards(**options: Any) -> Widget:
    """Runs as cards. Its value is made by `cards_value`.

    Choosing a card triggers `pick`, with the run's id as `chosen`; its star `star`, with `starred` and `favourite`; the
    bar above the cards `compare`, with the ids that are `selected`.
    """
    about = "the runs that are listed, and the chosen one"
    return Widget(cards_value([]), drawn_by="history", about=about, **options)


def cards_value(
    rows: Sequence[dict[str, Any]], chosen: str = "", empty: Sequence[str] = ("", ""), note: str = "", trouble: str = ""
) -> dict[str, Any]:
    """The value of the cards.

    Args:
        rows: what each card shows: texts by name, `id` and `created` (seconds since 1970), `favourite`, `thumbnail`.
        chosen: id of one of them.
        empty: heading and text where there are no rows.
        note: below the cards; trouble: above them.
    """
    return {
        "rows": list(rows), "chosen": chosen, "empty": list(empty), "note": note, "trouble": trouble,
        "selectable": [LEAST, MOST],
    }  # fmt: skip
