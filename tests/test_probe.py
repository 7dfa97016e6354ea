"""What is known before a run: what is in a file, rates that no GIF has, maps of black lines, names with a dash."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from clips import counting_frames, encode, smooth_frames
from PIL import Image

from bivdiff.batch.jobs import Job
from bivdiff.cli import main as cli
from bivdiff.cli.arguments import with_plain_names
from bivdiff.cli.filling import form_of
from bivdiff.cli.joblist import read_jobs
from bivdiff.cli.parser import build_parser
from bivdiff.errors import InputError
from bivdiff.media.reading import probe, read_clip
from bivdiff.media.writing import Carry
from bivdiff.pixels.canvas import plan_canvas
from bivdiff.studio.form import Form, SourceForm, read_form
from bivdiff.studio.outputs import slowed, writer_of
from bivdiff.types import Control


def probed(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, object]:
    assert cli.main(["probe", *map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_what_is_seen_in_a_clip_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = encode(
        tmp_path / "clip", counting_frames(30), "25", "-c:v", "libx264", "-pix_fmt", "yuv420p", "-f", "matroska"
    )
    told = probed(capsys, path)
    assert {name: told[name] for name in ("kind", "width", "height", "num_frames", "fps", "seconds", "rate")} == {
        "kind": "mkv or webm, h264", "width": 96, "height": 64, "num_frames": 30, "fps": 25, "seconds": 1.2,
        "rate": "its own",
    }  # fmt: skip
    assert (told["colour"], told["fields"], told["transparency"], told["sound"]) == (
        "unlabelled", "whole frames", "none", "no"
    )  # fmt: skip


def test_what_a_picture_would_mark_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paint = np.zeros((100, 100, 4), np.uint8)
    paint[:10] = 255
    Image.fromarray(paint).save(tmp_path / "paint.png")
    told = probed(capsys, tmp_path / "paint.png")
    assert told["marked"] == pytest.approx(0.1)
    assert told["transparency"] == "90 % of the picture"
    assert told["as_a_mask"] == (
        "Marks 10 % of the picture. It was read so: what is painted, and not transparent, is marked."
    )


def test_of_a_clip_that_was_not_copied_whole_what_is_there_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["-c:v", "mjpeg", "-q:v", "2", "-movflags", "+faststart"]
    path = encode(tmp_path / "a.mp4", counting_frames(40), "10", *options)
    with path.open("r+b") as file:  # as a download leaves it that reserves its place first
        file.seek(path.stat().st_size * 3 // 4)
        file.write(bytes(path.stat().st_size // 4))
    told = probed(capsys, path)
    assert (told["width"], told["num_frames"], told["fps"]) == (96, 40, 10)
    last, lost = map(float, re.findall(r"([\d.]+) s[, ]", str(told["notes"])))
    assert 1 < last < lost < 4
    assert "was not copied whole" in str(told["notes"])


def test_a_file_that_cannot_be_read_is_told_as_by_every_door(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.mp4").write_text("dear diary")
    assert cli.main(["probe", str(tmp_path / "a.mp4")]) == 1
    assert "is not a video or a picture that can be read here" in capsys.readouterr().err


def test_a_gif_of_a_fast_clip_is_written_and_told_before_the_run(tmp_path: Path) -> None:
    path = tmp_path / "a.gif"
    writer_of(path)(path, smooth_frames(4), 60, Carry("{}"))
    assert probe(path).fps == pytest.approx(50)
    assert "plays at most 50 frames a second, so this clip of 60 will be slower" in slowed(path, 60)
    assert slowed(path, 50) == slowed(tmp_path / "a.mp4", 60) == ""


def test_names_with_a_dash_are_names_and_flags_are_flags() -> None:
    names = ["-clip.mp4", "--clip.mp4", "-1.mp4", "-größe.mov"]
    assert with_plain_names(names) == [f"./{name}" for name in names]
    flags = ["-h", "--video", "--start=0.5", "-4", "-0.5", "-1e3", "--", "-", "a-b.mp4", "./-x.mp4", "-a cat. It sits"]
    assert with_plain_names(flags) == flags


def test_a_file_whose_name_begins_with_a_dash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    encode(tmp_path / "made.mp4", counting_frames(8), "10", "-pix_fmt", "yuv420p").rename("-clip.mp4")
    Path("-noending").write_bytes(Path("-clip.mp4").read_bytes())
    assert probed(capsys, "-clip.mp4")["num_frames"] == 8
    assert probed(capsys, "-noending")["num_frames"] == 8
    given = [
        "run",
        "--control-video",
        "-clip.mp4",
        "-b.mp4",
        "--video",
        "-clip.mp4",
        "--output",
        "-out.mp4",
        "--prompt",
        "x",
    ]
    args = build_parser().parse_args(given)
    assert (args.video, args.output) == (Path("-clip.mp4"), Path("-out.mp4"))
    assert args.control_video == [Path("-clip.mp4"), Path("-b.mp4")]
    assert read_clip(args.video).frames.shape[0] == 8


def test_a_text_that_begins_with_a_dash_is_the_value(capsys: pytest.CaptureFixture[str]) -> None:
    given = {"--negative-prompt": "-ugly", "--prompt": "-hello", "--video": "-a.mp4", "--blend-words": "-b.png"}
    given |= {"--neg": "-ugly, -flat", "--seed": "-1"}
    parse = build_parser().parse_args
    args = parse(["run", *(part for pair in given.items() for part in pair), "--control-type", "canny", "depth"])
    assert (args.negative_prompt, args.prompt, args.video) == ("-ugly, -flat", "-hello", Path("-a.mp4"))
    assert (args.blend_words, args.seed, args.control_type) == ("-b.png", -1, ["canny", "depth"])
    for wrong in (["--negative-prompt", "--seed", "3"], ["--negative-prompt", "--ugly"], ["--negative-prompt"]):
        with pytest.raises(SystemExit, match="2"):
            parse(["run", "--video", "a.mp4", "--prompt", "x", *wrong])
        assert "two dashes is written --negative-prompt=--value" in capsys.readouterr().err


def test_the_home_is_found_where_no_shell_has_seen_to_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind a `=`, and in a list of jobs; what is named so itself, and nobody's home, are left alone."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    home = tmp_path / "home"
    flags = ["--video=~/a.mp4", "--mask=~/m.png", "--output=~/out.mp4", "--film=~/f.mp4", "--control-video", "~/c.mp4"]
    args = build_parser().parse_args(["run", "--prompt", "a", *flags])
    found = [args.video, args.mask, args.output, args.film, *args.control_video]
    assert found == [home / name for name in ("a.mp4", "m.png", "out.mp4", "f.mp4", "c.mp4")]
    line = {"video": "~/a.mp4", "mask": "~/m.png", "control_video": ["~/c.mp4"], "prompt": "a"}
    (tmp_path / "jobs.jsonl").write_text(json.dumps(line))
    (job,) = read_jobs(build_parser().parse_args(["batch", "jobs.jsonl", "--output=~/clips"]))
    assert isinstance(job, Job)
    assert (job.form.source.video, job.form.masks.clip, job.form.maps) == (
        home / "a.mp4", home / "m.png", (home / "c.mp4",)
    )  # fmt: skip
    (tmp_path / "~").mkdir()
    (tmp_path / "~" / "a.mp4").touch()
    for name in ("~/a.mp4", "~nobody-of-that-name/a.mp4"):
        assert build_parser().parse_args(["probe", name]).file == Path(name)


def drawn(folder: Path, white_lines: bool) -> Path:
    """A drawing of a square."""
    lines = np.zeros((128, 128), np.uint8)
    lines[30:34, 30:90] = lines[86:90, 30:90] = lines[30:90, 30:34] = lines[30:90, 86:90] = 255
    Image.fromarray(lines if white_lines else 255 - lines).save(folder / "map.png")
    return folder / "map.png"


@pytest.mark.parametrize("white_lines", [True, False])
@pytest.mark.parametrize("turned", [True, False])
def test_lines_in_black_on_white_are_seen_and_can_be_turned(tmp_path: Path, white_lines: bool, turned: bool) -> None:
    clip = encode(tmp_path / "clip.mp4", np.zeros((8, 128, 128, 3), np.uint8), "8", "-pix_fmt", "yuv420p")
    form = Form(
        task="control", family="toybox", prompt="a cube", source=SourceForm(video=clip, turn_maps=turned),
        controls=(Control(),), maps=(drawn(tmp_path, white_lines),),
    )  # fmt: skip
    notes: list[str] = []
    used = read_form(form, notes.append)[0].controls[0].frames
    assert used is not None
    assert (used[0, 31, 60, 0] == 255) == (white_lines != turned)
    assert bool(notes) == (white_lines == turned)
    assert all("wants white lines on black" in note and "turn the map round" in note for note in notes)


def test_the_flag_turns_maps() -> None:
    given = ["run", "--video", "a.mp4", "--prompt", "x", "--control-video", "m.png", "--turn-maps", "--fps", "24"]
    form = form_of(build_parser().parse_args(given))
    assert (form.source.turn_maps, form.source.fps) == (True, 24)


@pytest.mark.parametrize(
    ("width", "height", "shape"), [(2520, 1080, "9:16"), (1080, 2520, "16:9"), (3440, 1440, "1:2")]
)
def test_a_canvas_is_bound_by_pixels_and_not_by_its_shape(width: int, height: int, shape: str) -> None:
    plan = plan_canvas(shape, width, height, (512, 512))
    across, down = plan.canvas
    wanted = [float(part) for part in shape.split(":")]
    assert across / down == pytest.approx(wanted[0] / wanted[1], rel=0.02)
    assert plan.width / plan.height == pytest.approx(width / height, rel=0.02)
    for wide in ("110%", "900%, 0, 0, 0"):
        with pytest.raises(InputError, match="at most 9 times as many are made"):
            plan_canvas(wide, width, height, (512, 512))
