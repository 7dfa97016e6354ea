"""Several workers behind the page's queue: real processes with real models, each with a run of its own."""

from __future__ import annotations

import multiprocessing
import threading
from dataclasses import replace

import numpy as np
import psutil
import pytest
import small_work
from patience import PATIENCE

from bivdiff.bridge.pipeline import last, run
from bivdiff.catalog.components import components_of
from bivdiff.errors import InputError
from bivdiff.settings import Settings
from bivdiff.studio.crew import Crew
from bivdiff.types import GenerationResult, StepEvent
from bivdiff.workers import processes
from bivdiff.workers.crew import parse_workers
from bivdiff.workers.worker import WorkerLostError
from tabs.context import AppContext

OWNER = "ada-ada-ada-ada-ada"


class Named:
    """A worker that only has a name."""

    def __init__(self, name):
        self.name = name


def test_a_run_goes_to_the_worker_that_had_its_models_or_to_the_longest_free():
    one, two = Named("one"), Named("two")
    crew = Crew([one, two])
    with crew.lent("a") as first, crew.lent("b") as second:
        assert (first, second) == (one, two)
    with crew.lent("a") as found:
        assert found is one
    with crew.lent("c") as found:
        assert found is two


def test_who_comes_when_all_are_lent_waits():
    crew, got = Crew([Named("one")]), threading.Event()

    def wait():
        with crew.lent("a"):
            got.set()

    with crew.lent("a"):
        waiting = threading.Thread(target=wait)
        waiting.start()
        assert not got.is_set()
    assert got.wait(PATIENCE)
    waiting.join(PATIENCE)


def test_a_worker_that_is_lost_is_missing_in_what_the_others_say():
    crew = Crew(processes.process_workers(2, Settings(device="cpu")))
    try:
        assert crew.ask(small_work.process, only_up=True) == []
        (lone,) = crew.made("a", small_work.process)
        assert crew.ask(small_work.process, only_up=True) == [lone]
        both = crew.ask(small_work.process)
        psutil.Process(lone).kill()
        assert [crew.ask(small_work.process, only_up=True) for _ in range(2)] == [[both[1]], [both[1]]]
        assert crew.ask(small_work.process)[1:] == both[1:]  # the other has a new process
    finally:
        crew.close()


@pytest.mark.parametrize(("text", "read"), [
    ("1", ("local", 1)), (" 4 ", ("local", 4)), ("ray", ("ray", None)), ("RAY:3", ("ray", 3)),
])  # fmt: skip
def test_how_many_is_read(text, read):
    assert parse_workers(text) == read


@pytest.mark.parametrize("text", ["", "0", "-1", "two", "ray:", "ray:0", "ray4", "local"])
def test_what_is_no_number_of_workers_is_told(text):
    with pytest.raises(InputError, match=r"BIVDIFF_WORKERS. Use a number, 'ray', or 'ray:4'"):
        parse_workers(text)


@pytest.fixture(scope="module")
def context(settings: Settings, tmp_path_factory):
    made = AppContext.from_settings(
        replace(settings, workers="2", own_models="yes", history_folder=tmp_path_factory.mktemp("history"))
    )
    yield made
    made.models._crew.close()


class Watching:
    """A board that keeps what it is told, and holds at the first step of the image model until it is let go on."""

    def __init__(self, holds=None):
        self.result, self.events, self.end_state, self.error, self.ended = None, [], "", None, threading.Event()
        self.reached, self._holds = threading.Event(), holds

    def take(self, update):
        self.events.append(update)
        if isinstance(update, StepEvent) and update.stage == "framewise":
            self.reached.set()
            assert self._holds is None or self._holds.wait(PATIENCE)
        self.result = update if isinstance(update, GenerationResult) else self.result
        return self.result is not None

    def remaining(self):
        return None

    def write(self, state, error):
        pass

    def end(self, state, error):
        self.end_state, self.error = state, error
        self.ended.set()


def submit(context, request, board):
    job = context.jobs.submit(
        lambda: board, lambda _: context.run(request, False), owner=OWNER, place="control", title=""
    )
    assert job.board is board
    return job


def test_a_page_is_built_without_starting_a_worker(context):
    assert {entry.state for entry in context.models.inventory("toybox")} == {"on disk"}
    assert context.models.memory() == ""
    assert not multiprocessing.active_children()


def test_two_runs_are_made_at_once_with_the_bits_of_one_process(context, request_of, manager):
    both, requests = threading.Event(), [request_of(seed=1), request_of(seed=2)]
    boards = [Watching(both), Watching(both)]
    for request, board in zip(requests, boards, strict=True):
        submit(context, request, board)
    assert all(board.reached.wait(PATIENCE) for board in boards)  # neither goes on before the other has come as far
    both.set()
    for request, board in zip(requests, boards, strict=True):
        assert board.ended.wait(PATIENCE)
        alone = last(run(request, manager))
        assert np.array_equal(board.result.frames, alone.frames)
        assert any(event.preview is not None for event in board.events if isinstance(event, StepEvent))
    assert context.models.readout().device == "2 x cpu"
    assert set(context.models.readout().loaded) == {spec.key for spec in components_of(requests[0]).every}
    assert context.expected(requests[0]).startswith("This takes")
    assert context.expected_seconds(requests[0], 80) > context.expected_seconds(requests[0], 8) > 0
    assert context.control_maps(requests[0])[0].shape == requests[0].frames.shape


def test_a_cancelled_run_ends_and_a_lost_worker_fails_its_run_alone(context, request_of):
    go, board = threading.Event(), Watching()
    board._holds = go
    job = submit(context, request_of(seed=3), board)
    assert board.reached.wait(PATIENCE)
    context.jobs.cancel(job)
    go.set()
    assert board.ended.wait(PATIENCE)
    assert board.end_state == "cancelled"

    go, board = threading.Event(), Watching()
    board._holds = go
    submit(context, request_of(seed=4), board)
    assert board.reached.wait(PATIENCE)
    for worker in multiprocessing.active_children():
        worker.kill()
        worker.join(PATIENCE)
    go.set()
    assert board.ended.wait(PATIENCE)
    assert board.end_state in {"failed", "done"}  # the events that had come by then may have been all
    if board.end_state == "failed":
        assert isinstance(board.error, WorkerLostError)

    board = Watching()
    submit(context, request_of(seed=5), board)
    assert board.ended.wait(PATIENCE)
    assert (board.end_state, board.error) == ("done", None)


def test_models_are_loaded_and_unloaded_in_every_worker(context):
    toybox = [entry.key for entry in context.models.inventory("toybox")]
    context.models.load(toybox[0])
    states = {entry.key: entry.state for entry in context.models.inventory("toybox")}
    assert states[toybox[0]] == "on device"
    context.models.unload()
    assert {entry.state for entry in context.models.inventory("toybox")} == {"on disk"}
    assert "of the machine's memory in use" in context.models.memory()
