"""The tab "History": its handlers with real runs of a stand-in for the models, a client, and the page in a browser."""

from __future__ import annotations

import re
from dataclasses import replace

import gradio as gr
import numpy as np
import pytest
from fake_run import FakeRun, fake_context
from gradio_client import Client, handle_file
from pages import LABELS, LOWEST_CONTRAST, SLIM, WIDE, come_to_rest, overflow
from patience import until_ended
from PIL import Image
from playwright.sync_api import Page, expect

from bivdiff.catalog.requests import default_request
from bivdiff.errors import InputError, ModelUnavailableError
from bivdiff.media import carried
from bivdiff.media.reading import probe
from bivdiff.media.writing import write_mp4, write_png
from bivdiff.studio.jobs import Jobs
from bivdiff.types import Control
from tabs import compare, control, edit, following, inpaint, outpaint, restoring, smooth, task_tab
from tabs.history import acting, comparing, details, layout, listing, wording
from tabs.history.view import HistoryPage
from tabs.history.wording import STATE_SENTENCES
from tabs.page import launch_options
from tabs.queue import queue_strip
from tabs.requests import Submission
from tabs.results import scores_of
from tabs.visitors import LOOK_AGAIN, visitor_of

PATIENCE = 120  # seconds the page may take on a busy machine
HASTE = 0.5  # seconds between two looks at the history
OWN, OTHER = "a" * 32, "b" * 32
VISITOR, STRANGER = f"{OWN}.window", f"{OTHER}.window"
TABS = {tab.TASK: tab for tab in (control, edit, inpaint, outpaint, smooth)}
CELLS = "#history-comparison .bdp-tile:not(.is-empty)"


@pytest.fixture
def context():
    return fake_context(FakeRun())


@pytest.fixture
def page(context):
    return HistoryPage(context, [], lambda run_id, visitor: f"{run_id} of {visitor} is queued.")


@pytest.fixture(scope="module")
def clip():
    """A clip of the size that the toybox makes."""
    frames = np.random.default_rng(0).integers(0, 256, (8, 16, 16, 3), np.uint8)
    return frames.repeat(8, axis=1).repeat(8, axis=2)


def asked(clip, task="control", prompt="a red cube", **changes):
    if TABS[task] in (inpaint, outpaint):
        masks = np.zeros(clip.shape[:3], np.uint8)
        masks[:, 8:40, 8:40] = 255
        changes = {"masks": masks, **changes}
    return default_request(task, changes.pop("family", "toybox"), clip, prompt, **{"seed": 7, **changes})


def done(context, request, owner=OWN, favourite=False):
    """A finished run's id."""
    run_id = context.runs.begin(request, 8.0, owner)
    result = list(FakeRun()(request))[-1]
    context.runs.finish(run_id, result, scores_of(result))
    if favourite:
        context.runs.set_favourite(run_id, owner, True)
    return run_id


def values(run_id="", visitor=VISITOR, **changes):
    return {"search": "", "task": "", "favourites": False, "visitor": visitor, "limit": 24, "run_id": run_id, **changes}


def prompts(shown):
    return [row["prompt"] for row in shown[0]["rows"]]


# What cannot be kept, and what is refused


def test_a_run_that_the_history_cannot_keep_is_made_all_the_same(context, clip, monkeypatch):
    def locked(*_, **__):
        raise InputError("The history is locked.")

    monkeypatch.setattr(context.runs, "begin", locked)
    task_tab.submit(context, "control", Submission(asked(clip), 8.0), OWN)
    *_, view = following.follow(context, task_tab.place_of("control"), visitor_of(VISITOR))
    assert view.panel["state"] == "done"
    assert "could not keep this run" in view.panel["detail"]
    assert len(view.player["tiles"]) == 4
    assert all(tile["sheet"] for tile in view.player["tiles"])


def test_a_failure_that_is_told_twice_is_warned_of_once(tmp_path, clip, monkeypatch):
    failing = fake_context(FakeRun(error=ModelUnavailableError("Its files are gone.")), history_folder=tmp_path)
    job = task_tab.submit(failing, "control", Submission(asked(clip), 8.0), OWN)
    until_ended(failing.jobs, job)
    warned = []
    monkeypatch.setattr(following, "warn", warned.append)
    # While its files are written it is told as it was, and has failed by the time that the page looks at it.
    monkeypatch.setattr(following, "watch", lambda *_: iter([job, job]))
    assert len(list(following.follow(failing, task_tab.place_of("control"), visitor_of(VISITOR)))) == 2
    assert warned == ["Its files are gone."]


def test_what_is_refused_leaves_nothing_in_the_history(context, page, clip):
    crowded = replace(context, jobs=Jobs(context.device, most=0))
    for give in (
        lambda: task_tab.submit(crowded, "control", Submission(asked(clip), 8.0), OWN),
        lambda: compare.submit(crowded, "control", Submission(asked(clip), 8.0),
                               {"mixing_ratio": [0.0, 1.0]}, OWN),
    ):  # fmt: skip
        with pytest.raises(InputError, match="wait already"):
            give()
    assert prompts(listing.list_runs(page, values())) == []


def test_a_run_that_was_made_smaller_to_fit_is_restored_as_it_was_made(context, clip):
    asked_for = asked(clip, "inpaint")
    run_id = context.runs.begin(asked_for, 8.0, OWN)
    smaller = replace(asked_for, frames=asked_for.frames[:, ::2, ::2].copy(), masks=asked_for.masks[:, ::2, ::2].copy())
    result = list(FakeRun()(smaller))[-1]
    files = context.runs.finish(run_id, result, scores_of(result))
    restored, _ = context.runs.job(run_id, OWN)
    assert np.array_equal(restored.frames, smaller.frames)
    assert np.array_equal(restored.masks, smaller.masks)
    dropped, _ = context.runs.job(context.runs.adopt(files["bridged"], OTHER), OTHER)
    assert np.array_equal(dropped.frames, smaller.frames)
    assert not list(context.runs.folder(run_id).glob("*.part"))


def test_a_look_that_nobody_asked_for_tells_no_error(context, page, clip, monkeypatch):
    done(context, asked(clip))
    *_, seen = listing.list_runs(page, values())

    def locked(*_, **__):
        raise InputError("The history is locked.")

    monkeypatch.setattr(context.runs, "find", locked)
    assert listing.refresh(page, values(), seen) == (gr.skip(),) * 4
    with pytest.raises(gr.Error, match="is locked"):
        listing.list_runs(page, values())


def test_looking_anew_is_not_another_window():
    assert visitor_of(f"{VISITOR}{LOOK_AGAIN}17") == visitor_of(VISITOR)


def test_who_comes_back_is_told_of_a_run_that_was_cut_off_as_long_as_it_is_news(context, page, clip, monkeypatch):
    told = []
    monkeypatch.setattr(acting, "inform", lambda text, _: told.append(text))
    acting.tell_interrupted(page, VISITOR)
    cut_off = context.runs.begin(asked(clip), 8.0, OWN)
    context.runs.end(cut_off, "interrupted")
    acting.tell_interrupted(page, STRANGER)
    assert told == []
    acting.tell_interrupted(page, VISITOR)
    (sentence,) = told
    assert sentence.startswith("The studio was stopped during your last run. It is in the History")
    monkeypatch.setattr(acting, "NEWS_SECONDS", 0)
    acting.tell_interrupted(page, VISITOR)
    monkeypatch.setattr(acting, "NEWS_SECONDS", 1e9)
    done(context, asked(clip))
    acting.tell_interrupted(page, VISITOR)
    assert len(told) == 1


# The list


def test_a_visitor_sees_own_runs_newest_first(context, page, clip):
    done(context, asked(clip, prompt="of somebody else"), OTHER)
    done(context, asked(clip, prompt="the first"))
    failed = context.runs.begin(asked(clip, "edit", "the second"), 8.0, OWN)
    context.runs.end(failed, "failed", "It was too large.")
    cards, more, *_ = listing.list_runs(page, values())
    second, first = cards["rows"]
    assert (second["prompt"], second["state"], second["what"]) == ("the second", "Failed", "Editing, InstructPix2Pix")
    assert (first["prompt"], first["state"], first["seconds"]) == ("the first", "", "3.5 s")
    assert first["thumbnail"].startswith("data:image/webp;base64,")
    assert (cards["note"], more["visible"], cards["trouble"]) == ("2 runs", False, "")
    assert prompts(listing.list_runs(page, values(visitor=STRANGER))) == ["of somebody else"]
    assert prompts(listing.list_runs(page, values(visitor=""))) == []


def test_a_card_says_what_tells_its_run_from_the_others(context, page, clip):
    done(context, asked(clip, mixing_ratio=0.3))
    context.runs.begin(asked(clip, seed=None), 8.0, OWN, kind="comparison", axes={"mixing_ratio": [0.0, 0.5]})
    waits, made = [row["facts"] for row in listing.list_runs(page, values())[0]["rows"]]
    assert waits == "mixing ratio 0, 0.5"
    run = context.runs.find(OWN)[1]
    assert made == f"ratio 0.3, seed 7, flicker {run.scores['steadiness'].removesuffix(' than frame by frame')}"
    unmeasured = replace(run, scores={"steadiness": "not measured: one frame cannot flicker"})
    assert wording.facts_of(unmeasured) == "ratio 0.3, seed 7"


def test_filters_leave_what_they_name(context, page, clip):
    done(context, asked(clip, prompt="a red cube"), favourite=True)
    done(context, asked(clip, "edit", "make it blue"))
    assert prompts(listing.list_runs(page, values(search="CUBE red"))) == ["a red cube"]
    assert prompts(listing.list_runs(page, values(task="edit"))) == ["make it blue"]
    assert prompts(listing.list_runs(page, values(favourites=True))) == ["a red cube"]
    nothing = listing.list_runs(page, values(search="dragon"))[0]
    assert (nothing["rows"], nothing["empty"], nothing["note"]) == ([], listing.NOTHING_FOUND, "")
    assert listing.list_runs(page, values(visitor=STRANGER))[0]["empty"] == listing.NOTHING_YET


def test_more_are_shown_when_asked_for(context, page, clip, monkeypatch):
    monkeypatch.setattr(listing, "PAGE", 2)
    for number in range(5):
        context.runs.begin(asked(clip, prompt=f"number {number}"), 8.0, OWN)
    cards, more, limit, _ = listing.list_runs(page, values(limit=2))
    assert (len(cards["rows"]), more["visible"], cards["note"]) == (2, True, "2 runs, and there are more")
    for expected in ((4, True), (5, False)):
        cards, more, limit, _ = listing.show_more(page, values(limit=limit))
        assert (len(cards["rows"]), more["visible"]) == expected


def test_more_than_a_page_can_hold_are_found_by_searching(context, page, clip, monkeypatch):
    monkeypatch.setattr(listing, "PAGE", 2)
    monkeypatch.setattr(listing, "MOST", 4)
    for prompt in ("oldest", *["newer"] * 4):
        context.runs.begin(asked(clip, prompt=prompt), 8.0, OWN)
    cards, more, limit, _ = listing.show_more(page, values(limit=4))
    assert (len(cards["rows"]), more["visible"], limit) == (4, False, 4)
    assert cards["note"] == "The newest 4 runs. Search to find older ones."
    assert prompts(listing.list_runs(page, values(search="oldest"))) == ["oldest"]


def test_the_list_is_sent_again_only_when_it_has_changed(context, page, clip):
    run_id = context.runs.begin(asked(clip), 8.0, OWN)
    *_, seen = listing.list_runs(page, values())
    assert all(part == gr.skip() for part in listing.refresh(page, values(), seen))
    context.runs.started(run_id)
    again = listing.refresh(page, values(), seen)[0]
    assert again["rows"][0]["state"] == "Running"
    assert again["chosen"] is None  # a choice that was made meanwhile stays
    assert listing.refresh(page, values(search="red"), seen)[0] == gr.skip()  # a look with that filter is on its way


def test_a_history_that_is_not_kept_says_so(page, monkeypatch):
    monkeypatch.setattr(type(page.context.runs), "trouble", "The disk is full.")
    assert listing.list_runs(page, values())[0]["trouble"] == "The disk is full."


def test_stars_are_given_and_taken(context, page, clip):
    run_id = done(context, asked(clip))
    assert listing.set_favourite(page, values(), run_id, True)[0]["rows"][0]["favourite"] is True
    assert listing.set_favourite(page, values(), run_id, False)[0]["rows"][0]["favourite"] is False


# The chosen run


def test_a_finished_run_shows_its_clips_scores_seconds_and_files(context, page, clip):
    view = details.show(page, values(done(context, asked(clip, mixing_ratio=0.5))))
    tiles = {tile["label"]: tile for tile in view.player["tiles"]}
    assert list(tiles) == LABELS["control"]
    assert all(tile["sheet"]["count"] == 8 for tile in tiles.values())
    # Each frame has other colours at other places, and none flickers.
    assert list(tiles["Bridged"]["scores"]) == ["Sharpness, frame by frame = 100%"]
    words = tiles["Bridged"]["rest"]["words"]
    assert re.fullmatch(r"at least \d+% less than frame by frame", words)
    assert tiles["Bridged"]["heat"]["mean"] == tiles["Bridged"]["rest"]["level"]
    assert "rest" not in tiles["Source"]
    assert view.player["facts"][0] == ["Flicker at rest", words]
    assert ["Seed", "7"] in view.player["facts"]
    assert ["Smoothing", "1.0 s"] in view.player["facts"]
    assert [one["label"] for one in view.player["downloads"]] == [
        "GIF", "PNG frames (zip)", "Contact sheet", "Film", "Film, square", "Figure for a paper", "Copy link"
    ]  # fmt: skip
    assert tiles["Bridged"]["file"]["orig_name"] == "bridged.mp4"
    changed, _, everything = view.settings.partition("<details")
    assert "Mixing ratio" in changed
    assert "0.5" in changed
    assert "Noise sharing" not in changed
    assert "Noise sharing" in everything
    assert view.restore["interactive"]
    assert view.again["interactive"]


def test_what_was_made_before_a_failure_is_shown_with_the_reason(context, page, clip):
    run_id = context.runs.begin(asked(clip), 8.0, OWN)
    context.runs.end(run_id, "failed", "The device is out of memory.", clip[::-1])
    view = details.show(page, values(run_id))
    made = {tile["label"]: tile["note"] if tile["sheet"] is None else "" for tile in view.player["tiles"]}
    assert made == {"Source": "", "Control map": "Not made", "Frame by frame": "", "Bridged": "Not made"}
    assert not any(tile.get("pending") for tile in view.player["tiles"])
    assert "It failed. What was made by then is kept. The device is out of memory." in view.about


def test_an_interrupted_run_says_how_to_go_on(context, page, clip):
    run_id = context.runs.begin(asked(clip), 8.0, OWN)
    context.runs.end(run_id, "interrupted", "The studio was stopped.")
    view = details.show(page, values(run_id))
    assert STATE_SENTENCES["interrupted"] in view.about
    assert view.again["interactive"]


def test_what_is_under_way_can_neither_be_deleted_nor_run_again(context, page, clip):
    view = details.show(page, values(context.runs.begin(asked(clip), 8.0, OWN)))
    assert not view.delete["interactive"]
    assert not view.again["interactive"]


def test_a_comparison_shows_its_clips_by_their_values(context, page, clip):
    run_id = context.runs.begin(asked(clip), 8.0, OWN, kind="comparison", axes={"mixing_ratio": [0.0, 1.0]})
    path = context.runs.folder(run_id) / "0.mp4"
    write_mp4(path, clip, 8)
    context.runs.finish_comparison(run_id, asked(clip), {"cell 1": path}, {"warp_error": [1, 2]}, clip)
    view = details.show(page, values(run_id))
    labels = ["Frame by frame", "Mixing ratio 0", "Mixing ratio 1", "Source"]
    assert [tile["label"] for tile in view.player["tiles"]] == labels
    assert [bool(tile["sheet"]) for tile in view.player["tiles"]] == [False, True, False, True]
    assert "Comparison: Controllable generation" in view.about


def test_a_comparison_from_a_file_shows_its_source_alone(page, clip, tmp_path):
    settings = carried.settings_of(asked(clip), 8.0, {"mixing_ratio": [0.0] * 64, "seed": list(range(64))})
    write_png(tmp_path / "sheet.png", clip[0], carried.carry(settings, carried.pack(asked(clip))))
    view = acting.adopt(page, values(), str(tmp_path / "sheet.png"))
    assert [tile["label"] for tile in view.player["tiles"]] == ["Source"]
    assert "Compared" in view.settings


def test_what_users_write_is_no_markup(context, page, clip):
    view = details.show(page, values(done(context, asked(clip, prompt="<script>", negative_prompt="<b>"))))
    assert "&lt;script&gt;" in view.about
    assert "&lt;b&gt;" in view.settings
    assert "<script>" not in view.about + view.settings


def test_running_again_hands_the_run_to_the_queue(context, page, clip, monkeypatch):
    told = []
    monkeypatch.setattr(gr, "Info", lambda text, **_: told.append(text))
    run_id = done(context, asked(clip))
    acting.again(page, values(run_id))
    assert told == [f"{run_id} of {VISITOR} is queued."]


def test_deleting_asks_first(context, page, clip):
    run_id = done(context, asked(clip))
    first = acting.press_delete(page, values(run_id), "")
    assert (first.delete["value"], first.to_delete, first.keep["visible"]) == ("Delete for good?", run_id, True)
    assert len(context.runs.find(OWN)) == 1
    other = done(context, asked(clip))
    assert acting.press_delete(page, values(other), run_id).delete["value"] == "Delete for good?"
    last = acting.press_delete(page, values(run_id), first.to_delete)
    assert (last.details["visible"], last.run_id, last.to_delete) == (False, "", "")
    assert [run.id for run in context.runs.find(OWN)] == [other]


def test_nobody_reaches_the_runs_of_others(context, page, clip):
    run_id, mine = done(context, asked(clip), OTHER), done(context, asked(clip))
    for act in (
        lambda: details.show(page, values(run_id)),
        lambda: acting.again(page, values(run_id)),
        lambda: acting.delete(page, values(run_id)),
        lambda: listing.set_favourite(page, values(), run_id, True),
        lambda: comparing.compare(page, f"{mine} {run_id}", VISITOR),
        lambda: acting.restore(page, run_id, VISITOR),
    ):
        with pytest.raises(gr.Error, match="not in your history"):
            act()
    assert not context.runs.get(run_id, OTHER).favourite


# Files that are dropped


@pytest.mark.parametrize("name", ["bridged", "framewise", "pngs"])
def test_a_dropped_file_brings_its_run_to_another_machine(context, page, clip, name):
    elsewhere = fake_context(FakeRun())
    run_id = done(elsewhere, asked(clip, mixing_ratio=0.35))
    file = elsewhere.runs.get(run_id, OWN).files[name]
    view = acting.adopt(page, values(visitor=STRANGER), str(file))
    adopted = context.runs.get(view.run_id, OTHER)
    assert (adopted.state, adopted.settings["mixing_ratio"], adopted.seed) == ("dropped", 0.35, 7)
    assert [row["state"] for row in view.cards["rows"]] == ["From a file"]
    assert view.cards["chosen"] == view.run_id
    tiles = {tile["label"]: tile for tile in view.player["tiles"]}
    assert tiles["Source"]["sheet"]["count"] == 8
    shown = {"Frame by frame"} if name == "framewise" else {"Bridged"}  # the zip's frames are the bridged clip's
    assert {label for label in ("Bridged", "Frame by frame") if tiles[label]["sheet"]} == shown
    assert STATE_SENTENCES["dropped"] in view.about


def test_a_dropped_file_that_asks_for_models_says_so_before_they_are_loaded(laid_out, clip, monkeypatch):
    told, elsewhere = [], fake_context(FakeRun())
    monkeypatch.setattr(gr, "Warning", lambda text, **_: told.append(text))
    page = HistoryPage(*laid_out, None)
    run_id = done(elsewhere, asked(clip, base_model="some/one", loras="<b>.safetensors:0.8"))
    assert "trust" not in details.show(page._replace(context=elsewhere), values(run_id)).about
    view = acting.adopt(page, values(), str(elsewhere.runs.get(run_id, OWN).files["bridged"]))
    assert "asks for models of its own: some/one, &lt;b&gt;.safetensors:0.8" in view.about
    acting.restore(page, view.run_id, VISITOR)
    assert "trust where the file is from" in told[0]


def test_a_file_that_carries_nothing_is_refused(page, tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "holiday.png")
    for file, why in ((str(tmp_path / "holiday.png"), "carries no settings"), (None, "There is no file")):
        with pytest.raises(gr.Error, match=why):
            acting.adopt(page, values(), file)


# Restoring


@pytest.fixture(scope="module")
def laid_out():
    """The tabs of all tasks as they are on the page."""
    context = fake_context(FakeRun())
    with gr.Blocks():
        visitor = gr.Textbox(VISITOR)
        parts = task_tab.PageParts(visitor, queue_strip(context, visitor))
        with gr.Tabs():
            built = []
            for task, tab in TABS.items():
                with gr.Tab(task) as place:
                    built.append(tab.build(context, place, parts))
    return context, built


EXACT = [
    ("control", {"controls": (Control(control_type="depth", conditioning_scale=0.6, start=0.1, end=0.83),)}),
    ("control", {"image_model": "t2i-adapter", "mixing_ratio": 0.333, "noise_sharing": 0.15,
                 "controls": (Control(), Control(control_type="depth", conditioning_scale=1.25))}),
    ("control", {"frame_prior": "video", "mixing_rule": "capped", "start_level": 0.6, "frame_attention": "both",
                 "sampler": "dpm++", "guided_share": 0.35}),
    ("edit", {"image_guidance_scale": 1.7, "source_prompt": "a red cube", "window": 4}),
    ("edit", {"image_model": "prompt2prompt", "source_prompt": "a red cube", "blend_words": "cube", "seed": 0}),
    ("inpaint", {"feather": 9, "preserve_known": False, "video_prompt": "a street"}),
    ("outpaint", {"num_smoothing_steps": 3, "mixing_rule": "slerp"}),
    ("smooth", {"frame_prior": "mean", "start_level": 0.85, "smoothing_guidance_scale": 2.5,
                "num_inversion_steps": 100, "num_inference_steps": 11}),
]  # fmt: skip


@pytest.mark.parametrize(("task", "changes"), EXACT)
def test_a_restored_tab_asks_for_exactly_the_same(laid_out, clip, task, changes):
    context, built = laid_out
    request = asked(clip, task, "a blue cone", **changes)
    run_id = context.runs.begin(request, 12.0, OWN)
    tab = next(tab for tab in built if tab.task == task)
    updates, missed = restoring.updates_of(context, tab, context.runs.get(run_id, OWN))
    shown = {name: getattr(control, "value", None) for name, control in tab.controls.items()}
    again = tab.read(context, shown | {name: update["value"] for name, update in updates.items()})
    assert missed == []
    assert again.request.settings() == request.settings()
    assert again.fps == 12.0
    np.testing.assert_array_equal(again.request.frames, request.frames)
    if request.masks is not None:
        np.testing.assert_array_equal(again.request.masks, request.masks)


def test_restoring_fills_one_tab_opens_it_and_says_so(laid_out, clip, monkeypatch):
    context, built = laid_out
    told = []
    monkeypatch.setattr(gr, "Info", lambda text, **_: told.append(text))
    run_id = context.runs.begin(asked(clip, "smooth", "a blue cone"), 8.0, OWN)
    opened, *updates = acting.restore(HistoryPage(context, built, None), run_id, VISITOR)
    names = [(tab.task, name) for tab in built for name in tab.controls if name != "visitor"]
    filled = {key: update["value"] for key, update in zip(names, updates, strict=True) if update != gr.skip()}
    assert opened["selected"] == "smooth"
    assert {task for task, _ in filled} == {"smooth"}
    assert filled["smooth", "prompt"] == "a blue cone"
    assert filled["smooth", "restored"] == run_id
    assert told == ["The settings and pictures of that run are in this tab."]


@pytest.mark.parametrize(("part", "filled"), [
    ("prompt", {"prompt": "a blue cone", "source_prompt": "a red cube", "negative_prompt": "fog"}),
    ("seed", {"random_seed": False, "seed": 7}), ("ratio", {"mixing_ratio": 0.3}),
])  # fmt: skip
def test_a_part_of_a_run_is_taken_alone(laid_out, clip, part, filled, monkeypatch):
    context, built = laid_out
    told = []
    monkeypatch.setattr(gr, "Info", lambda text, **_: told.append(text))
    changes = {"source_prompt": "a red cube", "negative_prompt": "fog", "mixing_ratio": 0.3}
    request = asked(clip, "edit", "a blue cone", image_model="prompt2prompt", **changes)
    run_id = context.runs.begin(request, 8.0, OWN)
    opened, *updates = acting.recall(HistoryPage(context, built, None), part, run_id, VISITOR)
    names = [(tab.task, name) for tab in built for name in tab.controls if name in restoring.PARTS[part]]
    found = {key: update["value"] for key, update in zip(names, updates, strict=True) if update != gr.skip()}
    assert opened["selected"] == "edit"
    assert found == {("edit", name): value for name, value in filled.items()}
    assert told == [f"The {part} of that run is in this tab. All else is as it was."]


def test_a_part_that_a_run_has_not_or_a_tab_cannot_show_is_told(laid_out, clip):
    context, built = laid_out
    page = HistoryPage(context, built, None)
    run_id = context.runs.begin(asked(clip, "edit", "make it night", seed=None), 8.0, OWN)
    with pytest.raises(gr.Error, match="ended before it drew a seed"):
        acting.recall(page, "seed", run_id, VISITOR)
    _, *updates = acting.recall(page, "prompt", run_id, VISITOR)
    assert {"value": "make it night", "__type__": "update"} in updates
    with pytest.raises(gr.Error, match="not in your history"):
        acting.recall(page, "prompt", "gone", VISITOR)


def test_values_are_those_of_the_controls(context, clip):
    run_id = context.runs.begin(asked(clip, "edit", "make it night", seed=None), 8.0, OWN)
    found = restoring.restored_values(context.runs.get(run_id, OWN))
    assert (found["instruction"], found["window"], found["random_seed"], found["seed"]) == ("make it night", 0, True, 0)
    assert "prompt" not in found
    assert "controls" not in found
    one = restoring.restored_values(context.runs.get(context.runs.begin(asked(clip), 8.0, OWN), OWN))
    assert (one["control_type"], one["second_control_type"], one["seed"]) == ("canny", "none", 7)


def test_what_a_tab_cannot_show_is_told_and_not_bent(laid_out, clip):
    context, built = laid_out
    controls = (Control(end=0.5), Control(control_type="depth"))
    run = context.runs.get(context.runs.begin(asked(clip, controls=controls), 8.0, OWN), OWN)
    wider = replace(run, settings={**run.settings, "num_inference_steps": 999})  # another version's bounds
    updates, missed = restoring.updates_of(context, built[0], wider)
    assert "num_inference_steps" not in updates
    assert missed == [
        "Image steps is 999, and goes from 1 to 200 here",
        "its controls steer at different times, and those of the tab at the same",
    ]  # fmt: skip
    strange = replace(
        run, settings={**run.settings, "mixing_rule": "new", "controls": [run.settings["controls"][0]] * 3}
    )
    assert {"Mixing rule is “new”, which is not offered here", "it has 3 controls, and the tab two"} <= set(
        restoring.updates_of(context, built[0], strange)[1]
    )


def test_settings_without_pictures_are_restored_without_them(laid_out, clip, monkeypatch):
    context, built = laid_out
    elsewhere, told = fake_context(FakeRun()), []
    file = elsewhere.runs.get(done(elsewhere, asked(clip)), OWN).files["gif"]  # which has no place for pictures
    monkeypatch.setattr(gr, "Warning", lambda text, **_: told.append(text))
    page = HistoryPage(context, built, None)
    view = acting.adopt(page, values(), str(file))
    assert carried.NO_PICTURES.split(",")[0] in view.about
    assert not view.again["interactive"]
    _, *updates = acting.restore(page, view.run_id, VISITOR)
    names = [name for tab in built for name in tab.controls if name != "visitor"]
    assert updates[names.index("restored")]["value"] == ""
    assert carried.NO_PICTURES in told[0]


def test_a_run_of_another_family_names_its_page(context, clip):
    page = HistoryPage(replace(context, families=("toybox", "sd15")), [], None)
    run_id = context.runs.begin(asked(clip, family="sd15"), 8.0, OWN)
    context.runs.end(run_id, "cancelled")
    view = details.show(page, values(run_id))
    assert '<a href="./sd15">' in view.about
    assert not view.restore["interactive"]
    assert view.again["interactive"]
    with pytest.raises(gr.Error, match="a page of its own"):
        acting.restore(page, run_id, VISITOR)
    back = HistoryPage(replace(context, family="sd15", families=("toybox", "sd15")), [], None)
    assert '<a href="./">' in details.show(back, values(done(context, asked(clip)))).about
    alone = HistoryPage(replace(context, families=("toybox",)), [], None)
    assert "BIVDIFF_FAMILIES" in details.show(alone, values(run_id)).about


# Comparing


def test_runs_are_compared_by_what_tells_them_apart(context, page, clip):
    ids = [done(context, asked(clip, mixing_ratio=ratio, seed=seed)) for ratio, seed in ((0.0, 1), (0.5, 2))]
    shown, value = comparing.compare(page, " ".join(ids), VISITOR)
    assert shown["visible"]
    assert [cell["label"] for cell in value["tiles"]] == ["Mixing ratio 0", "Mixing ratio 0.5"]
    assert [cell["sublabel"] for cell in value["tiles"]] == ["Seed 1", "Seed 2"]
    assert list(value["tiles"][0]["scores"]) == ["Sharpness, frame by frame = 100%"]
    assert value["tiles"][0]["rest"]["level"] == value["tiles"][0]["heat"]["mean"]
    assert value["numFrames"] == 8


def test_what_cannot_be_compared_says_why(context, page, clip):
    whole, short = done(context, asked(clip)), done(context, asked(clip[:4]))
    failed = context.runs.begin(asked(clip), 8.0, OWN)
    context.runs.end(failed, "failed")
    for ids, why in [
        ([whole], "From 2 to 12 runs can be compared; 1 are selected"),
        ([whole] * 13, "13 are selected"),
        ([whole, short], "8 frames of 128x128 and 4 frames of 128x128"),
        ([whole, failed], "has no finished clip"),
    ]:
        with pytest.raises(gr.Error, match=why):
            comparing.compare(page, " ".join(ids), VISITOR)


# A client, and the page


@pytest.fixture(scope="module")
def served():
    return fake_context(FakeRun())


@pytest.fixture(scope="module")
def address(served):
    with pytest.MonkeyPatch.context() as patch, gr.Blocks() as page:
        patch.setattr(layout, "REFRESH", HASTE)
        visitor = gr.Textbox("", visible="hidden", label="Visitor")
        with gr.Tabs(elem_id="tabs") as tabs:
            with gr.Tab("Task", id="control"):
                controls = {
                    "prompt": gr.Textbox(label="Prompt", interactive=True),
                    "mixing_ratio": gr.Slider(
                        0, 1, 0.25, step=0.05, label="Mixing ratio", elem_id="ratio", interactive=True
                    ),
                    "restored": gr.Textbox("", visible="hidden", label="Restored", elem_id="restored"),
                    "visitor": visitor,
                }
                task = task_tab.TaskTab("control", None, controls, gr.Button("Compare"))
            with gr.Tab(layout.TITLE, id=layout.NAME, elem_id="history-tab", elem_classes="bd-tab") as tab:
                layout.build(served, tab, tabs, [task], visitor, lambda run_id, _: f"{run_id[:4]} is queued.")
        page.load(None, None, visitor, js="() => new URL(location).searchParams.get('visitor')")
    folder = str(served.runs.files_folder)
    _, url, _ = page.launch(prevent_thread_lock=True, quiet=True, allowed_paths=[folder], **launch_options())
    yield url
    page.close()


@pytest.fixture
def owner(request):
    """A visitor of the test's own."""
    return f"{abs(hash(request.node.nodeid)):032d}"


def test_a_client_lists_marks_adopts_and_deletes(address, served, owner, clip):
    client, mine = Client(address, verbose=False), {"visitor": f"{owner}.client"}
    run_id = done(served, asked(clip, prompt="a red cube"), owner)
    done(served, asked(clip, prompt="a red cone"), OTHER)
    cards = client.predict(search="red", api_name="/history_list", **mine)
    assert [row["id"] for row in cards["rows"]] == [run_id]
    cards = client.predict(starred=run_id, favourite=True, api_name="/history_favourite", **mine)
    assert cards["rows"][0]["favourite"] is True
    film = client.predict(run_id, "square", mine["visitor"], api_name="/film")
    assert probe(film).width == 1080
    file = handle_file(served.runs.get(run_id, owner).files["bridged"])
    cards, *_ = client.predict(file=file, api_name="/history_adopt", **mine)
    assert [row["key"] for row in cards["rows"]] == ["dropped", "done"]
    cards, *_ = client.predict(run_id=run_id, api_name="/history_delete", **mine)
    assert [row["key"] for row in cards["rows"]] == ["dropped"]
    named = {name for name in client.view_api(return_format="dict")["named_endpoints"] if "history" in name}
    assert named == {"/history_list", "/history_favourite", "/history_adopt", "/history_delete"}


@pytest.fixture
def open_tab(chromium, address, owner):
    """Opens the page at the tab, and at the end holds that nothing was wrong on the console."""
    wrong, contexts = [], []

    def start(viewport=WIDE, theme="light", **options) -> Page:
        context = chromium.new_context(viewport=viewport, **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(PATIENCE * 1000)
        page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.goto(f"{address}?__theme={theme}&visitor={owner}.window")
        page.get_by_role("tab", name="History").click()
        page.wait_for_selector(".bd-history-list:not([hidden]), .bd-history-empty:not([hidden])")
        return page

    yield start
    for context in contexts:
        context.close()
    assert wrong == []


def test_a_toast_tells_of_a_run_that_was_cut_off(open_tab, served, owner, clip):
    served.runs.end(served.runs.begin(asked(clip), 8.0, owner), "interrupted")
    expect(open_tab().locator(".toast-body")).to_contain_text("The studio was stopped during your last run.")


@pytest.fixture
def three(served, owner, clip):
    """Three finished runs, oldest first."""
    made = [("a red cube", 0.0), ("a blue cone", 0.5), ("a green sphere", 0.73)]
    return [done(served, asked(clip, prompt=prompt, mixing_ratio=ratio), owner) for prompt, ratio in made]


def card(page: Page, run_id: str):
    return page.locator(f'.bd-past[data-id="{run_id}"]')


def shown_prompts(page: Page):
    return page.locator(".bd-past-prompt")


@pytest.mark.browser
def test_searching_starring_and_filtering(open_tab, served, owner, three):
    page = open_tab()
    expect(shown_prompts(page)).to_have_text(["a green sphere", "a blue cone", "a red cube"])
    page.get_by_label("Search").fill("BLUE")
    expect(shown_prompts(page)).to_have_text(["a blue cone"])
    card(page, three[1]).get_by_role("button", name="Favourite").click()
    page.get_by_label("Search").fill("")
    expect(shown_prompts(page)).to_have_count(3)
    page.get_by_label("Favourites only").check()
    expect(shown_prompts(page)).to_have_text(["a blue cone"])
    assert [run.id for run in served.runs.find(owner, favourites=True)] == [three[1]]
    page.get_by_label("Search").fill("dragon")
    expect(page.locator(".bd-history-empty")).to_contain_text("No run matches.")


@pytest.mark.browser
def test_nothing_yet_says_what_to_do_and_new_runs_come_by_themselves(open_tab, served, owner, clip):
    page = open_tab()
    expect(page.locator(".bd-history-empty")).to_contain_text("Press “Generate”")
    done(served, asked(clip), owner)
    expect(shown_prompts(page)).to_have_text(["a red cube"])
    expect(page.locator(".bd-history-empty")).to_be_hidden()


@pytest.mark.browser
def test_choosing_looking_and_restoring(open_tab, three):
    page = open_tab()
    card(page, three[2]).locator(".bd-past-open").click()
    page.wait_for_selector("#history-player .bdp-tile:last-child canvas[data-frame]")
    expect(page.locator("#history-player .bdp-tile .bdp-label strong")).to_have_text(LABELS["control"])
    expect(page.locator("#history-details")).to_be_focused()
    with page.expect_download() as download:
        page.get_by_label("Download bridged as mp4").click()
    assert carried.read(download.value.path()).settings["mixing_ratio"] == 0.73
    page.get_by_role("button", name="Restore to its tab").click()
    expect(page.get_by_label("Prompt", exact=True)).to_have_value("a green sphere")
    expect(page.locator("#ratio input[type=number]")).to_have_value("0.73")  # between two steps of the slider
    expect(page.locator("#restored textarea")).to_have_value(three[2])


@pytest.mark.browser
def test_comparing_two(open_tab, three):
    page = open_tab()
    compare = page.get_by_role("button", name="Compare selected")
    card(page, three[0]).get_by_role("checkbox").check()
    expect(compare).to_be_disabled()
    card(page, three[2]).get_by_role("checkbox").check()
    expect(page.locator(".bd-history-count")).to_have_text("2 selected")
    compare.click()
    expect(page.locator(CELLS)).to_have_count(2)
    expect(page.locator("#history-comparison")).to_contain_text("Mixing ratio 0.73")
    expect(page.locator("#history-comparison")).to_be_focused()
    page.get_by_role("button", name="Clear").press("Enter")
    expect(page.locator(".bd-history-bar")).to_be_hidden()
    expect(page.locator(".is-ticked")).to_have_count(0)


@pytest.mark.browser
def test_the_keyboard_chooses_stars_ticks_and_deletes(open_tab, served, owner, three):
    page = open_tab()
    card(page, three[2]).locator(".bd-past-open").focus()
    page.keyboard.press("ArrowRight")
    expect(card(page, three[1]).locator(".bd-past-open")).to_be_focused()
    page.keyboard.press("Tab")
    page.keyboard.press("Space")
    expect(card(page, three[1]).get_by_role("checkbox")).to_be_checked()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(card(page, three[1]).locator(".bd-past-star")).to_have_attribute("title", "A favourite: it is kept")
    page.keyboard.press("End")  # only on the card itself
    expect(card(page, three[1]).locator(".bd-past-star")).to_be_focused()
    card(page, three[1]).locator(".bd-past-open").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#history-details")).to_be_focused()
    page.locator("#history-delete").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#history-delete")).to_have_text("Delete for good?")
    expect(page.locator("#history-delete")).to_be_focused()
    page.get_by_role("button", name="Keep it").click()
    expect(page.locator("#history-delete")).to_have_text("Delete")
    assert len(served.runs.find(owner)) == 3
    page.locator("#history-delete").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#history-delete")).to_have_text("Delete for good?")
    page.keyboard.press("Enter")
    expect(card(page, three[1])).to_have_count(0)
    expect(page.locator("#history-details")).to_be_hidden()
    assert [run.id for run in served.runs.find(owner)] == [three[2], three[0]]


@pytest.mark.browser
def test_dropping_a_file_shows_its_run(open_tab, served, three, owner):
    page = open_tab()
    file = served.runs.get(three[0], owner).files["bridged"]
    page.locator("#history-drop input[type=file]").set_input_files(file)
    expect(page.locator("#history-about")).to_contain_text("From a file")
    expect(page.locator(".bd-past").first.locator(".bd-pill")).to_have_text("From a file")
    expect(page.locator(".bd-past-open").first).to_have_attribute("aria-pressed", "true")


@pytest.mark.browser
@pytest.mark.parametrize("motion", ["no-preference", "reduce"])
def test_thumbnails_move_while_pointed_at_unless_motion_is_unwanted(open_tab, three, motion):
    page = open_tab(reduced_motion=motion)
    moving = card(page, three[0]).locator("img")
    expect(moving).to_be_hidden()
    card(page, three[0]).locator(".bd-past-open").focus()
    expect(moving).to_be_hidden() if motion == "reduce" else expect(moving).to_be_visible()
    card(page, three[1]).locator(".bd-past-open").focus()
    expect(moving).to_be_hidden()


@pytest.mark.browser
@pytest.mark.parametrize(("viewport", "theme"), [(WIDE, "dark"), (WIDE, "light"), (SLIM, "dark"), (SLIM, "light")])
def test_the_tab_fits_and_can_be_read(open_tab, served, owner, three, clip, viewport, theme, monkeypatch):
    monkeypatch.setattr(type(served.runs), "trouble", "What you run is not kept: the disk is full. Make room.")
    long = served.runs.begin(asked(clip, prompt="x" * 300, family="sd15"), 8.0, owner)
    served.runs.end(long, "failed", "The device is out of memory. Ask for fewer frames.")
    page = open_tab(viewport, theme)
    for run_id in three[:2]:
        card(page, run_id).get_by_role("checkbox").check()
    page.get_by_role("button", name="Compare selected").click()
    expect(page.locator(CELLS)).to_have_count(2)
    card(page, long).locator(".bd-past-open").click()
    expect(page.locator("#history-about")).to_contain_text("out of memory")
    page.locator("#history-settings summary").click()
    page.locator("#history-delete").click()
    expect(page.get_by_role("button", name="Keep it")).to_be_visible()
    come_to_rest(page)
    assert overflow(page) <= 0
    contrast, text = page.evaluate(LOWEST_CONTRAST)
    assert contrast >= 4.5, text
    nameless = page.evaluate("""() => [...document.querySelectorAll('#history-tab :is(button, input)')]
        .filter((e) => e.checkVisibility() && !(e.ariaLabel || e.labels?.length || e.textContent.trim() || e.title))
        .map((e) => e.outerHTML)""")
    assert nameless == []
