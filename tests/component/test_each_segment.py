"""Queries that each segment answers by itself, over workers that answer by SQLite."""

from __future__ import annotations

import sqlite3

import pytest
import pytest_twisted
from line_servers import LineServer
from towns import Town, settled
from twisted.internet import defer, reactor

from trough import errors


@pytest_twisted.async_yield_fixture
async def town(tmp_path):
    """A client, and one worker with two segments, of which s2 has one column more."""
    town = Town(tmp_path)
    await town.cluster.open()
    databases = {}
    for segment, columns in (("s1", "a"), ("s2", "a, b")):
        database = databases[segment] = sqlite3.connect(":memory:")
        database.execute(f"CREATE TABLE t ({columns})")
        database.executemany("INSERT INTO t (a) VALUES (?)", [(1,), (2,)])

    def answer(asked):
        for segment in asked.segments:
            asked.answer_segment(segment, databases[segment].execute(asked.sql))
        asked.end()

    async with LineServer(reactor, answer) as town.server:
        await town.worker("w01", town.server, "s1", "s2")
        yield town
        await town.cluster.close()


def asking(town, sql, receive=None, segments=("s1", "s2"), **options):
    """Ask each segment; the result, with the rows that were received."""
    received = []

    def collect(names, rows):
        received.extend(rows)

    async def ask():
        result = await town.cluster.gather(
            segments, sql, receive=receive or collect, each=True, **options
        )
        result.rows = received
        return result

    return defer.Deferred.fromCoroutine(ask())


@pytest_twisted.ensureDeferred
async def test_rows_have_their_segment(town):
    """In the first column; a limit is each segment's own."""
    result = await settled(asking(town, "SELECT a FROM t ORDER BY a LIMIT 1"))
    assert result.names == ("_segment", "a")
    assert sorted(result.rows) == [("s1", 1), ("s2", 1)]
    assert result.missing == {}


@pytest_twisted.ensureDeferred
async def test_no_rows_have_columns_all_the_same(town):
    """The receiver learns them once."""
    result = await settled(asking(town, "SELECT a FROM t WHERE 0"))
    assert (result.names, result.rows) == (("_segment", "a"), [])


@pytest_twisted.ensureDeferred
async def test_other_columns_are_a_failure(town):
    """Of that segment; the rest is an answer where that is allowed."""
    with pytest.raises(errors.BadRequest, match="columns are not those of segment s"):
        await settled(asking(town, "SELECT * FROM t"))
    result = await settled(asking(town, "SELECT * FROM t", partial=True))
    (other,) = result.missing
    assert {row[0] for row in result.rows} == {"s1", "s2"} - {other}


@pytest_twisted.ensureDeferred
async def test_who_is_nowhere_is_missing(town):
    """Or fails the query, which names it."""
    segments = ("s1", "nowhere")
    with pytest.raises(errors.Unavailable, match="nowhere"):
        await settled(asking(town, "SELECT a FROM t", segments=segments))
    result = await settled(asking(town, "SELECT a FROM t", segments=segments, partial=True))
    assert set(result.missing) == {"nowhere"} and len(result.rows) == 2


@pytest_twisted.ensureDeferred
async def test_a_slow_reader_is_waited_for(town):
    """And gets everything; what it raises ends the query."""
    begun, taken, rows = defer.Deferred(), defer.Deferred(), []

    def receive(_, some):
        rows.extend(some)
        if not begun.called:
            begun.callback(None)
            return taken
        return None

    slow = asking(town, "SELECT a FROM t", receive)
    await settled(begun)
    assert not slow.called
    taken.callback(None)
    await settled(slow)
    assert sorted(rows) == [("s1", 1), ("s1", 2), ("s2", 1), ("s2", 2)]

    def refuse(names, some):
        raise errors.TooLarge("enough")

    with pytest.raises(errors.TooLarge, match="enough"):
        await settled(asking(town, "SELECT a FROM t", refuse))
