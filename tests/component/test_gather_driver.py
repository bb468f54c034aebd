"""GATHER over the Twisted client: a real registry, real connections, servers that run SQLite."""

from __future__ import annotations

import json
import os
import signal

import pytest
import pytest_twisted
from line_servers import DIE, LineServer
from towns import Town, settled
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred

from trough import errors
from trough.cluster_client.gather_driver import gather
from trough.cluster_client.gather_process import GatherProcesses
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
        self.processes = GatherProcesses(reactor)

    def gather(self, sql, *arguments, names=NAMES, **options):
        """The result, once it is there."""
        return settled(Deferred.fromCoroutine(self._gather(names, sql, *arguments, **options)))

    async def _gather(self, names, *arguments, **options):
        process = self.processes.take()
        try:
            return await gather(
                self.town.cluster, names, *arguments, process=process, clock=reactor, **options
            )
        finally:
            await self.processes.give_back(process)


@pytest_twisted.async_yield_fixture
async def gatherer(tmp_path):
    """See :class:`Gatherer`."""
    town, segments = Town(tmp_path), Segments()
    await town.cluster.open()
    async with LineServer(reactor, segments.answer) as server:
        await town.worker("w1", server, *NAMES)
        made = Gatherer(town, server, segments)
        yield made
        made.processes.close()
    await town.cluster.close()


@pytest_twisted.ensureDeferred
async def test_groups_over_the_wire(gatherer):
    """Partial results of real answers are merged, in a process."""
    sql = "SELECT k, count(*), sum(n), sum(r) FROM t WHERE n >= ? GROUP BY k ORDER BY k"
    result = await gatherer.gather(sql, [0])
    assert result.names == ("k", "count(*)", "sum(n)", "sum(r)")
    assert result.rows == [("k0", 80, 3420, 90.0), ("k1", 60, 2280, 60.0), ("k2", 60, 2850, 75.0)]
    assert not result.missing


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
    rows = [tuple(row) for flush_batch in bunches for row in flush_batch]
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
    """What never ends in the process is killed there."""
    endless = (
        "WITH RECURSIVE r(x) AS (SELECT n FROM t UNION ALL SELECT x + 1 FROM r) "
        "SELECT count(*) FROM r"
    )
    with pytest.raises(errors.DeadlineExceeded):
        await gatherer.gather(endless, seconds=0.5)


@pytest_twisted.ensureDeferred
async def test_cancelling_ends_the_queries(gatherer):
    """Whoever waits no more has nothing left under way, and the process can be used again."""
    gatherer.segments.held = held = Deferred()
    running = gatherer.gather("SELECT max(n) FROM t")
    await settled(held)
    running.cancel()
    with pytest.raises((errors.Cancelled, CancelledError)):
        await running
    gatherer.segments.held = None
    assert (await gatherer.gather("SELECT max(n) FROM t")).rows == [(171,)]


#: Steps that SQLite and Python do not interrupt, in planning, in the final step and in between.
DEAF = [
    "SELECT 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!' REGEXP '^(a+)+$'",
    "SELECT instr(zeroblob(40000000), zeroblob(10000000) || x'01')",
    "SELECT max(n) FROM t HAVING 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!' REGEXP '^(a+)+$'",
    "SELECT 1 FROM t WHERE 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!' || _segment REGEXP '^(a+)+$'",
]


@pytest.mark.parametrize("sql", DEAF)
@pytest_twisted.ensureDeferred
async def test_the_deadline_ends_what_nothing_interrupts(gatherer, sql):
    """The reactor goes on meanwhile, the process is killed, and the next one answers."""
    late = gatherer.gather(sql, seconds=2)
    assert (await gatherer.gather("SELECT max(n) FROM t")).rows == [(171,)]
    with pytest.raises(errors.DeadlineExceeded):
        await late
    assert (await gatherer.gather("SELECT max(n) FROM t")).rows == [(171,)]


@pytest_twisted.ensureDeferred
async def test_memory_is_bounded(gatherer):
    """A final step that needs too much is refused, and the process goes on."""
    # None of this is asked of the segments, which are in this very process.
    for sql in (
        "SELECT group_concat(printf('%.*c', 9000000, 'x')) FROM (SELECT 1 UNION ALL SELECT 2 "
        "UNION ALL SELECT 3 UNION ALL SELECT 4) a, (SELECT 1 UNION SELECT 2 UNION SELECT 3 "
        "UNION SELECT 4 UNION SELECT 5 UNION SELECT 6 UNION SELECT 7 UNION SELECT 8) b",
        "SELECT printf('%.*c', 700000000, 'x')",
        "SELECT zeroblob(900000000)",
    ):
        with pytest.raises(errors.LimitExceeded, match="memory"):
            await gatherer.gather(sql)
    assert (await gatherer.gather("SELECT max(n) FROM t")).rows == [(171,)]


@pytest_twisted.ensureDeferred
async def test_a_process_that_dies_is_an_error_that_may_pass(gatherer):
    """Killed in the midst of a GATHER, as by the kernel for want of memory."""
    gatherer.segments.held = held = Deferred()
    process = gatherer.processes.take()
    running = Deferred.fromCoroutine(
        gather(gatherer.town.cluster, NAMES, "SELECT max(n) FROM t", process=process, clock=reactor)
    )
    await settled(held)
    os.kill(process.pid, signal.SIGKILL)
    with pytest.raises(errors.Unavailable, match="died"):
        await settled(running)
    await gatherer.processes.give_back(process)
    gatherer.segments.held = None
    assert (await gatherer.gather("SELECT max(n) FROM t")).rows == [(171,)]


@pytest_twisted.ensureDeferred
async def test_a_process_is_used_again(gatherer):
    """A GATHER after another one costs no start."""
    pids = set()
    for _ in range(3):
        await gatherer.gather("SELECT count(*) FROM t a, t b")
        process = gatherer.processes.take()
        pids.add(process.pid)
        await gatherer.processes.give_back(process)
    assert len(pids) == 1


@pytest_twisted.ensureDeferred
async def test_a_mistake_is_told_before_anything_is_asked_twice(gatherer):
    """The query's own mistake is the error."""
    with pytest.raises(errors.BadSql, match="no such column: missing"):
        await gatherer.gather("SELECT missing FROM t")


@pytest_twisted.ensureDeferred
async def test_segments_that_answer_together(gatherer):
    """One line has all of them. A worker of an earlier version refuses to do that, and is asked
    again without."""
    segments, refused = gatherer.segments, []

    def together(asked) -> None:
        if not asked.query.merge:
            segments.answer(asked)
            return
        if not refused:
            refused.append(asked.query.merge)
            asked.say("ERR bad-request QUERY has no option merge=; it has seconds=")
            return
        asked.say(f"MERGED {','.join(asked.segments)} 1 [[{10 * len(asked.segments)},null]]")
        asked.end()

    gatherer.server.answer_with(together)
    for _ in range(2):
        result = await gatherer.gather("SELECT count(*) FROM t")
        assert result.rows == [(10 * SIZE,)]
    assert refused == ["s"]


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("ids", ["s1,s1", "s1,other", "s1,s2"])
async def test_nobody_answers_twice(gatherer, ids):
    """Rows of several segments cannot be told apart, so a server that sends some of them twice, or
    for others, gives no answer."""
    segments = gatherer.segments

    def twice(asked) -> None:
        if not asked.query.merge:
            segments.answer(asked)
            return
        asked.say("MERGED s2 1 [[10,null]]", f"MERGED {ids} 1 [[10,null]]")
        asked.end()

    gatherer.server.answer_with(twice)
    with pytest.raises(errors.TroughError, match="answered for segments"):
        await gatherer.gather("SELECT count(*) FROM t")
