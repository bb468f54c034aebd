"""Long loops in slices."""

import time

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred

from trough.util.slices import SLICE, in_slices

ensure = pytest_twisted.ensureDeferred


@pytest.mark.parametrize("number", [0, 1, SLICE, SLICE + 1, 20 * SLICE])
@ensure
async def test_everything_comes_in_its_order(number):
    """However long it is."""
    assert await in_slices(lambda some: [n * 2 for n in some], range(number)) == [
        n * 2 for n in range(number)
    ]


@ensure
async def test_what_the_function_raises_ends_it():
    """With that error."""

    def fail(some):
        raise KeyError(some[0])

    with pytest.raises(KeyError):
        await in_slices(fail, range(10 * SLICE))


@ensure
async def test_it_ends_when_it_is_cancelled():
    """The rest is not looked at."""
    seen = []

    def look(some):
        seen.append(some[0])
        if len(seen) == 3:
            reactor.callLater(0, going.cancel)
        return ()

    going = Deferred.fromCoroutine(in_slices(look, range(100_000 * SLICE)))
    with pytest.raises(CancelledError):
        await going
    assert len(seen) < 100_000


@ensure
async def test_everybody_has_a_turn_after_a_millisecond():
    """Slices that take longer than that are never two in one turn of the reactor."""
    turns, of_slices = 0, []

    def turn():
        nonlocal turns, call
        turns += 1
        call = reactor.callLater(0, turn)

    def work(some):
        end = time.monotonic() + 0.002
        while time.monotonic() < end:
            pass
        of_slices.append(turns)
        return ()

    call = reactor.callLater(0, turn)
    try:
        await in_slices(work, range(2 * SLICE))
    finally:
        call.cancel()
    assert len(of_slices) > 5
    assert len(set(of_slices)) == len(of_slices)
