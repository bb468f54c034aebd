"""GATHER WITHIN SEGMENTS: joins and subqueries see one segment, the rest sees all."""

from __future__ import annotations

from typing import Any

import pytest
from gather_support import Cluster, exact_rows, union_of
from hypothesis import given, settings
from hypothesis import strategies as st

from trough import errors
from trough.gather import sqlite_helpers

VALUES = st.one_of(st.none(), st.integers(0, 3), st.sampled_from(["a", "A", "b", "1"]))
ROWS = st.lists(st.tuples(VALUES, VALUES), max_size=5)
SCHEMA = "CREATE TABLE {} (k TEXT COLLATE NOCASE, v{})"

# {on} is what keeps a join inside a segment where all rows lie in one table.
SOURCES = (
    "t JOIN u ON t.k = u.k{on}",
    "t, u WHERE t.v = u.v{on}",
    "t LEFT JOIN u ON t.k = u.k AND u.v > 0{on}",
    "t JOIN u USING (k) WHERE t.v IS NOT 1{on}",
    "t JOIN (SELECT k, v FROM u) AS u ON t.v >= u.v{on2}",
)
QUERIES = (
    ("SELECT t.k, u.v FROM {source}", False),
    ("SELECT count(*), sum(u.v), max(t.k), min(u.v) FROM {source}", False),
    ("SELECT t.k, count(*), avg(u.v), count(DISTINCT u.v) FROM {source} GROUP BY t.k", False),
    ("SELECT DISTINCT t.v FROM {source}", False),
    ("SELECT u.v, t.v, t.k FROM {source} ORDER BY 1 DESC, 2, 3, t.k COLLATE BINARY LIMIT 3", True),
    ("SELECT u.v IS NULL AS gone, count(*) FROM {source} GROUP BY gone HAVING count(*) > 1", False),
)


def loosely(rows: list[tuple]) -> list[str]:
    """Rows without order, with texts that NOCASE holds for equal made equal."""
    return sorted(repr([v.lower() if isinstance(v, str) else v for v in row]) for row in rows)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(ROWS, ROWS), min_size=1, max_size=4),
    st.sampled_from(SOURCES),
    st.sampled_from(QUERIES),
)
def test_rows_of_different_segments_never_meet(
    segments: list[Any], source: str, query: tuple[str, bool]
) -> None:
    """The answer is that of one database whose joins ask for the same segment as well."""
    cluster, union = Cluster(), sqlite_helpers.connect()
    for table in "tu":
        union.execute(SCHEMA.format(table, ", s"))
    for number, (left, right) in enumerate(segments):
        script = ";".join(SCHEMA.format(table, "") for table in "tu")
        cluster.add(f"s{number}", script, {"t": left, "u": right})
        for table, rows in (("t", left), ("u", right)):
            union.executemany(
                f"INSERT INTO {table} VALUES (?, ?, ?)", [(*row, number) for row in rows]
            )
    sql, ordered = query
    got = cluster.gather(sql.format(source=source.format(on="", on2="")), within=True)
    inside = source.replace("(SELECT k, v FROM", "(SELECT k, v, s FROM")
    inside = inside.format(on=" AND t.s = u.s", on2=" AND t.s = u.s")
    expected = union.execute(sql.format(source=inside)).fetchall()
    assert loosely(got) == loosely(expected)
    if ordered:
        assert [row[0] for row in got] == [row[0] for row in expected]


def two_segments() -> Cluster:
    cluster = Cluster()
    script = "CREATE TABLE t (k, v); CREATE TABLE u (k, v)"
    cluster.add("one", script, {"t": [(1, 10), (2, 20)], "u": [(1, 5)]})
    cluster.add("two", script, {"t": [(1, 30)], "u": [(1, 7), (2, 9)]})
    return cluster


def test_subqueries_see_their_segment() -> None:
    """A correlated subquery beside plain rows is computed where the row is."""
    sql = "SELECT v, (SELECT sum(u.v) FROM u WHERE u.k = t.k) FROM t WHERE k IN (SELECT k FROM u)"
    assert sorted(two_segments().gather(sql, within=True)) == [(10, 5), (30, 7)]


def test_with_tables_are_of_their_segment() -> None:
    """A WITH table is made in each segment; what is done with its rows is done for all."""
    sql = "WITH w AS (SELECT k, max(v) AS m FROM t GROUP BY k) SELECT k, sum(m) FROM w GROUP BY k"
    assert sorted(two_segments().gather(sql, within=True)) == [(1, 40), (2, 20)]


def test_the_segment_of_a_joined_row() -> None:
    """_segment names the segment of any of the joined tables, which is the same one."""
    sql = "SELECT t._segment, u.v FROM t JOIN u ON t.k = u.k ORDER BY 2"
    assert two_segments().gather(sql, within=True) == [("one", 5), ("two", 7)]


def test_a_segment_without_one_of_the_tables_has_it_empty() -> None:
    """A join with a table that a segment lacks finds nothing there, an outer join NULLs."""
    cluster = two_segments()
    cluster.add("three", "CREATE TABLE t (k, v)", {"t": [(1, 50)]})
    inner = "SELECT count(*) FROM t JOIN u ON t.k = u.k"
    assert cluster.gather(inner, within=True) == [(2,)]
    outer = "SELECT t.v FROM t LEFT JOIN u ON t.k = u.k WHERE u.k IS NULL ORDER BY 1"
    assert cluster.gather(outer, within=True) == [(20,), (50,)]


def test_without_it_rows_of_all_segments_meet() -> None:
    """The same join over the union is another one."""
    assert two_segments().gather("SELECT count(*) FROM t JOIN u ON t.k = u.k") == [(5,)]


VIEW = "CREATE VIEW w (x) AS /* as */ SELECT k FROM t WHERE v > 10 -- only these"
VIEWS = (
    ("SELECT x FROM w", [(1,), (2,), (3,)]),
    ("SELECT count(*), sum(x) FROM w", [(3, 6)]),
    ("SELECT w.x, t.v FROM w JOIN t ON t.k = w.x ORDER BY 2", [(2, 20), (1, 30), (3, 40)]),
    ("SELECT v FROM t WHERE k NOT IN (SELECT x FROM w)", [(10,)]),
    ("WITH z AS (SELECT x + 1 AS y FROM w) SELECT max(y) FROM z", [(4,)]),
    ("WITH w AS (SELECT 7 AS x) SELECT w.x, count(*) FROM w, t GROUP BY 1", [(7, 4)]),
)


@pytest.mark.parametrize(("sql", "rows"), VIEWS)
def test_a_view_that_some_segments_lack(sql: str, rows: list[tuple[Any, ...]]) -> None:
    """It is the union's, and so runs over the tables of each segment that has any."""
    cluster = Cluster()
    cluster.add("one", f"CREATE TABLE t (k, v); {VIEW}", {"t": [(1, 10), (2, 20)]})
    cluster.add("two", "CREATE TABLE t (k, v)", {"t": [(1, 30)]})
    cluster.add("three", "CREATE TABLE t (v, k)", {"t": [(40, 3)]})
    cluster.add("four", "CREATE TABLE u (k)", {})
    assert sorted(cluster.gather(sql, within=True)) == sorted(rows)


WIDE = "CREATE VIEW w AS SELECT * FROM t; CREATE VIEW x AS SELECT count(*) AS n FROM w"


@pytest.mark.parametrize(
    ("sql", "rows"),
    [
        ("SELECT * FROM w ORDER BY 1", [(1, 10, None), (2, 20, "new"), (3, 30, None)]),
        ("SELECT c FROM w WHERE a = 2", [("new",)]),
        ("SELECT max(c), a FROM w", [("new", 2)]),
        ("SELECT n FROM x", [(1,), (1,), (1,), (0,)]),
        ("SELECT t.c, n FROM x, t WHERE a > 1 ORDER BY a", [("new", 1), (None, 1)]),
    ],
)
def test_all_columns_of_a_view_are_those_that_any_segment_has(
    sql: str, rows: list[tuple[Any, ...]]
) -> None:
    """A view of * has the union's columns, in segments of any shape, and in views of views."""
    cluster = Cluster()
    cluster.add("one", f"CREATE TABLE t (a, b); {WIDE}", {"t": [(1, 10)]})
    cluster.add("two", f"CREATE TABLE t (a, b, c); {WIDE}", {"t": [(2, 20, "new")]})
    cluster.add("three", f"CREATE TABLE t (b, a); {WIDE}", {"t": [(30, 3)]})
    cluster.add("four", "CREATE TABLE u (k)", {})
    assert cluster.gather(sql, within=True) == rows


def test_a_view_beneath_a_view_is_the_same_one_everywhere() -> None:
    """Though no column of it is read: a segment that defines it differently is found out."""
    views = "CREATE VIEW w AS SELECT k FROM t{}; CREATE VIEW x AS SELECT 1 AS one FROM w"
    cluster = Cluster()
    cluster.add("one", f"CREATE TABLE t (k); {views.format('')}", {"t": [(1,)]})
    cluster.add("two", f"CREATE TABLE t (k); {views.format(' WHERE 0')}", {"t": [(2,)]})
    with pytest.raises(errors.BadSql, match="define this view differently"):
        cluster.gather("SELECT count(*) FROM x", within=True)


def test_a_rowid_that_is_a_column_of_a_later_segment() -> None:
    """Within segments a rowid has a meaning, until one has a column that is called so."""
    cluster = Cluster()
    cluster.add("one", "CREATE TABLE t (a)", {"t": [(1,), (2,), (3,)]})
    assert cluster.gather("SELECT max(rowid + 0) FROM t", within=True) == [(3,)]
    cluster.add("two", "CREATE TABLE t (a, rowid)", {"t": [(4, 2)]})
    assert cluster.gather("SELECT max(rowid + 0) FROM t", within=True) == [(2,)]
    assert cluster.gather("SELECT rowid FROM t", within=True) == [(None,), (None,), (None,), (2,)]


def test_a_rowid_that_some_segments_lack_is_never_a_text() -> None:
    """In double quotes it would be one, where a table has none."""
    cluster = Cluster()
    cluster.add("one", "CREATE TABLE t (a, b)", {"t": [(1, 1)]})
    assert cluster.gather('SELECT "rowid" FROM t', within=True) == [(1,)]
    cluster.add("two", "CREATE TABLE t (b, a PRIMARY KEY) WITHOUT ROWID", {})
    for sql in ('SELECT "rowid" FROM t', 'SELECT max("oid" + 0) FROM t', "SELECT _rowid_ FROM t"):
        with pytest.raises(errors.TroughError, match=r"no such column: t\.(_?row|o)id"):
            cluster.gather(sql, within=True)


def test_a_segment_that_lacks_a_column_has_rowids_all_the_same() -> None:
    """What it lacks is NULL, and its table is the table."""
    cluster = Cluster()
    cluster.add("one", "CREATE TABLE t (a, b)", {"t": [(1, 1), (2, 2)]})
    cluster.add("two", "CREATE TABLE t (a)", {"t": [(1,)]})
    rows = cluster.gather("SELECT rowid, b FROM t ORDER BY 1, 2", within=True)
    assert rows == [(1, None), (1, 1), (2, 2)]


@pytest.mark.parametrize(
    ("sql", "rows"),
    [
        ("SELECT (SELECT max(b) FROM t WHERE rowid > 1) FROM t", [None, 4, 4]),
        ("SELECT (SELECT count(b) FROM T AS s WHERE -'oid' OR s.oid) FROM t", [0, 2, 2]),
        ("SELECT (SELECT sum(_rowid_ + ifnull(b, 5)) FROM t) FROM t", [6, 9, 9]),
    ],
)
def test_a_subquery_may_read_a_rowid_and_a_column_that_a_segment_lacks(
    sql: str, rows: list[Any]
) -> None:
    """There a SELECT with the column takes the place of the table."""
    cluster = Cluster()
    cluster.add("one", "CREATE TABLE t (a, b)", {"t": [(1, 2), (2, 4)]})
    cluster.add("two", "CREATE TABLE t (a)", {"t": [(1,)]})
    cluster.add("three", "CREATE TABLE u (a)", {"u": [(1,)]})
    found = [value for (value,) in cluster.gather(sql, within=True)]
    assert sorted(found, key=str) == sorted(rows, key=str)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT count(*) FROM t AS l FULL JOIN t AS r USING (a, `true`)",
        "SELECT count(*) FROM t NATURAL JOIN u",
    ],
)
def test_a_column_called_true_in_using_needs_whole_tables(sql: str) -> None:
    """SQLite calls it by its number in the SELECT that takes the place of a table."""
    whole = 'CREATE TABLE t (a, "true", b); CREATE TABLE u (a, "true", b)'
    cluster = Cluster()
    cluster.add("one", whole, {"t": [(1, 2, 3)], "u": [(1, 2, 3)]})
    cluster.add("two", whole, {"t": [(1, 4, 3)], "u": [(1, 2, 3)]})
    expected = 2 if "FULL" in sql else 1
    assert cluster.gather(sql, within=True) == [(expected,)]
    cluster.add("three", whole.replace(", b", "", 1), {"t": [(1, 5)], "u": [(1, 6, None)]})
    with pytest.raises(errors.BadSql, match="cannot be divided within segments") as caught:
        cluster.gather(sql, within=True)
    assert "called true" in caught.value.message and "ON" in caught.value.hint


def test_a_subquery_reads_a_table_without_rowids_that_lacks_a_column() -> None:
    """What names no rowid needs none."""
    cluster = Cluster()
    cluster.add("one", "CREATE TABLE t (a, b)", {"t": [(1, 2)]})
    cluster.add("two", "CREATE TABLE t (a PRIMARY KEY) WITHOUT ROWID", {"t": [(1,), (3,)]})
    found = cluster.gather("SELECT (SELECT max(a + ifnull(b, 0)) FROM t) FROM t", within=True)
    assert sorted(found) == [(3,), (3,), (3,)]


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT (SELECT avg(iif(u.n, u.n, w.x)) FROM u) FROM w",
        "SELECT (SELECT max(u.n) + count(w.x + u.m) FROM u) FROM w",
        "SELECT x FROM w WHERE (SELECT count(iif(m, x, x)) FROM u) = 0",
        "SELECT count(*) FROM w WHERE x IN (SELECT max(n, x) FROM u GROUP BY x HAVING max(n || x))",
    ],
)
def test_an_aggregate_stays_one_of_its_subquery(sql: str) -> None:
    """Where a segment lacks its table or column; else the query around would give a row more."""
    scripts = {
        "one": "CREATE TABLE w (x); CREATE TABLE u (n, m)",
        "two": "CREATE TABLE w (x)",
        "three": "CREATE TABLE w (x); CREATE TABLE u (n)",
        "four": "CREATE TABLE w (x); CREATE TABLE u (m)",
    }
    for filled in ((), ("two",), ("three", "four"), tuple(scripts)):
        cluster, expected = Cluster(), []
        for name, script in scripts.items():
            rows = {"w": [(1,), (2,)]} if name in filled else {}
            cluster.add(name, script, rows)
            alone = union_of(Cluster({name: cluster.segments[name]}), scripts["one"])
            expected += alone.execute(sql).fetchall()
        if "count(*)" in sql:
            expected = [(sum(count for (count,) in expected),)]
        assert sorted(cluster.gather(sql, within=True), key=str) == sorted(expected, key=str)


def test_a_view_that_reads_rowids_is_refused() -> None:
    """As it may be run over a table that only looks like one with rowids."""
    cluster = Cluster()
    view = 'CREATE VIEW w AS SELECT "rowid" AS r FROM t'
    cluster.add("one", f"CREATE TABLE t (a); {view}", {"t": [(1,)]})
    with pytest.raises(errors.BadSql, match="a view names the rowid of t"):
        cluster.gather("SELECT r FROM w", within=True)


@pytest.mark.parametrize(
    ("sql", "rows"),
    [
        ("SELECT rowid, a IN w FROM t", [(1, 1), (1, 1), (2, 0)]),
        ("SELECT t.rowid, w.r FROM t JOIN w ON w.r < t.a", [(2, 1)]),
        ("SELECT t.oid FROM t LEFT JOIN w ON w.r = t.oid WHERE w.r IS NULL", [(1,), (2,)]),
    ],
)
def test_a_rowid_may_be_named_beside_a_view(sql: str, rows: list) -> None:
    """The view names none."""
    cluster = Cluster()
    view = "CREATE VIEW w AS SELECT a AS r FROM t WHERE a IN (1, 7)"
    cluster.add("one", f"CREATE TABLE t (a); {view}", {"t": [(1,), (3,)]})
    cluster.add("two", f"CREATE TABLE t (a); {view}", {"t": [(7,)]})
    assert sorted(cluster.gather(sql, within=True)) == rows


TAGGED = "CREATE TABLE {} (k TEXT COLLATE NOCASE, v INTEGER, _segment TEXT)"
PAIRS = {
    "one": {"t": [("a", 1), ("B", 2), (None, 3)], "u": [("A", 5), ("b", 6), ("a", 7)]},
    "two": {"t": [("A", 4), ("c", 2)], "u": [("a", 8), ("c", None)]},
    "three": {"t": [("b", 9)], "u": []},
}
JOIN = "FROM t JOIN u ON t.k = u.k"
LEFT = "FROM t LEFT JOIN u ON t.k = u.k"
TAKEN_TOGETHER = [
    f"SELECT t.v, group_concat(u.v, '+' ORDER BY u.v) {JOIN} GROUP BY t.v ORDER BY 1",
    f"SELECT lower(t.k), group_concat(u.v, '+' ORDER BY u.v) {JOIN} GROUP BY t.k ORDER BY 1",
    f"SELECT t.v, u.v, rank() OVER (PARTITION BY t.k ORDER BY u.v, t.v) {JOIN} ORDER BY 1, 2",
    f"SELECT t.v, sum(u.v) OVER w {JOIN} WINDOW w AS (ORDER BY t.v, u.v) ORDER BY 1, 2",
    f"SELECT t.v, count(*) OVER (), row_number() OVER (ORDER BY t.v, u.v) {LEFT} ORDER BY 1, 3",
    f"SELECT DISTINCT lag(t.v) OVER (ORDER BY t.v, u.v) {JOIN} ORDER BY 1",
    f"SELECT min(u.v), max(u.v), count(*) {JOIN} ORDER BY 1",
    f"SELECT json_group_array(u.v ORDER BY u.v) {JOIN}",
    f"SELECT sum(u.v) FILTER (WHERE t.k = 'A') OVER (ORDER BY t.v, u.v) {JOIN} ORDER BY 1",
    f"SELECT t._segment || '/' || t.v, u.v {JOIN} ORDER BY 1, 2",
    f"SELECT t._segment, row_number() OVER (PARTITION BY t._segment ORDER BY t.v, u.v) {JOIN}"
    " ORDER BY 1, 2",
    f"SELECT t.v {JOIN} WHERE t._segment = 'two' OR u.v = 5 ORDER BY 1",
    f"SELECT t._segment, count(u.v) {LEFT} GROUP BY 1 HAVING count(*) > 1 ORDER BY 1",
    f"SELECT t.v {LEFT} WHERE t._segment < 'two' ORDER BY 1, u.v",
]


@pytest.mark.parametrize("sql", TAKEN_TOGETHER)
def test_what_needs_all_rows_has_them_behind_from_and_where(sql: str) -> None:
    """Windows, group_concat and the like are over the rows of all segments' joins; joins may
    say that the segments are the same."""
    cluster, union = Cluster(), sqlite_helpers.connect()
    for table in "tu":
        union.execute(TAGGED.format(table))
    for segment, tables in PAIRS.items():
        script = ";".join(TAGGED.format(table).replace(", _segment TEXT", "") for table in tables)
        cluster.add(segment, script, tables)
        for table, rows in tables.items():
            tagged = [(*row, segment) for row in rows]
            union.executemany(f"INSERT INTO {table} VALUES (?, ?, ?)", tagged)
    joined = sql.replace("ON t.k", "ON t._segment = u._segment AND t.k")
    expected = union.execute(joined).fetchall()
    assert cluster.gather(sql, within=True) == expected
    assert cluster.gather(joined, within=True) == expected


def test_a_subquery_is_computed_where_its_row_is() -> None:
    """And what it gives is taken together with the rest."""
    sql = (
        "SELECT k, (SELECT sum(u.v) FROM u WHERE u.k = t.k) AS s,"
        " rank() OVER (ORDER BY v) FROM t WHERE k IN (SELECT k FROM u) ORDER BY 3"
    )
    assert two_segments().gather(sql, within=True) == [(1, 5, 1), (1, 7, 2)]
    sql = "SELECT group_concat(v IN (SELECT v * 2 FROM u), '' ORDER BY v) FROM t"
    assert two_segments().gather(sql, within=True) == [("100",)]


PRAGMAS = [
    ("SELECT count(*) FROM pragma_table_info('t')", [(5,)]),
    (
        "SELECT _segment FROM pragma_table_info('t') GROUP BY _segment HAVING sum(name = 'b') = 0",
        [("two",)],
    ),
    (
        "SELECT p._segment, p.name FROM pragma_table_info('t') AS p WHERE p.name <> 'a' ORDER BY 1",
        [("one", "b"), ("three", "b")],
    ),
    ("SELECT name, count(*) FROM pragma_table_xinfo('t') GROUP BY name ORDER BY 1",
     [("a", 3), ("b", 2)]),
    ("SELECT type, count(*) FROM pragma_table_list WHERE name = 't' GROUP BY 1", [("table", 3)]),
    ("SELECT count(*) FROM t WHERE EXISTS (SELECT 1 FROM pragma_table_info('t') WHERE name = 'b')",
     [(3,)]),
]  # fmt: skip


@pytest.mark.parametrize(("sql", "rows"), PRAGMAS)
def test_what_a_pragma_says_about_each_segments_tables(
    sql: str, rows: list[tuple[Any, ...]]
) -> None:
    """Which segments lack a column, and the like."""
    cluster = Cluster()
    cluster.add("one", "CREATE TABLE t (a, b)", {"t": [(1, 1), (2, 2)]})
    cluster.add("two", "CREATE TABLE t (a)", {"t": [(1,)]})
    cluster.add("three", "CREATE TABLE t (b, a)", {"t": [(1, 1)]})
    cluster.add("four", "CREATE TABLE u (a)", {})
    assert cluster.gather(sql, within=True) == rows


@pytest.mark.parametrize("sql", ["SELECT 1 FROM pragma_table_info('t')", "PRAGMA table_info(t)"])
def test_a_pragma_over_the_union_is_refused(sql: str) -> None:
    """The union's tables have no definition of their own."""
    with pytest.raises(errors.ForbiddenSql, match="only reads"):
        two_segments().gather(sql)


def test_other_pragmas_are_refused_within_segments() -> None:
    """Only those that describe tables are read."""
    for name in ("database_list", "user_version", "integrity_check"):
        with pytest.raises(errors.TroughError, match=r"only reads|no such table"):
            two_segments().gather(f"SELECT * FROM pragma_{name}", within=True)


PARTNERS = (
    "CREATE TABLE a (k, x INTEGER, z TEXT); CREATE TABLE b (k, y, x INTEGER);CREATE TABLE c (k, w)"
)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT a.z, b.y FROM (a JOIN b ON a.k = b.k)",
        "SELECT a.z, b.y FROM ((a JOIN b USING (k)))",
        "SELECT * FROM (a)",
        "SELECT * FROM (a LEFT JOIN b ON a.k = b.k) JOIN (c) ON c.k = a.k",
        "SELECT * FROM ((a AS q JOIN b USING (k)) LEFT JOIN c USING (k))",
        "SELECT k FROM a RIGHT JOIN b USING (k)",
        "SELECT * FROM a RIGHT JOIN b USING (k)",
        "SELECT a.k, b.k, k, * FROM a FULL JOIN b USING (k)",
        "SELECT * FROM a NATURAL RIGHT JOIN b",
        "SELECT k || '!', a.* FROM a NATURAL FULL JOIN b",
        "SELECT k, z, y, w FROM a FULL JOIN b USING (k) FULL JOIN c USING (k)",
        "SELECT k, w FROM a FULL JOIN b USING (k, x) LEFT JOIN c USING (k)",
        "SELECT k FROM a LEFT JOIN b USING (k) RIGHT JOIN c USING (k)",
    ],
)
def test_common_columns_and_parentheses_of_joins(sql: str) -> None:
    """Within segments: the rows of each segment. Without: those of SQLite over all."""
    cluster = Cluster()
    cluster.add(
        "s0",
        PARTNERS,
        {
            "a": [(1, 2, "p"), (2, 3, "q"), (None, 5, "r")],
            "b": [(1, "m", 2), (7, "n", 3)],
            "c": [(1, 5), (2, 6), (8, None)],
        },
    )
    rows = {"a": [(1, 7, "P"), (7, 3, "q")], "b": [(2, "M", 3), (7, "n", None)], "c": [(7, 5)]}
    cluster.add("s1", PARTNERS, rows)
    cluster.add("s2", "CREATE TABLE b (y, k); CREATE TABLE c (k, w)", {"b": [("v", 9)]})
    expected = union_of(cluster, PARTNERS).execute(sql).fetchall()
    assert exact_rows(cluster.gather(sql), False) == exact_rows(expected, False)
    whole = []
    for name in cluster.segments:
        alone = Cluster({name: cluster.segments[name]})
        whole += union_of(alone, PARTNERS).execute(sql).fetchall()
    assert exact_rows(cluster.gather(sql, within=True), False) == exact_rows(whole, False)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT count(*) FROM c, (a JOIN b USING (k))",
        "SELECT w, z FROM c LEFT JOIN (a JOIN b ON a.k = b.k) ON c.k = a.k",
        "SELECT q.k FROM (a JOIN b USING (k)) AS q",
    ],
)
def test_a_join_in_parentheses_on_the_right_names_no_rowid(sql: str) -> None:
    """SQLite says of one that it reads rowids, which nobody asked for."""
    cluster = Cluster()
    cluster.add("s0", PARTNERS, {"a": [(1, 2, "p")], "b": [(1, "m", 2)], "c": [(1, 5), (2, 6)]})
    cluster.add("s1", PARTNERS, {"a": [(2, 2, "p")], "b": [(2, "m", 2)]})
    expected = union_of(cluster, PARTNERS).execute(sql).fetchall()
    assert exact_rows(cluster.gather(sql), False) == exact_rows(expected, False)
    with pytest.raises(errors.BadSql, match=r"write \(SELECT"):
        cluster.gather(sql, within=True)


PAIR = "CREATE TABLE a (k, x); CREATE TABLE b (k, y)"


@pytest.fixture(scope="module")
def pair() -> Cluster:
    """Two segments; some rows have no partner."""
    cluster = Cluster()
    cluster.add("s0", PAIR, {"a": [(1, 2), (2, 3), (5, 5)], "b": [(1, "m"), (7, "n")]})
    cluster.add("s1", PAIR, {"a": [(1, 7), (7, 3)], "b": [(2, "M"), (7, None)]})
    return cluster


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT a.k FROM a LEFT JOIN b ON a.k = b.k WHERE {a}._segment = {b}._segment",
        "SELECT b.k FROM a RIGHT JOIN b ON a.k = b.k WHERE {a}._segment = {b}._segment",
        "SELECT k FROM (SELECT a.k FROM a LEFT JOIN b ON a.k = b.k"
        " WHERE {a}._segment = {b}._segment)",
        "SELECT x FROM a WHERE EXISTS (SELECT 1 FROM a q LEFT JOIN b ON q.k = b.k"
        " WHERE {q}._segment = {b}._segment AND q.k = a.k)",
        "SELECT c.x FROM a LEFT JOIN b ON a.k = b.k JOIN a AS c ON {b}._segment = {c}._segment",
        "SELECT a.k, b.y FROM a LEFT JOIN b ON a.k = b.k AND {a}._segment = {b}._segment",
        "SELECT a.k, b.y FROM a FULL JOIN b ON {a}._segment = {b}._segment AND a.k = b.k",
        "SELECT k FROM a WHERE a.k IN (SELECT b.k FROM b WHERE {b}._segment = {a}._segment)",
        "SELECT a.k FROM a JOIN b ON a.k = b.k WHERE {a}._segment = {b}._segment",
    ],
)
def test_rows_that_an_outer_join_adds_are_of_no_segment(pair: Cluster, sql: str) -> None:
    """Of other rows that meet the segments are equal. It is answered so, or refused."""
    names = dict.fromkeys("abcq")
    asked = sql.format(**{name: name for name in names})
    # A row that is there has a rowid, and one of NULLs has none.
    told = sql.replace("._segment = {", "._segment + {").replace("}._segment", "}.rowid")
    told = told.format(**{name: name for name in names}).replace(".rowid + ", ".rowid > 0 AND ")
    whole = []
    for segment in pair.segments.values():
        whole += segment.execute(told.replace(".rowid)", ".rowid > 0)")).fetchall()
    try:
        got = pair.gather(asked, within=True)
    except errors.BadSql as error:
        assert "_segment" in error.message
        assert "LEFT" in sql or "RIGHT" in sql
    else:
        assert exact_rows(got, False) == exact_rows(whole, False)


def test_two_tables_may_have_one_name_in_two_subqueries() -> None:
    """A segment that lacks a column of one of them has NULL there, and only there."""
    script = "CREATE TABLE t (a, b); CREATE TABLE u (a, t)"
    cluster = Cluster()
    cluster.add("s0", script, {"t": [(1, 2), (3, 4)], "u": [(1, 1), (3, None)]})
    cluster.add("s1", "CREATE TABLE t (a, b); CREATE TABLE u (a)", {"t": [(1, 5)], "u": [(1,)]})
    sql = (
        "SELECT count(*) FROM (SELECT a FROM t WHERE b > 1) q WHERE a IN (SELECT t.a FROM t)"
        " AND a IN (SELECT t.a FROM u AS t WHERE t.t IS NULL OR t.t = 1)"
    )
    expected = union_of(cluster, script).execute(sql).fetchall()
    assert cluster.gather(sql) == expected
    rows = sql.replace("count(*)", "a")
    whole = []
    for name in cluster.segments:
        alone = union_of(Cluster({name: cluster.segments[name]}), script)
        whole += alone.execute(rows).fetchall()
    assert exact_rows(cluster.gather(rows, within=True), False) == exact_rows(whole, False)


@pytest.mark.parametrize(
    "sql",
    [
        'SELECT l."true", r.d FROM u AS l NATURAL FULL JOIN t AS r WHERE l."true" IS NOT 9',
        'SELECT l."true", l.n, r.d FROM u AS l JOIN t AS r USING (n) WHERE l."true" > 0',
        'SELECT "true" FROM u WHERE "true" = 1 AND n IN (SELECT n FROM t)',
    ],
)
def test_a_table_with_a_column_true_is_stood_for(sql: str) -> None:
    """SQLite numbers a column of a subquery that is called so."""
    script = 'CREATE TABLE t (n, d); CREATE TABLE u (n, c, "true" INT)'
    cluster = Cluster()
    cluster.add("s0", script, {"t": [(1, 2), (3, 4)], "u": [(1, 1, 1), (5, 5, 0)]})
    cluster.add("s1", "CREATE TABLE t (n, d)", {"t": [(1, 7)]})
    cluster.add("s2", 'CREATE TABLE t (n); CREATE TABLE u ("true" INT, n)', {"u": [(1, 3)]})
    whole = []
    for name in cluster.segments:
        alone = union_of(Cluster({name: cluster.segments[name]}), script)
        whole += alone.execute(sql).fetchall()
    assert exact_rows(cluster.gather(sql, within=True), False) == exact_rows(whole, False)
