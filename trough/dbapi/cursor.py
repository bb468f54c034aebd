"""Cursors: a statement, and its rows as they arrive."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from trough.dbapi.exceptions import InterfaceError, NotSupportedError, translating
from trough.dbapi.servers import Interrupt, RowStream, closing_quietly
from trough.dbapi.types import sent
from trough.drivers import arrow
from trough.protocols.line.query_replies import decoded
from trough.protocols.line.values import decode_rows
from trough.sql.kind import reads, returns

#: The types of a statement's values.
Values = Sequence[Any] | Mapping[str, Any] | None

Row = tuple[Any, ...]


class _Session(Protocol):
    """The part of :class:`trough.dbapi.connection.Connection` that a cursor uses."""

    timeout: float | None

    def _check_open(self) -> None: ...

    def _read(self, sql: str, parameters: Any, interrupt: Interrupt) -> RowStream: ...

    def _write(self, sql: str, parameters: Any, interrupt: Interrupt) -> int: ...


class Cursor:
    """See PEP 249. A cursor fetches rows from the server on demand. Unfetched rows wait there, so a
    result of any size needs the memory of some rows. Only one thread may use a cursor, except for
    :meth:`cancel`.

    :ivar arraysize: rows of :meth:`fetchmany`
    :ivar rowcount: rows that a write changed; for a read -1 until all rows are fetched
    :ivar lastrowid: always None
    :ivar description: seven values for each column; only the name is not None
    """

    lastrowid = None

    def __init__(self, connection: _Session) -> None:
        self.connection = connection
        self.arraysize = 100
        self.rowcount = -1
        self.description: tuple[tuple[Any, ...], ...] | None = None
        self._stream: RowStream | None = None
        self._interrupt = Interrupt()
        self._rows: list[list[Any]] = []  # decoded but not fetched yet, the next one last
        self._fetched = 0
        self._closed = False

    # -- statements ------------------------------------------------------------------------

    def execute(self, operation: str, parameters: Values = None) -> Cursor:
        """Run a statement. A write is on disk when this returns: there are no transactions.

        :param parameters: a sequence for ``?``, a mapping for ``:name``
        :raises Error: see :mod:`trough.dbapi.exceptions`
        """
        self._begin()
        if reads(operation):
            with translating():
                self._stream = self.connection._read(operation, sent(parameters), self._interrupt)
                names = self._stream.result.names or ()
            self.description = tuple((name, *(None,) * 6) for name in names)
        else:
            self.rowcount = self._write(operation, [parameters])
        return self

    def executemany(self, operation: str, seq_of_parameters: Iterable[Values]) -> Cursor:
        """Run a write once for each set of parameters.

        Each is a transaction of its own. The driver sends many at once: if one fails, others before
        it and after it stay.

        :raises Error: see :meth:`execute`; of the first set that failed
        """
        self._begin()
        if reads(operation):
            raise NotSupportedError("executemany() of a query has no rows", "bad-sql")
        self.rowcount = self._write(operation, list(seq_of_parameters))
        return self

    def executescript(self, script: str) -> Cursor:
        """Run any number of writes in one transaction."""
        self._begin()
        self.rowcount = self._write(script, [None])
        return self

    def cancel(self) -> None:
        """End the statement under way, from any thread: it raises :class:`OperationalError`
        with the code ``cancelled``. A cancel that comes too late does not stop a write."""
        self._interrupt.cancelled = True

    # -- rows --------------------------------------------------------------------------------

    def fetchone(self) -> Row | None:
        """The next row, or None.

        :raises Error: the answer is not complete; the fetched rows are a part of it
        """
        self._check_rows()
        if not self._rows and not self._fill():
            return None
        self._fetched += 1
        return tuple(self._rows.pop())

    def fetchmany(self, size: int | None = None) -> list[Row]:
        """The next rows, `size` at most; see :meth:`fetchone`."""
        self._check_rows()
        wanted = self.arraysize if size is None else size
        found: list[Row] = []
        while len(found) < wanted and (self._rows or self._fill()):
            found += map(tuple, self._take(wanted - len(found)))
        return found

    def fetchall(self) -> list[Row]:
        """All rows that are left; see :meth:`fetchone`."""
        self._check_rows()
        found: list[Row] = []
        while self._rows or self._fill():
            found += map(tuple, self._take(len(self._rows)))
        return found

    def fetch_arrow_table(self) -> Any:
        """All rows that are left, as a :class:`pyarrow.Table`, as in ADBC's extension.

        A column's type is that of its values: int64, double, string or binary.

        :raises DataError: a column holds values of several types, or see :meth:`fetchone`
        """
        self._check_rows()
        assert self._stream is not None
        with translating():
            table = arrow.TableBuilder(self._stream.result.names or ())
            table.rows(self._take(len(self._rows)))
            while (text := self._stream.next_rows()) is not None:
                table.json(text)
            found = table.table()
        self._ended(found.num_rows)
        return found

    def fetch_df(self) -> Any:
        """All rows that are left, as a :class:`pandas.DataFrame`; as in ADBC's extension."""
        return self.fetch_arrow_table().to_pandas()

    def __iter__(self) -> Iterator[Row]:
        return self

    def __next__(self) -> Row:
        row = self.fetchone()
        if row is None:
            raise StopIteration
        return row

    # -- the result as a whole -----------------------------------------------------------------

    @property
    def states(self) -> dict[str, str]:
        """Segments whose rows may not be their present state, with ``last-promoted`` or
        ``unconfirmed``. Complete once all rows are fetched."""
        return {} if self._stream is None else dict(self._stream.result.states)

    @property
    def missing(self) -> dict[str, str]:
        """Segments that are not in the answer (``partial=yes``), with the reasons. Complete once
        all rows are fetched."""
        if self._stream is None:
            return {}
        return {name: str(error) for name, error in self._stream.result.missing.items()}

    # -- the rest of PEP 249 -------------------------------------------------------------------

    def close(self) -> None:
        """End a query under way. Idempotent."""
        self._closed = True
        self._leave()

    def setinputsizes(self, sizes: object) -> None:
        """Has no effect; PEP 249 wants it."""

    def setoutputsize(self, size: object, column: object = None) -> None:
        """Has no effect; PEP 249 wants it."""

    def __enter__(self) -> Cursor:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    # -- within ----------------------------------------------------------------------------------

    def _begin(self) -> None:
        if self._closed:
            raise InterfaceError("the cursor is closed")
        self.connection._check_open()
        self._leave()
        self._interrupt = Interrupt(self.connection.timeout)
        self.description, self.rowcount, self._fetched = None, -1, 0

    def _leave(self) -> None:
        stream, self._stream = self._stream, None
        self._rows = []
        closing_quietly(stream)

    def _write(self, operation: str, sets: Sequence[Values]) -> int:
        if returns(operation):
            raise NotSupportedError("a write gives no rows: RETURNING is not supported", "bad-sql")
        with translating():
            return self.connection._write(operation, list(map(sent, sets)), self._interrupt)

    def _check_rows(self) -> None:
        if self._closed:
            raise InterfaceError("the cursor is closed")
        if self._stream is None:
            raise InterfaceError("there is no result: the last statement was no query")

    def _fill(self) -> bool:
        """Decode some rows; False at the end."""
        assert self._stream is not None
        with translating():
            text = self._stream.next_rows()
            if text is None:
                self._ended()
                return False
            self._rows = decoded(decode_rows, text)
        self._rows.reverse()
        return True

    def _take(self, count: int) -> list[list[Any]]:
        """Take at most so many decoded rows."""
        taken = self._rows[-count:] if count else []
        del self._rows[len(self._rows) - len(taken) :]
        taken.reverse()
        self._fetched += len(taken)
        return taken

    def _ended(self, more: int = 0) -> None:
        self.rowcount = self._fetched + more
