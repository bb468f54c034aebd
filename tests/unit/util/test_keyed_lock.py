"""Mutual exclusion by name."""

from twisted.internet.defer import Deferred, ensureDeferred

from trough.util.keyed_lock import KeyedLock


def _hold(lock, key, events, name):
    let_go = Deferred()

    async def hold():
        async with lock.hold(key):
            events.append(name)
            await let_go

    return ensureDeferred(hold()), let_go


def test_one_key_is_held_by_one_at_a_time_and_keys_are_independent():
    """Waiters of a key come in order; another key does not wait."""
    lock, events = KeyedLock(), []
    first, let_first_go = _hold(lock, "a", events, "a1")
    second, let_second_go = _hold(lock, "a", events, "a2")
    _, let_other_go = _hold(lock, "b", events, "b1")
    assert events == ["a1", "b1"]
    let_first_go.callback(None)
    assert events == ["a1", "b1", "a2"] and first.called and not second.called
    let_second_go.callback(None)
    assert lock.busy("b") and not lock.busy("a")
    let_other_go.callback(None)
    assert len(lock) == 0


def test_failure_inside_lets_go():
    """An error in the context passes through, and the key is free again."""
    lock, events, errors = KeyedLock(), [], []
    first, go = _hold(lock, "a", events, "a1")
    first.addErrback(errors.append)
    go.errback(ValueError("inside"))
    _hold(lock, "a", events, "a2")
    assert events == ["a1", "a2"] and errors[0].check(ValueError)


def test_a_cancelled_waiter_leaves_the_queue():
    """Whoever stops waiting does not block those behind."""
    lock, events, errors = KeyedLock(), [], []
    _, let_first_go = _hold(lock, "a", events, "a1")
    waiting, _ = _hold(lock, "a", events, "a2")
    _hold(lock, "a", events, "a3")
    waiting.addErrback(errors.append)
    waiting.cancel()
    let_first_go.callback(None)
    assert events == ["a1", "a3"] and len(errors) == 1
