"""Ctrl+C, on the command line and in the served app: a sentence, the usual status, no half file, a whole history."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from bivdiff.batch import driver
from bivdiff.cli import main as cli
from bivdiff.cli.output import Progress
from bivdiff.media import ffmpeg
from bivdiff.media.reading import probe
from bivdiff.settings import Settings
from bivdiff.studio.history.runs import Runs
from bivdiff.toybox.clips import load_index

TESTS = Path(__file__).resolve().parent
ADA = "ada-ada-ada-ada-ada"
CLIP = str(load_index()[0].file)
FEW = ["--num-frames", "2", "--num-inference-steps", "2", "--num-inversion-steps", "2", "--num-smoothing-steps", "2"]


def press(*_: object) -> None:
    raise KeyboardInterrupt


@pytest.fixture
def interrupted(monkeypatch, toybox_folder, capsys):
    """A command that is interrupted; what it has said."""
    monkeypatch.setenv("BIVDIFF_TOYBOX_FOLDER", str(toybox_folder))
    monkeypatch.setenv("BIVDIFF_DEVICE", "cpu")

    def interrupt(command: str, *arguments: str) -> str:
        assert cli.main([command, "--prompt", "a red cube", *FEW, *arguments]) == 130
        out, err = capsys.readouterr()
        assert out == ""
        assert "error" not in err
        return err

    return interrupt


def test_a_run_that_is_interrupted_writes_nothing(interrupted, monkeypatch, tmp_path):
    monkeypatch.setattr(Progress, "show", press)
    assert "Stopped. Nothing was written." in interrupted("run", "--video", CLIP, "--output", str(tmp_path / "out.mp4"))
    assert list(tmp_path.iterdir()) == []


def test_what_is_whole_when_a_run_is_interrupted_stays_and_is_named(interrupted, monkeypatch, tmp_path):
    begun, fully = [], ffmpeg.encode

    def encode(frames, rate, path, options, heard):
        begun.append(path)
        if len(begun) > 1:
            path.write_bytes(b"the first half")
            press()
        fully(frames, rate, path, options, heard)

    monkeypatch.setattr(ffmpeg, "encode", encode)
    output = tmp_path / "out.mp4"
    assert f"Whole and there: '{output}'." in interrupted("run", "--video", CLIP, "--output", str(output))
    assert list(tmp_path.iterdir()) == [output]
    assert probe(output).num_frames == 2


def test_a_batch_that_is_interrupted_says_how_to_go_on(interrupted, monkeypatch, tmp_path):
    monkeypatch.setattr(driver.Batch, "run", press)
    said = interrupted("batch", "--videos", CLIP, "--output", str(tmp_path / "out"))
    assert "Stopped. 0 of 1 clips are in" in said
    assert "Call the same to go on." in said


SERVED = """
import os, sys
from pathlib import Path
import fake_run
from fake_run import FakeRun, Hold, fake_context
from patience import until_ended
fake_run.PATIENCE = 600
import app
from tabs import smooth, task_tab
from tabs.page import build_page, launch_options
run, hold = FakeRun(), Hold("smoothing")
context = fake_context(run, history_folder=Path(sys.argv[1]))
page = build_page(context)
told = app.end_signals()
page.launch(prevent_thread_lock=True, quiet=True, **launch_options(runs=context.runs))
values = {"sample": 0, "num_frames": 2}
made = task_tab.submit(context, "smooth", smooth.read_job(context, values), sys.argv[2])
until_ended(context.jobs, made)
run.before = hold
for number in range(2):
    task_tab.submit(context, "smooth", smooth.read_job(context, values), sys.argv[2])
hold.reached.wait()
print("ready", flush=True)
os._exit(app.serve_until_told(page, context, told))
"""


@pytest.mark.timeout(600)  # it starts the app, on a busy machine too
def test_the_app_ends_at_once_and_its_history_is_whole(tmp_path):
    environment = {**os.environ, "PYTHONPATH": f"{TESTS}:{TESTS.parent}", "GRADIO_TEMP_DIR": str(tmp_path / "uploads")}
    command = [sys.executable, "-c", SERVED, str(tmp_path / "history"), ADA]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env=environment, **pipes) as app:
        assert app.stdout.readline() == "ready\n", app.stderr.read()
        app.send_signal(signal.SIGTERM)  # as services and containers are ended; Ctrl+C goes the same way
        _, said = app.communicate()
    assert app.returncode == 128 + signal.SIGTERM
    assert said == "Stopped. Runs that were not finished are in the history, and can be made again from there.\n"
    runs = Runs(replace(Settings(), history_folder=tmp_path / "history"))
    found = runs.find(ADA)
    assert [run.state for run in found] == ["interrupted", "interrupted", "done"]  # so it has waited for none
    for run in found:
        assert runs.job(run.id, ADA)[0].frames.shape[0] == 2
