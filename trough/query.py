"""What a worker does with a query; the one implementation behind all its protocols.

A segment is answered here if there is a local copy and no other live worker holds its
write lock; otherwise it is said where it is. What is found in memory is enough for that:
only a segment that is not here costs a look into the metadata store.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from trough import errors
from trough.cold import ColdSegments
from trough.executors.pool import ExecutorPool, Framing, Job, Limits, Outcome, Receiver, Target
from trough.model import READ, Copy, Worker
from trough.worker import LocalSyncController
from trough.writes import FirstWrite

_log = Logger()


@dataclass(frozen=True, slots=True)
class QueryLimits:
    """What one request may use.

    :ivar seconds: where the request does not say, and at most
    :ivar rows: of one segment, at most; 0 for any number
    :ivar sql: bytes of a read's SQL, at most
    """

    seconds: float = 60.0
    max_seconds: float = 600.0
    rows: int = 0
    sql: int = 4 * 1024 * 1024


class Queries:
    """Reads and writes on one worker."""

    def __init__(
        self, worker: LocalSyncController, pool: ExecutorPool, limits: QueryLimits
    ) -> None:
        self.worker = worker
        self.node = worker.myself.node
        self._pool = pool
        self._limits = limits

    def limits(self, seconds: float | None, rows: int | None) -> Limits:
        """What a request asked for, within what is allowed.

        :param seconds: None where the request did not say; likewise `rows`, of which 0
            says that as many as there are will do
        """
        allowed = self._limits
        seconds = allowed.seconds if seconds is None else min(seconds, allowed.max_seconds)
        if not rows or (allowed.rows and rows > allowed.rows):
            rows = allowed.rows
        return Limits(seconds, rows)

    # -- where a segment is -------------------------------------------------------

    def target(self, segment: str) -> Target | None:
        """What to ask the executors for `segment`, or None if it is not to be answered here."""
        worker = self.worker
        copy = worker.segments.get(segment)
        if copy is None:
            return None
        if not copy.writable and worker.holder_elsewhere(segment) is not None:
            return None
        return copy.target

    def targets(self, segments: Iterable[str]) -> list[Target]:
        """The targets of those segments that are to be answered here, in their order."""
        found = map(self.target, segments)
        return [target for target in found if target is not None]

    def is_cold(self, segment: str) -> bool:
        """Whether `segment` is a cold one that this worker answers for."""
        cold = self.worker.cold
        return cold is not None and segment in cold

    async def bring(self, segment: str) -> Target:
        """The target of a cold segment, once there is one; :meth:`read_cold` lets go of it.

        :raises trough.errors.TroughError: see :meth:`trough.cold.ColdSegments.bring`
        """
        assert self.worker.cold is not None
        return await self.worker.cold.bring(segment)

    def is_stale(self, segment: str) -> bool:
        """Whether the answer is the last promoted state of a segment that was written to by a
        worker which is not alive."""
        lock = self.worker.locks.get(segment)
        return lock is not None and lock.node != self.node

    async def elsewhere(self, segment: str) -> str:
        """The URL at which another worker answers reads of `segment`.

        :raises trough.errors.NoSuchSegment: nobody does
        """
        copy = (await self.copies_elsewhere([segment])).get(segment)
        if copy is None:
            raise errors.NoSuchSegment(
                f"segment {segment} has no copy that can be read",
                "is the id right? a segment comes into being by provisioning",
            )
        return copy.url

    async def copies_elsewhere(self, segments: Collection[str]) -> dict[str, Copy]:
        """For each of `segments` the best copy on another worker, where there is one.

        The best is that of the write lock's holder, which is known without the metadata
        store and so found while that is away; else the least loaded.
        """
        held = {
            segment: _copy_of_holder(segment, holder)
            for segment in segments
            if (holder := self.worker.holder_elsewhere(segment)) is not None
        }
        asked = [segment for segment in segments if segment not in held]
        found = await self.worker.metadata.copies_of(asked) if asked else {}
        for segment, copies in found.items():
            readable = [copy for copy in copies if copy.role == READ and copy.node != self.node]
            if readable:
                held[segment] = min(readable, key=lambda copy: (copy.load, copy.node))
        return held

    # -- reading and writing ---------------------------------------------------------

    def read(
        self,
        targets: Sequence[Target],
        sql: str | bytes,
        parameters: Any,
        limits: Limits,
        framing: Framing,
        tag: str,
        receiver: Receiver,
    ) -> Job:
        """Ask the executors; see :meth:`trough.executors.pool.ExecutorPool.read`.

        :raises trough.errors.TooLarge: the SQL is longer than a read's may be
        """
        if len(sql) > self._limits.sql:
            raise errors.TooLarge(
                f"the SQL has {len(sql)} bytes, and a read may have {self._limits.sql}"
            )
        return self._pool.read(
            targets, sql, parameters, limits, framing, tag, _Watchful(self, receiver)
        )

    def read_cold(
        self,
        target: Target,
        sql: str | bytes,
        parameters: Any,
        limits: Limits,
        framing: Framing,
        tag: str,
        receiver: Receiver,
    ) -> Job:
        """As :meth:`read`, of one target that :meth:`bring` returned."""
        assert self.worker.cold is not None
        releasing = _Releasing(self.worker.cold, target, receiver)
        try:
            return self.read([target], sql, parameters, limits, framing, tag, releasing)
        except errors.TroughError:
            self.worker.cold.done(target)
            raise

    def write(
        self, segment: str, sql: str | bytes, parameters: Any, limits: Limits, receiver: Receiver
    ) -> Job | FirstWrite:
        """Run `sql` in one transaction; `receiver` is told once it is on disk.

        :raises trough.errors.NoWriteLock: this worker does not write the segment
        """
        return self.worker.segments.write(
            segment, sql, parameters, limits, _Watchful(self, receiver)
        )

    def damaged(self, segments: tuple[str, ...]) -> None:
        """Have damaged copies replaced."""
        replacing = Deferred.fromCoroutine(self.worker.damaged(segments))
        replacing.addErrback(
            lambda failure: _log.warn(
                "{segments}: not replaced yet: {reason}",
                segments=", ".join(segments),
                reason=failure.value,
            )
        )


def _copy_of_holder(segment: str, holder: Worker) -> Copy:
    """What the holder of a write lock publishes for readers."""
    url = f"{holder.read_url}?segment={segment}"
    return Copy(segment, holder.node, READ, url, holder.load, holder.ttl)


class _Watchful:
    """Passes everything on, and has damage that comes to light repaired."""

    __slots__ = ("_queries", "_receiver", "data")

    def __init__(self, queries: Queries, receiver: Receiver) -> None:
        self._queries = queries
        self._receiver = receiver
        self.data = receiver.data

    def finished(self, outcome: Outcome) -> None:
        """The request has ended."""
        if outcome.corrupt:
            self._queries.damaged(outcome.corrupt)
        self._receiver.finished(outcome)


class _Releasing:
    """Passes everything on, and lets go of a cold segment at the end."""

    __slots__ = ("_cold", "_receiver", "_target", "data")

    def __init__(self, cold: ColdSegments, target: Target, receiver: Receiver) -> None:
        self._cold = cold
        self._target = target
        self._receiver = receiver
        self.data = receiver.data

    def finished(self, outcome: Outcome) -> None:
        """The request has ended."""
        self._cold.done(self._target)
        self._receiver.finished(outcome)
