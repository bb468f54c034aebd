"""The line protocol from client to SQLite and back: real executors behind a real server."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from executor_site import Listener, site
from twisted.internet import reactor as installed_reactor
from twisted.internet.defer import gatherResults
from waiting import until

from trough import errors

reactor: Any = installed_reactor
ENDLESS = "WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n) SELECT max(n) FROM n"
LARGE = (
    "WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n LIMIT 50000)"
    " SELECT n, printf('%100d', n) FROM n"
)


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
        other = await here.connect()
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
