"""The strip of sample clips."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bivdiff.toybox.clips import SampleClip
from tabs.widgets.component import Widget


def sample_strip(samples: Sequence[SampleClip], carries: bool = True, **options: Any) -> Widget:
    """The sample clips as buttons. Its value is the index of the chosen one, -1 for none; choosing triggers `pick`.

    One strip of a page, which must be shown before the others, `carries` the clips for all.
    """
    clips = [{"name": sample.name, "caption": sample.caption, "clip": _inline(sample.file)} for sample in samples]
    about = "index of a sample clip, read where no video is given"
    return Widget(0, drawn_by="samples", about=about, kind="integer", clips=clips if carries else [], **options)


def _inline(path: Path) -> str:
    return "data:video/mp4;base64," + base64.b64encode(path.read_bytes()).decode()
