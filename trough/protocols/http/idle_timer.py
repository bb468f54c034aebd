"""A timeout that is moved on with each request and hardly ever comes.

Twisted's mixin makes and cancels a timer for each request. Here the time is noted, and one timer
looks now and then whether it has come.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IDelayedCall
from twisted.protocols.policies import TimeoutMixin

#: Seconds by which sums of times may differ.
_ROUNDING = 1e-6


class IdleTimer(TimeoutMixin):
    """As :class:`twisted.protocols.policies.TimeoutMixin`, for protocols of a busy server.

    A timer that is not needed any more stays until its time, or until :meth:`end_timer`.
    """

    _ends_at: float | None = None
    _timer: IDelayedCall | None = None

    def seconds(self) -> float:
        """The time, by the clock of ``callLater``."""
        raise NotImplementedError

    def setTimeout(self, period: Any) -> Any:
        before, self.timeOut = self.timeOut, period
        self._ends_at = None if period is None else self.seconds() + period
        if self._ends_at is None:
            return before
        timer = self._timer
        if timer is None or not timer.active():
            self._timer = self.callLater(period, self._look_at_clock)
        elif timer.getTime() > self._ends_at:
            timer.reset(period)
        return before

    def resetTimeout(self) -> None:
        if self._ends_at is not None and self.timeOut is not None:
            self._ends_at = self.seconds() + self.timeOut

    def end_timer(self) -> None:
        """There is nothing left that could time out."""
        timer, self._timer, self._ends_at = self._timer, None, None
        if timer is not None and timer.active():
            timer.cancel()

    def _look_at_clock(self) -> None:
        self._timer = None
        if self._ends_at is None:
            return
        left = self._ends_at - self.seconds()
        if left > _ROUNDING:
            self._timer = self.callLater(left, self._look_at_clock)
        else:
            self._ends_at = None
            self.timeoutConnection()
