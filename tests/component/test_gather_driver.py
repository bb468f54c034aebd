"""GATHER over the Twisted client: a real registry, real connections, servers that run SQLite."""

from __future__ import annotations

import json

import pytest
import pytest_twisted
from line_servers import DIE, LineServer
from towns import Found, Town, settled
from twisted.internet import reactor, threads
from twisted.internet.defer import CancelledError, Deferred

from trough import errors
from trough.cluster_client.gather_driver import gather
from trough.gather import sqlite_helpers
from trough.sql.sqlite import sqlite3

SIZE = 20
NAMES = [f"s{number}" for number in range(SIZE)]


class Segments:
    """Small databases, and an answer function that runs what is asked on them.

    :ivar held: once set, no more rows are asked for: a Deferred that fires at the first
        request that gets no answer
    :ivar dies_at: ends the connection in the middle of this segment's answer, once
    """

    def __init__(self) -> None:
        self.held = None
        self.dies_at = None
        self._databases = {}
        for number, segment in enumerate(NAMES):
            connection = self._databases[segment] = sqlite_helpers.connect()
            connection.execute("CREATE TABLE t (k TEXT, n INTEGER, r REAL)")
            rows = [(f"k{row % 3}", number * row, row * 0.25) for row in range(10)]
            connection.executemany("INSERT INTO t VALUES (?, ?, ?)", rows)

    def answer(self, asked) -> None:
        if self.held is not None and not asked.sql.startswith("SELECT told"):
            if not self.held.called:
                self.held.callback(None)
            return
        for segment in asked.segments:
            if not self._answer(asked, segment):
                return
        asked.end()

    def _answer(self, asked, segment) -> bool:
        try:
            cursor = self._databases[segment].execute(asked.sql, asked.query.parameters or {})
        except sqlite3.Error as error:
            asked.say(f"FAIL {segment} bad-sql {error}")
            return True
        asked.say(f"COLS {segment} {json.dumps([item[0] for item in cursor.description])}")
        rows = cursor.fetchall()
        if segment == self.dies_at:
            self.dies_at = None
            asked.say(f"ROWS {segment} {json.dumps(rows[:1])}", DIE)
            return False
        if rows:
            asked.say(f"ROWS {segment} {json.dumps(rows)}")
        asked.say(f"DONE {segment} {len(rows)}")
        return True


class Gatherer:
    """A registry with one worker, and GATHER over all of its segments."""

    def __init__(self, town, server, segments) -> None:
        self.town = town
        self.server = server
        self.segments = segments

    def gather(self, sql, *arguments, names=NAMES, **options):
        """The result, once it is there."""
        one = gather(self.town.cluster, names, sql, *arguments, clock=reactor, **options)
        return settled(Deferred.fromCoroutine(one))


@pytest_twisted.async_yield_fixture
async def gatherer(tmp_path):
    """See :class:`Gatherer`."""
    town, segments = Town(tmp_path), Segments()
    await town.cluster.open()
    async with LineServer(reactor, segments.answer) as server:
        await town.worker("w1", server, *NAMES)
        yield Gatherer(town, server, segments)
    await town.cluster.close()


@pytest_twisted.ensureDeferred
async def test_groups_over_the_wire(gatherer):
    """Partial results of real answers are merged, with a final step on a thread."""
    sql = "SELECT k, count(*), sum(n), sum(r) FROM t WHERE n >= ? GROUP BY k ORDER BY k"
    result = await gatherer.gather(sql, [0], in_thread=threads.deferToThread)
    assert result.names == ("k", "count(*)", "sum(n)", "sum(r)")
    assert result.rows == [("k0", 80, 3420, 90.0), ("k1", 60, 2280, 60.0), ("k2", 60, 2850, 75.0)]
    assert not result.missing


@pytest_twisted.ensureDeferred
async def test_planning_goes_to_a_thread_as_well(gatherer):
    """Until the thread has said what to ask, nobody is asked; the reactor does not plan."""
    turn = Deferred()

    async def in_thread(function, *arguments):
        await turn
        return await threads.deferToThread(function, *arguments)

    answer = gatherer.gather(
        "SELECT max(n) FROM t", in_thread=lambda *call: Deferred.fromCoroutine(in_thread(*call))
    )
    await settled(gatherer.town.cluster.query(["s1"], "SELECT 1", listener=Found()).done)
    assert [asked.sql for asked in gatherer.server.asked] == ["SELECT 1"]
    turn.callback(None)
    assert (await answer).rows == [(171,)]


@pytest_twisted.ensureDeferred
async def test_rows_are_handed_on_as_they_come(gatherer):
    """A plain query's rows go to the receiver, who is waited for before the next ones."""
    bunches, waiting = [], []

    def receive(names, rows):
        assert names == ("_segment", "n") and not waiting
        bunches.append(rows)
        waiting.append(Deferred())
        reactor.callLater(0, lambda: waiting.pop().callback(None))
        return waiting[-1]

    result = await gatherer.gather("SELECT _segment, n FROM t", receive=receive)
    rows = [tuple(row) for bunch in bunches for row in bunch]
    assert sorted(rows) == sorted((f"s{s}", s * row) for s in range(SIZE) for row in range(10))
    assert result.rows == []


@pytest_twisted.ensureDeferred
async def test_a_receiver_hears_the_names_though_there_are_no_rows(gatherer):
    """An empty answer has columns."""
    heard = []
    await gatherer.gather(
        "SELECT k FROM t WHERE n < 0", receive=lambda names, rows: heard.append((names, rows))
    )
    assert heard == [(("k",), [])]


@pytest_twisted.ensureDeferred
async def test_a_receiver_that_fails_ends_it(gatherer):
    """Its error is the caller's, and nothing is left under way."""

    def receive(names, rows):
        raise RuntimeError("the reader is gone")

    for sql in ("SELECT n FROM t", "SELECT n FROM t ORDER BY n"):
        with pytest.raises(RuntimeError, match="the reader is gone"):
            await gatherer.gather(sql, receive=receive)


@pytest_twisted.ensureDeferred
async def test_enough_rows_end_the_queries(gatherer):
    """LIMIT without ORDER BY does not wait for the rest."""
    result = await gatherer.gather("SELECT n FROM t LIMIT 7")
    assert len(result.rows) == 7


@pytest_twisted.ensureDeferred
async def test_a_worker_that_dies_leaves_no_row_twice(gatherer):
    """Its segments are asked again; what it had sent of them does not count."""
    gatherer.segments.dies_at = "s7"
    result = await gatherer.gather("SELECT count(*), sum(n) FROM t")
    assert result.rows == [(200, sum(s * row for s in range(SIZE) for row in range(10)))]


@pytest_twisted.ensureDeferred
async def test_segments_that_are_nowhere(gatherer):
    """They fail the answer, or are missing from it where that is allowed."""
    names = [*NAMES, "nowhere"]
    with pytest.raises(errors.Unavailable, match=r"1 of 21 segments failed: nowhere: no-segment"):
        await gatherer.gather("SELECT count(*) FROM t", names=names)
    result = await gatherer.gather("SELECT count(*) FROM t", names=names, partial=True)
    assert result.rows == [(200,)] and list(result.missing) == ["nowhere"]


@pytest_twisted.ensureDeferred
async def test_the_deadline_is_for_all_of_it(gatherer):
    """A server that says nothing is waited for no longer than was said."""
    gatherer.segments.held = Deferred()
    with pytest.raises(errors.DeadlineExceeded):
        await gatherer.gather("SELECT n FROM t ORDER BY 1", seconds=0.3)


@pytest_twisted.ensureDeferred
async def test_the_deadline_ends_the_final_step(gatherer):
    """What never ends on the thread is interrupted there."""
    endless = (
        "WITH RECURSIVE r(x) AS (SELECT n FROM t UNION ALL SELECT x + 1 FROM r) "
        "SELECT count(*) FROM r"
    )
    with pytest.raises(errors.DeadlineExceeded):
        await gatherer.gather(endless, seconds=0.5, in_thread=threads.deferToThread)


@pytest_twisted.ensureDeferred
async def test_cancelling_ends_the_queries(gatherer):
    """Whoever waits no more has nothing left under way."""
    gatherer.segments.held = held = Deferred()
    running = Deferred.fromCoroutine(
        gather(gatherer.town.cluster, NAMES, "SELECT max(n) FROM t", clock=reactor)
    )
    await settled(held)
    running.cancel()
    with pytest.raises((errors.Cancelled, CancelledError)):
        await settled(running)


@pytest_twisted.ensureDeferred
async def test_a_mistake_is_told_before_anything_is_asked_twice(gatherer):
    """The query's own mistake is the error."""
    with pytest.raises(errors.BadSql, match="no such column: missing"):
        await gatherer.gather("SELECT missing FROM t")
