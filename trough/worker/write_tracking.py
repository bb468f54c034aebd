"""Bookkeeping of the writes to one local copy.

A promotion has to know whether anything was written since its snapshot began, and a
copy that retires has to wait for the writes that are under way. Both are questions of
two counters.
"""

from __future__ import annotations

from trough.util.waiting import Waiters


class WriteTracker:
    """The writes to one copy.

    :ivar started: number of writes that were ever accepted
    :ivar last: when the last one was accepted, or the copy became what it is
    :ivar closed: whether further ones are to be refused, since the copy is to be retired
    :ivar suspended: whether further ones are to be refused for a moment, and the copy stays
    :ivar committed: whether one was stored, or may have been
    """

    __slots__ = ("_finished", "_waiting", "closed", "committed", "last", "started", "suspended")

    def __init__(self, now: float) -> None:
        self.started = 0
        self.last = now
        self.closed = False
        self.suspended = False
        self.committed = False
        self._finished = 0
        self._waiting: Waiters[None] = Waiters()

    @property
    def idle(self) -> bool:
        """Whether no write is under way."""
        return self.started == self._finished

    @property
    def under_way(self) -> int:
        """How many writes are under way."""
        return self.started - self._finished

    def begun(self, now: float) -> None:
        """Count a write in; each is counted out by one call of :meth:`ended`."""
        self.started += 1
        self.last = now

    async def settled(self) -> None:
        """Return once no write is under way."""
        if not self.idle:
            await self._waiting.wait()

    def ended(self) -> None:
        """Count a write out, whose outcome is known."""
        self._finished += 1
        if self.idle and self._waiting:
            self._waiting.fire(None)
