"""Keeps the logs of segments that other workers write and this worker follows.

It carries out the orders for one segment one after the other, each in a thread. A confirmation is
sent only for data on disk. While this worker takes a segment over, its orders wait.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from trough import errors
from trough.replication.log import FollowerLog
from trough.replication.orders import Order, Reply, obey
from trough.util.keyed_lock import KeyedLock
from trough.worker.log_files import LogFiles

#: Logs that stay open; each has some descriptors.
OPEN = 256


class FollowedLogs:
    """See the module's text.

    :param run: runs a function that blocks
    :ivar disk: identity of this worker's data directory; empty until that was checked
    :ivar orders: how many orders came for each segment since this process began
    """

    def __init__(
        self,
        logs: LogFiles,
        run: Callable[..., Awaitable[Any]],
    ) -> None:
        self.disk = ""
        self._logs = logs
        self._run = run
        self._open: OrderedDict[str, FollowerLog] = OrderedDict()
        self._busy = KeyedLock()
        self.orders: Counter[str] = Counter()

    async def obey(self, order: Order) -> Reply:
        """Carry out a holder's order; see :func:`trough.replication.orders.obey`.

        :raises trough.errors.Conflict: it is for another disk than this worker's
        """
        self.check_disk(order)
        self.orders[order.segment] += 1
        async with self.log_of(order.segment) as log:
            return await self._run(obey, log, order)

    def check_disk(self, order: Order) -> None:
        """Refuse an order for another member.

        :raises trough.errors.Conflict: the order is for another disk than this worker's
        :raises trough.errors.Unavailable: it is not known yet which one that is
        """
        if not self.disk:
            raise errors.Unavailable("this worker has not checked its disk yet", "send it again")
        if order.disk != self.disk:
            raise errors.Conflict(
                f"an order for segment {order.segment} is for the disk {order.disk}, and this "
                f"worker has {self.disk}",
                "this worker lost its disk, or another one has its name",
            )

    @asynccontextmanager
    async def log_of(self, segment: str) -> AsyncIterator[FollowerLog]:
        """The log of a segment; no other caller has it meanwhile."""
        async with self._busy.hold(segment):
            log = self._open.get(segment)
            if log is None:
                log = self._open[segment] = await self._run(self._logs.follower, segment)
            self._open.move_to_end(segment)
            yield log
        await self._close_some()

    async def remove(self, segment: str) -> None:
        """Remove the log of a segment, and all its files. Idempotent."""
        async with self.log_of(segment) as log:
            await self._run(log.forget)
            self._open.pop(segment, None)
            self.orders.pop(segment, None)

    async def close(self) -> None:
        """Close all logs."""
        for segment in list(self._open):
            await self._close(segment)

    async def _close_some(self) -> None:
        if len(self._open) <= OPEN:
            return
        for segment in list(self._open):
            if len(self._open) <= OPEN:
                return
            if not self._busy.busy(segment):
                await self._close(segment)

    async def _close(self, segment: str) -> None:
        async with self._busy.hold(segment):
            log = self._open.pop(segment, None)
            if log is not None:
                await self._run(log.close)
