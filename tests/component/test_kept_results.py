"""Answers that are kept are given again while no segment has changed, and never after that."""

import os
import random
import re
import signal
from dataclasses import dataclass

import pytest
import pytest_twisted
from executor_pools import pids
from kept_worlds import kept_world
from towns import Found
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from waiting import until

from trough import errors
from trough.executors.pool.pool import ReadLimits
from trough.model import canonical_path
from trough.protocols.line.arguments import QueryArguments
from trough.protocols.line.kept_reply import KeptReply
from trough.protocols.line.replies import QueryReply, Reply

GROUPED = "SELECT n, count(*) FROM t GROUP BY n ORDER BY n"
ensure = pytest_twisted.ensureDeferred


def asked_executors(world):
    """How many parts of queries the world's executors were given, from now on."""
    count = [0]
    read = world.pool.read

    def counting(targets, *arguments):
        count[0] += len(targets)
        return read(targets, *arguments)

    world.pool.read = counting
    return count


@ensure
async def test_an_equal_question_asks_nobody_again(tmp_path):
    """A whole answer is given again after one look at each worker; a worker that is asked again
    by somebody else asks no executor; and what they give is equal."""
    async with kept_world(tmp_path) as world:
        for segment in "abc":
            await world.put(segment, 1, 2, ord(segment))
        first = await world.gathered([*"abc"], GROUPED)
        assert first == [(1, 3), (2, 3), (97, 1), (98, 1), (99, 1)]
        asked = asked_executors(world)
        assert await world.gathered([*"abc"], GROUPED) == first and asked == [0]
        found = world.queries.results.found
        assert (await world.asking.gather([*"abc"], GROUPED)).rows == first
        assert asked == [0] and world.queries.results.found >= found + 3
        received = []
        await world.cluster.gather([*"abc"], GROUPED, receive=lambda _, rows: received.extend(rows))
        assert received == first and asked == [0]


@ensure
async def test_only_what_changed_is_asked_again(tmp_path):
    """After a change of one segment the others answer from what was kept."""
    async with kept_world(tmp_path) as world:
        for segment in "abc":
            await world.put(segment, 1)
        await world.gathered([*"abc"], GROUPED)
        await world.put("b", 5)
        asked = asked_executors(world)
        assert await world.gathered([*"abc"], GROUPED) == [(1, 2), (5, 1)]
        assert asked == [1]


async def with_a_moving_view(world):
    """Two segments that are written, with a view of chance."""
    for segment in ("w1", "w2"):
        await world.controller.provision(segment, "default")
        await world.written(
            segment,
            "CREATE TABLE t (n INTEGER); INSERT INTO t VALUES (1);"
            "CREATE VIEW moving AS SELECT n, random() AS r FROM t",
        )
        await world.publish(segment, writable=True)
    return ["w1", "w2"]


MOVING = [
    "SELECT count(*), random() FROM t",
    "SELECT n, random() FROM t",
    "SELECT max(n), (SELECT hex(randomblob(16))) FROM t",
    "SELECT count(*), julianday('now') FROM t",
    "SELECT count(*), strftime('%f', 'n' || substr('ow', n, 2)) FROM t",
    "SELECT r FROM moving",
]


@pytest.mark.parametrize("sql", MOVING)
@ensure
async def test_what_moves_is_computed_each_time(tmp_path, sql):
    """Chance and clocks, in the text or in a view."""
    async with kept_world(tmp_path) as world:
        segments = await with_a_moving_view(world)
        first = await world.gathered(segments, sql)
        second = await world.gathered(segments, sql)
        third = await world.gathered(segments, sql)
        # A clock of milliseconds may not have moved between two of them.
        assert first != second or second != third


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT random()",
        "SELECT count(*) FROM moving WHERE r = 1",
        "SELECT current_timestamp",
        "SELECT unixepoch()",
        "SELECT date(n) FROM t",
        "SELECT total_changes()",
        "SELECT * FROM pragma_data_version",
    ],
)
@ensure
async def test_a_worker_itself_finds_out_what_moves(tmp_path, sql):
    """Whatever a client says may be kept."""
    async with kept_world(tmp_path) as world:
        segments = await with_a_moving_view(world)
        for _ in range(3):
            found = Found()
            tally = await world.cluster.query(segments, sql, listener=found, keep=True).done
            assert tally.complete and tally.versions is None
        assert len(world.queries.results) == 0
        await world.cluster.query(
            segments, "SELECT count(*) FROM t", listener=Found(), keep=True
        ).done
        assert len(world.queries.results) == 2


@ensure
async def test_nothing_of_virtual_tables_is_kept(tmp_path):
    """They compile statements of their own, so it is not known whether the text was compiled."""
    async with kept_world(tmp_path) as world:
        await world.controller.provision("w1", "default")
        await world.written("w1", "CREATE TABLE t (n INTEGER); INSERT INTO t VALUES (1)")
        await world.publish("w1", writable=True)
        for expected in (1, 1):
            await world.cluster.query(["w1"], "SELECT n FROM t", listener=Found(), keep=True).done
            assert len(world.queries.results) == expected
        await world.written(
            "w1",
            "CREATE VIRTUAL TABLE pages USING fts5(text); INSERT INTO pages VALUES ('a tree')",
        )
        for _ in range(3):
            for sql in ("SELECT n FROM t", "SELECT random() FROM pages WHERE pages MATCH 'tree'"):
                found = Found()
                tally = await world.cluster.query(["w1"], sql, listener=found, keep=True).done
                assert tally.complete and tally.kept == 0 and tally.versions is None


@ensure
async def test_errors_are_not_kept(tmp_path):
    """A segment that failed is asked again, and its failure is told again."""
    async with kept_world(tmp_path) as world:
        await world.put("a", 1)
        await world.put("b", -(2**63))
        sql = "SELECT count(*) FROM t WHERE abs(n) > 0"
        for _ in range(2):
            with pytest.raises(errors.BadSql, match="integer overflow"):
                await world.gathered(["a", "b"], sql)
            answer = await world.cluster.gather(["a", "b"], sql, partial=True)
            assert answer.rows == [(1,)] and [*answer.missing] == ["b"]
        await world.put("b", 2)
        assert await world.gathered(["a", "b"], sql) == [(2,)]


@ensure
async def test_marks_are_those_of_now(tmp_path):
    """An answer that is given again carries the marks that it would get now."""
    async with kept_world(tmp_path) as world:
        await world.put("a", 1)
        await world.put("b", 2)
        assert (await world.cluster.gather([*"ab"], GROUPED)).stale == {}
        wanted = await world.storage.find("b")
        entry = world.segments.get("b").entry
        world.controller.reconciler._wanted["b"] = type(wanted)(
            "b", wanted.path, wanted.size, entry.modified + 1000
        )
        asked = asked_executors(world)
        result = await world.cluster.gather([*"ab"], GROUPED)
        assert result.stale == {"b": "unconfirmed"} and asked == [0]
        with pytest.raises(errors.Unavailable):
            await world.cluster.gather([*"ab"], GROUPED, refuse_stale=True)


@ensure
async def test_parameters_of_another_type_are_another_question(tmp_path):
    """1 and 1.0 are equal in Python, and differ in SQLite."""
    async with kept_world(tmp_path) as world:
        await world.put("a", 1)
        await world.put("b", 1)
        sql = "SELECT typeof(?), count(*) FROM t"
        assert await world.gathered([*"ab"], sql, [1]) == [("integer", 2)]
        assert await world.gathered([*"ab"], sql, [1.0]) == [("real", 2)]


@dataclass
class Known:
    """What the test knows of a segment: its values now, and after its last promotion."""

    values: list
    promoted: list
    writable: bool = False


class Changing:
    """Segments that change in every way, and what they hold."""

    def __init__(self, world, seed):
        self.world = world
        self.random = random.Random(seed)
        self.known = {}

    async def begin(self):
        """Four segments that are read, and two that are written."""
        for segment in ("r1", "r2", "r3", "r4"):
            self.known[segment] = Known([1], [1])
            await self.world.put(segment, 1)
        for segment in ("w1", "w2"):
            self.known[segment] = Known([0], [0], writable=True)
            await self.world.controller.provision(segment, "default")
            await self.world.written(segment, "CREATE TABLE t (n INTEGER)")
            await self.world.written(segment, "INSERT INTO t VALUES (0)")
            await self.world.controller.promote(segment)
            await self.world.publish(segment, writable=True)

    async def change(self):
        """One change of one segment."""
        segment = self.random.choice(sorted(self.known))
        known = self.known[segment]
        value = self.random.randrange(100)
        if known.writable:
            change = self.random.choice([self.write, self.write, self.promote, self.revert])
        else:
            change = self.random.choice([self.replace, self.restore, self.drop])
        await change(segment, known, value)

    async def write(self, segment, known, value):
        await self.world.written(segment, f"INSERT INTO t VALUES ({value})")
        known.values = [*known.values, value]

    async def promote(self, segment, known, value):
        await self.world.controller.promote(segment)
        known.promoted = known.values

    async def revert(self, segment, known, value):
        await self.world.controller.revert(segment, False)
        known.values = known.promoted

    async def replace(self, segment, known, value):
        await self.world.put(segment, value, value)
        known.values = [value, value]

    async def restore(self, segment, known, value):
        """An older file, by its time, is put in place."""
        path = self.world.canonical / canonical_path(segment)
        await self.world.put(segment, value)
        os.utime(path, (1_000_000 + value, 1_000_000 + value))
        await self.world.segments.drop(segment)
        await self.world.bring(segment)
        known.values = [value]

    async def drop(self, segment, known, value):
        """It goes, and another one of its name comes."""
        await self.world.segments.drop(segment)
        (self.world.canonical / canonical_path(segment)).unlink()
        await self.world.put(segment, value, 7)
        known.values = [value, 7]

    def expected(self):
        """What the grouped query gives."""
        values = [value for known in self.known.values() for value in known.values]
        return [(value, values.count(value)) for value in sorted(set(values))]


async def kill_an_executor(pool):
    """Kill one, and wait until another one has taken its place."""
    await until(lambda: pids(pool), "an executor")
    killed = pids(pool)[0]
    os.kill(killed, signal.SIGKILL)
    await until(lambda: pids(pool) and killed not in pids(pool), "another executor")


@pytest.mark.parametrize("seed", range(4))
@ensure
async def test_no_stale_answer_is_ever_given(tmp_path, seed):
    """Writes, promotions, reverts, restored and recreated files, and killed executors, between
    questions of two clients: each answer is what the segments hold."""
    async with kept_world(tmp_path) as world:
        changing = Changing(world, seed)
        await changing.begin()
        segments = sorted(changing.known)
        for step in range(25):
            if changing.random.random() < 0.1:
                await kill_an_executor(world.pool)
            elif step % 3:
                await changing.change()
            for cluster in (world.cluster, world.asking):
                rows = (await cluster.gather(segments, GROUPED)).rows
                assert rows == changing.expected(), (seed, step)
        assert world.queries.results.found > 20


@ensure
async def test_a_write_under_way_hides_what_was_kept(tmp_path):
    """While a write is on its way its segment has no version: nothing is found, nothing kept."""
    async with kept_world(tmp_path) as world:
        for segment in ("w1", "w2"):
            await world.controller.provision(segment, "default")
            await world.written(segment, "CREATE TABLE t (n INTEGER); INSERT INTO t VALUES (0)")
            await world.publish(segment, writable=True)
        first = await world.gathered(["w1", "w2"], GROUPED)
        assert first == [(0, 2)]
        assert await world.gathered(["w1", "w2"], GROUPED) == first
        writes = [world.write("w1", f"INSERT INTO t VALUES ({n})") for n in range(1, 50)]
        assert world.segments.get("w1").version is None
        asked = asked_executors(world)
        await world.gathered(["w1", "w2"], GROUPED)
        assert asked[0] >= 1
        for write in writes:
            assert (await write.outcome).error is None
        assert (await world.gathered(["w1", "w2"], "SELECT count(*) FROM t")) == [(51,)]


@ensure
async def test_a_worker_that_keeps_nothing_gives_no_word(tmp_path):
    """With RESULT_CACHE 0 each question is asked of the executors."""
    async with kept_world(tmp_path, kept=0) as world:
        for segment in "ab":
            await world.put(segment, 1)
        await world.gathered([*"ab"], GROUPED)
        asked = asked_executors(world)
        assert await world.gathered([*"ab"], GROUPED) == [(1, 2)]
        assert asked[0] >= 2 and len(world.queries.results) == 0


@ensure
async def test_a_word_of_another_life_is_not_known(tmp_path):
    """What another process gave a word for means nothing to this one."""
    async with kept_world(tmp_path) as world:
        assert await world.queries.unchanged("0123456789abcdef-1") is None


def told(rows):
    """The lines of an explanation, without times, and without the number of rows that came, as
    segments of one executor send theirs together."""
    return [
        re.sub(r"[0-9]+ rows; N s\Z", "N rows; N s", re.sub(r"[0-9.]+ s\b", "N s", line))
        for (line,) in rows
    ]


@ensure
async def test_explaining_what_is_kept(tmp_path):
    """EXPLAIN asks no segment for rows; EXPLAIN ANALYZE tells how many were asked, and how many of
    them answered from what was kept, also after a change."""
    async with kept_world(tmp_path) as world:
        for segment in "abc":
            await world.put(segment, 1)
        segments = [*"abc"]
        asked = asked_executors(world)
        result = await world.cluster.gather(segments, f"EXPLAIN {GROUPED}")
        assert result.names == ("plan",) and asked == [1]
        plan = told(result.rows)
        assert plan[0].startswith("divided") and plan[-1].startswith("kept: while no segment")
        analyze = f"explain analyze {GROUPED}"
        first = told(await world.gathered(segments, analyze))
        assert first[: len(plan)] == plan
        assert first[len(plan) :] == [
            "asked: 1 segments, one text; 1 answered from what was kept; N rows; N s",
            "asked: 3 segments, one text; 0 answered from what was kept; N rows; N s",
            "planned: N s",
            "put together: N rows; N s",
            "in all: N s; without EXPLAIN the whole answer would be kept",
        ]
        await world.put("b", 2)
        again = told(await world.gathered(segments, analyze))
        assert "asked: 3 segments, one text; 2 answered from what was kept; N rows; N s" in again
        moving = told(await world.gathered(segments, "EXPLAIN SELECT random() FROM t"))
        assert moving[-1].startswith("kept: nothing")
        received = []
        await world.cluster.gather(
            segments,
            f"EXPLAIN {GROUPED}",
            receive=lambda names, rows: received.append((names, rows)),
        )
        assert [(names, told(rows)) for names, rows in received] == [(("plan",), plan)]


@ensure
async def test_what_is_explained_fails_as_it_would(tmp_path):
    """EXPLAIN of what SQLite refuses is refused; so is any other EXPLAIN."""
    async with kept_world(tmp_path) as world:
        await world.put("a", 1)
        for sql in (
            "EXPLAIN SELECT nothing FROM t",
            "EXPLAIN ANALYZE SELECT nothing FROM t",
            "EXPLAIN QUERY PLAN SELECT n FROM t",
            "EXPLAIN EXPLAIN SELECT n FROM t",
        ):
            with pytest.raises(errors.BadSql):
                await world.gathered(["a"], sql)


class Sent:
    """A connection that keeps what is sent on it."""

    jobs_paused = False
    client = "test"

    def __init__(self):
        self.data = b""
        self.over = Deferred()

    def send(self, data):
        self.data += data

    def ended(self, reply):
        self.over.callback(None)

    def seconds(self):
        return reactor.seconds()


@ensure
async def test_what_is_kept_waits_for_its_reader(tmp_path):
    """While the reader is slow nothing is sent; later pauses and a cancellation do no harm."""
    async with kept_world(tmp_path) as world:
        for segment in "abc":
            await world.put(segment, 1)
        await world.gathered([*"abc"], GROUPED)
        sql = "SELECT n FROM t"
        for _ in range(2):
            connection = Sent()
            reply = Reply(connection, "t", 0)
            kept = KeptReply(
                world.queries,
                QueryArguments((*"abc",), None, None, None, None, sql, True),
                ReadLimits(60.0),
                [world.segments.get(segment).target for segment in "abc"],
                reply,
                receiver=QueryReply(reply),
            )
            reply.follow(kept)
            kept.pause()
            await deferLater(reactor, 0.01)
            assert connection.data == b""
            kept.resume()
            await connection.over
            for harmless in (kept.pause, kept.resume, kept.cancel):
                harmless()
            lines = connection.data.decode().splitlines()
            assert lines[-1].startswith("t END segments=3 failed=0 rows=3 "), lines
        assert " kept=3 version=" in lines[-1]


@ensure
async def test_a_cancelled_question_ends_once(tmp_path):
    """Before anything is sent, and with an error."""
    async with kept_world(tmp_path) as world:
        await world.put("a", 1)
        connection = Sent()
        reply = Reply(connection, "t", 0)
        kept = KeptReply(
            world.queries,
            QueryArguments(("a",), None, None, None, None, "SELECT n FROM t", True),
            ReadLimits(60.0),
            [world.segments.get("a").target],
            reply,
            receiver=QueryReply(reply),
        )
        reply.follow(kept)
        reply.cancel()
        reply.cancel()
        await connection.over
        assert connection.data.startswith(b"t ERR cancelled ")
