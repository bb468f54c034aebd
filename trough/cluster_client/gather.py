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
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from trough import errors
from trough.cluster_client.existing import UNKNOWN, SegmentSet, SetUnknown
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

# How often it is looked which segments there are, and seconds in between: a file that was
# just put into canonical storage is assigned within a second or two.
_LOOKS = 8
_PAUSE = 0.4

# The same for copies of segments that nobody serves.
_LOOKS_FOR_COPIES = 5
_PAUSE_FOR_COPIES = 0.2

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
        segments: Iterable[str] | re.Pattern[str] | SegmentSet,
        sql: str,
        parameters: Parameters | None,
        *,
        partial: bool,
        within: bool,
        seconds: float | None,
        receive: Receive | None,
        refuse_stale: bool,
    ) -> GatherResult:
        """See :meth:`trough.cluster_client.client.Cluster.gather`."""
        found = await segments_of(self._cluster, segments, partial, self._reactor)
        if found.exist:
            await self._wait_for_copies(found.ids)
        if self._closed:
            raise errors.Cancelled("this client was closed")
        if not self._threads.running:
            self._threads.startService()
        workers = self._unused.pop() if self._unused else self._new_workers()
        running = Deferred.fromCoroutine(
            gather(
                _DedicatedConnections(self._cluster, workers),
                found.ids,
                sql,
                parameters,
                clock=self._reactor,
                partial=partial,
                within=within,
                seconds=seconds,
                now=time.time(),
                receive=receive,
                in_thread=self._threads.run,
                exist=found.exist,
                refuse_stale=refuse_stale,
            )
        )
        self._running.add(running)
        try:
            result = await running
            if found.unknown is not None:
                result.missing = {UNKNOWN: found.unknown, **result.missing}
            return result
        finally:
            self._unused.append(workers)
            self._running.discard(running)
            if not self._running and self._idle is not None:
                idle, self._idle = self._idle, None
                idle.callback(None)

    async def _wait_for_copies(self, segments: Sequence[str]) -> None:
        """Wait a second for copies of segments that exist and are served by nobody: they may
        be provisioned or brought just now."""
        for _ in range(_LOOKS_FOR_COPIES):
            segments = await self._cluster.unserved(segments)
            if not segments:
                return
            await deferLater(self._reactor, _PAUSE_FOR_COPIES)

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


class _DedicatedConnections:
    """The cluster, asked over connections of one's own."""

    def __init__(self, cluster: Cluster, workers: Workers) -> None:
        self._cluster = cluster
        self._workers = workers

    def query(self, *args: Any, **options: Any) -> FanOut:
        """See :meth:`trough.cluster_client.client.Cluster.query`."""
        return self._cluster.query(*args, over=self._workers, **options)


async def segments_of(
    cluster: Cluster,
    segments: Iterable[str] | re.Pattern[str] | SegmentSet,
    partial: bool,
    clock: Any,
) -> SegmentSet:
    """The segments that are meant; those that a pattern is found in are looked up.

    :param partial: an answer from those that are known will do
    :raises trough.errors.NoSuchSegment: it is found in none
    :raises trough.cluster_client.existing.SetUnknown: there may be others
    """
    if isinstance(segments, SegmentSet):
        return segments
    if not isinstance(segments, str | re.Pattern):
        return SegmentSet(list(segments))
    found = await _found(cluster, segments)
    for _ in range(_LOOKS - 1):
        if found.unknown is None:
            break
        await deferLater(clock, _PAUSE)
        found = await _found(cluster, segments)
    if found.unknown is not None and not (partial and found.ids):
        raise found.unknown
    if not found.ids:
        pattern = segments if isinstance(segments, str) else segments.pattern
        raise errors.NoSuchSegment(f"no segment matches {pattern!r:.80}")
    return found


async def _found(cluster: Cluster, pattern: str | re.Pattern[str]) -> SegmentSet:
    ids: list[str] = []
    try:
        async for page in cluster.matching(pattern):
            ids += page
    except SetUnknown as error:
        return SegmentSet(ids, True, error)
    return SegmentSet(ids, True)
