"""The last hour of some numbers of a process, for the curves of the web console.

There is one sample every ten seconds, so the memory is bounded and small. For longer times there is
Prometheus.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

#: Seconds between two samples, and how many are kept.
INTERVAL, KEPT = 10.0, 360


class History:
    """Samples of one process.

    :param sample: the numbers of this moment by name, always the same names. A name that ends in
        ``_total`` is a counter's
    :param now: the time of day in seconds
    """

    def __init__(self, sample: Callable[[], Mapping[str, float]], now: Callable[[], float]) -> None:
        self._sample = sample
        self._now = now
        self._names: list[str] = []
        self._rows: deque[list[float]] = deque(maxlen=KEPT)

    async def take(self) -> None:
        """Take a sample."""
        found = self._sample()
        self._names = list(found)
        self._rows.append([round(self._now(), 1), *found.values()])

    def status(self) -> dict[str, Any]:
        """As a JSON object: ``columns`` and ``rows``, the oldest first; the first is the time."""
        return {"interval": INTERVAL, "columns": ["time", *self._names], "rows": list(self._rows)}


def requests_so_far(outcomes: Mapping[str, Mapping[str, int]]) -> dict[str, float]:
    """The totals of requests as two numbers.

    :param outcomes: of :meth:`trough.metrics.totals.RequestTotals.status`
    """
    every = sum(sum(each.values()) for each in outcomes.values())
    succeeded = sum(each.get("ok", 0) for each in outcomes.values())
    return {"requests_total": every, "errors_total": every - succeeded}
