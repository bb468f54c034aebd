"""Of the tables that are shipped no more rows travel than the query can need."""

from __future__ import annotations

from typing import Any

import pytest
from gather_support import Cluster, exact_rows, union_of

SCRIPT = "CREATE TABLE item (n INTEGER, k INTEGER, kind TEXT); CREATE TABLE sale (n INTEGER, day)"


@pytest.fixture(scope="module")
def cluster() -> Cluster:
    """Three segments."""
    cluster = Cluster()
    for segment in range(3):
        items: list[Any] = [(row % 40, row, "abc"[row % 3]) for row in range(segment, 300, 3)]
        items.append((None, None, None))
        sales = [(row % 50, row % 7) for row in range(segment, 100, 3)]
        cluster.add(f"s{segment}", SCRIPT, {"item": items, "sale": sales})
    return cluster


@pytest.mark.parametrize(
    ("sql", "conditions"),
    [
        (
            "SELECT sum(k) FROM item, sale WHERE (item.n = sale.n AND kind = 'a' AND day < 2)"
            " OR (item.n = sale.n AND kind = 'b' AND k BETWEEN 5 AND 50 AND day = 3)",
            [
                '(("item"."kind" = \'a\') OR (("item"."kind" = \'b\') AND '
                '("item"."k" BETWEEN 5 AND 50)))',
                '(("sale"."day" < 2) OR ("sale"."day" = 3))',
            ],
        ),
        (
            "SELECT count(*) FROM item i JOIN sale s ON i.n = s.n AND s.day = 1 AND i.k > 7",
            ['("i"."k" > 7)', '("s"."day" = 1)'],
        ),
        (
            "SELECT count(*) FROM item i, sale s WHERE i.n = s.n AND i.kind = 'a' AND EXISTS"
            " (SELECT 1 FROM item o WHERE o.n = i.n AND o.kind = 'c' AND o.k > 9)",
            ['(("i"."kind" = \'a\') OR (("i"."kind" = \'c\') AND ("i"."k" > 9)))'],
        ),
    ],
)
def test_what_any_way_through_a_query_asks_is_asked_of_segments(
    cluster: Cluster, sql: str, conditions: list[str]
) -> None:
    """Alternatives of OR, ON of inner joins, and several mentions of one table."""
    agrees(cluster, sql)
    asked = cluster.asked[-1][0]
    for condition in conditions:
        assert condition in asked


@pytest.mark.parametrize(
    "sql",
    [
        # One of the alternatives says nothing of the table.
        "SELECT count(*) FROM item i, sale s WHERE (i.k = 1 AND s.day = 2) OR i.n = s.n",
        # One mention needs all rows.
        "SELECT count(*) FROM item i, item o WHERE i.n = o.n AND i.kind = 'a'",
        # NULLs of an outer join.
        "SELECT count(*) FROM item i LEFT JOIN sale s ON i.n = s.n AND i.k > 3"
        " WHERE s.day IS NULL OR s.day = 3",
        "SELECT count(*) FROM item i FULL JOIN sale s ON i.n = s.n AND s.day = 3 AND i.k > 3",
        # NOT of alternatives, and what may fail for a row.
        "SELECT count(*) FROM item i, sale s WHERE NOT (i.k = 1 OR s.day = 2) AND i.n = s.n",
        "SELECT count(*) FROM item i, sale s WHERE i.n = s.n AND"
        " (abs(i.k) = 3 AND s.day = 1 OR json(i.k) = '4' AND s.day = 2)",
        # The same names in an inner query.
        "SELECT count(*) FROM sale s WHERE s.day = 2 AND EXISTS"
        " (SELECT 1 FROM sale s WHERE s.day = 3 OR s.n = 4)",
    ],
)
def test_what_is_not_asked_of_all_ways_changes_nothing(cluster: Cluster, sql: str) -> None:
    """The answer is SQLite's where only some rows are asked about."""
    agrees(cluster, sql)


def _by(function: str, condition: str) -> str:
    """A SELECT that numbers rows."""
    over = "PARTITION BY n ORDER BY k DESC, kind"
    return f"SELECT n, k, {function}() OVER ({over}) AS r FROM item WHERE {condition}"


@pytest.mark.parametrize(
    ("sql", "most"),
    [
        (f"SELECT k FROM ({_by('row_number', 'k > 3')}) WHERE r <= 3", 3),
        (f"SELECT * FROM ({_by('rank', 'kind > 0')}) AS q WHERE q.r < 3 AND k > 9", 2),
        (f"WITH q AS ({_by('dense_rank', '1 < k')}) SELECT max(k) FROM q WHERE 2 >= r", 2),
        (f"WITH q(a, b, c) AS ({_by('row_number', 'k = k')}) SELECT b FROM q WHERE c = 2", 2),
        (
            f"SELECT q.k, day FROM ({_by('row_number', 'k > 3')}) q"
            " JOIN sale s ON q.n = s.n WHERE r BETWEEN 1 AND 2",
            2,
        ),
    ],
)
def test_of_numbered_rows_only_the_first_are_shipped(cluster: Cluster, sql: str, most: int) -> None:
    """The first of each group in a segment, where the query asks for the first of all."""
    agrees(cluster, sql)
    assert f"WHERE `trough number` <= {most}" in cluster.asked[-1][0]


@pytest.mark.parametrize(
    "sql",
    [
        f"SELECT count(*) FROM ({_by('row_number', 'k > 3')}) WHERE r >= 3",
        f"SELECT count(*) FROM ({_by('row_number', 'k > 3')}) WHERE r <= 3 OR k = 9",
        f"SELECT count(*) FROM ({_by('rank', 'n IN (SELECT n FROM sale)')}) WHERE r < 3",
        f"SELECT count(*) FROM ({_by('rank', 'k > 3')}) a, ({_by('rank', '1')}) b"
        " WHERE a.r < 3 AND b.r < 4",
        f"WITH q AS ({_by('rank', 'k > 3')}) SELECT count(*) FROM q WHERE r < 3"
        " UNION ALL SELECT count(*) FROM q",
        "SELECT count(*) FROM sale s LEFT JOIN"
        f" ({_by('rank', 'k > 3')}) q ON q.n = s.n WHERE r <= 2 OR r IS NULL",
        "SELECT * FROM (SELECT n, row_number() OVER (ORDER BY k) AS r,"
        " count(*) OVER (PARTITION BY n) FROM item) WHERE r <= 3",
        "SELECT * FROM (SELECT n, ntile(3) OVER (ORDER BY k) AS r FROM item) WHERE r <= 1",
        "SELECT * FROM (SELECT n, row_number() OVER () AS r FROM item) WHERE r <= 0",
        "SELECT * FROM (SELECT kind, max(k), rank() OVER (ORDER BY max(k)) AS r FROM item"
        " GROUP BY kind) WHERE r <= 2",
    ],
)
def test_other_numbers_need_all_rows(cluster: Cluster, sql: str) -> None:
    """The answer is SQLite's where the first rows of each segment are not enough."""
    agrees(cluster, sql)
    assert "trough number" not in cluster.asked[-1][0]


def test_columns_of_which_nothing_is_asked_stay_where_they_are(cluster: Cluster) -> None:
    """EXISTS asks whether there is a row, and not what it has."""
    sql = "SELECT n FROM sale s WHERE EXISTS (SELECT * FROM item i WHERE i.n = s.n AND i.k > 250)"
    agrees(cluster, sql)
    assert "`kind`" not in cluster.asked[-1][0]


def agrees(cluster: Cluster, sql: str) -> None:
    expected = union_of(cluster, SCRIPT).execute(sql).fetchall()
    assert exact_rows(cluster.gather(sql), False) == exact_rows(expected, False)


def test_numbered_rows_may_have_columns_of_any_name() -> None:
    """TRUE and the like are columns where one is called so."""
    script = 'CREATE TABLE t (a, "true", "order by")'
    cluster = Cluster()
    cluster.add("s0", script, {"t": [(1, 2, 3), (2, 1, 4)]})
    cluster.add("s1", 'CREATE TABLE t ("order by", "true")', {"t": [(5, 0)]})
    sql = (
        'SELECT * FROM (SELECT *, rank() OVER (ORDER BY "true", "order by") AS r FROM t)'
        " WHERE r <= 2"
    )
    expected = union_of(cluster, script).execute(sql).fetchall()
    assert exact_rows(cluster.gather(sql), False) == exact_rows(expected, False)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM (SELECT *, rank() OVER (PARTITION BY a ORDER BY b, c) AS r FROM T)"
        " WHERE r = 1",
        "SELECT * FROM (SELECT *, rank() OVER (PARTITION BY a IN (SELECT DISTINCT a FROM t)"
        " ORDER BY b, c) AS r FROM t) WHERE r = 1",
        "SELECT * FROM (SELECT *, rank() OVER (PARTITION BY a IN (SELECT max(x) FROM u)"
        " ORDER BY b, c) AS r FROM t WHERE length(b) > 0) WHERE r = 1",
    ],
)
def test_rows_are_numbered_by_columns_that_a_segment_lacks_and_by_subqueries(sql: str) -> None:
    """NULL stands for the column; a subquery over all segments is none of a segment."""
    script = "CREATE TABLE t (a, b, c); CREATE TABLE u (x)"
    cluster = Cluster()
    cluster.add("s0", script, {"t": [(1, 2, 3), (2, 1, 4), (1, 1, 1)], "u": [(2,)]})
    cluster.add("s1", "CREATE TABLE t (c, b)", {"t": [(5, 0), (6, 0)]})
    expected = union_of(cluster, script).execute(sql).fetchall()
    assert exact_rows(cluster.gather(sql), False) == exact_rows(expected, False)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT l.x, EXISTS (SELECT u.c FROM u) FROM t AS l JOIN u USING (c)",
        "SELECT l.x FROM t AS l NATURAL JOIN u WHERE EXISTS (SELECT U.c, d FROM u)",
        "SELECT EXISTS (SELECT T.`C` FROM t), count(*) FROM u FULL JOIN t USING ([C])",
    ],
)
def test_a_column_in_using_is_shipped(sql: str) -> None:
    """Though else it is only an item of an EXISTS, which needs no value."""
    tables = "CREATE TABLE t (c, x); CREATE TABLE u (c, d)"
    cluster = Cluster()
    cluster.add("one", tables, {"t": [(1, 2), (3, 4)], "u": [(5, 6)]})
    cluster.add("two", tables, {"t": [(5, 7)], "u": [(3, 8), (1, 9)]})
    expected = union_of(cluster, tables).execute(sql).fetchall()
    assert exact_rows(cluster.gather(sql), False) == exact_rows(expected, False)
