"""“Try five ratios”: a comparison that a task's own player shows, whose clips the ratio's slider then plays."""

from __future__ import annotations

from dataclasses import replace

import gradio as gr
import pytest
from fake_run import DRAWN_SEED, FakeRun, Hold, fake_context
from pages import WIDE, overflow, shows_all
from playwright.sync_api import expect

from tabs import control, ratios, smooth, task_tab
from tabs.page import build_page, launch_options
from tabs.results import series_of

ANNA = "a" * 32
VALUES = {"sample": 1, "prompt": "a red cube", "mixing_ratio": 0.6, "random_seed": True, "visitor": ANNA}


def tried(context, values=VALUES, read=control.read_job, task="control"):
    """What the page was shown, and the board."""
    views = list(ratios.try_ratios(context, task_tab.place_of(task), read, task, values))
    (job,) = context.jobs.of(ANNA)
    return views, job.board


def last(views, name):
    return next(getattr(view, name) for view in reversed(views) if getattr(view, name) != gr.skip())


def test_five_clips_of_one_request_come_into_the_tasks_own_player():
    context = fake_context(FakeRun())
    views, board = tried(context)
    player = last(views, "player")
    assert [each["ratio"] for each in player["ratios"]] == [0, 0.25, 0.5, 0.75, 1]
    assert len({each["sheet"]["src"]["path"] for each in player["ratios"]}) == 5
    tiles = {each["label"]: each for each in player["tiles"]}
    assert player["ratio"] == 0.5  # the nearest to the slider's
    assert tiles["Bridged"]["sheet"] == player["ratios"][2]["sheet"]
    assert tiles["Bridged"]["rest"]["before"] == tiles["Frame by frame"]["rest"]["level"]
    assert not any(each.get("pending") for each in tiles.values())
    assert last(views, "seed") == DRAWN_SEED
    assert last(views, "panel")["detail"] == f"{board.why} {ratios.PLAYED}"
    assert board.why.startswith("Recommended: ratio ")
    assert player["series"] == series_of(replace(board.request, seed=DRAWN_SEED))
    (run,) = context.runs.find(ANNA)
    assert (run.kind, run.state) == ("comparison", "done")
    assert player["downloads"][0]["file"]["path"] == str(run.files["zip"])


def test_the_seed_is_that_of_the_run_before_so_its_stages_are_used_again():
    context = fake_context(FakeRun())
    list(task_tab.generate(context, control.read_job, "control", VALUES))
    seed = context.jobs.of(ANNA)[0].board.request.seed
    list(ratios.try_ratios(context, task_tab.place_of("control"), control.read_job, "control", VALUES))
    assert context.jobs.of(ANNA)[0].board.request.seed == seed


def test_given_frames_have_their_place_too():
    player = last(tried(fake_context(FakeRun()), read=smooth.read_job, task="smooth")[0], "player")
    tiles = {each["label"]: each for each in player["tiles"]}
    assert tiles.keys() == {"Your frames", "Bridged"}
    assert tiles["Your frames"]["rest"]["level"] == tiles["Bridged"]["rest"]["before"]


def test_what_is_ready_stays_when_it_is_stopped():
    hold = Hold("cell")
    run = FakeRun(before=hold)
    context = fake_context(run)
    hold.let(2)
    views = ratios.try_ratios(context, task_tab.place_of("control"), control.read_job, "control", VALUES)
    for view in views:
        if view.player != gr.skip() and len(view.player.get("ratios", ())) == 2:
            break
    (job,) = context.jobs.of(ANNA)
    context.jobs.cancel(job)
    hold.let()
    rest = list(views)
    assert job.state == "cancelled"
    assert len(job.board.shown()["player"]["ratios"]) >= 2
    assert last(rest, "panel")["state"] == "stopped"


def test_a_refused_request_is_told_and_nothing_is_made():
    context = fake_context(FakeRun())
    (view,) = ratios.try_ratios(
        context, task_tab.place_of("control"), control.read_job, "control", {**VALUES, "start_level": 7}
    )
    assert view.panel["state"] == "failed"
    assert context.runs.find(ANNA) == []


@pytest.mark.browser
def test_the_slider_plays_what_five_ratios_made(chromium):
    page = build_page(fake_context(FakeRun()))
    _, url, _ = page.launch(prevent_thread_lock=True, quiet=True, **launch_options())
    complaints = []
    shown = chromium.new_page(viewport=WIDE)
    shown.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    shown.goto(url)
    shows_all(shown, "control")
    shown.locator("#control-prompt textarea").fill("a green cone")
    shown.get_by_role("button", name="Try five ratios").first.click()
    expect(shown.locator("#control-progress")).to_contain_text(ratios.PLAYED)
    expect(shown.locator("#control-ratio-scale .bd-ratio-mark")).to_have_count(5)
    bridged = shown.locator('#control-player .bdp-tile[data-label="Bridged"]')
    for ratio in ("0.25", "1"):
        shown.evaluate("([ratio]) => window.bdSetRatio('control', Number(ratio))", [ratio])
        expect(bridged).to_contain_text(f"ratio {ratio}")
    assert overflow(shown) <= 0
    shown.close()
    page.close()
    assert complaints == []
