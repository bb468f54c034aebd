"""GATHER where SQLite's reading of a text and a quick look at it part: the answer is SQLite's.

Positions, aliases, names, precedence, ``IN table``, views, clocks, rowids. Each query is
compared with SQLite over one database with all rows.
"""

from __future__ import annotations

from typing import Any

import pytest
from gather_support import Cluster, exact_rows, union_of

from trough import errors

TABLES = (
    "CREATE TABLE t(a INTEGER, b TEXT, c REAL{0}); CREATE TABLE w(x INTEGER{0});"
    "CREATE TABLE u(x INTEGER, y TEXT{0}); CREATE TABLE n(k TEXT COLLATE NOCASE, v{0});"
    'CREATE TABLE k("current_date" TEXT, "select" INTEGER, "order by" TEXT, "now" TEXT{0});'
)
VIEWS = (
    "CREATE VIEW v AS SELECT * FROM t;"
    "CREATE VIEW vv AS SELECT b, count(*) AS n FROM t GROUP BY b;"
    'CREATE VIEW vn(q, "n n") AS SELECT a, b FROM v WHERE a > 1 -- the end\n;'
    "CREATE VIEW vw AS WITH t AS (SELECT x AS a FROM w) SELECT a FROM t;"
    "CREATE VIEW vj AS SELECT t.a, u.y FROM t JOIN u ON t.a = u.x;"
    "CREATE VIEW vu AS SELECT a AS i FROM t UNION ALL SELECT x FROM w;"
)
ROWS: list[dict[str, list[tuple[Any, ...]]]] = [
    {
        "t": [(1, "x", 1.5), (3, "y", 2.5), (7, "X", 0.25)],
        "w": [(2,), (7,)],
        "u": [(1, "p"), (2, "x"), (7, "y")],
        "n": [("a", 1), ("A", "1"), ("b", None)],
        "k": [("old1", 1, "one", "now"), ("old2", 2, "two", "subsec")],
    },
    {
        "t": [(2, "x", 0.5), (5, "z", None), (None, None, 9.0)],
        "w": [(1,), (3,)],
        "u": [(3, "r"), (9, "s"), (5, None)],
        "n": [("B", 2.5), (None, b"1"), ("a", 1.0)],
        "k": [("old3", 3, "one", "2001-02-03"), (None, None, None, None)],
    },
    {},
]


@pytest.fixture(scope="module")
def cluster() -> Cluster:
    """Three segments; the last one has no rows."""
    cluster = Cluster()
    for number, rows in enumerate(ROWS):
        cluster.add(f"s{number}", TABLES.format("") + VIEWS, rows)
    return cluster


@pytest.fixture(scope="module")
def union(cluster: Cluster) -> Any:
    """All rows in one database."""
    return union_of(cluster, TABLES.format("") + VIEWS)


def agrees(cluster: Cluster, union: Any, sql: str, parameters: Any = None) -> None:
    """The answer is SQLite's; ordered where the text has an ORDER BY at its end."""
    expected = union.execute(sql, parameters or ()).fetchall()
    ordered = "ORDER BY" in sql.rpartition(")")[2]
    got = cluster.gather(sql, parameters, now=1_700_000_000.25)
    assert exact_rows(got, ordered) == exact_rows(expected, ordered)


POSITIONS = [
    f"SELECT b, count(*) FROM t GROUP BY {term}"
    for term in (
        "(1)", "((1))", "+1", "+ +1", "(+1)", "1", "b", "(b)", '"b"', "t.b", "b || ''",
        "1 COLLATE NOCASE", "'x' NOTNULL", "('x') NOT NULL, +1 <= b", "1 IS NOT NULL", "1 IN (1)",
        "likely(1)", "NOT 0", "1 + 0",
    )
] + [
    f"SELECT a, b FROM t ORDER BY {term} LIMIT 2"
    for term in (
        "+1 DESC", "(1) DESC", "- -1", "+(1) DESC", "2, 1", "(2), (1) DESC", "1 + 0, a", "+a",
        "-a", "(a) DESC", "a COLLATE NOCASE DESC", "(1) COLLATE NOCASE", "likely(1), 1", "NULL, 1",
        "'1', a DESC", "1.0, a DESC", "0x1 DESC", "CAST(1 AS INTEGER), a DESC",
    )
] + [
    f"SELECT -a AS a FROM t ORDER BY {term} LIMIT 3"
    for term in (
        "(a)", "a", "+a", "t.a", "(a) COLLATE BINARY", '"a"', "[a]", "`a`", "'a', 1", "-a", "a + 0",
    )
]  # fmt: skip

NAMES = [
    "SELECT a AS b, b AS a FROM t WHERE a > 1 ORDER BY a, b",
    "SELECT a AS b, count(*) FROM t GROUP BY b ORDER BY 1, 2",
    "SELECT lower(b) AS k, count(*) FROM t GROUP BY k HAVING k <> 'x' ORDER BY k",
    "SELECT a % 2 AS x, count(*) AS n FROM t GROUP BY x HAVING n > 1 ORDER BY n, x",
    "SELECT a + 1 AS z FROM t WHERE z > 3 ORDER BY z + a",
    'SELECT "nope" AS z, a FROM t WHERE "nope" = z ORDER BY a',
    "SELECT 1 AS one, count(*) FROM t GROUP BY one",
    "SELECT 'b' AS kind, count(*) FROM t GROUP BY kind",
    "SELECT 2 AS a, max(a) FROM t GROUP BY a",
    "SELECT a AS x, b AS x FROM t ORDER BY x",
    'SELECT T.A, [t].`b`, main.t."c" FROM main.T ORDER BY 1',
    'SELECT q.a FROM t AS q WHERE q.b = \'x\' ORDER BY "q"."a"',
    'SELECT "select", "order by" FROM k ORDER BY "select"',
    'SELECT count(*) AS "count", "order by" FROM k GROUP BY "order by" ORDER BY "count", 2',
    'SELECT "current_date" FROM k ORDER BY "select"',
    'SELECT k."current_date", [current_date], `current_date` FROM k ORDER BY "select"',
    'SELECT max("current_date") FROM k',
    'SELECT "current_date" AS d, count(*) FROM k GROUP BY d ORDER BY d',
    "SELECT count(DISTINCT current_date) FROM k",
    "SELECT a FROM t ORDER BY b COLLATE NOCASE, a",
    "SELECT b COLLATE NOCASE AS k, count(*) FROM t GROUP BY k ORDER BY k",
    "SELECT max(b COLLATE NOCASE), count(DISTINCT b COLLATE NOCASE) FROM t",
    "SELECT k, count(*) FROM n GROUP BY +k",
    "SELECT count(*) FROM n WHERE k = 'A'",
    "SELECT count(*) FROM n WHERE +k = 'A'",
    "SELECT count(*) FROM n WHERE 'A' = k COLLATE BINARY",
    "SELECT true, false, TRUE IS TRUE, a IS TRUE FROM t ORDER BY a",
    'SELECT a FROM t WHERE "true" = 1 OR a = 1',
    "SELECT 'x' FROM t UNION ALL SELECT \"x\" FROM w ORDER BY 1",
    "SELECT a k FROM t UNION SELECT x FROM w ORDER BY (k) DESC",
    "SELECT a k FROM t UNION ALL SELECT x FROM w ORDER BY (1) LIMIT 3",
    "SELECT a FROM t EXCEPT SELECT x FROM w ORDER BY +1",
    "SELECT (SELECT a FROM w WHERE x = a) FROM t ORDER BY a",
    "SELECT a FROM t AS x WHERE EXISTS (SELECT 1 FROM u AS x WHERE x.x = a) ORDER BY a",
    "SELECT b AS q FROM t WHERE EXISTS (SELECT 1 FROM u WHERE u.y = q) ORDER BY 1",
    "SELECT u.x AS a FROM u WHERE EXISTS (SELECT 1 FROM t WHERE t.a = u.x AND a > 2) ORDER BY a",
    "SELECT (SELECT max(t.a) FROM u) FROM t",
    "SELECT DISTINCT a % 2 FROM t ORDER BY a % 2",
    "SELECT DISTINCT -a AS a FROM t ORDER BY (a)",
    "SELECT total(a) AS a, sum(a) AS b FROM t HAVING b > 1 AND a > 9",
    "SELECT a, max(c) AS a FROM t",
    "SELECT max(c) AS m, a FROM t GROUP BY b HAVING m > 1 ORDER BY m",
    "SELECT * FROM (SELECT count(*), b, b FROM t GROUP BY b) ORDER BY 2",
    'SELECT "count(*)" FROM (SELECT count(*) FROM t)',
    "SELECT * FROM u JOIN w USING (x) ORDER BY x",
    "SELECT * FROM u NATURAL JOIN w WHERE x > 1 ORDER BY x",
    "SELECT x FROM u LEFT JOIN w USING (x) ORDER BY x",
    "SELECT x FROM u FULL JOIN w USING (x) ORDER BY x",
    "SELECT count(*) FROM t, t AS t2, w AS t3 WHERE t.a = t2.a AND t3.x = t2.a",
]

IN_TABLES = [
    "SELECT a, a IN w FROM t ORDER BY a",
    "SELECT a, a NOT IN w FROM t ORDER BY a",
    "SELECT a FROM t WHERE a IN main.w ORDER BY a",
    'SELECT a FROM t WHERE NOT a IN "w" ORDER BY a',
    "SELECT a FROM t WHERE (a) IN [w] ORDER BY a",
    "SELECT count(*) FROM t WHERE (a, b) IN u",
    "SELECT count(*) FROM t WHERE (a, b) NOT IN (SELECT x, y FROM u)",
    "SELECT count(*) FROM t WHERE a IN vw",
    "SELECT count(*) FROM t WHERE a IN vu AND a NOT IN w",
    "SELECT count(*) FROM w AS t WHERE x IN w",
    "WITH w AS (SELECT 5 AS x) SELECT a FROM t WHERE a IN w",
    "WITH w AS (SELECT 5 AS x) SELECT a FROM t WHERE a IN main.w ORDER BY a",
    "SELECT count(*) FROM t WHERE (a, 2, 3, 4, 5, 6, 7, 8) IN json_each('[1, 2]')",
    "SELECT a FROM t WHERE a IN (SELECT value FROM json_each('[1, 2]')) ORDER BY a",
    "SELECT u.x FROM u, w WHERE w.x = 1 AND u.x IN w ORDER BY 1",
    "SELECT u.x FROM u JOIN w ON w.x = 1 WHERE u.x NOT IN w ORDER BY 1",
    "SELECT max(a) IN w FROM t",
    "SELECT b, max(a) IN w FROM t GROUP BY b ORDER BY 1",
    "SELECT count(*) FILTER (WHERE a IN w) FROM t",
    "SELECT a FROM t ORDER BY a IN w, a",
    "SELECT a IN w AS i, count(*) FROM t GROUP BY i ORDER BY i",
    "SELECT a FROM t WHERE a IN (1, 2) IN (1) ORDER BY a",
    "SELECT a FROM t WHERE a IN ()",
    "SELECT a FROM t WHERE a IN ((SELECT x FROM w ORDER BY x LIMIT 1))",
    "SELECT a FROM t WHERE (a, b) IN (VALUES (1, 'x'), (2, 'x')) ORDER BY a",
    "SELECT (SELECT 1) IN w FROM t LIMIT 1",
]

PARTS = [
    "SELECT count(*) FROM t, v WHERE t.a = 1",
    "SELECT count(*) FROM v, t WHERE t.a = 1",
    "SELECT count(*) FROM v JOIN v AS v2 ON v.a = v2.a WHERE v.a = 1",
    "SELECT count(*) FROM t, vv WHERE t.a = 1",
    "SELECT count(*) FROM t WHERE a = 1 AND EXISTS (SELECT 1 FROM v WHERE v.a = 2)",
    "SELECT count(*) FROM vn, t WHERE t.a = 1",
    "SELECT * FROM vv ORDER BY b",
    'SELECT "n n", q FROM vn ORDER BY q',
    "SELECT count(*), sum(q) FROM vn",
    "SELECT * FROM vw ORDER BY a",
    "WITH t AS (SELECT x AS a, 'k' AS b, 1 AS c FROM w) SELECT count(*) FROM t, v",
    "WITH v AS (SELECT x AS a FROM w) SELECT a FROM v ORDER BY a",
    "WITH w AS (SELECT a AS x FROM t) SELECT * FROM vw ORDER BY a",
    "SELECT * FROM vj ORDER BY a",
    "SELECT i, count(*) FROM vu GROUP BY i ORDER BY i",
    "SELECT q, count(*) FROM vn WHERE \"n n\" <> 'x' GROUP BY q ORDER BY q",
    "SELECT b, max(a), sum(c) FROM v WHERE b = 'x' GROUP BY b",
    "SELECT DISTINCT k FROM (SELECT b COLLATE NOCASE AS k FROM t) ORDER BY k COLLATE NOCASE, 1",
    "SELECT k, count(*) FROM (SELECT lower(b) AS k, a FROM v WHERE a > 1) GROUP BY k ORDER BY k",
    "SELECT count(*) FROM (SELECT k FROM n) WHERE k = 'A'",
    "SELECT k = 'A', count(*) FROM (SELECT k FROM n) GROUP BY 1 ORDER BY 1",
    "SELECT max(k) = '7', count(*) FROM (SELECT a AS k FROM t)",
    "SELECT m FROM (SELECT max(a, 2) AS m FROM t) ORDER BY m",
    "SELECT m FROM (SELECT max(a) AS m FROM t)",
    "SELECT v.*, u.y FROM v LEFT JOIN u ON u.x = v.a ORDER BY v.a",
    "WITH RECURSIVE r(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM r WHERE i < 4)"
    " SELECT i, (SELECT count(*) FROM t WHERE a > i) FROM r ORDER BY i",
    "WITH x AS (SELECT a FROM t), t AS (SELECT 9 AS a) SELECT a FROM x ORDER BY a",
    "WITH x AS (SELECT 1 AS a), y AS (WITH x AS (SELECT 2 AS a) SELECT a FROM x)"
    " SELECT x.a, y.a, count(t.a) FROM x, y, t",
]

PRECEDENCE = [
    f"SELECT count(*), sum({e}) FROM t WHERE {e}"
    for e in (
        "c NOT IN (9) < b", "a IN (1, 2) = c > 0", "NOT a = 1", "NOT a IN (1)", "- a < b",
        "a < 3 = b > 'x'", "a BETWEEN 1 AND 5 = 1", "NOT a BETWEEN 1 AND 2", "a - (2 - a) > 0",
        "a NOT BETWEEN 1 AND c < 9", "b LIKE 'x' = a", "b NOT LIKE 'x' || '' < 1", "a IS NOT b < 1",
        "NOT a IS NULL", "a NOTNULL = 1", "a ISNULL OR b IS NULL", "a IS NOT DISTINCT FROM 1",
        "~a & 3 | 4 << 1 > 2", "a || b < c", "a * 2 || 1 > 5", "- - a > 1", "-a COLLATE NOCASE < 0",
        "a = 1 OR a = 2 AND b = 'y'", "CASE a WHEN 1 THEN 0 ELSE 1 END = 1 OR NULL",
        "a -> '$' IS NOT NULL", "b GLOB 'x' <> 1", "NOT NOT a", "NOT -a", "a % 2 = 1 IS NOT NULL",
        "a <> 1 != 0", "a == 1 = 1", "+b = 'x'", "b < 'y' COLLATE NOCASE", "a IS TRUE",
        "a IS NOT FALSE", "(a, b) > (2, 'x')",
    )
]  # fmt: skip


@pytest.mark.parametrize("sql", POSITIONS + NAMES)
def test_names_and_positions_are_sqlites(cluster: Cluster, union: Any, sql: str) -> None:
    """A position, an alias and a name mean what SQLite takes them for."""
    agrees(cluster, union, sql)


@pytest.mark.parametrize("sql", IN_TABLES + PARTS)
def test_tables_are_the_unions_wherever_they_are_named(
    cluster: Cluster, union: Any, sql: str
) -> None:
    """Behind IN, below a view, hidden by WITH, and more than once."""
    agrees(cluster, union, sql)


@pytest.mark.parametrize("sql", PRECEDENCE)
def test_operators_bind_as_in_the_text(cluster: Cluster, union: Any, sql: str) -> None:
    """What segments run has the parentheses that SQLite sees in the text."""
    agrees(cluster, union, sql)


CLOCKS = [
    "SELECT count(DISTINCT datetime('subsec')) FROM t",
    "SELECT count(DISTINCT unixepoch('subsecond')) FROM t",
    "SELECT count(DISTINCT strftime('%f', 'SubSec')) FROM t",
    "SELECT count(DISTINCT julianday('NOW')), count(DISTINCT time()) FROM t",
    "SELECT count(DISTINCT unixepoch(\"now\", 'subsec')) FROM t",
    "SELECT count(DISTINCT unixepoch(\"now\", 'subsec')) FROM k",
    "SELECT date(\"now\") < '2002', count(*) FROM k GROUP BY 1 ORDER BY 1",
    'SELECT "now", datetime(k."now") > \'2002\' FROM k ORDER BY "select"',
    'SELECT max(length(datetime("now"))) FROM k',
    "SELECT count(DISTINCT CURRENT_TIMESTAMP), count(DISTINCT strftime('%s')) FROM t",
    "SELECT date('2001-02-03', '+' || a || ' days') FROM t WHERE a > 1 ORDER BY a",
    "SELECT date(a, 'unixepoch') FROM t ORDER BY a",
    "SELECT count(*) FROM t WHERE timediff('now', '2001-01-01') > '+00' || 'now'",
    "SELECT count(*) FROM t WHERE datetime('2001-01-01', 'localtime') > b",
]


@pytest.mark.parametrize("sql", CLOCKS)
def test_the_clock_stands_still(cluster: Cluster, union: Any, sql: str) -> None:
    """Whatever means now means one moment, in rows of all segments."""
    agrees(cluster, union, sql)


@pytest.mark.parametrize("value", ["now", "subsec", "NOW", "2001-02-03", b"now", None, 5])
def test_a_parameter_may_mean_now(cluster: Cluster, union: Any, value: Any) -> None:
    """Bound values are looked at like those in the text."""
    agrees(cluster, union, "SELECT count(DISTINCT unixepoch(?, 'subsec')) FROM t", [value])


def test_a_parameter_may_be_a_time_zone(cluster: Cluster, union: Any) -> None:
    """Time zones are those of one machine, so rows are shipped."""
    agrees(cluster, union, "SELECT a, date('2001-02-03', ?) FROM t ORDER BY a", ["localtime"])


@pytest.mark.parametrize("name", ["changes()", "total_changes()", "last_insert_rowid()"])
def test_what_a_connection_wrote_is_refused(cluster: Cluster, name: str) -> None:
    """The union has no connection that wrote."""
    with pytest.raises(errors.BadSql, match="GATHER has written nothing"):
        cluster.gather(f"SELECT a, {name} FROM t")


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT rowid FROM t",
        'SELECT "oid" FROM t',
        "SELECT t._rowid_ FROM t",
        "SELECT a FROM t ORDER BY rowid",
        "SELECT a FROM t WHERE rowid = 1",
        "SELECT count(*) FROM t JOIN w ON t.rowid = w.rowid",
        "SELECT a FROM t WHERE EXISTS (SELECT 1 FROM w WHERE rowid = 1)",
        "SELECT max(rowid) FROM t",
        "SELECT a FROM t ORDER BY [rowid] LIMIT 1",
        "SELECT a FROM t WHERE a IN (SELECT rowid FROM w)",
    ],
)
def test_rowids_are_refused(cluster: Cluster, sql: str) -> None:
    """Rows of two segments have the same ones."""
    with pytest.raises(errors.BadSql, match="no rowid of their own"):
        cluster.gather(sql)


SEGMENTS = [
    'SELECT "_segment", a FROM t ORDER BY 1, 2',
    "SELECT t.*, t._segment FROM t ORDER BY a",
    "SELECT [_segment], count(*) FROM t GROUP BY (1) ORDER BY +1",
    "SELECT _segment AS s, count(*) FROM t GROUP BY s ORDER BY (s)",
    "SELECT a FROM t WHERE (_segment) = ('s1') ORDER BY a",
    "SELECT a FROM t WHERE NOT _segment IN ('s1') ORDER BY a",
    "SELECT a FROM t WHERE _segment = 's1' OR a = 1 ORDER BY a",
    "SELECT t.a FROM t JOIN w ON t._segment = w._segment AND t.a = w.x ORDER BY 1",
    "SELECT x FROM w WHERE _segment IN (SELECT _segment FROM t WHERE a = 1) ORDER BY x",
    'SELECT count(DISTINCT _segment), min("_SEGMENT") FROM t',
    "SELECT DISTINCT _segment FROM t ORDER BY (_segment) DESC",
]


@pytest.mark.parametrize("sql", SEGMENTS)
def test_the_segments_name_is_a_column(cluster: Cluster, sql: str) -> None:
    """However it is written."""
    union = union_of(cluster, TABLES.format(", _segment TEXT"))
    # There * would have the segment's column, too.
    expected = union.execute(sql.replace("t.*", "a, b, c")).fetchall()
    assert exact_rows(cluster.gather(sql), True) == exact_rows(expected, True)


def test_a_name_may_be_a_column_of_a_later_segment() -> None:
    """An alias or a text in double quotes becomes a column; so does a correlated name."""
    cluster = Cluster()
    narrow = "CREATE TABLE t (a); CREATE TABLE u (x)"
    wide = "CREATE TABLE t (a, z); CREATE TABLE u (x, a)"
    cluster.add("one", narrow, {"t": [(1,), (2,)], "u": [(1,)]})
    cluster.add("two", wide, {"t": [(3, 7)], "u": [(3, 3)]})
    union = union_of(cluster, wide)
    for sql in (
        'SELECT "z" FROM t',
        "SELECT a + 1 AS z FROM t WHERE z > 2",
        "SELECT -a AS z FROM t GROUP BY z",
        "SELECT a FROM t WHERE EXISTS (SELECT 1 FROM u WHERE x = a)",
        "SELECT a FROM t WHERE a IN (SELECT x FROM u)",
    ):
        expected = union.execute(sql).fetchall()
        assert exact_rows(cluster.gather(sql), False) == exact_rows(expected, False)


def test_true_may_be_a_column_of_some_segments() -> None:
    """SQLite takes TRUE for a name first."""
    cluster = Cluster()
    cluster.add("one", "CREATE TABLE t (a)", {"t": [(1,), (0,), (None,)]})
    cluster.add("two", 'CREATE TABLE t (a, "true")', {"t": [(2, 2), (3, 0)]})
    union = union_of(cluster, 'CREATE TABLE t (a, "true")')
    for sql in (
        "SELECT a IS TRUE, a = true, a IS NOT FALSE FROM t",
        "SELECT count(*) FROM t WHERE a IS TRUE",
        "SELECT a FROM t WHERE true",
    ):
        expected = union.execute(sql).fetchall()
        assert exact_rows(cluster.gather(sql), False) == exact_rows(expected, False)
