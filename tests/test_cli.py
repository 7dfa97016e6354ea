"""The command line as a user meets it: files, JSON, exit statuses, sentences. Run in this process for speed."""

from __future__ import annotations

import json

import numpy as np
import pytest

from bivdiff import __main__ as cli
from bivdiff import media
from bivdiff.metrics import SCORES
from bivdiff.toybox.clips import load_index

TWO_STEPS = ["--num-inference-steps", "2", "--num-inversion-steps", "2", "--num-smoothing-steps", "2"]


@pytest.fixture(autouse=True)
def _random_toybox(monkeypatch, toybox_folder):
    monkeypatch.setenv("BIVDIFF_TOYBOX_FOLDER", str(toybox_folder))
    monkeypatch.setenv("BIVDIFF_DEVICE", "cpu")


@pytest.fixture
def clip():
    return str(load_index()[0].file)


def test_a_run_writes_its_clips_and_tells_all_in_json(clip, tmp_path, capsys):
    output = tmp_path / "out.mp4"
    arguments = ["run", "--video", clip, "--prompt", "a red cube", "--num-frames", "4", "--frame-stride", "2"]
    assert cli.main([*arguments, *TWO_STEPS, "--mixing-ratio", "0.25", "--output", str(output), "--json"]) == 0
    out, err = capsys.readouterr()
    report = json.loads(out)
    assert "Smoothing 2/2" in err
    assert set(report["paths"]) == {"result", "framewise", "control"}
    assert report["paths"]["result"] == str(output)
    for path in report["paths"].values():
        assert media.read_clip(path, num_frames=4).frames.shape == (4, 128, 128, 3)
    assert report["settings"]["mixing_ratio"] == 0.25
    assert report["settings"]["seed"] == report["seed"]
    assert report["fps"] == media.probe(clip).fps / 2
    assert report["evaluations"]["smoothing"] == 8
    assert {"load", "control", "framewise", "inversion", "smoothing"} == set(report["seconds"])
    assert report["peak_memory_bytes"] > 0


def test_the_told_seed_repeats_the_run_to_the_bit(clip, tmp_path, capsys):
    arguments = ["run", "--video", clip, "--prompt", "a red cube", *TWO_STEPS, "--num-frames", "2", "--json"]
    assert cli.main([*arguments, "--output", str(tmp_path / "one.zip")]) == 0
    seed = json.loads(capsys.readouterr().out)["seed"]
    assert cli.main([*arguments, "--output", str(tmp_path / "two.zip"), "--seed", str(seed)]) == 0
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()


def test_a_report_for_people_has_no_braces(clip, tmp_path, capsys):
    arguments = ["run", "--video", clip, "--prompt", "a red cube", *TWO_STEPS, "--num-frames", "1"]
    assert cli.main([*arguments, "--output", str(tmp_path / "a.gif")]) == 0
    out = capsys.readouterr().out
    assert "a.gif" in out
    assert "{" not in out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--video", "nowhere.mp4"], "nowhere.mp4"),
        (["--mixing-ratio", "7"], "mixing_ratio must be a number from 0 to 1"),
        (["--num-frames", "500"], "frames"),
        (["--output", "out.xyz"], "must end in .mp4"),
        (["--output", "no/such/folder/out.mp4"], "does not exist"),
        (["--start", "1000"], "start"),
    ],
)
def test_what_cannot_be_done_is_a_sentence_and_status_1(clip, capsys, arguments, sentence):
    given = ["run", "--video", clip, "--prompt", "a red cube", *TWO_STEPS, *arguments]
    assert cli.main(given) == 1
    err = capsys.readouterr().err
    assert sentence in err
    assert "Traceback" not in err


@pytest.mark.parametrize("arguments", [[], ["run"], ["run", "--mixing-ratio", "x"], ["paint"]])
def test_wrong_usage_is_status_2(capsys, arguments):
    with pytest.raises(SystemExit) as stop:
        cli.main(arguments)
    assert stop.value.code == 2
    assert "usage:" in capsys.readouterr().err


def test_evaluate_reports_every_score_of_every_clip(capsys):
    assert (
        cli.main(["evaluate", *TWO_STEPS, "--clips", "2", "--first-scene", "5", "--noise-sharing", "1", "--json"]) == 0
    )
    report = json.loads(capsys.readouterr().out)
    assert set(report) == {"settings", "framewise", "bridged", "clips"}
    assert [row["scene"] for row in report["clips"]] == [5, 6]
    for kind in ("framewise", "bridged"):
        assert set(report[kind]) == set(SCORES)
        values = [row[kind]["psnr"] for row in report["clips"]]
        assert report[kind]["psnr"] == pytest.approx(np.mean(values))
    assert report["framewise"]["sharpness"] == pytest.approx(1)
    assert report["settings"]["noise_sharing"] == 1


def test_bench_reports_speed_and_memory(capsys):
    assert cli.main(["bench", *TWO_STEPS, "--runs", "1", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["total_seconds"] >= sum(report["stages"][name] for name in ("framewise", "inversion", "smoothing"))
    assert 0 < report["outside_forward_share"] < 1
    assert report["load_seconds"] > 0
    assert report["peak_memory_bytes"] > 100e6


def test_help_reads_like_a_manual(capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["run", "--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    for flag in ("--mixing-ratio", "--frame-stride", "--control-type", "--family", "--json"):
        assert flag in text
