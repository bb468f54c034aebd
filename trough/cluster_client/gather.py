"""The Twisted client's GATHERs: their processes, their connections, and their end.

Planning, merging and the final step run in processes. Each running GATHER has its own process. It
also has its own connections, because a GATHER with a slow receiver stops reading from them. A
GATHER that needs much processor time gets a lower priority than the others. When the client is
closed, GATHERs under way are cancelled and their processes end. This module does not know how a
GATHER is answered; see :mod:`trough.gather`.
"""

from __future__ import annotations

import functools
import re
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Sequence
from typing import Any, Protocol

from twisted.internet.defer import Deferred, DeferredSemaphore
from twisted.internet.task import LoopingCall, deferLater

from trough import errors
from trough.access.tokens import Credential
from trough.cluster_client.connection_pool import ConnectionPool
from trough.cluster_client.each_segment import ask_each
from trough.cluster_client.existing import UNKNOWN, SegmentSet, SetUnknown
from trough.cluster_client.fan_out import FanOut
from trough.cluster_client.gather_driver import GatherResult, Receive, gather
from trough.cluster_client.gather_process import MEMORY, GatherProcess, GatherProcesses
from trough.cluster_client.kept_answers import (
    MOST,
    SECONDS,
    Collecting,
    KeptAnswers,
    give_again,
    key_of,
)
from trough.cluster_client.router import WorkerAddress
from trough.cluster_client.transports import Workers
from trough.gather.errors import stale_refused
from trough.gather.explaining import explained
from trough.gather.limits import ASK_ALONE, MOST_ROW
from trough.protocols.line.framing import PartialLines, ReplyParser
from trough.protocols.line.values import Parameters
from trough.tls.client import ClientTls
from trough.util.quoting import quoted
from trough.util.waiting import Waiters

#: Bytes of large rows that have begun to arrive, of all GATHERs of one client.
MOST_PARTIAL_ROWS = 48 << 20

#: GATHERs of one client at once, each with a process.
AT_ONCE = 16

# How often it is looked which segments there are, and seconds in between: a file that was
# just put into canonical storage is assigned within a second or two.
_LOOKS = 8
_PAUSE = 0.4

# The same for copies of segments that no worker serves.
_LOOKS_FOR_COPIES = 5
_PAUSE_FOR_COPIES = 0.2

#: Seconds of processor time of its process after which a GATHER is a long one.
LONG_SECONDS = 0.25

#: Seconds between two looks at what processes have used.
_LOOK = 0.1


class _Cluster(Protocol):
    """What a GATHER uses of :class:`trough.cluster_client.client.Cluster`."""

    def query(self, *args: Any, **options: Any) -> FanOut: ...

    def matching(self, pattern: str | re.Pattern[str] | None) -> AsyncIterator[list[str]]: ...

    async def unserved(self, segments: Sequence[str]) -> list[str]: ...

    async def unchanged(self, place: WorkerAddress, word: str) -> dict[str, str] | None: ...


class Gathers:
    """The GATHERs of one client.

    :param cluster: which they ask
    :param new_workers: makes connections for one more at a time
    :param memory: bytes that SQLite may use in the process of each
    :param kept: bytes of answers that are kept
    """

    def __init__(
        self,
        cluster: _Cluster,
        new_workers: Callable[[], Workers],
        reactor: Any,
        memory: int = MEMORY,
        kept: int = MOST,
    ) -> None:
        self._cluster = cluster
        self._new_workers = new_workers
        self._unused: list[Workers] = []
        self._reactor = reactor
        self.processes = GatherProcesses(reactor, memory)
        self._free = DeferredSemaphore(AT_ONCE)
        self._running: set[Deferred[GatherResult]] = set()
        #: Processes at work, and what to call when one turns out to have much to do.
        self._watched: dict[GatherProcess, Callable[[], None]] = {}
        self._watching = LoopingCall(self._look)
        self._watching.clock = reactor
        self._idle: Waiters[None] = Waiters()
        self._closed = False
        self._answers = KeptAnswers(cluster.unchanged, reactor, kept)

    def status(self) -> dict[str, int]:
        """What runs, and how many answers were given again; JSON-able."""
        answers = self._answers
        return {"running": len(self._running), "found": answers.found, "missed": answers.missed}

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
        refuse_stale: bool = False,
        when_long: Callable[[], None] | None = None,
        each: bool = False,
    ) -> GatherResult:
        """See :meth:`trough.cluster_client.client.Cluster.gather`."""
        found = await segments_of(self._cluster, segments, partial, self._reactor)
        if not found.ids:
            raise errors.BadRequest("there are no segments to gather from")
        if each:
            assert receive is not None
            asking = self._each(found, sql, parameters, partial, seconds, receive, refuse_stale)
            return await self._tracked(asking)
        key = key_of(found.ids, sql, parameters, within)
        if found.unknown is None and not explained(sql)[0]:
            kept = await self._answers.find(key, min(SECONDS, (seconds or SECONDS) / 2))
            if kept is not None:
                if refuse_stale and kept[1]:
                    raise stale_refused(kept[1], len(found.ids))
                return await give_again(*kept, receive)
        if found.exist:
            await self._wait_for_copies(found.ids)
        if self._closed:
            raise errors.Cancelled("this client was closed")

        collecting = None if receive is None else Collecting(receive)

        async def run(process: GatherProcess, workers: Workers) -> GatherResult:
            return await gather(
                _DedicatedConnections(self._cluster, workers),
                found.ids,
                sql,
                parameters,
                process=process,
                clock=self._reactor,
                partial=partial,
                within=within,
                seconds=seconds,
                now=time.time(),
                receive=collecting,
                exist=found.exist,
                refuse_stale=refuse_stale,
            )

        result = await self._tracked(self._run(run, when_long or _nothing))
        if found.unknown is not None:
            result.missing = {UNKNOWN: found.unknown, **result.missing}
        elif result.versions:
            rows = result.rows if collecting is None else collecting.rows
            self._answers.keep(key, result.names, rows, result.versions)
        return result

    async def _each(
        self,
        found: SegmentSet,
        sql: str,
        parameters: Parameters | None,
        partial: bool,
        seconds: float | None,
        receive: Receive,
        refuse_stale: bool,
    ) -> GatherResult:
        """Have each segment answer by itself, over connections of its own."""
        if found.exist:
            await self._wait_for_copies(found.ids)
        workers = self._unused.pop() if self._unused else self._new_workers()
        try:
            result = await ask_each(
                _DedicatedConnections(self._cluster, workers),
                found.ids,
                sql,
                parameters,
                partial=partial,
                seconds=seconds,
                receive=receive,
                refuse_stale=refuse_stale,
            )
        finally:
            self._unused.append(workers)
        if found.unknown is not None:
            result.missing = {UNKNOWN: found.unknown, **result.missing}
        return result

    async def _tracked(self, work: Coroutine[Any, Any, GatherResult]) -> GatherResult:
        """Await `work`, which the end of this cancels."""
        running = Deferred.fromCoroutine(work)
        self._running.add(running)
        try:
            return await running
        finally:
            self._running.discard(running)
            if not self._running:
                self._idle.fire(None)

    async def _run(self, run: Callable[..., Any], when_long: Callable[[], None]) -> GatherResult:
        """Have a process and connections for the time of one GATHER."""
        await self._free.acquire()
        try:
            process = self.processes.take()
            workers = self._unused.pop() if self._unused else self._new_workers()
            self._watch(process, when_long)
            try:
                return await run(process, workers)
            finally:
                del self._watched[process]
                self._unused.append(workers)
                await self.processes.give_back(process)
        finally:
            self._free.release()

    async def _wait_for_copies(self, segments: Sequence[str]) -> None:
        """Wait a second for copies of existing segments that no worker serves: a worker may
        be provisioning or fetching them."""
        for _ in range(_LOOKS_FOR_COPIES):
            segments = await self._cluster.unserved(segments)
            if not segments:
                return
            await deferLater(self._reactor, _PAUSE_FOR_COPIES)

    # -- those that need much ----------------------------------------------------------

    def _watch(self, process: GatherProcess, when_long: Callable[[], None]) -> None:
        self._watched[process] = when_long
        if not self._watching.running:
            self._watching.start(_LOOK, now=False)

    def _look(self) -> None:
        if not self._watched:
            self._watching.stop()
        for process, when_long in list(self._watched.items()):
            if not process.is_niced and process.session_time > LONG_SECONDS:
                process.step_back()
                when_long()

    # -- the end -----------------------------------------------------------------------

    async def close(self) -> None:
        """Cancel what is under way, and wait for its end. Idempotent."""
        self._closed = True
        for running in list(self._running):
            running.cancel()
        if self._running:
            await self._idle.wait()
        if self._watching.running:
            self._watching.stop()
        self.processes.close()
        while self._unused:
            await self._unused.pop().close()


def row_bounded_workers(
    reactor: Any, credential: Credential | None, tls: ClientTls | None
) -> Callable[[], Workers]:
    """Makes connections that bound the rows on their way here, each and all together."""
    bounds = PartialLines(MOST_ROW, MOST_PARTIAL_ROWS, ASK_ALONE)

    def new() -> Workers:
        parser = functools.partial(ReplyParser, bounds=bounds)
        return Workers(ConnectionPool(reactor, credential, tls, new_parser=parser))

    return new


def _nothing() -> None:
    """Ignore the call."""


class _DedicatedConnections:
    """The cluster, over dedicated connections."""

    def __init__(self, cluster: _Cluster, workers: Workers) -> None:
        self._cluster = cluster
        self._workers = workers

    def query(self, *args: Any, **options: Any) -> FanOut:
        """See :meth:`trough.cluster_client.client.Cluster.query`."""
        return self._cluster.query(*args, over=self._workers, **options)


async def segments_of(
    cluster: _Cluster,
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
        raise errors.NoSuchSegment(f"no segment matches {quoted(pattern, 80)}")
    return found


async def _found(cluster: _Cluster, pattern: str | re.Pattern[str]) -> SegmentSet:
    ids: list[str] = []
    try:
        async for page in cluster.matching(pattern):
            ids += page
    except SetUnknown as error:
        return SegmentSet(ids, True, error)
    return SegmentSet(ids, True)
