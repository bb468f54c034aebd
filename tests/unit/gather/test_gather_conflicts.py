"""GATHER over columns that segments declare in different ways."""

from __future__ import annotations

from typing import Any

import pytest
from gather_support import Cluster, exact_rows, union_of

from trough import errors

ROWS = [(1, "x", 5), (2, "5", "5"), (3, None, 5.0), (4, "X", b"5"), (5, 7, "abc"), (6, 2.5, None)]


@pytest.fixture(scope="module")
def cluster() -> Cluster:
    """A column of text here, of integers and of reals there; a collation that differs."""
    cluster = Cluster()
    cluster.add("one", "CREATE TABLE t (i INTEGER, b TEXT, x INTEGER)", {"t": ROWS[:3]})
    cluster.add("two", "CREATE TABLE t (i INTEGER, b TEXT COLLATE NOCASE, x TEXT)", {"t": ROWS})
    cluster.add("three", "CREATE TABLE t (i INTEGER, b TEXT, x REAL)", {"t": ROWS[2:]})
    cluster.add("four", "CREATE TABLE t (i INTEGER)", {"t": [(9,)]})
    return cluster


@pytest.fixture(scope="module")
def union(cluster: Cluster) -> Any:
    """Each value as it is stored, without a type."""
    return union_of(cluster, "CREATE TABLE t (i INTEGER, b, x)")


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT x, b FROM t",
        "SELECT * FROM t",
        "SELECT typeof(x), count(*) FROM t GROUP BY typeof(x)",
        "SELECT CAST(x AS TEXT) AS k, count(*) FROM t GROUP BY k ORDER BY k",
        "SELECT count(x), count(b), count(*) FROM t",
        "SELECT i FROM t WHERE x IS NULL OR b IS NOT NULL ORDER BY i, typeof(x)",
        "SELECT i FROM t WHERE CAST(x AS TEXT) = '5' ORDER BY i",
        "SELECT i FROM t WHERE CAST(b AS TEXT) COLLATE BINARY = 'x' ORDER BY i",
        "SELECT i FROM t WHERE CAST(x AS NUMERIC) > 4 ORDER BY i",
        "SELECT sum(x), total(x), avg(x) FROM t",
        "SELECT x + 1, x || '', length(x), x LIKE '5%', coalesce(x, 0) FROM t",
        "SELECT max(typeof(x)), count(DISTINCT typeof(b)) FROM t",
        "SELECT i, x FROM t ORDER BY i LIMIT 1",
        "SELECT (SELECT count(*) FROM t AS o WHERE CAST(o.x AS TEXT) = CAST(t.x AS TEXT)) FROM t",
        "SELECT DISTINCT x FROM t WHERE typeof(x) = 'integer'",
        "SELECT count(DISTINCT b COLLATE BINARY) FROM t",
        "SELECT min(x), max(x) FROM t",
        # Beside an INTEGER column every type compares alike.
        "SELECT i FROM t WHERE x = i",
        "SELECT i FROM t WHERE i IN (SELECT x FROM t)",
    ],
)
def test_what_does_not_depend_on_a_columns_type_is_answered(
    cluster: Cluster, union: Any, sql: str
) -> None:
    """Output, typeof, casts, counts and the like have each value as it is stored."""
    expected = union.execute(sql).fetchall()
    assert exact_rows(cluster.gather(sql), False) == exact_rows(expected, False)


@pytest.mark.parametrize(
    ("sql", "column"),
    [
        ("SELECT i FROM t WHERE x = '5'", "x"),
        ("SELECT i FROM t WHERE x > 4", "x"),
        ("SELECT i FROM t WHERE x IN (5)", "x"),
        ("SELECT count(*) FROM t GROUP BY b", "b"),
        ("SELECT i FROM t ORDER BY b", "b"),
        ("SELECT DISTINCT b FROM t", "b"),
        ("SELECT max(b) FROM t", "b"),
        ("SELECT i FROM t WHERE b = 'x'", "b"),
        ("SELECT CAST(b AS TEXT) FROM t GROUP BY 1", "b"),
        ("SELECT CASE x WHEN '5' THEN 1 END FROM t", "x"),
        ("SELECT i FROM t WHERE x BETWEEN 1 AND 9", "x"),
        ("SELECT b FROM t UNION SELECT 'X'", "b"),
    ],
)
def test_what_depends_on_it_is_refused(cluster: Cluster, sql: str, column: str) -> None:
    """With what segments declare, and a way out."""
    with pytest.raises(errors.BadSql, match=f"column {column} of table t is .* in another"):
        cluster.gather(sql)
