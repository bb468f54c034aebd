"""How code waits: for an event, for work of somebody else, for a reader that keeps up.

Twisted has locks, semaphores and queues for Deferreds, and nothing for an event with several
waiters, or for work that goes on when one who waits for it gives up.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Hashable
from typing import Any, Generic, TypeVar, cast

from twisted.internet.defer import Deferred, succeed
from twisted.python.failure import Failure

T = TypeVar("T")
K = TypeVar("K", bound=Hashable)


class Waiters(Generic[T]):
    """Those that wait for one event. It may come again, for those that wait by then."""

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        # Most events have no waiter, and there is one event for each segment.
        self._waiting: dict[Deferred[T], None] | None = None

    def wait(self) -> Deferred[T]:
        """Fires at the next event. Cancelling it, also by a timeout, removes the waiter."""
        waiting: Deferred[T] = Deferred(self._remove)
        if self._waiting is None:
            self._waiting = {}
        self._waiting[waiting] = None
        return waiting

    def fire(self, result: T | Failure) -> None:
        """Give all present waiters `result`, the first one first."""
        waiting, self._waiting = self._waiting, None
        for each in waiting or ():
            if not each.called:  # an earlier one may have cancelled it
                each.callback(result)  # a Failure starts the chain of errbacks

    def fail(self, error: Exception) -> None:
        """Have all present waiters fail."""
        if self._waiting:
            self.fire(Failure(error))

    def __len__(self) -> int:
        return len(self._waiting or ())

    def _remove(self, waiting: Deferred[T]) -> None:
        if self._waiting is not None:
            self._waiting.pop(waiting, None)


class Promised(Generic[T]):
    """A result that comes once, for all that wait for it and all that ask later."""

    __slots__ = ("_result", "_waiters")

    def __init__(self) -> None:
        self._waiters: Waiters[T] = Waiters()
        self._result: list[T | Failure] = []

    def wait(self) -> Deferred[T]:
        """Fires with the result, or fails with its failure: now, or when it comes."""
        waiting = self._waiters.wait()
        if self._result:
            self._waiters.fire(self._result[0])
        return waiting

    def fire(self, result: T | Failure) -> None:
        """The result. Without effect if there is one."""
        if not self._result:
            self._result.append(result)
            self._waiters.fire(result)


class BackPressure:
    """What a consumer that is full does to a coroutine that produces."""

    __slots__ = ("_waiters", "is_on")

    def __init__(self) -> None:
        self.is_on = False
        self._waiters: Waiters[None] = Waiters()

    def ready(self) -> Deferred[None]:
        """Fires when the consumer takes more: now, or later."""
        return self._waiters.wait() if self.is_on else succeed(None)

    def pause(self) -> None:
        """The consumer is full. Idempotent."""
        self.is_on = True

    def resume(self) -> None:
        """The consumer takes more. Idempotent."""
        self.is_on = False
        self._waiters.fire(None)


class SingleFlight(Generic[K, T]):
    """One piece of work for all that ask for the same at the same time.

    The name is that of Go's package golang.org/x/sync/singleflight.
    """

    __slots__ = ("_flights",)

    def __init__(self) -> None:
        self._flights: dict[K, Waiters[T]] = {}

    def run(self, key: K, work: Callable[[], Coroutine[Deferred[Any], Any, T]]) -> Deferred[T]:
        """What `work` returns or raises: of the call under way for this `key`, or of a new one.

        Cancelling the Deferred stops its waiting alone; the work goes on for the others.
        """
        flight = self._flights.get(key)
        if flight is not None:
            return flight.wait()
        flight = self._flights[key] = Waiters()
        waiting = flight.wait()
        Deferred.fromCoroutine(work()).addBoth(self._landed, key)
        return waiting

    def _landed(self, result: T | Failure, key: K) -> None:
        self._flights.pop(key).fire(result)


def ended(work: Deferred[Any]) -> Deferred[None]:
    """Fires when `work` has a result, which stays with its owner.

    Cancelling it, also by a timeout, leaves the work alone.
    """
    waiting: Deferred[None] = Deferred()

    def pass_on(result: Any) -> Any:
        if not waiting.called:
            waiting.callback(None)
        return result

    work.addBoth(pass_on)
    return waiting


def shielded(
    work: Deferred[T], late: Callable[[T | Failure], None] = lambda result: None
) -> Deferred[T]:
    """Fires with the result of `work`, of which nobody else learns.

    Cancelling it, also by a timeout, leaves the work alone.

    :param late: called with a result of the work that comes after that
    """
    waiting: Deferred[T] = Deferred()

    def take(result: T | Failure) -> None:
        if not waiting.called:
            waiting.callback(cast(T, result))
        else:
            late(result)

    work.addBoth(take)
    return waiting


async def first_error(results: Deferred[list[T]]) -> list[T]:
    """What `gatherResults` gathered, or the error itself that it wraps."""
    try:
        return await results
    except Exception as error:
        inner = getattr(error, "subFailure", None)
        if inner is None:
            raise
        raise inner.value from error
