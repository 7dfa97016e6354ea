"""A batch: what its list may say, what is on the disk at every moment, and that its clips are those of single runs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from bivdiff.batch.driver import Batch, check_shared, inputs_of
from bivdiff.batch.folder import PAGE, RESULTS, SCORES, BatchFolder, made_of, write_record
from bivdiff.batch.jobs import Checked, Job, Outcome
from bivdiff.batch.report import write_report
from bivdiff.batch.schedule import Schedule
from bivdiff.cli import main as cli
from bivdiff.cli.joblist import Refused, read_jobs
from bivdiff.cli.parser import build_parser
from bivdiff.errors import InputError
from bivdiff.studio.form import Form, SourceForm
from bivdiff.toybox.clips import load_index
from bivdiff.types import StepEvent
from bivdiff.workers.processes import process_workers
from bivdiff.workers.worker import Here, WorkerLostError

ROOT = Path(__file__).resolve().parent.parent
SMALL = [
    "--num-frames", "2", "--size", "64x64", "--seed", "1", "--num-inference-steps", "2", "--num-inversion-steps", "2",
    "--num-smoothing-steps", "2",
]  # fmt: skip


@pytest.fixture(autouse=True)
def _random_toybox(monkeypatch, toybox_folder, tmp_path):
    monkeypatch.setenv("BIVDIFF_TOYBOX_FOLDER", str(toybox_folder))
    monkeypatch.setenv("BIVDIFF_CACHE_FOLDER", str(tmp_path / "stages"))
    monkeypatch.setenv("BIVDIFF_DEVICE", "cpu")


@pytest.fixture
def clips():
    return [str(sample.file) for sample in load_index()]


def write_lines(path, *lines):
    path.write_text("".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines), "utf-8")
    return str(path)


def results_in(folder):
    return [json.loads(line) for line in (folder / RESULTS).read_text("utf-8").splitlines()]


# The list


def jobs_of(tmp_path, *lines, flags=()):
    path = write_lines(tmp_path / "jobs.jsonl", *lines)
    return read_jobs(build_parser().parse_args(["batch", path, "--output", str(tmp_path / "out"), *flags]))


def test_a_line_has_the_fields_of_a_run_by_name_and_the_flags_are_what_it_does_not_say(tmp_path):
    (tmp_path / "masks").mkdir()
    line = {
        "id": "one", "video": "a.mp4", "task": "inpaint", "prompt": "a cone", "mask": "masks/m.png",
        "mixing_ratio": 0.3, "output": "sub/one.gif", "frame_stride": 2,
    }  # fmt: skip
    first, second = jobs_of(
        tmp_path, line, {"video": "b.mp4"}, flags=["--prompt", "a cube", "--mixing-ratio", "0.7", "--seed", "4"]
    )
    assert (first.id, first.output) == ("one", Path("sub/one.gif"))
    assert (first.form.task, first.form.prompt, first.form.source.stride) == ("inpaint", "a cone", 2)
    assert (first.form.settings["mixing_ratio"], first.form.settings["seed"]) == (0.3, 4)
    assert (first.form.source.video, first.form.masks.clip) == (tmp_path / "a.mp4", tmp_path / "masks" / "m.png")
    assert (second.id, second.output, second.form.task) == ("b", Path("b.mp4"), "control")
    assert (second.form.prompt, second.form.settings["mixing_ratio"]) == ("a cube", 0.7)


def test_a_line_is_every_clip_of_a_pattern_times_every_value_that_it_varies(tmp_path):
    for name in ("b.mp4", "a.mp4", "c.gif"):
        (tmp_path / name).touch()
    found = jobs_of(tmp_path, {"video": "*.mp4", "prompt": "x", "vary": {"mixing_ratio": [0, 0.5], "seed": [1, 2]}})
    assert [job.id for job in found] == [
        f"{clip} mixing_ratio={ratio} seed={seed}" for clip in "ab" for ratio in ("0", "0.5") for seed in (1, 2)
    ]
    assert [job.form.settings["seed"] for job in found[:2]] == [1, 2]
    assert {job.form.source.video.name for job in found} == {"a.mp4", "b.mp4"}


def test_flags_alone_make_a_sweep_over_clips_and_settings(tmp_path, clips):
    pattern = str(Path(clips[0]).parent / "pink-*.mp4")
    args = ["batch", "--videos", pattern, "--prompt", "x", "--vary", "seed=1,2", "--output", str(tmp_path)]
    found = read_jobs(build_parser().parse_args(args))
    matching = sorted(Path(clips[0]).parent.glob("pink-*.mp4"))
    assert [job.form.source.video for job in found] == [path for path in matching for _ in range(2)]
    assert [job.form.settings["seed"] for job in found[:2]] == [1, 2]


@pytest.mark.parametrize("name", ["video", "id", "output", "vary"])
def test_flags_too_vary_settings_alone(tmp_path, name):
    args = ["batch", "--videos", "a.mp4", "--prompt", "x", "--vary", f"{name}=b,c", "--output", str(tmp_path)]
    (refused,) = read_jobs(build_parser().parse_args(args))
    assert f"vary cannot name '{name}'" in refused.sentence


def test_a_line_with_pictures_names_their_rate_and_what_turns_its_maps(tmp_path):
    for name in ("frame_2.png", "frame_10.png"):
        (tmp_path / name).write_bytes(b"")
    line = {"video": "frame_%d.png", "prompt": "x", "fps": 12, "turn_maps": True, "control_video": "maps"}
    (job,) = jobs_of(tmp_path, line)
    assert (job.form.source.fps, job.form.source.turn_maps) == (12, True)
    assert inputs_of(job) == [tmp_path / "frame_2.png", tmp_path / "frame_10.png", tmp_path / "maps"]


WRONG = {
    "no JSON": ("{", "not JSON"),
    "no object": ("[1]", "not an object"),
    "a field that is none": ({"video": "a.mp4", "promt": "x"}, "Do you mean 'prompt'?"),
    "a value of another kind": ({"video": "a.mp4", "prompt": "x", "seed": "one"}, "seed must be a whole number"),
    "a value out of range": ({"video": "a.mp4", "prompt": "x", "mixing_ratio": 2}, "from 0 to 1"),
    "no prompt": ({"video": "a.mp4"}, "There is no prompt"),
    "no video": ({"prompt": "x"}, "video must be the name"),
    "no clip of that name": ({"video": "*.nothing", "prompt": "x"}, "No clip matches"),
    "no task": ({"video": "a.mp4", "prompt": "x", "task": "dance"}, "Unknown task 'dance'"),
    "no family": ({"video": "a.mp4", "prompt": "x", "family": "sd0"}, "Unknown family 'sd0'"),
    "no id": ({"id": "../a", "video": "a.mp4", "prompt": "x"}, "is not one"),
    "a way out": ({"video": "a.mp4", "prompt": "x", "output": "../a.mp4"}, "is not below"),
    "below the batch's own file": ({"video": "a.mp4", "prompt": "x", "output": "results.jsonl/a.mp4"}, "batch's own"),
    "below the batch's lock": ({"video": "a.mp4", "prompt": "x", "output": ".lock/a.mp4"}, "batch's own"),
    "nothing to vary": ({"video": "a.mp4", "prompt": "x", "vary": {"seed": 1}}, "vary must name"),
    "a mask that is no name": ({"video": "a.mp4", "prompt": "x", "mask": 3}, "mask must be the name of a file"),
    "half a letter for a field": ({"video": "a.mp4", "\ud800": 1}, "There is no field"),
    "half a letter in a name": ({"video": "a\ud800*.mp4", "prompt": "x"}, "no file can have"),
    "half a letter in a home": ({"video": "~\ud800/a.mp4", "prompt": "x"}, "no file can have"),
    "half a letter in a mask": ({"video": "a.mp4", "prompt": "x", "mask": "~\ud800/a"}, "no file can have"),
    "half a letter in an output": ({"video": "a.mp4", "prompt": "x", "output": "\udc80.mp4"}, "output must be"),
    "half a letter for a task": ({"video": "a.mp4", "prompt": "x", "task": "\ud800"}, "control characters"),
    "too many brackets": ("[" * 5000, "too deep"),
    "too many brackets in a field": (f'{{"video": {"[" * 900}{"]" * 900}}}', "video must be"),
    "too many brackets to vary": (f'{{"video": "a.mp4", "vary": {"[" * 900}{"]" * 900}}}', "vary must"),
    "a long pattern": ({"video": f"{'*' * 300}.nothing", "prompt": "x"}, "No clip matches"),
    "no letter in a pattern": ({"video": "a\0/*", "prompt": "x"}, "no file can have"),
    "no letter in a name": ({"video": "a\0.mp4", "prompt": "x"}, "no file can have"),
    "no letter in a map": ({"video": "a.mp4", "prompt": "x", "control_video": "\0"}, "no file can have"),
    "no letter in an output": ({"video": "a.mp4", "prompt": "x", "output": "a\0.mp4"}, "output must be"),
    "no end": ('{"video": "a.mp4", "prompt": "x", "mixing_ratio": 1e999}', "from 0 to 1"),
    "no number": ('{"video": "a.mp4", "prompt": "x", "mixing_ratio": NaN}', "from 0 to 1"),
    "a huge number": (f'{{"video": "a.mp4", "prompt": "x", "seed": {"9" * 4000}}}', "seed must be"),
    "a number that none reads": (f'{{"video": "a.mp4", "prompt": "x", "seed": {"9" * 5000}}}', "is not JSON"),
    "true for a number": ({"video": "a.mp4", "prompt": "x", "seed": True}, "seed must be"),
    "a number for true": ({"video": "a.mp4", "prompt": "x", "sound": 1}, "true or false"),
    "a list for a number": ({"video": "a.mp4", "prompt": "x", "seed": [1]}, "seed must be"),
    "a list for a name": ({"video": "a.mp4", "prompt": "x", "task": ["edit"]}, "task must be"),
    "an object for a name": ({"video": "a.mp4", "prompt": "x", "image_model": {}}, "image_model must be"),
    "an object for a choice": ({"video": "a.mp4", "prompt": "x", "fit": {}}, "valid value for fit"),
    "a list for an id": ({"id": ["a"], "video": "a.mp4", "prompt": "x"}, "is not one"),
    "clips to vary": ({"video": "a.mp4", "prompt": "x", "vary": {"video": ["b.mp4"]}}, "vary cannot name 'video'"),
    "ids to vary": ({"video": "a.mp4", "prompt": "x", "vary": {"id": ["b", "c"]}}, "vary cannot name 'id'"),
    "outputs to vary": ({"video": "a.mp4", "prompt": "x", "vary": {"output": ["b.mp4"]}}, "vary cannot name 'output'"),
    "varying to vary": ({"video": "a.mp4", "prompt": "x", "vary": {"vary": [{}]}}, "vary cannot name 'vary'"),
    "no types": ({"video": "a.mp4", "prompt": "x", "control_type": []}, "control_type"),
    "a field twice": ('{"video": "a.mp4", "prompt": "x", "prompt": "y"}', "'prompt' twice"),
    "a field twice in what it varies": ('{"video": "a.mp4", "vary": {"seed": [1], "seed": [2]}}', "'seed' twice"),
    "a list of maps": ({"video": "a.mp4", "prompt": "x", "control_video": ["a", 1]}, "control_video must be"),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_in_a_line_is_told_and_the_others_are_jobs(tmp_path, what):
    line, told = WRONG[what]
    refused, good = jobs_of(tmp_path, line, {"id": "good", "video": "a.mp4", "prompt": "x"})
    assert isinstance(refused, Refused)
    assert told in refused.sentence
    assert good.id == "good"


def test_an_id_that_is_there_twice_is_refused_once(tmp_path):
    first, second = jobs_of(tmp_path, *[{"id": "a", "video": "a.mp4", "prompt": "x"}] * 2)
    assert first.id == "a"
    assert "twice" in second.sentence


LINE_ENDS = "\u2028 \u2029 \x85"  # of Unicode, and in JSON letters as any


def test_a_line_ends_where_json_lines_end(tmp_path):
    line = {"video": "a.mp4", "prompt": f"x {LINE_ENDS}".replace("\x85", "")}
    text = "\r\n".join(json.dumps({**line, "id": name}, ensure_ascii=False) for name in ("a", "b"))
    (tmp_path / "jobs.jsonl").write_bytes(text.encode())
    found = read_jobs(build_parser().parse_args(["batch", str(tmp_path / "jobs.jsonl"), "--output", str(tmp_path)]))
    assert [(job.id, job.form.prompt) for job in found] == [("a", line["prompt"]), ("b", line["prompt"])]


def test_clips_of_one_name_in_several_folders_are_named_by_their_folders(tmp_path):
    for name in ("a/x.mp4", "b/x.mp4", "b/x.gif", "c/b/x.mp4", "d/y.mp4"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    line = {"video": ["[ab]/x.mp4", "b/x.gif", "c/b/x.mp4", "d/y.mp4"], "prompt": "x"}
    found = jobs_of(tmp_path, line)
    assert [job.id for job in found] == ["x", "b-x", "x.gif", "c-b-x", "y"]
    assert [job.output for job in found] == [Path(f"{job.id}.mp4") for job in found]
    given = jobs_of(tmp_path, {**line, "id": "one", "vary": {"seed": [1, 2]}}, {"video": "d/y.mp4", "prompt": "x"})
    assert [job.id for job in given[:4]] == ["one x seed=1", "one x seed=2", "one b-x seed=1", "one b-x seed=2"]
    assert given[-1].id == "y"
    _, again = jobs_of(tmp_path, *[{"video": "a/x.mp4", "prompt": "x"}] * 2)
    assert "twice" in again.sentence


def test_a_list_without_jobs_or_that_cannot_be_read_is_told(tmp_path):
    with pytest.raises(InputError, match="There is no job"):
        jobs_of(tmp_path, "")
    with pytest.raises(InputError, match="cannot be read"):
        read_jobs(build_parser().parse_args(["batch", str(tmp_path / "none"), "--output", str(tmp_path)]))


# The schedule


def test_jobs_go_where_their_models_are():
    schedule = Schedule([("a", 1), ("b", 2), ("a", 3), ("b", 4), ("b", 5)])
    assert schedule.take(0) == 2  # most wait for these
    assert schedule.take(1) == 1  # two a worker wait for these, and one for the others, now that a worker has them
    assert [schedule.take(0), schedule.take(1), schedule.take(0)] == [4, 3, 5]
    assert schedule.loads == 2


def test_a_worker_that_has_no_more_for_its_models_takes_what_others_have_most_of():
    schedule = Schedule([("a", 1), *[("b", number) for number in range(4)]])
    assert [schedule.take(0), schedule.take(1)] == [0, 1]
    assert [schedule.take(1), schedule.take(1), schedule.take(0)] == [2, 3, 1]
    assert schedule.loads == 3


def test_a_job_that_is_put_back_is_taken_first_and_waited_for():
    schedule = Schedule([("a", 1), ("a", 2)])
    assert [schedule.take(0), schedule.take(1)] == [1, 2]
    taken = []
    waiting = threading.Thread(target=lambda: taken.append(schedule.take(1)))
    schedule.ended()
    waiting.start()  # nothing waits, but the first job may come back
    schedule.put_back(0, "a", 1)
    waiting.join(60)
    assert taken == [1]
    schedule.ended()
    assert schedule.take(0) is None


# The disk


def outcome_of(name, **changes):
    return Outcome(
        name, "h", "done", 1.0, 5, "", "host", {"result": f"{name}.mp4", "mask": f"{name}-mask.mp4"}, **changes
    )


def made_in(folder, outcome, content="new"):
    place = folder.place_for(0)
    place.mkdir()
    for name, file in outcome.files.items():
        made_of(place, name, file).write_text(content, "utf-8")
    write_record(place, outcome)
    return place


def test_what_is_made_takes_its_place_and_is_noted(tmp_path):
    with closing(BatchFolder(tmp_path)) as folder:
        folder.commit(made_in(folder, outcome_of("sub/a")), outcome_of("sub/a"))
    assert (tmp_path / "sub" / "a-mask.mp4").read_text("utf-8") == "new"
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", RESULTS, "sub"]
    with closing(BatchFolder(tmp_path)) as folder:
        assert folder.is_whole(folder.outcomes["sub/a", "h"])
        (tmp_path / "sub" / "a.mp4").unlink()
        assert not folder.is_whole(folder.outcomes["sub/a", "h"])


def test_what_is_there_already_is_not_written_over(tmp_path):
    (tmp_path / "a-mask.mp4").write_text("mine", "utf-8")
    with closing(BatchFolder(tmp_path)) as folder:
        noted = folder.commit(made_in(folder, outcome_of("a")), outcome_of("a"))
    assert noted.files == {"result": "a-2.mp4", "mask": "a-2-mask.mp4"}
    assert (tmp_path / "a-mask.mp4").read_text("utf-8") == "mine"
    assert (tmp_path / "a-2.mp4").read_text("utf-8") == "new"
    assert results_in(tmp_path)[0]["files"]["mask"] == "a-2-mask.mp4"


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_results_with_letters_of_any_kind_are_read_again(tmp_path, end):
    with closing(BatchFolder(tmp_path)) as folder:
        folder.note(replace(outcome_of("a"), sentence=LINE_ENDS))
        folder.note(replace(outcome_of("b"), sentence="\ud800"))
    content = (tmp_path / RESULTS).read_bytes()
    (tmp_path / RESULTS).write_bytes(content.replace(b"\n", end.encode()))
    with closing(BatchFolder(tmp_path)) as again:
        assert again.outcomes["a", "h"].sentence == LINE_ENDS
        assert again.outcomes["b", "h"].sentence == "\ud800"


@pytest.mark.parametrize("name", ["taken/a", "taken/sub/a", "long" * 75])
def test_what_cannot_take_its_place_has_failed_and_stops_nothing_else(tmp_path, name):
    (tmp_path / "taken").write_text("mine", "utf-8")
    with closing(BatchFolder(tmp_path)) as folder:
        noted = folder.commit(made_in(folder, outcome_of(name)), outcome_of(name))
        assert noted.status == "failed"
        assert "could not take its place" in noted.sentence
        assert folder.commit(made_in(folder, outcome_of("b")), outcome_of("b")).status == "done"
    assert [line["status"] for line in results_in(tmp_path)] == ["failed", "done"]
    assert (tmp_path / "taken").read_text("utf-8") == "mine"


def test_what_an_earlier_batch_left_and_cannot_take_its_place_is_told_and_the_folder_is_usable(tmp_path):
    folder = BatchFolder(tmp_path)
    made_in(folder, outcome_of("long" * 75))
    made_in(folder, outcome_of("b"))
    made_in(folder, outcome_of("c")).joinpath("record.json").write_bytes(b"\xff")
    folder._lock.release()
    for _ in range(2):
        with closing(BatchFolder(tmp_path)) as again:
            assert again.outcomes["long" * 75, "h"].status == "failed"
            assert again.is_whole(again.outcomes["b", "h"])
    assert len(results_in(tmp_path)) == 2


def test_a_link_that_leads_nowhere_is_not_written_over(tmp_path):
    (tmp_path / "a.mp4").symlink_to(tmp_path / "gone")
    with closing(BatchFolder(tmp_path)) as folder:
        noted = folder.commit(made_in(folder, outcome_of("a")), outcome_of("a"))
        assert folder.is_whole(noted)
    assert noted.files["result"] == "a-2.mp4"


@pytest.mark.parametrize("moved", [0, 1, 2])
def test_a_batch_that_was_killed_while_it_noted_a_job_is_finished_by_the_next(tmp_path, moved):
    """As it is left by a kill after the record was written, and after some of its files were moved."""
    (tmp_path / "b.mp4").write_text("other", "utf-8")
    folder = BatchFolder(tmp_path)
    place = made_in(folder, outcome_of("a"))
    for name, file in list(outcome_of("a").files.items())[:moved]:
        made_of(place, name, file).rename(tmp_path / file)
    unfinished = folder.place_for(1)
    unfinished.mkdir()
    (unfinished / "result.mp4").touch()
    with (tmp_path / RESULTS).open("a") as file:
        file.write(f'{json.dumps({"id": "b", "hash": "h", "status": "failed"})}\n{{"id": "a", "ha')
    folder._lock.release()
    with closing(BatchFolder(tmp_path)) as again:
        assert again.is_whole(again.outcomes["a", "h"])
        assert again.outcomes["b", "h"].status == "failed"
    assert [line["id"] for line in results_in(tmp_path)] == ["b", "a"]
    assert {path.name for path in tmp_path.iterdir()} == {".lock", RESULTS, "a.mp4", "a-mask.mp4", "b.mp4"}


def test_a_job_that_was_noted_before_the_kill_is_not_noted_twice(tmp_path):
    folder = BatchFolder(tmp_path)
    place = made_in(folder, outcome_of("a"))
    folder.commit(place, outcome_of("a"))
    place.mkdir(parents=True)
    write_record(place, folder.outcomes["a", "h"])
    folder._lock.release()
    BatchFolder(tmp_path).close()
    assert len(results_in(tmp_path)) == 1


def test_what_a_second_try_left_of_a_job_that_is_whole_is_not_put_beside_it(tmp_path):
    folder = BatchFolder(tmp_path)
    noted = folder.commit(made_in(folder, outcome_of("a"), "first"), outcome_of("a"))
    made_in(folder, replace(outcome_of("a"), seconds=2.0), "second")
    folder._lock.release()
    with closing(BatchFolder(tmp_path)) as again:
        assert again.outcomes["a", "h"] == noted
    assert len(results_in(tmp_path)) == 1
    assert (tmp_path / "a.mp4").read_text("utf-8") == "first"
    assert not (tmp_path / "a-2.mp4").exists()


@contextmanager
def full(path, room):
    """As if the disk had so many bytes left: no file grows larger than this one and these."""
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + room, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize("room", [0, 10])
def test_a_disk_that_is_full_leaves_no_half_of_a_line(tmp_path, room):
    with closing(BatchFolder(tmp_path)) as folder:
        folder.note(outcome_of("a"))
        before = (tmp_path / RESULTS).read_bytes()
        with full(tmp_path / RESULTS, room), pytest.raises(InputError, match=r"results\.jsonl.* could not be written"):
            folder.note(outcome_of("b"))
        assert (tmp_path / RESULTS).read_bytes() == before
        folder.note(outcome_of("c"))
    assert [line["id"] for line in results_in(tmp_path)] == ["a", "c"]


def test_what_was_made_and_could_not_be_noted_is_noted_by_the_next(tmp_path):
    with closing(BatchFolder(tmp_path)) as folder:
        for name in ("one", "two", "three"):
            folder.note(outcome_of(name))
        place = made_in(folder, outcome_of("a"))
        with full(tmp_path / RESULTS, 0), pytest.raises(InputError, match="Make room"):
            folder.commit(place, outcome_of("a"))
    with closing(BatchFolder(tmp_path)) as again:
        assert again.is_whole(again.outcomes["a", "h"])
        assert again.outcomes["a", "h"].files["result"] == "a.mp4"
    assert not (tmp_path / ".work").exists()


@pytest.mark.parametrize("line", [
    {"id": ["a"], "hash": "h", "status": "failed"}, {"id": "a", "hash": "h", "status": "done"},
    {"id": "a", "hash": "h", "status": "so so"}, {"id": "a", "hash": "h", "status": "failed", "files": []},
    {"id": "a", "hash": "h", "status": "failed", "record": 1},
])  # fmt: skip
def test_a_line_that_no_batch_can_have_written_is_told(tmp_path, line):
    write_lines(tmp_path / RESULTS, line)
    with pytest.raises(InputError, match=r"Line 1 of .* is not one that a batch wrote"):
        BatchFolder(tmp_path)


def test_one_batch_at_a_time_has_a_folder(tmp_path):
    with closing(BatchFolder(tmp_path)), pytest.raises(InputError, match="Another batch"):
        BatchFolder(tmp_path)
    BatchFolder(tmp_path).close()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        (RESULTS, '{"my": "notes"}\n'), (RESULTS, '{"video": "a.mp4", "prompt": "a cube"}'), (RESULTS, "my notes"),
        (RESULTS, '{"id": "calm", "video": "a.mp4"}'), (RESULTS, '{"id": "calm", "video": "a.mp4"}\n{"id": "wild"}'),
        (PAGE, "<h1>My page</h1>"), (SCORES, "name,score"),
    ],
)  # fmt: skip
def test_files_of_the_user_that_have_a_batchs_names_are_told_and_stay(tmp_path, name, content):
    (tmp_path / name).write_text(content, "utf-8")
    for _ in range(2):  # a second call has not taken them over either
        with pytest.raises(InputError, match="Choose another folder"):
            BatchFolder(tmp_path)
    assert (tmp_path / name).read_text("utf-8") == content


def test_a_users_own_folder_of_work_stays(tmp_path):
    mine = tmp_path / ".work" / "drafts" / "poem.txt"
    mine.parent.mkdir(parents=True)
    mine.write_text("roses", "utf-8")
    BatchFolder(tmp_path).close()
    assert mine.read_text("utf-8") == "roses"


def test_a_batch_that_was_stopped_before_any_job_has_ended_is_gone_on_with(tmp_path):
    with closing(BatchFolder(tmp_path)) as folder:
        write_report(folder.path, [])
    with closing(BatchFolder(tmp_path)) as again:
        assert again.outcomes == {}


# Lost workers


class Losing:
    """A worker whose process ends in the middle of a job, as often as it is told."""

    def __init__(self, worker, times):
        self.worker, self.times = worker, times

    def start(self, work, *given):
        if work.__name__ != "make" or not self.times:
            return self.worker.start(work, *given)
        self.times -= 1
        return self._lost()

    def _lost(self):
        raise WorkerLostError("The worker's process ended.")
        yield

    def close(self):
        self.worker.close()


def job_of(name, clip, **changes):
    settings = {"seed": 1, "num_inference_steps": 2, "num_inversion_steps": 2, "num_smoothing_steps": 2}
    source = SourceForm(video=Path(clip), num_frames=2, size="64x64")
    job = Job(
        name,
        Form(task="control", family="toybox", prompt="a cube", source=source, settings=settings),
        Path(f"{name}.mp4"),
    )
    files = {"result": job.output, "framewise": Path(f"{name}-framewise.mp4"), "control": Path(f"{name}-control.mp4")}
    return replace(Checked(job, f"hash of {name}", ("toybox",), files), **changes)


@pytest.mark.parametrize(("times", "status"), [(1, "done"), (2, "failed")])
def test_the_job_of_a_lost_worker_is_tried_once_more(settings, tmp_path, clips, times, status):
    told = []
    with closing(BatchFolder(tmp_path)) as folder:
        Batch(folder, [job_of("a", clips[0])], [Losing(Here(settings), times)], told.append).run()
        assert folder.outcomes["a", "hash of a"].status == status
    assert [event.status for event in told if isinstance(event, Outcome)] == [status]
    if status == "failed":
        assert "Tried 2 times" in results_in(tmp_path)[0]["sentence"]


def test_a_job_that_ended_the_batchs_own_process_twice_has_failed_and_the_others_are_made(settings, tmp_path, clips):
    """As it is left by a system that kills what takes too much memory."""
    jobs = [job_of("a", clips[0]), job_of("b", clips[0])]
    for tried in range(2):
        folder = BatchFolder(tmp_path)
        assert folder.times_begun(jobs[0].key) == tried
        folder.begin(jobs[0].key)
        folder._lock.release()
    with closing(BatchFolder(tmp_path)) as folder:
        Batch(folder, jobs, [Here(settings)], lambda _: None).run()
        assert {outcome.id: outcome.status for outcome in folder.outcomes.values()} == {"a": "failed", "b": "done"}
    assert "the process ended" in results_in(tmp_path)[0]["sentence"]
    with closing(BatchFolder(tmp_path)) as folder:  # as --retry-failed does
        Batch(folder, jobs[:1], [Here(settings)], lambda _: None).run()
        assert folder.is_whole(folder.outcomes[jobs[0].key])
    assert not (tmp_path / ".work").exists()


def test_a_job_that_was_made_or_failed_was_not_ended_in_the_middle(settings, tmp_path, clips):
    jobs = [job_of("a", clips[0]), job_of("b", tmp_path / "gone.mp4")]
    folder = BatchFolder(tmp_path)
    Batch(folder, jobs, [Here(settings)], lambda _: None).run()
    folder._lock.release()
    with closing(BatchFolder(tmp_path)) as again:
        assert [again.times_begun(job.key) for job in jobs] == [0, 0]


@pytest.mark.timeout(600)  # a busy machine takes minutes to start three processes
def test_two_processes_of_which_one_is_killed_make_what_single_runs_make(settings, tmp_path, clips):
    workers, names, killed = process_workers(2, settings), "abc", []

    def kill_one(event):
        if isinstance(event, StepEvent) and event.stage == "framewise" and not killed:
            number = int(threading.current_thread().name.rpartition("-")[2])  # of the worker whose step this is
            killed.append(workers[number]._line._process.pid)
            os.kill(killed[0], signal.SIGKILL)

    try:
        with closing(BatchFolder(tmp_path / "out")) as folder:
            jobs = [job_of(name, clip) for name, clip in zip(names, clips, strict=False)]
            Batch(folder, jobs, workers, kill_one).run()
    finally:
        for worker in workers:
            worker.close()
    assert killed
    assert sorted((line["id"], line["status"]) for line in results_in(tmp_path / "out")) == [
        (name, "done") for name in names
    ]
    for name, clip in zip(names, clips, strict=False):
        single = tmp_path / "single" / f"{name}.mp4"
        assert cli.main(["run", "--video", clip, "--prompt", "a cube", *SMALL, "--output", str(single)]) == 0
    made, alone = ({path.name: path.read_bytes() for path in (tmp_path / of).glob("*.mp4")} for of in ("out", "single"))
    assert len(made) == 3 * len(names)
    assert made == alone


def test_where_no_worker_is_left_that_is_told_and_nothing_is_lost(settings, tmp_path, clips):
    class Gone(Losing):
        def start(self, *_):
            return self._lost()

    with closing(BatchFolder(tmp_path)) as folder, pytest.raises(InputError, match="No worker is left, and 2 jobs"):
        Batch(folder, [job_of("a", clips[0]), job_of("b", clips[0])], [Gone(Here(settings), 9)], print).run()


def test_a_worker_that_does_not_see_the_disk_is_told(settings, tmp_path, clips):
    with closing(BatchFolder(tmp_path)) as folder:
        check_shared(folder, [Here(settings)], [job_of("a", clips[0])])
        with pytest.raises(InputError, match=r"does not see '.*gone.mp4'"):
            check_shared(folder, [Here(settings)], [job_of("a", tmp_path / "gone.mp4")])


# All of it


def test_a_batch_makes_what_single_runs_make_reports_what_is_wrong_and_makes_nothing_twice(tmp_path, clips, capsys):
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(Path(clips[0]).read_bytes()[:3000])
    jobs = write_lines(
        tmp_path / "jobs.jsonl", {"id": "one", "video": clips[0], "prompt": "a cube"},
        {"video": "broken.mp4", "prompt": "a cube"}, {"id": "two", "video": clips[1], "prompt": "a <cone>", "seed": 2},
    )  # fmt: skip
    out = tmp_path / "out"
    command = ["batch", jobs, "--output", str(out), *SMALL, "--json"]
    assert cli.main([*command, "--strict"]) == 1
    assert "because of --strict" in capsys.readouterr().err
    assert cli.main(command) == 1
    report = json.loads(capsys.readouterr().out)
    assert (report["done"], report["refused"], report["failed"]) == (2, 1, 0)
    assert set(report["wrong"]) == {"broken"}
    for name, clip, prompt, seed in (("one", clips[0], "a cube", "1"), ("two", clips[1], "a <cone>", "2")):
        single = tmp_path / "single" / f"{name}.mp4"
        arguments = ["run", "--video", clip, "--prompt", prompt, *SMALL, "--seed", seed, "--output", str(single)]
        assert cli.main(arguments) == 0
        for kind in ("", "-framewise", "-control"):
            assert (out / f"{name}{kind}.mp4").read_bytes() == single.with_stem(f"{name}{kind}").read_bytes()
    page, scores = (out / "index.html").read_text("utf-8"), (out / "scores.csv").read_text("utf-8").splitlines()
    assert 'src="one.mp4"' in page
    assert "a &lt;cone&gt;" in page
    assert "<cone>" not in page
    assert [row.split(",")[:2] for row in scores[1:]] == [["one", "done"], ["broken", "refused"], ["two", "done"]]
    lines = results_in(out)
    assert {line["id"]: line["status"] for line in lines} == {"broken": "refused", "one": "done", "two": "done"}
    assert all(
        line["seconds"] > 0 and line["memory"] > 0 and line["host"] for line in lines if line["status"] == "done"
    )

    before = {path: path.stat().st_mtime_ns for path in out.glob("*.mp4")}
    capsys.readouterr()
    assert cli.main(command) == 1
    assert json.loads(capsys.readouterr().out)["done_before"] == 2
    assert {path: path.stat().st_mtime_ns for path in out.glob("*.mp4")} == before
    assert results_in(out) == lines


def test_lines_that_are_wrong_in_any_way_stop_no_other(tmp_path, clips, capsys):
    jobs = write_lines(
        tmp_path / "jobs.jsonl", *[line for line, _ in WRONG.values()],
        {"id": "good", "video": clips[0], "prompt": "a cube"},
    )  # fmt: skip
    for before in (0, 1):  # the second call reads what the first has noted
        assert cli.main(["batch", jobs, "--output", str(tmp_path / "out"), *SMALL, "--json"]) == 1
        report = json.loads(capsys.readouterr().out)
        assert (report["done"], report["done_before"], report["refused"]) == (1 - before, before, len(WRONG))
    assert cli.main(["batch", jobs, "--output", str(tmp_path / "out"), *SMALL]) == 1
    capsys.readouterr().out.encode()


def test_a_changed_line_is_made_beside_what_was_made_and_a_failed_job_only_if_asked(
    tmp_path, clips, capsys, monkeypatch
):
    jobs = tmp_path / "jobs.jsonl"
    command = ["batch", str(jobs), "--output", str(tmp_path / "out"), *SMALL, "--json"]

    def done(line, *flags):
        write_lines(jobs, line)
        cli.main([*command, *flags])
        return json.loads(capsys.readouterr().out)

    line = {"id": "a", "video": clips[0], "prompt": "a cube"}
    with monkeypatch.context() as broken:
        broken.setattr("bivdiff.studio.outputs.write_mp4", fails)
        broken.setitem(sys.modules["bivdiff.studio.outputs"].WRITERS, ".mp4", fails)
        assert done(line)["failed"] == 1
    assert done(line)["failed"] == 1
    assert done(line, "--retry-failed")["done"] == 1
    assert done({**line, "seed": 9})["done"] == 1
    assert done(line)["done_before"] == 1
    assert {path.name for path in (tmp_path / "out").glob("a*.mp4") if path.stem in {"a", "a-2"}} == {
        "a.mp4",
        "a-2.mp4",
    }


def fails(*_):
    raise InputError("There is no space left on the disk.")


def test_jobs_that_would_write_over_an_input_or_each_other_are_refused(tmp_path, clips, capsys):
    source = tmp_path / "one-framewise.mp4"
    source.write_bytes(Path(clips[0]).read_bytes())
    jobs = write_lines(
        tmp_path / "jobs.jsonl", {"id": "one", "video": str(source), "prompt": "x"},
        {"id": "two", "video": clips[0], "prompt": "x", "output": "three.mp4"},
        {"id": "three", "video": clips[0], "prompt": "x"},
    )  # fmt: skip
    assert cli.main(["batch", jobs, "--output", str(tmp_path), *SMALL, "--json"]) == 1
    wrong = json.loads(capsys.readouterr().out)["wrong"]
    assert "is an input of the batch" in wrong["one"]
    assert "as 'two' does" in wrong["three"]
    assert source.read_bytes() == Path(clips[0]).read_bytes()


def test_outputs_where_nothing_can_be_written_are_refused_before_anything_runs(tmp_path, clips, capsys):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.mp4").touch()
    outputs = {
        "file": "a.mp4", "below": "a.mp4/b.mp4", "above": "c.mp4/sub/d.mp4", "over": "c.mp4", "mine": "mine.mp4/a.mp4",
        "long": f"{'n' * 300}.mp4", "maps": f"{'n' * 245}.mp4",
    }  # fmt: skip
    lines = [{"id": name, "video": clips[0], "prompt": "x", "output": output} for name, output in outputs.items()]
    jobs = write_lines(tmp_path / "jobs.jsonl", *lines)
    assert cli.main(["batch", jobs, "--output", str(tmp_path / "out"), *SMALL, "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert "below 'a.mp4', which is a file of 'file'" in report["wrong"].pop("below")
    assert "'c.mp4', below which 'above' writes" in report["wrong"].pop("over")
    assert "could not be made" in report["wrong"].pop("mine")
    for name in ("long", "maps"):
        assert "No file can be named" in report["wrong"].pop(name)
    assert report["wrong"] == {}
    assert report["done"] == 2


def test_flags_that_do_not_go_together_are_told(tmp_path, capsys):
    jobs = write_lines(tmp_path / "jobs.jsonl", {"video": "a.mp4", "prompt": "x"})
    for flags, told in ((["--workers", "0"], "at least 1"), (["--address", "auto"], "--executor ray"),
                        (["--vary", "seed=1"], "goes with --videos")):  # fmt: skip
        assert cli.main(["batch", jobs, "--output", str(tmp_path / "out"), *flags]) == 1
        assert told in capsys.readouterr().err


def test_a_batch_that_is_killed_goes_on_where_it_was(tmp_path, clips, capsys):
    lines = [{"id": f"job {number}", "video": clips[0], "prompt": "a cube", "seed": number} for number in range(4)]
    jobs = write_lines(tmp_path / "jobs.jsonl", *lines)
    out = tmp_path / "out"
    command = ["batch", jobs, "--output", str(out), *SMALL, "--json"]
    with subprocess.Popen(
        [sys.executable, "-m", "bivdiff", *command], cwd=ROOT, text=True,
        stderr=subprocess.PIPE, stdout=subprocess.DEVNULL,
    ) as driver:  # fmt: skip
        assert any(line.startswith("job 1: done") for line in driver.stderr)
        driver.kill()
    finished = {line["id"]: line for line in results_in(out)}
    assert set(finished) >= {"job 0", "job 1"}
    times = {name: (out / f"{name}.mp4").stat().st_mtime_ns for name in finished}
    assert cli.main(command) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["done_before"] >= len(finished)
    assert report["done"] + report["done_before"] == len(lines)
    assert [line["id"] for line in results_in(out)] == [line["id"] for line in lines]
    assert {name: (out / f"{name}.mp4").stat().st_mtime_ns for name in finished} == times
    assert not (out / ".work").exists()
