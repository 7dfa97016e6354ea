"""What strangers try at a served page, in tables: nothing of it may open a door again.

One page with the real history serves all of it. What browsers do is in test_visit, what files say in test_bad_input.
"""

from __future__ import annotations

import io
import json
import math
import pickle
import socket
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest
from fake_run import FakeRun, Hold, fake_context
from patience import PATIENCE, until, until_in

from bivdiff.catalog.requests import default_request
from bivdiff.errors import InputError
from bivdiff.media import carried, effort
from bivdiff.settings import Settings
from bivdiff.studio import limits
from bivdiff.studio.limits import reading_seconds
from bivdiff.toybox.clips import load_index
from tabs import guard
from tabs.page import build_page, launch_options
from tabs.serving import VISITORS_FRAMES

ADA, EVE = "ada" + "a" * 20, "eve" + "e" * 20
SAMPLE = load_index()[0].file
FEW = {"num_frames": 2, "num_inversion_steps": 2, "num_smoothing_steps": 2}


@pytest.fixture(scope="module")
def studio(tmp_path_factory):
    """The address of a page, its context, what runs there, and the folder of uploads."""
    folder = tmp_path_factory.mktemp("uploads")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(folder))
        run = FakeRun()
        context = fake_context(run, max_frames=VISITORS_FRAMES)
        page = build_page(context)
        options = launch_options(replace(Settings(), uploads_size="2MB"), runs=context.runs)
        _, url, _ = page.launch(prevent_thread_lock=True, quiet=True, **options)
        yield url, context, run, folder
        page.close()


@pytest.fixture(scope="module")
def client(studio):
    with httpx.Client(base_url=studio[0], timeout=PATIENCE) as client:
        yield client


def call(client: httpx.Client, name: str, /, **given: object) -> str:
    """All that an action tells, as it comes."""
    asked = client.post(f"/gradio_api/call/v2/{name}", json=given)
    if not asked.is_success:
        return f"{asked.status_code} {asked.text}"
    return client.get(f"/gradio_api/call/v2/{name}/{asked.json()['event_id']}").text


def error_in(told: str) -> str:
    """The sentence that an action ends with."""
    last = told.strip().splitlines()[-1]
    assert "event: error" in told, told[-300:]
    sentence = json.loads(last.partition(": ")[2])["error"]
    assert sentence, told
    return sentence


def upload(client: httpx.Client, data: bytes, name: str) -> dict[str, object]:
    answer = client.post("/gradio_api/upload", files={"files": (name, data)})
    assert answer.status_code == 200, answer.text
    return {"path": answer.json()[0], "meta": {"_type": "gradio.FileData"}, "orig_name": name}


# Runs and presets of others


@pytest.fixture(scope="module")
def of_ada(client, studio):
    """A run of Ada's, beside a preset of hers."""
    told = call(client, "smooth_page", visitor=ADA, prompt="adas secret", **FEW)
    assert "complete" in told
    assert "complete" in call(client, "smooth_preset_save", visitor=ADA, prompt="adas preset", name="mine")
    (run,) = studio[1].runs.find(ADA)
    return run.id


OF_OTHERS = (
    ("smooth_source", {"restored": "{}"}), ("smooth_estimate", {"restored": "{}"}), ("smooth", {"restored": "{}"}),
    ("smooth_compare", {"restored": "{}"}), ("film", {"run_id": "{}", "shape": "wide"}), ("figure", {"run_id": "{}"}),
    ("contact_sheet", {"run_id": "{}"}),
    ("link", {"run_id": "{}", "on": True}), ("history_delete", {"run_id": "{}"}),
    ("history_favourite", {"starred": "{}", "favourite": True}), ("smooth_preset", {"chosen": "mine"}),
    ("smooth_preset_delete", {"chosen": "mine"}), ("job_action", {"job": "{}", "action": "cancel"}),
    ("history_list", {"search": "adas"}), ("history_list", {}), ("smooth_resume", {}), ("jobs", {}),
)  # fmt: skip
NAMES_OF_EVE = (EVE, "", "*", "%", "' OR 1=1 --", ADA[:-1], f"{ADA} ", f" {ADA}", ADA.upper(), "../" + ADA, "a\x00b")


@pytest.mark.parametrize("who", NAMES_OF_EVE)
def test_nobody_sees_or_changes_what_is_somebody_elses(client, studio, of_ada, who):
    for name, given in OF_OTHERS:
        filled = {key: of_ada if value == "{}" else value for key, value in given.items()}
        told = call(client, name, visitor=who, **filled)
        assert "adas" not in told.replace("“adas”", ""), name
        assert not told.startswith("5"), (name, told)
        assert '"error": null' not in told, name
    run = studio[1].runs.get(of_ada, ADA)
    assert (run.state, run.favourite) == ("done", False)
    assert studio[1].runs.presets.of(ADA, "toybox/smooth")["mine"]["prompt"] == "adas preset"


# What takes a path or an address


PATHS = ("/etc/passwd", "../../etc/passwd", "http://127.0.0.1:1/a.mp4", "file:///etc/passwd", "", "a\x00.mp4",
         "concat:/etc/passwd", "\\\\host\\share")  # fmt: skip
FIELDS = (("smooth_source", "video"), ("control_map", "control_video"), ("inpaint_mask", "mask_video"),
          ("history_adopt", "file"))  # fmt: skip


@pytest.mark.parametrize(("name", "field"), FIELDS)
def test_no_field_takes_a_path_or_an_address(client, name, field):
    for path in PATHS:
        file = {"path": path, "meta": {"_type": "gradio.FileData"}}
        assert "uploaded to this page" in error_in(call(client, name, **{field: file}))
        assert "event: error" in call(client, name, **{field: path})
        assert "root:" not in call(client, name, **{field: [file]})


IDS = ("..", "../..", "/etc", "%2e%2e", "0" * 31, "0" * 32, "g" * 32, "a\x00", "", "0" * 5000)


@pytest.mark.parametrize("name", ["smooth_source", "film", "figure", "link", "history_delete"])
def test_no_id_leads_out_of_the_history(client, studio, name):
    before = sorted(studio[1].runs.files_folder.rglob("*"))
    for each in IDS:
        told = call(client, name, visitor=EVE, **{"restored" if name == "smooth_source" else "run_id": each})
        assert not told.startswith("5"), (each, told)
        assert '"error": null' not in told, each
    assert sorted(studio[1].runs.files_folder.rglob("*")) == before


# What a file says


def bomb() -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("settings.json", b"[" * 50_000_000)
    return made.getvalue()


def settings_with(**changes: object) -> bytes:
    request = default_request("control", "toybox", np.zeros((2, 64, 64, 3), np.uint8), "a red cube")
    written = {carried.CARRY_NAME: carried.FORMAT, "settings": {**carried.settings_of(request, 8.0), **changes}}
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("settings.json", json.dumps(written))
    return made.getvalue()


def pictures_of(count: int, height: int, width: int) -> bytes:
    """An archive that says that its clip is so large."""
    made = io.BytesIO(settings_with())
    with zipfile.ZipFile(made, "a") as archive:
        index = {"names": ["frames"], "count": count, "width": width, "height": height}
        archive.writestr("pictures/index.json", json.dumps(index))
    return made.getvalue()


def with_a_path() -> bytes:
    """An archive whose settings lie outside it."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("../../settings.json", "{}")
        archive.writestr("/etc/settings.json", "{}")
    return made.getvalue()


class Runs:
    """What would write a file, were it ever unpickled."""

    def __reduce__(self):
        return Path.touch, (Path("/tmp/strangers-were-here"),)  # noqa: S108 - nothing may write it


FILES = {
    "nothing": (b" ", "settings"), "text": (b"settings", "settings"), "html": (b"<html>", "settings"),
    "a bomb": (bomb(), "settings"), "a pickle": (pickle.dumps(Runs()), "settings"),
    "half a zip": (settings_with()[:200], "settings"),
    "a path in the zip": (with_a_path(), "settings"),
    "too long a clip": (pictures_of(10**6, 8, 8), "megapixels"),
    "too large a clip": (pictures_of(2, 8192, 8192), "megapixels"),
    "negative": (pictures_of(-1, 8, 8), "settings"),
    "another task": (settings_with(task="../x"), "task"),
    "a number that is none": (settings_with(mixing_ratio="<b>"), "mixing_ratio"),
    "a clip in place of a run": (SAMPLE.read_bytes(), "settings"),
}  # fmt: skip


@pytest.mark.parametrize("kind", FILES)
def test_no_dropped_file_is_more_than_its_data(client, kind):
    data, words = FILES[kind]
    told = call(client, "history_adopt", visitor=EVE, file=upload(client, data, "run.zip"))
    assert words in error_in(told)
    assert "<b>" not in told
    assert not Path("/tmp/strangers-were-here").exists()  # noqa: S108


def test_a_clip_that_takes_long_to_decode_holds_its_turn_for_so_long_and_no_longer(client, studio):
    with studio[1].decoding():
        assert effort.left() == reading_seconds(studio[1].settings) < 60
        with studio[1].decoding():
            effort.took(5)
        assert effort.left() < 55
    with fake_context(FakeRun()).decoding():  # who sits at the machine may wait for as long as it takes
        assert effort.left() == math.inf
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(limits, "READING", -limits.READING_A_FRAME * VISITORS_FRAMES + 1e-6)
        told = call(client, "smooth_source", visitor=EVE, video=upload(client, SAMPLE.read_bytes(), "a.mp4"))
        assert "seconds of a processor" in told


def test_a_clip_that_is_too_large_is_refused_before_it_is_decoded(studio, monkeypatch):
    monkeypatch.setattr(carried, "_clip", lambda *_: pytest.fail("it was decoded"))
    large = studio[3] / "large.zip"
    large.write_bytes(pictures_of(64, 1024, 1024))
    with pytest.raises(InputError, match="megapixels"):
        studio[1].runs.adopt(large, EVE)


# Many at once, and broken ones


def test_thirty_clients_of_junk_at_once_leave_the_page_as_it_was(client, studio):
    place = urlsplit(studio[0])
    sent = (
        b"", b"\x00" * 500, b"GET / HTTP/1.1\r\n", b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n",
        b"POST /gradio_api/upload HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST /gradio_api/queue/join HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9999999999\r\n\r\n{",
    )  # fmt: skip

    def junk(number: int) -> None:
        with socket.create_connection((place.hostname, place.port), timeout=PATIENCE) as sending:
            sending.sendall(sent[number % len(sent)])

    with ThreadPoolExecutor(30) as pool:
        list(pool.map(junk, range(90)))
    assert client.get("/").status_code == 200
    assert "event: complete" in call(client, "smooth_source", visitor=EVE)


def test_twenty_runs_that_are_cancelled_leave_nothing_running(client, studio):
    _, context, run, _ = studio
    hold, owners = Hold("smoothing"), [f"cancels-{number:02d}-{'c' * 10}" for number in range(20)]
    run.before, usual = hold, run.before
    try:
        for who in owners:
            asked = client.post("/gradio_api/call/v2/smooth_page", json={"visitor": who, **FEW})
            assert asked.status_code == 200
            until(lambda who=who: context.jobs.of(who))
            assert "complete" in call(client, "smooth_stop", visitor=who)
        hold.let()
        until_in(context.jobs, lambda: not any(job.waits for who in owners for job in context.jobs.of(who)))
    finally:
        hold.let()
        run.before = usual
    assert not context.device.locked()
    assert "event: complete" in call(client, "smooth", visitor=EVE, **FEW)


# Limits, by every way round


TOO_MUCH = (
    ({"num_frames": 65}, "1 to 64"), ({"num_frames": 10**9}, "1 to 64"), ({"num_frames": -1}, "1 to 64"),
    ({"stride": 0}, "n-th frame"), ({"start": 1e300}, "Start"), ({"num_smoothing_steps": 10**6}, "Smoothing steps"),
    ({"prompt": "x" * 100_000}, "prompt"), ({"seed": 2**70}, "Seed"), ({"window": 10**9}, "Window"),
    ({"fps": 1e9}, ""), ({"sample": 10**6}, "sample"), ({"mixing_ratio": "NaN"}, ""),
)  # fmt: skip


@pytest.mark.parametrize(("given", "words"), TOO_MUCH)
def test_what_is_too_much_is_refused_with_a_sentence_wherever_it_is_asked(client, studio, given, words):
    before = len(studio[2].requests)
    told = call(client, "smooth", visitor=EVE, **{**FEW, "random_seed": False, **given})
    if words:
        assert words in error_in(told)
        assert len(studio[2].requests) == before
    assert '"error": null' not in told
    assert guard.FAILED not in told


NO_VALUES = ([1], {"a": 1}, "x", True, -1, 1e308, "<b>", "9" * 5000, None)
TAKE_ANYTHING = (
    ("smooth_source", "sample"), ("smooth_source", "num_frames"), ("smooth_source", "restored"),
    ("smooth_estimate", "mixing_ratio"), ("control_map", "control_type"), ("outpaint_canvas", "left"),
    ("outpaint_canvas", "aspect"), ("smooth_preset_save", "name"), ("history_list", "task"), ("history_list", "search"),
    ("job_action", "action"), ("film", "shape"), ("link", "on"), ("compare", "ratios"), ("models_list", "family"),
)  # fmt: skip


@pytest.mark.parametrize(("name", "field"), TAKE_ANYTHING)
def test_no_value_ends_without_a_word(client, name, field):
    for value in NO_VALUES:
        told = call(client, name, **{field: value})
        assert '"error": null' not in told, value
        assert guard.FAILED not in told, value
        assert not told.startswith("5"), (value, told)
