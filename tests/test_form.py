"""One reader of a form: the page and the command line make the same request, and no file is opened twice."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fake_run import FakeRun, fake_context

from bivdiff.cli.filling import form_of
from bivdiff.cli.parser import build_parser
from bivdiff.errors import InputError
from bivdiff.media import carried, reading
from bivdiff.media.writing import write_mp4
from bivdiff.studio.form import Form, MaskForm, SourceForm, read_form, read_sample
from bivdiff.types import Control
from tabs import control, edit, inpaint, outpaint, smooth

ADA = "ada-" + "0" * 32
VALUES = {"sample": 0, "random_seed": False, "seed": 7, "visitor": ADA}
PROMPT = "a red cube"


@pytest.fixture(scope="module")
def context():
    return fake_context(FakeRun())


@pytest.fixture
def mask(tmp_path):
    """The path of a mask clip as long as the samples, and of their size."""
    pictures = np.zeros((8, 128, 128, 3), np.uint8)
    pictures[:, 32:96, 32:96] = 255
    path = tmp_path / "mask.mp4"
    write_mp4(path, pictures, 8)
    return path


@pytest.fixture
def opened(monkeypatch):
    """How often each file was opened, by name; and how often an archive of a run was unpacked."""
    read_sample.cache_clear()
    counts, whole_open, whole_unpack = Counter(), reading.open_source, carried.unpack

    def count_open(path, limits):
        counts[Path(path).name] += 1
        return whole_open(path, limits)

    def count_unpack(path):
        counts["archive"] += 1
        return whole_unpack(path)

    monkeypatch.setattr(reading, "open_source", count_open)
    monkeypatch.setattr(carried, "unpack", count_unpack)
    return counts


BRIDGED = {"mixing_ratio": 0.35, "frame_prior": "video", "mixing_rule": "capped", "start_level": 0.6}
MADE = {"frame_attention": "both", "sampler": "unipc", "guided_share": 0.5}


def flags_of(settings):
    return [part for name, value in settings.items() for part in (f"--{name.replace('_', '-')}", str(value))]


TASKS = {
    "control": (control, {"prompt": PROMPT, "control_type": "depth", "conditioning_scale": 0.5, "control_end": 0.5,
                          **BRIDGED, **MADE},
                ["--control-type", "depth", "--controlnet-conditioning-scale", "0.5", "--control-end", "0.5",
                 *flags_of(BRIDGED | MADE)]),
    "edit": (edit, {"instruction": PROMPT, "source_prompt": "a cube", **MADE},
             ["--source-prompt", "a cube", *flags_of(MADE)]),
    "inpaint": (inpaint, {"prompt": PROMPT, "mask_source": "boxes", "boxes": "10%, 10%, 50%, 50%"},
                ["--box", "10%,10%,50%,50%"]),
    "outpaint": (outpaint, {"prompt": PROMPT, "left": "25%", "right": "25%"}, []),
    "smooth": (smooth, {"prompt": PROMPT, "start": 0.125, "stride": 2, "num_frames": 3, **BRIDGED},
               [*flags_of(BRIDGED), "--start", "0.125", "--frame-stride", "2", "--num-frames", "3"]),
}  # fmt: skip


@pytest.mark.parametrize("task", TASKS)
def test_the_page_and_the_command_line_make_the_same_request(context, opened, task):
    tab, values, flags = TASKS[task]
    sample = context.samples[0]
    clip = sample.flickering if task == "smooth" else sample.file
    page = tab.read_job(context, VALUES | values)
    assert opened == {clip.name: 1}
    read_sample.cache_clear()
    command = ["run", "--task", task, "--video", str(clip), "--prompt", PROMPT, "--seed", "7", *flags]
    request, fps = read_form(form_of(build_parser().parse_args(command)))
    assert opened == {clip.name: 2}
    assert request.settings() == page.request.settings()
    asked = {name: value for name, value in values.items() if name in BRIDGED | MADE}
    assert asked == {name: request.settings()[name] for name in asked}
    assert fps == page.fps
    np.testing.assert_array_equal(request.frames, page.request.frames)
    np.testing.assert_array_equal(request.masks, page.request.masks)


def test_a_mask_and_a_map_are_opened_once_each(context, opened, mask):
    inpaint.read_job(context, VALUES | {"prompt": PROMPT, "mask_source": "upload", "mask_video": str(mask)})
    assert opened == {context.samples[0].file.name: 1, "mask.mp4": 1}
    control.read_job(context, VALUES | {"prompt": PROMPT, "map_source": "upload", "control_video": str(mask)})
    assert opened == {context.samples[0].file.name: 1, "mask.mp4": 2}


@pytest.mark.parametrize("task", TASKS)
def test_a_restored_run_is_unpacked_once_and_no_file_is_opened(context, opened, task):
    tab, values, _ = TASKS[task]
    asked = tab.read_job(context, VALUES | values)
    run_id = context.runs.begin(asked.request, asked.fps, ADA)
    opened.clear()
    again = tab.read_job(context, VALUES | values | {"restored": run_id})
    assert opened == {"archive": 1}
    assert again.request.settings() == asked.request.settings()
    np.testing.assert_array_equal(again.request.frames, asked.request.frames)
    np.testing.assert_array_equal(again.request.masks, asked.request.masks)


def test_what_is_filled_in_goes_before_the_earlier_run_and_that_before_the_defaults(context):
    asked = smooth.read_job(
        context, VALUES | {"prompt": PROMPT, "mixing_ratio": 0.25, "window": 4, "num_smoothing_steps": 3}
    )
    run_id = context.runs.begin(asked.request, asked.fps, ADA)
    changed = VALUES | {"prompt": "a blue cube", "num_smoothing_steps": 5, "window": 0, "restored": run_id}
    again = smooth.read_job(context, changed).request
    assert (again.prompt, again.num_smoothing_steps) == ("a blue cube", 5)  # filled in
    assert again.window is None  # filled in: as many as the video model was trained with
    assert again.mixing_ratio == 0.25  # the earlier run's
    assert again.num_inversion_steps == asked.request.num_inversion_steps  # the default


def test_each_of_several_controls_has_its_map_or_none(context, mask):
    clip = context.samples[0].file
    controls = (Control(control_type="canny"), Control(control_type="depth"))
    form = Form(task="control", family="toybox", prompt=PROMPT, source=SourceForm(video=clip), controls=controls,
                maps=(None, mask))  # fmt: skip
    first, second = read_form(form)[0].controls
    assert first.frames is None
    assert second.frames.shape == (8, 128, 128, 3)
    with pytest.raises(InputError, match="2 control types need as many maps; got 1"):
        read_form(replace(form, maps=(mask,)))


def test_ways_to_mark_add_up(context, mask):
    clip = context.samples[0].file
    ways = {"clip": {"clip": mask}, "boxes": {"boxes": "0, 0, 16, 16"}}
    form = Form(task="inpaint", family="toybox", prompt=PROMPT, source=SourceForm(video=clip))
    each = {name: read_form(replace(form, masks=MaskForm(grow=0, **way)))[0].masks for name, way in ways.items()}
    both = read_form(replace(form, masks=MaskForm(grow=0, **ways["clip"], **ways["boxes"])))[0].masks
    np.testing.assert_array_equal(both, each["clip"] | each["boxes"])
