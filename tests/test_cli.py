"""The command line as a user meets it: files, JSON, exit statuses, sentences. Run in this process for speed."""

from __future__ import annotations

import io
import json
import platform
import re
import sys
from contextlib import closing
from importlib.metadata import version
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest
from PIL import Image

import bivdiff
from bivdiff.catalog import tasks as catalog
from bivdiff.catalog.families import FAMILIES
from bivdiff.catalog.image_models import IMAGE_MODELS
from bivdiff.catalog.requests import blank_request
from bivdiff.cli import main as cli
from bivdiff.cli.flags import changes_of
from bivdiff.cli.output import Progress, note
from bivdiff.cli.parser import build_parser
from bivdiff.media import carried
from bivdiff.media.film import FilmOptions, Tile, compose
from bivdiff.media.reading import probe, read_clip, read_sound
from bivdiff.media.sound import SAMPLE_RATE, Sound
from bivdiff.media.writing import write_film, write_mp4, write_png_zip
from bivdiff.pixels.metrics import SCORES
from bivdiff.studio import outputs
from bivdiff.toybox.clips import load_index

CONTROL_CODES = {"\r", "\x1b"}
TWO_STEPS = [
    "--num-inference-steps", "2", "--num-inversion-steps", "2", "--num-smoothing-steps", "2", "--start-level", "1",
]  # fmt: skip


@pytest.fixture(autouse=True)
def _random_toybox(monkeypatch, toybox_folder):
    monkeypatch.setenv("BIVDIFF_TOYBOX_FOLDER", str(toybox_folder))
    monkeypatch.setenv("BIVDIFF_DEVICE", "cpu")


@pytest.fixture
def clip():
    return str(load_index()[0].file)


def test_a_run_writes_its_clips_and_tells_all_in_json(clip, tmp_path, capsys):
    output = tmp_path / "a new folder" / "inside another" / "out.mp4"
    arguments = ["run", "--video", clip, "--prompt", "a red cube", "--num-frames", "4", "--frame-stride", "2"]
    assert cli.main([*arguments, *TWO_STEPS, "--mixing-ratio", "0.25", "--output", str(output), "--json"]) == 0
    out, err = capsys.readouterr()
    report = json.loads(out)
    assert re.search(r"^Smoothing 2/2 \[", err, re.MULTILINE)
    assert not CONTROL_CODES & set(err)
    assert set(report["paths"]) == {"result", "framewise", "control"}
    assert report["paths"]["result"] == str(output)
    for path in report["paths"].values():
        assert read_clip(path, num_frames=4).frames.shape == (4, 128, 128, 3)
    assert report["settings"]["mixing_ratio"] == 0.25
    assert report["settings"]["seed"] == report["seed"]
    assert report["fps"] == probe(clip).fps / 2
    assert report["evaluations"]["smoothing"] == 8
    assert {"load", "control", "framewise", "inversion", "smoothing"} == set(report["seconds"])
    assert report["peak_memory_bytes"] > 0


def test_a_film_of_the_run_is_written_with_the_sound_of_its_source(tmp_path, capsys, monkeypatch):
    frames = read_clip(load_index()[0].file, num_frames=4).frames
    tone = Sound((8000 * np.sin(np.arange(SAMPLE_RATE)[:, None] / [15.0, 15.0])).astype(np.int16))
    heard = compose([Tile(frames, "one"), Tile(frames, "two")], 8, "", FilmOptions(seconds=1, wipe=False), tone)
    write_film(tmp_path / "source.mp4", heard)
    source = ["--video", str(tmp_path / "source.mp4"), "--num-frames", "2"]
    arguments = ["run", *source, "--prompt", "a red cube", *TWO_STEPS]
    packed = []
    monkeypatch.setattr(outputs, "pack", lambda request: packed.append(request) or carried.pack(request))
    films = ["--film", str(tmp_path / "new" / "film.mp4"), "--film-seconds", "0.5", "--no-film-wipe"]
    assert cli.main([*arguments, *films, "--output", str(tmp_path / "out.mp4"), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert len(packed) == 1
    info = probe(report["paths"]["film"])
    assert (info.width, info.height) == (1920, 1080)
    assert info.duration == pytest.approx(0.5, abs=0.1)
    sound = read_sound(report["paths"]["film"], seconds=0.2)
    assert np.abs(sound.samples).max() > 6000
    assert carried.read(report["paths"]["film"]).settings["seed"] == report["seed"]


def test_a_film_that_cannot_be_made_is_told_before_anything_runs(clip, tmp_path, capsys):
    arguments = ["run", "--video", clip, "--prompt", "a red cube", "--output", str(tmp_path / "out.mp4")]
    for flags, told in ((["--film", "film.gif"], "must end in .mp4"), (["--film-speed", "3"], "speed of a film")):
        assert cli.main([*arguments, *flags]) == 1
        err = capsys.readouterr().err
        assert told in err
        assert "Loading" not in err


TASKS = {
    "edit": (["--task", "edit", "--prompt", "make it night", "--source-prompt", "a red cube at noon"], set()),
    "prompt2prompt": (
        ["--task", "edit", "--image-model", "prompt2prompt", "--prompt", "a red cone", "--source-prompt", "a red cube"],
        set(),
    ),
    "boxes": (["--task", "inpaint", "--prompt", "a red cube", "--box", "10%,10%,50%,50%;70,70,90,90"], {"mask"}),
    "colour": (["--task", "inpaint", "--prompt", "", "--color-key", "#c01010", "--tolerance", "40"], {"mask"}),
    "outpaint": (["--task", "outpaint", "--prompt", "a red cube", "--extend", "0,0,32,50%"], {"mask"}),
    "smooth": (["--task", "smooth", "--prompt", "a red cube"], set()),
    "two controls": (
        ["--prompt", "a red cube", "--control-type", "canny", "depth", "--controlnet-conditioning-scale", "1", "0.5",
         "--control-end", "0.5"],
        {"control", "control-2"},
    ),
    "adapter": (["--prompt", "a red cube", "--image-model", "t2i-adapter", "--control-type", "depth"], {"control"}),
}  # fmt: skip


@pytest.mark.parametrize("task", TASKS)
def test_every_task_runs_and_writes_what_it_made(clip, tmp_path, capsys, task):
    flags, shown = TASKS[task]
    output = tmp_path / "out.mp4"
    arguments = ["run", "--video", clip, *flags, *TWO_STEPS, "--num-frames", "2", "--output", str(output), "--json"]
    assert cli.main(arguments) == 0
    report = json.loads(capsys.readouterr().out)
    assert set(report["paths"]) == {"result", "framewise", *shown}
    sizes = {read_clip(path, num_frames=2).frames.shape for path in report["paths"].values()}
    assert sizes == {(2, report["height"], report["width"], 3)}
    assert report["width"] % 8 == report["height"] % 8 == 0
    kinds = [control["control_type"] for control in report["settings"]["controls"]]
    assert kinds == {"two controls": ["canny", "depth"], "adapter": ["depth"]}.get(task, [])


def test_a_mask_is_read_turned_around_and_carried(clip, tmp_path, capsys):
    """The shipped mask, its opposite with the switch, and its first frame carried over the clip, agree."""
    sample = load_index()[0]
    masks = read_clip(sample.masks, num_frames=8).frames
    write_mp4(tmp_path / "opposite.mp4", 255 - masks, 8)
    write_png_zip(tmp_path / "frames.zip", masks)
    Image.fromarray(masks[0]).save(tmp_path / "first.png")
    given = {
        "mask": ["--mask", str(sample.masks)],
        "opposite": ["--mask", str(tmp_path / "opposite.mp4"), "--black-regenerates"],
        "carried": ["--mask", str(tmp_path / "first.png"), "--track"],
    }
    shown = {}
    for name, flags in given.items():
        output = str(tmp_path / f"{name}.zip")
        assert cli.main(["run", "--task", "inpaint", "--video", clip, "--prompt", "", *flags, *TWO_STEPS, "--seed", "1",
                         "--output", output, "--json"]) == 0  # fmt: skip
        with ZipFile(json.loads(capsys.readouterr().out)["paths"]["mask"]) as archive:
            entries = [entry for entry in archive.namelist() if entry.startswith("frame_")]
            shown[name] = np.stack([np.asarray(Image.open(archive.open(entry))) for entry in entries])
    assert np.mean(shown["mask"] != shown["opposite"]) < 0.01  # mp4 is not lossless
    differs = np.any(shown["mask"] != shown["carried"], axis=-1).mean()
    assert 0 < differs < 0.1


def settings_of(*flags: str) -> dict[str, object]:
    """The settings of the request that the flags describe, by default for a control task with the toybox."""
    args = build_parser().parse_args(["run", "--video", "clip.mp4", "--prompt", "a red cube", *flags])
    return blank_request(args.task, args.family, args.image_model).settings() | {
        name: value for name, value in changes_of(args).items() if value is not None
    }


@pytest.mark.parametrize("task", catalog.TASKS)
def test_a_preset_is_what_a_run_starts_from_and_flags_go_over_it(task):
    """The paper's way on the toybox's models, but for the steps of which these need fewer."""
    for image_model in catalog.TASKS[task].image_models:
        chosen = ["--task", task, "--image-model", image_model, "--preset", "paper"]
        paper, own = settings_of(*chosen), settings_of(*chosen[:-2])
        bridge = dict(IMAGE_MODELS[image_model].paper_bridge)
        assert {name: paper[name] for name in bridge} == bridge
        assert (paper["sampler"], paper["guided_share"], paper["frame_attention"]) == ("ddim", 1.0, "none")
        assert own["frame_prior"] != paper["frame_prior"]
        assert own["inversion_prompt"] == paper["inversion_prompt"]  # a preset keeps what it does not say
        flags = settings_of(*chosen, "--num-smoothing-steps", "7", "--start-level", "0.5", "--frame-prior", "mean")
        changed = {"num_smoothing_steps": 7, "start_level": 0.5, "frame_prior": "mean"}
        assert flags == paper | changed


def test_the_fast_preset_of_stable_diffusion_takes_fewer_steps_and_changes_nothing_else():
    usual, fast = settings_of("--family", "sd15"), settings_of("--family", "sd15", "--preset", "fast")
    changed = {name: (usual[name], value) for name, value in fast.items() if usual[name] != value}
    steps = ("num_inference_steps", "num_inversion_steps", "num_smoothing_steps")
    assert changed.keys() >= set(steps)
    assert all(fast[name] < usual[name] for name in steps)
    assert fast == usual | FAMILIES["sd15"].other_presets["fast"]


def test_a_preset_that_a_family_has_not_is_refused_with_those_that_it_has(clip, capsys):
    assert cli.main(["run", "--video", clip, "--prompt", "a cube", "--preset", "fast"]) == 1
    assert "The family 'toybox' has no preset 'fast'. It has: paper." in capsys.readouterr().err


def test_a_run_with_a_preset_says_what_it_ran_with(clip, tmp_path, capsys):
    arguments = ["run", "--video", clip, "--prompt", "a red cube", "--task", "smooth", "--num-frames", "2", "--json"]
    few = ["--num-inversion-steps", "2", "--num-smoothing-steps", "2", "--output", str(tmp_path / "out.zip")]
    assert cli.main([*arguments, *few, "--preset", "paper"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["settings"]["frame_prior"], report["settings"]["start_level"]) == ("image", 1.0)
    assert report["evaluations"]["smoothing"] == 4


def test_given_control_maps_are_read(clip, tmp_path, capsys):
    output = tmp_path / "out.mp4"
    arguments = ["run", "--video", clip, "--prompt", "a cube", "--control-video", clip, "--num-frames", "2"]
    assert cli.main([*arguments, *TWO_STEPS, "--output", str(output), "--json"]) == 0
    path = json.loads(capsys.readouterr().out)["paths"]["control"]
    source, used = (read_clip(name, num_frames=2).frames.astype(int) for name in (clip, path))
    assert np.abs(source - used).mean() < 3  # written and read as mp4 once more


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
        (["--start", "1000"], "start"),
        (["--task", "inpaint"], "mask"),
        (["--task", "inpaint", "--box", "1,2,3"], "3 values"),
        (["--task", "inpaint", "--mask", "nowhere.png"], "nowhere.png"),
        (["--task", "outpaint", "--extend", "0"], "no larger"),
        (["--task", "edit", "--image-model", "prompt2prompt"], "source prompt"),
        (["--task", "edit", "--image-model", "controlnet"], "Choose one of"),
        (["--control-type", "canny", "depth", "--control-start", "0", "0", "0"], "2 control types"),
        (["--control-start", "0.5", "--control-end", "0.2"], "never"),
    ],
)
def test_what_cannot_be_done_is_a_sentence_and_status_1(clip, capsys, arguments, sentence):
    given = ["run", "--video", clip, "--prompt", "a red cube", *TWO_STEPS, *arguments]
    assert cli.main(given) == 1
    err = capsys.readouterr().err
    assert sentence in err
    assert "Traceback" not in err


def test_an_output_folder_that_cannot_be_made_is_told_before_anything_runs(clip, tmp_path, capsys):
    (tmp_path / "file").write_text("no folder")
    output = str(tmp_path / "file" / "folder" / "out.mp4")
    assert cli.main(["run", "--video", clip, "--prompt", "a red cube", *TWO_STEPS, "--output", output]) == 1
    err = capsys.readouterr().err
    assert f"The folder of the output, '{tmp_path / 'file' / 'folder'}', could not be made: Not a directory." in err
    assert "Loading" not in err


class Terminal(io.StringIO):
    """What is written to a terminal."""

    def isatty(self):
        return True


def test_progress_is_a_plain_line_every_few_seconds_where_there_is_no_terminal(monkeypatch):
    seconds = iter(range(100))
    shown = io.StringIO()
    monkeypatch.setattr(sys, "stderr", shown)
    with closing(Progress(stay=False, clock=lambda: next(seconds))) as progress:
        for step in range(1, 13):
            progress.show("smoothing", "Smoothing", step, 12)
    lines = shown.getvalue().splitlines()
    assert [re.match(r"Smoothing (\d+)/12 \[", line)[1] for line in lines] == ["4", "9"]
    assert not CONTROL_CODES & set(shown.getvalue())
    assert lines[0].endswith("step/s]")


def test_progress_is_one_bar_a_stage_on_a_terminal(monkeypatch):
    shown = Terminal()
    monkeypatch.setattr(sys, "stderr", shown)
    with closing(Progress()) as progress:
        for stage in ("Inverting", "Smoothing"):
            for step in (1, 2):
                progress.show(stage, stage, step, 2)
        note("A note.")
    text = shown.getvalue()
    assert text.count("\n") == 3  # a line for each stage, and the note's own
    assert re.search(r"\rSmoothing 2/2 \|\S+\| \[00:00<00:00, .*step/s\]", text)
    assert "A note.\n" in text


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


def test_bench_reports_speed_and_memory(capsys, peaks):
    assert cli.main(["bench", *TWO_STEPS, "--runs", "1", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["total_seconds"] >= sum(report["stages"][name] for name in ("framewise", "inversion", "smoothing"))
    assert 0 < report["outside_forward_share"] < 1
    assert report["load_seconds"] > 0
    assert report["peak_memory_bytes"] == report["stage_peak_bytes"]["smoothing"] == peaks[-1]


def test_help_reads_like_a_manual(capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["run", "--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    for flag in ("--mixing-ratio", "--frame-stride", "--control-type", "--family", "--json"):
        assert flag in text


def test_the_version_is_told_with_all_that_an_issue_needs(capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["--version"])
    assert stop.value.code == 0
    out, err = capsys.readouterr()
    assert err == ""
    head, python, *libraries, device, dtype, offload, families = out.strip().split(" | ")
    assert head == f"BIVDiff Studio {bivdiff.__version__}"
    assert python == f"Python {platform.python_version()}"
    assert libraries == [f"{name} {version(name)}" for name in ("torch", "diffusers", "transformers", "gradio")]
    assert re.fullmatch(r"cpu, [\d.]+ GB", device)
    assert (dtype, offload, families) == ("float32", "offload none", f"families {', '.join(FAMILIES)}")


def test_the_version_has_one_truth():
    project = (Path(bivdiff.__file__).parent.parent / "pyproject.toml").read_text("utf-8")
    assert re.search(r'^version = "(.*)"$', project, re.MULTILINE)[1] == bivdiff.__version__
