"""The source's sound goes with the part of the clip that was used, into the result."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fake_run import FakeRun, fake_context
from patience import until_ended

from bivdiff.media.film import FilmOptions
from bivdiff.media.reading import probe, read_clip, read_sound
from bivdiff.media.sound import SAMPLE_RATE, Sound
from bivdiff.media.writing import write_mp4
from bivdiff.studio.form import SourceForm, read_sound_of
from bivdiff.studio.history import taking
from bivdiff.studio.outputs import output_files, write_outputs
from bivdiff.types import GenerationResult
from tabs import smooth, task_tab

FPS = 8.0
LOUD = 3000  # of 32767: the tone has 8000


def tone(seconds: float, silent: float) -> Sound:
    """A tone that begins after so many seconds."""
    at = np.arange(int(seconds * SAMPLE_RATE))
    samples = np.where(at < silent * SAMPLE_RATE, 0, 8000 * np.sin(at / 15))
    return Sound(np.repeat(samples[:, None], 2, 1).astype(np.int16))


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Three seconds, the last of which are heard."""
    path = tmp_path_factory.mktemp("sound") / "source.mp4"
    frames = np.random.default_rng(0).integers(0, 256, (24, 64, 64, 3)).astype(np.uint8)
    write_mp4(path, frames, FPS, sound=tone(3, silent=1.5))
    return path


def loudest(sound: Sound) -> int:
    return int(np.abs(sound.samples.astype(int)).max())


def test_sound_is_written_beside_the_frames_and_the_bytes_are_the_same_each_time(source, tmp_path):
    frames = read_clip(source, num_frames=24).frames
    for name in ("one.mp4", "two.mp4"):
        write_mp4(tmp_path / name, frames, FPS, sound=tone(3, silent=1.5))
    assert (tmp_path / "one.mp4").read_bytes() == (tmp_path / "two.mp4").read_bytes()
    assert probe(tmp_path / "one.mp4").num_frames == 24
    assert {path.name for path in tmp_path.iterdir()} == {"one.mp4", "two.mp4"}


def test_the_sound_is_that_of_the_part_that_is_used(source):
    part = SourceForm(video=source)
    assert loudest(read_sound_of(part, 8, FPS)) < LOUD
    late = read_sound_of(replace(part, start=2.0), 8, FPS)
    assert loudest(late) > LOUD
    assert late.seconds == pytest.approx(1, abs=0.06)  # a coded frame of sound lasts 23 ms
    # Every second frame plays at half the rate, so as many frames last twice as long.
    assert read_sound_of(replace(part, stride=2), 8, FPS / 2).seconds == pytest.approx(2, abs=0.06)
    assert read_sound_of(replace(part, sound=False), 8, FPS) is None


def test_more_than_a_minute_is_read_whole(tmp_path):
    frames = np.zeros((70, 64, 64, 3), np.uint8)
    write_mp4(tmp_path / "long.mp4", frames, 1.0, sound=tone(70, silent=65))
    sound = read_sound(tmp_path / "long.mp4", seconds=70)
    assert sound.seconds == pytest.approx(70, abs=0.1)
    assert loudest(Sound(sound.samples[-SAMPLE_RATE:])) > LOUD


@pytest.mark.parametrize("ending", [".mp4", ".gif"])
def test_of_a_runs_files_the_result_has_it_where_it_is_an_mp4(request_of, tmp_path, ending):
    request = request_of()
    maps = tuple(request.frames for _ in request.controls)
    result = GenerationResult(
        request=request, control_frames=maps, framewise_frames=request.frames, frames=request.frames, seed=1
    )
    files = output_files(Path(tmp_path / f"out{ending}"), request)
    write_outputs(files, result, FPS, tone(0.5, silent=0))
    heard = {name: read_sound(path, seconds=0.5) for name, path in files.items()}
    assert (heard.pop("result") is not None) == (ending == ".mp4")
    assert set(heard) == {"framewise", "control"}
    assert all(sound is None for sound in heard.values())


def test_the_page_writes_it_keeps_it_and_finds_it_again(source):
    owner = "ada-ada-ada-ada-ada"
    context = fake_context(FakeRun())
    values = {"video": str(source), "start": 2.0, "num_frames": 8, "prompt": "a ball", "visitor": owner}
    assert smooth.read_job(context, {**values, "sound": False}).sound is None
    given = smooth.read_job(context, values)
    job = task_tab.submit(context, "smooth", given, owner)
    assert until_ended(context.jobs, job).state == "done"
    heard = context.runs.sound(job.board.run_id, owner)
    assert loudest(heard) > LOUD
    assert heard.seconds == pytest.approx(1, abs=0.06)
    assert read_sound(job.board.files["framewise"], seconds=1) is None
    film = taking.film(context.runs, job.board.run_id, owner, FilmOptions(seconds=1))
    assert loudest(read_sound(film, seconds=1)) > LOUD
    again = {"restored": job.board.run_id, "prompt": "a ball", "visitor": owner}
    assert loudest(smooth.read_job(context, again).sound) > LOUD
    assert smooth.read_job(context, {**again, "sound": False}).sound is None


def test_where_frames_are_bounded_sound_lasts_a_second_for_each_and_the_page_says_so(source):
    owner = "ada-ada-ada-ada-ada"
    open_to_all = fake_context(FakeRun())
    bounded = fake_context(FakeRun(), history_folder=open_to_all.settings.history_folder, max_frames=2)
    values = {"video": str(source), "num_frames": 2, "prompt": "a ball", "visitor": owner}
    spread = smooth.read_job(bounded, {**values, "stride": 20})
    assert spread.sound is None
    assert "plays for 5 s, and here sound may last 2 s. Take a shorter part" in spread.notes[-1]
    assert smooth.read_job(bounded, {**values, "stride": 20, "sound": False}).notes == ()
    assert smooth.read_job(bounded, {**values, "stride": 8}).sound.seconds == pytest.approx(2, abs=0.06)
    job = task_tab.submit(open_to_all, "smooth", smooth.read_job(open_to_all, {**values, "stride": 12}), owner)
    until_ended(open_to_all.jobs, job)
    assert open_to_all.runs.sound(job.board.run_id, owner).seconds == pytest.approx(3, abs=0.06)
    assert bounded.runs.sound(job.board.run_id, owner).seconds == pytest.approx(2, abs=0.06)
