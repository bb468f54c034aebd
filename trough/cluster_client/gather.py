"""The Twisted client's GATHERs: their threads, their connections, and their end.

What blocks, the final step over the rows that were shipped, runs on threads of their own.
Each has connections for itself while it goes on, as one whose rows are taken slowly stops
reading from them. It promises that none is left half-done when the client is closed: those
under way are cancelled, and their temporary files are gone before the threads are. It
refuses to know how a GATHER is answered; see :mod:`trough.gather`.
"""

from __future__ import annotations

import re
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred

from trough import errors
from trough.cluster_client.gather_driver import GatherResult, gather
from trough.cluster_client.transports import Workers
from trough.protocols.line.values import Parameters
from trough.util.threads import ThreadPoolService

if TYPE_CHECKING:
    from trough.cluster_client.client import Cluster
    from trough.cluster_client.fan_out import FanOut

#: GATHERs that run at once without one of them waiting for a thread, and the threads: one
#: that is ended in the middle of a step waits for that on a second.
AT_ONCE = 8
THREADS = 2 * AT_ONCE

#: Takes the names of the columns and some rows; what it returns is waited for.
Receive = Callable[[tuple[str, ...], list[Sequence[Any]]], Awaitable[None] | None]


class Gathers:
    """The GATHERs of one client.

    :param cluster: which they ask
    :param new_workers: makes connections for one more at a time
    """

    def __init__(self, cluster: Cluster, new_workers: Callable[[], Workers], reactor: Any) -> None:
        self._cluster = cluster
        self._new_workers = new_workers
        self._unused: list[Workers] = []
        self._reactor = reactor
        self._threads = ThreadPoolService("trough-gather", THREADS, reactor)
        self._running: set[Deferred[GatherResult]] = set()
        self._idle: Deferred[None] | None = None
        self._closed = False

    async def run(
        self,
        segments: Iterable[str] | re.Pattern[str],
        sql: str,
        parameters: Parameters | None,
        *,
        partial: bool,
        within: bool,
        seconds: float | None,
        receive: Receive | None,
    ) -> GatherResult:
        """See :meth:`trough.cluster_client.client.Cluster.gather`."""
        ids = await ids_of(self._cluster, segments)
        if self._closed:
            raise errors.Cancelled("this client was closed")
        if not self._threads.running:
            self._threads.startService()
        workers = self._unused.pop() if self._unused else self._new_workers()
        running = Deferred.fromCoroutine(
            gather(
                _Apart(self._cluster, workers),
                ids,
                sql,
                parameters,
                clock=self._reactor,
                partial=partial,
                within=within,
                seconds=seconds,
                now=time.time(),
                receive=receive,
                in_thread=self._threads.run,
            )
        )
        self._running.add(running)
        try:
            return await running
        finally:
            self._unused.append(workers)
            self._running.discard(running)
            if not self._running and self._idle is not None:
                idle, self._idle = self._idle, None
                idle.callback(None)

    async def close(self) -> None:
        """Cancel what is under way, and wait for its end. Idempotent."""
        self._closed = True
        for running in list(self._running):
            running.cancel()
        if self._running:
            # Each lets go of its files on a thread.
            self._idle = Deferred()
            await self._idle
        if self._threads.running:
            await self._threads.stopService()
        while self._unused:
            await self._unused.pop().close()


class _Apart:
    """The cluster, asked over connections of one's own."""

    def __init__(self, cluster: Cluster, workers: Workers) -> None:
        self._cluster = cluster
        self._workers = workers

    def query(self, *args: Any, **options: Any) -> FanOut:
        """See :meth:`trough.cluster_client.client.Cluster.query`."""
        return self._cluster.query(*args, over=self._workers, **options)


async def ids_of(cluster: Cluster, segments: Iterable[str] | re.Pattern[str]) -> Collection[str]:
    """The ids that are meant; those that a pattern is found in are looked up.

    :raises trough.errors.NoSuchSegment: it is found in none
    """
    if not isinstance(segments, str | re.Pattern):
        return list(segments)
    found: list[str] = []
    async for page in cluster.matching(segments):
        found += page
    if not found:
        pattern = segments if isinstance(segments, str) else segments.pattern
        raise errors.NoSuchSegment(f"no segment that can be read matches {pattern!r:.80}")
    return found
