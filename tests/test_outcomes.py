"""Generators that return something: what they return is found, and what they hold is let go."""

from __future__ import annotations

import pytest

from bivdiff.bridge.outcomes import changed, outcome_of


@pytest.fixture
def ended():
    return []


@pytest.fixture
def counting(ended):
    def count():
        try:
            yield 1
            yield 2
            return "counted"
        finally:
            ended.append(True)

    return count()


def test_the_outcome_is_what_is_returned(counting):
    assert outcome_of(counting) == "counted"


def test_events_are_changed_and_the_outcome_is_not(counting):
    seen = []

    def watched():
        outcome = yield from changed(counting, lambda number: 10 * number)
        seen.append(outcome)

    assert list(watched()) == [10, 20]
    assert seen == ["counted"]


def test_what_is_closed_closes_what_it_changes(counting, ended):
    events = changed(counting, str)
    assert next(events) == "1"
    assert ended == []
    events.close()
    assert ended == [True]
