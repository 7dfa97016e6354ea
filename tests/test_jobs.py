"""The queue: one job at a time, in its order, each seen by its owner alone, however it ends."""

from __future__ import annotations

import threading
from contextvars import ContextVar
from functools import partial

import pytest
from patience import PATIENCE, until_ended, until_in

from bivdiff.errors import CancelledError, InputError
from bivdiff.studio.jobs import GAVE_WAY, MOST_WRITING, Jobs

SPEAKER: ContextVar[str] = ContextVar("SPEAKER", default="nobody")


class Board:
    """Notes what it is told."""

    def __init__(self):
        self.taken, self.writes, self.ends = [], [], []
        self.result_after, self.taking, self.writing, self.left = None, lambda: None, lambda: None, None

    def take(self, update):
        self.taking()
        self.taken.append(update)
        return len(self.taken) == self.result_after

    def remaining(self):
        return self.left

    def write(self, state, error):
        self.writing()
        self.writes.append((state, error))

    def end(self, state, error):
        self.ends.append((state, error))


class Gate:
    """Holds whoever comes to it until it is opened."""

    def __init__(self):
        self.reached, self._open = threading.Event(), threading.Event()

    def __call__(self):
        self.reached.set()
        assert self._open.wait(PATIENCE)

    def open(self):
        self._open.set()


class Work:
    """A job that does one step whenever it is let, and notes when it is closed."""

    def __init__(self, steps=3, error=None):
        self.steps, self.error, self.closed, self.begun = steps, error, threading.Event(), threading.Event()
        self.go = threading.Semaphore(0)

    def __call__(self, _board):
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
    return jobs.submit(Board, work, owner=owner, place=place, title="a red cube")


def test_a_job_runs_to_its_end_and_its_board_is_told_everything(jobs, device):
    work = Work()
    job = give(jobs, work)
    assert work.begun.wait(PATIENCE)
    assert job.state == "running"
    assert device.locked()
    work.finish()
    until_ended(jobs, job)
    assert job.board.taken == [0, 1, 2]
    assert job.board.ends == [("done", None)]
    with device:  # it is given back
        assert job.ended >= job.began >= job.created


def test_whoever_sees_that_a_job_has_ended_finds_its_board_ended_too(jobs):
    work, seen = Work(), []
    job = give(jobs, work)
    job.board.end = lambda *_: seen.append(job.state)
    work.finish()
    assert until_ended(jobs, job).state == "done"
    assert seen == ["writing"]


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
    until_ended(jobs, jobs_given[1])


def test_cancelling_stops_a_running_job_before_its_next_step_and_lets_the_next_go_on(jobs):
    first, second = Work(steps=50), Work()
    running, waiting = give(jobs, first), give(jobs, second)
    assert first.begun.wait(PATIENCE)
    jobs.cancel(running)
    first.go.release(1)
    until_ended(jobs, running)
    assert running.board.ends == [("cancelled", None)]
    assert running.board.taken == [0]
    assert first.closed.is_set()
    second.finish()
    assert until_ended(jobs, waiting).state == "done"
    jobs.cancel(waiting)  # too late, and harmless
    assert waiting.state == "done"


def test_a_job_that_is_cancelled_while_its_result_is_kept_is_done(jobs):
    work = Work(steps=2)
    job = give(jobs, work)
    job.board.result_after = 2
    job.board.taking = lambda: jobs.cancel(job) if job.board.taken else None
    work.finish()
    assert until_ended(jobs, job).state == "done"
    assert job.board.ends == [("done", None)]


def test_others_can_look_while_a_board_writes_what_it_keeps(jobs):
    first = Work(steps=1)
    job = give(jobs, first)
    job.board.writing = Gate()
    first.finish()
    assert job.board.writing.reached.wait(PATIENCE)
    assert jobs.of(job.owner) == [job]
    assert job.state == "writing"
    job.board.writing.open()
    assert until_ended(jobs, job).state == "done"


def test_the_next_job_has_the_device_while_the_files_of_the_last_are_written(jobs, device):
    first, second = Work(), Work()
    made, after = give(jobs, first), give(jobs, second)
    made.board.result_after, made.board.writing = 3, Gate()
    first.finish()
    assert made.board.writing.reached.wait(PATIENCE)
    assert first.closed.is_set()
    assert second.begun.wait(PATIENCE)
    assert (made.state, after.state) == ("writing", "running")
    assert device.locked()
    second.finish()
    made.board.writing.open()
    assert until_ended(jobs, after).state == "done"
    assert jobs.of("ada") == [after, made]


def test_others_may_take_the_device_while_files_are_written(jobs, device):
    work = Work()
    job = give(jobs, work)
    job.board.writing = Gate()
    work.finish()
    assert job.board.writing.reached.wait(PATIENCE)
    assert device.acquire(blocking=False)
    device.release()
    job.board.writing.open()
    until_ended(jobs, job)


def test_the_device_waits_where_too_many_results_are_not_written_yet(device):
    jobs = Jobs(device)
    works = [Work() for _ in range(MOST_WRITING + 1)]
    given = [give(jobs, work) for work in works]
    gate = given[0].board.writing = Gate()
    for work in works:
        work.finish()
    until_in(jobs, lambda: [job.state for job in given] == [*["writing"] * MOST_WRITING, "queued"])
    gate.open()
    assert until_ended(jobs, given[-1]).state == "done"


def test_files_are_written_in_the_order_in_which_jobs_ran_however_these_ended(jobs):
    works = [Work(), Work(error=InputError("No.")), Work()]
    given, written = [give(jobs, work, owner) for work, owner in zip(works, "abc", strict=True)], []
    for number, job in enumerate(given):
        job.board.writing = partial(written.append, number)
    for work in reversed(works):
        work.finish()
    until_ended(jobs, given[-1])
    assert written == [0, 1, 2]
    assert [job.state for job in given] == ["done", "failed", "done"]


def test_a_full_disk_fails_the_job_whose_files_it_cannot_hold_and_no_other(jobs):
    def full():
        raise OSError(28, "No space left on device")

    first, second = Work(), Work()
    failing, fine = give(jobs, first), give(jobs, second)
    failing.board.writing = full
    first.finish()
    second.finish()
    assert until_ended(jobs, fine).state == "done"
    ((state, error),) = failing.board.ends
    assert failing.state == state == "failed"
    assert "No space left" in str(error)


def test_a_job_is_read_beyond_its_result(jobs):
    work = Work(steps=3)
    job = give(jobs, work)
    job.board.result_after = 2  # what comes then is a lent card's pace, say
    work.finish()
    assert until_ended(jobs, job).state == "done"
    assert job.board.taken == [0, 1, 2]


@pytest.mark.parametrize("error", [RuntimeError("?"), CancelledError(".")])
def test_what_fails_after_the_result_does_not_take_it_away(jobs, error):
    work = Work(steps=2, error=error)
    job = give(jobs, work)
    job.board.result_after = 2
    work.finish()
    assert until_ended(jobs, job).state == "done"
    assert job.board.writes == job.board.ends == [("done", None)]


def test_a_job_that_is_being_written_is_not_cancelled(jobs):
    work = Work()
    job = give(jobs, work)
    job.board.writing = Gate()
    work.finish()
    assert job.board.writing.reached.wait(PATIENCE)
    jobs.cancel(job)
    job.board.writing.open()
    assert until_ended(jobs, job).state == "done"


def test_closing_waits_for_what_is_being_written_and_begins_nothing_more(jobs):
    first, second, third = Work(), Work(), Work()
    made, running, waiting = (
        give(jobs, work, owner) for work, owner in zip((first, second, third), "abc", strict=True)
    )
    made.board.writing = Gate()
    first.finish()
    assert made.board.writing.reached.wait(PATIENCE)
    assert second.begun.wait(PATIENCE)
    assert not jobs.close(patience=0)
    second.finish()
    made.board.writing.open()
    until_ended(jobs, running)
    assert jobs.close(PATIENCE)
    assert [job.state for job in (made, running, waiting)] == ["done", "done", "queued"]
    with pytest.raises(InputError, match="being closed"):
        give(jobs, Work(), "dan")


def test_a_board_is_made_only_where_there_is_room(device):
    made = []
    with pytest.raises(InputError, match="0 jobs wait already"):
        Jobs(device, most=0).submit(made.append, Work(), owner="ada", place="control", title="")
    assert made == []


def test_a_board_that_cannot_be_made_leaves_its_place_to_another(device):
    jobs = Jobs(device, most=1, most_of_one=1)
    with pytest.raises(ZeroDivisionError):
        jobs.submit(lambda: 1 / 0, Work(), owner="ada", place="control", title="")
    assert give(jobs, Work()).waits


def test_a_waiting_job_that_is_cancelled_never_begins(jobs):
    first, second = Work(), Work()
    running, waiting = give(jobs, first), give(jobs, second)
    assert first.begun.wait(PATIENCE)
    jobs.cancel(waiting)
    assert waiting.board.ends == [("cancelled", None)]
    first.finish()
    until_ended(jobs, running)
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
    until_ended(jobs, other)
    assert one.board.ends == [(state, error if state == "failed" else None)]
    assert other.board.ends == [("done", None)]


@pytest.mark.parametrize("broken", ["take", "write", "end"])
def test_a_board_that_breaks_spoils_no_other_job(jobs, broken):
    def refuse(*given):
        breaking.set()
        raise ValueError(given)

    breaking, held, work = threading.Event(), Work(), Work()
    give(jobs, held)
    setattr(give(jobs, lambda _: iter([1])).board, broken, refuse)
    held.finish()
    assert breaking.wait(PATIENCE)
    after = give(jobs, work, "bob")
    work.finish()
    assert until_ended(jobs, after).state == "done"


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
    until_ended(jobs, mine)


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
        until_ended(jobs, ended[-1])
    assert jobs.of("ada") == [ended[2], ended[1]]


def test_the_start_is_foretold_from_how_long_others_took():
    now = [0.0]
    jobs = Jobs(threading.Lock(), clock=lambda: now[0])
    work = Work()
    first = give(jobs, work)
    assert work.begun.wait(PATIENCE)
    now[0] = 8.0
    work.finish()
    until_ended(jobs, first)
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
    until_ended(jobs, last)


def test_a_job_works_in_the_context_of_who_asked_for_it(jobs):
    heard = []

    def work(_):
        heard.append(SPEAKER.get())
        yield 1

    SPEAKER.set("ada")
    job = give(jobs, work)
    SPEAKER.set("nobody")
    until_ended(jobs, job)
    assert heard == ["ada"]


def test_whoever_waits_is_woken_by_a_change(jobs):
    seen = jobs.wait(-1, 0)
    assert jobs.wait(seen, 0.01) == seen
    work = Work()
    job = give(jobs, work)
    assert jobs.wait(seen, PATIENCE) != seen
    work.finish()
    until_ended(jobs, job)


def test_what_would_end_the_thread_ends_its_job_alone(jobs):
    def work(_):
        yield 1
        raise SystemExit(3)

    failed = until_ended(jobs, give(jobs, work))
    (state, error), *_ = failed.board.ends
    assert (state, str(error)) == ("failed", "The job was ended by SystemExit: 3")
    after = Work()
    after.finish()
    assert until_ended(jobs, give(jobs, after)).state == "done"


def test_of_strangers_who_are_new_each_time_the_last_jobs_stay(device):
    jobs = Jobs(device, kept_in_all=3)
    ended = []
    for number in range(5):
        work = Work()
        work.finish()
        ended.append(until_ended(jobs, give(jobs, work, owner=f"stranger {number}")))
    assert [bool(jobs.of(job.owner)) for job in ended] == [False, False, True, True, True]


def test_as_many_run_at_once_as_there_are_devices():
    now = [0.0]
    jobs = Jobs(threading.BoundedSemaphore(2), most=9, most_of_one=9, clock=lambda: now[0], at_once=2)
    works = [Work() for _ in range(5)]
    made = [jobs.submit(Board, work, owner="ada", place="control", title="") for work in works]
    assert works[0].begun.wait(PATIENCE)
    assert works[1].begun.wait(PATIENCE)
    assert [job.state for job in made] == ["running", "running", "queued", "queued", "queued"]
    assert [jobs.before(job) for job in made] == [0, 0, 2, 3, 4]
    made[0].board.left, made[1].board.left = 10.0, 50.0
    assert [jobs.starts_in(job) for job in made[2:]] == [10.0, 40.0, 50.0]  # one takes the usual half a minute
    assert not works[2].begun.is_set()
    jobs.cancel(made[1])
    works[1].go.release()
    assert works[2].begun.wait(PATIENCE)
    for work in works:
        work.finish()
    assert [until_ended(jobs, job).state for job in made] == ["done", "cancelled", "done", "done", "done"]


def test_jobs_of_one_address_wait_for_each_other_and_let_others_in_between(device):
    jobs = Jobs(device, most=8, most_of_one=8)

    def ask(place, owner=None):
        return jobs.submit(Board, Work(), owner=owner or place, place="control", title=place, address=place)

    with device:  # nothing begins meanwhile
        eve = [ask("eve", f"eve-{number}") for number in range(4)]
        ada = [ask("ada"), ask("ada")]
        bob = ask("bob")
        order = sorted([*eve, *ada, bob], key=jobs.before)
        assert order == [eve[0], ada[0], bob, eve[1], ada[1], eve[2], eve[3]]
        for job in order:
            jobs.cancel(job)


def test_jobs_that_run_on_several_devices_count_among_those_of_their_address():
    jobs, works = Jobs(threading.BoundedSemaphore(2), most=9, most_of_one=9, at_once=2), [Work() for _ in range(7)]

    def ask(number, place):
        return jobs.submit(Board, works[number], owner=place, place="control", title="", address=place)

    eve = [ask(number, "eve") for number in range(4)]
    assert all(work.begun.wait(PATIENCE) for work in works[:2])
    ada = [ask(4, "ada"), ask(5, "ada")]
    bob = ask(6, "bob")
    assert sorted([*eve[2:], *ada, bob], key=jobs.before) == [ada[0], bob, ada[1], *eve[2:]]
    for job in (*eve[2:], *ada, bob):
        jobs.cancel(job)
    for work in works[:2]:
        work.finish()


def test_a_full_queue_makes_room_for_who_has_fewer_jobs_in_it(device):
    now = iter(range(1000))
    jobs = Jobs(device, most=8, most_of_one=8, clock=lambda: float(next(now)))

    def ask(place, owner):
        return jobs.submit(Board, Work(), owner=owner, place="control", title="", address=place)

    with device:
        v4 = [ask("eve's 4", f"eve-{number}") for number in range(5)]
        v6 = [ask("eve's 6", f"eve-{number}") for number in range(3)]
        ada = [ask("ada", "ada") for _ in range(2)]
        assert [job.state for job in (*v4, *v6)] == ["queued"] * 3 + ["cancelled"] * 2 + ["queued"] * 3
        ((state, error),) = v4[4].board.ends
        assert (state, str(error)) == ("cancelled", GAVE_WAY)
        for place in ("eve's 4", "ada"):
            with pytest.raises(InputError, match="8 jobs wait already"):  # nobody has two more than who asks
                ask(place, "somebody")
        bob = ask("bob", "bob")
        assert sum(job.waits for job in (*v4, *v6, *ada, bob)) == 8
        for job in (*v4, *v6, *ada, bob):
            jobs.cancel(job)


def test_one_address_leaves_room_for_others_however_many_names_it_takes(device):
    jobs = Jobs(device, most=8, most_of_one=2)

    def ask(place, owner):
        return jobs.submit(Board, Work(), owner=owner, place="control", title="", address=place)

    with device:
        taken = [ask("eve", f"eve-{number}") for number in range(6)]
        with pytest.raises(InputError, match="6 jobs from where you are"):
            ask("eve", "eve-7")
        taken.append(ask("ada", "ada"))
        for job in taken:
            jobs.cancel(job)
