"""One GATHER from beginning to end: who is asked how often, what fails, and what is kept."""

from __future__ import annotations

import signal
from typing import Any

import pytest
from gather_support import Cluster

from trough import errors
from trough.gather import GatherSession, Limits, Merger, plan, read_schema, unite
from trough.gather.errors import failure
from trough.gather.temp_database import TempDatabase

TABLE = "CREATE TABLE t (a INTEGER, b TEXT)"
ROWS = [(number, f"r{number}") for number in range(10)]


def cluster_of(count: int, script: str = TABLE, rows: Any = ROWS) -> Cluster:
    cluster = Cluster()
    for number in range(count):
        cluster.add(f"s{number}", script, {"t": rows})
    return cluster


def rounds(cluster: Cluster) -> list[int]:
    """How many segments each request went to."""
    return [len(segments) for _, segments in cluster.asked]


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT b, count(*), avg(a) FROM t GROUP BY b",
        "SELECT a FROM t",
        "SELECT DISTINCT a FROM t ORDER BY a LIMIT 3",
        "SELECT rank() OVER (ORDER BY a) FROM t",
    ],
)
def test_segments_of_one_shape_cost_one_pass(sql: str) -> None:
    """One segment is asked for its schema, and then each one once."""
    cluster = cluster_of(20)
    cluster.gather(sql)
    assert rounds(cluster) == [1, 20]


def test_a_segment_of_another_shape_is_asked_again_alone() -> None:
    """It answers with its schema, and gets a text of its own; the others' rows stand."""
    cluster = cluster_of(5)
    cluster.add("odd", "CREATE TABLE t (b TEXT, c, a INTEGER)", {"t": [("x", 1, 99)]})
    assert cluster.gather("SELECT max(a), count(b) FROM t") == [(99, 51)]
    assert rounds(cluster) == [1, 6, 1]


@pytest.mark.parametrize(
    ("sql", "rows"),
    [
        ('SELECT "c" FROM t', [(None,), (None,), ("q",)]),
        ('SELECT "c" AS x FROM t ORDER BY x', [(None,), (None,), ("q",)]),
        ('SELECT count("c") FROM t', [(1,)]),
        ("SELECT a AS c FROM t WHERE c > 1", [(3,)]),
        ("SELECT a, _segment AS c FROM t WHERE c <> 1", [(3, "new")]),
        ("SELECT DISTINCT a, _segment AS c FROM t WHERE c <> 1", [(3, "new")]),
        ("SELECT count(*), a + 1 AS c FROM t GROUP BY a HAVING c > 1", [(1, 4)]),
        ("SELECT count(*), 0 AS c FROM t GROUP BY c ORDER BY 1", [(1, 0), (2, 0)]),
        ('SELECT "c" AS x, count(*) OVER () FROM t ORDER BY 1', [(None, 3), (None, 3), ("q", 3)]),
    ],
)
def test_a_name_means_the_column_that_only_a_later_segment_has(sql: str, rows: Any) -> None:
    """To the first segment it is an alias, or a text: no row of that meaning is left."""
    cluster = Cluster()
    cluster.add("old", "CREATE TABLE t (a)", {"t": [(1,), (2,)]})
    cluster.add("new", "CREATE TABLE t (a, c)", {"t": [(3, "q")]})
    assert cluster.gather(sql) == rows


def test_columns_that_take_every_name_of_a_rowid() -> None:
    """Rows of such a table cannot be shipped, for those of a lost segment could not be told."""
    cluster = cluster_of(2, "CREATE TABLE t (rowid, oid, _rowid_)", [(1, 2, 3)])
    assert cluster.gather("SELECT sum(oid), max(rowid) FROM t") == [(4, 1)]
    with pytest.raises(errors.BadSql, match="rowid, oid, _rowid_"):
        cluster.gather("SELECT oid, count(*) OVER () FROM t")


def test_rows_passed_on_are_not_taken_for_another_meaning() -> None:
    """A column called _segment, after rows with the segment's name: there is no answer, to
    ask again is of no use, and what is of use is told."""
    cluster = cluster_of(2)
    cluster.add("odd", "CREATE TABLE t (a, _segment)", {"t": [(1, "x")]})
    with pytest.raises(errors.BadSql, match=r"has t\._segment, .*with ORDER BY"):
        cluster.gather("SELECT _segment FROM t")
    rows = cluster.gather("SELECT _segment FROM t ORDER BY 1")
    assert rows == [*[(None,)] * (len(rows) - 1), ("x",)]


def test_a_table_that_the_first_segment_lacks_is_found_in_others() -> None:
    """Before a name is called unknown, all segments were asked."""
    cluster = Cluster()
    cluster.add("first", "CREATE TABLE other (x)", {})
    cluster.add("second", TABLE, {"t": ROWS})
    assert cluster.gather("SELECT count(*) FROM t") == [(10,)]
    with pytest.raises(errors.BadSql, match="no such table: nowhere"):
        cluster.gather("SELECT 1 FROM nowhere")


def test_all_columns_are_those_that_any_segment_has() -> None:
    """SELECT * has a column that only some have, NULL in the others' rows."""
    cluster = cluster_of(2, rows=[(1, "x")])
    cluster.add("more", "CREATE TABLE t (c, a INTEGER)", {"t": [("new", 2)]})
    gathering = GatherSession("SELECT * FROM t", cluster.segments)
    assert sorted(cluster.answer(gathering)) == [(1, "x", None), (1, "x", None), (2, None, "new")]
    assert gathering.names == ("a", "b", "c")
    ordered = cluster.gather("SELECT * FROM t ORDER BY a DESC LIMIT 1")
    assert ordered == [(2, None, "new")]


def test_a_segments_name_is_a_column() -> None:
    """_segment can be shown, grouped by, counted, and asked for."""
    cluster = cluster_of(3)
    assert cluster.gather("SELECT _segment, count(*) FROM t GROUP BY _segment ORDER BY 1") == [
        ("s0", 10),
        ("s1", 10),
        ("s2", 10),
    ]
    assert cluster.gather("SELECT count(DISTINCT _segment), max(_segment) FROM t") == [(3, "s2")]
    assert cluster.gather("SELECT max(_segment), typeof(a), a < 99 FROM t") == [
        ("s2", "integer", 1)
    ]
    assert cluster.gather("SELECT count(DISTINCT _segment) FROM t WHERE a > 99") == [(0,)]
    cluster.asked.clear()
    sql = "SELECT *, _segment FROM t WHERE _segment IN ('s1', 'zz') AND a = 3"
    assert cluster.gather(sql) == [(3, "r3", "s1")]
    assert cluster.asked[-1][1] == ("s1",)


def test_a_column_called_so_is_the_tables_own() -> None:
    """As with rowid, a real column of the name goes first."""
    cluster = cluster_of(1, "CREATE TABLE t (_segment, b)", [(7, "x")])
    assert cluster.gather("SELECT _segment FROM t") == [(7,)]


def test_a_failed_segment_fails_the_answer() -> None:
    """By default nothing is answered from the rest, and the segment and its reason are told."""
    cluster = cluster_of(3)
    cluster.broken["s1"] = errors.Unavailable("the disk is gone")
    with pytest.raises(
        errors.Unavailable, match=r"1 of 3 segments failed: s1: unavailable: the disk"
    ):
        cluster.gather("SELECT count(*) FROM t")
    with pytest.raises(errors.Unavailable, match="s1"):
        cluster.gather("SELECT a FROM t")


@pytest.mark.parametrize(
    "sql", ["SELECT count(*) FROM t", "SELECT a FROM t", "SELECT a FROM t x, t y"]
)
def test_partial_answers_leave_no_trace_of_what_failed(sql: str) -> None:
    """A segment that failed half-way has none of its rows in a partial answer."""
    cluster, whole = cluster_of(4), cluster_of(3)
    cluster.broken["s2"] = errors.DeadlineExceeded("too slow")
    gathering = GatherSession(sql.replace("x, t y", "x"), cluster.segments, partial=True)
    answer = cluster.answer(gathering)
    assert sorted(answer) == sorted(whole.gather(sql.replace("x, t y", "x")))
    assert {segment: error.code for segment, error in gathering.missing.items()} == {
        "s2": "timeout"
    }


def test_a_partial_answer_from_nothing_is_none() -> None:
    """Where every segment failed there is nothing to answer from."""
    cluster = cluster_of(2)
    cluster.broken = {each: errors.Unavailable("gone") for each in cluster.segments}
    with pytest.raises(errors.Unavailable, match="2 of 2 segments failed: s0, s1: ") as nothing:
        cluster.gather("SELECT count(*) FROM t", partial=True)
    assert nothing.value.hint == ""
    with pytest.raises(errors.Unavailable) as nothing:
        cluster.gather("SELECT count(*) FROM t")
    assert nothing.value.hint == ""


def test_failures_are_summed_up_by_reason() -> None:
    """Of thousands that failed some are named for each reason, and some reasons told."""
    missing: dict[str, errors.TroughError] = {
        f"s{number}": errors.Unavailable("gone") for number in range(1234)
    }
    missing["late"] = errors.DeadlineExceeded("too slow")
    told = str(failure(missing, 2000, rest=True))
    assert told.startswith(
        "1,235 of 2,000 segments failed: s0, s1, s2, s3, s4 and 1,229 more: unavailable: gone;"
        " late: timeout: too slow ("
    )
    missing = {f"s{number}": errors.Unavailable(f"reason {number}") for number in range(9)}
    assert str(failure(missing, 9, rest=True)).endswith("reason 4; and 4 more reasons")


def test_a_mistake_in_the_query_is_told_as_one() -> None:
    """Where all segments fail over the query itself, that is the error."""
    cluster = cluster_of(3, rows=[(1, "no json")])
    with pytest.raises(errors.BadSql, match="malformed JSON"):
        cluster.gather("SELECT json_extract(b, '$.x') FROM t")


def test_a_large_segment_streams_in_a_partial_answer() -> None:
    """What is too much to be kept until the segment's end is passed on, and then the
    segment can no longer be missing."""
    limits = Limits(kept_rows=4)
    cluster = cluster_of(2)
    assert len(cluster.gather("SELECT a FROM t", partial=True, limits=limits)) == 20
    cluster.broken["s1"] = errors.Unavailable("gone")
    with pytest.raises(errors.Unavailable, match="s1"):
        cluster.gather("SELECT a FROM t", partial=True, limits=limits)


def test_enough_is_enough() -> None:
    """A plain query with LIMIT ends as soon as it has its rows."""
    cluster = cluster_of(50)
    gathering = GatherSession("SELECT a FROM t LIMIT 3 OFFSET 1", cluster.segments)
    [probe] = gathering.next_requests()
    segment = probe.segments[0]
    gathering.rows(segment, cluster.segments[segment].execute(probe.sql).fetchall())
    gathering.done(segment)
    assert [len(request.segments) for request in gathering.next_requests()] == [50]
    gathering.columns("s7", ["a"])
    gathering.rows("s7", [[number, None] for number in range(1, 6)])
    assert gathering.satisfied
    assert gathering.take() == [[[2], [3], [4]]]
    assert gathering.next_requests() == []
    assert list(gathering.result()) == []


def test_too_much_to_ship_is_refused() -> None:
    """The limit, and why the query needs so much, are told."""
    cluster = cluster_of(5)
    with pytest.raises(errors.LimitExceeded, match=r"at most 20 rows.*as .*join"):
        cluster.gather("SELECT count(*) FROM t x, t y", limits=Limits(rows=20))
    with pytest.raises(errors.LimitExceeded, match="at most 0 MiB"):
        rows = [(1, "x" * 50_000)] * 20
        wide = cluster_of(3, rows=rows)
        wide.gather("SELECT max(x.b) FROM t x, t y", limits=Limits(bytes=500_000))


def test_tables_that_keep_changing_are_given_up() -> None:
    """A segment whose shape is another at every question fails, and does not spin."""
    cluster = cluster_of(1)

    class Changing:
        count = 0

        def execute(self, sql: str, parameters: Any) -> Any:
            self.count += 1
            cluster_of_now = cluster_of(1, f"CREATE TABLE t (a INTEGER, b TEXT, c{self.count})", [])
            return cluster_of_now.segments["s0"].execute(sql, parameters)

    cluster.segments["wild"] = Changing()
    with pytest.raises(errors.Unavailable, match="the tables of segment wild keep changing"):
        cluster.gather("SELECT sum(a) FROM t")


def test_a_restarted_segment_counts_once() -> None:
    """A segment that is asked elsewhere half-way sends all of its rows again."""
    union = unite([read_schema('[["table", "t", "' + TABLE + '"]]')])
    merger = Merger(plan("SELECT sum(a), count(*) FROM t", union))
    ask = merger.plan.ask(union)
    assert ask is not None
    for segment in ("s0", "s1"):
        merger.asked(segment, ask)
    merger.rows("s0", [[5, 2, None]])
    merger.rows("s1", [[7, 1, None]])
    assert merger.restarted("s0")
    merger.rows("s0", [[5, 2, None]])
    merger.segment_done("s1")
    merger.segment_done("s0")
    assert list(merger.result()) == [(12, 3)]
    merger.close()


def test_rows_that_were_passed_on_cannot_be_restarted() -> None:
    """Whoever has seen them would see them twice."""
    cluster = cluster_of(1)
    gathering = GatherSession("SELECT a FROM t", cluster.segments)
    [probe] = gathering.next_requests()
    assert gathering.restarted("s0")
    gathering.rows("s0", cluster.segments["s0"].execute(probe.sql).fetchall())
    gathering.done("s0")
    gathering.next_requests()
    gathering.columns("s0", ["a"])
    assert gathering.restarted("s0")
    gathering.columns("s0", ["a"])
    gathering.rows("s0", [[1, None]])
    assert not gathering.restarted("s0")
    gathering.failed("s0", errors.Unavailable("lost"))
    with pytest.raises(errors.Unavailable):
        gathering.next_requests()
        gathering.result()


def test_the_final_step_can_be_stopped() -> None:
    """A deadline or a person ends it with that error, on whatever thread it runs."""
    cluster = cluster_of(1)
    gathering = GatherSession(
        "WITH RECURSIVE r(x) AS (SELECT a FROM t UNION ALL SELECT x + 1 FROM r) "
        "SELECT count(*) FROM r",
        cluster.segments,
    )
    original = gathering.result

    def result() -> Any:
        rows = original()
        error = errors.DeadlineExceeded("no answer within 5 s")
        gathering.stop(error)
        return rows

    gathering.result = result  # type: ignore[method-assign]
    with pytest.raises(errors.DeadlineExceeded, match="within 5 s"):
        cluster.answer(gathering)


def test_no_segments_is_a_mistake() -> None:
    """A union of nothing has no tables."""
    with pytest.raises(errors.BadRequest, match="no segments"):
        GatherSession("SELECT 1", [])


def test_bare_columns_come_from_the_row_of_the_greatest() -> None:
    """SQLite's rule for a column beside one max or min holds over segments."""
    cluster = Cluster()
    cluster.add("one", TABLE, {"t": [(1, "x"), (5, "five"), (None, "none")]})
    cluster.add("two", TABLE, {"t": [(9, "nine"), (0, "zero")]})
    cluster.add("three", TABLE, {"t": []})
    cluster.add("four", TABLE, {"t": [(None, "nobody")]})
    assert cluster.gather("SELECT max(a), b, count(*) FROM t") == [(9, "nine", 6)]
    assert cluster.gather("SELECT b, min(a) FROM t") == [("zero", 0)]
    both = GatherSession("SELECT min(a), max(a), b FROM t", cluster.segments)
    assert cluster.answer(both)[0][:2] == (0, 9)
    assert both.plan is not None and both.plan.kind == "shipped"


def test_views_run_over_the_union() -> None:
    """A view of a segment is a view of the union, whatever it computes."""
    script = TABLE + "; CREATE VIEW v AS SELECT count(*) AS n, max(a) AS m FROM t"
    assert cluster_of(3, script).gather("SELECT n, m FROM v") == [(30, 9)]


def test_an_interrupt_of_the_final_step_is_one() -> None:
    """SQLite swallows what is raised while it runs, and says only that it was interrupted."""
    union = unite([read_schema('[["table", "t", "' + TABLE + '"]]')])
    endless = "WITH RECURSIVE c AS (SELECT 1 UNION ALL SELECT 1 FROM c) SELECT count(*) FROM c, t"
    stop = iter([signal.SIGINT])

    def stopped() -> None:
        for number in stop:  # as Ctrl-C does, once
            signal.raise_signal(number)

    scratch = TempDatabase(plan(endless, union), Limits(), stopped)
    scratch.insert(0, False, [[]])
    try:
        with pytest.raises(KeyboardInterrupt):
            next(scratch.result(False))
    finally:
        scratch.close()


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("SELECT median(host) FROM t", "median() takes numbers, and there is 'a'"),
        ("SELECT a.n FROM t a, t b WHERE b.host REGEXP '('", "not a regular expression: '('"),
        ("SELECT 'a' REGEXP '['", "not a regular expression: '['"),
        ("SELECT percentile(n, 101) OVER () FROM t", "no number between 0.0 and 100.0"),
    ],
)
def test_what_a_function_says_is_wrong_is_told(sql: str, message: str) -> None:
    """In planning and in the last step SQLite says only that a function failed."""
    cluster = Cluster()
    for segment in ("a", "b"):
        cluster.add(segment, "CREATE TABLE t (n INTEGER, host TEXT)", {"t": [(1, "a")]})
    with pytest.raises(errors.BadSql) as caught:
        cluster.gather(sql)
    assert message in caught.value.message
