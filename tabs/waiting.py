"""Gradio's queue of events, held to fair turns: one visitor's many events stop nobody else's one."""

from __future__ import annotations

import logging
import os
import random
import sys
from collections import Counter
from typing import Any

from gradio.queueing import Event, EventQueue, Queue
from gradio.server_messages import ProcessCompletedMessage
from gradio.utils import error_payload

from bivdiff.studio.turns import Asker, Turns
from tabs.failures import refusal
from tabs.traffic import fits
from tabs.visitors import address_of
from tabs.weights import bytes_in, heaviest

QUEUE_SIZE = 64  # events that wait
MOST_NAME = 64  # letters by which a window calls itself
MOST_HELD = 128 * 2**20  # bytes that came with events which wait or are worked on
MOST_UNREAD = 128 * 2**20  # bytes that were sent to windows which have not read them
WEIGHED_EVERY = 32  # messages

CROWDED = "The studio has too much to do now, most of it asked for from where you are. Try again in a while."
HEAVY = (
    "What was sent from where you are and still waits takes too much memory to take more. Try again in a while, or "
    "with a simpler mask."
)
LONG_NAME = f"A session's name may have {MOST_NAME} letters. Choose a shorter one."

_log = logging.getLogger(__name__)


def take_turns() -> None:
    """Let events of the page have fair turns.

    Gradio also counts all events anew at each, for a page that is not served here: the longer the app runs, the slower.
    """
    os.environ.setdefault("GRADIO_ANALYTICS_CACHE_FREQUENCY", str(sys.maxsize))  # events after which it does
    for name, method in REPLACED.items():
        setattr(Queue, name, method)


def asker_of(event: Event) -> Asker:
    """Who waits for an event."""
    return Asker(address_of(event.request, event.username), event.session_hash)


async def _join(self: Any, body: Any, request: Any, username: str | None) -> Any:
    if len(str(body.session_hash or "")) > MOST_NAME:
        return False, LONG_NAME, "error"
    if len(self) >= QUEUE_SIZE and not await _make_room(self, address_of(request, username)):
        return False, CROWDED, "queue_full"
    place, weight = address_of(request, username), bytes_in((body.data, body.event_data))
    if not fits(place, weight, _held(self), MOST_HELD):
        return False, HEAVY, "queue_full"
    taken, answer, kind = await _usual_join(self, body, request, username)
    if taken and answer in self.event_ids_to_events:
        self.event_ids_to_events[answer].weight = weight
    return taken, answer, kind


def _held(queue: Any) -> Counter[str]:
    """What the events of each place hold in memory."""
    held: Counter[str] = Counter()
    for event in queue.event_ids_to_events.values():
        held[asker_of(event).place] += getattr(event, "weight", 0)
    return held


async def _make_room(queue: Any, place: str) -> bool:
    """Take the newest event of the place that has most of them out of a full queue, unless that is the one who asks."""
    async with queue.delete_lock:
        waiting = [event for each in queue.event_queue_per_concurrency_id.values() for event in each.queue]
        asked = Counter(asker_of(event).place for event in waiting)
        largest, most = asked.most_common(1)[0]
        if asked[place] + 1 >= most:
            return False
        event = max((each for each in waiting if asker_of(each).place == largest), key=lambda each: each.enqueue_time)
        queue.event_queue_per_concurrency_id[event.concurrency_id].queue.remove(event)
        queue.event_ids_to_events.pop(event._id, None)
    told = error_payload(refusal(CROWDED), True)
    queue.send_message(event, ProcessCompletedMessage(output=told, title=str(told["title"]), success=False))
    return True


def _next_events(self: Any) -> tuple[list[Event], bool, str] | None:
    names = list(self.event_queue_per_concurrency_id)
    random.shuffle(names)  # of what has nothing to do with each other, nothing goes first
    for name in names:
        each: EventQueue = self.event_queue_per_concurrency_id[name]
        most = each.concurrency_limit
        if not each.queue or (most is not None and each.current_concurrency >= most):
            continue
        working = [event for events in self.active_jobs if events for event in events if event.concurrency_id == name]
        turns = self.__dict__.setdefault("turns", {}).setdefault(name, Turns())
        number = turns.next(list(map(asker_of, each.queue)), list(map(asker_of, working)), most)
        if number is not None:
            event = each.queue.pop(number)
            turns.note(asker_of(event))
            return [event], False, name
    return None


def _send(self: Any, event: Event, message: Any) -> None:
    if event.session_hash not in self.pending_messages_per_session:
        event.alive = False  # nobody has read for long what it sent
        return
    _usual_send(self, event, message)
    self.sent = getattr(self, "sent", 0) + 1
    if self.sent % WEIGHED_EVERY == 0:
        _drop_unread(self)


def _drop_unread(queue: Any) -> None:
    """Forget what is sent to those who read least, as long as all that is unread takes too much."""
    unread = {
        name: sum(bytes_in(getattr(message, "output", None)) for message in messages._queue)
        for name, messages in queue.pending_messages_per_session.items()
    }
    for name in heaviest(unread, MOST_UNREAD):
        del queue.pending_messages_per_session[name]
    for name in set(queue.pending_event_ids_session) - set(queue.pending_messages_per_session):
        del queue.pending_event_ids_session[name]


_usual_join, _usual_send = Queue.push, Queue.send_message

REPLACED = {"push": _join, "get_events": _next_events, "send_message": _send}
"""Methods of Gradio's, which documents no door to this (see docs/architecture.md)."""
