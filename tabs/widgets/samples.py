"""The strip of sample clips."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from bivdiff.toybox import world
from bivdiff.toybox.clips import SHOWN, SampleClip
from tabs.widgets.component import Widget


def sample_strip(field: str = "file", **options: Any) -> Widget:
    """The sample clips as buttons. Its value is the index of the chosen one, -1 for none; choosing triggers `pick`.

    Args:
        field: of `clips.SHOWN`, the clips that this strip shows; the page's head has them, see `sample_script`.
        options: of the component.
    """
    about = "index of a sample clip, read where no video is given"
    return Widget(0, drawn_by="samples", looks=f"of-{field}", about=about, kind="integer", **options)


def sample_script(samples: Sequence[SampleClip]) -> str:
    """The script that hands the clips to all strips of a page, whichever is shown first."""
    sheets = [json.loads(sample.sheets.read_text("utf-8")) for sample in samples]
    shown = {
        field: [_shown(sample) | {"sheet": sheet[field]} for sample, sheet in zip(samples, sheets, strict=True)]
        for field in SHOWN
    }
    clips = json.dumps(shown).replace("</", "<\\/")
    return f"window.bdSampleClips = {clips};"


def _shown(sample: SampleClip) -> dict[str, Any]:
    return {"name": sample.name, "caption": sample.caption, "fps": world.FPS}
