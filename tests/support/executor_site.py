"""A server of the line protocol with real executors behind it, and a connection to it."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from twisted.internet import reactor as installed_reactor
from twisted.internet.endpoints import TCP4ClientEndpoint

from trough import errors
from trough.executors.pool.pool import ExecutorPool, Framing, ReadLimits, Target
from trough.protocols.line.arguments import parse_query_arguments, parse_write_arguments
from trough.protocols.line.client import LineConnection, connect
from trough.protocols.line.framing import LineRequest
from trough.protocols.line.pending_calls import Call
from trough.protocols.line.replies import QueryReply, Reply, Verb, WriteReply, table
from trough.protocols.line.server import LineServerFactory, ServerLimits
from trough.protocols.unread_answers import MAX_UNSENT, UnreadAnswers

reactor: Any = installed_reactor


class PoolRole:
    """Asks executors; knows its segments beforehand, and moves none."""

    def __init__(self, pool: ExecutorPool, targets: dict[str, Target]) -> None:
        self._pool = pool
        self._targets = targets

    def verbs(self) -> dict[str, Verb]:
        """The table that a server takes."""
        return table(
            Verb("QUERY", "<ids> <SQL>", "rows", self._query, "1 QUERY a SELECT 1"),
            Verb("WRITE", "<id> <SQL>", "writes", self._write, "1 WRITE a DELETE FROM t"),
        )

    def _query(self, request: LineRequest, reply: Reply) -> None:
        asked = parse_query_arguments(request)
        here = [self._targets[each] for each in asked.segments if each in self._targets]
        answer = QueryReply(reply)
        for segment in asked.segments:
            if segment not in self._targets:
                answer.fail(segment, errors.NoSuchSegment("it is not here"))
        limits = ReadLimits(asked.seconds or 60.0, asked.rows or 0)
        parameters = asked.parameters
        reply.follow(
            self._pool.read(here, asked.sql, parameters, limits, Framing.LINES, reply.tag, answer)
        )

    def _write(self, request: LineRequest, reply: Reply) -> None:
        asked = parse_write_arguments(request)
        target, limits = self._targets[asked.segment], ReadLimits(asked.seconds or 60.0)
        reply.follow(
            self._pool.write(target, asked.sql, asked.parameters, limits, WriteReply(reply))
        )


@dataclass
class Listener:
    """Keeps rows and ends by segment; pauses the call at the first rows if it has it."""

    rows_of: dict[str, list[Any]] = field(default_factory=dict)
    ends: dict[str, Any] = field(default_factory=dict)
    call: Call | None = None

    def state(self, segment: str, mark: str) -> None:
        self.told.append(("state", segment, mark))

    def columns(self, segment: str, names: tuple[str, ...]) -> None:
        assert segment not in self.rows_of
        self.rows_of[segment] = []

    def rows(self, segment: str, rows: list[list[Any]]) -> None:
        assert segment not in self.ends
        self.rows_of[segment] += rows
        if self.call is not None:
            self.call.pause()

    def done(self, segment: str, count: int) -> None:
        assert len(self.rows_of[segment]) == count
        self.ends[segment] = count

    def failed(self, segment: str, error: errors.TroughError) -> None:
        self.ends[segment] = error


@dataclass
class Site:
    """A server with executors, and a connection to it."""

    pool: ExecutorPool
    factory: LineServerFactory
    connection: LineConnection

    @property
    def unsent(self) -> int:
        """Bytes that the server keeps for a client which does not read."""
        (server,) = self.factory._connections
        return server._outbox.unsent

    async def connect(self) -> LineConnection:
        """A further connection, which the caller closes."""
        port = self.connection.transport.getPeer().port
        return await connect(TCP4ClientEndpoint(reactor, "127.0.0.1", port), reactor)

    def reading(self) -> int:
        """How many queries the executors have."""
        return self.pool.status()["queries"]


@asynccontextmanager
async def site(directory: Path, most_unsent: int = MAX_UNSENT) -> AsyncIterator[Site]:
    """Twenty plain segments, `s0` to `s19`, one that is no database, and one to write to."""
    targets = {}
    for number in range(20):
        path = directory / f"s{number}.sqlite"
        with sqlite3.connect(path) as database:
            database.execute("CREATE TABLE t (a, b)")
            database.executemany("INSERT INTO t VALUES (?, ?)", [(n, number) for n in range(50)])
        database.close()
        targets[f"s{number}"] = Target(f"s{number}", str(path), 1, False)
    (directory / "bad.sqlite").write_bytes(b"no database at all" * 1000)
    targets["bad"] = Target("bad", str(directory / "bad.sqlite"), 1, False)
    targets["w"] = Target("w", str(directory / "w.sqlite"), 1, True)
    pool = ExecutorPool(reactor, executors=2, write_executors=1, max_executors=4)
    pool.startService()
    limits = ServerLimits(unsent=1 << 18)
    verbs = PoolRole(pool, targets).verbs()
    unread = UnreadAnswers(reactor, most_unsent)
    factory = LineServerFactory("worker", "w01", verbs, reactor, limits, unread=unread)
    port = reactor.listenTCP(0, factory, interface="127.0.0.1")
    try:
        await pool.create(targets["w"], "CREATE TABLE t (a, b)")
        endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", port.getHost().port)
        connection = await connect(endpoint, reactor)
        yield Site(pool, factory, connection)
        await connection.close()
    finally:
        await port.stopListening()
        await factory.drain(0)
        await pool.stopService()
