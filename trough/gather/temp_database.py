"""The temporary database in which a final text runs over what the segments sent.

Rows are buffered and written in batches. Rows that must be forgotten are deleted once, before the
final text; their positions identify them. Memory is a page cache of a fixed size and, while the
final text sorts or groups, the data that SQLite sorts. That is at most about as much as the file
holds, and the file has its own limit.
"""

from __future__ import annotations

import itertools
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from trough import errors
from trough.gather import exact_sums, sqlite_helpers
from trough.gather.gather_plan import GatherPlan
from trough.gather.leftovers import PREFIX
from trough.gather.limits import Limits
from trough.gather.pushdown import PARTIAL, Pushdown
from trough.gather.sqlite_helpers import sqlite3
from trough.gather.union_database import SEGMENT

#: Rows that wait to be written.
_BUNCH = 5_000
#: Values that one statement writes.
_TOGETHER = 300
_PAGE = 4096
#: Rows from which on indexes are worth their time.
_INDEXED = 1_000
#: Below this many bytes nothing is written to disk.
_CACHE = 32 << 20


class TempDatabase:
    """See the module.

    :param plan: defines the tables and the final text
    :param stopped: asked now and then while the final text runs; ends it with an error
    """

    def __init__(
        self,
        plan: GatherPlan,
        limits: Limits,
        stopped: Callable[[], errors.TroughError | None] = lambda: None,
    ) -> None:
        self._plan = plan
        self._limits = limits
        self._stopped = stopped
        self._landings = plan.landings
        descriptor, path = tempfile.mkstemp(prefix=PREFIX)
        os.close(descriptor)
        try:
            self._connection = self._created(path)
        finally:
            # The file has no name once it is open, so that nothing is left of it when this
            # process is killed. SQLite needs its name no more: there is no journal.
            Path(path).unlink()
        # Rows that wait to be written, all of them in the cheap form or all in the exact.
        self._buffers: list[list[Sequence[Any]]] = [[] for _ in self._landings]
        self._exactly = plan.starts_exact
        self._waiting = 0
        self._inserted = [0] * len(self._landings)
        self._count = 0
        self._discarded: list[tuple[int, int, int]] = []

    def _created(self, path: str) -> Any:
        connection = sqlite_helpers.connect(path)
        connection.execute(f"PRAGMA page_size = {_PAGE}")
        connection.execute("PRAGMA journal_mode = OFF")
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        connection.execute(f"PRAGMA cache_size = -{_CACHE >> 10}")
        connection.execute(f"PRAGMA max_page_count = {max(16, self._limits.bytes // _PAGE)}")
        exact_sums.register(connection)
        connection.execute("BEGIN")
        for statement in self._plan.definitions:
            connection.execute(statement)
        return connection

    def insert(self, target: int, exactly: bool, rows: list[Sequence[Any]]) -> int:
        """Add rows to a landing; the number of the first of them, counted from 1.

        :raises trough.errors.LimitExceeded: that is too much
        """
        first = self._inserted[target] + 1
        self._inserted[target] += len(rows)
        self._count += len(rows)
        if self._count > self._limits.rows:
            raise self._exceeded(f"{self._limits.rows} rows")
        if exactly != self._exactly:
            # Rows of one landing are numbered in the order of their arrival, in any form.
            self._flush()
            self._exactly = exactly
        self._buffers[target] += rows
        self._waiting += len(rows)
        if self._waiting >= _BUNCH:
            self._flush()
        return first

    def discard(self, target: int, runs: list[list[int]]) -> None:
        """Forget rows, given as ``[first, after]``."""
        self._discarded += [(target, first, after) for first, after in runs]

    def result(self, exactly: bool) -> Iterator[Sequence[Any]]:
        """The rows of the final text.

        :param exactly: sums are in the exact form; so they are, too, where one of
            integers might be too large on its way
        :raises KeyboardInterrupt: by Ctrl-C, where this is the main thread
        """
        self._finish()
        exactly = exactly or self._might_overflow()
        try:
            yield from self._run(self._plan.final(exactly))
        except sqlite_helpers.Error as error:
            if sqlite_helpers.was_interrupted(error) and self._stopped() is None:
                # By Ctrl-C: SQLite swallows what is raised in what it calls.
                raise KeyboardInterrupt from error
            raise self._told(error) from error

    def _might_overflow(self) -> bool:
        pushed = self._plan.pushed
        for name in pushed.checked if pushed is not None else ():
            partial = sqlite_helpers.name(PARTIAL)
            least, greatest, count = self._connection.execute(
                f"SELECT min({name}), max({name}), count({name}) FROM {partial}"
            ).fetchone()
            if count and max(abs(least), abs(greatest)) * count >= 2**63:
                return True
        return False

    def _run(self, text: str) -> Iterator[Sequence[Any]]:
        stopped = self._stopped
        self._connection.set_progress_handler(lambda: stopped() is not None, sqlite_helpers.STEPS)
        self._create_indexes()
        sqlite_helpers.confine(self._connection, own=exact_sums.FUNCTIONS)
        yield from self._connection.execute(text, self._plan.parameters)

    def _create_indexes(self) -> None:
        if self._count < _INDEXED:
            return
        for statement in self._plan.indexes:
            (pages,) = self._connection.execute("PRAGMA page_count").fetchone()
            # There is no journal: one that does not fit could not be taken back.
            if pages * _PAGE * 2 > self._limits.bytes:
                return
            self._connection.execute(statement)
        if self._plan.indexes:
            self._connection.execute("PRAGMA analysis_limit = 1000")
            self._connection.execute("ANALYZE")

    def _told(self, error: BaseException) -> errors.TroughError:
        stopped = self._stopped()
        if stopped is not None:
            return stopped
        told = sqlite_helpers.refused(error, self._plan.text, self._connection)
        if told.message == str(error) and "finalize" in told.message:
            # None of Trough's functions: a sum.
            return errors.BadSql("integer overflow", sqlite_helpers.shown(self._plan.text))
        return told

    def close(self) -> None:
        """Release the temporary file. Idempotent."""
        self._connection.close()

    # -- writing -------------------------------------------------------------------------

    def _flush(self) -> None:
        for target, rows in enumerate(self._buffers):
            if rows:
                self._buffers[target] = []
                self._write(target, rows)
        self._waiting = 0

    def _write(self, target: int, rows: list[Sequence[Any]]) -> None:
        # Many rows with each statement, as most of the time goes to statements.
        width = len(rows[0])
        together = _TOGETHER // width if width else 0
        whole = len(rows) // together * together if together else 0
        values = list(itertools.chain.from_iterable(rows[:whole]))
        step = together * width
        try:
            if values:
                bunches = (values[at : at + step] for at in range(0, len(values), step))
                self._connection.executemany(self._insertion(target, together), bunches)
            self._connection.executemany(self._insertion(target), rows[whole:])
        except MemoryError as error:
            raise sqlite_helpers.refused(error, self._plan.text) from error
        except sqlite3.OperationalError as error:
            if "full" not in str(error):
                raise
            raise self._exceeded(f"{self._limits.bytes >> 20} MiB") from error

    def _insertion(self, target: int, together: int = 1) -> str:
        landing = self._landings[target]
        columns = list(landing.columns)
        if self._plan.pushed is not None:
            columns = [each.name for each in self._plan.pushed.asked(self._exactly)]
        if landing.segment:
            columns.append(SEGMENT)
        if not columns:
            return f"INSERT INTO {sqlite_helpers.name(landing.name)} DEFAULT VALUES"
        names = ", ".join(sqlite_helpers.name(column) for column in columns)
        marks = ", ".join([f"({', '.join('?' * len(columns))})"] * together)
        return f"INSERT INTO {sqlite_helpers.name(landing.name)} ({names}) VALUES {marks}"

    def _finish(self) -> None:
        self._flush()
        for target, first, after in self._discarded:
            landing = self._landings[target]
            self._connection.execute(
                f"DELETE FROM {sqlite_helpers.name(landing.name)} "
                f"WHERE {landing.rowid} >= ? AND {landing.rowid} < ?",
                (first, after),
            )
        self._discarded.clear()
        for pushed in (self._plan.pushed, *self._plan.parts):
            if pushed is not None:
                self._settle_odd_values(pushed)

    def _settle_odd_values(self, pushed: Pushdown) -> None:
        """Make numbers of texts and BLOBs that are summed up, as SQLite's own sum does."""
        for partial in pushed.partials:
            if partial.grouped and not partial.lean:
                self._connection.execute(
                    f"UPDATE {sqlite_helpers.name(pushed.table)} SET {partial.name} = "
                    f"(SELECT sum(value) FROM (SELECT {partial.name} AS value)) "
                    f"WHERE typeof({partial.name}) IN ('text', 'blob')"
                )

    def _exceeded(self, what: str) -> errors.LimitExceeded:
        reason = f", as {self._plan.reason}" if self._plan.reason else ""
        return errors.LimitExceeded(
            f"GATHER keeps at most {what} at once; this query needs more{reason}",
            "ask for less, or for fewer segments",
        )
