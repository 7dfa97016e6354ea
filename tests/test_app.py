"""The app without a browser: handlers as plain functions, and each endpoint through a client.

The models are a stand-in (`fake_run.py`), but for one round trip through the real pipeline with random weights.
"""

from __future__ import annotations

import subprocess
import sys
import threading
import zipfile
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import gradio as gr
import gradio.networking
import gradio.routes
import httpx
import numpy as np
import pytest
from fake_run import FakeRun, Hold, fake_context
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from pages import LABELS
from patience import PATIENCE, until_ended
from sheets import cut_up

from bivdiff.catalog.requests import blank_request
from bivdiff.errors import InputError, ModelUnavailableError
from bivdiff.media.reading import probe, read_clip
from bivdiff.types import StepEvent
from tabs import control, edit, failures, following, inpaint, outpaint, queue, serving, smooth, task_tab
from tabs.context import AppContext
from tabs.page import build_page, launch_options
from tabs.progress import RunProgress
from tabs.prompts import unknown_words
from tabs.source import pick_sample, take_words, words_of_a_sample
from tabs.widgets import player
from tabs.widgets.player import sheet

ROOT = Path(__file__).resolve().parent.parent
TABS = {tab.TASK: tab for tab in (control, edit, inpaint, outpaint, smooth)}
FEW_STEPS = {"num_inference_steps": 2, "num_inversion_steps": 2, "num_smoothing_steps": 2}


def values(**changes):
    """A filled-in page."""
    return {"sample": 0, "video": None, "prompt": "a red cube", "random_seed": True, "seed": 0, **FEW_STEPS, **changes}


def shown(view):
    """The parts of a view that change."""
    return {name: part for name, part in view._asdict().items() if not (isinstance(part, dict) and "__type__" in part)}


@pytest.fixture
def run():
    return FakeRun()


@pytest.fixture
def context(run):
    return fake_context(run)


# From the page to a request


def test_a_page_becomes_a_request(context):
    job = control.read_job(context, values(mixing_ratio=0.25, control_type="depth", random_seed=False, seed=7.0))
    assert job.request.frames.shape == (8, 128, 128, 3)
    assert (job.request.mixing_ratio, job.request.image_model, job.request.seed) == (0.25, "controlnet", 7)
    assert [item.control_type for item in job.request.controls] == ["depth"]
    assert job.fps == 8


def test_trimming_chooses_frames(context):
    whole = control.read_job(context, values()).request.frames
    part = control.read_job(context, values(start=0.125, stride=2, num_frames=3)).request.frames
    np.testing.assert_array_equal(part, whole[1:7:2])


def test_an_upload_goes_before_the_sample(context):
    upload = str(context.samples[3].file)
    got = control.read_job(context, values(sample=0, video=upload)).request.frames
    np.testing.assert_array_equal(got, control.read_job(context, values(sample=3)).request.frames)


@pytest.mark.parametrize(
    "wrong",
    [
        {"sample": 99},
        {"sample": "x"},
        {"mixing_ratio": 2},
        {"mixing_ratio": float("nan")},
        {"num_inference_steps": 2.5},
        {"prompt": "x" * 10_000},
        {"prompt": "a\x00b"},
        {"seed": -1, "random_seed": False},
        {"control_type": "nothing"},
        {"start": 1e6},
        {"video": __file__},
        {"mixing_rule": "sum"},
    ],
)
def test_what_cannot_be_used_is_refused_with_a_sentence(context, wrong):
    with pytest.raises(InputError, match=r"\.$"):
        control.read_job(context, values(**wrong))


TEXTS = {"prompt": lambda sample: sample.prompt, "source_prompt": lambda sample: sample.caption}


@pytest.mark.parametrize(
    ("prompt", "strange"),
    [("a red cube at noon", []), ("a red Dragon, flying", ["dragon", "flying"]), ("", []), (None, []), ("<b>", ["b"])],
)
def test_unknown_words_are_named(prompt, strange):
    hint = unknown_words(prompt)
    assert bool(hint) == bool(strange)
    assert all(word in hint for word in strange)


def test_picking_a_sample_drops_the_upload_and_fills_in_its_prompt(context):
    sample, before = context.samples[2], context.samples[1]
    for text in (before.prompt, "", None):
        picked = pick_sample(context, TEXTS, {"prompt": text, "source_prompt": before.caption}, 2)
        assert picked[:4] == (None, "", sample.prompt, sample.caption)
        assert [each["visible"] for each in picked[4:]] == [False, False]


def test_own_words_are_never_replaced_without_being_asked_for(context):
    sample = context.samples[2]
    own = {"prompt": "a <b>dragon</b>", "source_prompt": context.samples[0].caption}
    _, _, prompt, source_prompt, told, take = pick_sample(context, TEXTS, own, 2)
    assert "value" not in prompt
    assert source_prompt == sample.caption
    assert sample.prompt in told["value"]
    assert told["visible"]
    assert take["visible"]
    assert take_words(context, TEXTS, 2)[:2] == (sample.prompt, sample.caption)


def test_an_upload_says_whose_words_still_stand_there(context):
    theirs = {"prompt": context.samples[0].prompt, "source_prompt": context.samples[0].caption}
    assert "describe the sample" in words_of_a_sample(context, TEXTS, theirs)[0]["value"]
    for words in ({**theirs, "prompt": "my own words"}, {"prompt": "", "source_prompt": ""}):
        assert words_of_a_sample(context, TEXTS, words)[0]["visible"] is False


# How far a run is


def test_the_meter_counts_both_inversions_and_never_goes_back(request_of):
    request = request_of(mixing_ratio=0.5)
    now = [0.0]
    meter = RunProgress(request, clock=lambda: now[0])
    shares = []
    for event in FakeRun()(request):
        if isinstance(event, StepEvent):
            now[0] += 1
            meter.take(event)
            shares.append([chip["percent"] for chip in meter.panel()["stages"]])
    assert all((np.array(after) >= before).all() for before, after in pairwise(shares))
    assert [share[3] for share in shares if share[3]][1:4:2] == [50, 100]
    assert shares[-1] == [100] * 5
    assert meter.remaining() == 0


def test_the_meter_repeats_what_the_loading_said(request_of):
    meter = RunProgress(request_of())
    meter.take(StepEvent("load", 1, 1, "Models loaded", note="The prompt is longer than the model reads."))
    meter.take(StepEvent("framewise", 1, 2, "Frame by frame"))
    assert meter.panel()["detail"] == "The prompt is longer than the model reads."


# The page's handler

ADA, BOB = "a" * 32 + ".1", "b" * 32 + ".1"


def test_generate_shows_progress_previews_and_the_result(run, context):
    run.before = Hold("smoothing")
    following_it = task_tab.generate(context, control.read_job, "control", values(visitor=ADA))
    with context.device:
        views = [next(following_it)]
    while not views[-1].panel["headline"].startswith("Inverting"):  # what comes next waits to be let
        views.append(next(following_it))
    run.before.let()
    views += following_it
    panels = [view.panel for view in views]
    assert panels[0]["headline"] == "Waiting for the models to be free"
    assert "running" in [panel["state"] for panel in panels]
    assert panels[-1]["state"] == "done"
    assert panels[-1]["detail"] == "The clips play in step."
    players = [shown(view)["player"] for view in views if "player" in shown(view)]
    filled = [[bool(tile["sheet"]) for tile in value["tiles"]] for value in players]
    assert filled[0] == [False, False, True, False]
    assert all(before <= after for one, next_ in pairwise(filled) for before, after in zip(one, next_, strict=True))
    assert filled[-1] == [True] * 4
    assert [tile["label"] for tile in players[-1]["tiles"]] == LABELS["control"]
    assert all(tile["file"] for tile in players[-1]["tiles"] if tile["label"] != "Source")
    assert views[-1].seed == run.requests[-1].seed
    assert views[0].stop["interactive"] is True
    assert views[-1].stop["interactive"] is False
    assert [len(view.queue["jobs"]) for view in (views[0], views[-1])] == [1, 0]


def test_a_given_seed_is_used_and_shown(run, context):
    *_, last = task_tab.generate(context, control.read_job, "control", values(random_seed=False, seed=99, visitor=ADA))
    assert run.requests[-1].seed == 99
    assert last.seed == 99
    assert ["Seed", "99"] in last.player["facts"]


def test_a_finished_run_is_in_the_history_with_its_clips(run, context):
    *_, _ = task_tab.generate(context, control.read_job, "control", values(visitor=ADA))
    (kept,) = context.runs.find("a" * 32)
    assert (kept.state, kept.task, kept.prompt) == ("done", "control", "a red cube")
    assert kept.seed == run.requests[-1].seed
    assert probe(kept.files["bridged"]).num_frames == 8
    # Other colours move as the source does; frames that stand on their heads do not.
    assert kept.scores["excess_flicker"] == pytest.approx(0, abs=0.01)
    assert kept.scores["framewise_excess_flicker"] > 1
    assert kept.scores["steadiness"].startswith("at least ")
    assert context.runs.find("b" * 32) == []


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            ModelUnavailableError("The weights are missing. Train them first."),
            "The weights are missing. Train them first.",
        ),
        (RuntimeError("secret /srv/path"), failures.UNEXPECTED),
    ],
)
@pytest.mark.filterwarnings("ignore:The weights are missing", "ignore:Something failed")
def test_a_failure_is_a_sentence_and_the_last_result_stays(run, context, error, said):
    *_, before = task_tab.generate(context, control.read_job, "control", values(visitor=ADA))
    run.error = error
    *_, last = task_tab.generate(context, control.read_job, "control", values(visitor=ADA))
    assert last.panel["state"] == "failed"
    assert last.panel["headline"] == said
    assert last.player == before.player
    assert "seed" not in shown(last)
    assert [(kept.state, kept.message) for kept in context.runs.find("a" * 32)] == [("failed", said), ("done", "")]


@pytest.mark.filterwarnings("ignore:The ")
def test_the_log_has_a_line_for_each_stage_and_for_the_end(run, context, caplog):
    caplog.set_level("INFO", logger="tabs.boards")
    list(task_tab.generate(context, control.read_job, "control", values(mixing_ratio=0.0, visitor=ADA)))
    run.error = ModelUnavailableError("The weights are missing.")
    list(task_tab.generate(context, control.read_job, "control", values(visitor=ADA)))
    begun = ["load: Loading the models", "control: Control map (canny)"]
    assert [record.getMessage() for record in caplog.records if record.name == "tabs.boards"] == [
        *begun, "framewise: Frame by frame", "inversion: Inverting with the video model",
        "smoothing: Smoothing", "done: load 0.5 s, control 0.0 s, framewise 1.0 s, inversion 1.0 s, smoothing 1.0 s",
        *begun, "failed: The weights are missing.",
    ]  # fmt: skip


@pytest.mark.filterwarnings("ignore:There are")
def test_a_bad_page_leaves_the_player_alone(run, context):
    (only,) = task_tab.generate(context, control.read_job, "control", values(sample=99))
    assert only.panel["state"] == "failed"
    assert "player" not in shown(only)
    assert not run.started.is_set()


def test_leaving_the_page_leaves_the_run_and_coming_back_shows_it(run, context):
    run.before = Hold("framewise")
    views = task_tab.generate(context, control.read_job, "control", values(visitor=ADA))
    next(views)
    views.close()
    run.before.let()
    *_, last = following.resume(context, task_tab.place_of("control"), ADA.replace(".1", ".2"))
    assert last.panel["state"] == "done"
    assert last.player["tiles"][-1]["sheet"]
    _, again = following.resume(context, task_tab.place_of("control"), ADA)
    assert again.player == last.player
    for task, visitor in (("control", BOB), ("edit", ADA), ("control", "")):
        (only,) = following.resume(context, task_tab.place_of(task), visitor)
        assert list(shown(only)) == ["queue"]


def test_cancelling_stops_the_run_and_keeps_what_was_made(run, context):
    run.before = Hold("smoothing")
    run.before.let(1)
    # More steps than the one that two fifths of two would be.
    views = task_tab.generate(context, control.read_job, "control", values(visitor=ADA, start_level=1.0))
    for view in views:
        if view.panel["headline"].startswith("Smoothing"):
            following.cancel(context, task_tab.place_of("control"), BOB)  # which is not theirs
            following.cancel(context, task_tab.place_of("control"), ADA)
            run.before.let()
            break
    *_, last = views
    assert run.closed.wait(PATIENCE)
    assert last.panel["headline"] == "Stopped."
    assert last.panel["detail"].startswith("What there was by then is shown.")
    assert [bool(tile["sheet"]) for tile in last.player["tiles"] if tile["label"] != "Bridged"] == [True] * 3
    (kept,) = context.runs.find("a" * 32)
    assert kept.state == "cancelled"
    assert probe(kept.files["framewise"]).num_frames == 8


def test_a_clients_record_says_when_files_are_written(context, monkeypatch):
    finish, seen = context.runs.finish, threading.Event()

    def finish_once_seen(*given):
        assert seen.wait(PATIENCE)
        return finish(*given)

    monkeypatch.setattr(context.runs, "finish", finish_once_seen)
    states = []
    for *_, record in task_tab.generate_files(context, control.read_job, "control", values()):
        states.append(record.get("state"))
        if states[-1] == "writing":
            assert (record["stage"], record["remaining"]) == ("smoothing", 0)
            seen.set()
    assert seen.is_set()
    assert states[-1] is None  # the record of the result


def test_a_second_run_waits_its_turn_and_says_for_how_long(run, context):
    run.before = Hold("framewise")
    task_tab.submit(context, "edit", control.read_job(context, values()), "b" * 32)
    views = task_tab.generate(context, control.read_job, "control", values(visitor=ADA))
    assert run.before.reached.wait(PATIENCE)
    assert "1 job before it; starts in about" in next(views).panel["headline"]
    run.before.let()
    *_, last = views
    assert last.panel["state"] == "done"
    assert len(run.requests) == 2


def test_a_newer_watch_of_the_same_window_ends_the_older_one_and_comes_after_its_last_word(run, context, monkeypatch):
    """What the older one yielded is on its way to the page until it is asked for more, as Gradio does."""
    monkeypatch.setattr(following, "HANDOVER", PATIENCE)
    run.before = Hold("framewise")
    older = task_tab.generate(context, control.read_job, "control", values(visitor=ADA))
    sent = [next(older)]
    (watched,) = context.watches.values()
    newer = task_tab.generate(context, control.read_job, "control", values(visitor=ADA))
    waiting = threading.Thread(target=lambda: sent.append(next(newer)))
    waiting.start()
    while list(context.watches.values()) == [watched]:
        assert waiting.is_alive()
        waiting.join(0.01)
    assert watched.locked()  # and the newer one waits for it
    assert list(older) == []
    waiting.join(PATIENCE)
    assert [len(view.queue["jobs"]) for view in sent] == [1, 2]
    run.before.let()
    *_, last = newer
    assert last.panel["state"] == "done"
    assert len(run.requests) == 2


def test_a_strip_that_was_overwritten_is_told_again_while_the_running_job_stands_still(run, context):
    run.before = Hold("framewise")
    views = task_tab.generate(context, control.read_job, "control", values(visitor=ADA))
    assert len(next(views).queue["jobs"]) == 1
    assert run.before.reached.wait(PATIENCE)
    task_tab.submit(context, "edit", control.read_job(context, values()), "a" * 32)  # in another window
    overdue = threading.Timer(PATIENCE, run.before.let)  # so that a follower that says nothing fails, and not hangs
    overdue.start()
    shown_jobs = [next(view for view in views if len(view.queue["jobs"]) == 2).queue["jobs"] for _ in range(3)]
    assert [[item["state"] for item in jobs] for jobs in shown_jobs] == [["running", "queued"]] * 3
    overdue.cancel()
    run.before.let()


def test_an_end_that_comes_while_one_looks_is_shown(run, context, monkeypatch):
    run.before = Hold("framewise")
    views = task_tab.generate(context, control.read_job, "control", values(visitor=ADA))
    next(views)
    before = context.jobs.before

    def ends_meanwhile(job):
        run.before.let()
        until_ended(context.jobs, job)
        return before(job)

    monkeypatch.setattr(context.jobs, "before", ends_meanwhile)
    rest = list(views)
    assert rest[-1].panel["state"] == "done"
    assert any(view.player.get("downloads") for view in rest)


def test_clips_that_cannot_be_written_are_still_shown(context, monkeypatch):
    def refuse(*_, **__):
        raise InputError("The disk is full. Make room.")

    monkeypatch.setattr(context.runs, "finish", refuse)
    *_, last = task_tab.generate(context, control.read_job, "control", values(visitor=ADA))
    assert last.panel["state"] == "done"
    assert last.panel["detail"] == "The disk is full. Make room."
    assert all(tile["sheet"] and not tile.get("file") for tile in last.player["tiles"])


def test_a_restored_run_gives_the_same_request_whatever_the_page_says_of_its_clip(context):
    mask = {"mask_source": "boxes", "boxes": "10, 10, 60, 60", "grow": 3}
    for tab, given in ((control, {"control_type": "depth"}), (inpaint, mask), (outpaint, {"left": "50%"})):
        task = tab.TASK
        before = tab.read_job(context, values(sample=3, stride=2, num_frames=3, random_seed=False, seed=5, **given))
        run_id = context.runs.begin(before.request, before.fps, "a" * 32)
        again = tab.read_job(context, values(restored=run_id, visitor=ADA, random_seed=False, seed=5, **given))
        assert again.request.settings() == before.request.settings()
        np.testing.assert_array_equal(again.request.frames, before.request.frames)
        if before.request.masks is not None:
            np.testing.assert_array_equal(again.request.masks, before.request.masks)
        with pytest.raises(InputError):
            tab.read_job(context, values(restored=run_id, visitor=BOB, **given))
        assert again.request.task == task


# The strip of jobs


def test_jobs_can_be_cancelled_and_moved_by_their_owner_alone(run, context):
    run.before = Hold("framewise")
    jobs = [task_tab.submit(context, "control", control.read_job(context, values()), "a" * 32) for _ in range(3)]
    assert run.before.reached.wait(PATIENCE)
    listed = queue.list_jobs(context, ADA)["jobs"]
    assert [item["id"] for item in listed] == [job.id for job in jobs]
    assert [item["forward"] for item in listed] == [False, False, True]
    moved = queue.act(context, jobs[2].id, "forward", ADA)["jobs"]
    assert [item["id"] for item in moved] == [jobs[0].id, jobs[2].id, jobs[1].id]
    assert queue.list_jobs(context, BOB) == {"jobs": []}
    for job, action, said in ((jobs[1].id, "dance", "Unknown action"), ("x", "cancel", "no such job")):
        with pytest.raises(gr.Error, match=said):
            queue.act(context, job, action, ADA)
    with pytest.raises(gr.Error, match="no such job"):
        queue.act(context, jobs[1].id, "cancel", BOB)
    for job in (jobs[1], jobs[2]):
        queue.act(context, job.id, "cancel", ADA)
    asked = {"asked": {"job": jobs[0].id, "action": "cancel"}}
    assert queue.act_on_page(context, asked, ADA)["jobs"][0]["state"] == "stopping"
    run.before.let()


# The preview


def test_the_preview_shows_the_source_first_and_then_its_map(context):
    first, second = control.preview_control(context, values())
    assert [bool(tile["sheet"]) for tile in first["tiles"]] == [True, False]
    assert [bool(tile["sheet"]) for tile in second["tiles"]] == [True, True]
    assert second["tiles"][1]["label"] == "Edges"


def test_the_preview_follows_the_thresholds(context):
    for high in (60, 200):
        *_, shown = control.preview_control(context, values(high_threshold=high))
        source, edges = (cut_up(tile["sheet"]) for tile in shown["tiles"])
        # As the stand-in draws edges: white wherever it is brighter than the threshold.
        np.testing.assert_array_equal(edges, np.where(source.mean(-1, keepdims=True) > high, 255, [0] * 3))


def test_the_preview_says_why_there_is_none(context):
    (only,) = control.preview_control(context, values(video=__file__))
    assert not any(tile["sheet"] for tile in only["tiles"])
    assert Path(__file__).name in only["tiles"][0]["note"]
    assert str(ROOT) not in only["tiles"][0]["note"]


def test_a_depth_preview_does_not_wait_for_a_run(context):
    with context.device:
        *_, last = control.preview_control(context, values(control_type="depth"))
    assert "busy" in last["tiles"][1]["note"]


# The player's sheets


@pytest.mark.parametrize("count", [1, 2, 3, 8, 10])
def test_a_sheet_holds_every_frame_exactly(count):
    frames = np.random.default_rng(0).integers(0, 256, (count, 16, 24, 3), np.uint8)
    np.testing.assert_array_equal(cut_up(sheet(frames)), frames)


def test_a_clip_that_a_browser_could_not_hold_is_shown_whole_and_smaller(monkeypatch):
    monkeypatch.setattr(player, "SHOWN_PIXELS", 10 * 12 * 8)
    frames = np.full((10, 16, 24, 3), 20, np.uint8) * np.arange(10, dtype=np.uint8)[:, None, None, None]
    shown = sheet(frames)
    assert (shown["count"], shown["width"], shown["height"]) == (10, 12, 8)
    assert cut_up(shown)[:, 4, 6, 0].tolist() == [*range(0, 200, 20)]


# Endpoints


@pytest.fixture(scope="module")
def served_run():
    return FakeRun()


@pytest.fixture(scope="module")
def address(served_run):
    page = build_page(fake_context(served_run))
    _, url, _ = page.launch(prevent_thread_lock=True, quiet=True, **launch_options())
    yield url
    page.close()


@pytest.fixture(scope="module")
def client(address, tmp_path_factory):
    return Client(address, verbose=False, download_files=tmp_path_factory.mktemp("downloads"))


def test_every_action_has_a_name_and_parameters_bear_the_requests_names(client):
    endpoints = client.view_api(return_format="dict", print_info=False)["named_endpoints"]
    previews = {"/control_map", "/edit_source", "/inpaint_mask", "/outpaint_canvas", "/smooth_source"}
    ends = ("", "_page", "_stop", "_resume", "_sample", "_estimate")
    runs = {f"/{task}{end}" for task in TABS for end in ends} | {"/jobs", "/job_action", "/compare_stop"}
    runs |= {f"/history_{end}" for end in ("list", "delete", "adopt", "favourite")}
    runs |= {f"/{task}_preset{end}" for task in TABS for end in ("", "_save", "_delete")}
    models = {f"/models_{end}" for end in ("list", "readout", "pull", "stop", "load", "unload", "unload_all")}
    others = {"/edit_description", "/unknown_words", "/film", "/figure", "/contact_sheet", "/link", "/compare"}
    others |= {f"/{task}_compare" for task in TABS}
    assert set(endpoints) == runs | previews | models | others
    for task in TABS:
        parameters = endpoints[f"/{task}"]["parameters"]
        names = {parameter["parameter_name"] for parameter in parameters}
        assert {"video", "sample", "prompt", "mixing_ratio", "mixing_rule", "seed", "random_seed"} <= names
        assert {"num_inversion_steps", "num_smoothing_steps", "video_prompt"} <= names
        assert all(parameter["parameter_has_default"] for parameter in parameters)


def test_a_comparison_takes_the_settings_of_a_run(client, served_run):
    upload = handle_file(str(fake_context(served_run).samples[1].file))
    told, ratios = client.predict(video=upload, prompt="a red cube", mixing_ratio=0.3, api_name="/control_compare")[:2]
    assert "a red cube" in told
    assert ratios == "0, 0.25, 0.3, 0.5, 0.75, 1"
    shown = client.predict("0, 0.3", "", "", api_name="/compare")
    panel, player = shown[:2]
    assert panel["state"] == "done"
    assert [clip["label"] for clip in player["tiles"]] == ["Frame by frame", "ratio 0", "ratio 0.3"]
    assert all(clip["sheet"] for clip in player["tiles"])
    with zipfile.ZipFile(shown[3]["value"]) as archive:
        assert "a red cube" in archive.read("scores.json").decode()


def test_control_gives_files_and_a_record(client, served_run):
    upload = handle_file(str(fake_context(served_run).samples[1].file))
    *files, record = client.predict(video=upload, prompt="a red cube", random_seed=False, seed=5, api_name="/control")
    bridged, framewise, (maps,), gif, pngs = files
    assert [probe(path).num_frames for path in (bridged, framewise, maps)] == [8, 8, 8]
    assert Path(gif).read_bytes().startswith(b"GIF8")
    assert len([name for name in zipfile.ZipFile(pngs).namelist() if name.startswith("frame_")]) == 8
    assert record["seed"] == record["settings"]["seed"] == 5
    assert record["settings"]["prompt"] == "a red cube"
    assert [item["control_type"] for item in record["settings"]["controls"]] == ["canny"]
    assert record["scores"]["steadiness"].endswith("less than frame by frame")


@pytest.mark.parametrize(
    ("task", "given", "steering"),
    [
        ("edit", {"instruction": "make it night"}, 0),
        ("edit", {"image_model": "prompt2prompt", "prompt": "a red cube at night"}, 0),
        ("inpaint", {"mask_source": "boxes", "boxes": "10, 10, 60, 60"}, 1),
        ("outpaint", {"left": "50%"}, 1),
        ("smooth", {"mixing_ratio": 0.25}, 0),
    ],
)
def test_every_task_gives_files_and_a_record(client, served_run, task, given, steering):
    bridged, framewise, others, _, _, record = client.predict(**given, api_name=f"/{task}")
    assert [probe(path).num_frames for path in (bridged, framewise, *(others or ()))] == [8] * (2 + steering)
    assert record["settings"]["task"] == task
    assert record["settings"]["num_smoothing_steps"] == blank_request(task, "toybox").num_smoothing_steps
    kept = {name: value for name, value in given.items() if name in record["settings"]}
    assert kept == {name: record["settings"][name] for name in kept}
    assert served_run.requests[-1].task == task


def test_who_asks_whether_the_page_is_there_does_not_wait_for_it_to_be_made(address, monkeypatch):
    """Gradio asks so when it is launched, and gives up after three seconds however busy the machine is."""

    def refuse(*_, **__):
        raise AssertionError

    monkeypatch.setattr(gradio.routes.templates, "TemplateResponse", refuse)
    assert gradio.networking.url_ok(address)


def test_control_reports_progress_and_can_be_cancelled(address, served_run, monkeypatch):
    hold = Hold("framewise")
    monkeypatch.setattr(served_run, "before", hold)
    hold.let(3)
    job = Client(address, verbose=False).submit(num_inference_steps=100, api_name="/control")
    record = next(outputs[-1] for outputs in job if outputs[-1]["step"] == 3)
    assert record["stage"] == "framewise"
    served_run.closed.clear()
    job.cancel()
    hold.let()
    assert served_run.closed.wait(PATIENCE)
    assert len(served_run.requests[-1].frames) == 8


@pytest.mark.parametrize("read", [control.read_job, smooth.read_job])
def test_a_restored_run_is_held_to_the_owners_frames_before_it_is_unpacked(run, context, monkeypatch, request_of, read):
    owner = "restored-restored"
    kept = context.runs.begin(request_of(), 8, owner)
    strict = replace(context, settings=replace(context.settings, max_frames=1))
    values = {"restored": kept, "visitor": owner, "prompt": "a red cube"}
    monkeypatch.setattr(type(context.runs), "job", lambda *_: pytest.fail("it was unpacked"))
    with pytest.raises(InputError, match="may have up to 1 frames"):
        read(strict, values)
    shown = list(control.preview_control(strict, values))
    assert "may have up to 1 frames" in str(shown)
    assert not run.requests


@pytest.mark.parametrize("where", ["begin", "finish"])
def test_a_client_gets_the_files_of_a_run_that_the_history_cannot_keep(run, context, monkeypatch, tmp_path, where):
    def full(*_: object, **__: object) -> None:
        raise InputError("The history could not be used, because the disk is full. Make room and try again.")

    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    monkeypatch.setattr(type(context.runs), where, full)
    *_, (bridged, framewise, maps, gif, pngs, record) = task_tab.generate_files(
        context, control.read_job, "control", {"sample": 0, "prompt": "a red cube"}
    )
    for path in (bridged, framewise, *maps, gif, pngs):
        assert Path(path).is_relative_to(tmp_path)
        assert Path(path).stat().st_size
    assert read_clip(Path(bridged), num_frames=8).frames.shape == run.requests[-1].frames.shape
    assert "history could not" in record["note"]


@pytest.mark.parametrize("task", TABS)
def test_every_task_refuses_with_the_sentence(client, task):
    with pytest.raises(AppError, match="numbered from 0"):
        client.predict(sample=99, api_name=f"/{task}")


@pytest.mark.parametrize(("task", "count"), {"control": 4, "edit": 3, "inpaint": 4, "outpaint": 3, "smooth": 2}.items())
def test_the_pages_own_endpoints_answer(client, served_run, task, count):
    panel, player_shown, seed, *_ = client.predict(visitor=ADA, api_name=f"/{task}_page")
    assert panel["state"] == "done"
    assert len(player_shown["tiles"]) == count
    assert seed == served_run.requests[-1].seed
    assert client.predict(ADA, api_name=f"/{task}_resume")[0] == panel
    client.predict(ADA, api_name=f"/{task}_stop")  # there is nothing to stop, which is fine


def test_previews_and_samples_answer(client, served_run):
    sample = fake_context(served_run).samples[2]
    assert len(client.predict(api_name="/control_map")["tiles"]) == 2
    assert client.predict(mask_source="boxes", api_name="/inpaint_mask")[0]["tiles"][1]["sheet"]
    assert client.predict(left="50%", api_name="/outpaint_canvas")["facts"]
    for api_name in ("/edit_source", "/smooth_source"):
        assert client.predict(start=0.25, num_frames=2, api_name=api_name)["tiles"][0]["sheet"]["count"] == 2
    assert client.predict(2, api_name="/control_sample")[2] == sample.prompt
    assert client.predict(2, api_name="/edit_sample")[2:4] == (sample.caption, sample.instruction)
    assert client.predict(2, api_name="/inpaint_sample")[2] == sample.erased
    assert "at night" in client.predict("a cube at noon", "make it night", "", api_name="/edit_description")
    assert "dragon" in client.predict("a dragon", api_name="/unknown_words")


def test_a_second_task_waits_until_the_first_has_the_device_no_more(address, served_run, monkeypatch):
    hold = Hold("framewise")
    monkeypatch.setattr(served_run, "before", hold)
    first, second = Client(address, verbose=False), Client(address, verbose=False)
    before = len(served_run.requests)
    job = first.submit(num_inference_steps=60, api_name="/control")
    assert hold.reached.wait(PATIENCE)
    waiting = second.submit(api_name="/smooth_page")
    assert next(iter(waiting))[0]["headline"].startswith("Waiting")
    assert len(served_run.requests) == before + 1
    job.cancel()
    hold.let()
    assert waiting.result()[0]["state"] == "done"


def test_no_file_of_the_server_can_be_fetched(address):
    for path in (ROOT / "app.py", ROOT / "assets" / "clips" / "index.json", "/etc/passwd"):
        assert httpx.get(f"{address}gradio_api/file={path}").status_code in (403, 404)


def test_the_real_pipeline_answers_with_random_weights(settings):
    context = AppContext.from_settings(settings)
    few = values(num_frames=2, **dict.fromkeys(FEW_STEPS, 1))
    *_, last = task_tab.generate_files(context, control.read_job, "control", few)
    assert probe(last[0]).num_frames == 2
    assert set(last[-1]["seconds"]) >= {"framewise", "inversion", "smoothing"}


# Starting


def test_importing_the_app_starts_nothing_and_loads_nothing_heavy():
    code = (
        "import sys, threading, app; "
        "sys.exit(bool({'torch', 'gradio'} & set(sys.modules)) or threading.active_count() > 1)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_building_the_page_loads_no_model_library():
    code = (
        "import sys; from tabs.context import AppContext; from tabs.page import build_page; "
        "from bivdiff.settings import Settings; build_page(AppContext.from_settings(Settings())); "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_what_is_not_given_is_left_to_the_environment():
    given = serving.build_parser().parse_args(["--server-port", "8001"])
    assert (given.server_port, given.server_name, given.device) == (8001, None, None)
    assert not any((given.share, given.inbrowser, given.mcp, given.auth))
