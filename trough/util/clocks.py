"""The two clocks of a server: one for durations, one for the time of day.

Twisted's reactors keep their timers by the time of day. A person, NTP at its
first answer, or a virtual machine's host may set it back by an hour. Then every timer is an hour
late, heartbeats included, and the leader counts all workers as dead. So a server's reactor gets a
clock that nobody sets. Times for people, and times that are stored, are times of day.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IReactorTime

#: Seconds since some moment, on a clock that is never set, and goes on while the process or
#: the whole machine stands still. Each request asks several times, so no function of ours
#: stands before that of the system.
elapsed: Callable[[], float] = functools.partial(time.clock_gettime, time.CLOCK_BOOTTIME)


def keep_time_by_elapsed(reactor: Any) -> None:
    """Have `reactor` keep its timers by :func:`elapsed`.

    :raises RuntimeError: something is scheduled by its former clock, and would never come
    """
    if reactor.getDelayedCalls():
        raise RuntimeError(f"{reactor} has timers already")
    reactor.seconds = elapsed


def time_of_day(moment: float, clock: IReactorTime) -> float:
    """Seconds since the epoch.

    :param moment: not long ago, by `clock`
    """
    return time.time() - (clock.seconds() - moment)
