"""Segments that need not be opened: whose range of a column is outside of what a query asks for.

The cluster of these tests opens them all the same, and fails if one of them has a row.
"""

from __future__ import annotations

from typing import Any

import pytest
from gather_support import Cluster, exact_rows, union_of

TABLES = (
    "CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER, r REAL, at DATETIME, s TEXT,"
    " c TEXT COLLATE NOCASE, x);"
    "CREATE TABLE u (k INTEGER, w);"
    "CREATE VIEW v AS SELECT n AS m, at AS moment, n + 1 AS more FROM t WHERE r > 1.0;"
    "CREATE VIEW vv(a) AS SELECT m FROM v WHERE moment >= '2021';"
    "CREATE VIEW g AS SELECT s, count(*) AS n FROM t GROUP BY s;"
)
ROWS: dict[str, list[tuple[Any, ...]]] = {
    "low": [(1, 1, 1.5, "2021-01-01", "a", "a", None), (2, 5, 2.5, "2021-06-01", "b", "B", 3)],
    "high": [(3, 10, 7.5, "2022-01-01", "x", "X", "7"), (4, 50, 9.0, "2023-01-01", "y", "y", b"8")],
    "odd": [(5, "abc", 0.5, 20210101, "10", None, "z"), (6, None, None, None, None, None, -1)],
}


@pytest.fixture
def cluster() -> Cluster:
    """Four segments; one has no rows."""
    cluster = Cluster()
    for name, rows in {**ROWS, "empty": []}.items():
        cluster.add(name, TABLES, {"t": rows, "u": [(row[0], row[1]) for row in rows]})
    return cluster


@pytest.mark.parametrize(
    ("where", "pruned"),
    [
        # "empty" has no value, so every range excludes it.
        ("n > 50", 2),  # not "odd": its text is greater than any number
        ("n >= 51", 3),
        ("n < 1", 3),
        ("n < 0", 4),
        ("0 > n", 4),
        ("n BETWEEN 6 AND 9", 4),
        ("n BETWEEN 6 AND 9 AND s > ''", 4),
        ("n = 7", 4),
        ("n = '7'", 4),
        ("n IN (7, -7.0)", 4),
        ("n IN (7, 50)", 3),
        ("n = 'abc'", 3),
        ("n > -1", 1),
        ("n > -(1)", 1),
        ("r > 9", 3),
        ("r >= 9.5", 4),
        ("at >= '2023'", 1),  # a number to a column of type DATETIME
        ("at >= '2023-'", 3),
        ("at < '2021-02'", 2),
        ("at < 2022", 4),
        ("at >= '20210101'", 1),
        ("s >= 'y'", 3),
        ("s < 11", 3),  # '10' < '11'
        ("s = 10", 3),
        ("x > '7'", 2),
        ("x < 4", 2),
        ("x = 7", 3),
        ("id > 4", 2),
        # These exclude nothing.
        ("c > 'w'", 0),
        ("c > 5", 0),
        ("n + 0 > 60", 0),
        ("+n > 60", 0),
        ("n > 60 OR n < 0", 0),
        ("NOT n < 60", 0),
        ("s > 'z' COLLATE NOCASE", 0),
        ("s COLLATE NOCASE > 'z'", 0),
        ("n > NULL", 0),
        ("n > x'00'", 0),
        ("n > CAST('60' AS INTEGER)", 0),
        ("n > r", 0),
        ("n > (SELECT 60)", 0),
    ],
)
def test_a_range_excludes_what_is_outside(cluster: Cluster, where: str, pruned: int) -> None:
    """And nothing that SQLite would find."""
    sql = f"SELECT id FROM t WHERE {where}"
    expected = union_of(cluster, TABLES).execute(sql).fetchall()
    assert exact_rows(cluster.gather(sql), False) == exact_rows(expected, False)
    assert cluster.lacking == pruned


@pytest.mark.parametrize(
    ("sql", "pruned"),
    [
        ("SELECT m FROM v WHERE m > 20", 3),
        ("SELECT m FROM v WHERE moment > '2022' AND m < 20", 2),
        ("SELECT m FROM v", 2),
        ("SELECT more FROM v WHERE more > 70", 2),
        ("SELECT a FROM vv WHERE a >= 50", 3),
        ("SELECT count(*), max(a) FROM vv WHERE a > 100", 4),
        ("SELECT q FROM (SELECT n AS q, id AS n FROM t) WHERE n > 4", 2),
        ("SELECT n FROM (SELECT n + 0 AS n FROM t) WHERE n > 60", 0),
        ("SELECT z.s, count(*) FROM (SELECT s, at AS b FROM t WHERE n > 5) AS z"
         " WHERE z.b < '2022-06' GROUP BY 1", 1),
        ("SELECT z.s FROM (SELECT s, at AS b FROM t WHERE n > 5) AS z WHERE z.b < '2022-'", 2),
        ("SELECT t.id, j.value FROM t, json_each('[1,2]') AS j WHERE t.n > 40 AND j.value > 1", 2),
        ("SELECT s FROM g WHERE n > 5", 0),
        ("SELECT n FROM (SELECT n FROM t LIMIT 3) WHERE n > 60", 0),
    ],
)  # fmt: skip
def test_views_and_subqueries_row_by_row(cluster: Cluster, sql: str, pruned: int) -> None:
    """A condition on their columns is one on the table's."""
    union = union_of(cluster, TABLES)
    if "LIMIT" not in sql:
        expected = union.execute(sql).fetchall()
        assert exact_rows(cluster.gather(sql), False) == exact_rows(expected, False)
    else:
        cluster.gather(sql)
    assert cluster.lacking == pruned


@pytest.mark.parametrize(
    ("parameter", "pruned"),
    [(50, 2), (51, 3), ("51", 3), (2**63 - 1, 3), (b"", 0), (None, 0), ("a\0b", 0), (50.5, 3),
     ("abc", 3), ("abd", 4)],
)  # fmt: skip
def test_parameters_are_bounds(cluster: Cluster, parameter: Any, pruned: int) -> None:
    """A BLOB, NULL and a text with a NUL are none."""
    sql = "SELECT count(*) FROM t WHERE n >= :p"
    expected = union_of(cluster, TABLES).execute(sql, {"p": parameter}).fetchall()
    assert cluster.gather(sql, {"p": parameter}) == expected
    assert cluster.lacking == pruned


@pytest.mark.parametrize(
    ("sql", "pruned"),
    [
        ("SELECT t.id FROM t JOIN u ON u.k = t.id WHERE u.w > 40", 2),
        ("SELECT t.id FROM t LEFT JOIN u ON u.k = t.id WHERE u.w > 40 AND t.n < 60", 3),
        ("SELECT t.id FROM t LEFT JOIN u ON u.k = t.id AND u.w > 40", 0),
        ("SELECT t.id FROM t LEFT JOIN (SELECT * FROM u WHERE w > 40) AS q ON q.k = t.id", 0),
        ("SELECT t.id FROM t LEFT JOIN (SELECT * FROM u) AS q ON q.k = t.id WHERE q.w > 60", 0),
    ],
)
def test_within_segments_a_join_needs_each_of_its_tables(
    cluster: Cluster, sql: str, pruned: int
) -> None:
    """What ON and a SELECT in an outer join ask does not exclude the other side's rows."""
    expected = []
    for name in cluster.segments:
        alone = union_of(Cluster({name: cluster.segments[name]}), TABLES)
        expected += alone.execute(sql).fetchall()
    assert exact_rows(cluster.gather(sql, within=True), False) == exact_rows(expected, False)
    assert cluster.lacking == pruned


def test_the_column_is_judged_as_each_segment_declares_it() -> None:
    """A text to one is a number to another."""
    cluster = Cluster()
    cluster.add("one", "CREATE TABLE t (a, b INTEGER)", {"t": [("5", 1), ("70", 1)]})
    cluster.add("two", "CREATE TABLE t (b INTEGER, a)", {"t": [(1, 5), (1, 70)]})
    cluster.add("three", "CREATE TABLE t (b INTEGER)", {"t": [(1,)]})
    assert cluster.gather("SELECT a FROM t WHERE a > 100 ORDER BY 1") == [("5",), ("70",)]
    # One that lacks the column is asked.
    assert cluster.lacking == 1
