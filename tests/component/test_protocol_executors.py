"""The line protocol from client to SQLite and back: real executors behind a real server."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor as installed_reactor
from twisted.internet.defer import gatherResults
from twisted.internet.endpoints import TCP4ClientEndpoint
from waiting import until

from trough import errors
from trough.executors.pool.pool import ExecutorPool, Framing, ReadLimits, Target
from trough.protocols.line.arguments import parse_query_arguments, parse_write_arguments
from trough.protocols.line.client import LineConnection, connect
from trough.protocols.line.framing import Request
from trough.protocols.line.pending_calls import Call
from trough.protocols.line.replies import QueryReply, Reply, Verb, WriteReply, table
from trough.protocols.line.server import LineServerFactory, ServerLimits

reactor: Any = installed_reactor
ENDLESS = "WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n) SELECT max(n) FROM n"
LARGE = (
    "WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n LIMIT 50000)"
    " SELECT n, printf('%100d', n) FROM n"
)


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

    def _query(self, request: Request, reply: Reply) -> None:
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

    def _write(self, request: Request, reply: Reply) -> None:
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

    def reading(self) -> int:
        """How many queries the executors have."""
        return self.pool.status()["queries"]


@asynccontextmanager
async def site(directory: Path) -> AsyncIterator[Site]:
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
    factory = LineServerFactory("worker", "w01", verbs, reactor, limits)
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


@pytest_twisted.ensureDeferred
async def test_many_segments(tmp_path: Path) -> None:
    """Every segment answers for itself, whatever happens to others."""
    async with site(tmp_path) as here:
        listener = Listener()
        names = [*(f"s{number}" for number in range(20)), "bad", "gone"]
        call = here.connection.query(names, "SELECT a, b FROM t", listener=listener)
        summary = await call.done
        assert (summary.segments, summary.failed, summary.rows) == (22, 2, 1000)
        assert not summary.complete
        assert listener.rows_of["s7"] == [[n, 7] for n in range(50)]
        assert isinstance(listener.ends["bad"], errors.CorruptSegment)
        assert isinstance(listener.ends["gone"], errors.NoSuchSegment)


@pytest_twisted.ensureDeferred
async def test_values(tmp_path: Path) -> None:
    """Each of SQLite's kinds of value goes to SQLite and comes back the same."""
    async with site(tmp_path) as here:
        sent = [None, 2**63 - 1, -(2**63), 0.1, 1e300, -math.inf, "ä \n\0\x1b", b"\0\xff", ""]
        listener = Listener()
        places = ", ".join("?" * len(sent))
        await here.connection.query(["s1"], f"SELECT {places}", sent, listener=listener).done
        assert listener.rows_of["s1"] == [sent]
        assert [type(v) for v in listener.rows_of["s1"][0]] == [type(v) for v in sent]
        typed = Listener()
        text = f"SELECT {', '.join(f'typeof(?{n + 1})' for n in range(len(sent)))}"
        await here.connection.query(["s1"], text, sent, listener=typed).done
        assert typed.rows_of["s1"] == [
            ["null", "integer", "integer", "real", "real", "real", "text", "blob", "text"]
        ]


@pytest_twisted.ensureDeferred
async def test_writes(tmp_path: Path) -> None:
    """Writes that are sent together are all answered, and read back."""
    async with site(tmp_path) as here:
        answers = await gatherResults(
            here.connection.write("w", "INSERT INTO t VALUES (?, ?)", [n, "x"]) for n in range(300)
        )
        assert [answer.fields["changes"] for answer in answers] == [1] * 300
        listener = Listener()
        text = "SELECT count(*), count(DISTINCT a) FROM t"
        await here.connection.query(["w"], text, listener=listener).done
        assert listener.rows_of["w"] == [[300, 300]]
        failing = here.connection.write(
            "w", "INSERT INTO t VALUES (1, 2); INSERT INTO no VALUES(1)"
        )
        try:
            await failing
        except errors.BadSql as error:
            assert "no such table" in str(error)
        else:
            raise AssertionError("it was taken")


@pytest_twisted.ensureDeferred
async def test_cancel_reaches_sqlite(tmp_path: Path) -> None:
    """A query that would run for ever ends when it is cancelled, and others never notice."""
    async with site(tmp_path) as here:
        listener = Listener()
        call = here.connection.query(["s1", "s2"], ENDLESS, listener=listener)
        await until(here.reading, "the query to begin")
        quick = Listener()
        await here.connection.query(["s4"], "SELECT 1", listener=quick).done
        assert quick.ends == {"s4": 1}
        call.cancel()
        with pytest.raises(errors.Cancelled):
            await call.done
        await until(lambda: not here.reading(), "the executors to be free")


@pytest_twisted.ensureDeferred
async def test_a_deadline_reaches_sqlite(tmp_path: Path) -> None:
    """A query that would run for ever is stopped by its own limit, segment by segment."""
    async with site(tmp_path) as here:
        listener = Listener()
        call = here.connection.query(["s1", "s2"], ENDLESS, listener=listener, seconds=0.2)
        summary = await call.done
        assert (summary.segments, summary.failed) == (2, 2)
        assert all(isinstance(end, errors.DeadlineExceeded) for end in listener.ends.values())


@pytest_twisted.ensureDeferred
async def test_a_lost_connection_frees_the_executors(tmp_path: Path) -> None:
    """Nobody is left to read the answer, so nobody goes on computing it."""
    async with site(tmp_path) as here:
        call = here.connection.query(["s1", "s2"], ENDLESS, listener=Listener())
        large = here.connection.query(["s3"], LARGE, listener=Listener())
        await until(here.reading, "the queries to begin")
        await here.connection.close()
        for each in (call, large):
            with pytest.raises(errors.Unavailable):
                await each.done
        await until(lambda: not here.reading(), "the executors to be free")


@pytest_twisted.ensureDeferred
async def test_a_slow_reader_slows_only_its_query(tmp_path: Path) -> None:
    """A paused listener stops SQLite, with bounded bytes in between; nothing gets lost."""
    async with site(tmp_path) as here:
        other = await connect(
            TCP4ClientEndpoint(reactor, "127.0.0.1", here.connection.transport.getPeer().port),
            reactor,
        )
        listener = Listener()
        call = listener.call = here.connection.query(["s1", "s2"], LARGE, listener=listener)
        await until(lambda: listener.rows_of.get("s1") or listener.rows_of.get("s2"), "rows")
        most = 0
        for number in range(40):
            quick = Listener()
            await other.query([f"s{number % 20}"], "SELECT 1", listener=quick).done
            most = max(most, max(server._outbox.unsent for server in here.factory._connections))
        assert most < 8 << 20
        assert sum(len(rows) for rows in listener.rows_of.values()) < 50000
        listener.call = None
        call.resume()
        summary = await call.done
        assert summary.complete and summary.rows == 100000
        for segment in ("s1", "s2"):
            assert [row[0] for row in listener.rows_of[segment]] == list(range(1, 50001))
        await other.close()
