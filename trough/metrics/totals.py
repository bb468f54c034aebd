"""Numbers that only grow, for the time since the process started. Pure.

Adding to one costs a request some hundred nanoseconds, so there is no lock and no library here.
"""

from __future__ import annotations

from bisect import bisect_left

#: Upper bounds of latencies in seconds: from a point read to the longest write.
BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 600)


class VerbTotals:
    """Requests of one verb.

    :ivar answered: how many succeeded
    :ivar failed: numbers of the others, by the code of the error, or ``lost`` where the client
        went away
    :ivar buckets: how many were not longer than each of :data:`BOUNDS`, and than the one before it
        were; the last one counts those longer than all
    :ivar seconds: the sum of all
    """

    __slots__ = ("answered", "buckets", "failed", "seconds")

    def __init__(self) -> None:
        self.answered = 0
        self.failed: dict[str, int] = {}
        self.buckets = [0] * (len(BOUNDS) + 1)
        self.seconds = 0.0

    def add(self, outcome: str, seconds: float) -> None:
        """Count one request.

        :param outcome: ``ok``, or one of the others
        :param seconds: that it took
        """
        if outcome == "ok":
            self.answered += 1
        else:
            self.failed[outcome] = self.failed.get(outcome, 0) + 1
        self.buckets[bisect_left(BOUNDS, seconds)] += 1
        self.seconds += seconds

    def outcomes(self) -> dict[str, int]:
        """Numbers by outcome."""
        return {"ok": self.answered, **self.failed} if self.answered else dict(self.failed)


class RequestTotals:
    """Requests of one role.

    :ivar verbs: by protocol and verb
    """

    def __init__(self) -> None:
        self.verbs: dict[tuple[str, str], VerbTotals] = {}

    def of(self, protocol: str, verb: str) -> VerbTotals:
        """Where to count requests.

        :param verb: one of a fixed set
        """
        found = self.verbs.get((protocol, verb))
        if found is None:
            found = self.verbs[protocol, verb] = VerbTotals()
        return found

    def status(self) -> dict[str, dict[str, int]]:
        """Numbers by ``protocol verb`` and outcome; JSON-able."""
        return {
            f"{protocol} {verb}": found
            for (protocol, verb), totals in sorted(self.verbs.items())
            if (found := totals.outcomes())
        }


class ExecutorTotals:
    """What the executors of a worker answered.

    :ivar rows: of queries, whole segments only
    :ivar bytes: of their answers
    :ivar writes: that are on disk
    :ivar changes: rows that these changed
    """

    __slots__ = ("bytes", "changes", "rows", "writes")

    def __init__(self) -> None:
        self.rows = self.bytes = self.writes = self.changes = 0

    def add(self, size: int, rows: int) -> None:
        """Count a piece of an answer.

        :param rows: of a segment that is complete with it; less than 0 for one that failed
        """
        self.bytes += size
        if rows > 0:
            self.rows += rows

    def status(self) -> dict[str, int]:
        """As a JSON object."""
        return {name: getattr(self, name) for name in self.__slots__}
