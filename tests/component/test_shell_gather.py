"""GATHER in the shell, on real registries and servers that run SQLite."""

from __future__ import annotations

import sqlite3

import pytest
import pytest_twisted
from line_servers import LineServer
from shell_desk import Desk
from twisted.internet import reactor

from trough import errors


class Segments:
    """Small databases, and an answer function that runs the SQL asked on them."""

    def __init__(self, **rows) -> None:
        self.failing = set()
        self._databases = {}
        for segment, values in rows.items():
            database = self._databases[segment] = sqlite3.connect(":memory:")
            database.execute("CREATE TABLE t (host TEXT, size INTEGER)")
            database.executemany("INSERT INTO t VALUES (?, ?)", values)

    def __iter__(self):
        return iter(self._databases)

    def answer(self, asked):
        for segment in asked.segments:
            if segment in self.failing:
                asked.say(f"FAIL {segment} timeout it took too long")
                continue
            try:
                cursor = self._databases[segment].execute(asked.sql, asked.query.parameters or ())
            except sqlite3.Error as error:
                asked.say(f"FAIL {segment} bad-sql {error}")
                continue
            asked.answer_segment(segment, cursor)
        asked.end()


@pytest.fixture
def segments():
    return Segments(a=[("x", 1), ("y", 2)], b=[("x", 3)], c=[])


@pytest_twisted.async_yield_fixture
async def desk(tmp_path, segments):
    """A shell connected to all of the segments."""
    desk = Desk(tmp_path, person="")
    await desk.cluster.open()
    async with LineServer(reactor, segments.answer) as server:
        await desk.worker("w1", server, *segments)
        await desk.typed(f"CONNECT {' '.join(segments)}")
        yield desk
    await desk.cluster.close()


@pytest_twisted.ensureDeferred
async def test_one_answer(desk):
    """Rows of all segments are grouped as those of one table, and shown as one result."""
    text = "GATHER SELECT host, count(*) AS n, sum(size) AS s FROM t GROUP BY host ORDER BY host;"
    assert await desk.typed(text) == ("host\tn\ts\nx\t2\t4\ny\t1\t2\n2 rows from 3 segments\n")


@pytest_twisted.ensureDeferred
async def test_one_answer_names_no_segments(desk):
    """MERGED is for many answers; a column of nothing would stand beside the one."""
    await desk.typed("FORMAT TSV MERGED")
    assert (await desk.typed("GATHER SELECT sum(size) AS s FROM t;")).startswith("s\n6\n")
    assert (await desk.typed("SELECT 1 AS s;")).startswith("_segment\ts\n")


@pytest_twisted.ensureDeferred
async def test_rows_of_a_plain_query(desk):
    """What needs no merging is passed on, with the segment where it is asked for."""
    shown = await desk.typed("gather select _segment, size from t where size > 1;")
    head, *rows, told = shown.splitlines()
    assert (head, sorted(rows)) == ("_segment\tsize", ["a\t2", "b\t3"])
    assert told == "2 rows from 3 segments"


@pytest_twisted.ensureDeferred
async def test_no_rows_have_columns_all_the_same(desk):
    """An empty answer still tells its columns."""
    assert await desk.typed("GATHER SELECT host FROM t WHERE size > 9;") == (
        "host\n0 rows from 3 segments\n"
    )


@pytest_twisted.ensureDeferred
async def test_a_failing_segment_fails_it_unless_partial(desk, segments):
    """By default nothing is answered from a part; PARTIAL answers, and says what is missing."""
    segments.failing.add("b")
    told = await desk.told("GATHER SELECT count(*) AS n FROM t;")
    assert "1 of 3 segments failed:\n  1 x timeout: it took too long\n      b\n" in told
    assert told.endswith("GATHER PARTIAL answers from the rest\n")
    assert "\nn\n" not in desk.screen.getvalue()
    with pytest.raises(errors.TroughError):
        await desk.script("GATHER SELECT count(*) AS n FROM t;")
    await desk.typed("FORMAT TSV")
    shown = await desk.script("GATHER PARTIAL SELECT count(*) AS n FROM t;")
    assert shown.endswith("n\n2\n1 row from 2 segments\n")


@pytest_twisted.ensureDeferred
async def test_without_any_segment_there_is_no_rest(desk, segments):
    """Where all fail, as many times as they are asked, the reasons come once, and no hint."""
    segments.failing.update("abc")
    told = await desk.told("GATHER SELECT count(*) AS n FROM t;")
    assert "3 of 3 segments failed:\n  3 x timeout: it took too long\n      a, b, c\n" in told
    assert "PARTIAL" not in told
    assert [failed.segment for failed in desk.shell.session.failures] == ["a", "b", "c"]


@pytest_twisted.ensureDeferred
async def test_what_cannot_be_answered_is_refused(desk):
    """The reason is told, in a line."""
    assert "no such table: u" in await desk.told("GATHER SELECT * FROM u;")
    assert "syntax error" in await desk.told("GATHER SELECT FROM t;")


@pytest_twisted.ensureDeferred
async def test_a_kept_gather_is_given_values(desk, tmp_path, monkeypatch):
    """As any kept query is, and exported likewise; what is no query takes none."""
    monkeypatch.setenv("TROUGH_SHELL_SETTINGS", str(tmp_path / "shell.yml"))
    await desk.typed("\\fs big GATHER SELECT size AS s, ?2 FROM t WHERE size > ?1 ORDER BY size;")
    assert await desk.typed("\\f big 1 x") == "s\t?2\n2\tx\n3\tx\n2 rows from 3 segments\n"
    await desk.typed(f"EXPORT {tmp_path}/big.csv")
    assert (tmp_path / "big.csv").read_text() == "s,?2\n2,x\n3,x\n"
    desk.shell.confirm = None  # nobody at the keyboard can be asked
    assert "no value for the parameter ?2" in await desk.told("\\f big 1")
    desk.shell.confirm = lambda question: "z"
    assert await desk.typed("\\f big 2") == "s\t?2\n3\tz\n1 row from 3 segments\n"
    answers = iter(["2", "y"])
    desk.shell.confirm = lambda question: next(answers)  # asked for what is missing
    assert await desk.typed("\\f big") == "s\t?2\n3\ty\n1 row from 3 segments\n"
    await desk.typed("\\fs write INSERT INTO t VALUES (?1, 1);")
    assert "only queries take values" in await desk.told("\\f write 1")


@pytest_twisted.ensureDeferred
async def test_explaining(desk):
    """EXPLAIN GATHER shows what the workers are asked."""
    shown = await desk.typed("EXPLAIN GATHER SELECT host, count(*) FROM t GROUP BY host;")
    assert "GROUP BY" in shown
