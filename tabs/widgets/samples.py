"""The strip of sample clips."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bivdiff.toybox.clips import SampleClip
from tabs.widgets.component import Widget

FIELDS = ("file", "flickering")
"""Those of a sample that strips show."""


def sample_strip(field: str = "file", **options: Any) -> Widget:
    """The sample clips as buttons. Its value is the index of the chosen one, -1 for none; choosing triggers `pick`.

    Args:
        field: of `FIELDS`, the clips that this strip shows; the page's head has them, see `sample_script`.
        options: of the component.
    """
    about = "index of a sample clip, read where no video is given"
    return Widget(0, drawn_by="samples", looks=f"of-{field}", about=about, kind="integer", **options)


def sample_script(samples: Sequence[SampleClip]) -> str:
    """The script that hands the clips to all strips of a page, whichever is shown first."""
    clips = json.dumps({field: _shown(samples, field) for field in FIELDS}).replace("</", "<\\/")
    return f"window.bdSampleClips = {clips};"


def _shown(samples: Sequence[SampleClip], field: str) -> list[dict[str, str]]:
    return [
        {"name": sample.name, "caption": sample.caption, "clip": _inline(getattr(sample, field))} for sample in samples
    ]


def _inline(path: Path) -> str:
    return "data:video/mp4;base64," + base64.b64encode(path.read_bytes()).decode()
