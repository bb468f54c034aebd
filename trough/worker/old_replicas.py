"""Removes the logs of segments that this worker no longer follows.

A log that no row names is of no use: a follower that joins again begins with what it is sent. The
worker looks at the row twice, :data:`INTERVAL` seconds apart. It removes the log only if both looks
found the same row and no order came in between. So a change of the row that names this worker can
no longer be under way. The promise to reject older epochs stays: the holder of an older epoch may
still run and send orders.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from twisted.application import service
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from trough.metadata import Metadata
from trough.model import Lock, Member
from trough.util.periodic import Periodic
from trough.worker.followed_logs import FollowedLogs
from trough.worker.log_files import LogFiles

_log = Logger()

#: Seconds between two looks.
INTERVAL = 600.0

#: Logs that one look covers, at most: each costs a call of the store.
AT_MOST = 1000

#: What a look found: holder, epoch and revision of the lock, and how many orders came.
_Found = tuple[Member, int, int, int] | tuple[None, int]


class OldReplicas(service.MultiService):
    """See the module's text.

    :param run: runs a function that blocks
    :ivar me: this worker
    """

    def __init__(
        self,
        me: Member,
        metadata: Metadata,
        logs: LogFiles,
        followed: FollowedLogs,
        run: Callable[..., Awaitable[Any]],
        *,
        clock: IReactorTime,
    ) -> None:
        super().__init__()
        self.me = me
        self._metadata = metadata
        self._logs = logs
        self._followed = followed
        self._run = run
        self._before: dict[str, _Found] = {}
        Periodic("old replicas", INTERVAL, self.look, clock).setServiceParent(self)

    async def look(self) -> None:
        """Remove the logs that were of no use at the last look, and still are."""
        before, self._before = self._before, {}
        for segment in (await self._run(self._logs.replicas))[:AT_MOST]:
            lock = await self._metadata.lock_of(segment)
            if lock is not None and self.me in (lock.holder, *lock.followers):
                continue
            found = self._found(segment, lock)
            if before.get(segment) == found:
                await self._followed.remove(segment)
                _log.info("{segment}: removed a replica that no lock names", segment=segment)
            else:
                self._before[segment] = found

    def _found(self, segment: str, lock: Lock | None) -> _Found:
        orders = self._followed.orders.get(segment, 0)
        if lock is None:
            return None, orders
        return lock.holder, lock.epoch, lock.revision, orders
