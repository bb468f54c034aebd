"""Work that is repeated, and what its failures and its end do."""

import pytest_twisted
from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.internet.testing import Clock

from trough.util.periodic import Periodic


def test_failure_does_not_end_the_rounds():
    """A round that raises is followed by the next one at its time."""
    clock, rounds = Clock(), []

    async def work():
        rounds.append(clock.seconds())
        raise ValueError("no luck")

    periodic = Periodic("work", 2.0, work, clock)
    periodic.startService()
    clock.pump([2.0, 2.0])
    assert rounds == [0.0, 2.0, 4.0]
    periodic.stopService()
    clock.pump([2.0, 2.0])
    assert rounds == [0.0, 2.0, 4.0]


def test_rounds_never_overlap():
    """A slow round delays the next one."""
    clock, begun, slow = Clock(), [], Deferred()

    async def work():
        begun.append(clock.seconds())
        if len(begun) == 1:
            await slow

    periodic = Periodic("work", 1.0, work, clock)
    periodic.startService()
    clock.pump([1.0, 1.0])
    assert begun == [0.0]
    slow.callback(None)
    clock.advance(1.0)
    assert begun == [0.0, 3.0]
    periodic.stopService()


@pytest_twisted.ensureDeferred
async def test_stopping_cancels_the_round_and_waits_for_it():
    """stopService fires only after the round under way has cleaned up."""
    clock, events = Clock(), []
    cleaning = Deferred()

    async def work():
        try:
            await Deferred()
        except CancelledError:
            events.append("cancelled")
            await cleaning
            events.append("cleaned")

    periodic = Periodic("work", 1.0, work, clock)
    periodic.startService()
    stopped = maybeDeferred(periodic.stopService)
    assert events == ["cancelled"] and not stopped.called
    cleaning.callback(None)
    await stopped
    assert events == ["cancelled", "cleaned"]
