"""Batches output: calls that run once, at the end of the work under way.

A process handles all that one read of a socket brings in one go. At the end of that it sends what
the work produced, in one piece and at once. Waiting for the reactor's next turn would cost as much
as a small request. Outside of such work, the end is that of the reactor's turn.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

_log = Logger()


class FlushBatch:
    """The work of one process; a context manager around each batch, which may be nested.

    :ivar under_way: whether there is a batch now
    """

    __slots__ = ("_calls", "_clock", "_depth", "under_way")

    def __init__(self, clock: IReactorTime) -> None:
        self.under_way = False
        self._clock = clock
        self._depth = 0
        self._calls: list[Callable[[], None]] = []

    def __enter__(self) -> None:
        self._depth += 1
        self.under_way = True

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._depth == 1:
            self._end()
            self.under_way = False
        self._depth -= 1

    def at_end(self, call: Callable[[], None]) -> None:
        """Have `call` called soon, and after the work that is under way."""
        if not self._calls and not self.under_way:
            self._clock.callLater(0, self._end)
        self._calls.append(call)

    def _end(self) -> None:
        while self._calls:
            calls, self._calls = self._calls, []
            for call in calls:
                try:
                    call()
                except Exception:
                    _log.failure("what was to be done at the end of a flush_batch of work failed")
