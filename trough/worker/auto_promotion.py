"""A worker promotes by itself what has waited too long for its client to do so.

Until it is promoted, a write is on one disk and nowhere else. A client that forgets to promote
would leave months of work there. Promotions of this kind go one after the other, the oldest
first, so that a thousand segments that are due together do not fill storage's queue.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

from twisted.application import service
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from trough import errors
from trough.util.periodic import Periodic
from trough.util.wording import counted
from trough.worker.segments import Segments

_log = Logger()

#: Seconds between two searches for segments that are due.
INTERVAL = 5.0

#: Promotions of one search, at most. What is due is found again.
PORTION = 100

#: Seconds until a promotion that failed is tried again.
PAUSE = 60.0


class AutoPromotion(service.MultiService):
    """Promotes what has waited for longer than `after` seconds.

    :param promote: promotes a segment
    :param ready: whether this worker serves
    :param after: 0: never
    """

    def __init__(
        self,
        segments: Segments,
        promote: Callable[[str], Awaitable[object]],
        ready: Callable[[], bool],
        after: float,
        clock: IReactorTime,
    ) -> None:
        super().__init__()
        self._segments = segments
        self._promote = promote
        self._ready = ready
        self._after = after
        self._clock = clock
        self._failed: dict[str, float] = {}
        if after:
            search = Periodic("promoting", min(INTERVAL, after), self._promote_due, clock)
            search.setServiceParent(self)

    def due(self, now: float) -> list[str]:
        """Segments that have waited too long at the time of day `now`, the oldest first."""
        waiting = [
            (entry.dirty_since, entry.segment)
            for entry in self._segments.writable()
            if entry.unpromoted and now - entry.dirty_since >= self._after
        ]
        return [segment for _, segment in sorted(waiting)]

    async def _promote_due(self) -> None:
        if not self._ready():
            return
        now = self._clock.seconds()
        self._failed = {each: at for each, at in self._failed.items() if now - at < PAUSE}
        promoted = tried = 0
        for segment in self.due(time.time()):
            if segment in self._failed or tried >= PORTION:
                continue
            tried += 1
            try:
                await self._promote(segment)
                promoted += 1
            except errors.TroughError:  # which is reported where it is refused
                self._failed[segment] = self._clock.seconds()
        if promoted:
            _log.info(
                "promoted {segments} that nobody else had promoted",
                segments=counted(promoted, "segment"),
                count=promoted,
            )
