"""Thread pools as services: results, cancellation, and an end that waits."""

import threading

import pytest
import pytest_twisted
from twisted.internet import defer, reactor
from twisted.python.threadpool import ThreadPool
from waiting import until

from trough import errors
from trough.util.threads import Cancellation, ThreadPoolService


@pytest.fixture
def pool():
    service = ThreadPoolService("test", 2, reactor)
    service.startService()
    yield service
    pytest_twisted.blockon(service.stopService())


class Gate:
    """A cancellable function that tells when it runs and ends when it is let go."""

    def __init__(self):
        self.entered = defer.Deferred()
        self.open = threading.Event()
        self.outcome = None

    def __call__(self, cancellation):
        reactor.callFromThread(self.entered.callback, None)
        try:
            while not self.open.wait(0.005):
                cancellation.check()
        except errors.Cancelled:
            self.outcome = "cancelled"
            raise
        self.outcome = "finished"
        return self.outcome


@pytest_twisted.ensureDeferred
async def test_run_returns_the_result_from_a_thread_of_the_pool(pool):
    """A call runs on a thread that carries the pool's name, and its result comes back."""

    def body(first, second=0):
        return first + second, threading.current_thread()

    total, thread = await pool.run(body, 1, second=2)
    assert total == 3
    assert thread is not threading.main_thread()
    assert "test" in thread.name


@pytest_twisted.ensureDeferred
async def test_exceptions_come_back(pool):
    """What the function raises is what awaiting raises."""
    with pytest.raises(ZeroDivisionError):
        await pool.run(lambda: 1 // 0)


@pytest_twisted.ensureDeferred
async def test_cancel_reaches_the_function(pool):
    """Cancelling the Deferred ends the function at its next check."""
    gate = Gate()
    call = pool.run_cancellable(gate)
    await gate.entered
    call.cancel()
    with pytest.raises(defer.CancelledError):
        await call
    await pool.stopService()
    assert gate.outcome == "cancelled"
    assert pool.pending == 0


@pytest_twisted.ensureDeferred
async def test_size_bounds_what_runs_and_a_waiting_call_can_be_taken_back(pool):
    """A third call on two threads waits, and cancelled there it never runs."""
    gates = [Gate(), Gate()]
    calls = [pool.run_cancellable(gate) for gate in gates]
    await defer.gatherResults([gate.entered for gate in gates])
    ran = []
    waiting = pool.run(ran.append, 1)
    waiting.cancel()
    with pytest.raises(defer.CancelledError):
        await waiting
    for gate in gates:
        gate.open.set()
    assert await defer.gatherResults(calls) == ["finished", "finished"]
    await pool.run(lambda: None)
    assert ran == []


@pytest_twisted.ensureDeferred
async def test_stop_cancels_and_waits(pool):
    """The end of the service cancels what runs and fires after it has ended."""
    gate = Gate()
    call = pool.run_cancellable(gate)
    await gate.entered
    stopped = pool.stopService()
    assert not stopped.called
    with pytest.raises(errors.Cancelled):
        await call
    await stopped
    assert gate.outcome == "cancelled"


@pytest_twisted.ensureDeferred
async def test_stop_waits_for_a_function_that_cannot_be_cancelled(pool):
    """A plain call that runs at the end of the service is waited for, and answered."""
    entered, leave = defer.Deferred(), threading.Event()

    def body():
        reactor.callFromThread(entered.callback, None)
        leave.wait()
        return "done"

    call = pool.run(body)
    await entered
    stopped = pool.stopService()
    assert not stopped.called
    leave.set()
    assert await call == "done"
    await stopped


@pytest_twisted.ensureDeferred
async def test_not_running_is_refused_and_restart_works(pool):
    """Outside of the service's life a call fails at once; a restarted one works."""
    await pool.stopService()
    with pytest.raises(errors.Cancelled, match="thread pool test is not running"):
        await pool.run(lambda: None)
    pool.startService()
    assert await pool.run(lambda: 7) == 7


def test_backoff_ends_with_the_cancellation():
    """A pause in a thread ends as soon as the call is cancelled."""
    cancellation = Cancellation()
    cancellation.wait(0)
    cancellation.cancel()
    with pytest.raises(errors.Cancelled):
        cancellation.wait(3600)


def test_interrupt_is_called_while_its_block_runs():
    """A cancel calls the interrupt of a running block, once; of a left one it does not."""
    cancellation, calls = Cancellation(), []
    with cancellation.interrupting(lambda: calls.append("left")):
        pass
    with pytest.raises(errors.Cancelled):
        with cancellation.interrupting(lambda: calls.append("running")):
            cancellation.cancel()
            cancellation.check()
    assert calls == ["running"]


def test_no_block_is_entered_after_the_end():
    """A block that waits does not begin once the call is cancelled."""
    cancellation = Cancellation()
    cancellation.cancel()
    with pytest.raises(errors.Cancelled):
        with cancellation.interrupting(lambda: None):
            pytest.fail("entered")


@pytest_twisted.ensureDeferred
async def test_the_status_counts_what_runs_and_what_waits(pool):
    """A call that nobody waits for any more is counted until its function has returned."""
    gate, release = Gate(), threading.Event()
    calls = [pool.run(release.wait), pool.run_cancellable(gate), pool.run(list)]
    await gate.entered
    await until(lambda: pool.status()["running"] == 2, "both threads to be busy")
    calls[0].cancel()
    with pytest.raises(defer.CancelledError):
        await calls[0]
    status = pool.status()
    assert (status["threads"], status["running"], status["waiting"]) == (2, 2, 1)
    await until(lambda: pool.status()["longest_seconds"] > 0, "time to pass")
    release.set()
    gate.open.set()
    await defer.gatherResults(calls[1:])
    await until(lambda: not pool.status()["running"], "the end")
    assert pool.status()["longest_seconds"] == 0.0


@pytest_twisted.ensureDeferred
async def test_a_thread_that_cannot_be_started_fails_its_call(monkeypatch):
    """As where a user may have no more of them; later ones succeed, and the service stops."""
    pool = ThreadPoolService("few", 1, reactor)
    pool.startService()

    def none_left(*args, **kwargs):
        thread = threading.Thread(*args, **kwargs)
        monkeypatch.setattr(thread, "start", refuse)
        return thread

    def refuse():
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as limited:
        limited.setattr(ThreadPool, "threadFactory", staticmethod(none_left))
        with pytest.raises(errors.Unavailable, match="can't start new thread"):
            await pool.run(int)
    assert pool.pending == 0
    assert await pool.run(int) == 0
    await pool.stopService()
