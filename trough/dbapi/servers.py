"""Connections to servers for one thread. They carry out a router's steps, and block."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any

from trough import errors
from trough.drivers.connections import IdleConnections, RoutingProgress, check_unknown
from trough.drivers.results import PartialResult
from trough.drivers.routing import check_answer
from trough.drivers.steps import Ask, AskAll, Look, NotReached, OpenStream, Role, Step, Steps
from trough.protocols.line.blocking import BlockingConnection
from trough.protocols.line.framing import FINAL
from trough.tls import TlsFiles

#: Seconds after which a wait checks whether it was cancelled.
TICK = 0.2

#: Seconds that a server has to report a deadline by itself.
GRACE = 10.0

#: Idle connections that are kept for each server.
_IDLE = 4


class Interrupt:
    """Whether the statement under way has to end.

    :param seconds: the deadline; None: the server's
    """

    def __init__(self, seconds: float | None = None) -> None:
        self.cancelled = False
        self._end = None if seconds is None else time.monotonic() + seconds + GRACE

    def check(self) -> None:
        """:raises trough.errors.DeadlineExceeded: the server did not report its deadline"""
        if self._end is not None and time.monotonic() > self._end:
            raise errors.DeadlineExceeded("no answer came within the timeout")


class RowStream:
    """The result of a query as it arrives. Rows not taken stay with the server, which pauses.

    :ivar result: the part that is known so far
    """

    def __init__(
        self,
        servers: Servers,
        connection: BlockingConnection,
        step: OpenStream,
        interrupt: Interrupt,
    ) -> None:
        self.result = PartialResult()
        self._servers = servers
        self._connection: BlockingConnection | None = connection
        self._lines = _answer(connection, step.request, interrupt)
        self._first = self._read()

    def next_rows(self) -> bytes | None:
        """JSON of some more rows; None at the end.

        :raises trough.errors.TroughError: the answer is not complete
        """
        first, self._first = self._first, None
        return first if first is not None else self._read()

    def close(self) -> None:
        """End the query, if it has not ended. Idempotent."""
        self._first = None
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _read(self) -> bytes | None:
        if self._connection is None:
            return None
        try:
            for word, rest in self._lines:
                rows = self.result.take(word, rest)
                if rows is not None:
                    return rows
        except BaseException as error:
            if not (isinstance(error, errors.TroughError) and self.result.ended):
                self.close()
                raise
            self._give_back()
            raise
        self._give_back()
        return None

    def _give_back(self) -> None:
        assert self._connection is not None
        self._servers.give_back(self._connection)
        self._connection = None


class Servers:
    """Makes, keeps and closes connections."""

    def __init__(self, token: str | None, tls: TlsFiles) -> None:
        self._token = token
        self._tls = tls
        self._idle: IdleConnections[BlockingConnection] = IdleConnections(_IDLE)

    def run(self, steps: Steps, interrupt: Interrupt) -> Any:
        """Carry out all steps of a router; return its result.

        :raises trough.errors.TroughError: the router's error
        """
        progress = RoutingProgress(steps)
        while (step := progress.step) is not None:
            outcome: Any = None
            failure: errors.TroughError | None = None
            if interrupt.cancelled:
                raise errors.Cancelled("cancelled by this program")
            try:
                outcome = self._do(step, interrupt)
            except errors.TroughError as error:
                failure = error
            progress.go_on(outcome, failure)
        return progress.result

    def give_back(self, connection: BlockingConnection) -> None:
        """Take back a connection whose last answer was read to its end."""
        self._idle.give_back(connection)

    def close(self) -> None:
        """Close all idle connections. Idempotent."""
        for connection in self._idle.take_all():
            connection.close()

    def _do(self, step: Step, interrupt: Interrupt) -> Any:
        if isinstance(step, Look):
            return step.call()
        connection = self._connection(step.address)
        if isinstance(step, OpenStream):
            return RowStream(self, connection, step, interrupt)
        if isinstance(step, Role):
            self.give_back(connection)
            return connection.greeting.role
        return self._ask(connection, step, interrupt)

    def _ask(
        self, connection: BlockingConnection, step: Ask | AskAll, interrupt: Interrupt
    ) -> list[tuple[bytes, bytes]]:
        try:
            if isinstance(step, AskAll):
                lines = _answers(connection, step.requests, interrupt)
            else:
                lines = list(_answer(connection, step.request, interrupt))
        except BaseException as error:
            connection.close()
            check_unknown(step.changes, error)
            raise
        self.give_back(connection)
        return lines if isinstance(step, AskAll) else check_answer(lines)

    def _connection(self, address: str) -> BlockingConnection:
        connection = self._idle.take(address)
        if connection is not None:
            return connection
        try:
            return BlockingConnection(address, self._token, self._tls)
        except errors.Unavailable as error:
            raise NotReached(error.message, error.hint) from error


def _answer(
    connection: BlockingConnection, request: Callable[[bytes], bytes], interrupt: Interrupt
) -> Iterator[tuple[bytes, bytes]]:
    """The lines of an answer, until an interrupt.

    :raises trough.errors.Unavailable: the connection is no longer usable
    """
    told = False
    for line in connection.ask(request, TICK):
        if interrupt.cancelled and not told:
            told = True
            connection.cancel()
        if line is None:
            interrupt.check()
        elif not interrupt.cancelled or line[0] in FINAL:
            # A cancelled query passes on no rows that arrive later.
            yield line


def _answers(
    connection: BlockingConnection,
    requests: Sequence[Callable[[bytes], bytes]],
    interrupt: Interrupt,
) -> list[tuple[bytes, bytes]]:
    """The last lines of several answers, in the order of the requests; see :func:`_answer`."""
    told = False
    found = []
    for line in connection.ask_all(requests, TICK):
        if interrupt.cancelled and not told:
            told = True
            connection.cancel()
        if line is None:
            interrupt.check()
        else:
            found.append(line)
    return [line for _, line in sorted(found)]


def closing_quietly(stream: RowStream | None) -> None:
    """Close a stream, if there is one."""
    if stream is not None:
        with suppress(OSError):
            stream.close()
