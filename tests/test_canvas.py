"""The canvas of outpainting: sizes in pixels from what a user writes."""

from __future__ import annotations

import pytest

from bivdiff.errors import InputError
from bivdiff.pixels.canvas import parse_size, plan_canvas

TOYBOX = (128, 128)


@pytest.mark.parametrize(
    ("extend", "source", "inner", "sides"),
    [
        ("0, 0, 32, 0", (96, 128), (96, 128), (0, 0, 32, 0)),
        ("1:1", (96, 128), (96, 128), (16, 0, 16, 0)),
        ("25%", (128, 128), (85, 85), (22, 22, 21, 21)),
        ("0, 50%, 0, 50%", (640, 480), (104, 80), (0, 40, 0, 40)),
        ("0,0,0,64px", (64, 64), (88, 92), (0, 0, 0, 92)),
    ],
)
def test_the_canvas_has_the_models_area_and_the_source_its_place(extend, source, inner, sides):
    plan = plan_canvas(extend, *source, TOYBOX)
    assert (plan.width, plan.height) == inner
    assert plan.sides == sides
    assert all(side % 8 == 0 for side in plan.canvas)
    area = plan.canvas[0] * plan.canvas[1]
    assert 0.85 < area / (TOYBOX[0] * TOYBOX[1]) < 1.15


def test_the_source_keeps_its_shape():
    plan = plan_canvas("10%, 20%, 30%, 0", 640, 360, (512, 512))
    assert plan.width / plan.height == pytest.approx(640 / 360, rel=0.03)


@pytest.mark.parametrize(
    ("extend", "said"),
    [
        ("0", "no larger"),
        ("1:1", "no larger"),
        ("1000%", "441 times the pixels of the clip; at most 9 times"),
        ("10,20", "2 sides"),
        ("ten", "is not a valid length"),
        ("-5", "is not a valid length"),
        ("5:0", "aspect ratio"),
        ("", "is not a valid length"),
        ("nan", "is not a valid length"),
    ],
)
def test_what_cannot_be_extended_is_told(extend, said):
    with pytest.raises(InputError, match=said):
        plan_canvas(extend, 128, 128, TOYBOX)


@pytest.mark.parametrize(("text", "size"), [("576x320", (576, 320)), ("512", (512, 512)), (" 64 X 1024", (64, 1024))])
def test_sizes_are_read(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "big", "500x500", "32", "2048", "512x512x8", "-64x64"])
def test_what_is_no_size_is_told(text):
    with pytest.raises(InputError, match="576x320"):
        parse_size(text)
