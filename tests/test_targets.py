"""Nothing of the user's is written over: what is read, what was there before, and what cannot be written."""

import json
import os
from pathlib import Path

import pytest
from paper import TWO_STEPS

from bivdiff.cli import main as cli
from bivdiff.errors import InputError
from bivdiff.media.targets import Targets
from bivdiff.toybox.clips import load_index

FEW = [
    *(part for name, value in TWO_STEPS.items() for part in (f"--{name.replace('_', '-')}", str(value))),
    *("--num-frames", "2", "--prompt", "a red cube"),
]


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    path = tmp_path / "my.mp4"
    path.write_bytes(load_index()[0].file.read_bytes())
    return path


def same_by_another_name(clip: Path, way: str) -> Path:
    other = clip.with_name("other.mp4")
    if way == "link":
        other.symlink_to(clip)
    elif way == "hard link":
        os.link(clip, other)
    elif way == "around":
        other = clip.parent / "folder" / ".." / clip.name
        (clip.parent / "folder").mkdir()
    elif way == "relative":
        other = Path(os.path.relpath(clip))
    else:
        other = clip
    return other


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("way", ["itself", "link", "hard link", "around", "relative"])
def test_an_input_is_never_a_target_by_whatever_name(clip: Path, way: str, force: bool) -> None:
    targets = Targets({"the source clip": clip}, force)
    with pytest.raises(InputError, match="is the source clip, and writing there would destroy it"):
        targets.named(same_by_another_name(clip, way))


def test_an_input_behind_a_link_is_no_target_either(clip: Path) -> None:
    link = clip.with_name("link.mp4")
    link.symlink_to(clip)
    with pytest.raises(InputError, match="destroy"):
        Targets({"the mask": link}, force=True).named(clip)


def test_a_picture_in_a_folder_that_is_read_is_no_target(tmp_path: Path) -> None:
    picture = tmp_path / "frames" / "a.gif"
    picture.parent.mkdir()
    picture.write_bytes(b"x")
    for given in (picture.parent, picture.parent / "*.gif"):
        with pytest.raises(InputError, match="is the source clip"):
            Targets({"the source clip": given}, force=True).named(picture)


def test_what_is_there_is_written_over_only_by_force(tmp_path: Path) -> None:
    there = tmp_path / "there.mp4"
    there.write_bytes(b"mine")
    with pytest.raises(InputError, match=r'"there.mp4" is there already.*--force'):
        Targets({}).named(there)
    assert Targets({}, force=True).named(there) == there
    nowhere = tmp_path / "nowhere.mp4"
    nowhere.symlink_to(tmp_path / "gone.mp4")
    with pytest.raises(InputError, match="is there already"):
        Targets({}).named(nowhere)
    pipe = tmp_path / "pipe.mp4"
    os.mkfifo(pipe)
    with pytest.raises(InputError, match="not a regular file"):
        Targets({}, force=True).named(pipe)


def test_a_side_file_takes_the_next_free_name(tmp_path: Path) -> None:
    wanted, mask = tmp_path / "a-mask.mp4", tmp_path / "a-control.mp4"
    for path in (wanted, tmp_path / "a-mask_2.mp4", mask):
        path.write_bytes(b"mine")
    assert Targets({}).beside(wanted).name == "a-mask_3.mp4"
    forced = Targets({"the mask": mask}, force=True)
    assert forced.beside(wanted) == wanted
    assert forced.beside(mask).name == "a-control_2.mp4"  # an input, whatever is said


def test_two_targets_are_two_files_on_every_system(tmp_path: Path) -> None:
    targets = Targets({})
    targets.named(tmp_path / "Café.mp4")
    for other in ("café.mp4", "Cafe\u0301.mp4", "Café.mp4"):
        with pytest.raises(InputError, match="Two of the files to write have the same name"):
            targets.named(tmp_path / other)
        assert targets.beside(tmp_path / other).stem.endswith(("_2", "_3", "_4"))


def test_a_folder_is_made_for_what_is_written_and_not_for_what_is_refused(
    clip: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--video", clip, *FEW, "--loras", clip.with_name("gone.safetensors")]
    new = clip.with_name("new")
    assert "gone.safetensors" in refused(
        capsys, "run", "--output", new / "a" / "out.mp4", "--film", new / "f.mp4", *given
    )
    assert "gone.safetensors" in refused(capsys, "compare", "--output", new, "--mixing-ratios", "0,1", *given)
    assert [path.name for path in clip.parent.iterdir()] == ["my.mp4"]
    targets = Targets({})
    path = targets.named(new / "a" / "out.mp4")
    assert not new.exists()
    assert targets.at_last(path) == path
    assert path.parent.is_dir()


def test_what_comes_while_a_run_goes_on_stays(tmp_path: Path) -> None:
    targets = Targets({})
    path = targets.named(tmp_path / "out.mp4")
    assert targets.at_last(path) == path
    path.write_bytes(b"of another run")
    assert targets.at_last(path) == tmp_path / "out_2.mp4"


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("folder", "is a folder. Choose the name of a file"),
        ("file/out.mp4", "could not be made"),
        ("a" * 260 + ".mp4", "File name too long"),
        ("a\0b.mp4", "name is not valid"),
    ],
)
def test_what_cannot_be_written_is_known_at_once(tmp_path: Path, name: str, sentence: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_bytes(b"mine")
    with pytest.raises(InputError, match=sentence):
        Targets({}).named(tmp_path / name)
    if name != "folder":
        with pytest.raises(InputError, match=sentence):
            Targets({}).beside(tmp_path / name)


def test_a_folder_of_files_is_held_against_inputs_and_what_is_there(clip: Path) -> None:
    with pytest.raises(InputError, match="is the source clip"):
        Targets({"the source clip": clip}, force=True).folder(clip.parent, ["a.mp4", clip.name])
    with pytest.raises(InputError, match=r'has "my.mp4" of the files .* already.*--force'):
        Targets({}).folder(clip.parent, ["a.mp4", clip.name])
    Targets({}, force=True).folder(clip.parent, [clip.name])
    Targets({}).folder(clip.parent / "new" / "folder", [clip.name])
    assert not (clip.parent / "new").exists()  # until there is something to put into it


# The commands


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The sentence of a command that ends before any model is loaded."""
    assert cli.main([*map(str, arguments)]) == 1
    err = capsys.readouterr().err
    assert "Loading" not in err
    return err


def test_a_run_never_writes_over_its_source(clip: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = clip.read_bytes()
    for force in ([], ["--force"]):
        assert "is the source clip" in refused(capsys, "run", "--video", clip, "--output", clip, *FEW, *force)
        given = ["run", "--video", clip, "--output", clip.with_name("a.mp4"), "--film", clip]
        assert "is the source clip" in refused(capsys, *given, *FEW, *force)
    assert clip.read_bytes() == before
    assert [path.name for path in clip.parent.iterdir()] == ["my.mp4"]


def test_a_name_that_is_too_long_for_a_side_file_is_told_before_the_run(
    clip: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = clip.with_name("b" * 248 + ".mp4")
    assert "too long" in refused(capsys, "run", "--video", clip, "--output", output, *FEW)


def test_a_comparison_never_writes_over_its_source(clip: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = clip.rename(clip.with_name("grid.mp4"))
    before = source.read_bytes()
    given = ["compare", "--video", source, "--output", clip.parent, "--mixing-ratios", "0,1", *FEW]
    assert "is the source clip" in refused(capsys, *given, "--force")
    cell = clip.parent / "cells" / "02-ratio-1.mp4"
    cell.parent.mkdir()
    source.rename(cell)
    given[2] = cell
    assert "is the source clip" in refused(capsys, *given, "--force")
    assert cell.read_bytes() == before


def test_side_files_leave_inputs_and_earlier_files_alone(
    clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A mask with the name of the run's own overlay, and a frame-wise clip of an earlier run."""
    mask, earlier, output = (tmp_path / f"clip{part}.mp4" for part in ("-mask", "-framewise", ""))
    mask.write_bytes(load_index()[0].masks.read_bytes())
    earlier.write_bytes(b"an earlier run's")
    before = mask.read_bytes()
    given = ["run", "--task", "inpaint", "--video", clip, "--mask", mask, "--output", output, "--json", *FEW]
    assert cli.main([*map(str, given)]) == 0
    out, err = capsys.readouterr()
    paths = json.loads(out)["paths"]
    assert mask.read_bytes() == before
    assert earlier.read_bytes() == b"an earlier run's"
    named = {"result": "clip.mp4", "framewise": "clip-framewise_2.mp4", "mask": "clip-mask_2.mp4"}
    assert {name: Path(path).name for name, path in paths.items()} == named
    assert all(Path(path).stat().st_size > 1000 for path in paths.values())
    assert f"'{mask}' is taken and stays as it is: the mask clip goes to '{tmp_path / 'clip-mask_2.mp4'}'" in err
