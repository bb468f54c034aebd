"""The Twisted client's GATHERs beside one another, over workers that answer by SQLite."""

from __future__ import annotations

import sqlite3

import pytest
import pytest_twisted
from line_servers import LineServer
from towns import Town, settled
from twisted.internet import defer, reactor
from twisted.internet.testing import Clock
from waiting import until

from trough import errors
from trough.protocols.gather_service import PATIENCE, Gatherer
from trough.protocols.line.arguments import GatherArguments


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
    assert sorted(rows) == [(1,), (1,), (2,), (2,), (3,), (3,)]


@pytest_twisted.ensureDeferred
async def test_whoever_takes_rows_is_let_go_when_it_is_cancelled(town):
    """What waits for a reader ends with the answer, and gets no rows later."""
    begun, let_go = defer.Deferred(), []

    def receive(_, some):
        begun.callback(None)
        return defer.Deferred(let_go.append)

    slow = gathering(town, "SELECT a FROM t", receive=receive)
    await settled(begun)
    slow.cancel()
    with pytest.raises((defer.CancelledError, errors.Cancelled)):
        await settled(slow)
    await until(lambda: let_go, "the end of the wait for the reader")
    assert len(let_go) == 1


@pytest_twisted.ensureDeferred
async def test_connections_are_used_again(town):
    """GATHERs one after the other share a connection; closing leaves none."""
    for _ in range(3):
        answer = await settled(gathering(town, "SELECT max(a) FROM t"))
        assert answer.rows == [(3,)]
    assert len(town.server.connections) == 1


async def never_read(names, rows):
    """A reader that takes the columns and then no more."""
    if rows:
        await defer.Deferred()


@pytest_twisted.ensureDeferred
async def test_readers_that_never_read_keep_nobody_waiting_for_long(town):
    """With all turns of a server taken by such, one is ended for one who waits, and no more."""
    clock = Clock()
    gatherer = Gatherer(town.cluster, 600, 600, clock, short=3, long=0)
    asked = GatherArguments(("s1", "s2"), None, "SELECT a FROM t", None, None, False, False)
    begun = [defer.Deferred() for _ in range(3)]

    def stuck(number):
        async def send(names, rows):
            if rows and not begun[number].called:
                begun[number].callback(None)
            await never_read(names, rows)

        return defer.Deferred.fromCoroutine(gatherer.gather(asked, send))

    slow = [stuck(number) for number in range(3)]
    for each in begun:
        await settled(each)
    rows = []

    async def read(names, some):
        rows.append(some)

    quick = defer.Deferred.fromCoroutine(gatherer.gather(asked, read))
    clock.advance(PATIENCE)
    answer = await settled(quick)
    assert (answer.rows, answer.segments) == (6, 2)
    [ended] = [each for each in slow if each.called]
    with pytest.raises(errors.DeadlineExceeded, match="not read for 30 s, and others waited"):
        await settled(ended)
    slow.remove(ended)
    for each in slow:
        each.cancel()
        with pytest.raises((errors.Cancelled, defer.CancelledError)):
            await settled(each)
