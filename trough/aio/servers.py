"""Connections to servers for one event loop. They carry out a router's steps."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from trough import errors
from trough.aio.stream import LineStream, closed, open_stream
from trough.drivers.connections import IdleConnections, RoutingProgress, check_unknown
from trough.drivers.results import PartialResult
from trough.drivers.routing import check_answer
from trough.drivers.steps import Ask, Look, NotReached, OpenStream, Role, Step, Steps
from trough.tls import TlsFiles

#: Idle connections that are kept for each server.
_IDLE = 8


class RowStream:
    """The result of a query as it arrives; call :meth:`begin` first.

    :ivar result: the part that is known so far
    """

    def __init__(self, servers: Servers, connection: LineStream, step: OpenStream) -> None:
        self.result = PartialResult()
        self._servers = servers
        self._connection: LineStream | None = connection
        self._lines: AsyncIterator[tuple[bytes, bytes]] = connection.ask(step.request)
        self._first: bytes | None = None

    async def begin(self) -> RowStream:
        """Wait for the first rows, or the end.

        :raises trough.errors.TroughError: there is no answer
        """
        self._first = await self._read()
        return self

    async def next_rows(self) -> bytes | None:
        """JSON of some more rows; None at the end.

        :raises trough.errors.TroughError: there is no whole answer
        """
        first, self._first = self._first, None
        return first if first is not None else await self._read()

    async def close(self) -> None:
        """End the query, if it has not ended. Idempotent."""
        self._first = None
        connection, self._connection = self._connection, None
        if connection is not None:
            await closed(connection)

    async def _read(self) -> bytes | None:
        if self._connection is None:
            return None
        try:
            async for word, rest in self._lines:
                rows = self.result.take(word, rest)
                if rows is not None:
                    return rows
        except BaseException as error:
            if isinstance(error, errors.TroughError) and self.result.ended:
                self._give_back()
            else:
                # A cancelled task must not wait.
                self._connection.close()
                self._connection = None
            raise
        self._give_back()
        return None

    def _give_back(self) -> None:
        assert self._connection is not None
        self._servers.give_back(self._connection)
        self._connection = None


class Servers:
    """Makes, keeps and closes connections; any number of tasks may share it."""

    def __init__(self, token: str | None, tls: TlsFiles) -> None:
        self._token = token
        self._tls = tls
        self._idle: IdleConnections[LineStream] = IdleConnections(_IDLE)
        self._closed = False

    async def run(self, steps: Steps) -> Any:
        """Carry out all steps of a router; return its result.

        :raises trough.errors.TroughError: the router's error
        """
        progress = RoutingProgress(steps)
        while (step := progress.step) is not None:
            outcome: Any = None
            failure: errors.TroughError | None = None
            try:
                outcome = await self._do(step)
            except errors.TroughError as error:
                failure = error
            progress.go_on(outcome, failure)
        return progress.result

    def give_back(self, connection: LineStream) -> None:
        """Take back a connection whose last answer was read to its end."""
        if self._closed:
            connection.close()
        else:
            self._idle.give_back(connection)

    async def close(self) -> None:
        """Close all idle connections. Idempotent."""
        self._closed = True
        await asyncio.gather(*map(closed, self._idle.take_all()))

    async def _do(self, step: Step) -> Any:
        if isinstance(step, Look):
            return await asyncio.to_thread(step.call)
        connection = await self._connection(step.address)
        if isinstance(step, OpenStream):
            return await RowStream(self, connection, step).begin()
        if isinstance(step, Role):
            self.give_back(connection)
            return connection.greeting.role
        assert isinstance(step, Ask), "only trough.dbapi writes several at once"
        return await self._ask(connection, step)

    async def _ask(self, connection: LineStream, step: Ask) -> list[tuple[bytes, bytes]]:
        try:
            lines = [line async for line in connection.ask(step.request)]
        except BaseException as error:
            connection.close()
            check_unknown(step.changes, error)
            raise
        self.give_back(connection)
        return check_answer(lines)

    async def _connection(self, address: str) -> LineStream:
        connection = self._idle.take(address)
        if connection is not None:
            return connection
        try:
            return await open_stream(address, self._token, self._tls)
        except errors.Unavailable as error:
            raise NotReached(error.message, error.hint) from error
