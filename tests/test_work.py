"""How much one press of Generate costs beside the models: starts of ffmpeg, archives, measurements and pictures.

As `evaluations` counts what the models do. A number that grows here is work that somebody does twice.
"""

from __future__ import annotations

import subprocess
from collections import Counter

import numpy as np
import pytest
from fake_run import FakeRun, fake_context
from PIL import Image

from bivdiff.media import carried, ffmpeg
from bivdiff.media.sheets import sprite_sheet
from bivdiff.pixels import metrics
from bivdiff.studio.form import read_sample
from bivdiff.toybox.truths import _places_of_samples
from tabs import control, task_tab
from tabs.widgets import player

VALUES = {
    "sample": 0, "video": None, "prompt": "a red cube", "random_seed": False, "seed": 1, "num_inference_steps": 2,
    "num_inversion_steps": 2, "num_smoothing_steps": 2, "visitor": "a" * 32,
}  # fmt: skip


@pytest.fixture
def counts(monkeypatch):
    """What is done from now on, by its name."""
    found: Counter[str] = Counter()

    class Counted(subprocess.Popen):
        def __init__(self, command, *rest, **options):
            purpose = {"framecrc": "scan", "image2pipe": "decode", "s16le": "sound", "rawvideo": "encode"}
            found[next(name for word, name in purpose.items() if word in command)] += 1
            super().__init__(command, *rest, **options)

    def count(place, name, key=None):
        inner = getattr(place, name)

        def counted(*given, **named):
            found[key or name] += 1
            return inner(*given, **named)

        monkeypatch.setattr(place, name, counted)

    _places_of_samples()  # decoded once in the life of the studio, and not by every click
    monkeypatch.setattr(ffmpeg.subprocess, "Popen", Counted)
    for name in ("pack", "unpack", "carry", "packed_shape"):
        count(carried, name)
    for name in ("moved_difference", "relative_sharpness"):
        count(metrics, name)
    count(Image.Image, "save", "picture")
    return found


def test_one_click_does_nothing_twice(counts, monkeypatch):
    context, sheets = fake_context(FakeRun()), []

    def noted(frames, **options):
        sheets.append(frames.tobytes())
        return sprite_sheet(frames, **options)

    monkeypatch.setattr(player, "sprite_sheet", noted)
    read_sample.cache_clear()
    *_, last = task_tab.generate(context, control.read_job, "control", VALUES)
    assert last.panel["state"] == "done"
    assert {name: counts[name] for name in ("scan", "decode", "sound", "encode")} == {
        "scan": 1,  # the times of the source's frames
        "decode": 1,  # its frames
        "sound": 0,  # what the file says of itself shows that it has none
        "encode": 4,  # the files: bridged, frame by frame and the map as mp4, bridged as GIF
    }
    assert counts["pack"] == 1  # when the run begins; the files take the archive from the disk
    assert counts["packed_shape"] == 2  # nothing at the start; at the end, where a smaller request is packed anew
    assert counts["carry"] == 3  # one text and archive for each clip that files show, whatever their number
    assert counts["unpack"] == 0  # nothing was restored
    assert counts["moved_difference"] == 1  # of the frame-wise and the bridged clip, beside the source
    assert counts["relative_sharpness"] == 1  # of the bridged clip against the frame-wise one
    (run,) = context.runs.find("a" * 32)
    frames, fps = context.runs.job(run.id, "a" * 32)
    assert sheets.count(frames.frames.tobytes()) == 1  # the source, when it is first shown
    # Two thumbnails, eight frames of the zip, where both clips flicker, and the sheets of the players.
    assert counts["picture"] == 2 + 8 + 2 + len(sheets)
    assert np.isfinite(fps)
