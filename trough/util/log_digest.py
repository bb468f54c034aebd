"""One line in the log for each cause and minute, however many events it has."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from twisted.logger import Logger

_log = Logger()

#: Seconds for which what has the same cause is counted.
PERIOD = 60.0


@dataclass(slots=True)
class _Counted:
    since: float
    more: int = 0


class LogDigest:
    """Counts events with the same cause.

    The caller logs the first one. Of the others, one line each period reports the number.

    :param now: seconds, by a monotonic clock
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._causes: dict[str, _Counted] = {}

    def is_first(self, cause: str) -> bool:
        """Whether this is to be logged by itself; else it is counted."""
        known = self._causes.get(cause)
        if known is None:
            self._causes[cause] = _Counted(self._now())
            return True
        known.more += 1
        return False

    def flush(self) -> None:
        """Report what was counted for a period; to be called now and then."""
        now = self._now()
        for cause, counted in list(self._causes.items()):
            if now - counted.since < PERIOD:
                continue
            if counted.more:
                _log.info("{count} more: {cause}", count=counted.more, cause=cause)
                self._causes[cause] = _Counted(now)
            else:
                del self._causes[cause]
