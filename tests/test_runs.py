"""The history: what is kept, who sees it, what leaves, and what happens where it cannot be kept."""

from __future__ import annotations

import errno
import io
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bivdiff.errors import InputError
from bivdiff.media import carried, streams
from bivdiff.media.film import FilmOptions
from bivdiff.media.reading import probe, read_clip
from bivdiff.media.writing import write_mp4, write_png
from bivdiff.settings import Settings, user_folder
from bivdiff.studio.history import database as tables
from bivdiff.studio.history import files, locks, presets, taking
from bivdiff.studio.history.records import card_words
from bivdiff.studio.history.runs import Runs
from bivdiff.types import Control, GenerationRequest, GenerationResult

ANNA, BORIS = "anna-5f", "boris-7c"
ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch):
    monkeypatch.setattr(locks, "WAIT_SECONDS", 0.1)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(history_folder=tmp_path / "history")


@pytest.fixture
def history(settings: Settings) -> Runs:
    return Runs(settings)


def result_of(request: GenerationRequest, seed: int = 77) -> GenerationResult:
    """A result as the pipeline gives it: its request has the seed and the words of the inversion."""
    settled = replace(request, seed=seed, inversion_prompt="what the video model was told")
    maps = tuple(request.frames if control.frames is None else control.frames for control in request.controls)
    return GenerationResult(
        settled, maps, request.frames[:, ::-1].copy(), request.frames[:, :, ::-1].copy(), seed, {"framewise": 1.5}
    )


def finished(history: Runs, request: GenerationRequest, owner: str = ANNA, seed: int = 77) -> str:
    made = history.begin(request, 8, owner)
    history.started(made)
    history.finish(made, result_of(request, seed), {"flicker": np.float32(2.5), "sharpness": float("nan")})
    return made


def files_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def database_of(settings: Settings) -> sqlite3.Connection:
    return sqlite3.connect(settings.history_folder / "runs.sqlite", isolation_level=None)


@contextmanager
def process(settings: Settings, code: str) -> Iterator[subprocess.Popen]:
    """Another process that runs code with a history `history`, prints a line, and waits to be killed."""
    lines = [
        "import sys, numpy as np", "from pathlib import Path", "from bivdiff.studio.history.runs import Runs",
        "from bivdiff.settings import Settings", "from bivdiff.catalog.requests import default_request",
        f"history = Runs(Settings(history_folder=Path({str(settings.history_folder)!r})))",
        code, "sys.stdin.read()",
    ]  # fmt: skip
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [sys.executable, "-c", "\n".join(lines)], cwd=ROOT, stdin=pipe, stdout=pipe, text=True
    ) as other:
        try:
            yield other
        finally:
            other.kill()


# What is kept


def test_a_run_goes_from_queued_to_done_with_all_that_belongs_to_it(history, request_of):
    request = request_of(seed=None)
    before = time.time()
    made = history.begin(request, 7.5, ANNA)
    queued = history.get(made, ANNA)
    assert (queued.state, queued.seed, queued.files, queued.kind) == ("queued", None, {}, "run")
    assert queued.thumbnail
    history.started(made)
    assert history.get(made, ANNA).state == "running"
    files = history.finish(made, result_of(request), {"flicker": np.float32(2.5), "sharpness": float("inf")})
    done = history.get(made, ANNA)
    assert (done.state, done.seed, done.fps, done.prompt) == ("done", 77, 7.5, request.prompt)
    assert done.files == files
    assert done.scores == {"flicker": 2.5, "sharpness": None}
    assert done.seconds == {"framewise": 1.5}
    assert before <= done.created <= time.time()
    assert (done.task, done.family, done.image_model) == ("control", "toybox", "controlnet")
    assert (done.video_model, done.settings["seed"], done.settings["fps"]) == ("toybox-video", 77, 7.5)


def test_the_files_of_a_result_have_the_names_that_they_always_had(history, request_of, task_request, source_frames):
    controls = (Control(control_type="canny"), Control(control_type="depth", frames=source_frames))
    two = finished(history, request_of(controls=controls))
    names = {name: path.name for name, path in history.get(two, ANNA).files.items()}
    assert names == {
        "bridged": "bridged.mp4", "framewise": "frame-by-frame.mp4", "control": "control.mp4",
        "control-2": "control-2.mp4", "gif": "bridged.gif", "pngs": "bridged-frames.zip",
    }  # fmt: skip
    masked = finished(history, task_request("inpaint", "inpainting"))
    assert history.get(masked, ANNA).files["mask"].name == "mask.mp4"


def test_a_restored_run_is_the_same_request_to_the_bit(history, settings, task_request, source_frames):
    noise = np.random.default_rng(0).integers(0, 256, source_frames.shape, np.uint8)
    controls = (Control(), Control(control_type="depth", frames=noise, conditioning_scale=0.1 + 0.2))
    request = task_request(
        "inpaint", "inpainting", seed=None, controls=controls, mixing_ratio=1 / 3, inversion_prompt="{prompt}"
    )
    made = history.begin(request, 30000 / 1001, ANNA)
    history.finish(made, result_of(request, seed=2**32 - 1), {})
    restored, fps = Runs(settings).job(made, ANNA)
    assert restored.settings() == replace(request, seed=2**32 - 1).settings()
    assert fps == 30000 / 1001
    np.testing.assert_array_equal(restored.frames, request.frames)
    np.testing.assert_array_equal(restored.masks, request.masks)
    np.testing.assert_array_equal(restored.controls[1].frames, noise)
    assert restored.controls[0].frames is None


def test_every_file_of_a_result_carries_its_run(history, request_of):
    made = finished(history, request_of(prompt="a red cube in snow"))
    for name, path in history.get(made, ANNA).files.items():
        found = carried.read(path)
        assert (found.settings["prompt"], found.settings["seed"]) == ("a red cube in snow", 77), name
        assert (found.request is None) == (name == "gif")


def test_numbers_of_numpy_are_kept_as_numbers(history, request_of):
    request = request_of(seed=np.int64(5), num_inference_steps=np.int32(3), mixing_ratio=np.float32(0.5))
    made = finished(history, request, seed=np.int64(5))
    assert history.job(made, ANNA)[0].settings()["num_inference_steps"] == 3
    assert history.get(made, ANNA).seed == 5


@pytest.mark.parametrize("shape", [(8, 512, 512, 3), (1, 8, 8, 3), (4, 16, 1024, 3)])
def test_a_thumbnail_is_a_small_webp(shape):
    noise = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    data = files.thumbnail_of(noise, 8)
    assert 0 < len(data) <= 20_000
    with Image.open(io.BytesIO(data)) as picture:
        assert picture.format == "WEBP"
        assert max(picture.size) <= 160


def test_a_thumbnail_moves_where_that_is_small(source_frames):
    with Image.open(io.BytesIO(files.thumbnail_of(source_frames, 8))) as picture:
        assert picture.n_frames == 4


def test_how_a_run_failed_is_kept_and_so_is_what_it_made(history, request_of):
    request = request_of()
    made = history.begin(request, 8, ANNA)
    history.started(made)
    history.end(made, "failed", "The device ran out of memory.", framewise=request.frames)
    failed = history.get(made, ANNA)
    assert (failed.state, failed.message) == ("failed", "The device ran out of memory.")
    assert list(failed.files) == ["framewise"]
    assert read_clip(failed.files["framewise"], num_frames=4).frames.shape == request.frames.shape
    np.testing.assert_array_equal(history.job(made, ANNA)[0].frames, request.frames)
    with pytest.raises(ValueError, match="done"):
        history.end(made, "done")


def test_a_comparison_keeps_its_files_and_its_values(history, request_of, source_frames):
    made = history.begin(request_of(seed=None), 8, ANNA, kind="comparison", axes={"mixing_ratio": (0, 0.5)})
    cell = history.folder(made) / "cells" / "01.mp4"
    cell.parent.mkdir()
    write_mp4(cell, source_frames, 8)
    history.finish_comparison(
        made, request_of(seed=9), {"cell 1": cell}, {"rows": [{"flicker": float("nan")}]}, source_frames
    )
    run = history.get(made, ANNA)
    assert (run.kind, run.state, run.seed) == ("comparison", "done", 9)
    assert run.settings["axes"] == {"mixing_ratio": [0, 0.5]}
    assert run.scores == {"rows": [{"flicker": None}]}
    assert run.files == {"cell 1": cell}
    assert history.job(made, ANNA)[0].seed == 9


def test_a_comparison_made_smaller_to_fit_is_restored_as_it_was_made(history, request_of, source_frames):
    made = history.begin(request_of(inversion_prompt="{prompt}"), 8, ANNA, kind="comparison", axes={"seed": (1, 2)})
    smaller = request_of(frames=source_frames[:, ::2, ::2], frame_batch_size=1, inversion_prompt="a cube")
    history.finish_comparison(made, smaller, {}, {}, smaller.frames)
    restored = history.job(made, ANNA)[0]
    assert np.array_equal(restored.frames, smaller.frames)
    assert (restored.frame_batch_size, restored.inversion_prompt) == (1, "{prompt}")


# Whose it is


def test_nobody_sees_or_changes_what_belongs_to_somebody_else(history, request_of):
    made = finished(history, request_of())
    history.presets.save(ANNA, "control", "mine", {"mixing_ratio": 0.5})
    assert history.find(BORIS) == []
    assert history.presets.of(BORIS, "control") == {}
    history.presets.delete(BORIS, "control", "mine")
    for forbidden in (history.get, history.delete, history.job):
        with pytest.raises(InputError, match="not in your history"):
            forbidden(made, BORIS)
    with pytest.raises(InputError, match="not in your history"):
        history.set_favourite(made, BORIS, True)
    assert [run.favourite for run in history.find(ANNA)] == [False]
    assert list(history.presets.of(ANNA, "control")) == ["mine"]


@pytest.mark.parametrize("owner", ["", " ", "an na", "a" * 201, None, 5, "анна"])
def test_an_owner_that_is_none_is_refused(history, request_of, owner):
    for call in (history.find, lambda owner: history.begin(request_of(), 8, owner)):
        with pytest.raises(InputError, match="Reload"):
            call(owner)
    assert files_in(history.files_folder) == set()


@pytest.mark.parametrize(
    "name",
    ["", "x", "../" * 10 + "aa", "..%2f" * 6 + "aa", "A" * 32, "0" * 31 + "\n", "' OR 1=1 --", None, 7, "%" * 32],
)
def test_ids_that_are_none_are_refused(history, request_of, name):
    finished(history, request_of())
    for call in (history.get, history.delete, history.job):
        with pytest.raises(InputError, match="not in your history"):
            call(name, ANNA)
    with pytest.raises(InputError):
        history.folder(name)
    assert len(history.find(ANNA)) == 1


# Finding


def test_the_newest_comes_first_and_pages_follow(history, request_of):
    made = [history.begin(request_of(prompt=f"number {number}"), 8, ANNA) for number in range(5)]
    assert [run.id for run in history.find(ANNA)] == made[::-1]
    assert [run.id for run in history.find(ANNA, limit=2, offset=2)] == [made[2], made[1]]
    assert history.find(ANNA, limit=-1) == []


def test_search_finds_what_a_card_says(history, request_of):
    found = history.begin(request_of(mixing_ratio=0.3, seed=41), 8.0, ANNA)
    history.begin(request_of(mixing_ratio=0.5, seed=7), 8.0, ANNA)
    for asked in ("ratio 0.3", "Seed 41", "0.3 41"):
        assert [run.id for run in history.find(ANNA, search=asked)] == [found], asked
    assert len(history.find(ANNA, search="ratio")) == 2
    history.begin(request_of(mixing_ratio=1.0, seed=None), 8.0, ANNA)
    one = history.find(ANNA, search="ratio 1.0")[0]  # as it is stored
    assert card_words(one.settings) == {"mixing_ratio": "ratio 1"}


def test_search_takes_words_of_any_case_and_script_literally(history, request_of):
    made = {
        prompt: history.begin(request_of(prompt=prompt, negative_prompt="Fog"), 8, ANNA)
        for prompt in ("A Red cube", "a 100% red_sphere", "Красный КУБ", "back\\slash")
    }

    def found(search: str) -> set[str]:
        return {run.prompt for run in history.find(ANNA, search=search)}

    assert found("red") == {"A Red cube", "a 100% red_sphere"}
    assert found("CUBE a") == {"A Red cube"}
    assert found("куб") == {"Красный КУБ"}
    assert found("%") == {"a 100% red_sphere"}
    assert found("d_s") == {"a 100% red_sphere"}
    assert found("k\\s") == {"back\\slash"}
    assert found("' OR 1=1 --") == set()
    assert found("fog") == found("") == found("toybox canny") == set(made)
    assert found("x" * 100_000) == set()


def test_task_state_and_favourites_filter(history, request_of, task_request):
    first, second = finished(history, request_of()), history.begin(task_request("smooth", "given"), 8, ANNA)
    history.set_favourite(first, ANNA, True)
    assert [run.id for run in history.find(ANNA, task="smooth")] == [second]
    assert [run.id for run in history.find(ANNA, state="done")] == [first]
    assert [run.id for run in history.find(ANNA, favourites=True)] == [first]
    history.set_favourite(first, ANNA, False)
    assert history.find(ANNA, favourites=True) == []
    assert history.find(ANNA, task="smooth' OR '1") == []


# Leaving


def test_delete_removes_files_and_entry(history, settings, request_of):
    made = finished(history, request_of())
    history.delete(made, ANNA)
    assert history.find(ANNA) == []
    assert list(history.files_folder.iterdir()) == []
    with closing(database_of(settings)) as database:
        assert database.execute("SELECT count(*) FROM runs").fetchone() == (0,)


def test_what_is_being_computed_is_not_deleted(history, request_of):
    made = history.begin(request_of(), 8, ANNA)
    with pytest.raises(InputError, match="Stop it first"):
        history.delete(made, ANNA)
    assert history.get(made, ANNA).state == "queued"


def test_the_oldest_leave_first_but_favourites_and_what_is_being_computed_stay(settings, request_of):
    history = Runs(settings)
    working = history.begin(request_of(), 8, ANNA)
    old = [finished(history, request_of(), owner) for owner in (ANNA, BORIS, ANNA, ANNA)]
    history.set_favourite(old[0], ANNA, True)
    with closing(database_of(settings)) as database:
        (size,) = database.execute("SELECT bytes FROM runs WHERE id = ?", (old[3],)).fetchone()
    assert sum(path.stat().st_size for path in history.folder(old[3]).iterdir()) <= size
    tight = Runs(replace(settings, history_size=str(int(size * 3.5))))
    newest = finished(tight, request_of())
    left = {run.id for owner in (ANNA, BORIS) for run in tight.find(owner)}
    assert left == {working, old[0], old[1], newest}  # who takes the most makes room: nobody else loses any
    assert {path.name for path in tight.files_folder.iterdir()} == left


def test_a_run_larger_than_the_bound_stays_until_the_next(settings, request_of):
    history = Runs(replace(settings, history_size="0"))
    first = finished(history, request_of())
    assert history.get(first, ANNA).files["bridged"].is_file()
    second = finished(history, request_of())
    assert [run.id for run in history.find(ANNA)] == [second]


def test_favourites_may_not_fill_the_history(settings, request_of):
    history = Runs(replace(settings, history_size="1k"))
    made = finished(history, request_of())
    with pytest.raises(InputError, match="50%"):
        history.set_favourite(made, ANNA, True)
    history.set_favourite(made, ANNA, False)


def test_a_bound_that_cannot_be_read_is_said_and_not_fatal(settings, request_of):
    history = Runs(replace(settings, history_size="much"))
    finished(history, request_of())
    assert "BIVDIFF_HISTORY_SIZE" in history.trouble
    assert len(history.find(ANNA)) == 1


def test_files_that_never_came_into_the_database_are_removed_once_they_are_old(settings, history, request_of):
    kept = finished(history, request_of())
    for name, age in (("a" * 32, 2 * files.ABANDONED_SECONDS), ("b" * 32, 0)):
        folder = history.files_folder / name
        folder.mkdir()
        os.utime(folder, (time.time() - age,) * 2)
    os.utime(history.folder(kept), (0, 0))
    Runs(settings)
    assert {path.name for path in history.files_folder.iterdir()} == {kept, "b" * 32}


# What was dropped on the page


def test_a_dropped_clip_of_another_machine_becomes_a_run(history, request_of, tmp_path):
    made = finished(history, request_of())
    other = Runs(Settings(history_folder=tmp_path / "elsewhere"))
    dropped = other.adopt(history.get(made, ANNA).files["bridged"], BORIS)
    run = other.get(dropped, BORIS)
    assert (run.state, run.message, run.kind) == ("dropped", "", "run")
    assert run.thumbnail
    ours, theirs = history.job(made, ANNA)[0], other.job(dropped, BORIS)[0]
    assert ours.settings() == theirs.settings()
    np.testing.assert_array_equal(ours.frames, theirs.frames)


@pytest.mark.parametrize("name", ["bridged", "framewise", "control"])
def test_a_dropped_clip_is_kept_as_what_it_shows(history, request_of, tmp_path, name):
    file = history.get(finished(history, request_of()), ANNA).files[name]
    other = Runs(Settings(history_folder=tmp_path / "elsewhere"))
    run = other.get(other.adopt(file.rename(tmp_path / "renamed.mp4"), BORIS), BORIS)
    assert {key: path.name for key, path in run.files.items()} == {name: file.name}
    assert run.files[name].read_bytes() == (tmp_path / "renamed.mp4").read_bytes()


@pytest.mark.parametrize(("shows", "part"), [("bridged", 0.5), ("", 1), ("../bridged", 1)])
def test_what_is_no_clip_of_the_run_is_not_kept_as_one(history, request_of, tmp_path, shows, part):
    request, path = request_of(), tmp_path / "film.mp4"
    carry = carried.carry(carried.settings_of(request, 8), carried.pack(request), shows)
    write_mp4(path, request.frames[:, : int(part * request.frames.shape[1])], 8, carry)
    dropped = history.adopt(path, ANNA)
    assert history.get(dropped, ANNA).files == {}
    assert np.array_equal(history.job(dropped, ANNA)[0].frames, request.frames)


def test_a_dropped_clip_is_decoded_once(history, request_of, monkeypatch):
    file = history.get(finished(history, request_of()), ANNA).files["bridged"]
    decoded = []
    usual = streams.Stream.frames
    monkeypatch.setattr(streams.Stream, "frames", lambda *given: decoded.append(given) or usual(*given))
    run = history.get(history.adopt(file, BORIS), BORIS)
    assert list(run.files) == ["bridged"]
    assert len(decoded) == 1


def test_a_dropped_gif_says_that_the_clip_is_missing(history, request_of):
    made = finished(history, request_of())
    dropped = history.adopt(history.get(made, ANNA).files["gif"], ANNA)
    assert "Choose the clip again" in history.get(dropped, ANNA).message
    assert history.get(dropped, ANNA).settings == history.get(made, ANNA).settings
    with pytest.raises(InputError, match="Choose the clip again"):
        history.job(dropped, ANNA)


def test_a_dropped_comparison_stays_one(history, request_of, tmp_path, source_frames):
    settings = carried.settings_of(request_of(), 8, {"mixing_ratio": (0, 1)})
    write_png(tmp_path / "sheet.png", source_frames[0], carried.carry(settings))
    run = history.get(history.adopt(tmp_path / "sheet.png", ANNA), ANNA)
    assert (run.kind, run.settings["axes"]) == ("comparison", {"mixing_ratio": [0, 1]})


@pytest.mark.parametrize("change", [{"task": "dance"}, {"task": "edit"}, {"task": ""}])
def test_a_dropped_file_of_an_unknown_task_is_refused(history, request_of, tmp_path, source_frames, change):
    settings = {**carried.settings_of(request_of(), 8), **change}
    write_png(tmp_path / "picture.png", source_frames[0], carried.carry(settings))
    with pytest.raises(InputError, match="Update"):
        history.adopt(tmp_path / "picture.png", ANNA)
    assert history.find(ANNA) == []


# Presets


def test_presets_are_kept_by_name_and_task(history, settings):
    history.presets.save(ANNA, "control", " soft ", {"mixing_ratio": 0.3})
    history.presets.save(ANNA, "control", "Calm", {"mixing_ratio": 0.1})
    history.presets.save(ANNA, "control", "soft", {"mixing_ratio": 0.4})
    history.presets.save(ANNA, "edit", "soft", {"mixing_ratio": 1})
    again = Runs(settings)
    assert list(again.presets.of(ANNA, "control").items()) == [
        ("Calm", {"mixing_ratio": 0.1}), ("soft", {"mixing_ratio": 0.4}),
    ]  # fmt: skip
    again.presets.delete(ANNA, "control", "soft")
    assert list(again.presets.of(ANNA, "control")) == ["Calm"]
    assert list(again.presets.of(ANNA, "edit")) == ["soft"]


@pytest.mark.parametrize("name", ["", "  ", "x" * 61, "two\nlines", "a\x00b"])
def test_a_name_that_no_preset_may_have_is_refused(history, name):
    with pytest.raises(InputError, match="1 to 60"):
        history.presets.save(ANNA, "control", name, {})


def test_presets_are_bounded(history, monkeypatch):
    monkeypatch.setattr(presets, "MAX_PRESETS", 2)
    for name in ("one", "two", "two"):
        history.presets.save(ANNA, "control", name, {})
    with pytest.raises(InputError, match="2 presets already"):
        history.presets.save(ANNA, "edit", "one", {})
    history.presets.save(BORIS, "edit", "one", {})
    with pytest.raises(InputError, match="too long"):
        history.presets.save(BORIS, "edit", "long", {"prompt": "x" * 70_000})


# Several threads and processes


def test_many_threads_lose_nothing(history, monkeypatch, request_of):
    monkeypatch.setattr(locks, "WAIT_SECONDS", 30)
    made, errors, request = [], [], request_of()

    def work() -> None:
        try:
            for _ in range(5):
                made.append(history.begin(request, 8, ANNA))
                history.started(made[-1])
                history.find(ANNA, limit=3)
        except Exception as error:  # noqa: BLE001 - reported below
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert {run.id for run in history.find(ANNA)} == set(made)
    assert len(made) == 20


BEGUN = (
    "request = default_request('control', 'toybox', np.zeros((2, 64, 64, 3), np.uint8), 'a cube')\n"
    f"made = history.begin(request, 8, {ANNA!r}); history.started(made); print(made, flush=True)"
)


def test_runs_of_a_living_process_are_its_own_and_of_a_killed_one_interrupted(settings, history, request_of):
    mine = history.begin(request_of(), 8, ANNA)
    with process(settings, BEGUN) as other:
        theirs = other.stdout.readline().strip()
        again = Runs(settings)
        states = {run.id: run.state for run in again.find(ANNA)}
        assert states == {mine: "queued", theirs: "running"}
        os.kill(other.pid, signal.SIGKILL)
        other.wait()
        states = {run.id: run.state for run in history.find(ANNA)}
        assert states == {mine: "queued", theirs: "interrupted"}
    assert "Restore it" in history.get(theirs, ANNA).message
    assert history.job(theirs, ANNA)[0].prompt == "a cube"
    history.delete(theirs, ANNA)


def test_opening_notes_what_an_earlier_start_left_unfinished(settings, request_of):
    first = Runs(settings)
    made = first.begin(request_of(), 8, ANNA)
    del first
    assert Runs(settings).get(made, ANNA).state == "interrupted"
    assert len(list((settings.history_folder / "processes").iterdir())) <= 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system forks no processes")
def test_a_fork_that_ends_does_not_take_the_runs_of_its_parent_for_interrupted(settings, history, request_of):
    made = history.begin(request_of(), 8, ANNA)
    code = BEGUN + (
        "\nimport gc, os\nchild = os.fork()\nif not child:\n    del history; gc.collect(); os._exit(0)\n"
        "os.waitpid(child, 0); print('forked', flush=True)"
    )
    with process(settings, code) as other:
        theirs = other.stdout.readline().strip()
        assert other.stdout.readline() == "forked\n"
        assert {run.id: run.state for run in history.find(ANNA)} == {made: "queued", theirs: "running"}


def test_two_processes_write_into_one_history(settings, history, request_of):
    code = BEGUN + "\nsys.stdin.readline(); history.end(made, 'failed', 'so it was'); print('ended', flush=True)"
    with process(settings, code) as other:
        theirs = other.stdout.readline().strip()
        mine = finished(history, request_of())
        other.stdin.write("\n")
        other.stdin.flush()
        assert other.stdout.readline() == "ended\n"
        assert {run.id: run.state for run in history.find(ANNA)} == {mine: "done", theirs: "failed"}


# Where it lies


def test_what_an_earlier_version_kept_stays_in_use_and_else_the_system_says_where(tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    assert user_folder(tmp_path / "Library", ".local/share/bivdiff") == tmp_path / "Library"
    earlier = tmp_path / ".local" / "share" / "bivdiff"
    earlier.mkdir(parents=True)
    assert user_folder(tmp_path / "Library", ".local/share/bivdiff") == earlier


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems have places of their own")
def test_on_linux_all_lies_where_it_always_did(tmp_path):
    code = "from bivdiff.settings import Settings as S; print(S.history_folder, S.cache_folder, S.models_folder)"
    environment = {name: text for name, text in os.environ.items() if not name.startswith("XDG_")}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True,
        env={**environment, "HOME": str(tmp_path)},
    )  # fmt: skip
    places = (".local/share/bivdiff", ".cache/bivdiff/stages", ".cache/bivdiff/models")
    assert done.stdout.split() == [str(tmp_path / place) for place in places]


# What goes wrong


def test_a_database_of_the_first_version_is_upgraded_in_place(settings, history, request_of):
    made = finished(history, request_of(prompt="kept"))
    with closing(database_of(settings)) as database:
        database.execute("DROP TABLE presets")
        database.execute("PRAGMA user_version = 1")
    upgraded = Runs(settings)
    assert upgraded.get(made, ANNA).prompt == "kept"
    upgraded.presets.save(ANNA, "control", "new", {})
    assert list(upgraded.presets.of(ANNA, "control")) == ["new"]
    assert upgraded.trouble == ""


def test_an_upgrade_that_fails_changes_nothing(settings, history, monkeypatch, request_of):
    finished(history, request_of())
    failing = (*tables.UPGRADES, ("CREATE TABLE more (x)", "CREATE TABLE no syntax"))
    monkeypatch.setattr(tables, "UPGRADES", failing)
    assert "not used" in Runs(settings).trouble
    with closing(database_of(settings)) as database:
        assert database.execute("PRAGMA user_version").fetchone() == (len(failing) - 1,)
        assert not database.execute("SELECT 1 FROM sqlite_master WHERE name = 'more'").fetchall()


def test_a_database_of_a_newer_version_is_left_alone(settings, history, request_of):
    finished(history, request_of())
    with closing(database_of(settings)) as database:
        database.execute("PRAGMA user_version = 99")
    before = (settings.history_folder / "runs.sqlite").read_bytes()
    other = Runs(settings)
    assert "newer version" in other.trouble
    assert "only until the studio stops" in other.trouble
    works_for_now(other, request_of())
    assert (settings.history_folder / "runs.sqlite").read_bytes() == before


def works_for_now(history: Runs, request: GenerationRequest) -> None:
    """Where the folder cannot be used, all works until the process ends."""
    made = finished(history, request)
    assert read_clip(history.get(made, ANNA).files["bridged"], num_frames=4).fps == 8
    history.set_favourite(made, ANNA, True)
    assert [run.id for run in history.find(ANNA, favourites=True)] == [made]


@pytest.mark.parametrize("damage", ["overwritten", "within"])
def test_a_damaged_database_is_moved_aside_and_a_new_one_begun(settings, history, request_of, damage):
    for _ in range(3):
        finished(history, request_of())
    path = settings.history_folder / "runs.sqlite"
    data = bytearray(path.read_bytes())
    if damage == "overwritten":
        data[:100] = b"not a database".ljust(100)
    else:
        data[4096:] = os.urandom(len(data) - 4096)
    path.write_bytes(data)
    fresh = Runs(settings)
    assert "damaged" in fresh.trouble
    assert fresh.find(ANNA) == []
    (aside,) = settings.history_folder.glob("runs.sqlite.broken-*")
    assert aside.read_bytes() == data
    assert len(list(settings.history_folder.glob("files.broken-*/*/bridged.mp4"))) == 3
    finished(fresh, request_of())
    assert Runs(settings).trouble == ""


def test_a_folder_that_cannot_be_made_costs_the_history_and_nothing_else(tmp_path, request_of):
    (tmp_path / "history").write_text("a file in its place")
    history = Runs(Settings(history_folder=tmp_path / "history"))
    assert "BIVDIFF_HISTORY_FOLDER" in history.trouble
    works_for_now(history, request_of())
    folder = history.files_folder
    del history
    assert not folder.exists()
    assert (tmp_path / "history").read_text() == "a file in its place"


def test_a_folder_that_may_not_be_written_to_costs_the_history_and_nothing_else(settings, monkeypatch, request_of):
    real = os.open

    def refuse(path, *arguments, **options):
        if str(path).startswith(str(settings.history_folder)):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return real(path, *arguments, **options)

    monkeypatch.setattr(os, "open", refuse)
    history = Runs(settings)
    assert "BIVDIFF_HISTORY_FOLDER" in history.trouble
    works_for_now(history, request_of())


def test_a_database_that_another_program_holds_at_the_start_is_not_used(settings, request_of):
    Runs(settings)
    with closing(database_of(settings)) as database:
        database.execute("BEGIN EXCLUSIVE")
        other = Runs(settings)
        assert "another program is using it" in other.trouble
        works_for_now(other, request_of())


def test_a_database_that_is_locked_later_gives_sentences_and_recovers(settings, history, request_of):
    made = history.begin(request_of(), 8, ANNA)
    before = files_in(history.files_folder)
    with closing(database_of(settings)) as database:
        database.execute("BEGIN EXCLUSIVE")
        history.started(made)
        assert "another program is using it" in history.trouble
        history.end(made, "cancelled")
        for call in (
            lambda: history.begin(request_of(), 8, ANNA),
            lambda: history.finish(made, result_of(request_of()), {}),
            lambda: history.find(ANNA),
            lambda: history.set_favourite(made, ANNA, True),
            lambda: history.delete(made, ANNA),
            lambda: history.presets.save(ANNA, "control", "x", {}),
        ):
            with pytest.raises(InputError, match="another program is using it"):
                call()
        assert files_in(history.files_folder) == before
    assert history.get(made, ANNA).state == "queued"
    assert history.trouble == ""


def full(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_at_the_start_of_a_run_leaves_nothing_behind(history, monkeypatch, request_of):
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(InputError, match="the disk is full"):
            history.begin(request_of(), 8, ANNA)
        assert "the disk is full" in history.trouble
    assert list(history.files_folder.iterdir()) == []
    assert history.find(ANNA) == []
    assert "the disk is full" in history.trouble  # a look at the list, which reads, must not hide it
    history.begin(request_of(), 8, ANNA)
    assert history.trouble == ""


@pytest.mark.parametrize("writer", ["write_mp4", "write_gif", "write_png_zip"])
def test_a_full_disk_at_the_end_of_a_run_leaves_nothing_of_the_result(history, monkeypatch, request_of, writer):
    made = history.begin(request_of(), 8, ANNA)
    before = files_in(history.files_folder)
    with monkeypatch.context() as patch:
        patch.setattr(files, writer, full)
        with pytest.raises(InputError, match="the disk is full"):
            history.finish(made, result_of(request_of()), {})
    assert files_in(history.files_folder) == before
    history.end(made, "failed", "The disk is full.")
    assert history.get(made, ANNA).state == "failed"
    np.testing.assert_array_equal(history.job(made, ANNA)[0].frames, request_of().frames)


def test_a_full_disk_while_frames_of_a_failed_run_are_kept_does_not_hide_the_failure(history, monkeypatch, request_of):
    made = history.begin(request_of(), 8, ANNA)
    with monkeypatch.context() as patch:
        patch.setattr(files, "write_mp4", full)
        history.end(made, "failed", "Why.", framewise=request_of().frames)
        assert "the disk is full" in history.trouble
    run = history.get(made, ANNA)
    assert (run.state, run.message, run.files) == ("failed", "Why.", {})


def test_a_database_on_a_full_disk_says_so(history, monkeypatch, request_of):
    made = finished(history, request_of())
    real = tables.Database.connect

    def bounded(self: tables.Database) -> sqlite3.Connection:
        database = real(self)
        pages = database.execute("PRAGMA page_count").fetchone()[0]
        database.execute(f"PRAGMA max_page_count = {pages}")
        return database

    with monkeypatch.context() as patch:
        patch.setattr(tables.Database, "connect", bounded)
        with pytest.raises(InputError, match="the disk is full"):
            history.presets.save(ANNA, "control", "long", {"prompt": "x" * 50_000})
        assert "the disk is full" in history.trouble
    assert history.get(made, ANNA).state == "done"


def test_a_run_whose_pictures_are_gone_says_so(history, request_of):
    made = finished(history, request_of())
    (history.folder(made) / "pictures.zip").unlink()
    history.get(made, ANNA).files["gif"].unlink()
    with pytest.raises(InputError, match="no longer there"):
        history.job(made, ANNA)
    assert "gif" not in history.get(made, ANNA).files


@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: path.write_bytes(b"PK")])
def test_a_result_is_kept_although_the_pictures_of_its_run_were_damaged_meanwhile(history, request_of, damage):
    made = history.begin(request_of(), 8, ANNA)
    damage(history.folder(made) / "pictures.zip")
    history.finish(made, result_of(request_of()), {})
    np.testing.assert_array_equal(history.job(made, ANNA)[0].frames, request_of().frames)


def test_a_result_is_kept_without_decoding_the_pictures_of_its_run(history, request_of, monkeypatch):
    made = history.begin(request_of(), 8, ANNA)
    with monkeypatch.context() as patch:
        patch.setattr(carried, "unpack", None)
        patch.setattr(carried, "pack", None)  # nor packed anew
        history.finish(made, result_of(request_of()), {})
    assert history.get(made, ANNA).state == "done"


def test_ending_a_run_that_is_not_there_does_no_harm(history):
    history.started("0" * 32)
    history.end("0" * 32, "cancelled")
    assert history.find(ANNA) == []


def test_opening_the_history_loads_no_model_library(settings):
    code = (
        "import sys; from pathlib import Path; from bivdiff.studio.history.runs import Runs; "
        "from bivdiff.settings import Settings; "
        f"Runs(Settings(history_folder=Path({str(settings.history_folder)!r}))).find('me'); "
        "print(*{'torch', 'diffusers', 'transformers'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_without_any_place_to_write_the_history_opens_and_says_so(tmp_path, monkeypatch, request_of):
    (tmp_path / "history").write_text("a file in its place")
    monkeypatch.setattr(tempfile, "mkdtemp", full)
    history = Runs(Settings(history_folder=tmp_path / "history"))
    assert "BIVDIFF_HISTORY_FOLDER" in history.trouble
    history.started("0" * 32)
    for call in (lambda: history.begin(request_of(), 8, ANNA), lambda: history.find(ANNA)):
        with pytest.raises(InputError, match="could not be used"):
            call()


# Films


@pytest.mark.parametrize("shape", ["wide", "square"])
def test_the_film_of_a_run_is_made_once_and_carries_the_run(history, request_of, shape, monkeypatch):
    made = finished(history, request_of())
    path = taking.film(history, made, ANNA, FilmOptions(shape=shape, seconds=0.5, wipe=False))
    info = probe(path)
    assert (info.width, info.height) == {"wide": (1920, 1080), "square": (1080, 1080)}[shape]
    assert path.parent == history.folder(made)
    assert carried.read(path).settings["seed"] == 77
    monkeypatch.setattr(taking, "film_of", lambda *_: pytest.fail("it is there"))
    assert taking.film(history, made, ANNA, FilmOptions(shape=shape, seconds=0.5, wipe=False)) == path


def test_a_film_is_for_the_owner_of_a_run_with_a_result(history, request_of):
    options = FilmOptions(seconds=0.5, wipe=False)
    with pytest.raises(InputError, match="not in your history"):
        taking.film(history, finished(history, request_of()), BORIS, options)
    with pytest.raises(InputError, match="A film needs a result"):
        taking.film(history, history.begin(request_of(), 8, ANNA), ANNA, options)


def test_a_full_disk_leaves_no_half_film(history, request_of, monkeypatch):
    made = finished(history, request_of())
    before = files_in(history.files_folder)
    monkeypatch.setattr(taking, "write_film", full)
    with pytest.raises(InputError, match="the disk is full"):
        taking.film(history, made, ANNA, FilmOptions(seconds=0.5, wipe=False))
    assert files_in(history.files_folder) == before
