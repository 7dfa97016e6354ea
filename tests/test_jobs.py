"""The queue: one job at a time, in its order, each seen by its owner alone, however it ends."""

from __future__ import annotations

import threading
import time
from contextvars import ContextVar

import pytest

from bivdiff.errors import CancelledError, InputError
from bivdiff.studio.jobs import Jobs

PATIENCE = 20
SPEAKER: ContextVar[str] = ContextVar("SPEAKER", default="nobody")


class Board:
    """Notes what it is told."""

    def __init__(self):
        self.taken, self.ends, self.ended = [], [], threading.Event()
        self.whole_after, self.taking, self.left = None, lambda: None, None

    def take(self, update):
        self.taking()
        self.taken.append(update)
        return len(self.taken) == self.whole_after

    def remaining(self):
        return self.left

    def end(self, state, error):
        self.ends.append((state, error))
        self.ended.set()


class Work:
    """A job that does one step whenever it is let, and notes when it is closed."""

    def __init__(self, steps=3, error=None):
        self.steps, self.error, self.closed, self.begun = steps, error, threading.Event(), threading.Event()
        self.go = threading.Semaphore(0)

    def __call__(self):
        self.begun.set()
        try:
            for number in range(self.steps):
                assert self.go.acquire(timeout=PATIENCE)
                yield number
            if self.error:
                raise self.error
        finally:
            self.closed.set()

    def finish(self):
        self.go.release(self.steps)


@pytest.fixture
def device():
    return threading.Lock()


@pytest.fixture
def jobs(device):
    return Jobs(device, most=3, most_of_one=2, kept=2)


def give(jobs, work, owner="ada", place="control"):
    return jobs.submit(work, Board(), owner=owner, place=place, title="a red cube")


def wait_for(job):
    assert job.board.ended.wait(PATIENCE)
    for _ in range(100 * PATIENCE):  # the board is told first
        if not job.waits:
            return job
        time.sleep(0.01)
    raise AssertionError("the job does not end")


def test_a_job_runs_to_its_end_and_its_board_is_told_everything(jobs, device):
    work = Work()
    job = give(jobs, work)
    assert work.begun.wait(PATIENCE)
    assert job.state == "running"
    assert device.locked()
    work.finish()
    wait_for(job)
    assert job.board.taken == [0, 1, 2]
    assert job.board.ends == [("done", None)]
    with device:  # it is given back
        assert job.ended >= job.began >= job.created


def test_whoever_sees_that_a_job_has_ended_finds_its_board_ended_too(jobs):
    work, seen = Work(), []
    job = give(jobs, work)
    job.board.end = lambda *_: (seen.append(job.state), job.board.ended.set())
    work.finish()
    assert wait_for(job).state == "done"
    assert seen == ["running"]


def test_jobs_run_one_after_the_other_in_their_order(jobs):
    first, second = Work(), Work()
    jobs_given = [give(jobs, first), give(jobs, second)]
    assert first.begun.wait(PATIENCE)
    assert not second.begun.is_set()
    assert [jobs.before(job) for job in jobs_given] == [0, 1]
    first.finish()
    assert second.begun.wait(PATIENCE)
    assert first.closed.is_set()
    second.finish()
    wait_for(jobs_given[1])


def test_cancelling_stops_a_running_job_before_its_next_step_and_lets_the_next_go_on(jobs):
    first, second = Work(steps=50), Work()
    running, waiting = give(jobs, first), give(jobs, second)
    assert first.begun.wait(PATIENCE)
    jobs.cancel(running)
    first.go.release(1)
    wait_for(running)
    assert running.board.ends == [("cancelled", None)]
    assert running.board.taken == [0]
    assert first.closed.is_set()
    second.finish()
    assert wait_for(waiting).state == "done"
    jobs.cancel(waiting)  # too late, and harmless
    assert waiting.state == "done"


def test_a_job_that_is_cancelled_while_its_result_is_kept_is_done(jobs):
    work = Work(steps=2)
    job = give(jobs, work)
    job.board.whole_after = 2
    job.board.taking = lambda: jobs.cancel(job) if job.board.taken else None
    work.finish()
    assert wait_for(job).state == "done"
    assert job.board.ends == [("done", None)]


def test_others_can_look_while_a_board_writes_what_it_keeps(jobs):
    first = Work(steps=1)
    job = give(jobs, first)
    writing, looked = threading.Event(), threading.Event()
    noted = job.board.end

    def slow(state, error):
        writing.set()
        assert looked.wait(PATIENCE)
        noted(state, error)

    job.board.end = slow
    first.finish()
    assert writing.wait(PATIENCE)
    assert jobs.of(job.owner) == [job]
    assert job.state == "running"
    looked.set()
    assert wait_for(job).state == "done"


def test_a_waiting_job_that_is_cancelled_never_begins(jobs):
    first, second = Work(), Work()
    running, waiting = give(jobs, first), give(jobs, second)
    assert first.begun.wait(PATIENCE)
    jobs.cancel(waiting)
    assert waiting.board.ends == [("cancelled", None)]
    first.finish()
    wait_for(running)
    assert not second.begun.is_set()


@pytest.mark.parametrize(
    ("error", "state"),
    [(InputError("No."), "failed"), (RuntimeError("?"), "failed"), (CancelledError("."), "cancelled")],
)
def test_an_error_ends_its_job_and_no_other(jobs, error, state):
    failing, fine = Work(error=error), Work()
    one, other = give(jobs, failing), give(jobs, fine)
    failing.finish()
    fine.finish()
    wait_for(other)
    assert one.board.ends == [(state, error if state == "failed" else None)]
    assert other.board.ends == [("done", None)]


@pytest.mark.parametrize("broken", ["take", "end"])
def test_a_board_that_breaks_spoils_no_other_job(jobs, broken):
    def refuse(*given):
        breaking.set()
        raise ValueError(given)

    breaking, held, work = threading.Event(), Work(), Work()
    give(jobs, held)
    setattr(give(jobs, lambda: iter([1])).board, broken, refuse)
    held.finish()
    assert breaking.wait(PATIENCE)
    after = give(jobs, work, "bob")
    work.finish()
    assert wait_for(after).state == "done"


def test_too_many_jobs_are_refused_with_a_sentence(jobs):
    works = [Work() for _ in range(4)]
    give(jobs, works[0], "ada")
    assert works[0].begun.wait(PATIENCE)
    give(jobs, works[1], "ada")
    with pytest.raises(InputError, match="You have 2 jobs"):
        give(jobs, works[2], "ada")
    waiting = [give(jobs, Work(), owner) for owner in ("bob", "cyd")]
    with pytest.raises(InputError, match="3 jobs wait already"):
        give(jobs, works[3], "dan")
    jobs.cancel(waiting[0])
    assert give(jobs, works[3], "dan").state == "queued"


def test_nobody_sees_the_jobs_of_another(jobs):
    work = Work()
    mine = give(jobs, work, "ada")
    assert jobs.of("ada") == [mine]
    assert jobs.of("ada", "edit") == []
    assert jobs.of("bob") == []
    assert jobs.get(mine.id, "ada") is mine
    with pytest.raises(InputError, match="no such job"):
        jobs.get(mine.id, "bob")
    work.finish()
    wait_for(mine)


def test_only_ones_own_jobs_change_places(jobs):
    works = [Work() for _ in range(5)]
    jobs = Jobs(threading.Lock(), most=9, most_of_one=9)
    running = give(jobs, works[0], "ada")
    assert works[0].begun.wait(PATIENCE)
    one, foreign, two = give(jobs, works[1], "ada"), give(jobs, works[2], "bob"), give(jobs, works[3], "ada")
    jobs.move(two, -1)
    assert jobs.of("ada") == [running, two, one]
    assert jobs.before(foreign) == 2  # where it was
    jobs.move(two, -1)  # it is the first of its owner's already
    jobs.move(one, 1)
    assert jobs.of("ada") == [running, two, one]


def test_ended_jobs_are_kept_for_a_while_the_last_first(jobs):
    ended = []
    for _ in range(3):
        work = Work()
        ended.append(give(jobs, work))
        work.finish()
        wait_for(ended[-1])
    assert jobs.of("ada") == [ended[2], ended[1]]


def test_the_start_is_foretold_from_how_long_others_took():
    now = [0.0]
    jobs = Jobs(threading.Lock(), clock=lambda: now[0])
    work = Work()
    first = give(jobs, work)
    assert work.begun.wait(PATIENCE)
    now[0] = 8.0
    work.finish()
    wait_for(first)
    running, waiting = Work(), Work()
    give(jobs, running)
    assert running.begun.wait(PATIENCE)
    last = give(jobs, waiting)
    assert jobs.starts_in(last) == 8.0
    now[0] = 11.0
    assert jobs.starts_in(last) == 5.0
    jobs.of("ada")[0].board.left = 40.0  # as soon as the running one can tell, it does
    assert jobs.starts_in(last) == 40.0
    running.finish()
    waiting.finish()
    wait_for(last)


def test_a_job_works_in_the_context_of_who_asked_for_it(jobs):
    heard = []

    def work():
        heard.append(SPEAKER.get())
        yield 1

    SPEAKER.set("ada")
    job = give(jobs, work)
    SPEAKER.set("nobody")
    wait_for(job)
    assert heard == ["ada"]


def test_whoever_waits_is_woken_by_a_change(jobs):
    seen = jobs.wait(-1, 0)
    assert jobs.wait(seen, 0.01) == seen
    work = Work()
    job = give(jobs, work)
    assert jobs.wait(seen, PATIENCE) != seen
    work.finish()
    wait_for(job)


def test_what_would_end_the_thread_ends_its_job_alone(jobs):
    def work():
        yield 1
        raise SystemExit(3)

    failed = wait_for(give(jobs, work))
    (state, error), *_ = failed.board.ends
    assert (state, str(error)) == ("failed", "The job was ended by SystemExit: 3")
    after = Work()
    after.finish()
    assert wait_for(give(jobs, after)).state == "done"


def test_of_strangers_who_are_new_each_time_the_last_jobs_stay(device):
    jobs = Jobs(device, kept_in_all=3)
    ended = []
    for number in range(5):
        work = Work()
        work.finish()
        ended.append(wait_for(give(jobs, work, owner=f"stranger {number}")))
    assert [bool(jobs.of(job.owner)) for job in ended] == [False, False, True, True, True]
