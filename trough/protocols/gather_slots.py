"""Turns at something of which only a few may go on at once, with readers that may fall asleep.

Who has a turn says when it only waits for its reader. That costs nobody anything, however
long it takes, until somebody else waits for a turn: then the one whose reader has been
waited for longest gives up its own, if it has been waited for long enough. So nobody's turn
depends on strangers who do not read.

It refuses to know what a turn is for, and what whoever loses one tells its reader.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from twisted.internet.defer import CancelledError, DeferredSemaphore


class AdmissionQueue:
    """See the module.

    :param count: of turns at once
    :param patience: seconds for which a reader may be waited for while others wait for turns
    :param clock: the reactor
    """

    def __init__(self, count: int, patience: float, clock: Any) -> None:
        self.patience = patience
        self._clock = clock
        self._free = DeferredSemaphore(count)
        # Turns that wait for their readers and since when, longest first.
        self._asleep: dict[Slot, float] = {}
        self._leaving: set[Slot] = set()
        self._later: Any = None

    async def take(self, leave: Callable[[], None]) -> Slot:
        """Wait for a turn, which has to be given back.

        :param leave: called at most once, when the turn is wanted back; whoever has it
            ends soon
        """
        free = self._free.acquire()
        self._look()
        try:
            await free
        except CancelledError:
            self._look()  # as one fewer waits
            raise
        return Slot(self, leave)

    def _give_back(self, turn: Slot) -> None:
        self._leaving.discard(turn)
        self._free.release()
        self._look()

    async def _wait(self, turn: Slot, reader: Awaitable[None]) -> None:
        self._asleep[turn] = self._clock.seconds()
        self._look()
        try:
            await reader
        finally:
            self._asleep.pop(turn, None)

    def _look(self) -> None:
        """Have turns given back that are wanted and due; look again when one will be."""
        if self._later is not None and self._later.active():
            self._later.cancel()
        self._later = None
        # Whoever leaves may do so at once, and changes all of this.
        while self._asleep and len(self._free.waiting) > len(self._leaving):
            turn, since = next(iter(self._asleep.items()))
            left = since + self.patience - self._clock.seconds()
            if left > 0:
                self._later = self._clock.callLater(left, self._look)
                return
            del self._asleep[turn]
            self._leaving.add(turn)
            turn.lost = True
            turn.leave()


class Slot:
    """One that was taken.

    :ivar lost: it was wanted back
    """

    def __init__(self, turns: AdmissionQueue, leave: Callable[[], None]) -> None:
        self.lost = False
        self.leave = leave
        self._turns = turns

    async def wait_for(self, reader: Awaitable[None]) -> None:
        """Wait for one's reader."""
        await self._turns._wait(self, reader)

    def give_back(self) -> None:
        """End the turn; once."""
        self._turns._give_back(self)
