"""Rows into one table of one segment, in batches, finding out which ones are refused.

A batch is one transaction, answered after it is on disk. One that the worker refuses is
halved until the refused rows are alone; they are skipped and told of, the others are
stored, and the order of the rows is kept. Whatever is no refusal (no worker, no answer)
ends the loading with an exception that says what is stored and what is not known. It
refuses to know where rows come from, and never stores one twice by itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby

from trough import errors
from trough.client import TroughClient, TroughException, TroughOutcomeUnknown, TroughSegmentNotFound
from trough.load.records import Row, Skipped
from trough.sql.text import quoted_name, sql_value

#: A batch is sent when its SQL has grown to this many bytes, however few its rows are:
#: well below what a server takes in one body.
BATCH_BYTES = 1 << 20

#: So many rows refused one after the other mean that it is not the rows.
REFUSED_IN_A_ROW = 100


# What a worker answers to a batch that can never be stored as it is. The last one is what
# workers of the original system answer to everything.
_REFUSALS = frozenset({400, 413, 500})
_PREFIX = "500 Server Error: "


class LoadingStopped(errors.TroughError):
    """What follows would fail too."""


@dataclass(frozen=True, slots=True)
class _Insert:
    line: int
    columns: tuple[str, ...]
    values: str


class SegmentLoader:
    """Loads rows into one table of one segment.

    :param schema: what the segment is created from where it is new
    :param batch_rows: most rows in one transaction
    :param leave_out_unknown: store what a row has besides the columns that the table
        lacks, instead of refusing the row
    :param on_skip: told of each row that was refused
    :ivar loaded: number of rows that are stored
    :ivar settled: line of the last row that is stored, or refused
    :ivar doubtful: first and last line of rows that may be stored or not, or None
    """

    def __init__(
        self,
        client: TroughClient,
        segment: str,
        schema: str,
        table: str,
        batch_rows: int,
        leave_out_unknown: bool,
        on_skip: Callable[[Skipped], None],
    ) -> None:
        self._client = client
        self._segment = segment
        self._schema = schema
        self._table = table
        self._batch_rows = batch_rows
        self._leave_out_unknown = leave_out_unknown
        self._on_skip = on_skip
        self._columns: set[str] | None = None
        self._fitting: dict[tuple[str, ...], tuple[str, ...]] = {}
        self._unfit_in_a_row = 0
        self._batch: list[_Insert] = []
        self._batch_bytes = 0
        self._refused_in_a_row = 0
        self.loaded = 0
        self.settled = 0
        self.doubtful: tuple[int, int] | None = None

    def open(self) -> None:
        """Provision the segment, and look what columns the table has.

        :raises LoadingStopped: it cannot be written, or has no such table
        """
        try:
            self._client.write_url(self._segment, self._schema)
            columns = self._client.read(
                self._segment, f"PRAGMA table_info({quoted_name(self._table)})", None
            )
        except TroughSegmentNotFound:
            # Provisioned a moment ago, and not published for readers yet. Then the
            # refusals of the writes have to tell what a look would have told.
            return
        except TroughException as error:
            raise LoadingStopped(str(error)) from error
        if not columns:
            raise LoadingStopped(
                f"segment {self._segment} has no table {self._table}: a new segment gets its "
                "tables from the schema that --schema names"
            )
        self._columns = {column["name"].lower() for column in columns}

    def add(self, row: Row) -> None:
        """Take a row; it is stored at the latest by the next :meth:`flush`.

        :raises LoadingStopped: a batch could not be stored
        """
        columns = tuple(row.values)
        fitting = self._fitting.get(columns)
        if fitting is None:
            fitting = self._fitting[columns] = self._fit(columns)
        if not fitting:
            # Counted apart: the rows of a batch are stored, or refused, much later.
            self._unfit_in_a_row += 1
            self._refuse(row.line, self._misfit(columns), self._unfit_in_a_row)
            return
        self._unfit_in_a_row = 0
        columns = fitting
        values = ",".join([str(sql_value(row.values[name])) for name in columns])
        self._batch.append(_Insert(row.line, columns, values))
        self._batch_bytes += len(values)
        if len(self._batch) >= self._batch_rows or self._batch_bytes >= BATCH_BYTES:
            self.flush()

    def _fit(self, columns: tuple[str, ...]) -> tuple[str, ...]:
        """Which of these columns are stored; none where the row is to be refused."""
        if _alike(columns):
            return ()
        if self._columns is None:
            return columns
        known = tuple(name for name in columns if name.lower() in self._columns)
        return known if known == columns or self._leave_out_unknown else ()

    def _misfit(self, columns: tuple[str, ...]) -> str:
        alike = _alike(columns)
        if alike:
            # SQLite would take one of them, without a word about the other.
            return f"two values for one column: {', '.join(alike)}"
        unknown = [name for name in columns if name.lower() not in (self._columns or ())]
        return f"{self._table} has no column {', '.join(unknown)}"

    def flush(self) -> None:
        """Store what was added and is not stored yet.

        :raises LoadingStopped: it could not be stored
        """
        batch, self._batch, self._batch_bytes = self._batch, [], 0
        if batch:
            self._store(batch)

    def _store(self, batch: Sequence[_Insert]) -> None:
        first, last = batch[0].line, batch[-1].line
        self.doubtful = (first, last)
        try:
            self._client.write(self._segment, self._statements(batch), None, self._schema)
        except TroughOutcomeUnknown as error:
            raise LoadingStopped(str(error)) from error
        except TroughException as error:
            self.doubtful = None
            if error.status not in _REFUSALS or error.returned_message is None:
                raise LoadingStopped(str(error)) from error
            if len(batch) > 1:
                middle = len(batch) // 2
                self._store(batch[:middle])
                self._store(batch[middle:])
                return
            self.settled = last
            self._refused_in_a_row += 1
            reason = error.returned_message.removeprefix(_PREFIX).strip()
            self._refuse(last, reason, self._refused_in_a_row)
        else:
            self.settled, self.doubtful = last, None
            self.loaded += len(batch)
            self._refused_in_a_row = 0

    def _statements(self, batch: Sequence[_Insert]) -> str:
        table = quoted_name(self._table)
        statements = []
        for columns, rows in groupby(batch, key=lambda insert: insert.columns):
            names = ",".join(map(quoted_name, columns))
            values = ",\n".join(f"({row.values})" for row in rows)
            statements.append(f"INSERT INTO {table} ({names}) VALUES\n{values};")
        return "\n".join(statements)

    def _refuse(self, line: int, reason: str, in_a_row: int) -> None:
        self._on_skip(Skipped(line, reason))
        if in_a_row >= REFUSED_IN_A_ROW:
            raise LoadingStopped(
                f"{REFUSED_IN_A_ROW} rows in a row were refused, the last because: {reason}"
            )


def _alike(columns: tuple[str, ...]) -> list[str]:
    """Those whose names are one to SQLite, which knows the case of A to Z alone."""
    folded = [name.lower() if name.isascii() else name for name in columns]
    times = Counter(folded)
    return [name for name, key in zip(columns, folded, strict=True) if times[key] > 1]
