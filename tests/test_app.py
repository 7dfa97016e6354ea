"""The app without a browser: handlers as plain functions, and each endpoint through a client.

The models are a stand-in (`fake_run.py`), but for one round trip through the real pipeline with random weights.
"""

from __future__ import annotations

import base64
import io
import re
import subprocess
import sys
import threading
import time
import zipfile
from itertools import pairwise
from pathlib import Path

import httpx
import numpy as np
import pytest
from fake_run import DRAWN_SEED, FakeRun, fake_context
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image

import app
from bivdiff import media
from bivdiff.errors import InputError, ModelUnavailableError
from bivdiff.types import StepEvent
from tabs import common, control, controls, edit, inpaint, outpaint, player, results, smooth
from tabs.context import AppContext
from tabs.page import build_page, launch_options
from tabs.running import Failure, Meter, follow

ROOT = Path(__file__).resolve().parent.parent
PATIENCE = 20  # seconds a thread may take on a busy machine
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


@pytest.mark.parametrize(
    ("prompt", "strange"),
    [("a red cube at noon", []), ("a red Dragon, flying", ["dragon", "flying"]), ("", []), (None, []), ("<b>", ["b"])],
)
def test_unknown_words_are_named(prompt, strange):
    hint = controls.unknown_words(prompt)
    assert bool(hint) == bool(strange)
    assert all(word in hint for word in strange)


def test_picking_a_sample_drops_the_upload_and_fills_in_its_prompt(context):
    texts = {"prompt": lambda sample: sample.prompt, "source_prompt": lambda sample: sample.caption}
    sample = context.samples[2]
    assert common.pick_sample(context, texts, 2) == (None, sample.prompt, sample.caption)


# Following a run


def test_events_arrive_in_order_and_the_result_last(run, context, request_of):
    updates = [update for update in follow(lambda: run(request_of()), context.device) if update is not None]
    steps = [(update.stage, update.step) for update in updates[:-1]]
    order = ["load", "control", "framewise", "inversion", "smoothing"]
    assert [order.index(stage) for stage, _ in steps] == sorted(order.index(stage) for stage, _ in steps)
    assert {stage for stage, _ in steps} == set(order)
    assert updates[-1].seed == 1
    assert run.closed.wait(PATIENCE)
    assert not context.device.locked()


def test_closing_stops_the_run_and_frees_the_device(context, request_of):
    run = FakeRun(pause=0.05)
    updates = follow(lambda: run(request_of(num_inference_steps=200)), context.device)
    next(update for update in updates if isinstance(update, StepEvent) and update.stage == "framewise")
    updates.close()
    assert run.closed.wait(PATIENCE)
    assert context.device.acquire(timeout=PATIENCE)


def test_a_second_run_waits_for_the_first_and_can_be_stopped_while_it_does(context, request_of):
    run = FakeRun()
    with context.device:
        updates = follow(lambda: run(request_of()), context.device)
        assert next(updates) is None
        updates.close()
    time.sleep(1.2)  # longer than the worker waits between two looks at the device
    assert not run.started.is_set()
    assert not context.device.locked()


def test_an_error_arrives_as_an_update(context, request_of):
    error = ModelUnavailableError("No weights. Train them.")
    *_, last = follow(lambda: FakeRun(error=error)(request_of()), context.device)
    assert last == Failure(error)


def test_the_meter_counts_both_inversions_and_never_goes_back(request_of):
    request = request_of(mixing_ratio=0.5)
    now = [0.0]
    meter = Meter(request, clock=lambda: now[0])
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
    meter = Meter(request_of())
    meter.take(StepEvent("load", 1, 1, "Models loaded", note="The prompt is longer than the model reads."))
    meter.take(StepEvent("framewise", 1, 2, "Frame by frame"))
    assert meter.panel()["detail"] == "The prompt is longer than the model reads."


# The page's handler


def test_generate_shows_progress_previews_and_the_result(context):
    views = list(common.generate(context, control.read_job, "control", values(), None))
    panels = [shown(view)["panel"] for view in views if "panel" in shown(view)]
    assert panels[0]["state"] == "running"
    assert panels[-1]["state"] == "done"
    players = [shown(view)["player"] for view in views if "player" in shown(view)]
    filled = [[bool(tile["sheet"]) for tile in value["tiles"]] for value in players]
    assert filled[0] == [True, False, False, False]
    assert [True, True, False, False] in filled
    assert [True, True, True, False] in filled
    assert filled[-1] == [True] * 4
    assert [tile["label"] for tile in players[-1]["tiles"]] == ["Source", "Control map", "Frame by frame", "Bridged"]
    assert views[-1].seed == DRAWN_SEED
    assert views[-1].last == views[-1].player
    assert views[0].start["interactive"] is False
    assert views[0].stop["interactive"] is True
    assert views[-1].start["interactive"] is True
    assert views[-1].stop["interactive"] is False


def test_a_given_seed_is_used_and_shown(run, context):
    *_, last = common.generate(context, control.read_job, "control", values(random_seed=False, seed=99), None)
    assert run.requests[-1].seed == 99
    assert last.seed == 99
    assert ["Seed", "99"] in last.player["facts"]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            ModelUnavailableError("The weights are missing. Train them first."),
            "The weights are missing. Train them first.",
        ),
        (RuntimeError("secret /srv/path"), common.UNEXPECTED),
    ],
)
@pytest.mark.filterwarnings("ignore:The weights are missing", "ignore:Something failed")
def test_a_failure_is_a_sentence_and_the_last_result_stays(error, said):
    before = {"tiles": [], "fps": 8}
    broken = fake_context(FakeRun(error=error))
    *_, last = common.generate(broken, control.read_job, "control", values(), before)
    assert last.panel["state"] == "failed"
    assert last.panel["headline"] == said
    assert last.player is before
    assert last.start["interactive"] is True
    assert "last" not in shown(last)
    assert "seed" not in shown(last)


@pytest.mark.filterwarnings("ignore:There are")
def test_a_bad_page_leaves_the_player_alone(run, context):
    (only,) = common.generate(context, control.read_job, "control", values(sample=99), {"tiles": []})
    assert only.panel["state"] == "failed"
    assert "player" not in shown(only)
    assert not run.started.is_set()


def test_closing_the_handler_stops_the_run():
    run = FakeRun(pause=0.05)
    views = common.generate(fake_context(run), control.read_job, "control", values(num_inference_steps=100), None)
    for view in views:
        if "Frame by frame" in shown(view)["panel"]["headline"]:
            break
    views.close()
    assert run.closed.wait(PATIENCE)


def test_stopping_brings_the_last_result_back():
    before = {"tiles": [], "fps": 8}
    assert common.stopped("control", before).player is before
    assert "player" not in shown(common.stopped("control", None))


def test_clips_that_cannot_be_written_are_still_shown(context, monkeypatch):
    def refuse(*_):
        raise InputError("The disk is full. Make room.")

    monkeypatch.setattr(media, "write_mp4", refuse)
    *_, last = common.generate(context, control.read_job, "control", values(), None)
    assert last.panel["state"] == "done"
    assert last.panel["detail"] == "The disk is full. Make room."
    assert all(tile["sheet"] and not tile.get("file") for tile in last.player["tiles"])


def test_files_lie_in_a_private_folder_with_a_name_that_cannot_be_guessed(run, context):
    *_, result = run(control.read_job(context, values()).request)
    first, second = (results.write_files(result, 8) for _ in range(2))
    assert first.bridged.parent != second.bridged.parent
    assert re.fullmatch("[0-9a-f]{32}", first.bridged.parent.name)
    assert first.bridged.parent.stat().st_mode & 0o077 == 0
    assert media.probe(first.bridged).num_frames == 8


# The preview


def test_the_preview_shows_the_source_first_and_then_its_map(context):
    first, second = control.preview_control(context, values())
    assert [bool(tile["sheet"]) for tile in first["tiles"]] == [True, False]
    assert [bool(tile["sheet"]) for tile in second["tiles"]] == [True, True]
    assert second["tiles"][1]["label"] == "Edges"


def test_the_preview_follows_the_thresholds(context):
    sheets = [list(control.preview_control(context, values(high_threshold=high)))[-1] for high in (60, 200)]
    assert sheets[0]["tiles"][1]["sheet"] != sheets[1]["tiles"][1]["sheet"]


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
    sheet = player.sheet(frames)
    picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(sheet["src"].partition(",")[2]))).convert("RGB"))
    for number, frame in enumerate(frames):
        row, column = divmod(number, sheet["columns"])
        np.testing.assert_array_equal(picture[row * 16 :, column * 24 :][:16, :24], frame)


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
    runs = {f"/{task}{end}" for task in TABS for end in ("", "_page", "_stop", "_sample", "_estimate")}
    models = {f"/models_{end}" for end in ("list", "readout", "pull", "stop", "load", "unload", "unload_all")}
    assert set(endpoints) == runs | previews | models | {"/edit_description", "/unknown_words", "/compare"}
    for task in TABS:
        parameters = endpoints[f"/{task}"]["parameters"]
        names = {parameter["parameter_name"] for parameter in parameters}
        assert {"video", "sample", "prompt", "mixing_ratio", "mixing_rule", "seed", "random_seed"} <= names
        assert {"num_inversion_steps", "num_smoothing_steps", "video_prompt"} <= names
        assert all(parameter["parameter_has_default"] for parameter in parameters)


def test_control_gives_files_and_a_record(client, served_run):
    upload = handle_file(str(fake_context(served_run).samples[1].file))
    *files, record = client.predict(video=upload, prompt="a red cube", random_seed=False, seed=5, api_name="/control")
    bridged, framewise, (maps,), gif, pngs = files
    assert [media.probe(path).num_frames for path in (bridged, framewise, maps)] == [8, 8, 8]
    assert Path(gif).read_bytes().startswith(b"GIF8")
    assert len(zipfile.ZipFile(pngs).namelist()) == 8
    assert record["seed"] == record["settings"]["seed"] == 5
    assert record["settings"]["prompt"] == "a red cube"
    assert [item["control_type"] for item in record["settings"]["controls"]] == ["canny"]
    assert record["flicker"]["bridged"] > 0


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
    assert [media.probe(path).num_frames for path in (bridged, framewise, *(others or ()))] == [8] * (2 + steering)
    assert record["settings"]["task"] == task
    assert record["settings"]["num_smoothing_steps"] == 20
    kept = {name: value for name, value in given.items() if name in record["settings"]}
    assert kept == {name: record["settings"][name] for name in kept}
    assert served_run.requests[-1].task == task


def test_control_reports_progress_and_can_be_cancelled(address, served_run, monkeypatch):
    monkeypatch.setattr(served_run, "pause", 0.1)
    client = Client(address, verbose=False)
    served_run.started.clear()
    job = client.submit(num_inference_steps=100, api_name="/control")
    deadline = time.monotonic() + PATIENCE
    while not any(output[-1].get("step", 0) > 2 for output in job.outputs()) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert job.outputs()[-1][-1]["stage"] == "framewise"
    job.cancel()
    assert served_run.closed.wait(PATIENCE)


@pytest.mark.parametrize("task", TABS)
def test_every_task_refuses_with_the_sentence(client, task):
    with pytest.raises(AppError, match="numbered from 0"):
        client.predict(sample=99, api_name=f"/{task}")


@pytest.mark.parametrize(("task", "count"), {"control": 4, "edit": 3, "inpaint": 4, "outpaint": 3, "smooth": 2}.items())
def test_the_pages_own_endpoints_answer(client, task, count):
    panel, player_shown, seed, *_ = client.predict(api_name=f"/{task}_page")
    assert panel["state"] == "done"
    assert len(player_shown["tiles"]) == count
    assert seed == DRAWN_SEED
    assert client.predict(api_name=f"/{task}_stop")[0]["state"] == "stopped"


def test_previews_and_samples_answer(client, served_run):
    sample = fake_context(served_run).samples[2]
    assert len(client.predict(api_name="/control_map")["tiles"]) == 2
    assert client.predict(mask_source="boxes", api_name="/inpaint_mask")[0]["tiles"][1]["sheet"]
    assert client.predict(left="50%", api_name="/outpaint_canvas")["facts"]
    for api_name in ("/edit_source", "/smooth_source"):
        assert client.predict(start=0.25, num_frames=2, api_name=api_name)["tiles"][0]["sheet"]["count"] == 2
    assert client.predict(2, api_name="/control_sample")[1] == sample.prompt
    assert client.predict(2, api_name="/edit_sample")[1:3] == (sample.caption, sample.instruction)
    assert client.predict(2, api_name="/inpaint_sample")[1] == sample.erased
    assert "at night" in client.predict("a cube at noon", "make it night", "", api_name="/edit_description")
    assert "dragon" in client.predict("a dragon", api_name="/unknown_words")


def test_a_second_task_waits_until_the_first_has_the_device_no_more(address, served_run, monkeypatch):
    monkeypatch.setattr(served_run, "pause", 0.05)
    first, second = Client(address, verbose=False), Client(address, verbose=False)
    served_run.started.clear()
    before = len(served_run.requests)
    job = first.submit(num_inference_steps=60, api_name="/control")
    assert served_run.started.wait(PATIENCE)
    waiting = second.submit(api_name="/smooth_page")
    deadline = time.monotonic() + PATIENCE
    while not waiting.outputs() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert waiting.outputs()[0][0]["headline"].startswith("Waiting")
    assert len(served_run.requests) == before + 1
    job.cancel()
    assert waiting.result()[0]["state"] == "done"


def test_no_file_of_the_server_can_be_fetched(address):
    for path in (ROOT / "app.py", ROOT / "assets" / "clips" / "index.json", "/etc/passwd"):
        assert httpx.get(f"{address}gradio_api/file={path}").status_code in (403, 404)


def test_the_real_pipeline_answers_with_random_weights(settings):
    context = AppContext.from_settings(settings)
    few = values(num_frames=2, **dict.fromkeys(FEW_STEPS, 1))
    *_, last = common.generate_files(context, control.read_job, few)
    assert media.probe(last[0]).num_frames == 2
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
    given = app.build_parser().parse_args(["--port", "8001"])
    assert (given.port, given.host, given.device, given.share, given.open) == (8001, None, None, False, False)


def test_no_thread_is_left_behind():
    deadline = time.monotonic() + PATIENCE
    while any(thread.name == "bivdiff-run" for thread in threading.enumerate()) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(thread.name == "bivdiff-run" for thread in threading.enumerate())
