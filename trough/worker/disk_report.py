"""Reports a full disk once and loudly, instead of not at all or once for each request.

Each refused write and promotion is answered to its client alone. Here they are counted for the
status, and logged: one line per cause and minute, which says how many there were.
"""

from __future__ import annotations

from collections import Counter

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from trough import errors

_log = Logger()

#: Seconds between two lines about the same cause.
INTERVAL = 60.0


class DiskReport:
    """What the full disk of one worker refused."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._counts: Counter[str] = Counter()
        self._logged: dict[str, tuple[float, int]] = {}

    def refused(self, what: str, reason: BaseException | None) -> None:
        """Take notice of a refusal.

        :param what: ``writes`` or ``promotions``
        :param reason: anything but a full disk is not counted
        """
        if not isinstance(reason, errors.DiskFull):
            return
        self._counts[what] += 1
        count, now = self._counts[what], self._clock.seconds()
        at, known = self._logged.get(what, (float("-inf"), 0))
        if now - at < INTERVAL:
            return
        self._logged[what] = (now, count)
        _log.error(
            "the disk is full: {number} {what} refused: {reason}; see the guide, *A disk is full*",
            number=count - known,
            what=what,
            reason=reason,
        )

    def status(self) -> dict[str, int]:
        """Refusals since the start, by what was refused."""
        return {
            "refused_writes": self._counts["writes"],
            "refused_promotions": self._counts["promotions"],
        }
