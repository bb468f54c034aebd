"""Reports what an operator has to look at: one line per cause and minute, with the section of the
guide that says what to do.

Whatever refuses writes or promotions, stops the leader's rounds, or keeps copies from arriving is
reported here. Each request is answered to its client alone, and there may be thousands.
"""

from __future__ import annotations

from collections import Counter
from enum import Enum

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

_log = Logger()

#: Seconds between two lines about the same cause.
INTERVAL = 60.0


class Section(Enum):
    """Sections of docs/operations.rst, each by the beginning of its title."""

    CLOCKS = "Clocks"
    COLD_WORKERS = "No cold worker lives"
    DAMAGED = "A local copy is damaged"
    DISK_FULL = "A disk is full"
    LEADER = "The leader dies or hangs"
    LOST_FILES = "Very many segments are missing"
    ORDERS = "Provisionings are refused"
    PROMOTIONS = "Promotions fail"
    QUARANTINE = "What is aside"
    REPLICAS = "A table has too few replicas"
    RETHINKDB = "RethinkDB is gone altogether"
    REFUSED_USER = "RethinkDB refuses the user"
    ROUNDS = "The leader's rounds fail"
    STORAGE = "HDFS is away"
    TOO_FEW_COPIES = "Segments have too few copies"
    UNDER_REPLICATED = "Writes have too few copies"
    WORKER_DIES = "A worker dies"
    WRITES = "Writes are refused"

    def of_line(self, text: str) -> str:
        """A line of the log as :class:`TroubleLog` writes it, for a trouble that is logged where
        it begins."""
        return f"{text}; see the guide, *{self.value}*"

    def add_to(self, text: str) -> str:
        """A trouble as status shows it: `text`, and where the guide speaks of it."""
        return f"{text} (see {self.value})"


class TroubleLog:
    """The troubles of one process.

    :ivar counts: how many there were since the start, by section and what was hit
    """

    def __init__(self, clock: IReactorTime) -> None:
        self.counts: Counter[tuple[Section, str]] = Counter()
        self._clock = clock
        self._logged: dict[tuple[Section, str], tuple[float, int]] = {}

    def report(self, section: Section, what: str, reason: object) -> None:
        """Take notice of one; it is logged unless one of its kind was in the last minute.

        :param what: is hit, in the plural: ``writes refused``
        """
        kind = section, what
        self.counts[kind] += 1
        count, now = self.counts[kind], self._clock.seconds()
        at, known = self._logged.get(kind, (float("-inf"), 0))
        if now - at < INTERVAL:
            return
        self._logged[kind] = (now, count)
        _log.error(
            "{number} {what}: {reason}; see the guide, *{section}*",
            number=count - known,
            what=what,
            reason=reason,
            section=section.value,
        )

    def remind(self, section: Section, trouble: str) -> None:
        """Take notice that a trouble lasts; it is logged unless a line with its section was in the
        last minute."""
        now = self._clock.seconds()
        if any(
            kind[0] is section and now - at < INTERVAL for kind, (at, _) in self._logged.items()
        ):
            return
        self._logged[section, ""] = (now, 0)
        _log.error("{trouble}; see the guide, *{section}*", trouble=trouble, section=section.value)
