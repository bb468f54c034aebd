"""Connections for asyncio, and the results of their queries."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from trough.aio.servers import RowStream, Servers
from trough.drivers import arrow
from trough.drivers.routing import Router
from trough.drivers.target import ConnectionTarget, parse_target
from trough.metadata.open_blocking import open_blocking
from trough.protocols.line.query_replies import decoded
from trough.protocols.line.values import Parameters, Value, decode_rows

Row = tuple[Value, ...]


class Result:
    """The rows of a query, in their order, as they arrive; iterate over it with ``async for``.

    Rows that are not taken stay with the server, so a result of any size needs the memory of some
    rows. Close a result that is not read to its end: use ``async with``.

    :ivar columns: names of the columns
    """

    def __init__(self, stream: RowStream) -> None:
        self._stream = stream
        self._rows = self._iterate()
        self.columns: tuple[str, ...] = stream.result.names or ()

    @property
    def states(self) -> dict[str, str]:
        """Segments whose rows may not be their present state, with ``last-promoted`` or
        ``unconfirmed``; complete after the last row."""
        return dict(self._stream.result.states)

    @property
    def missing(self) -> dict[str, str]:
        """Segments that are not in the answer, with the reasons; complete after the last row."""
        return {name: str(error) for name, error in self._stream.result.missing.items()}

    def __aiter__(self) -> AsyncIterator[Row]:
        return self._rows

    async def fetchall(self) -> list[Row]:
        """All rows that are left.

        :raises trough.errors.TroughError: the answer is not complete
        """
        return [row async for row in self._rows]

    async def fetch_arrow_table(self) -> Any:
        """All rows as a :class:`pyarrow.Table`; use it only before any row is taken.

        :raises trough.errors.TroughError: the answer is not complete, or a column holds values of
            several types
        """
        table = arrow.TableBuilder(self.columns)
        while (text := await self._stream.next_rows()) is not None:
            table.json(text)
        return table.table()

    async def aclose(self) -> None:
        """End the query, if it has not ended. Idempotent."""
        await self._stream.close()

    async def __aenter__(self) -> Result:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()

    async def _iterate(self) -> AsyncIterator[Row]:
        while (text := await self._stream.next_rows()) is not None:
            for row in decoded(decode_rows, text):
                yield tuple(row)


class Connection:
    """Segments to read and write. Any number of tasks of one loop may share a connection.

    Each statement is a transaction of its own. A cancelled task ends its statement on the server;
    a write may still be done.

    :ivar timeout: seconds that a statement may take from now on; None: the servers' own limit
    """

    def __init__(self, target: ConnectionTarget) -> None:
        self.timeout = target.seconds
        self._metadata = open_blocking(target.registry) if target.registry else None
        self._router = Router(target, self._metadata)
        self._servers = Servers(target.token, target.tls)

    async def query(self, sql: str, parameters: Parameters | None = None) -> Result:
        """Send a query; return once the first rows or the end have come.

        :param parameters: a sequence for ``?``, a mapping for ``:name``
        :raises trough.errors.TroughError: no server answered, or the server refused the query
        """
        steps = self._router.read(sql, parameters or None, self.timeout)
        return Result(await self._servers.run(steps))

    async def write(self, sql: str, parameters: Parameters | None = None) -> int:
        """Run SQL in one transaction; return how many rows it changed, once it is on disk.

        :param parameters: as in :meth:`query`; without any, `sql` may be several statements
        :raises trough.errors.OutcomeUnknown: no answer came; the driver does not retry
        :raises trough.errors.TroughError: nothing was written
        """
        steps = self._router.write(sql, parameters or None, self.timeout)
        return int(await self._servers.run(steps))

    async def close(self) -> None:
        """Close all idle connections. Idempotent."""
        await self._servers.close()
        if self._metadata is not None:
            self._metadata.close()

    async def __aenter__(self) -> Connection:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()


async def connect(url: str, segment: str | None = None, **options: Any) -> Connection:
    """Connect to one segment, or to many.

    :param url: ``trough://host:port/segment``, or a metadata store's; see ``docs/drivers.rst``
    :param segment: an id, where the URL has none
    :param options: see :func:`trough.drivers.target.parse_target`
    :raises trough.errors.BadRequest: the URL or an option is wrong
    :raises trough.errors.TroughError: no server answers there
    """
    connection = Connection(parse_target(url, segment, **options))
    try:
        await connection._servers.run(connection._router.prepare())
    except BaseException:
        await connection.close()
        raise
    return connection
