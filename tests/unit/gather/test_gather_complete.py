"""No segment is lost from an answer in silence, and no value is taken for a message."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from gather_support import Cluster

from trough import errors
from trough.gather import GatherSession, SegmentRequest

TABLE = "CREATE TABLE t (a INTEGER, b TEXT)"
QUERIES = [
    "SELECT count(*) FROM t",
    "SELECT a FROM t",
    "SELECT * FROM t",
    'SELECT "c" FROM t',
    "SELECT DISTINCT b FROM t ORDER BY b",
    "SELECT b, sum(a) FROM t GROUP BY b",
    "SELECT x.a FROM t x JOIN t y ON x.a = y.a",
    "SELECT _segment, count(*) FROM t GROUP BY _segment",
]
DAMAGED = errors.Unavailable("database disk image is malformed")


class Damaged:
    """A segment that answers nothing, or nothing but its schema."""

    def __init__(self, schema_of: Any = None) -> None:
        self._schema_of = schema_of

    def execute(self, sql: str, *parameters: Any) -> Any:
        """Fail as a worker says that a file is damaged."""
        if self._schema_of is None or not sql.startswith("SELECT told"):
            raise DAMAGED
        return self._schema_of.execute(sql, *parameters)


def cluster_of(kinds: str) -> Cluster:
    """A segment for each letter: Good, Empty, with an Other table, Damaged, or damaged where
    it is asked for more than its schema (Later)."""
    cluster = Cluster()
    for number, kind in enumerate(kinds):
        name = f"{kind}{number}"
        script = {"E": "", "O": "CREATE TABLE other (z)"}.get(kind, TABLE)
        cluster.add(name, script, {"t": [(number, "x")]} if script is TABLE else {})
        if kind in "DL":
            cluster.segments[name] = Damaged(cluster.segments[name] if kind == "L" else None)
    return cluster


def expected_missing(kinds: str) -> set[str]:
    return {f"{kind}{number}" for number, kind in enumerate(kinds) if kind in "DL"}


def check(kinds: str, sql: str) -> None:
    """Strict: refused. Partial: the answer of the rest, and exactly the others are missing."""
    lost = expected_missing(kinds)
    with pytest.raises(errors.Unavailable, match=f"{len(lost)} of {len(kinds)} segments failed"):
        cluster_of(kinds).gather(sql)
    cluster = cluster_of(kinds)
    gathering = GatherSession(sql, cluster.segments, partial=True)
    answer = cluster.answer(gathering)
    assert set(gathering.missing) == lost
    rest = cluster_of(kinds)
    rest.segments = {name: one for name, one in rest.segments.items() if name not in lost}
    assert sorted(answer, key=repr) == sorted(rest.gather(sql), key=repr)


@pytest.mark.parametrize("sql", QUERIES)
@pytest.mark.parametrize("order", ["".join(order) for order in itertools.permutations("GED")])
def test_a_damaged_segment_beside_an_empty_one(order: str, sql: str) -> None:
    """Its failure is told whatever is asked, and wherever it stands."""
    check(order, sql)


@pytest.mark.parametrize("sql", QUERIES)
@pytest.mark.parametrize("empty", [0, 40, 97])
def test_two_of_many(sql: str, empty: int) -> None:
    """98 segments: two are damaged, one of them early, and one was only just provisioned."""
    kinds = ["G"] * 98
    kinds[2 if empty else 1] = kinds[60] = "D"
    kinds[empty] = "E"
    check("".join(kinds), sql)


@pytest.mark.parametrize("sql", QUERIES)
@pytest.mark.parametrize("kinds", ["LGGE", "EGLD", "ODEGL", "GEEOOD", "EDDDG", "DEGLEO", "OLEG"])
def test_more_mixtures(kinds: str, sql: str) -> None:
    """Segments that fail before or after they told their schema, beside some without the table."""
    check(kinds, sql)


def _tell(
    cluster: Cluster, gathering: GatherSession, segment: str, request: SegmentRequest, fail: bool
) -> None:
    try:
        found = cluster.segments[segment].execute(request.sql, request.parameters or {})
        rows = [list(row) for row in found]
    except errors.TroughError as error:
        gathering.failed(segment, error)
        return
    except Exception as error:
        gathering.failed(segment, errors.BadSql(str(error)))
        return
    gathering.rows(segment, rows)
    if fail:
        gathering.failed(segment, DAMAGED)
    else:
        gathering.done(segment, len(rows))


def test_a_table_that_may_be_in_a_damaged_segment_is_not_called_unknown() -> None:
    """Only the rest can be said not to have it."""
    with pytest.raises(errors.Unavailable, match="2 of 3 segments failed"):
        cluster_of("EDD").gather("SELECT count(*) FROM t")
    with pytest.raises(errors.BadSql, match="no such table: t"):
        cluster_of("EDD").gather("SELECT count(*) FROM t", partial=True)
    with pytest.raises(errors.BadSql, match="syntax error"):
        cluster_of("EDD").gather("SELECT count(* FROM t")


def test_what_is_not_asked_need_not_be_readable() -> None:
    """A condition on the segment's name leaves out the damaged one, unless its columns count."""
    cluster = cluster_of("DGE")
    assert cluster.gather("SELECT a FROM t WHERE _segment = 'G1'") == [(1,)]
    assert cluster.gather("SELECT count(*) FROM t WHERE _segment = 'G1'") == [(1,)]
    assert cluster.gather("SELECT 1 + 1") == [(2,)]
    with pytest.raises(errors.Unavailable, match="1 of 3 segments failed: D0"):
        cluster.gather("SELECT * FROM t WHERE _segment = 'G1'")


def test_an_answer_without_an_end_is_no_answer() -> None:
    """A caller that goes on though a segment said nothing gets a refusal."""
    for silent_at in (0, 1):
        cluster = cluster_of("GGG")
        gathering = GatherSession("SELECT count(*) FROM t", cluster.segments)
        with pytest.raises(errors.Unavailable, match="its answer has no end"):
            for round_ in itertools.count():
                requests = gathering.next_requests()
                if not requests:
                    break
                for request in requests:
                    silent = () if round_ < silent_at else ("G0", "G1", "G2")[: 3 - 2 * round_]
                    for segment in set(request.segments) - set(silent):
                        _tell(cluster, gathering, segment, request, False)
                assert round_ < 9
            gathering.result()
        gathering.close()


LOOKALIKES = [
    "trough-schema:[]",
    "trough-schema:" + '[["table","t","CREATE TABLE t (z)"]]',
    "[]",
    '[["table","t","CREATE TABLE t (z)"]]',
    "",
    None,
]


@pytest.mark.parametrize("value", LOOKALIKES)
@pytest.mark.parametrize(
    "sql",
    [
        "SELECT a, b FROM t",
        "SELECT b FROM t ORDER BY 1",
        "SELECT max(b), count(*) FROM t",
        "SELECT DISTINCT b, _segment FROM t",
        "SELECT b, count(*) FROM t GROUP BY b",
        "SELECT x.b, y.b FROM t x, t y",
        "SELECT {0}",
        "SELECT {0}, b FROM t",
    ],
)
def test_no_value_is_taken_for_a_schema(sql: str, value: str | None) -> None:
    """Whatever texts lie in any column, they come out as they are."""
    literal = "NULL" if value is None else "'" + value + "'"
    cluster = Cluster()
    cluster.add("s0", "CREATE TABLE t (a TEXT, b TEXT)", {"t": [(value, value), ("1", "x")]})
    cluster.add("s1", "CREATE TABLE t (b TEXT, a TEXT)", {"t": [(value, value)]})
    cluster.add("s2", "CREATE TABLE t (a TEXT, b TEXT)", {"t": [(value, value), ("2", "y")]})
    union = Cluster()
    union.add(
        "all",
        "CREATE TABLE t (a TEXT, b TEXT, _segment TEXT)",
        {
            "t": [
                *[(value, value, segment) for segment in ("s0", "s1", "s2")],
                ("1", "x", "s0"),
                ("2", "y", "s2"),
            ]
        },
    )
    text = sql.format(literal)
    answer = cluster.gather(text)
    assert sorted(answer, key=repr) == sorted(union.segments["all"].execute(text), key=repr)
