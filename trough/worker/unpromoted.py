"""How much of a worker's writes is on its disk alone.

Count and age come from memory on each request. Bytes need a look at each file, which a thread
takes now and then: new writes wait in the write-ahead log of their segment.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from twisted.application import service
from twisted.internet.interfaces import IReactorTime

from trough.util.periodic import Periodic
from trough.util.trouble_log import Section
from trough.worker.segments import Segments

#: Seconds between two looks at the files.
INTERVAL = 10.0

#: Multiples of ``PROMOTE_AFTER`` after which an operator has to look.
TOLERATED = 4


@dataclass(frozen=True, slots=True)
class Waiting:
    """What waits for a promotion.

    :ivar count: of segments
    :ivar oldest: when the oldest of their writes came, in seconds since the epoch; 0: not known,
        or nothing waits
    """

    count: int
    oldest: float


class Unpromoted(service.MultiService):
    """The unpromoted segments of one worker.

    :param loaded: whether the segments are known
    :param after: seconds after which the worker promotes by itself; 0: never
    :ivar bytes: that their files took at the last look
    """

    def __init__(
        self,
        segments: Segments,
        loaded: Callable[[], bool],
        after: float,
        clock: IReactorTime,
    ) -> None:
        super().__init__()
        self.bytes = 0
        self._segments = segments
        self._loaded = loaded
        self._after = after
        looking = Periodic("measuring what is unpromoted", INTERVAL, self._measure, clock)
        looking.setServiceParent(self)

    async def _measure(self) -> None:
        if self._loaded():
            self.bytes = await self._segments.size_of(*self._unpromoted())

    def _unpromoted(self) -> list[str]:
        return [e.segment for e in self._segments.writable() if e.unpromoted]

    def waiting(self) -> Waiting:
        """What there is at this moment."""
        waiting = [e.dirty_since for e in self._segments.writable() if e.unpromoted]
        return Waiting(len(waiting), min(filter(None, waiting), default=0.0))

    def status(self) -> dict[str, float | None]:
        """The same for the status."""
        waiting = self.waiting()
        bytes_now = self.bytes if waiting.count else 0
        return {"count": waiting.count, "bytes": bytes_now, "oldest": waiting.oldest or None}

    def trouble(self, waiting: Waiting, now: float) -> str:
        """What has waited far too long, and the section of the guide; or empty.

        :param now: seconds since the epoch
        """
        if not self._after or not waiting.oldest:
            return ""
        if now - waiting.oldest <= TOLERATED * self._after:
            return ""
        since = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(waiting.oldest))
        return Section.PROMOTIONS.add_to(f"writes have waited for a promotion since {since}")
