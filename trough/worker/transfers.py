"""Files on their way from and to canonical storage: those under way, and totals of the others."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from trough.metrics.histogram import Histogram
from trough.metrics.totals import BOUNDS
from trough.storage import Progress

DIRECTIONS = ("fetch", "publish")


class TransferTotals:
    """Transfers of one direction that ended.

    :ivar seconds: of those that succeeded; the last bucket has those of more than ten minutes
    """

    def __init__(self) -> None:
        self.failed = self.bytes = 0
        self.seconds = Histogram(BOUNDS)

    def status(self) -> dict[str, Any]:
        """As a JSON object."""
        return {"failed": self.failed, "bytes": self.bytes, "seconds": self.seconds.numbers}


class Transfers:
    """The transfers of one worker.

    :param seconds: a clock
    :ivar running: bytes done of every transfer under way, by segment id; shown in the status
    """

    def __init__(self, seconds: Callable[[], float]) -> None:
        self._seconds = seconds
        self.running: dict[str, dict[str, object]] = {}
        self._totals = {direction: TransferTotals() for direction in DIRECTIONS}

    @contextmanager
    def under_way(self, segment: str, direction: str, size: int) -> Iterator[Progress]:
        """Show a transfer while it lasts, and count it; gives a callback for its progress.

        :param direction: ``fetch`` or ``publish``
        :param size: bytes that are to be moved, 0 where that is not known
        """
        row = self.running[segment] = {"direction": direction, "bytes": 0, "of": size}
        totals, began = self._totals[direction], self._seconds()
        moved = 0

        def progress(done: int) -> None:
            nonlocal moved
            row["bytes"] = moved = done

        try:
            yield progress
            totals.seconds.add(self._seconds() - began)
        except BaseException:
            totals.failed += 1
            raise
        finally:
            totals.bytes += moved
            self.running.pop(segment, None)

    def totals(self) -> dict[str, dict[str, Any]]:
        """By direction; JSON-able."""
        return {direction: totals.status() for direction, totals in self._totals.items()}
