"""What a worker does with a query; the one implementation behind all its protocols.

A segment is answered from the local copy, or the answer names the worker to ask:
:mod:`trough.worker.read_rule` decides, by what this worker has in memory. Only a segment
that is not here costs a look into the metadata store.
"""

from __future__ import annotations

import functools
import zlib
from collections.abc import Callable, Collection, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from trough import errors
from trough.executors.pool.pool import (
    ExecutorPool,
    Framing,
    Outcome,
    ReadLimits,
    Receiver,
    Target,
)
from trough.model import READ, WRITE, Copy, Lock, Worker, segment_word
from trough.sql.column_filters import FilterTest
from trough.util.job import Job
from trough.util.slices import in_slices
from trough.worker.cold_cache import ColdSegments
from trough.worker.controller import LocalSyncController
from trough.worker.kept_query import KeptQuery, Remembered
from trough.worker.kept_results import KeptResults
from trough.worker.local_copies import LocalCopy, Version
from trough.worker.peer_reachability import PeerReachability
from trough.worker.read_rule import UNCONFIRMED, Knowledge, LockHolder, decide
from trough.worker.segment_filters import SegmentFilters
from trough.worker.slow_queries import SlowQueries
from trough.worker.write_routing import WriteRouter
from trough.worker.writing import Write

_log = Logger()

#: See :meth:`trough.executors.pool.pool.ExecutorPool.read`.
Keeper = Callable[[Target, int, bytes], None]

_Found = TypeVar("_Found")

# Most segments have no lock. Python 3.11 makes a function call for each ``LockHolder.NOBODY``.
_NOBODY, _MYSELF = LockHolder.NOBODY, LockHolder.MYSELF

#: Seconds in which the metadata store has to report where a segment is; longer for very many.
#: A client waits for the answer, and can ask again.
LOOK_UP_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class QueryLimits:
    """The limits of one request.

    :ivar seconds: where the request names none
    :ivar max_seconds: that it may name
    :ivar write_seconds: that a write may run where it names none
    :ivar rows: of one segment, at most; 0 for any number
    :ivar sql: bytes of a read's SQL, at most
    :ivar kept: bytes of answers that are kept, of all requests; and of filters of columns
    :ivar slow: seconds after which a read is logged; 0: never
    """

    seconds: float
    max_seconds: float
    write_seconds: float
    rows: int
    sql: int
    kept: int = 0
    slow: float = 0.0


# Neither frozen nor a tuple: each read makes one, and these take four times as long to make.
@dataclass(slots=True)
class LocalRead:
    """A read that is answered here.

    :ivar mark: the word that the answer has to carry; empty for none
    """

    target: Target
    mark: str


class QueryService:
    """Reads and writes on one worker."""

    def __init__(
        self, worker: LocalSyncController, pool: ExecutorPool, limits: QueryLimits, reactor: Any
    ) -> None:
        self.worker = worker
        self.node = worker.myself.node
        self.writers = WriteRouter(worker)
        #: Which of the other workers could be connected to a moment ago.
        self.reach = PeerReachability(reactor)
        self._reactor = reactor
        self._pool = pool
        pool.when_damaged = self.damaged
        self._limits = limits
        #: Answers to queries that may be kept.
        self.results = KeptResults(limits.kept)
        worker.result_cache = self.results.status
        self.filters = SegmentFilters(limits.kept, pool)
        self._remembered = Remembered()
        self._slow = SlowQueries(pool, limits.slow) if limits.slow else None
        #: As :meth:`_limits_of`, which makes something new at each call.
        self.limits = functools.lru_cache(maxsize=4096)(self._limits_of)

    def _limits_of(self, seconds: float | None, rows: int | None, client: str) -> ReadLimits:
        """The limits that a request asked for, within what is allowed.

        :param seconds: None where the request named none
        :param rows: likewise; 0 for any number
        :param client: who asks
        """
        allowed = self._limits
        running = allowed.write_seconds if seconds is None else float("inf")
        seconds = allowed.seconds if seconds is None else min(seconds, allowed.max_seconds)
        if not rows or (allowed.rows and rows > allowed.rows):
            rows = allowed.rows
        return ReadLimits(seconds, rows, min(running, seconds), client)

    # -- where a segment is -------------------------------------------------------

    @property
    def has_to_wait(self) -> bool:
        """Whether :meth:`wait` has to be awaited before a read is decided: this worker has
        just started, and does not know yet who writes what."""
        confirmation = self.worker.confirmation
        return not confirmation.locks_known and confirmation.may_wait

    async def wait(self) -> None:
        """Return once the write locks are known, or a few seconds after the start."""
        await self.worker.confirmation.wait()

    def local(self, segment: str, asked_for: str = "") -> LocalRead | None:
        """How to answer from the local copy; None where that is not to be.

        :param asked_for: the holder in whose place another worker asks, because it cannot
            connect to it; empty for none
        """
        return self._local(segment, self.worker.confirmation.knowledge, asked_for)

    def version(self, segment: str) -> str:
        """Names the content of the local copy, on all workers alike; empty where it changes."""
        copy = self.worker.segments.get(segment)
        if copy is None or copy.writable or not copy.entry.modified:
            return ""
        return f"{segment} {copy.entry.modified} {copy.entry.size}"

    def all_local(self, segments: Iterable[str]) -> list[LocalRead]:
        """Those of the segments that are to be answered here, in their order."""
        knowledge = self.worker.confirmation.knowledge
        found = (self._local(segment, knowledge) for segment in segments)
        return [reading for reading in found if reading is not None]

    def _local(self, segment: str, knowledge: Knowledge, asked_for: str = "") -> LocalRead | None:
        worker = self.worker
        copy = worker.segments.get(segment)
        if copy is None:
            return None
        lock = worker.cluster.locks.get(segment)
        behind = worker.reconciler.is_behind(copy)
        if lock is not None:
            if lock.node == self.node and not copy.writable:
                return self._not_yet_written(copy)
            verdict = decide(
                knowledge,
                self._holder(copy, lock),
                in_place_of_holder=lock.node == asked_for,
                behind=behind,
            )
        elif behind or copy.entry.epoch:
            holder = _MYSELF if copy.entry.writable else _NOBODY
            verdict = decide(knowledge, holder, behind=behind)
        else:
            verdict = knowledge.verdict
        return LocalRead(copy.target, verdict.mark) if verdict.answers else None

    def _not_yet_written(self, copy: LocalCopy) -> LocalRead | None:
        """How to read a segment whose lock this worker has, and whose newest rows are not in the
        local copy yet: they are in the log of the holder before, or aside."""
        if self.worker.segments.is_arriving(copy.entry.segment):
            return None
        return LocalRead(copy.target, UNCONFIRMED)

    def _holder(self, copy: LocalCopy, lock: Lock) -> LockHolder:
        # The store may report the lock that was taken just now later than the one before it.
        if lock.node == self.node or (copy.writable and lock.epoch <= copy.entry.epoch):
            return LockHolder.MYSELF
        if lock.node not in self.worker.cluster.workers:
            return LockHolder.DEAD
        return LockHolder.UNREACHABLE if self.reach.is_away(lock.node) else LockHolder.LIVE

    def all_names(self) -> list[str]:
        """Segments that this worker has, writes, or is assigned: all that a pattern can match here.

        :raises trough.errors.Unavailable: its assignments are not known yet
        """
        assigned = self.worker.reconciler.assigned
        if assigned is None:
            raise errors.Unavailable(
                f"{self.node} does not know yet which segments it is to have",
                "it was just started: ask again in a moment, or name the segments",
            )
        written = (
            lock.segment for lock in self.worker.cluster.locks.values() if lock.node == self.node
        )
        return sorted({*self.worker.segments, *assigned, *written})

    def is_cold(self, segment: str) -> bool:
        """Whether `segment` is a cold one that this worker answers for."""
        cold = self.worker.cold
        return cold is not None and segment in cold

    async def bring(self, segment: str) -> Target:
        """The target of a cold segment, once there is one; :meth:`read_cold` releases it.

        :raises trough.errors.TroughError: see :meth:`trough.worker.cold_cache.ColdSegments.bring`
        """
        assert self.worker.cold is not None
        return await self.worker.cold.bring(segment)

    @property
    def cold_mark(self) -> str:
        """The mark of what is answered of a cold segment; empty for none."""
        return decide(self.worker.confirmation.knowledge, LockHolder.NOBODY).mark

    async def arrived(self, segments: Iterable[str]) -> bool:
        """Return once this worker is not taking over any of the segments; whether it was."""
        return await self.worker.segments.arrived(segments)

    async def try_holders(self, segments: Iterable[str]) -> None:
        """Find out which of the write locks' holders can be connected to."""
        holders = map(self.worker.cluster.holder_elsewhere, segments)
        found = {holder.node: holder for holder in holders if holder is not None}
        await self.reach.try_out(list(found.values()))

    async def elsewhere(self, segment: str, avoid: Collection[str] = ()) -> Copy:
        """The copy on another worker that is to be read.

        :param avoid: workers that were asked without success
        :raises trough.errors.NoSuchSegment: there is none
        :raises trough.errors.Unavailable: there should be one, or it could not be found out
        """
        try:
            copy = (await self.copies_elsewhere([segment], avoid)).get(segment)
        except errors.Unavailable as reason:
            raise errors.Unavailable(f"segment {segment}: {reason}") from reason
        if copy is None:
            raise await self.find_absence(segment)
        return copy

    async def find_absence(self, segment: str) -> errors.TroughError:
        """As :meth:`absence`, from the metadata store. A deletion that was answered counts as a
        deletion, also before this worker has noticed it.
        """
        metadata = self.worker.metadata
        lock = await self._in_time(metadata.lock_of(segment))
        rows = await self._in_time(metadata.assignments_of_segment(segment))
        return self._reason(segment, lock, [row.node for row in rows if row.modified])

    def absence(self, segment: str) -> errors.TroughError:
        """Why no worker can answer for `segment`, as far as this worker knows without asking.

        Only a segment without any copy is not found: a segment that cannot be read now may hold
        rows.
        """
        nodes = [self.node] if self.worker.reconciler.awaits(segment) else []
        return self._reason(segment, self.worker.cluster.locks.get(segment), nodes)

    def _reason(
        self, segment: str, lock: Lock | None, assigned_to: list[str]
    ) -> errors.TroughError:
        if lock is not None and lock.node != self.node:
            return errors.HolderLost(
                f"segment {segment} has no copy but that of its writer {lock.node}, which "
                "cannot be reached",
                "start that worker again",
            )
        if lock is not None or assigned_to:
            nodes = ", ".join(sorted(assigned_to)) or self.node
            if self.worker.is_cold(segment):
                return errors.Unavailable(
                    f"cold segment {segment} is assigned to {nodes}, and no cold worker answers",
                    "start one of them; trough-admin status names those that are dead",
                )
            return errors.Unavailable(
                f"segment {segment} is assigned to {nodes}, and cannot be read there yet",
                "ask again in a moment",
            )
        return errors.NoSuchSegment(
            f"segment {segment} has no copy that can be read",
            "is the id right? a segment comes into being by provisioning",
        )

    async def copies_elsewhere(
        self, segments: Collection[str], avoid: Collection[str] = ()
    ) -> dict[str, Copy]:
        """For each of `segments` the best copy on another worker, where there is one.

        The best is that of the write lock's holder. The worker knows it without the metadata
        store, and so finds it while the store is away. Otherwise the best is on the least
        loaded worker.

        :param avoid: workers that were asked without success
        :raises trough.errors.Unavailable: the metadata store does not answer in time
        """
        held = {
            segment: _copy_of_holder(segment, holder)
            for segment in segments
            if (holder := self.worker.cluster.holder_elsewhere(segment)) is not None
            and not (holder.node in avoid or self.reach.is_away(holder.node))
        }
        asked = [segment for segment in segments if segment not in held]
        unsuitable = {self.node, *avoid}
        for segment, copies in (await self._look_up(asked)).items():
            # The lock's holder may have changed so recently that this worker does not know it yet.
            writers = {c.node for c in copies if c.role == WRITE}
            readable = [c for c in copies if c.role == READ and c.node not in unsuitable]
            if readable:
                held[segment] = min(readable, key=lambda c: self._preference(c, writers))
        return held

    def _preference(self, copy: Copy, writers: set[str]) -> tuple[bool, bool, float, int]:
        # Each cold segment has its own cold worker, whose cache it stays in.
        load = 0.0 if self.worker.is_cold(copy.segment) else copy.load
        place = zlib.crc32(f"{copy.node} {copy.segment}".encode())
        return self.reach.is_away(copy.node), copy.node not in writers, load, place

    async def _look_up(self, segments: Collection[str]) -> dict[str, list[Copy]]:
        if not segments:
            return {}
        return await self._in_time(self.worker.metadata.copies_of(segments), len(segments))

    async def _in_time(self, looking: Coroutine[Any, Any, _Found], number: int = 1) -> _Found:
        seconds = LOOK_UP_SECONDS * (1 + number / 10_000)
        return await Deferred.fromCoroutine(looking).addTimeout(seconds, self._reactor, _unknown)

    # -- reading and writing ---------------------------------------------------------

    def read(
        self,
        targets: Sequence[Target],
        sql: str | bytes,
        parameters: Any,
        limits: ReadLimits,
        framing: Framing,
        tag: str,
        receiver: Receiver,
        keeper: Keeper | None = None,
        merge: str = "",
    ) -> Job:
        """Ask the executors; see :meth:`trough.executors.pool.pool.ExecutorPool.read`.

        :raises trough.errors.TooLarge: the SQL is longer than a read's may be
        """
        if len(sql) > self._limits.sql:
            raise errors.TooLarge(
                f"the SQL has {len(sql)} bytes, and a read may have {self._limits.sql}"
            )
        job = self._pool.read(
            targets, sql, parameters, limits, framing, tag, receiver, keeper, merge
        )
        if self._slow is not None and targets:
            self._slow.watch(job, targets, sql, limits)
        return job

    # -- answers that are kept ---------------------------------------------------------

    def kept_query(
        self,
        sql: str | bytes,
        parameters: Any,
        rows: int,
        tag: str,
        tests: Sequence[FilterTest] = (),
    ) -> KeptQuery:
        """A question whose answers may be kept, and found; see :mod:`trough.worker.kept_query`."""
        copy_of = self.worker.segments.get
        return KeptQuery(
            self.results, copy_of, sql, parameters, rows, tag=tag, filters=self.filters, tests=tests
        )

    def remember(self, query: KeptQuery, segments: int) -> str:
        """A word for :meth:`unchanged`, if all of so many segments answered from a known
        version; else an empty text."""
        if len(query.versions) != segments:
            return ""
        return self._remembered.add(query.versions)

    def remembered(self, word: str) -> list[str]:
        """The segments of a question that has a word; none where the word is not known."""
        return [copy.entry.segment for copy, _ in self._remembered.find(word) or ()]

    async def unchanged(self, word: str) -> dict[str, str] | None:
        """Whether each segment of a question would answer here as it did then.

        :return: the marks that answers would carry now, by segment; None: some would answer
            otherwise, or elsewhere, or the word is not known
        """
        versions = self._remembered.find(word)
        if versions is None:
            return None
        if self.has_to_wait:
            await self.wait()
        marks: dict[str, str] = {}

        def compare(some: Sequence[tuple[LocalCopy, Version]]) -> tuple[()]:
            knowledge = self.worker.confirmation.knowledge
            present, local = self.worker.segments.get, self._local
            for copy, version in some:
                segment = copy.entry.segment
                if present(segment) is not copy or copy.version != version:
                    raise _Changed
                reading = local(segment, knowledge)
                if reading is None:
                    raise _Changed
                if reading.mark:
                    marks[segment] = reading.mark
            return ()

        try:
            await in_slices(compare, versions)
        except _Changed:
            return None
        return marks

    def read_cold(
        self,
        target: Target,
        sql: str | bytes,
        parameters: Any,
        limits: ReadLimits,
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
        self,
        segment: str,
        sql: str | bytes,
        parameters: Any,
        limits: ReadLimits,
        receiver: Receiver,
    ) -> Write:
        """Run `sql` in one transaction; `receiver` gets the result once it is on disk.

        :raises trough.errors.NoWriteLock: this worker does not write the segment
        :raises trough.errors.ColdSegment: no worker does
        """
        self.writers.check_not_cold(segment)
        return self.worker.writer.write(segment, sql, parameters, limits, receiver)

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


class _Changed(Exception):
    """A segment would answer otherwise, or elsewhere."""


def _unknown(result: object, seconds: float) -> NoReturn:
    raise errors.Unavailable(
        f"it is not here, and the metadata store did not say within {seconds:.0f} s where it is"
    )


def _copy_of_holder(segment: str, holder: Worker) -> Copy:
    """What the holder of a write lock publishes for readers."""
    url = f"{holder.read_url}?segment={segment_word(segment)}"
    return Copy(segment, holder.node, READ, url, holder.load, holder.ttl)


class _Releasing:
    """Passes everything on, and releases a cold segment at the end."""

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
