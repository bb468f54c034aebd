"""Blocking calls on threads of their own, behind Deferreds.

Each kind of blocking work (copying files, calling a store that blocks) has its own pool, which a
service owns. So a slow kind never delays another one, or the reactor's name resolution. A pool
promises three things. Its size bounds how many calls run at once. A cancelled call ends when its
function next checks its :class:`Cancellation`. `stopService` fires when nothing runs any more. A
pool never kills a thread: it waits for a function that neither returns nor checks.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any, Concatenate, ParamSpec, TypeVar

from twisted.application import service
from twisted.internet import defer
from twisted.internet.interfaces import IReactorFromThreads
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool

from trough import errors
from trough.util.clocks import elapsed
from trough.util.waiting import Waiters

P = ParamSpec("P")
T = TypeVar("T")


class Cancellation:
    """Lets a function on another thread find out that its result is not needed any more."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self._lock = threading.Lock()
        self._interrupts: list[Callable[[], None]] = []

    def cancel(self) -> None:
        """Ask for an end; on any thread. Idempotent."""
        self._event.set()
        # Under the lock, so that none is called any more when its block is left.
        with self._lock:
            for interrupt in self._interrupts:
                interrupt()

    @contextlib.contextmanager
    def interrupting(self, interrupt: Callable[[], None]) -> Iterator[None]:
        """Have a block that waits for something else interrupted by a cancel.

        :param interrupt: called on the thread that cancels, while the block runs; makes
            what the block waits for fail, and returns at once
        :raises trough.errors.Cancelled: an end was asked for already
        """
        with self._lock:
            self._interrupts.append(interrupt)
        try:
            self.check()
            yield
        finally:
            with self._lock:
                self._interrupts.remove(interrupt)

    @property
    def cancelled(self) -> bool:
        """Whether an end was asked for."""
        return self._event.is_set()

    def check(self) -> None:
        """Go on, or end here.

        :raises trough.errors.Cancelled: an end was asked for
        """
        if self._event.is_set():
            raise errors.Cancelled("cancelled before it was done")

    def wait(self, seconds: float) -> None:
        """Pause this thread, as a backoff does, but no longer than until the end.

        :raises trough.errors.Cancelled: an end was asked for
        """
        self._event.wait(seconds)
        self.check()


class ThreadPoolService(service.Service):
    """A thread pool that starts and stops with its service.

    :param name: of the pool; its threads' names begin with it
    :param size: how many calls may run at once; further ones wait in order
    :param reactor: where the Deferreds fire
    """

    def __init__(self, name: str, size: int, reactor: IReactorFromThreads) -> None:
        self.name: str = name  # type: ignore[assignment]  # Twisted declares None
        self.size = size
        self._reactor = reactor
        self._pool: ThreadPool | None = None
        self._calls: set[_Call] = set()
        self._idle: Waiters[None] = Waiters()

    def startService(self) -> None:
        # A ThreadPool cannot be started twice, a service can.
        self._pool = ThreadPool(minthreads=0, maxthreads=self.size, name=self.name)
        self._pool.start()
        super().startService()

    def stopService(self) -> defer.Deferred[None]:
        """Refuse new calls, cancel those that can be, and wait for all of them."""
        super().stopService()
        pool, self._pool = self._pool, None
        return defer.Deferred.fromCoroutine(self._stop(pool))

    async def _stop(self, pool: ThreadPool | None) -> None:
        if pool is None:
            return
        for call in self._calls:
            call.cancellation.cancel()
        if self._calls:
            await self._idle.wait()
        # Joins the threads, which have nothing left to do.
        pool.stop()

    @property
    def pending(self) -> int:
        """Number of calls that run or wait for a thread."""
        return len(self._calls)

    def status(self) -> dict[str, float]:
        """How many calls run and wait, and for how many seconds the longest one runs; one whose
        Deferred was cancelled is among them until its function has returned."""
        begun = [call.begun for call in self._calls if call.begun is not None]
        return {
            "threads": self.size,
            "running": len(begun),
            "waiting": len(self._calls) - len(begun),
            "longest_seconds": round(elapsed() - min(begun), 3) if begun else 0.0,
        }

    def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> defer.Deferred[T]:
        """Call `function` on a thread of the pool.

        Cancelling the Deferred takes the call back if it still waits for a thread;
        once it runs, it goes on, and its result is dropped.

        :return: what the function returns or raises; :class:`trough.errors.Cancelled`
            where the service is not running
        """

        def without_cancellation(_: Cancellation, *args: Any, **kwargs: Any) -> T:
            return function(*args, **kwargs)

        return self.run_cancellable(without_cancellation, *args, **kwargs)

    def run_cancellable(
        self,
        function: Callable[Concatenate[Cancellation, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> defer.Deferred[T]:
        """As :meth:`run`, handing `function` a :class:`Cancellation` as its first
        argument, which it checks at every step.

        Cancelling the Deferred makes it fail with Twisted's `CancelledError` at once;
        the function ends at its next check, and until then counts as running.
        """
        if self._pool is None:
            return defer.fail(errors.Cancelled(f"the thread pool {self.name} is not running"))
        call = _Call()
        self._calls.add(call)

        def body() -> T:
            call.begun = elapsed()
            call.cancellation.check()
            return function(call.cancellation, *args, **kwargs)

        def ended(success: bool, result: Any) -> None:
            self._reactor.callFromThread(self._ended, call, result)

        try:
            self._pool.callInThreadWithCallback(ended, body)
        except RuntimeError as reason:  # there are as many threads as this user may have
            self._calls.discard(call)
            # Those that never ran cannot be joined at the end.
            self._pool.threads[:] = [each for each in self._pool.threads if each.ident]
            return defer.fail(errors.Unavailable(f"the thread pool {self.name}: {reason}"))
        return call.deferred

    def _ended(self, call: _Call, result: Any) -> None:
        self._calls.discard(call)
        call.finish(result)
        if not self._calls:
            self._idle.fire(None)


class _Call:
    """One call that was handed to the pool.

    :ivar begun: when a thread took it up, by :func:`trough.util.clocks.elapsed`
    """

    def __init__(self) -> None:
        self.begun: float | None = None
        self.cancellation = Cancellation()
        self.deferred: defer.Deferred[Any] = defer.Deferred(lambda _: self.cancellation.cancel())

    def finish(self, result: Any) -> None:
        if self.deferred.called:  # cancelled meanwhile: the result is not needed
            return
        if isinstance(result, Failure):
            self.deferred.errback(result)
        else:
            self.deferred.callback(result)
