"""One table of fields: the request, the command line and the page say the same of each."""

from __future__ import annotations

import argparse
import inspect
import re
from dataclasses import fields, replace

import pytest
from fake_run import FakeRun, fake_context
from gradio.utils import get_function_description

from bivdiff.bridge.inputs import framewise_inputs
from bivdiff.catalog.requests import blank_request
from bivdiff.catalog.tasks import TASKS
from bivdiff.cli.flags import CONTROL_FLAGS, MASK_FLAGS, REQUEST_FLAGS, SOURCE_FLAGS
from bivdiff.cli.parser import build_parser
from bivdiff.errors import InputError
from bivdiff.fields import table
from bivdiff.studio.form import CanvasForm, MaskForm, SourceForm
from bivdiff.types import Control, GenerationRequest
from tabs.page import build_page

DESCRIBED = [GenerationRequest, Control, SourceForm, MaskForm, CanvasForm]
FLAGS = {
    **{name: table(GenerationRequest)[name] for name in REQUEST_FLAGS},
    **{flag: table(Control)[name] for flag, name in CONTROL_FLAGS.items()},
    **{flag: table(SourceForm)[name] for flag, name in SOURCE_FLAGS.items()},
    **{flag: table(MaskForm)[name] for flag, name in MASK_FLAGS.items()},
    "extend": table(CanvasForm)["extend"],
    **{name: table(GenerationRequest)[name] for name in ("task", "family", "image_model", "video_model")},
    "control_type": table(Control)["control_type"],
}
"""Flags by name, and the entries that they must agree with."""
NO_FLAGS = {("compare", "sound")}  # its clips are held against each other, and are silent
SHOWN = {
    **table(GenerationRequest), **table(SourceForm),
    **{f"control_{name}": table(Control)[name] for name in ("start", "end")},
    "control_type": table(Control)["control_type"],
    "conditioning_scale": table(Control)["conditioning_scale"],
    **{name: table(MaskForm)[name] for name in ("boxes", "color", "tolerance", "grow")},
}  # fmt: skip
"""Controls of the page by name, and the entries that they must agree with."""


@pytest.mark.parametrize("described", DESCRIBED)
def test_every_field_has_an_entry_with_words(described):
    entries = table(described)
    assert entries.keys() == {item.name for item in fields(described)}
    for name, entry in entries.items():
        assert entry.label, name
        assert entry.info, name
        assert not entry.info.endswith("."), name
        if entry.kind == "number":
            assert entry.low < entry.high, name
            assert entry.step, name


@pytest.mark.parametrize("name", [name for name, entry in table(GenerationRequest).items() if entry.kind == "number"])
def test_the_request_takes_what_is_within_the_bounds_and_nothing_beyond(request_of, name):
    entry = table(GenerationRequest)[name]
    kind = int if entry.whole else float
    other = {"low_threshold": {"high_threshold": 255}, "high_threshold": {"low_threshold": 1}}.get(name, {})
    for value in (entry.low, entry.high):
        assert getattr(request_of(**{name: kind(value), **other}), name) == value
    bounds = re.escape(entry.bounds.removesuffix(entry.unit).strip())
    for value in (entry.low - entry.step, entry.high + entry.step):
        with pytest.raises(
            InputError,
            match=f"{name} must be a .*number from {bounds};",
        ):
            request_of(**{name: kind(value), **other})


def flags_of(command: str) -> dict[str, argparse.Action]:
    (commands,) = (action for action in build_parser()._actions if isinstance(action, argparse._SubParsersAction))
    return {action.dest: action for action in commands.choices[command]._actions if action.option_strings}


@pytest.mark.parametrize("command", ["run", "compare"])
@pytest.mark.parametrize("name", FLAGS)
def test_a_flag_has_the_words_the_bounds_and_the_default_of_the_table(command, name):
    if (command, name) in NO_FLAGS:
        assert name not in flags_of(command)
        return
    entry, flag = FLAGS[name], flags_of(command)[name]
    words = (flag.help or "").replace("%%", "%")
    assert words.startswith(f"{entry.label}: {entry.info[0].lower()}{entry.info[1:]}")
    if entry.kind == "number":
        assert entry.bounds in words
        assert all(f"--frame-prior {key}, {more}" in words for key, more in (entry.infos or {}).items())
        assert flag.type is (int if entry.whole else float)
    if entry.choices:
        assert tuple(flag.choices) == tuple(entry.choices)
    if name in REQUEST_FLAGS:
        assert flag.default is None  # so that what the task starts with stays
    elif name in CONTROL_FLAGS:
        assert flag.default == [entry.default]
    elif name in {**SOURCE_FLAGS, **MASK_FLAGS, "extend": ""}:
        assert flag.default == entry.default


OWN_WORDS = {(task, "prompt") for task in TASKS if task != "control"}
"""Prompts that mean something else in a task than the table says of them."""
EXAMPLES = {"prompt", "source_prompt", "boxes", "color", "seed", "size", "image_model", "video_model"}
"""What the page starts with is an example, or depends on the family."""


@pytest.fixture(scope="module")
def page():
    return build_page(replace(fake_context(FakeRun()), families=("toybox", "sd15")))


@pytest.fixture(scope="module")
def controls(page):
    """The components of both families' pages, by family, task and name."""
    found = {}
    for fn in page.fns.values():
        name, family = str(fn.api_name), "toybox"
        if name.startswith("sd15_"):
            name, family = name.removeprefix("sd15_"), "sd15"
        task = name.removesuffix("_estimate")
        if name.endswith("_estimate") and task in TASKS:
            for parameter, component in zip(inspect.signature(fn.fn).parameters, fn.inputs, strict=True):
                found[family, task, parameter] = component
    return found


def test_a_control_has_the_words_the_bounds_and_the_default_of_the_table(controls):
    seen = set()
    for (family, task, name), shown in controls.items():
        if name not in SHOWN or SHOWN[name].kind == "pictures":
            continue
        entry, where = SHOWN[name], f"{family}, {task}, {name}"
        seen.add(name)
        if (task, name) not in OWN_WORDS:
            assert shown.label == entry.label, where
            depends = getattr(blank_request(task, family), entry.depends_on) if entry.depends_on else None
            assert shown.info.startswith(entry.info_where(depends)), where
        if entry.kind == "number":
            assert shown.minimum == (entry.low if entry.none_as is None else entry.none_as), where
            assert shown.maximum == entry.high, where
            assert shown.step == entry.step, where
        if entry.choices:
            assert shown.choices == [(label, key) for key, label in entry.choices.items()], where
        if name in {item.name for item in fields(GenerationRequest)} - EXAMPLES:
            value = getattr(blank_request(task, family), name)
            assert shown.value == (entry.none_as if value is None else value), where
        elif name not in EXAMPLES | {"num_frames"}:
            assert shown.value == entry.default, where
    unseen = {name for name, entry in SHOWN.items() if entry.kind != "pictures"} - seen
    assert unseen == {"task", "family"}  # the tab is the one, the page the other


@pytest.mark.parametrize("task", TASKS)
def test_a_tab_has_a_control_for_every_setting_that_one_of_its_image_models_reads(controls, task):
    read = {"mixing_ratio", "frame_prior", "mixing_rule", "start_level"}
    for model in TASKS[task].image_models:
        read |= framewise_inputs(model).fields
    settings = {name for name in read if table(GenerationRequest)[name].kind != "pictures"} - {"image_model"}
    settings -= set() if task in {"inpaint", "outpaint"} else {"feather", "preserve_known"}  # no mask, nothing known
    shown = {name for family, of, name in controls if (family, of) == ("toybox", task)}
    assert settings - shown == ({"prompt"} & settings if task == "smooth" else set())
    assert {"sampler", "guided_share", "frame_attention"} & shown == (
        set() if task == "smooth" else {"sampler", "guided_share", "frame_attention"}
    )


def test_the_pages_endpoints_take_what_the_request_takes(controls):
    """A value that a run may have can be restored: no control is narrower than the request."""
    for (_, _, name), shown in controls.items():
        if name in table(GenerationRequest) and table(GenerationRequest)[name].kind == "number":
            assert shown.minimum <= table(GenerationRequest)[name].low
            assert shown.maximum == table(GenerationRequest)[name].high


@pytest.mark.parametrize("task", TASKS)
def test_the_endpoints_say_of_their_parameters_what_the_table_says(page, task):
    (endpoint,) = (fn for fn in page.fns.values() if fn.api_name == task)
    does, said, _ = get_function_description(endpoint.fn)
    assert does.startswith("Run a job for a client")
    for name, entry in SHOWN.items():
        if name in said and entry.kind != "pictures" and (task, name) not in OWN_WORDS:
            assert said[name].startswith(f"{entry.label}. {entry.info}"), name
    assert {"mixing_ratio", "mixing_rule", "seed", "num_frames", "window"} <= {name for name in said if said[name]}
