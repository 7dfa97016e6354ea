"""Workers: work in another process comes as if it were done here, and one that is lost has a new process."""

from __future__ import annotations

import json
import sys
import threading
from contextlib import closing
from itertools import islice
from multiprocessing.connection import wait

import psutil
import pytest
import small_work
from patience import PATIENCE

from bivdiff.cli import main as cli
from bivdiff.errors import InputError, ModelUnavailableError
from bivdiff.models import memory
from bivdiff.settings import Settings
from bivdiff.toybox.clips import load_index
from bivdiff.types import StepEvent
from bivdiff.workers import processes, rayed
from bivdiff.workers.crew import workers_of
from bivdiff.workers.worker import Here, WorkerLostError

NO_RAY = "Ray is not installed: pip install -r requirements-ray.txt brings it."


@pytest.fixture(scope="module")
def cluster():
    """A Ray cluster of four processor cores, on this machine, whatever it has."""
    ray = pytest.importorskip("ray", reason=NO_RAY)
    ray.cloudpickle.register_pickle_by_value(small_work)
    patience = pytest.MonkeyPatch()
    patience.setattr(rayed, "START_SECONDS", 3000.0)  # a busy machine takes minutes to start a process
    yield rayed.join_cluster("local", num_cpus=4, include_dashboard=False)
    patience.undo()
    ray.shutdown()


@pytest.fixture(scope="module", params=["here", "process", "ray"])
def worker(request):
    settings = Settings(device="cpu")
    if request.param == "here":
        made = Here(settings)
    elif request.param == "process":
        made = processes.process_workers(2, settings)[0]
    else:
        request.getfixturevalue("cluster")
        (made,) = rayed.ray_workers(1, settings)
    with closing(made):
        yield made


def test_what_work_yields_comes_in_its_order(worker):
    assert list(worker.start(small_work.counting, 3)) == [0, 1, 2]
    assert list(worker.start(small_work.counting, 0)) == []


def test_closing_stops_work_before_its_next_step_and_waits_for_its_end(worker, tmp_path):
    events = worker.start(small_work.holding, tmp_path)
    assert list(islice(events, 2)) == [0, 0]
    events.close()
    assert (tmp_path / "ended").exists()


def test_small_things_are_answered_while_it_works(worker, tmp_path):
    with closing(worker.start(small_work.holding, tmp_path)) as events:
        next(events)
        assert list(worker.start(small_work.counting, 2)) == [0, 1]
        next(events)


def test_a_refusal_comes_as_it_is(worker):
    events = worker.start(small_work.refusing)
    assert next(events) == 0
    with pytest.raises(InputError, match="The clip is too long"):
        next(events)


def test_an_error_that_nobody_foresaw_is_named(worker):
    with pytest.raises((RuntimeError, ZeroDivisionError), match="by nothing"):
        list(worker.start(small_work.breaking))


def test_what_cannot_be_sent_is_told_and_the_worker_goes_on(worker):
    if not isinstance(worker, Here):
        with pytest.raises(RuntimeError, match="pickle"):
            list(worker.start(small_work.unsendable))
    assert list(worker.start(small_work.counting, 1)) == [0]


def test_a_worker_that_was_lost_says_so_and_has_a_new_process(worker):
    if isinstance(worker, Here):
        pytest.skip("It is the process of this test.")
    before = list(worker.start(small_work.process))
    assert list(worker.start(small_work.process)) == before
    with pytest.raises(WorkerLostError, match="ended while it worked"):
        list(worker.start(small_work.dying))
    assert list(worker.start(small_work.process)) != before


@pytest.mark.usefixtures("cluster")
def test_there_are_as_many_as_are_asked_for_or_a_sentence(monkeypatch):
    settings = Settings(device="cpu")
    assert isinstance(workers_of("local", None, settings)[0], Here)
    assert len(workers_of("local", 3, settings)) == 3
    with pytest.raises(InputError, match="the cluster has 4 processor cores"):
        workers_of("ray", 5, settings)
    with pytest.raises(InputError, match="cannot share the device 'cuda:1'"):
        workers_of("local", 2, Settings(device="cuda:1"))
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    with pytest.raises(InputError, match="this machine has 2"):
        workers_of("local", 3, Settings())
    each = processes.process_workers(2, Settings())
    assert [worker._environment for worker in each] == [{"CUDA_VISIBLE_DEVICES": "3"}, {"CUDA_VISIBLE_DEVICES": "5"}]
    assert int(each[0]._settings.host_memory) <= psutil.virtual_memory().total * memory.HOST_SHARE / 2


def test_a_cluster_that_is_not_there_is_told(monkeypatch):
    ray = pytest.importorskip("ray", reason=NO_RAY)

    def init(**_):
        raise ConnectionError("Could not find any running Ray instance.")

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    monkeypatch.setattr(ray, "init", init)
    with pytest.raises(InputError, match=r"at 'auto' could not be joined: Could not find .* `ray start --head`"):
        workers_of("ray", 2, Settings(), "auto")


def test_without_ray_a_sentence_says_what_to_do(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ModelUnavailableError, match=r"requirements-ray.txt"):
        workers_of("ray", 2, Settings())


def test_actors_of_another_version_are_refused():
    with pytest.raises(InputError, match="Use one version"):
        rayed.ServingActor(Settings(device="cpu"), "0.0.1")


def test_a_worker_whose_end_nobody_was_told_of_yet_has_a_new_process_for_the_next_work():
    (worker,) = processes.process_workers(1, Settings(device="cpu"))
    with closing(worker):
        (first,) = worker.start(small_work.process)
        with worker._line._lock:  # what tells of an end wants it, and waits
            psutil.Process(first).kill()
            assert wait([worker._line._process.sentinel], PATIENCE)
            assert not worker.is_up
            work = worker.start(small_work.process)
        (second,) = work
        assert second != first


def is_at_work(process):
    """Whether it is an actor that makes a clip; a process that ended meanwhile is not."""
    try:
        return any("ServingActor.answer" in word for word in process.cmdline())
    except psutil.NoSuchProcess:  # a zombie too
        return False


@pytest.mark.timeout(600)  # a cluster on a busy machine takes minutes to start its processes
@pytest.mark.usefixtures("cluster")
def test_a_batch_on_a_cluster_loses_a_worker_and_nothing_else(monkeypatch, toybox_folder, tmp_path, capsys):
    monkeypatch.setenv("BIVDIFF_TOYBOX_FOLDER", str(toybox_folder))
    monkeypatch.setenv("BIVDIFF_DEVICE", "cpu")
    killed, one_at_a_time = [], threading.Lock()  # both jobs' events come here

    def kill_one(told, event):
        if isinstance(event, StepEvent) and event.stage == "framewise":
            with one_at_a_time:
                if not killed:
                    actor = next(filter(is_at_work, psutil.Process().children(recursive=True)))
                    actor.kill()
                    killed.append(actor.pid)
        tell(told, event)

    from bivdiff.cli import batch

    tell = batch._Told.__call__
    monkeypatch.setattr(batch._Told, "__call__", kill_one)
    jobs, clip = tmp_path / "jobs.jsonl", str(load_index()[0].file)
    small = {"num_frames": 2, "size": "64x64", **dict.fromkeys(
        ("num_inference_steps", "num_inversion_steps", "num_smoothing_steps"), 2
    )}  # fmt: skip
    jobs.write_text("".join(
        f'{json.dumps({"id": str(number), "video": clip, "prompt": "a cube", "seed": number, **small})}\n'
        for number in range(3)
    ), "utf-8")  # fmt: skip
    made = {}
    for executor in ("ray", "local"):
        monkeypatch.setenv("BIVDIFF_CACHE_FOLDER", str(tmp_path / f"stages of {executor}"))
        flags = ["--workers", "2"] if executor == "ray" else []
        out = tmp_path / executor
        assert cli.main(["batch", str(jobs), "--output", str(out), "--executor", executor, *flags, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["done"] == 3
        made[executor] = {path.name: path.read_bytes() for path in out.glob("*.mp4")}
    assert killed
    assert len(made["ray"]) == 9
    assert made["ray"] == made["local"]
