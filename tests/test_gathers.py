"""The Twisted client's GATHERs beside one another, over workers that answer by SQLite."""

from __future__ import annotations

import sqlite3

import pytest_twisted
from line_servers import LineServer
from test_cluster import Town, settled
from twisted.internet import defer, reactor


def answering_by(database):
    """Have a worker answer each query with what the database says, for every segment."""

    def answer(asked):
        for segment in asked.segments:
            asked.answer_segment(segment, database.execute(asked.sql))
        asked.end()

    return answer


@pytest_twisted.async_yield_fixture
async def town(tmp_path):
    """A registry, a client of it, and one worker with two segments of three rows."""
    town = Town(tmp_path)
    await town.cluster.open()
    database = sqlite3.connect(":memory:")
    database.execute("CREATE TABLE t (a)")
    database.executemany("INSERT INTO t VALUES (?)", [(1,), (2,), (3,)])
    async with LineServer(reactor, answering_by(database)) as town.server:
        await town.worker("w01", town.server, "s1", "s2")
        yield town
        await town.cluster.close()


def gathering(town, sql, **options):
    """Begin a GATHER over both segments."""
    return defer.Deferred.fromCoroutine(town.cluster.gather(["s1", "s2"], sql, **options))


@pytest_twisted.ensureDeferred
async def test_who_takes_rows_slowly_holds_up_nobody_else(town):
    """While rows of one GATHER wait to be taken, and its workers for that, others are
    answered; then it goes on."""
    begun, taken = defer.Deferred(), defer.Deferred()
    rows = []

    def receive(_, some):
        rows.extend(some)
        if not begun.called:
            begun.callback(None)
        return taken

    slow = gathering(town, "SELECT a FROM t", receive=receive)
    await settled(begun)
    answer = await settled(gathering(town, "SELECT count(*) FROM t"))
    assert answer.rows == [(6,)]
    assert not slow.called
    taken.callback(None)
    await settled(slow)
    assert sorted(rows) == [[1], [1], [2], [2], [3], [3]]


@pytest_twisted.ensureDeferred
async def test_connections_are_used_again(town):
    """GATHERs one after the other share a connection; closing leaves none."""
    for _ in range(3):
        answer = await settled(gathering(town, "SELECT max(a) FROM t"))
        assert answer.rows == [(3,)]
    assert len(town.server.connections) == 1
