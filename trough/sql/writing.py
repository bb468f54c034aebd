"""Writes to one segment, many in one commit.

Writes that wait while an earlier commit is being flushed to disk share the next one. Each
is atomic, in its own savepoint: a write that fails leaves nothing behind and does not affect
the others. When SQLite rolls back the whole transaction because of one of them, the others run
again without it. A write counts as done when the commit that holds it is on disk, and not
before.

This module does not know who waits for a write.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from time import monotonic

from trough import errors
from trough.sql import sqlite
from trough.sql.commit_log import CommitLog
from trough.sql.handles import Handle, Handles
from trough.sql.queries import Parameters
from trough.sql.sqlite import Connection, Engine

#: Seconds after which a commit is made though more writes are waiting.
PATIENCE = 0.05

#: Pages in whose multiples a segment's limit is set.
_STEP = 1024

#: Bytes that are free on a disk that is not full.
_SPARE = 32 << 20


class SqlWrite:
    """SQL that is to be applied as a whole, and its outcome.

    :param number: by which its caller knows it
    :param deadline: by :func:`time.monotonic`
    :param place: in the table of writes that were begun
    :param seconds: that it may run from when its turn has come
    :ivar changes: rows that it changed, those changed by triggers included
    :ivar error: why it was not applied, or None
    :ivar position: of a replicated segment: where the log ended when the write was on disk
    """

    __slots__ = (
        "cancelled",
        "changes",
        "deadline",
        "error",
        "number",
        "parameters",
        "place",
        "position",
        "seconds",
        "text",
    )

    def __init__(
        self,
        number: int,
        text: str | bytes,
        parameters: Parameters,
        deadline: float,
        place: int = 0,
        seconds: float = math.inf,
    ) -> None:
        self.number = number
        self.text = text
        self.parameters = parameters
        self.deadline = deadline
        self.place = place
        self.seconds = seconds
        self.cancelled = False
        self.changes = 0
        self.error: errors.TroughError | None = None
        self.position: int | None = None


class Quota:
    """How much a segment may grow; SQLite itself keeps to it, page by page.

    :param growth: bytes that one transaction may add
    :param size: bytes that a segment may have; 0 for any number
    """

    def __init__(self, growth: int = 0, size: int = 0) -> None:
        self._growth = growth
        self._size = size

    def apply(self, engine: Engine, handle: Handle) -> None:
        """Limit what the transaction that was just begun may add; raises what SQLite raises."""
        if not (self._growth or self._size):
            return
        connection = handle.connection
        (page,) = engine.own(connection, "PRAGMA page_size").fetchone()
        limit = self._size // page
        if self._growth:
            (pages,) = engine.own(connection, "PRAGMA page_count").fetchone()
            # In steps, so that it seldom is another one.
            grown = (pages + self._growth // page) // _STEP * _STEP + _STEP
            limit = min(limit, grown) if limit else grown
        if limit != handle.page_limit:
            engine.own(connection, f"PRAGMA max_page_count={max(limit, 1)}")
            handle.page_limit = limit

    def explain(self, error: errors.TroughError, path: str) -> errors.TroughError:
        """Distinguish a full segment from a full disk, for which SQLite has one error."""
        if not (isinstance(error, errors.DiskFull) and (self._growth or self._size)):
            return error
        disk = os.statvfs(Path(path).parent)
        if disk.f_bavail * disk.f_frsize < _SPARE:
            return error
        size = f" and a segment {self._size}" if self._size else ""
        return errors.LimitExceeded(
            f"the segment would grow too large: a write may add {self._growth} bytes{size}",
            "nothing of it was applied; write less at once, or have MAX_WRITE_GROWTH or "
            "MAX_SEGMENT_SIZE raised",
        )


class Writer:
    """Applies writes; one of a process.

    :param handles: connections that can write
    :param running: called with the write that runs from now on, or None, so that its deadline and
        its cancellation can interrupt it
    :param quota: how much a segment may grow
    :param committed: called with a replicated segment, its generation and where its log ends,
        before the log is flushed
    :param broken: called with a replicated segment, its generation and the reason, when its log
        takes no more writes
    :param measured: called after each commit with its seconds, its writes, and the bytes of the
        write-ahead log
    """

    def __init__(
        self,
        engine: Engine,
        handles: Handles,
        running: Callable[[SqlWrite | None], None],
        quota: Quota | None = None,
        committed: Callable[[str, int, int], None] = lambda segment, generation, end: None,
        *,
        broken: Callable[[str, int, str], None] = lambda segment, generation, reason: None,
        measured: Callable[[float, int, int], None] = lambda seconds, writes, log_bytes: None,
    ) -> None:
        self._measured = measured
        self._committed = committed
        self._broken = broken
        self._quota = quota or Quota()
        self._engine = engine
        self._handles = handles
        self._running = running

    def apply(
        self, segment: str, path: str, generation: int, writes: Sequence[SqlWrite]
    ) -> Sequence[SqlWrite]:
        """Apply writes to one segment, in their order.

        :return: those that were not looked at, for patience ran out; all others are
            committed, or have their error
        """
        try:
            handle = self._handles.take(segment, path, generation, True)
        except sqlite.Error as error:
            _fail(writes, self._engine.error(error, path))
            return ()
        except errors.TroughError as error:
            _fail(writes, error)
            return ()
        end = monotonic() + PATIENCE
        groups, rest = self._commit_together(handle, path, writes, end)
        while groups:
            again, left = self._commit_together(handle, path, groups.pop(0), math.inf)
            groups[:0] = [*again, left] if left else again
        if handle.log is not None:
            self._flush(handle, handle.log, writes[: len(writes) - len(rest)])
            if handle.log.broken is not None:
                self._broken(handle.segment, generation, handle.log.broken.message)
        self._handles.give(handle)
        return rest

    def _flush(self, handle: Handle, log: CommitLog, writes: Sequence[SqlWrite]) -> None:
        """Have what was committed to a replicated segment on disk."""
        applied = [write for write in writes if write.error is None]
        if not applied:
            return
        try:
            end = log.end()
            self._committed(handle.segment, handle.generation, end)
            began = monotonic()
            log.flush()
            self._measured(monotonic() - began, len(applied), _log_size(handle.path))
        except (*sqlite.Error, errors.TroughError) as error:
            told = self._engine.error(error, handle.path)
            _fail(applied, _doubtful(handle, told))
            log.fail(told)
            return
        for write in applied:
            write.position = end

    def _commit_together(
        self, handle: Handle, path: str, writes: Sequence[SqlWrite], end: float
    ) -> tuple[list[Sequence[SqlWrite]], Sequence[SqlWrite]]:
        """Run writes in one transaction.

        :return: groups of those that have to be run again, and those not yet looked at
        """
        engine, connection, log = self._engine, handle.connection, handle.log
        if log is not None and log.broken is not None:
            _fail(writes, log.broken)
            return [], ()
        try:
            engine.own(connection, "BEGIN IMMEDIATE")
            self._quota.apply(engine, handle)
        except sqlite.Error as error:
            _fail(writes, engine.error(error, path))
            self._roll_back(connection)
            return [], ()
        applied: list[SqlWrite] = []
        alone: list[Sequence[SqlWrite]] = []
        rest: Sequence[SqlWrite] = ()
        for place, write in enumerate(writes):
            try:
                self._apply_one(connection, write, alone=len(writes) == 1)
                applied.append(write)
            except (*sqlite.Error, errors.TroughError) as error:
                write.error = self._quota.explain(engine.error(error, path), path)
                if isinstance(write.error, errors.LimitExceeded) and len(writes) > 1:
                    # Others in this transaction may have used what it may use.
                    write.error = None
                    alone.append([write])
                if not connection.in_transaction:
                    return [applied, *alone] if applied else alone, writes[place + 1 :]
            if monotonic() > end:
                rest = writes[place + 1 :]
                break
        try:
            self._commit(connection, path, len(applied), flushes=log is None)
        except sqlite.Error as error:
            told = self._quota.explain(engine.error(error, path), path)
            self._roll_back(connection)
            if log is not None and sqlite.is_io_error(error):
                # The frames may be in the WAL, whole, and be found there after a restart.
                log.fail(told)
                _fail(applied, _doubtful(handle, told))
                return alone, rest
            if len(applied) > 1:
                return [*([write] for write in applied), *alone], rest
            _fail(applied, told)
        return alone, rest

    def _apply_one(self, connection: Connection, write: SqlWrite, alone: bool) -> None:
        """Run one write inside the transaction; it leaves nothing if this raises.

        :param alone: it is the transaction's only one, which then is its savepoint
        """
        if write.cancelled:
            raise errors.Cancelled("the write was cancelled before it began")
        now = monotonic()
        if now > write.deadline:
            raise errors.DeadlineExceeded("the write's time ran out before it began")
        write.deadline = min(write.deadline, now + write.seconds)
        engine = self._engine
        before = connection.total_changes
        if not alone:
            engine.own(connection, "SAVEPOINT trough")
        self._running(write)
        try:
            engine.write(connection, write.text, write.parameters)
        except BaseException:
            self._running(None)
            if alone:
                self._roll_back(connection)
            elif connection.in_transaction:
                engine.own(connection, "ROLLBACK TO trough")
                engine.own(connection, "RELEASE trough")
            raise
        self._running(None)
        if not alone:
            engine.own(connection, "RELEASE trough")
        write.changes = connection.total_changes - before

    def _commit(self, connection: Connection, path: str, writes: int, flushes: bool) -> None:
        """Commit, and measure that.

        :param flushes: whether that flushes the log; else the flush is measured
        """
        began = monotonic()
        self._engine.own(connection, "COMMIT")
        if flushes and writes:
            self._measured(monotonic() - began, writes, _log_size(path))

    def _roll_back(self, connection: Connection) -> None:
        if connection.in_transaction:
            self._engine.own(connection, "ROLLBACK")


def _log_size(path: str) -> int:
    """Bytes of a segment's write-ahead log."""
    try:
        return Path(f"{path}-wal").stat().st_size
    except OSError:
        return 0


def _doubtful(handle: Handle, reason: errors.TroughError) -> errors.OutcomeUnknown:
    return errors.OutcomeUnknown(
        f"segment {handle.segment} was written, and whether that is on disk is not known: "
        f"{reason.message}",
        "look before writing it again",
    )


def _fail(writes: Sequence[SqlWrite], error: errors.TroughError) -> None:
    for write in writes:
        write.error = error
