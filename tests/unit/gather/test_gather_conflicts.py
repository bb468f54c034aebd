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


NUMBERS = (
    "CREATE TABLE n (i INTEGER, x INTEGER, y INTEGER); CREATE TABLE o (k REAL, z INTEGER)",
    "CREATE TABLE n (i INTEGER, x REAL, y REAL); CREATE TABLE o (k REAL, z NUMERIC)",
)


@pytest.fixture(scope="module")
def numbers() -> Cluster:
    """Columns of integers here and of reals there, with texts and BLOBs in them."""
    cluster = Cluster()
    mixed = [(1, 5, 1), (2, "abc", 2), (3, None, 3), (4, 7.5, 4), (5, "9", 5), (6, "05 ", None)]
    cluster.add("one", NUMBERS[0], {"n": mixed, "o": [(5, 1)]})
    mixed = [(1, 5, 1.5), (2, b"5", 2), (3, None, 3), (4, 4, 4), (9, "x", None)]
    cluster.add("two", NUMBERS[1], {"n": mixed, "o": [(7, 2), ("q", 7)]})
    return cluster


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT i FROM n WHERE x > 5",
        "SELECT i FROM n WHERE 4 < x AND x IS NOT -7 AND NOT x <= +4.5",
        "SELECT i FROM n WHERE x BETWEEN 3 AND 6 OR x IN (7.5, NULL)",
        "SELECT i FROM n WHERE x = :p",
        "SELECT i FROM n WHERE x > y",
        "SELECT i FROM n WHERE x NOT IN (5, 9) ORDER BY x, i LIMIT 3",
        "SELECT CASE x WHEN 5 THEN 'five' WHEN 9 THEN 'nine' END FROM n",
        "SELECT x, count(*) FROM n GROUP BY x HAVING x >= 4",
        "SELECT sum(x), max(y) FROM n WHERE y < 4",
        "SELECT n.i FROM n JOIN o ON n.x = o.k WHERE z > 0",
        "SELECT a.i FROM n a, n b WHERE a.x = b.y",
        "SELECT i FROM n WHERE EXISTS (SELECT 1 FROM o AS n WHERE z = 7) AND x < 6",
    ],
)
def test_integers_here_and_reals_there_are_compared_as_numbers(numbers: Cluster, sql: str) -> None:
    """None of them holds a text that looks like a number."""
    parameters = {"p": 5} if ":p" in sql else {}
    union = union_of(numbers, "CREATE TABLE n (i INTEGER, x, y); CREATE TABLE o (k REAL, z)")
    expected = union.execute(sql, parameters).fetchall()
    ordered = "ORDER BY" in sql
    got = numbers.gather(sql, parameters or None)
    assert exact_rows(got, ordered) == exact_rows(expected, ordered)


@pytest.mark.parametrize(
    ("sql", "way_out"),
    [
        ("SELECT i FROM n WHERE x = '5'", "SELECT i FROM n WHERE CAST(x AS NUMERIC) = '5'"),
        ("SELECT i FROM n WHERE x > y || ''", "SELECT i FROM n WHERE CAST(x AS TEXT) > y || ''"),
        (
            "SELECT i FROM n WHERE x IN (5, '7')",
            "SELECT i FROM n WHERE CAST(x AS TEXT) IN (5, '7')",
        ),
    ],
)
def test_texts_compare_as_the_column_is_declared(numbers: Cluster, sql: str, way_out: str) -> None:
    """So they are refused, and what the hint proposes is answered."""
    with pytest.raises(errors.BadSql, match="column x of table n is") as caught:
        numbers.gather(sql)
    assert "CAST(... AS TEXT) or AS NUMERIC" in caught.value.hint
    union = union_of(numbers, "CREATE TABLE n (i INTEGER, x, y); CREATE TABLE o (k REAL, z)")
    expected = union.execute(way_out).fetchall()
    assert exact_rows(numbers.gather(way_out), False) == exact_rows(expected, False)
