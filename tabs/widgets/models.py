"""The list of models."""

from __future__ import annotations

from typing import Any

from tabs.widgets.component import Widget


def model_list(**options: Any) -> Widget:
    """Models as rows to choose from; choosing one triggers `pick`.

    Its value is a dictionary: `rows` has texts by name for each model, `chosen` is the key of one of them, and `note`
    is told where there are no rows.
    """
    about = "the models that are listed, and the key of the chosen one"
    return Widget({"rows": [], "chosen": "", "note": ""}, drawn_by="models", about=about, **options)
