"""Turns for work of which only a few may run at once, so that short work never waits long.

There are *short* turns and *long* ones. Each holder begins with a short one. A turn may go on
for some seconds, or be reported to need much (:meth:`Slot.becomes_long`). Then it becomes a long
one, if there is room for that, and frees its short turn for others. Without room it stays a
short turn. But while others wait, such turns may hold only half of the short ones: the turn that
came last to need much is ended.

The holder of a turn reports when it only waits for its reader. It may wait without limit until
another caller waits for a turn. Then the holder that has waited longest for its reader gives up
its turn, if that wait was long enough. So no turn depends on strangers who do not read, or whose
requests do not end.

This module does not depend on what a turn is for, nor on what a holder sends its reader after it
loses a turn.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from twisted.internet.defer import CancelledError, DeferredSemaphore

#: Seconds after which a turn is a long one in any case.
LONG_AFTER = 3.0

#: Seconds after which a turn counts as one that needs much, without a report. Longer than
#: the patience with any reader.
MUCH_AFTER = 60.0


class AdmissionQueue:
    """See the module.

    :param count: of short turns at once
    :param patience: seconds for which a reader may be waited for while others wait for turns
    :param clock: the reactor
    :param long: turns that may be long ones, beside the short ones; 0: a turn lasts as long as
        it likes
    """

    def __init__(self, count: int, patience: float, clock: Any, long: int = 0) -> None:
        self.patience = patience
        self.clock = clock
        self._free = DeferredSemaphore(count)
        self._most_overdue = max(1, count // 2)
        self._most_long = long
        self._long = 0
        # Turns that need much and have found no long turn, in the order in which they did.
        self._overdue: dict[Slot, None] = {}
        # Turns that wait for their readers and since when, longest first.
        self._asleep: dict[Slot, float] = {}
        self._leaving: set[Slot] = set()
        self._later: Any = None

    async def take(self, leave: Callable[[], None]) -> Slot:
        """Wait for a turn, which has to be given back.

        :param leave: called at most once, when the turn is wanted back; its holder ends soon
        """
        free = self._free.acquire()
        self._look()
        try:
            await free
        except CancelledError:
            self._look()  # as one fewer waits
            raise
        return Slot(self, leave)

    def give_back(self, turn: Slot) -> None:
        """End a turn."""
        self._leaving.discard(turn)
        self._overdue.pop(turn, None)
        if turn.is_long:
            self._long -= 1
        else:
            self._free.release()
        for overdue in list(self._overdue):
            self.lengthen(overdue)
        self._look()

    def lengthen(self, turn: Slot) -> bool:
        """Make a long turn of one, where there is room; whether it is a long one now."""
        if not turn.is_long and self._long < self._most_long:
            turn.is_long = True
            self._long += 1
            self._overdue.pop(turn, None)
            self._free.release()
        return turn.is_long

    def needs_much(self, turn: Slot) -> None:
        """Record that a turn will not end soon."""
        if not self.lengthen(turn) and self._most_long:
            self._overdue[turn] = None
            self._look()

    async def wait(self, turn: Slot, reader: Awaitable[None]) -> None:
        """Wait for the reader of the turn's holder."""
        self._asleep[turn] = self.clock.seconds()
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
        # A holder may leave at once, and changes all of this.
        while len(self._overdue) > self._most_overdue and self._is_wanted:
            last, _ = self._overdue.popitem()
            self._asleep.pop(last, None)
            last.is_too_long = True
            self._end(last)
        while self._is_wanted and (turn := self._sleeper()) is not None:
            since = self._asleep[turn]
            left = since + self.patience - self.clock.seconds()
            if left > 0:
                self._later = self.clock.callLater(left, self._look)
                return
            del self._asleep[turn]
            self._overdue.pop(turn, None)
            self._end(turn)

    @property
    def _is_wanted(self) -> bool:
        """Whether more callers wait for a turn than turns are being given back."""
        return len(self._free.waiting) > len(self._leaving)

    def _sleeper(self) -> Slot | None:
        """Whose reader has been waited for longest, of those whose end would give a turn."""
        return next((each for each in self._asleep if not each.is_long or self._overdue), None)

    def _end(self, turn: Slot) -> None:
        self._leaving.add(turn)
        turn.lost = True
        turn.leave()


class Slot:
    """One that was taken.

    :ivar lost: it was wanted back
    :ivar is_long: it is a long one
    :ivar is_too_long: it was wanted back because it needed much
    """

    def __init__(self, turns: AdmissionQueue, leave: Callable[[], None]) -> None:
        self.lost = self.is_long = self.is_too_long = False
        self.leave = leave
        self._turns = turns
        self._timers = [
            turns.clock.callLater(LONG_AFTER, turns.lengthen, self),
            turns.clock.callLater(MUCH_AFTER, turns.needs_much, self),
        ]

    def becomes_long(self) -> None:
        """Report that much is needed until the end."""
        self._turns.needs_much(self)

    async def wait_for(self, reader: Awaitable[None]) -> None:
        """Wait for one's reader."""
        await self._turns.wait(self, reader)

    def give_back(self) -> None:
        """End the turn; once."""
        for timer in self._timers:
            if timer.active():
                timer.cancel()
        self._turns.give_back(self)
