"""Loads rows into one table of one segment, in batches, and finds the refused rows.

A batch is one transaction. The worker acknowledges it once it is on disk. A refused batch is
halved until the refused rows are alone. They are skipped and reported, and the others are stored.
The order of the rows is kept. While one batch is being stored, the next one is made. Any other
failure (no worker, no answer) ends the loading with an exception. It is then known which rows are
stored, and which may be. The module does not depend on the source of rows, and never stores a row
twice by itself.

Nothing is provisioned before there is a row that can be stored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import groupby
from typing import NamedTuple, Protocol

from trough import errors
from trough.client import TroughClient, TroughException, TroughOutcomeUnknown
from trough.load.records import RecordRow, Skipped, alike, folded_name
from trough.load.tables import TargetTable, alter_sql, create_sql, no_answer
from trough.sql.text import quoted_name, sql_value

#: A batch is sent when its SQL reaches this many bytes, even if it has few rows. This is well
#: below a server's limit for one body.
BATCH_BYTES = 1 << 20

#: If so many rows in succession are refused, the cause is not the rows.
REFUSED_IN_A_ROW = 100

#: Batches that are made and not acknowledged.
_IN_FLIGHT = 2

# A worker's answers to a batch that can never be stored unchanged. The last one is the answer of
# the original system's workers to every error.
_REFUSALS = frozenset({400, 413, 500})


class LoadingStopped(errors.TroughError):
    """Later rows would fail too."""


class Insert(NamedTuple):
    """A row as SQL."""

    first: int
    last: int
    columns: tuple[str, ...]
    values: str


class LoadListener(Protocol):
    """Receives the results of rows. Called on one thread at a time."""

    def stored(self, first: int, last: int, rows: int) -> None:
        """Rows of these lines are on the worker's disk."""

    def refused(self, skipped: Skipped) -> None:
        """A row was refused."""

    def sending(self, first: int, last: int, rows: int) -> None:
        """From now on, rows of these lines may be stored or not."""

    def not_stored(self) -> None:
        """The rows that were being sent are certainly not stored."""


class SegmentLoader:
    """Loads rows into one table of one segment.

    :param schema: a new segment is created from it
    :param table: the table as it was found
    :param batch_rows: most rows in one transaction
    :param leave_out: whether a row with these columns is stored without those that the
        table lacks, instead of being refused
    :param alter: add the columns that the table lacks
    :ivar settled: line of the last row that is stored, or refused
    :ivar doubtful: first and last line of rows that may be stored or not, or None
    :ivar loaded: number of rows that are stored
    """

    def __init__(
        self,
        client: TroughClient,
        segment: str,
        schema: str,
        table_name: str,
        table: TargetTable,
        *,
        batch_rows: int,
        listener: LoadListener,
        leave_out: Callable[[tuple[str, ...]], bool] = lambda _: False,
        alter: Callable[[tuple[str, ...]], Mapping[str, str]] | None = None,
    ) -> None:
        self._client = client
        self._segment = segment
        self._schema = schema
        self._table_name = table_name
        self._table = table
        self._batch_rows = batch_rows
        self._listener = listener
        self._leave_out = leave_out
        self._alter = alter
        self._trial = table.trial
        self._fitting: dict[tuple[str, ...], tuple[list[int], tuple[str, ...]]] = {}
        self._unfit_in_a_row = 0
        self._batch: list[Insert] = []
        self._batch_bytes = 0
        self._before = ""  # SQL that goes before the next batch
        self._with_rows = ""  # SQL that is stored together with the next rows
        self._refused_in_a_row = 0
        self._stopped = False
        self._storing: list[Future[None]] = []
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="trough-load")
        self._provisioned = False
        self.settled = 0
        self.loaded = 0
        self.doubtful: tuple[int, int] | None = None

    def create(self, types: Mapping[str, str]) -> None:
        """Create the table with the first batch."""
        self._before += create_sql(self._table_name, types)
        self._table.types.update({folded_name(name): kind for name, kind in types.items()})
        self._trial = None

    @property
    def left_empty(self) -> bool:
        """Whether the segment was created for rows of which none is stored."""
        created = self._provisioned and self._table.is_new
        return created and not self.loaded and self.doubtful is None

    def close(self) -> None:
        """Drop the batches that are not being stored yet, and wait for the one that is."""
        self._stopped = True
        self._thread.shutdown(wait=True, cancel_futures=True)

    # -- taking rows ---------------------------------------------------------------

    def add(self, row: RecordRow) -> None:
        """Take a row. The next :meth:`flush` stores it at the latest.

        :raises LoadingStopped: a batch could not be stored
        """
        first, last, columns, values = row
        fitting = self._fitting.get(columns)
        if fitting is None:
            fitting = self._fitting[columns] = self._fit(columns)
        places, stored = fitting
        if not stored:
            self._refuse_unfit(row)
            return
        self._unfit_in_a_row = 0
        if stored is not columns:
            values = [values[place] for place in places]
        text = rendered(values)
        self._batch.append(Insert(first, last, stored, text))
        self._batch_bytes += len(text)
        if len(self._batch) >= self._batch_rows or self._batch_bytes >= BATCH_BYTES:
            self._send()

    def flush(self) -> None:
        """Store the added rows that are not stored yet.

        :raises LoadingStopped: it could not be stored
        """
        self._send()
        self._wait(0)

    def misfit(self, columns: tuple[str, ...]) -> str | None:
        """Why rows with these columns will all be refused, or None."""
        if self._fit(columns)[1]:
            return None
        if same := alike(columns):
            # SQLite would take one of them and silently drop the other.
            return f"two values for one column: {', '.join(same)}"
        return f"{self._table_name} has no column {', '.join(self._unknown(columns))}"

    def _fit(self, columns: tuple[str, ...]) -> tuple[list[int], tuple[str, ...]]:
        """Which of these columns are stored; none if the row must be refused."""
        if alike(columns):
            return [], ()
        types = self._table.types
        if not types:
            return [], columns
        unknown = self._unknown(columns)
        if unknown and self._alter is not None:
            added = {name: kind for name, kind in self._alter(columns).items() if name in unknown}
            self._before += alter_sql(self._table_name, added)
            types.update({folded_name(name): kind for name, kind in added.items()})
            self._trial = None
            unknown = []
        if not unknown:
            return [], columns
        if not self._leave_out(columns):
            return [], ()
        places = [place for place, name in enumerate(columns) if name not in unknown]
        return places, tuple(columns[place] for place in places)

    def _unknown(self, columns: tuple[str, ...]) -> list[str]:
        return [name for name in columns if folded_name(name) not in self._table.types]

    def _refuse_unfit(self, row: RecordRow) -> None:
        # Counted separately: the rows of a batch are stored, or refused, much later.
        self._unfit_in_a_row += 1
        reason = self.misfit(row.columns) or ""
        self._listener.refused(Skipped(row.first, row.last, reason))
        if self._unfit_in_a_row >= REFUSED_IN_A_ROW:
            raise _all_refused(reason)

    # -- storing -------------------------------------------------------------------

    def _send(self) -> None:
        batch, self._batch, self._batch_bytes = self._batch, [], 0
        if batch:
            before, self._before = self._before, ""
            self._storing.append(self._thread.submit(self._store_first, batch, before))
            self._wait(_IN_FLIGHT - 1)

    def _wait(self, most: int) -> None:
        while len(self._storing) > most:
            self._storing[0].result()
            del self._storing[0]

    def _store_first(self, batch: Sequence[Insert], before: str) -> None:
        if self._stopped:
            return
        try:
            if before and self._table.is_new:
                # In one transaction with the first rows: it is of no use without them.
                self._with_rows += before
            elif before:
                self._write(before)
            if self._trial is not None:
                batch = self._tried(batch)
            if batch:
                self._store(batch)
        except BaseException:
            # The batches queued after it would be stored out of order.
            self._stopped = True
            raise

    def _tried(self, batch: Sequence[Insert]) -> Sequence[Insert]:
        """The rows for a new segment, from the first one that can be stored."""
        assert self._trial is not None
        for place, insert in enumerate(batch):
            reason = self._trial.refusal(self._statements([insert]))
            if reason is None:
                self._trial = None
                return batch[place:]
            self._refuse(insert, reason)
        return ()

    def _store(self, batch: Sequence[Insert]) -> None:
        first, last = batch[0].first, batch[-1].last
        self._listener.sending(first, last, len(batch))
        self.doubtful = (first, last)
        try:
            self._write(self._with_rows + self._statements(batch))
        except _Refused as refused:
            self.doubtful = None
            self._listener.not_stored()
            if len(batch) > 1:
                middle = len(batch) // 2
                self._store(batch[:middle])
                self._store(batch[middle:])
            else:
                self._refuse(batch[0], str(refused))
        except LoadingStopped as error:
            if not isinstance(error.__cause__, TroughOutcomeUnknown):
                self.doubtful = None
                self._listener.not_stored()
            raise
        else:
            self._with_rows = ""
            self.settled, self.doubtful = last, None
            self.loaded += len(batch)
            self._refused_in_a_row = 0
            self._listener.stored(first, last, len(batch))

    def _write(self, sql: str) -> None:
        try:
            self._client.write_url(self._segment, self._schema)
        except TroughException as error:
            raise LoadingStopped(f"it cannot be written: {no_answer(error)}") from error
        self._provisioned = True
        try:
            self._client.write(self._segment, sql, None, self._schema)
        except TroughException as error:
            if error.status in _REFUSALS and error.returned_message is not None:
                raise _Refused(no_answer(error)) from error
            raise LoadingStopped(no_answer(error)) from error

    def _statements(self, batch: Iterable[Insert]) -> str:
        table = quoted_name(self._table_name)
        statements = []
        for columns, rows in groupby(batch, key=lambda insert: insert.columns):
            names = ",".join(map(quoted_name, columns))
            values = "),\n(".join([row.values for row in rows])
            statements.append(f"INSERT INTO {table} ({names}) VALUES\n({values});")
        return "\n".join(statements)

    def _refuse(self, insert: Insert, reason: str) -> None:
        self.settled = insert.last
        self._refused_in_a_row += 1
        self._listener.refused(Skipped(insert.first, insert.last, reason))
        if self._refused_in_a_row >= REFUSED_IN_A_ROW:
            raise _all_refused(reason)


class _Refused(LoadingStopped):
    """The worker will never store this."""


def _all_refused(reason: str) -> LoadingStopped:
    return LoadingStopped(
        f"{REFUSED_IN_A_ROW} rows in a row were refused, the last because: {reason}"
    )


def rendered(values: Sequence[object]) -> str:
    """Values as SQL, with commas between them."""
    try:
        joined = "\x1f".join(values)  # type: ignore[arg-type]
    except TypeError:
        return ",".join([_rendered(value) for value in values])
    if "'" in joined or "\0" in joined or joined.count("\x1f") != len(values) - 1:
        return ",".join([_rendered(value) for value in values])
    quoted = joined.replace("\x1f", "','")
    return f"'{quoted}'"


def _rendered(value: object) -> str:
    if value is None:
        return "null"
    if type(value) is str and "'" not in value and "\0" not in value:
        return f"'{value}'"
    return str(sql_value(value))
