"""The tab "Compare": from a task's tab and back, cell by cell, on the server and in the browser."""

from __future__ import annotations

import zipfile
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import gradio as gr
import pytest
from fake_run import DRAWN_SEED, FakeRun, Hold, fake_context
from pages import LOWEST_CONTRAST, come_to_rest, place, shows_all
from patience import PATIENCE
from playwright.sync_api import expect

from bivdiff.compare.axes import AXES, check_axes
from bivdiff.compare.steadiness import UNSEEN
from bivdiff.compare.sweep import CellEvent
from bivdiff.errors import InputError, ModelUnavailableError
from bivdiff.models.cost import walks_of
from bivdiff.types import StepEvent
from tabs import compare, control, following, task_tab
from tabs.comparison import SweepProgress
from tabs.examples import comparison_example
from tabs.page import build_page, launch_options
from tabs.progress import RunProgress

VALUES = {"sample": 1, "prompt": "a red cube", "random_seed": True, "num_smoothing_steps": 7}


@pytest.fixture
def run():
    return FakeRun()


@pytest.fixture
def context(run):
    return fake_context(run)


@pytest.fixture
def pending():
    paper = {"frame_prior": "image", "mixing_rule": "linear", "start_level": 1.0}
    return compare.Pending("control", {**VALUES, **paper})


@pytest.fixture
def submission(context, pending):
    return control.read_job(context, pending.values)


READERS = {"control": control.read_job}


def comparison(context, pending, *given, visitor="a" * 32):
    return [view._asdict() for view in compare.compare(context, READERS, pending, *given, visitor)]


@pytest.mark.parametrize(("given", "axes"), [
    (("0, 0.5,1", "", ""), {"mixing_ratio": [0.0, 0.5, 1.0]}),
    (("0.5,0.5", "mixing_rule", "linear, slerp"), {"mixing_ratio": [0.5], "mixing_rule": ["linear", "slerp"]}),
    (("", "seed", "1,2"), {"seed": [1, 2]}),
    (("0.5", "frame_prior", ["image", "video", "mean"]),
     {"mixing_ratio": [0.5], "frame_prior": ["image", "video", "mean"]}),
    (("", "start_level", ["0.4", 0.6, 1]), {"start_level": [0.4, 0.6, 1.0]}),
    (("", "frame_attention", ["none", "both"]), {"frame_attention": ["none", "both"]}),
    (("", "mixing_rule", ["capped"]), {"mixing_rule": ["capped"]}),
])  # fmt: skip
def test_what_is_written_becomes_the_settings_to_compare(given, axes):
    assert compare.axes_of(*given) == axes


@pytest.mark.parametrize(("given", "named"), [
    (("a,b", "", ""), "'a' is not a valid value for mixing_ratio"),
    (("0", "seed", "1.5"), "seed"), (("0", "colour", "1"), "colour"),
])  # fmt: skip
def test_what_cannot_be_read_is_told(given, named):
    with pytest.raises(InputError, match=named):
        compare.axes_of(*given)


@pytest.mark.parametrize(("other", "choices"), [
    ("frame_prior", [("The image model's (the paper)", "image"), ("The video model's, frame by frame", "video"),
                     ("The clip's own, at rest", "mean")]),
    ("start_level", [("0.4", "0.4"), ("0.6", "0.6"), ("0.8", "0.8"), ("1", "1")]),
    ("frame_attention", [("Alone (the paper)", "none"), ("With the first frame", "first"),
                         ("With the frame before", "previous"), ("With the first and the one before", "both")]),
    ("video_model", [("toybox-video", "toybox-video")]),
])  # fmt: skip
def test_a_second_setting_offers_its_values_in_words_and_all_are_chosen(context, other, choices):
    offered = compare.offer_values(context, other)
    assert offered["choices"] == choices
    assert offered["value"] == [key for _, key in choices]
    assert offered["visible"]


def test_what_is_offered_can_be_compared_and_every_setting_has_a_name(context, submission):
    assert set(compare.OTHERS) == set(AXES) - {"mixing_ratio"}
    for other in compare.OTHERS:
        axes = compare.axes_of("0, 1", other, compare.offer_values(context, other)["value"])
        check_axes(submission.request, axes)
    hidden = compare.offer_values(context, "")
    assert (hidden["visible"], hidden["value"]) == (False, [])


def test_stages_that_were_there_are_named(context, submission):
    board = compare.ComparisonBoard(context, submission, {"mixing_ratio": [0.5]}, "a" * 32)
    board._made = [SimpleNamespace(reused=("framewise", "frame inversion", "video inversion"))]
    assert board._again() == (
        "Used again from earlier: the frames, the video model's inversion of single frames, the video model's "
        "inversion."
    )


# The example


def test_a_finished_example_is_shown_until_a_comparison_starts(context, pending):
    shown, says = comparison_example("toybox")
    assert [tile["label"] for tile in shown["tiles"]] == [
        "Frame by frame", "The paper's blend", "The frame view", "The truth"
    ]  # fmt: skip
    assert [tile["sublabel"] for tile in shown["tiles"]] == [
        "the image model alone", "ratio 0.5, noise of the image model", "ratio 0.5, noise of the video model",
        "what the prompt describes",
    ]  # fmt: skip
    assert [tile["sheet"]["count"] for tile in shown["tiles"]] == [shown["numFrames"]] * 4
    assert shown["tiles"][3]["scores"]["Sharpness, truth = 100%"] == "100%"
    flickers = [tile["rest"]["level"] for tile in shown["tiles"]]
    assert flickers[0] > max(flickers[1:3]) > UNSEEN > flickers[3]
    assert shown["before"] == 1
    assert all(tile["rest"]["words"].endswith("less than frame by frame") for tile in shown["tiles"][1:])
    assert all(tile["heat"]["mean"] == tile["rest"]["level"] for tile in shown["tiles"])
    assert f"frame by frame it flickers by {flickers[0]:.1f} levels" in says
    assert f"the frame view leaves {flickers[2]:.1f}" in says
    views = comparison(context, pending, "0, 1", "", "")
    first = next(view for view in views if "tiles" in view["player"])
    assert [tile["label"] for tile in first["player"]["tiles"]] == ["Frame by frame", "ratio 0", "ratio 1"]
    assert first["findings"] == ""


def test_other_models_have_no_example():
    assert comparison_example("sd15") == (None, "")


def test_cells_come_one_by_one_and_the_recommended_one_is_marked(run, context, pending):
    run.before, views, filled = Hold("cell"), [], []
    for view in compare.compare(context, READERS, pending, "0, 0.5, 1", "", "", "a" * 32):
        views.append(view._asdict())
        if "tiles" in view.player:
            cells = [cell["sheet"] is not None for cell in view.player["tiles"][1:]]
            if cells not in filled:
                filled.append(cells)
                run.before.let(1)  # the next clip is made once this one is seen
    waiting, *one_by_one = filled
    assert waiting == [False] * 3
    assert one_by_one == [[True, False, False], [True, True, False], [True] * 3]
    running = [view["panel"] for view in views if view["panel"]["state"] == "running"]
    passed = [panel["elapsed"] for panel in running]
    assert passed == sorted(passed)
    assert running[0]["remaining"] is None
    left = [panel["remaining"] for panel in running if panel["remaining"] is not None]
    assert len(left) > 1
    last = views[-1]
    assert last["panel"]["state"] == "done"
    assert last["player"]["before"] == last["made"]["before"] == 1
    before, *shown = last["player"]["tiles"]
    assert (before["label"], before["rest"]["words"]) == ("Frame by frame", "none, as frame by frame")
    assert last["player"]["recommended"] == 1  # the others are dimmer, and steadier for that; but less alike
    assert last["player"]["paper"] == 3
    assert shown[0]["best"] == ["Sharpness, frame by frame = 100%", "Likeness to the frames (SSIM)"]
    assert last["made"]["cells"] == [{"mixing_ratio": ratio, "seed": DRAWN_SEED} for ratio in (0.0, 0.5, 1.0)]
    assert "<strong>Recommended: ratio 0. It " in last["findings"]
    assert "<summary>Why?</summary>" in last["findings"]
    assert "<svg" in last["findings"]
    assert "currentColor" in last["findings"]  # the labels of the chart are those of the page, dark or light
    with zipfile.ZipFile(last["download"]["value"]) as archive:
        names = archive.namelist()
    assert {"scores.csv", "scores.json", "index.html"} <= {name.rpartition("/")[2] for name in names}
    (kept,) = context.runs.find("a" * 32)
    assert (kept.id, kept.kind, kept.state) == (last["made"]["run_id"], "comparison", "done")
    _, again = following.resume(context, compare.PLACE, "a" * 32 + ".2")
    assert again.player == last["player"]
    assert len(list(following.resume(context, compare.PLACE, "b" * 32))) == 1


def test_elapsed_counts_from_when_a_comparison_was_asked_for(context, submission):
    now = 100.0
    board = compare.ComparisonBoard(context, submission, {}, "a" * 32, clock=lambda: now)
    now = 107.0
    assert board.panel()["elapsed"] == 7
    board.take(StepEvent("load", 0, 1, ""))
    now = 108.0
    assert board.panel()["elapsed"] == 8


@pytest.mark.filterwarnings("ignore:The ")
def test_the_log_has_a_line_for_each_stage_and_clip_and_for_the_end(run, context, pending, caplog):
    caplog.set_level("INFO", logger="tabs.comparison")
    comparison(context, pending, "0, 1", "", "")
    run.error = ModelUnavailableError("The video model has gone.")
    comparison(context, pending, "0, 1", "", "")
    first = ["load: Models loaded", "smoothing: Smoothing", "ready: ratio 0, 1.0 s"]
    done, failed = ["ready: ratio 1, 1.0 s", "done: 2 clips, 1.0 s"], ["failed: The video model has gone."]
    told = [record.getMessage() for record in caplog.records if record.name == "tabs.comparison"]
    assert told == [*first, *done, *first, *failed]


def test_a_failure_keeps_the_cells_that_are_ready(run, context, pending):
    run.error = ModelUnavailableError("The video model has gone. Fetch it again.")
    *_, failed = comparison(context, pending, "0, 1", "", "")
    assert failed["panel"]["headline"] == "The video model has gone. Fetch it again."
    assert [cell["sheet"] is not None for cell in failed["player"]["tiles"]] == [True, True, False]
    assert [cell["pending"] for cell in failed["player"]["tiles"]] == [False, False, False]
    assert [cell is not None for cell in failed["made"]["cells"]] == [True, False]
    (kept,) = context.runs.find("a" * 32)
    assert (kept.state, kept.message) == ("failed", "The video model has gone. Fetch it again.")
    with zipfile.ZipFile(failed["download"]["value"]) as archive:
        assert {"cells/01-ratio-0.mp4", "scores.csv", "grid.mp4"} <= set(archive.namelist())


def test_a_cancelled_comparison_has_files_and_findings_of_what_was_ready(run, context, pending):
    run.before = Hold("cell")
    run.before.let(1)
    for view in compare.compare(context, READERS, pending, "0, 0.5, 1", "", "", "a" * 32):
        if "tiles" in view.player and view.player["tiles"][1]["sheet"]:
            following.cancel(context, compare.PLACE, "a" * 32)
            run.before.let()
    last = view._asdict()
    assert last["panel"]["state"] == "stopped"
    ready = sum(cell["sheet"] is not None for cell in last["player"]["tiles"][1:])
    assert ready == 1
    assert "Recommended" in last["findings"]
    with zipfile.ZipFile(last["download"]["value"]) as archive:
        assert len([name for name in archive.namelist() if name.startswith("cells/01")]) == ready
    (kept,) = context.runs.find("a" * 32)
    assert kept.state == "cancelled"
    assert kept.files["zip"].is_file()


def test_a_bad_value_runs_nothing(run, context, pending):
    (view,) = comparison(context, pending, "two", "", "")
    assert "two" in view["panel"]["headline"]
    assert run.fitted == []


def test_too_many_clips_and_values_out_of_range_are_refused_before_anything_is_kept(run, context, pending):
    many = ",".join(str(number / 3000) for number in range(3000))
    for given, told in (
        ((many, "seed", "1,2"), "6000 clips"),
        (("0, 7", "", ""), "mixing_ratio"),
        (("", "", ""), "at a"),
    ):
        (view,) = comparison(context, pending, *given)
        assert told in view["panel"]["headline"]
    assert run.fitted == []
    assert context.runs.find("a" * 32) == []


def test_a_clip_longer_than_the_owner_allows_is_refused_wherever_it_comes_from(run, pending, submission):
    context = fake_context(run, max_frames=4)
    (view,) = comparison(context, pending, "0, 1", "", "")
    assert "up to 4 frames, and this one has 8" in view["panel"]["headline"]
    with pytest.raises(InputError, match="up to 4 frames"):
        task_tab.submit(context, "control", submission, "a" * 32)
    assert run.fitted == run.requests == []


def test_a_random_seed_is_that_of_the_last_job_with_the_same_frames(context, pending, submission):
    for given in (("0, 1", "", ""), ("0.5", "mixing_rule", "slerp")):
        comparison(context, pending, *given)
    context.jobs.of("a" * 32)[0].board.request = replace(context.jobs.of("a" * 32)[0].board.request, seed=77)
    assert compare.with_last_seed(context, submission.request, "a" * 32).seed == 77
    assert compare.with_last_seed(context, replace(submission.request, seed=5), "a" * 32).seed == 5
    others = [(replace(submission.request, prompt="a cone"), "a" * 32), (submission.request, "b" * 32)]
    for request, owner in others:
        assert compare.with_last_seed(context, request, owner).seed not in (None, 77)


def test_two_comparisons_of_the_same_have_the_same_seed(context, pending):
    seeds = []
    for _ in range(2):
        comparison(context, pending, "0, 1", "", "")
        seeds.append(context.jobs.of("a" * 32)[0].board.request.seed)
    assert seeds[0] == seeds[1] is not None


def test_what_cannot_be_written_is_told_and_not_left_running(context, pending, monkeypatch):
    def full(*_):
        raise InputError("The disk is full. Make room.")

    monkeypatch.setattr("bivdiff.compare.export.export", full)
    *_, last = comparison(context, pending, "0, 1", "", "")
    assert last["panel"]["detail"] == "The disk is full. Make room."
    (kept,) = context.runs.find("a" * 32)
    assert (kept.state, kept.message) == ("failed", "The disk is full. Make room.")


@pytest.mark.parametrize("fails", ["begin", "finish_comparison"])
def test_a_comparison_that_the_history_cannot_keep_has_its_files_all_the_same(context, pending, monkeypatch, fails):
    def locked(*_, **__):
        raise InputError("The history is locked. Try again later.")

    monkeypatch.setattr(context.runs, fails, locked)
    *_, last = comparison(context, pending, "0, 1", "", "")
    assert ("could not keep" if fails == "begin" else "is locked") in last["panel"]["detail"]
    assert len([tile for tile in last["player"]["tiles"] if tile["sheet"]]) >= 3
    with zipfile.ZipFile(last["download"]["value"]) as archive:
        assert {"grid.mp4", "scores.csv"} <= set(archive.namelist())
    assert last["player"]["downloads"] == []  # a film is made of what the history has


def test_without_a_tabs_settings_the_first_sample_is_compared(context):
    views = comparison(context, None, "0,1", "", "")
    kept = context.runs.get(views[-1]["made"]["run_id"], "a" * 32)
    assert (kept.task, kept.prompt) == ("control", context.samples[0].prompt)
    assert "first sample" in compare.say_pending(context)


def test_a_tabs_settings_are_taken_over_and_a_chosen_cells_go_back(context):
    controls = {
        "visitor": gr.Textbox(), "restored": gr.Textbox(), "prompt": gr.Textbox(), "mixing_ratio": gr.Slider(0, 1),
        "num_smoothing_steps": gr.Slider(1, 50), "seed": gr.Number(), "random_seed": gr.Checkbox(),
    }  # fmt: skip
    tab = task_tab.TaskTab("control", control.read_job, controls, None)
    taken, summary, ratios, tabs, other, values, by = compare.take_over(context, tab, VALUES | {"mixing_ratio": 0.3})
    assert taken.task == by == "control"
    assert (other["value"], values["visible"]) == ("", False)
    assert ratios == "0, 0.25, 0.3, 0.5, 0.75, 1"
    assert taken.values["num_smoothing_steps"] == 7
    assert "a red cube" in summary
    assert tabs["selected"] == compare.NAME
    made = comparison(context, taken, "0, 0.75", "", "")[-1]["made"]
    other = task_tab.TaskTab("edit", control.read_job, {"visitor": gr.Textbox(), "prompt": gr.Textbox()}, None)
    back = partial(compare.send_back, context, [other, tab])
    selected, untouched, *updates, others, shown = back({"chosen": 2}, made, "a" * 32)
    assert selected["selected"] == "control"
    assert "value" not in untouched
    assert {name: update["value"] for name, update in zip(list(controls)[1:], updates, strict=True)} == {
        "restored": made["run_id"], "prompt": "a red cube", "mixing_ratio": 0.75, "num_smoothing_steps": 7,
        "seed": DRAWN_SEED, "random_seed": False,
    }  # fmt: skip
    assert "tiles" not in others
    clips = {tile["label"]: tile for tile in shown["tiles"]}
    assert clips["Bridged"]["file"]["orig_name"] == "02-ratio-0.75.mp4"
    assert clips["Frame by frame"]["sheet"]
    assert clips["Source"]["sheet"]
    assert ("Flicker at rest", "none, as frame by frame") in map(tuple, shown["facts"])
    for chosen in (None, 0, 9):  # the first is what they were made of
        with pytest.raises(gr.Error, match="No clip is chosen"):
            back({"chosen": chosen}, made, "a" * 32)
    with pytest.raises(gr.Error, match="nothing to use"):
        back({"chosen": 1}, None, "a" * 32)
    with pytest.raises(gr.Error, match="not in your history"):
        back({"chosen": 1}, made, "b" * 32)


@pytest.mark.browser
def test_from_a_tab_to_the_comparison_and_back(run, chromium):
    run.before = Hold("cell")
    run.before.let(1)
    page = build_page(fake_context(run))
    _, url, _ = page.launch(prevent_thread_lock=True, quiet=True, **launch_options())
    shown = chromium.new_page(viewport={"width": 1280, "height": 900})
    complaints = []
    shown.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    shown.goto(url)
    shows_all(shown, "control")  # it is connected
    shown.locator("#control-compare").click()
    expect(shown.locator("#compare-start")).to_be_visible()
    assert run.before.reached.wait(PATIENCE)  # the first clip is there, or on its way
    expect(shown.locator("#compare-player .bd-player")).to_have_css("display", "flex")  # it has its looks
    run.before.let()
    expect(shown.locator("#compare-progress")).to_contain_text("Done in")  # nothing else was pressed
    expect(shown.locator("#compare-findings")).to_contain_text("Recommended")
    player = shown.locator("#compare-player")
    expect(player.locator(".bdp-tile")).to_have_count(6)
    expect(player.locator(".bdp-tile").first.get_by_role("button", name="Choose")).to_have_count(0)
    last = player.locator(".bdp-tile").last.locator(".bdp-choose")
    last.click()
    expect(last).to_have_text("✓ Chosen")
    come_to_rest(shown)
    assert shown.evaluate(LOWEST_CONTRAST)[0] >= 4.5  # under the pointer too
    player.get_by_role("button", name="Wipe").click()
    expect(player.locator(".bdp-stage .bdp-label")).to_have_text(["ratio 0", "Frame by frame"])
    shown.locator("#compare-use").click()
    expect(shown.locator("#control-generate")).to_be_visible()
    expect(shown.locator("#control-mixing-ratio input[type=number]")).to_have_value("1")
    facts = shown.locator("#control-player .bdp-facts")
    expect(facts).to_contain_text("Flicker at rest")  # it is the chosen clip, and the example no more
    expect(place(shown, "control", "Bridged").locator("canvas[data-frame]")).to_have_count(1)
    expect(facts).not_to_contain_text("Before your last change")  # filling its settings in was none
    shown.close()
    page.close()
    assert complaints == []


def test_the_stage_that_is_made_now_is_marked_as_a_task_marks_it(context, submission):
    board = compare.ComparisonBoard(context, submission, {"mixing_ratio": [0.0, 1.0]}, "a" * 32)
    assert {chip["state"] for chip in board.panel()["stages"]} == {"todo"}
    marks = {}
    for stage in ("load", "control", "framewise", "inversion", "smoothing"):
        board.take(StepEvent(stage, 1, 2, ""))
        chips = {chip["key"]: (chip["state"], chip["percent"]) for chip in board.panel()["stages"]}
        assert chips[stage] == ("now", 50)
        marks[stage] = [state for state, _ in chips.values()]
    assert marks["load"] == ["now", *["todo"] * 4]
    assert marks["control"] == ["done", "now", *["todo"] * 3]
    assert marks["smoothing"] == [*["done"] * 4, "now"]
    task = RunProgress(submission.request)
    task.take(StepEvent("load", 1, 2, ""))
    assert task.panel()["stages"] == [
        chip | {"percent": 50, "state": "now"} if chip["key"] == "load" else chip
        for chip in compare.PLACE.idle()["stages"]
    ]  # fmt: skip


def test_how_much_is_done_counts_what_clips_share_once_and_what_was_there_not_at_all(submission):
    now = 0.0
    values = [{"mixing_ratio": ratio} for ratio in (0.25, 0.5)]
    requests = [replace(submission.request, frame_prior="mean", **each) for each in values]  # one inversion
    work = {walk.stage: walk.evaluations for walk in walks_of(requests[0])}
    progress = SweepProgress(requests, values, lambda: now)
    assert progress.remaining() is None
    progress.take(CellEvent("framewise", 1, 1, "The frames were there already"))
    assert progress.share() == 0
    for step in range(1, 5):
        progress.take(CellEvent("inversion", step, 4, "Inverting with the video model"))
    now = 6.0
    whole = work["inversion"] + 2 * work["smoothing"]
    assert progress.share() == pytest.approx(work["inversion"] / whole)
    assert progress.remaining() == pytest.approx(6 * 2 * work["smoothing"] / work["inversion"])
    progress.ready(0)
    assert progress.share() == pytest.approx((work["inversion"] + work["smoothing"]) / whole)
    progress.take(CellEvent("smoothing", 2, 4, "Smoothing", cell=1))
    assert progress.share() == pytest.approx(1 - work["smoothing"] / 2 / whole)


def test_while_the_first_clip_is_made_the_frames_are_seen_and_the_step_is_told(context, submission):
    board = compare.ComparisonBoard(context, submission, {"mixing_ratio": [0.0, 1.0]}, "a" * 32)
    frames = submission.request.frames
    board.take(StepEvent("framewise", 3, 8, "Frame by frame", frames))
    assert board.panel()["detail"] == "Frame by frame: step 3 of 8"
    assert board.panel()["remaining"] is not None
    before, *cells = board.shown()["player"]["tiles"]
    assert (before["label"], before["pending"], before["sheet"]["count"]) == ("Frame by frame", True, len(frames))
    assert [cell["sheet"] for cell in cells] == [None, None]


def test_frames_of_several_seeds_stand_before_their_clips(context, submission):
    axes = {"seed": [1, 2], "mixing_ratio": [0.0, 1.0]}
    board = compare.ComparisonBoard(context, submission, axes, "a" * 32)
    shown = board.shown()["player"]
    assert [tile["label"] for tile in shown["tiles"][:2]] == ["Frame by frame, seed 1", "Frame by frame, seed 2"]
    assert shown["before"] == board.made()["before"] == 2
