"""The tab "Compare": from a task's tab and back, cell by cell, on the server and in the browser."""

from __future__ import annotations

import zipfile

import pytest
from fake_run import DRAWN_SEED, FakeRun, fake_context
from playwright.sync_api import expect

from bivdiff.errors import InputError, ModelUnavailableError
from tabs import common, compare, control
from tabs.page import build_page, launch_options

VALUES = {"sample": 1, "prompt": "a red cube", "random_seed": True, "num_smoothing_steps": 7}


@pytest.fixture
def run():
    return FakeRun()


@pytest.fixture
def context(run):
    return fake_context(run)


@pytest.fixture
def pending(context):
    return compare.Pending("control", control.read_job(context, VALUES))


def comparison(context, pending, *given, visitor="a" * 32):
    return [view._asdict() for view in compare.compare(context, pending, *given, visitor)]


@pytest.mark.parametrize(("given", "axes"), [
    (("0, 0.5,1", "", ""), {"mixing_ratio": [0.0, 0.5, 1.0]}),
    (("0.5,0.5", "mixing_rule", "linear, slerp"), {"mixing_ratio": [0.5], "mixing_rule": ["linear", "slerp"]}),
    (("", "seed", "1,2"), {"seed": [1, 2]}),
])  # fmt: skip
def test_what_is_written_becomes_the_settings_to_compare(given, axes):
    assert compare.axes_of(*given) == axes


@pytest.mark.parametrize(("given", "named"), [
    (("a,b", "", ""), "a,b"), (("0", "seed", "1.5"), "seed"), (("0", "seed", ""), "no values"),
    (("0", "colour", "1"), "colour"),
])  # fmt: skip
def test_what_cannot_be_read_is_told(given, named):
    with pytest.raises(InputError, match=named):
        compare.axes_of(*given)


def test_cells_come_one_by_one_and_the_recommended_one_is_marked(run, context, pending):
    run.pause = 0.4
    views = comparison(context, pending, "0, 0.5, 1", "", "")
    filled = [
        [cell["sheet"] is not None for cell in view["player"]["cells"]] for view in views if "cells" in view["player"]
    ]  # fmt: skip
    assert filled[0] == [False] * 3
    assert filled[1] == [True, False, False]
    assert filled[-1] == [True] * 3
    last = views[-1]
    assert last["panel"]["state"] == "done"
    assert last["player"]["recommended"] == 0  # the others are dimmer, and steadier for that; but less alike
    assert last["player"]["paper"] == 2
    assert last["made"] == {
        "task": "control", "cells": [{"mixing_ratio": ratio, "seed": DRAWN_SEED} for ratio in (0.0, 0.5, 1.0)]
    }  # fmt: skip
    assert "Recommended" in last["findings"]
    assert "<svg" in last["findings"]
    with zipfile.ZipFile(last["download"]["value"]) as archive:
        names = archive.namelist()
    assert {"scores.csv", "scores.json", "index.html"} <= {name.rpartition("/")[2] for name in names}
    (kept,) = context.runs.find("a" * 32)
    assert (kept.kind, kept.state) == ("comparison", "done")
    _, again = compare.resume(context, "a" * 32 + ".2")
    assert again.player == last["player"]
    assert len(list(compare.resume(context, "b" * 32))) == 1


def test_a_failure_keeps_the_cells_that_are_ready(run, context, pending):
    run.error = ModelUnavailableError("The video model has gone. Fetch it again.")
    *_, failed = comparison(context, pending, "0, 1", "", "")
    assert failed["panel"]["headline"] == "The video model has gone. Fetch it again."
    assert [cell["sheet"] is not None for cell in failed["player"]["cells"]] == [True, False]
    assert [cell["pending"] for cell in failed["player"]["cells"]] == [False, False]
    assert [cell is not None for cell in failed["made"]["cells"]] == [True, False]


def test_a_bad_value_runs_nothing(run, context, pending):
    (view,) = comparison(context, pending, "two", "", "")
    assert "two" in view["panel"]["headline"]
    assert run.fitted == []


def test_without_a_tabs_settings_the_first_sample_is_compared(context):
    views = comparison(context, None, "0,1", "", "")
    assert views[-1]["made"]["task"] == "control"
    assert "first sample" in compare.say_pending(context, None)


def test_a_tabs_settings_are_taken_over_and_a_chosen_cells_go_back(context):
    tab = common.TaskTab("control", control.read_job, {}, None)
    taken, summary, tabs = compare.take_over(context, tab, VALUES)
    assert taken.job.request.num_smoothing_steps == 7
    assert "a red cube" in summary
    assert tabs["selected"] == compare.NAME
    made = {"task": "edit", "cells": [None, {"mixing_ratio": 0.75, "seed": 5}]}
    places = [("control", "mixing_ratio"), ("edit", "mixing_ratio"), ("edit", "seed"), ("edit", "mixing_rule")]
    selected, *updates = compare.send_back(places, {"chosen": 1}, made)
    assert selected["selected"] == "edit"
    assert [update.get("value") for update in updates] == [None, 0.75, 5, None]
    for chosen in (None, 0, 9):
        with pytest.raises(Exception, match="No clip is chosen"):
            compare.send_back(places, {"chosen": chosen}, made)
    with pytest.raises(Exception, match="nothing to use"):
        compare.send_back(places, {"chosen": 1}, None)


@pytest.mark.browser
def test_from_a_tab_to_the_comparison_and_back(run, chromium):
    run.pause = 0.2
    page = build_page(fake_context(run))
    _, url, _ = page.launch(prevent_thread_lock=True, quiet=True, **launch_options())
    shown = chromium.new_page(viewport={"width": 1280, "height": 900})
    complaints = []
    shown.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    shown.goto(url)
    shown.locator("#control-compare").click(timeout=30_000)
    expect(shown.locator("#compare-start")).to_be_visible(timeout=30_000)
    shown.locator("#compare-ratios textarea, #compare-ratios input").first.fill("0, 1")
    shown.locator("#compare-start").click()
    expect(shown.locator("#compare-progress")).to_contain_text("Done in", timeout=60_000)
    expect(shown.locator("#compare-findings")).to_contain_text("Recommended")
    shown.locator("#compare-player .bdc-cell").last.get_by_role("button", name="Choose").click()
    shown.locator("#compare-use").click()
    expect(shown.locator("#control-generate")).to_be_visible(timeout=30_000)
    expect(shown.locator("#control-mixing-ratio input[type=number]")).to_have_value("1")
    shown.close()
    page.close()
    assert complaints == []
