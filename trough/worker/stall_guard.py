"""Notices that this process stood still, and lets nobody act on what it knew before.

A process that was stopped for a while (by a signal, with its whole machine, for want of
memory) goes on with everything that it believed, and first with the requests that came
meanwhile: the news come after them. A worker that was killed and comes back is in the same
position. Who stood still for long enough to be taken for dead has to find out what is true
before it acts again; a shorter pause nobody noticed.

That clocks run at the same rate everywhere is all that this takes for granted.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from twisted.application import service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from trough.util.periodic import Periodic

#: Seconds between two looks at the clock, and before finding out is tried again.
INTERVAL = 1.0


class StallDetector(service.MultiService):
    """Whether this process knows what is true; it does not at first.

    :param longest: seconds of standing still that do not matter
    :param find_out: brings what is known up to date
    """

    def __init__(
        self,
        longest: float,
        find_out: Callable[[], Coroutine[Any, Any, None]],
        clock: IReactorTime,
    ) -> None:
        super().__init__()
        self._longest = longest
        self._find_out = find_out
        self._clock = clock
        self._seen = clock.seconds()
        self._lapses = 1
        self._made_up_for = 0
        self._waiting: list[Deferred[None]] = []
        interval = min(INTERVAL, longest / 4)
        Periodic("finding out what was missed", interval, self._look, clock).setServiceParent(self)

    @property
    def lapsed(self) -> bool:
        """Whether what is known may be out of date; to be asked before each act on it."""
        now = self._clock.seconds()
        if now - self._seen > self._longest:
            self._lapses += 1
        self._seen = now
        return self._made_up_for != self._lapses

    async def regained(self) -> None:
        """Return once what is known is true; at once, as a rule."""
        if self.lapsed:
            waiting: Deferred[None] = Deferred()
            self._waiting.append(waiting)
            try:
                await waiting
            finally:
                if waiting in self._waiting:
                    self._waiting.remove(waiting)

    async def _look(self) -> None:
        if not self.lapsed:
            return
        lapses = self._lapses
        await self._find_out()
        self._made_up_for = lapses
        if not self.lapsed:  # once more, meanwhile
            waiting, self._waiting = self._waiting, []
            for each in waiting:
                each.callback(None)
