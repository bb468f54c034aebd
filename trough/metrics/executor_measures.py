"""What an executor measures of its own work: histograms in one row of numbers. Pure.

The numbers lie in memory that the executor shares with its parent, which reads them when somebody
asks for the metrics. No message is sent for them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from trough.metrics.histogram import Histogram, size_of
from trough.metrics.totals import BOUNDS

#: Writes that share a commit.
GROUP_BOUNDS = (1, 2, 4, 8, 16, 64, 256, 1024, 4096)

#: Bytes of a write-ahead log.
LOG_BOUNDS = tuple(1 << bits for bits in range(16, 34, 2))

#: What is measured, with its bounds: seconds that work waits for its first turn, seconds of a
#: turn, seconds of a commit (which waits for the disk), writes of a commit, bytes of the
#: write-ahead log after it.
MEASURES: dict[str, Sequence[float]] = {
    "queue": BOUNDS,
    "turn": BOUNDS,
    "commit": BOUNDS,
    "group": GROUP_BOUNDS,
    "log": LOG_BOUNDS,
}

#: How many numbers there are.
NUMBERS = sum(map(size_of, MEASURES.values()))


class ExecutorMeasures:
    """The histograms over a row of numbers.

    :param numbers: :data:`NUMBERS` of them, which can be sliced without a copy
    :ivar queue: seconds that work waits for its first turn
    :ivar turn: seconds of a turn
    """

    def __init__(self, numbers: Any) -> None:
        found, begin = {}, 0
        for name, bounds in MEASURES.items():
            end = begin + size_of(bounds)
            found[name] = Histogram(bounds, numbers[begin:end])
            begin = end
        self.queue, self.turn = found["queue"], found["turn"]
        self._commit, self._group, self._log = (found[each] for each in ("commit", "group", "log"))

    def add_commit(self, seconds: float, writes: int, log_bytes: int) -> None:
        """Count a commit."""
        self._commit.add(seconds)
        self._group.add(writes)
        self._log.add(log_bytes)


def by_name(numbers: Sequence[float]) -> dict[str, list[float]]:
    """A row of numbers, one list for each measure; JSON-able."""
    found, begin = {}, 0
    for name, bounds in MEASURES.items():
        end = begin + size_of(bounds)
        found[name] = list(numbers[begin:end])
        begin = end
    return found
