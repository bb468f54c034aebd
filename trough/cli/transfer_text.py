"""The progress of a file transfer, and about how long the rest takes, for a person."""

from __future__ import annotations

import time
from collections.abc import Callable

from trough.cli.progress import TELLING, duration


class TransferText:
    """Texts about one transfer. The remaining time is estimated from this transfer alone.

    :param clock: monotonic seconds
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._first: tuple[float, int] | None = None  # when it was first seen, and its bytes

    def share(self, done: int, total: int) -> str:
        """The share that is done; empty if there is no transfer.

        :param done: bytes
        :param total: all bytes; 0 if there is no transfer, or the total is unknown
        """
        return f"{min(1.0, done / total):.0%} of {total:,} bytes" if total else ""

    def left(self, done: int, total: int) -> str:
        """About how long the rest takes; empty while that is unknown."""
        if not total or not TELLING <= done / total < 1:
            return ""
        now = self._clock()
        since, before = self._first = self._first or (now, done)
        if done <= before:
            return ""
        return f"about {duration((now - since) * (total - done) / (done - before))} left"
