"""The front's side of the executors: one interface for all that runs SQL.

Reads of a segment prefer one executor, whose connection on it is open already. All writes
of a segment that are under way are with one executor, so it is the segment's only writer.
Another executor does the operations on a whole file, so that they block no reads or writes.

An executor may die at any moment. Reads that it had not answered go to other executors. A read
that was running is retried once, unless some of its answer was delivered. Writes that it had
begun have an unknown outcome; all others go to its successor. When one step of one query blocks
an executor for long, all its other work moves elsewhere.

This module runs no SQL, and no call blocks.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path
from time import monotonic
from typing import Any

from twisted.application import service
from twisted.internet import defer
from twisted.internet.defer import Deferred, TimeoutError

from trough import errors
from trough.executors import messages
from trough.executors.error_frames import error_of, its_reason
from trough.executors.messages import ExecutorMessage, Target
from trough.executors.pool.group import ExecutorGroup
from trough.executors.pool.jobs import (
    Outcome,
    ReadLimits,
    Receiver,
    WriteJob,
    as_bytes,
    checked_parameters,
)
from trough.executors.pool.process import ExecutorProcess, ExecutorSettings
from trough.executors.pool.read_jobs import ReadJob
from trough.executors.pool.read_scheduler import ReadScheduler
from trough.executors.pool.supervisor import Supervisor
from trough.executors.pool.task_pool import TaskPool
from trough.executors.pool.write_scheduler import WriteScheduler
from trough.metrics.executor_measures import by_name
from trough.metrics.totals import ExecutorTotals
from trough.sql import segment_files
from trough.sql.queries import LINES, OBJECTS, Framing, Parameters
from trough.sql.sqlite import SCHEMA_SECONDS, schema_runs_too_long
from trough.util import core_priority
from trough.util.confinement import Confinement
from trough.util.flush_batch import FlushBatch
from trough.util.job import Job

__all__ = [
    "LINES",
    "OBJECTS",
    "ExecutorPool",
    "Framing",
    "Outcome",
    "ReadLimits",
    "Receiver",
    "Target",
]

#: Bytes that SQLite may use in one executor.
MEMORY = 1 << 30

#: Connections that one executor keeps for reads: some 35 kB each, and as much again of mapped
#: file, which is the system's cache.
KEPT_HANDLES = 6000

#: Seconds that a shutdown waits for the writes that are under way.
_LAST_WRITES = 30.0


class ExecutorPool(service.Service):
    """All executors of a process, behind one interface.

    :param executors: processes that read; None: one a core
    :param write_executors: processes that write; None: one for two cores
    :param max_executors: processes that read, at most, while others are blocked; None:
        four times as many
    :param max_write_executors: the same of processes that write
    :param memory: bytes that SQLite may use in each
    :param kept_handles: segments that each keeps open for reads
    :param growth: bytes that a write may add to a segment; 0 for any number
    :param segment_size: bytes that a segment may have; 0 for any number
    :param flush_batch: the batch of the callers; None: the pool's own
    :param tasks: the pool of processes that makes new segments; None: the pool's own
    :ivar totals: totals of the executors' answers
    :ivar when_damaged: called with segments whose file turned out to be damaged
    """

    def __init__(
        self,
        reactor: Any,
        executors: int | None = None,
        write_executors: int | None = None,
        max_executors: int | None = None,
        max_write_executors: int | None = None,
        *,
        memory: int = MEMORY,
        kept_handles: int = KEPT_HANDLES,
        growth: int = 0,
        segment_size: int = 0,
        flush_batch: FlushBatch | None = None,
        tasks: TaskPool | None = None,
        confinement: Confinement | None = None,
    ) -> None:
        cores = os.cpu_count() or 1
        number = executors or cores
        settings = ExecutorSettings(
            *(memory, kept_handles, growth, segment_size, confinement or Confinement()),
            lowers=core_priority.can_raise(),
        )

        def new(name: str) -> ExecutorProcess:
            return ExecutorProcess(reactor, self, name, settings)

        self._reactor = reactor
        self.flush_batch = flush_batch or FlushBatch(reactor)
        self._numbers = count(1)
        readers = ExecutorGroup("read", number, max_executors or 4 * number, new)
        self._reads = ReadScheduler(readers, self._numbers)
        writing = write_executors or max(1, cores // 2)
        writers = ExecutorGroup("write", writing, max_write_executors or 4 * writing, new)
        self._writes = WriteScheduler(writers)
        self._maintainer = new("maintenance")
        self._tasks = tasks or TaskPool(reactor)
        self._owns_tasks = tasks is None
        self._supervisor = Supervisor(reactor, self._reads, self._writes, self._all)
        #: Segments whose file is changing its kind, and reads that wait for that.
        self._changing: set[str] = set()
        self._waiting_reads: list[tuple[ReadJob, Sequence[Target]]] = []
        self.when_damaged: Callable[[tuple[str, ...]], None] = lambda segments: None
        #: Called with a replicated segment, the generation of its file, and where its log ends
        #: after a commit, which is not flushed yet.
        self.when_committed: Callable[[str, int, int], None] = lambda *commit: None
        #: Called with a replicated segment, the generation of its file, and why its log takes no
        #: more writes.
        self.when_log_broken: Callable[[str, int, str], None] = lambda *broken: None
        self._accepting = False
        self.totals = ExecutorTotals()
        #: What processes measured that are gone, by kind.
        self._measured: dict[str, list[float]] = {}
        self._receivers: dict[type[ExecutorMessage], Callable[[ExecutorProcess, Any], None]] = {
            messages.PartEnded: self._ended,
            messages.PartSome: self._some,
            messages.PartPieces: self._pieces,
            messages.PartMerged: self._merged,
            messages.PartFinished: self._finished,
            messages.PartFailed: self._failed,
            messages.PartHandedBack: self._handed_back,
            messages.WriteStored: self._stored,
            messages.LogCommitted: self._committed,
            messages.LogFailed: self._log_failed,
            messages.LargeWaits: self._large,
            messages.LargeData: self._large_data,
            messages.WorkRefused: self._refused,
            messages.CallReturned: self._returned,
        }

    # -- life --------------------------------------------------------------------------

    def startService(self) -> None:
        super().startService()
        self._accepting = True
        self._supervisor.start()
        for executor in self._all():
            if executor is not self._maintainer:
                executor.start()

    def stopService(self) -> Deferred[None]:
        """Finish the writes that are under way, end everything else, end the processes."""
        self._accepting = False
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        if self._writes.busy:
            with contextlib.suppress(TimeoutError):
                await self._writes.idle.wait().addTimeout(_LAST_WRITES, self._reactor)
        self._supervisor.stop()
        ending = errors.Cancelled("the server is shutting down")
        for executor in self._all():
            for part in list(executor.outstanding.values()):
                part.job.fail(ending)
            executor.flush()
        self._reads.long.clear(ending)
        waiting, self._waiting_reads = self._waiting_reads, []
        for job, _ in waiting:
            job.fail(ending)
        if self._owns_tasks:
            await self._tasks.close()
        await defer.DeferredList([executor.stop() for executor in self._all()])
        await defer.maybeDeferred(super().stopService)

    def _all(self) -> list[ExecutorProcess]:
        return [*self._reads.all(), *self._writes.group.all(), self._maintainer]

    # -- reading and writing -----------------------------------------------------------

    def read(
        self,
        targets: Sequence[Target],
        sql: str | bytes,
        parameters: Parameters,
        limits: ReadLimits,
        framing: Framing,
        tag: str,
        receiver: Receiver,
        keeper: Callable[[Target, int, bytes], None] | None = None,
        merge: str = "",
    ) -> ReadJob:
        """Ask one SQL text of any number of segments.

        :param targets: exactly one for :attr:`Framing.OBJECTS`
        :param tag: what each line begins with, for :attr:`Framing.LINES`
        :param keeper: is given each segment's lines that are whole, and that the text would
            give again while the file is the same: target, number of rows, lines. For
            :attr:`Framing.LINES` alone
        :param merge: rules by which rows of several segments become one, in ``MERGED`` lines; see
            :mod:`trough.sql.row_merging`
        :raises trough.errors.BadRequest: a parameter that SQLite could not store
        :raises trough.errors.Unavailable: the pool is not running
        """
        packed = checked_parameters(parameters) if parameters else b""
        if not self._accepting:
            raise _not_running()
        job = ReadJob(
            receiver,
            sql if type(sql) is bytes else as_bytes(sql),
            packed,
            monotonic() + limits.seconds,
            limits.rows,
            framing,
            tag,
            len(targets),
            self.when_damaged,
            limits.client,
        )
        if keeper is not None:
            job.keeper = keeper
        if merge:
            job.merge = merge
        if targets and not self._changing:
            self._reads.ask(job, targets)
        else:
            self._ask(job, targets)
        if not self._supervisor.will_look:
            self._supervisor.look_soon()
        return job

    def _ask(self, job: ReadJob, targets: Sequence[Target]) -> None:
        if self._changing and not self._changing.isdisjoint(each.segment for each in targets):
            self._wait(job, targets)
            return
        if targets:
            self._reads.ask(job, targets)
        else:
            self._reactor.callLater(0, job.end_if_answered)

    def _wait(self, job: ReadJob, targets: Sequence[Target]) -> None:
        job.waiting += 1
        self._waiting_reads.append((job, targets))

    def write(
        self,
        target: Target,
        sql: str | bytes,
        parameters: Parameters,
        limits: ReadLimits,
        receiver: Receiver,
    ) -> Job:
        """Apply SQL to a segment as a whole; answered when it is on disk.

        :raises trough.errors.BadRequest: a parameter that SQLite could not store
        :raises trough.errors.Unavailable: the pool is not running
        """
        packed = checked_parameters(parameters)
        if not self._accepting:
            raise _not_running()
        deadline, number = monotonic() + limits.seconds, next(self._numbers)
        job = WriteJob(
            receiver,
            target,
            as_bytes(sql),
            packed,
            deadline,
            number,
            self.when_damaged,
            limits.running,
            limits.client,
        )
        self._writes.submit(job)
        self._supervisor.look_soon()
        return job

    # -- what is done to a file as a whole ---------------------------------------------

    def create(self, target: Target, schema_sql: str | bytes) -> Deferred[None]:
        """Make a new segment's file, in WAL mode, whole and on disk.

        The schema's SQL runs in a process that is killed if it does not end, so that no
        writer waits for it.

        Fails with :class:`trough.errors.BadSchema`, or :class:`trough.errors.Conflict`
        where there is a file.
        """
        return Deferred.fromCoroutine(self._create(target.path, schema_sql))

    async def _create(self, path: str, schema_sql: str | bytes) -> None:
        if not self._accepting:
            raise _not_running()
        temporary = str(segment_files.temporary_for(Path(path)))
        create = segment_files.create_as_task
        try:
            await self._tasks.run(SCHEMA_SECONDS, create, path, schema_sql, temporary)
        except errors.DeadlineExceeded as late:
            raise schema_runs_too_long() from late
        finally:
            # Nothing is there after a success; a process that was killed leaves it.
            segment_files.remove_temporary(temporary)

    def make_writable(self, target: Target) -> Deferred[None]:
        """Put a copy's file into WAL mode. Reads that have not reached the segment wait for
        that, and then run on `target` instead of their old target."""
        return self._change(target, "make_writable")

    def retire(self, target: Target) -> Deferred[None]:
        """Bring everything into the one file, which from then on may be opened as one
        that never changes; every executor has closed it. Reads wait for that."""
        return self._change(target, "retire")

    def begin_log(self, target: Target) -> Deferred[None]:
        """Have the WAL of a writable segment be replicated from now on; idempotent. Each write
        then ends with :attr:`Outcome.position`, and :attr:`when_committed` is called before.
        :meth:`retire` ends it."""
        return self._change(target, "begin_log")

    def checkpoint_log(self, target: Target, position: int) -> Deferred[None]:
        """Move a replicated WAL into the database, so that the next write begins it again.

        Fails with :class:`trough.errors.Unavailable` if the log does not end at `position`, or
        a reader needs the WAL: ask again later. No write may be under way.
        """
        writer = self._writes.writer_of(target.segment)
        return self._call(writer, "checkpoint_log", target.path, position)

    def _change(self, target: Target, procedure: str) -> Deferred[None]:
        return Deferred.fromCoroutine(self._change_while_closed(target, procedure))

    async def _change_while_closed(self, target: Target, procedure: str) -> None:
        segment = target.segment
        if segment in self._changing:
            raise errors.Unavailable(f"segment {segment} is being changed already")
        self._changing.add(segment)
        for job, taken in self._reads.take_back(segment):
            self._wait(job, taken)
        try:
            await self.forget(segment)
            await self._call(self._writes.writer_of(segment), procedure, segment, target.path)
        finally:
            self._changing.discard(segment)
            waiting, self._waiting_reads = self._waiting_reads, []
            for job, targets in waiting:
                job.waiting -= 1
                if not job.over:
                    self._ask(job, [target if t.segment == segment else t for t in targets])

    def snapshot(self, target: Target, destination: str) -> Deferred[None]:
        """Copy a segment as it is at one moment into a plain file, whole and on disk;
        writers go on, rowids stay. Cancelling the Deferred ends it."""
        return self._maintain("snapshot", target.path, target.writable, destination)

    def check(self, target: Target) -> Deferred[None]:
        """Look through a whole segment; fails with :class:`trough.errors.CorruptSegment`
        if it is damaged. Cancelling the Deferred ends it."""
        return self._maintain("check", target.path, target.writable)

    def compare(self, kept: str, canonical: str, destination: str) -> Deferred[None]:
        """Write to `destination` how two plain database files differ; see
        :mod:`trough.sql.comparison`. Cancelling the Deferred ends it."""
        return self._maintain("compare", kept, canonical, destination)

    def forget(self, segment: str) -> Deferred[None]:
        """Have every executor close what it has open on a segment; fires when all have,
        which may be after queries that are under way."""
        if not self._accepting:
            return defer.fail(_not_running())
        calls = [
            self._call(executor, "forget", segment) for executor in self._all() if executor.running
        ]
        closed = defer.gatherResults(calls, consumeErrors=True)
        return closed.addCallbacks(lambda _: None, its_reason)

    def _maintain(self, procedure: str, *arguments: Any) -> Deferred[None]:
        if not self._maintainer.running and self._accepting:
            try:
                self._maintainer.start()
            except OSError as reason:
                return defer.fail(errors.Unavailable(f"no process for {procedure}: {reason}"))
        return self._call(self._maintainer, procedure, *arguments)

    def _call(self, executor: ExecutorProcess, name: str, *arguments: Any) -> Deferred[None]:
        if not self._accepting:
            return defer.fail(_not_running())
        return executor.call(next(self._numbers), name, arguments)

    # -- status ------------------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        """What executors are doing, for people and for JSON."""
        executors = [executor.status() for executor in self._all() if executor.starts]
        measured = dict(self._measured)
        for executor in self._all():
            self._add_measures(measured, executor)
        return {
            "executors": executors,
            "queries": sum(each["queries"] for each in executors),
            "writes": sum(each["writes"] for each in executors),
            "restarts": sum(each["restarts"] for each in executors),
            "totals": self.totals.status(),
            "measured": {kind: by_name(numbers) for kind, numbers in sorted(measured.items())},
            "memory_peak": max((each.get("memory_peak", 0) for each in executors), default=0),
        }

    # -- messages from executors -------------------------------------------------------

    def received(self, executor: ExecutorProcess, came: Sequence[ExecutorMessage]) -> None:
        """Called with the messages of an executor."""
        receivers = self._receivers
        with self.flush_batch:
            for message in came:
                receivers[type(message)](executor, message)

    def _ended(self, executor: ExecutorProcess, message: messages.PartEnded) -> None:
        part = executor.outstanding.pop(message.part, None)
        if part is None:
            return
        executor.load -= 1
        data, rows, totals = message.data, message.count, self.totals
        # As `totals.add` does, without a call for each point read.
        totals.bytes += len(data)
        if rows > 0:
            totals.rows += rows
        part.job.ended(part, data, rows)

    def _some(self, executor: ExecutorProcess, message: messages.PartSome) -> None:
        part = executor.outstanding.get(message.part)
        if part is not None:
            self.totals.add(len(message.data), 0)
            part.job.some(part, message.data)

    def _large(self, executor: ExecutorProcess, message: messages.LargeWaits) -> None:
        part = executor.outstanding.get(message.part)
        if part is not None:
            part.job.large(part)

    def _large_data(self, executor: ExecutorProcess, message: messages.LargeData) -> None:
        part = executor.outstanding.get(message.part)
        if part is not None:
            self.totals.add(len(message.data), 0)
            part.job.large_data(part, message.place, message.data, message.is_last)

    def _pieces(self, executor: ExecutorProcess, message: messages.PartPieces) -> None:
        part = executor.outstanding.get(message.part)
        if part is None:
            return
        places, counts, pieces = message.places, message.counts, message.pieces
        if message.repeatable:
            part.job.keep(part, places, counts, pieces, message.repeatable)
        for rows, piece in zip(counts, pieces, strict=True):
            self.totals.add(len(piece), rows)
        part.job.pieces(part, places, counts, pieces)

    def _merged(self, executor: ExecutorProcess, message: messages.PartMerged) -> None:
        part = executor.outstanding.get(message.part)
        if part is None:
            return
        if not part.moved.isdisjoint(message.places):
            part.check(message.places, len(message.counts))
            # Some of these are asked elsewhere by now, and nobody can take their rows out.
            part.taken(len(message.line))
            rest = [place for place in message.places if place not in part.moved]
            if rest:
                self._reads.move(executor, part, rest)
            return
        for number, rows in enumerate(message.counts):
            self.totals.add(0 if number else len(message.line), rows)
        part.job.merged(part, message)

    def _finished(self, executor: ExecutorProcess, message: messages.PartFinished) -> None:
        part = executor.take_out(message.part)
        if part is not None:
            part.job.part_is_over(part)

    def _failed(self, executor: ExecutorProcess, message: messages.PartFailed) -> None:
        part = executor.take_out(message.part)
        if part is None:
            return
        job = part.job
        error = error_of(message.code, message.message, message.hint)
        if isinstance(error, errors.CorruptSegment) and len(part.targets) == 1:
            job.fail(error, (part.targets[0].segment,))
        else:
            job.fail(error)

    def _handed_back(self, executor: ExecutorProcess, message: messages.PartHandedBack) -> None:
        part = executor.take_out(message.part)
        if part is None:
            return
        rest = self._reads.rest_of(part)
        if self._changing.isdisjoint(each.segment for each in rest):
            self._reads.put_off(part.job, rest)
        else:
            self._wait(part.job, rest)
        self._supervisor.look_now()

    def _committed(self, executor: ExecutorProcess, message: messages.LogCommitted) -> None:
        self.when_committed(message.segment, message.generation, message.position)

    def _log_failed(self, executor: ExecutorProcess, message: messages.LogFailed) -> None:
        self.when_log_broken(message.segment, message.generation, message.reason)

    def _stored(self, executor: ExecutorProcess, message: messages.WriteStored) -> None:
        job = executor.write_answered(message.number)
        if job is not None:
            self.totals.writes += 1
            self.totals.changes += message.changes
            job.written(message.changes, message.position)

    def _refused(self, executor: ExecutorProcess, message: messages.WorkRefused) -> None:
        error = error_of(message.code, message.message, message.hint)
        called = executor.call_answered(message.number)
        if called is not None:
            called.errback(error)
            return
        job = executor.write_answered(message.number)
        if job is None:
            return
        if job.returning and isinstance(error, errors.Cancelled):
            self._writes.returned(job)
        else:
            job.fail(error)

    def _returned(self, executor: ExecutorProcess, message: messages.CallReturned) -> None:
        called = executor.call_answered(message.number)
        if called is not None:
            called.callback(None)

    def _add_measures(self, all_of: dict[str, list[float]], executor: ExecutorProcess) -> None:
        kind = executor.name.partition("-")[0]
        numbers = executor.take_measures()
        before = all_of.get(kind) or [0.0] * len(numbers)
        if numbers:
            all_of[kind] = [a + b for a, b in zip(before, numbers, strict=True)]

    def ended(self, executor: ExecutorProcess, signal: int | None, status: int | None) -> None:
        """Called when an executor's process is gone."""
        self._add_measures(self._measured, executor)
        self._supervisor.ended(executor, signal, status)


def _not_running() -> errors.Unavailable:
    return errors.Unavailable("the server is not running, or is shutting down")
