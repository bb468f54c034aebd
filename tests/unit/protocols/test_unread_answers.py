"""Whose connection is closed when too many bytes of answers wait for slow clients."""

from __future__ import annotations

import pytest
from twisted.internet.task import Clock

from trough.protocols.unread_answers import LOOK, PATIENCE, UnreadAnswers

LIMIT = 1000


class Full:
    """A connection that keeps so many bytes."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.closed = False

    def unread_bytes(self) -> int:
        return self.size

    def drop_unread(self) -> None:
        self.closed = True


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def unread(clock: Clock) -> UnreadAnswers:
    return UnreadAnswers(clock, LIMIT)


def closed(connections: list[Full]) -> list[int]:
    return [number for number, each in enumerate(connections) if each.closed]


def full(unread: UnreadAnswers, clock: Clock, *sizes: int) -> list[Full]:
    """Connections that become full one after the other."""
    connections = [Full(size) for size in sizes]
    for connection in connections:
        unread.became_full(connection)
        clock.advance(LOOK)
    return connections


def test_nobody_is_closed_within_the_limit(unread: UnreadAnswers, clock: Clock) -> None:
    """However long it takes."""
    connections = full(unread, clock, 400, 300, 300)
    for _ in range(1000):
        clock.advance(LOOK)
    assert closed(connections) == []
    for connection in connections:
        unread.has_room(connection)
    clock.advance(LOOK)
    assert not clock.getDelayedCalls()


def test_those_that_took_nothing_for_longest_are_closed(
    unread: UnreadAnswers, clock: Clock
) -> None:
    """As many as it takes. One that has taken something in between is a slow reader."""
    connections = full(unread, clock, 400, 500, 300, 100)
    unread.has_room(connections[0])
    unread.became_full(connections[0])
    clock.advance(PATIENCE)
    assert closed(connections) == [1]
    connections[3].size = 400
    clock.advance(LOOK)
    assert closed(connections) == [1, 2]


def test_one_that_is_not_full_for_long_is_spared(unread: UnreadAnswers, clock: Clock) -> None:
    """Unless it is far too much."""
    connections = full(unread, clock, 700, 800)
    assert closed(connections) == []
    connections += full(unread, clock, 600)
    assert closed(connections) == [0]
    clock.advance(PATIENCE)
    assert closed(connections) == [0, 1]


def test_one_that_is_gone_counts_no_more(unread: UnreadAnswers, clock: Clock) -> None:
    """Nor is it closed."""
    connections = full(unread, clock, 900, 900)
    unread.has_room(connections[0])
    clock.advance(PATIENCE)
    assert closed(connections) == []
