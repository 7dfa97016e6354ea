"""The page in Firefox: every task to a clip that plays, a comparison, the history, and nothing wrong on the console."""

from __future__ import annotations

from contextlib import closing

import pytest
from browser import find_firefox
from fake_run import FakeRun, fake_context
from firefox import Firefox
from pages import LABELS

from bivdiff.catalog.tasks import TASKS
from tabs import compare, models
from tabs.history import layout
from tabs.page import build_page, launch_options

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]  # one long visit, on a busy machine too

PATIENCE = 100  # seconds the page may take on a busy machine
# The number of frames that are shown, one after the other, until there are three; a page that does not play never ends.
PLAYS = """new Promise((resolve) => {
  const seen = new Set();
  const look = () => {
    const canvas = document.querySelector("#%s-player .bdp-tile canvas");
    seen.add(canvas.dataset.frame + canvas.getContext("2d").getImageData(20, 60, 40, 40).data.join());
    if (seen.size > 2) resolve(seen.size);
    else requestAnimationFrame(look);
  };
  look();
})"""
INSIDE = """(() => {
  const box = document.querySelector("%s").getBoundingClientRect();
  return box.top >= 0 && box.bottom <= innerHeight && box.width > 0;
})()"""

DRAWN = """[...document.querySelectorAll("%s")].every((canvas) => {
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  return new Set(data).size > 50;
}) && 1"""


@pytest.fixture(scope="module")
def run():
    return FakeRun()


@pytest.fixture(scope="module")
def firefox(run, tmp_path_factory):
    path = find_firefox()
    if path is None:
        pytest.skip("No Firefox on this machine: python tests/browser.py installs one where apt does.")
    page = build_page(fake_context(run))
    _, url, _ = page.launch(prevent_thread_lock=True, quiet=True, **launch_options())
    with closing(page), closing(Firefox(path, tmp_path_factory.mktemp("profile"), 1280, 800, PATIENCE)) as browser:
        browser.open(url)
        browser.wait_for("document.querySelector('#control-generate') !== null")
        yield browser


@pytest.fixture(autouse=True)
def _nothing_is_wrong(firefox):
    yield
    assert firefox.wrong == []


def test_the_first_screen_holds_generate_and_a_before_and_after(firefox):
    for selector in ("#control-generate", "#hero .bd-hero-stage", "#hero .bd-hero-figure"):
        assert firefox.wait_for(INSIDE % selector)
    assert firefox.wait_for(DRAWN % "#control-samples canvas") == 1  # which needs no codec of the browser's


@pytest.mark.parametrize("task", TASKS)
def test_every_task_makes_clips_that_play(firefox, run, task):
    firefox.click(f"#{task}-tab-button")
    shown = f"document.querySelectorAll('#{task}-player .bdp-tile canvas[data-frame]').length"
    firefox.wait_for(f"{shown} === {len(LABELS[task])}")
    firefox.click(f"#{task}-generate")
    firefox.wait_for(f"document.querySelector('#{task}-progress [data-state=done]') !== null")
    firefox.wait_for(f"{shown} === {len(LABELS[task])}")
    firefox.wait_for(f"!document.querySelector('#{task}-player .bd-player').player.state().loading")
    assert run.requests[-1].task == task
    firefox.click(f"#{task}-player [aria-label=Play]")
    assert firefox.read(PLAYS % task) == 3


def test_a_comparison_shows_every_ratio(firefox):
    firefox.click("#control-tab-button")
    firefox.click("#control-compare")
    firefox.wait_for(f"document.querySelector('#{compare.NAME}-progress [data-state=done]') !== null")
    tiles = f"document.querySelectorAll('#{compare.NAME}-tab .bdp-tile canvas[data-frame]').length"
    assert firefox.wait_for(f"{tiles} > 5 && {tiles}") >= 6


def test_the_history_has_the_runs_and_the_models_are_listed(firefox):
    firefox.click(f"#{layout.NAME}-tab-button")
    runs = f"document.querySelectorAll('#{layout.NAME}-list .bd-history-list > li').length"
    assert firefox.wait_for(runs) >= len(TASKS)
    firefox.click(f"#{models.NAME}-tab-button")
    assert firefox.wait_for(f"document.querySelectorAll('#{models.NAME}-list .bd-model').length") > 10
