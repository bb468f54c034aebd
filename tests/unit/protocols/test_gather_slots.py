"""Turns: a few at once, and none kept from others by a reader who does not read."""

from __future__ import annotations

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.testing import Clock

from trough.protocols.gather_slots import LONG_AFTER, AdmissionQueue, Slot


class Holder:
    """Somebody who wants a turn, and gives it back when asked to leave."""

    def __init__(self, turns: AdmissionQueue) -> None:
        self.turn: Slot | None = None
        self.left = 0
        self.reader: Deferred[None] = Deferred()
        self.taking = Deferred.fromCoroutine(turns.take(self._leave))
        self.taking.addCallback(self._took)
        self.taking.addErrback(lambda failure: failure.trap(CancelledError))

    def _took(self, turn: Slot) -> None:
        self.turn = turn

    def _leave(self) -> None:
        self.left += 1
        assert self.turn is not None
        self.turn.give_back()

    def sleep(self) -> None:
        """Wait for a reader from now on."""
        assert self.turn is not None
        self.reader = Deferred()
        Deferred.fromCoroutine(self.turn.wait_for(self.reader))


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def turns(clock: Clock) -> AdmissionQueue:
    """Two at once, ten seconds of patience."""
    return AdmissionQueue(2, 10, clock)


def test_nobody_leaves_while_nobody_waits(turns: AdmissionQueue, clock: Clock) -> None:
    """A reader may be waited for without end, as long as no one else wants the turn."""
    holders = [Holder(turns), Holder(turns)]
    for each in holders:
        each.sleep()
    clock.advance(1000)
    assert [each.left for each in holders] == [0, 0]


def test_who_has_waited_long_enough_leaves_for_the_next_one(
    turns: AdmissionQueue, clock: Clock
) -> None:
    """The one whose reader has been waited for longest, and one turn for one who waits."""
    first, second = Holder(turns), Holder(turns)
    second.sleep()
    clock.advance(3)
    first.sleep()
    clock.advance(100)
    third = Holder(turns)
    assert (first.left, second.left) == (0, 1)
    assert second.turn is not None and second.turn.lost
    assert third.turn is not None and not third.turn.lost


def test_patience_is_counted_from_when_the_reader_was_waited_for(
    turns: AdmissionQueue, clock: Clock
) -> None:
    """One who waits for a turn does so until the reader's time is over, and no longer."""
    first, _ = Holder(turns), Holder(turns)
    third = Holder(turns)
    clock.advance(50)
    first.sleep()
    clock.advance(9)
    assert third.turn is None
    clock.advance(1)
    assert third.turn is not None and first.left == 1


def test_a_reader_that_reads_keeps_its_turn(turns: AdmissionQueue, clock: Clock) -> None:
    """However slow: what counts is the time since it took something the last time."""
    first, _ = Holder(turns), Holder(turns)
    third = Holder(turns)
    for _ in range(5):
        first.sleep()
        clock.advance(9)
        first.reader.callback(None)
    clock.advance(100)
    assert (third.turn, first.left) == (None, 0)


def test_who_stops_waiting_for_a_turn_wants_none_back(turns: AdmissionQueue, clock: Clock) -> None:
    """Nobody leaves for one who is gone, and no timer is left."""
    first, _ = Holder(turns), Holder(turns)
    third = Holder(turns)
    first.sleep()
    third.taking.cancel()
    clock.advance(100)
    assert first.left == 0
    assert not clock.getDelayedCalls()


def test_one_who_takes_long_to_leave_is_enough(turns: AdmissionQueue, clock: Clock) -> None:
    """While one is leaving for the only one who waits, no other has to."""
    first, second = Holder(turns), Holder(turns)
    first.turn.leave = lambda: None  # it has files to remove
    first.sleep()
    second.sleep()
    third = Holder(turns)
    clock.advance(100)
    assert (first.turn.lost, second.left, third.turn) == (True, 0, None)
    first.turn.give_back()
    assert third.turn is not None


def test_a_turn_that_goes_on_gives_room_to_short_ones(clock: Clock) -> None:
    """It becomes a long one, of which there are so many and no more."""
    turns = AdmissionQueue(2, 10, clock, long=1)
    first, second = Holder(turns), Holder(turns)
    waiting = [Holder(turns), Holder(turns)]
    clock.advance(LONG_AFTER)
    assert [each.turn is not None for each in waiting] == [True, False]
    assert first.turn is not None and first.turn.is_long
    assert [each.left for each in (first, second)] == [0, 0]
    first.turn.give_back()
    assert waiting[1].turn is None
    clock.advance(LONG_AFTER)
    assert waiting[1].turn is not None


def test_those_that_need_much_hold_half_of_the_short_turns_at_most(clock: Clock) -> None:
    """Beyond that, and while somebody waits, the last one is ended; nobody is without need."""
    turns = AdmissionQueue(4, 10, clock, long=1)
    holders = [Holder(turns) for _ in range(4)]
    for each in holders:
        assert each.turn is not None
        each.turn.becomes_long()
    assert [each.left for each in holders] == [0, 0, 0, 0]
    short = Holder(turns)
    assert short.turn is not None and not short.turn.is_long
    another = Holder(turns)
    assert [each.left for each in holders] == [0, 0, 0, 1]
    assert holders[3].turn is not None and holders[3].turn.is_too_long
    assert another.turn is not None


def test_the_end_of_a_long_turn_makes_room_for_one_that_needs_much(clock: Clock) -> None:
    """Which frees its short turn."""
    turns = AdmissionQueue(1, 10, clock, long=1)
    first = Holder(turns)
    assert first.turn is not None
    first.turn.becomes_long()
    second, third = Holder(turns), Holder(turns)
    assert second.turn is not None
    second.turn.becomes_long()
    assert third.turn is None
    first.turn.give_back()
    assert second.turn.is_long and third.turn is not None
    assert not second.left
