"""How long a read waits for the only worker that has a segment, while that worker restarts.

Existing clients take a failed read for an empty one: a crawler stores a page again. So a read
waits, as the provisioning for a write does. The time counts from when a segment was first missed,
so that a worker which does not return costs it once, and not at each read.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from trough import errors
from trough.client.responses import TroughException

#: Segments that are remembered. Beyond that, none waits any more.
_MOST = 10_000


class Missed(Exception):
    """A segment could not be read, and perhaps can be in a moment.

    :ivar error: for the caller who does not wait
    """

    def __init__(self, error: TroughException) -> None:
        super().__init__(str(error))
        self.error = error


class Absences:
    """Segments that could not be read when they were last asked. For any number of threads.

    :param is_known: whether the metadata store knows the segment, so that its worker may return
    :param now: the time in seconds, by a clock that nobody sets
    """

    def __init__(
        self, is_known: Callable[[str], bool], now: Callable[[], float] = time.monotonic
    ) -> None:
        self._is_known = is_known
        self._now = now
        self._missed: dict[str, float] = {}
        self._closing = threading.Event()

    def wait(self, segment: str, began: float, seconds: float, pause: float) -> bool:
        """Wait a moment before the segment is asked again, and return True; else it is not
        worth waiting for.

        :param began: when this read began, by the same clock
        :param seconds: to wait at most, since the segment was first missed
        :param pause: seconds between two reads
        """
        since = self._missed.get(segment)
        if since is None:
            try:
                known = self._is_known(segment)
            except errors.TroughError:
                return False
            if not known or len(self._missed) >= _MOST:
                return False
            since = self._missed.setdefault(segment, began)
        if self._now() + pause > since + seconds:
            return False
        return not self._closing.wait(pause)

    def answered(self, segment: str) -> None:
        """The segment was read."""
        self._missed.pop(segment, None)

    def close(self) -> None:
        """Wait for nothing any more. Idempotent."""
        self._closing.set()
