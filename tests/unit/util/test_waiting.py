"""Waiters, back-pressure, shared work: who is woken, with what, and what giving up does."""

import pytest
from twisted.internet.defer import CancelledError, Deferred, TimeoutError, fail
from twisted.internet.testing import Clock
from twisted.python.failure import Failure

from trough.util.waiting import BackPressure, Promised, SingleFlight, Waiters, ended, shielded


def _outcome(deferred):
    seen = []
    deferred.addBoth(seen.append)
    return seen


def test_an_event_wakes_those_that_wait_for_it_once():
    """In the order in which they came; who comes later waits for the next event."""
    waiters, woken = Waiters(), []
    for name in "ab":
        waiters.wait().addCallback(lambda value, name=name: woken.append((name, value)))
    assert len(waiters) == 2
    waiters.fire(1)
    waiters.wait().addCallback(lambda value: woken.append(("c", value)))
    assert woken == [("a", 1), ("b", 1)]
    waiters.fire(2)
    waiters.fire(3)
    assert woken == [("a", 1), ("b", 1), ("c", 2)]
    assert not waiters


def test_who_gives_up_waits_no_longer():
    """By a timeout or a cancellation, also from within another waiter's callback."""
    clock, waiters = Clock(), Waiters()
    late = _outcome(waiters.wait().addTimeout(5, clock))
    first, second = waiters.wait(), waiters.wait()
    clock.advance(5)
    assert late[0].check(TimeoutError)
    assert len(waiters) == 2
    cancelled = _outcome(second)
    first.addCallback(lambda _: second.cancel())
    waiters.fire(None)
    assert cancelled[0].check(CancelledError)


def test_a_failed_event_fails_its_waiters():
    """Each of them gets the error."""
    waiters = Waiters()
    outcomes = [_outcome(waiters.wait()) for _ in range(2)]
    waiters.fail(ValueError("no"))
    assert all(outcome[0].check(ValueError) for outcome in outcomes)


def test_a_waiter_of_an_event_may_wait_again():
    """One event wakes a waiter once, even if its callback waits again."""
    waiters, rounds = Waiters(), []

    def again(_):
        rounds.append(len(rounds))
        waiters.wait().addCallback(again)

    waiters.wait().addCallback(again)
    waiters.fire(None)
    assert rounds == [0]


def test_a_promised_result_comes_once_and_stays():
    """A later caller gets the first result, too."""
    promised = Promised()
    early = _outcome(promised.wait())
    promised.fire(1)
    promised.fire(2)
    assert early == [1]
    assert _outcome(promised.wait()) == [1]
    failed = Promised()
    failed.fire(Failure(ValueError("no")))
    assert _outcome(failed.wait())[0].check(ValueError)


def test_back_pressure_holds_a_producer_until_the_consumer_resumes():
    """A pause or resumption that comes twice changes nothing."""
    pressure = BackPressure()
    assert _outcome(pressure.ready()) == [None]
    pressure.pause()
    pressure.pause()
    held = _outcome(pressure.ready())
    assert held == []
    pressure.resume()
    pressure.resume()
    assert held == [None]
    assert not pressure.is_on


def test_shared_work_runs_once_for_those_that_ask_together():
    """The next one who asks has it done again."""
    flight, runs = SingleFlight(), []

    async def work():
        runs.append(Deferred())
        return await runs[-1]

    outcomes = [_outcome(flight.run("key", work)) for _ in range(3)]
    other = _outcome(flight.run("other", work))
    assert len(runs) == 2
    runs[0].callback("done")
    assert outcomes == [["done"]] * 3
    assert other == []
    flight.run("key", work)
    assert len(runs) == 3


@pytest.mark.parametrize("who", [0, 1])
def test_shared_work_goes_on_when_one_gives_up(who):
    """Also if the first one does, who began it."""
    flight, work = SingleFlight(), Deferred()

    async def run():
        return await work

    waiting = [flight.run("key", run) for _ in range(2)]
    outcomes = [_outcome(each) for each in waiting]
    waiting[who].cancel()
    assert outcomes[who][0].check(CancelledError)
    work.callback("done")
    assert outcomes[1 - who] == ["done"]


def test_shared_work_that_fails_at_once_fails_all_and_is_forgotten():
    """Work need not wait for anything."""
    flight = SingleFlight()

    async def broken():
        raise ValueError("no")

    for _ in range(2):
        assert _outcome(flight.run("key", broken))[0].check(ValueError)


def test_the_end_of_work_leaves_its_result_to_the_owner():
    """A failure is still the owner's to handle, and no waiter cancels the work."""
    work = Deferred()
    ends = ended(work)
    given_up, seen = ended(work), _outcome(ends)
    given_up.addErrback(lambda failure: None)
    given_up.cancel()
    work.errback(ValueError("no"))
    assert seen == [None]
    assert _outcome(work)[0].check(ValueError)


def test_shielded_work_survives_the_one_that_waits():
    """What it fails with later is reported, if somebody wants to know."""
    work, late = Deferred(), []
    waiting = shielded(work, late.append)
    outcome = _outcome(waiting)
    waiting.cancel()
    assert outcome[0].check(CancelledError)
    assert not work.called
    work.errback(ValueError("late"))
    assert late[0].check(ValueError)


def test_shielded_work_hands_over_its_result():
    """A value, or a failure."""
    work = Deferred()
    outcome = _outcome(shielded(work))
    work.callback(5)
    assert outcome == [5]
    assert _outcome(shielded(fail(Failure(ValueError("no")))))[0].check(ValueError)
