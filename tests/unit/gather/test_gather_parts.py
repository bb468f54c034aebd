"""Queries of which parts are divided by themselves, and the rest is shipped or done at the end."""

from __future__ import annotations

from typing import Any

import pytest
from gather_support import Cluster, exact_rows, union_of

from trough import errors

TABLES = (
    "CREATE TABLE t (a INTEGER, h TEXT COLLATE NOCASE, c REAL, x);"
    "CREATE TABLE u (h TEXT, n INTEGER);"
    "CREATE VIEW g AS SELECT h, count(*) AS n, sum(c) AS s FROM t GROUP BY h;"
)
ROWS: dict[str, dict[str, list[tuple[Any, ...]]]] = {
    "one": {
        "t": [(1, "x", 0.5, "1"), (2, "X", 1.5, 2), (3, "y", None, 2.5)],
        "u": [("x", 1), ("Y", 2)],
    },
    "two": {"t": [(4, "y", 0.25, b"3"), (5, None, 9.0, None)], "u": [("y", 3)]},
    "three": {"t": [(6, "x", -0.25, 4)], "u": []},
    "four": {"u": [("z", 9)]},
}


@pytest.fixture(scope="module")
def cluster() -> Cluster:
    """Four segments; one lacks a table."""
    cluster = Cluster()
    for name, rows in ROWS.items():
        script = TABLES if "t" in rows else "CREATE TABLE u (h TEXT, n INTEGER)"
        cluster.add(name, script, rows)
    return cluster


@pytest.fixture(scope="module")
def union(cluster: Cluster) -> Any:
    """All rows in one database."""
    return union_of(cluster, TABLES)


DIVIDED = [
    "SELECT count(*) FROM t UNION ALL SELECT count(*) FROM u",
    "SELECT 't', count(*), sum(c) FROM t UNION ALL SELECT 'u', count(*), avg(n) FROM u ORDER BY 1",
    "SELECT lower(h), count(*) FROM t GROUP BY h UNION SELECT h, n FROM u GROUP BY h, n"
    " ORDER BY 1, 2",
    "WITH g AS (SELECT lower(h) AS k, count(*) AS n FROM t GROUP BY k)"
    " SELECT max(n), sum(n) FROM g",
    "WITH g AS (SELECT min(h) AS h, count(*) AS n FROM t GROUP BY t.h)"
    " SELECT x.n, y.n FROM g AS x, g AS y WHERE x.h < y.h ORDER BY 1, 2",
    "SELECT avg(n), max(s) FROM (SELECT count(*) AS n, sum(c) AS s FROM t GROUP BY h) WHERE n > 1",
    "SELECT count(*) FROM (SELECT h FROM t GROUP BY h) WHERE h = 'X'",
    "SELECT count(*) FROM (SELECT DISTINCT h FROM t) WHERE h IN ('Y', 'q')",
    "SELECT a % 2, count(*) * 100.0 / (SELECT count(*) FROM t) FROM t GROUP BY 1 ORDER BY 1",
    "SELECT sum(c) / (SELECT sum(n) FROM u), (SELECT max(a) FROM t) FROM t",
    "SELECT n, s FROM g ORDER BY n, s",
    "SELECT sum(n) FROM g WHERE h = 'X'",
    "SELECT (SELECT count(*) FROM t) - (SELECT count(*) FROM u)",
    "SELECT count(*), (SELECT group_concat(n) FROM (SELECT max(n) AS n FROM u)) FROM t",
    "SELECT sum(x), (SELECT total(x) FROM t WHERE a > 9) FROM t HAVING count(*) > (SELECT 1)",
    "SELECT a % 3 AS k FROM t GROUP BY k HAVING count(*) > (SELECT count(*) / 3 FROM u) ORDER BY k",
]
SHIPPED = [
    "SELECT k, count(*) FROM (SELECT 3 AS k, a FROM t WHERE a > 99)",
    "SELECT h FROM u WHERE CAST(1 AS TEXT) NOT IN (SELECT DISTINCT a = 1 FROM t) ORDER BY h",
    "SELECT h FROM u WHERE h IN (SELECT DISTINCT CASE WHEN a THEN 'x' END FROM t) ORDER BY h",
    "SELECT a FROM t WHERE a IN (SELECT DISTINCT substr(n, 1, 1) FROM u) ORDER BY a",
    "SELECT a FROM t WHERE c > (SELECT avg(c) FROM t) ORDER BY a",
    "SELECT a FROM t WHERE h IN (SELECT h FROM u GROUP BY h) ORDER BY a",
    "SELECT a FROM t WHERE h IN (SELECT h FROM t GROUP BY h HAVING count(*) > 1) ORDER BY a",
    "SELECT n, k FROM u JOIN (SELECT h, count(*) AS k FROM t GROUP BY h) q ON q.h = u.h ORDER BY 1",
    "SELECT n, k FROM u JOIN (SELECT h, count(*) AS k FROM t GROUP BY h) q ON u.h = q.h ORDER BY 1",
    "SELECT h FROM u UNION SELECT max(h) FROM t ORDER BY 1",
    "SELECT 1, h FROM u EXCEPT SELECT 1, 'z' UNION SELECT DISTINCT 3, CAST(t.c AS NUMERIC) FROM t",
    "SELECT k, typeof(k) FROM (SELECT CAST(c AS NUMERIC) AS k FROM t GROUP BY 1) WHERE k < 'a'",
    "SELECT CAST(c AS NUMERIC) AS k, count(*) FROM t GROUP BY k HAVING k < 'a'",
    "SELECT a, (SELECT count(*) FROM u) FROM t ORDER BY a",
    "SELECT a, (SELECT count(*) FROM u WHERE u.h = t.h) FROM t ORDER BY a",
]  # fmt: skip


@pytest.mark.parametrize("sql", DIVIDED + SHIPPED)
def test_parts_give_sqlites_answer(cluster: Cluster, union: Any, sql: str) -> None:
    """However the part's columns are compared by what is around it."""
    expected = union.execute(sql).fetchall()
    ordered = "ORDER BY" in sql.rpartition(")")[2]
    assert exact_rows(cluster.gather(sql), ordered) == exact_rows(expected, ordered)


@pytest.mark.parametrize("sql", DIVIDED)
def test_no_table_is_shipped_where_all_is_parts(cluster: Cluster, sql: str) -> None:
    """Each part is computed by the segments."""
    cluster.asked.clear()
    cluster.gather(sql)
    told = cluster.asked[-1][0]
    assert "count(" in told or "GROUP BY" in told or "DISTINCT" in told or "sum(" in told


WITHIN = [
    (
        "SELECT t.a FROM t JOIN u ON t.h = u.h UNION ALL SELECT n FROM u ORDER BY 1",
        [(1,), (1,), (2,), (2,), (3,), (3,), (4,), (9,)],
    ),
    ("SELECT 'joined', count(*) FROM t JOIN u ON t.h = u.h UNION ALL SELECT 'u', count(*) FROM u",
     [("joined", 4), ("u", 4)]),
    ("SELECT lower(h) AS h FROM t UNION SELECT h FROM u ORDER BY 1",
     [(None,), ("Y",), ("x",), ("y",), ("z",)]),
    ("WITH w AS (SELECT max(n) AS m FROM u) SELECT m FROM w UNION ALL SELECT 7 UNION ALL"
     " SELECT sum(m) FROM w ORDER BY 1", [(None,), (2,), (3,), (7,), (9,), (14,)]),
    ("SELECT a FROM t EXCEPT SELECT n FROM u ORDER BY 1 DESC LIMIT 2", [(6,), (5,)]),
    ("SELECT _segment, count(*) FROM t GROUP BY 1 UNION ALL SELECT 'all', count(*) FROM t"
     " ORDER BY 1",
     [("all", 6), ("one", 3), ("three", 1), ("two", 2)]),
]  # fmt: skip


@pytest.mark.parametrize(("sql", "rows"), WITHIN)
def test_arms_of_a_compound_within_segments(
    cluster: Cluster, sql: str, rows: list[tuple[Any, ...]]
) -> None:
    """Each is answered within segments, and their rows are one compound."""
    assert cluster.gather(sql, within=True) == rows


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT (SELECT max(v) FROM t WHERE json_array(v)) FROM t WHERE k > 5",
        "SELECT count(*) FROM t WHERE k > 5 AND k < (SELECT max(json_array(v)) FROM t)",
        "SELECT k FROM t WHERE k = 1 OR k = (SELECT count(*) FROM t WHERE v REGEXP '(')",
    ],
)
def test_a_part_that_no_row_needs_may_fail(sql: str) -> None:
    """SQLite computes a subquery when a row comes to it; one by itself is computed always."""
    script = "CREATE TABLE t (k INTEGER, v)"
    cluster = Cluster()
    cluster.add("one", script, {"t": [(1, b"x"), (1, "y")]})
    cluster.add("two", script, {"t": [(1, 3)]})
    expected = union_of(cluster, script).execute(sql).fetchall()
    assert exact_rows(cluster.gather(sql), False) == exact_rows(expected, False)


def test_a_part_that_a_row_needs_and_that_fails_is_refused() -> None:
    """With the reason."""
    cluster = Cluster()
    cluster.add("one", "CREATE TABLE t (k INTEGER, v)", {"t": [(1, b"x")]})
    with pytest.raises(errors.BadSql, match="JSON cannot hold BLOB"):
        cluster.gather("SELECT (SELECT max(json_array(v)) FROM t) FROM t")


SUMS = [
    "SELECT s, n, a FROM (SELECT k, sum(v) AS s, count(*) AS n, avg(v) AS a FROM t GROUP BY k)",
    "SELECT s, n, a FROM (SELECT k, sum(v) AS s, count(*) AS n, avg(v) AS a FROM t GROUP BY k)"
    " JOIN u ON u.k = n",
    "SELECT total(v), sum(v) FROM t UNION ALL SELECT sum(k), 0 FROM u",
    "SELECT k, sum(v) - (SELECT sum(v) FROM t), avg(v) FROM t GROUP BY k ORDER BY k",
]


@pytest.mark.parametrize("sql", SUMS)
def test_a_sum_in_a_part_is_exact(sql: str) -> None:
    """Only the segment whose sum is no integer is asked for the exact form."""
    script = "CREATE TABLE t (k INTEGER, v); CREATE TABLE u (k INTEGER, v)"
    cluster = Cluster()
    cluster.add("one", script, {"t": [(1, 7), (2, 2**40)], "u": [(3, None), (4, 1)]})
    cluster.add("two", script, {"t": [(1, 1e17), (1, "0.5"), (2, 3)], "u": []})
    cluster.add("three", script, {"t": [(1, -(10**17)), (2, None)], "u": [(2, 2)]})
    rows = cluster.gather(sql)
    assert [segments for text, segments in cluster.asked if " >> 32" in text] == [("two",)]
    one, two = 7.5, 2**40 + 3
    expected: list[tuple[Any, ...]] = {
        SUMS[0]: [(one, 4, one / 4), (two, 3, two / 2)],
        SUMS[1]: [(one, 4, one / 4), (two, 3, two / 2)],
        SUMS[2]: [(one + two, one + two), (9, 0)],
        SUMS[3]: [(1, -float(two), one / 4), (2, -one, two / 2)],
    }[sql]
    assert exact_rows(rows, False) == exact_rows(expected, False)


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SELECT s FROM (SELECT sum(v) AS s, count(*) AS n FROM t) WHERE n = 4", [2**63 - 1]),
        ("SELECT (SELECT sum(v) FROM t)", [2**63 - 1]),
        ("SELECT sum(v) FROM t UNION SELECT min(v) FROM t ORDER BY 1", [-(2**63), 2**63 - 1]),
    ],
)
def test_a_sum_in_a_part_may_overflow_on_its_way(sql: str, expected: list[int]) -> None:
    """In a segment, or between two."""
    cluster = Cluster()
    cluster.add("one", "CREATE TABLE t (v INTEGER)", {"t": [(2**63 - 1,), (2**63 - 1,)]})
    cluster.add("two", "CREATE TABLE t (v INTEGER)", {"t": [(-(2**63),), (1,)]})
    assert cluster.gather(sql) == [(value,) for value in expected]
    # Divided all the same.
    assert all("sum(" in text or "sqlite_schema" in text for text, _ in cluster.asked)


def test_a_sum_in_a_part_that_overflows_is_refused() -> None:
    """As SQLite refuses it."""
    cluster = Cluster()
    cluster.add("one", "CREATE TABLE t (v INTEGER)", {"t": [(2**63 - 1,)]})
    cluster.add("two", "CREATE TABLE t (v INTEGER)", {"t": [(1,)]})
    with pytest.raises(errors.BadSql, match="integer overflow"):
        cluster.gather("SELECT count(*), (SELECT sum(v) FROM t) FROM t")
