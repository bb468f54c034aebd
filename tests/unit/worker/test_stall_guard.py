"""Standing still is noticed, and acted upon before anything else."""

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.testing import Clock

from trough import errors
from trough.worker.stall_guard import StallDetector


class Finding:
    """Finds out when the test says so."""

    def __init__(self):
        self.asked = []

    async def __call__(self):
        self.asked.append(Deferred())
        await self.asked[-1]


def begun(longest=4.0):
    """A clock, what is asked, and an attention that has begun."""
    clock, finding = Clock(), Finding()
    attention = StallDetector(longest, finding, clock)
    attention.startService()
    return clock, finding, attention


def attentive():
    """The same, once it knows what is true."""
    clock, finding, attention = begun()
    finding.asked[0].callback(None)
    assert not attention.lapsed
    return clock, finding, attention


def test_nothing_is_known_at_first():
    """Whoever begins finds out before it acts, and those who wait go on then."""
    _, finding, attention = begun()
    waiting = Deferred.fromCoroutine(attention.regained())
    assert attention.lapsed and not waiting.called
    finding.asked[0].callback(None)
    assert not attention.lapsed and waiting.called


def test_time_that_passes_while_it_runs_is_no_standstill():
    """Looks at the clock come often enough, however long nobody asks."""
    clock, finding, attention = attentive()
    clock.pump([1.0] * 100)
    assert not attention.lapsed and len(finding.asked) == 1


def test_a_short_standstill_does_not_matter():
    """Nobody can have noticed it."""
    clock, _, attention = attentive()
    clock.rightNow += 4.0
    assert not attention.lapsed
    assert Deferred.fromCoroutine(attention.regained()).called


def test_a_request_that_comes_before_the_clock_is_looked_at_finds_it_out():
    """After a standstill requests are served before anything that was due."""
    clock, finding, attention = attentive()
    clock.rightNow += 4.1
    assert attention.lapsed
    assert attention.lapsed  # and does not forget it
    waiting = Deferred.fromCoroutine(attention.regained())
    clock.advance(0)
    assert attention.lapsed and not waiting.called
    finding.asked[1].callback(None)
    assert not attention.lapsed and waiting.called


def away(clock, attention, asked):
    """The store that is asked is away."""
    asked.errback(errors.Unavailable("away"))


def out_of_date(clock, attention, asked):
    """Another standstill comes before the answer."""
    clock.rightNow += 10.0
    assert attention.lapsed
    asked.callback(None)


@pytest.mark.parametrize("in_vain", [away, out_of_date])
def test_what_could_not_be_found_out_is_tried_again(in_vain):
    """Until it is known it stays lapsed, and no longer than that."""
    clock, finding, attention = begun()
    in_vain(clock, attention, finding.asked[0])
    assert attention.lapsed
    clock.advance(1.0)
    finding.asked[1].callback(None)
    assert not attention.lapsed


def test_whoever_stops_waiting_is_forgotten():
    """Nothing is kept of those who gave up, and the others go on."""
    _, finding, attention = begun()
    gone, waiting = (Deferred.fromCoroutine(attention.regained()) for _ in range(2))
    gone.addErrback(lambda _: None)
    gone.cancel()
    finding.asked[0].callback(None)
    assert waiting.called and not attention.lapsed
