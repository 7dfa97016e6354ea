"""Flags that change nothing in the task that they are given for: told, before anything is loaded."""

from __future__ import annotations

import pytest

from bivdiff.bridge.inputs import fields_read
from bivdiff.catalog.image_models import IMAGE_MODELS
from bivdiff.catalog.requests import blank_request
from bivdiff.cli.filling import note_unread
from bivdiff.cli.parser import build_parser

START = ["run", "--video", "clip.mp4", "--prompt", "a cube"]


@pytest.mark.parametrize(("flags", "unread"), [
    (["--task", "control"], ""),
    (["--task", "control", "--control-end", "0.5", "--low-threshold", "9", "--seed", "3", "--window", "8"], ""),
    (["--task", "control", "--mask", "m.png", "--grow", "0", "--extend", "16:9"], "--mask, --grow, --extend"),
    (["--task", "control", "--image-guidance-scale", "2"], "--image-guidance-scale"),
    (["--task", "edit", "--low-threshold", "9", "--control-type", "depth"], "--low-threshold, --control-type"),
    (["--task", "edit", "--image-model", "prompt2prompt", "--sampler", "unipc"], "--sampler"),
    (["--task", "inpaint", "--mask", "m.png", "--no-preserve-known", "--control-video", "x.mp4"], "--control-video"),
    (["--task", "smooth", "--guidance-scale", "3", "--num-inference-steps", "9"],
     "--num-inference-steps, --guidance-scale"),
    (["--task", "outpaint", "--extend", "16:9", "--feather", "3"], ""),
])  # fmt: skip
def test_what_is_not_read_is_told(flags, unread, capsys):
    args = build_parser().parse_args([*START, *flags])
    note_unread(args, blank_request(args.task, args.family, args.image_model))
    told = capsys.readouterr().err
    assert told.strip().endswith(f"so without effect: {unread}.") if unread else not told


def test_every_field_of_a_request_is_read_by_some_image_model():
    every = frozenset().union(*map(fields_read, IMAGE_MODELS))
    assert set(blank_request("control", "toybox").settings()) - every == {"task"}
