"""Fair turns: one visitor's many wishes hold up nobody else's one, and what nobody reads is not kept."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import httpx
import numpy as np
import pytest
from fake_run import FakeRun, fake_context
from patience import PATIENCE, until

from bivdiff.catalog.requests import default_request
from bivdiff.errors import InputError
from bivdiff.settings import Settings
from bivdiff.studio.jobs import GAVE_WAY
from bivdiff.studio.limits import FRAME_PIXELS, check_clip
from bivdiff.studio.turns import Asker, Gate, Turns, share_of
from tabs import requests, waiting
from tabs.boards import RunBoard
from tabs.context import DECODERS
from tabs.door import Door
from tabs.page import build_page, launch_options
from tabs.serving import visitors_settings
from tabs.weights import LEAST

VISITORS = visitors_settings(Settings(), others=True)
EVE, ADA, BOB = (f"203.0.113.{number}" for number in (5, 6, 7))


@pytest.mark.parametrize(
    ("waiting_now", "holding", "most", "turn"),
    [
        ("", "", 2, None),
        ("eve", "", 2, 0),
        ("eve ada", "eve", 2, 1),  # who holds nothing comes before who does
        ("eve eve", "eve", 2, None),  # of two, one is left for somebody else
        ("eve eve", "", 1, 0),
        ("eve ada", "bob", 1, None),
        ("eve eve ada", "eve eve", None, 2),  # without a bound it is only the order that is fair
        ("eve", "eve eve eve", 8, 0),
        ("eve", "eve eve eve eve eve eve", 8, None),
    ],
)
def test_whose_turn_it_is(waiting_now, holding, most, turn):
    assert Turns().next([*map(Asker, waiting_now.split())], [*map(Asker, holding.split())], most) == turn


def test_many_of_one_place_wait_for_each_other_and_for_nobody_else():
    queue = [*(Asker("eve", f"window {number}") for number in range(6)), Asker("ada"), Asker("bob"), Asker("ada")]
    turns, order = Turns(), []
    while queue:
        order.append(queue.pop(turns.next(queue, [], 1)))
        turns.note(order[-1])
    assert [asker.place for asker in order] == ["eve", "ada", "bob", "eve", "ada", *["eve"] * 4]
    windows = [asker.window for asker in order if asker.place == "eve"]
    assert windows == [f"window {number}" for number in range(6)]
    assert [share_of(most) for most in (1, 2, 3, 8, 32)] == [1, 1, 2, 6, 24]


def test_a_gate_lets_few_through_and_whoever_is_inside_in_again():
    gate, inside, most, lock = Gate(2), [0], [0], threading.Lock()
    go = threading.Event()

    def enter(place: str) -> str:
        with gate.enter(Asker(place)), gate.enter(Asker(place)):
            with lock:
                inside[0] += 1
                most[0] = max(most[0], inside[0])
            assert go.wait(PATIENCE)
            with lock:
                inside[0] -= 1
        return place

    with ThreadPoolExecutor(12) as pool:
        entered = pool.map(enter, ["eve"] * 8 + ["ada", "bob"] * 2)
        until(lambda: (inside[0], len(gate._waiting)) == (2, 10))
        go.set()
        assert len(list(entered)) == 12
    assert most[0] == 2


def test_a_gate_leaves_nobody_behind_who_fails_inside():
    gate = Gate(1)
    with pytest.raises(ZeroDivisionError), gate.enter(Asker("eve")):
        raise ZeroDivisionError
    with gate.enter(Asker("ada")):
        pass


@pytest.mark.parametrize(("shape", "told"), [((65, 8, 8), "65"), ((2, 8192, 8192), "megapixels"), ((64, 512, 512), "")])
def test_a_clip_is_bounded_in_frames_and_pixels_before_it_is_decoded(shape, told):
    if told:
        with pytest.raises(InputError, match=told):
            check_clip(shape, VISITORS)
    else:
        check_clip(shape, VISITORS)
    check_clip(shape, Settings(max_frames=0))
    assert VISITORS.max_frames * FRAME_PIXELS < 2**26


# The page


def test_who_gave_way_in_the_queue_is_told_so():
    context = fake_context(FakeRun())
    board = RunBoard(context, default_request("smooth", "toybox", np.zeros((2, 64, 64, 3), np.uint8), ""), 8.0, "eve")
    board.write("cancelled", InputError(GAVE_WAY))
    board.end("cancelled", InputError(GAVE_WAY))
    assert (board.panel()["headline"], board.panel()["detail"]) == ("Stopped.", GAVE_WAY)
    assert context.runs.get(board.run_id, "eve").state == "cancelled"


class Reading:
    """Stands where files are read: holds everybody up until it is let go, and counts who is inside."""

    def __init__(self) -> None:
        self.inside, self.most = 0, 0
        self.go, self._lock = threading.Event(), threading.Lock()
        self.order: list[str] = []

    def __call__(self, form, *_):
        with self._lock:
            self.inside += 1
            self.most = max(self.most, self.inside)
            self.order.append(str(form.stride))
        self.go.wait(PATIENCE)
        with self._lock:
            self.inside -= 1
        raise InputError("Nothing is read here.")


@pytest.fixture(scope="module")
def page():
    context = fake_context(FakeRun())
    built = build_page(context)
    options = launch_options(replace(Settings(), uploads_size="1MB"), Door(hosts=None, behind_proxy=True))
    _, url, _ = built.launch(prevent_thread_lock=True, quiet=True, **options)
    yield built, url, context.decoders
    built.close()


@pytest.fixture
def reading(monkeypatch, page):
    reading = Reading()
    monkeypatch.setattr(requests.forms, "read_source", reading)
    yield reading
    reading.go.set()
    until(lambda: len(page[0]._queue) == 0 and not any(page[0]._queue.active_jobs))


def ask(url: str, place: str, name: str = "smooth_source", **given: object) -> httpx.Response:
    return httpx.post(
        f"{url}gradio_api/call/v2/{name}", json=given, headers={"X-Forwarded-For": place}, timeout=PATIENCE
    )  # fmt: skip


def test_few_decode_at_a_time_and_ones_many_hold_up_nobody_elses_one(page, reading):
    for number in range(12):
        assert ask(page[1], EVE, stride=number + 2).status_code == 200
    until(lambda: reading.inside == 1)
    assert ask(page[1], ADA, stride=100).status_code == 200
    until(lambda: "100" in reading.order)  # although all of Eve's are held up
    assert ask(page[1], BOB, stride=200).status_code == 200
    until(lambda: BOB in [asker.place for asker, _ in page[2]._waiting])
    reading.go.set()
    until(lambda: len(reading.order) == 14)
    assert reading.order[1:3] == ["100", "200"]
    assert reading.most == DECODERS == 2


def test_a_full_queue_makes_room_for_who_asked_for_less(page, reading):
    asked = [ask(page[1], EVE, stride=2) for _ in range(waiting.QUEUE_SIZE + 6)]
    until(lambda: len(page[0]._queue) == waiting.QUEUE_SIZE)
    refused = ask(page[1], EVE, stride=2)
    assert (refused.status_code, waiting.CROWDED in refused.text) == (503, True)
    newcomer = ask(page[1], ADA, stride=100)
    assert newcomer.status_code == 200
    assert len(page[0]._queue) <= waiting.QUEUE_SIZE
    until(lambda: "100" in reading.order)
    last = [answer.json()["event_id"] for answer in asked][-1]
    told = httpx.get(f"{page[1]}gradio_api/call/v2/smooth_source/{last}", timeout=PATIENCE).text
    assert "event: error" in told
    assert waiting.CROWDED in told


def test_events_of_one_address_hold_only_so_much_memory(page, reading, monkeypatch):
    monkeypatch.setattr(waiting, "MOST_HELD", 5_000_000)
    large = "x" * 900_000
    asked = [ask(page[1], EVE) for _ in range(12)]  # behind which others wait
    assert [answer.status_code for answer in asked] == [200] * 12
    until(lambda: reading.inside == 1)
    assert ask(page[1], EVE, restored=large).status_code == 200
    refused = ask(page[1], EVE, restored=large)
    assert (refused.status_code, waiting.HEAVY in refused.text) == (503, True)
    assert ask(page[1], EVE).status_code == 200  # what is small
    assert ask(page[1], ADA, restored=large).status_code == 200
    reading.go.set()
    until(lambda: not page[0]._queue.event_ids_to_events)
    assert ask(page[1], EVE, restored=large).status_code == 200


def test_what_a_value_weighs_can_be_told_however_deep_it_is():
    deep = []
    for _ in range(100_000):
        deep = [deep]
    assert waiting.bytes_in(deep) == 100_001 * LEAST
    assert waiting.bytes_in({"a": ["bc", {"d": b"e"}], "f": np.zeros(9, np.uint8)}) == 9 * LEAST + 6 + 9
    while deep:
        deep = deep.pop()


def test_what_nobody_reads_is_forgotten_and_who_reads_is_served(page, monkeypatch):
    queue = page[0]._queue
    monkeypatch.setattr(waiting, "MOST_UNREAD", 1_000_000)
    monkeypatch.setattr(waiting, "WEIGHED_EVERY", 1)
    before = set(queue.pending_messages_per_session)
    for _ in range(8):
        assert ask(page[1], EVE).status_code == 200
    until(lambda: len(queue) == 0 and not any(queue.active_jobs))
    kept = [queue.pending_messages_per_session[name] for name in set(queue.pending_messages_per_session) - before]
    assert sum(waiting.bytes_in(message.output) for each in kept for message in each._queue
               if hasattr(message, "output")) <= 1_000_000  # fmt: skip
    assert set(queue.pending_event_ids_session) <= set(queue.pending_messages_per_session)
    event = ask(page[1], ADA).json()["event_id"]
    told = httpx.get(f"{page[1]}gradio_api/call/v2/smooth_source/{event}", timeout=PATIENCE).text
    assert "event: complete" in told
    assert json.loads(told.splitlines()[1][6:])[0]["tiles"]


def test_a_window_has_a_short_name(page):
    sent = {"fn_index": 0, "data": [], "session_hash": "x" * 1000}
    answer = httpx.post(f"{page[1]}gradio_api/queue/join", json=sent, timeout=PATIENCE)
    assert (answer.status_code, waiting.LONG_NAME in answer.text) == (400, True)


def test_events_are_not_counted_for_a_page_that_is_not_served(page):
    assert ask(page[1], ADA).status_code == 200
    queue = page[0]._queue
    until(lambda: len(queue) == 0 and not any(queue.active_jobs))
    assert queue.events_recorded > 0
    assert queue.compute_analytics_summary(list(queue.event_analytics.values())) == {"functions": {}}
