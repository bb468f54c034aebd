"""Notices that this process was stalled, and stops it from acting on outdated knowledge.

A process can be stalled for a while: by a signal, with its whole machine, or for want of memory.
Then it goes on with its old knowledge. It handles the requests that came meanwhile first, and the
news after them. A worker that was killed and restarted is in the same position. A process that was
stalled for long enough to be taken for dead has to ask for the current state before it acts again.
Other processes do not notice a shorter pause.

The only assumption is that clocks run at the same rate everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from twisted.application import service
from twisted.internet.interfaces import IReactorTime

from trough.util.periodic import Periodic
from trough.util.waiting import Waiters

#: Seconds between two looks at the clock, and before finding out is tried again.
INTERVAL = 1.0


class StallDetector(service.MultiService):
    """Whether this process knows what is true; it does not at first.

    :param longest: seconds of a stall that do not matter
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
        self._known: Waiters[None] = Waiters()
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
        """Return once what is known is true; usually at once."""
        if self.lapsed:
            await self._known.wait()

    async def _look(self) -> None:
        if not self.lapsed:
            return
        lapses = self._lapses
        await self._find_out()
        self._made_up_for = lapses
        if not self.lapsed:  # once more, meanwhile
            self._known.fire(None)
