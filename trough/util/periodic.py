"""Work that runs at intervals and survives its own failures."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from twisted.application import service
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from trough import errors
from trough.util.error_text import error_text
from trough.util.waiting import ended

_log = Logger()


class Periodic(service.Service):
    """Calls `work` at once and then every `interval` seconds, never twice at a time.

    A LoopingCall ends for good at its first exception. Here an exception is logged, and the next
    round comes at its time. Stopping cancels the round under way and waits for it.

    :param name: what the work is, for the log
    """

    def __init__(
        self,
        name: str,
        interval: float,
        work: Callable[[], Coroutine[Any, Any, None]],
        clock: IReactorTime,
    ) -> None:
        self._name = name
        self._interval = interval
        self._work = work
        self._loop = LoopingCall(self._round)
        self._loop.clock = clock
        self._current: Deferred[None] | None = None
        self._failing = False
        self._failing_since = 0.0
        self._reason = ""

    @property
    def failing(self) -> tuple[float, str] | None:
        """Since when each round fails, by `clock`, and why the last one did; None: none does."""
        return (self._failing_since, self._reason) if self._failing else None

    def startService(self) -> None:
        super().startService()
        self._loop.start(self._interval)

    def stopService(self) -> Deferred[None] | None:
        super().stopService()
        if self._loop.running:
            self._loop.stop()
        if self._current is None:
            return None
        stopped = ended(self._current)
        self._current.cancel()
        return stopped

    def _round(self) -> Deferred[None]:
        self._current = maybeDeferred(self._work)
        self._current.addCallbacks(self._well, self._failed)
        self._current.addBoth(self._done)
        return self._current

    def _well(self, _: object) -> None:
        if self._failing:
            self._failing = False
            _log.info("{name}: works again", name=self._name)

    def _failed(self, failure: Failure) -> None:
        if not self.running:
            return
        # The same trouble every second would bury everything else in the log.
        self._reason = _reason_of(failure.value)
        if not self._failing:
            self._failing = True
            self._failing_since = self._loop.clock.seconds()
            _log.warn("{name}: {reason}", name=self._name, reason=self._reason)
            _log.debug("{trace}", trace=failure.getTraceback())

    def _done(self, _: object) -> None:
        self._current = None


def _reason_of(error: BaseException | None) -> str:
    """An error in a sentence; one that nobody expected, with its type, by which it is found."""
    kind = type(error).__name__
    if error is None or isinstance(error, errors.TroughError):
        return str(error)
    return f"{kind}: {error_text(error)}".removesuffix(f": {kind}")
