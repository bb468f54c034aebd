"""GATHER against SQLite itself: whatever the segments hold, the answer is their union's."""

from __future__ import annotations

import math
from typing import Any

import pytest
from gather_support import Cluster
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from trough.gather import sqlite_helpers
from trough.sql.sqlite import sqlite3

TYPES = (
    "INTEGER",
    "TEXT COLLATE NOCASE",
    "REAL",
    "",
    "NUMERIC",
    "TEXT",
    "TEXT COLLATE RTRIM",
    "BLOB",
)
NAMES = ("a", "b", "c", "d", "e")

values = st.one_of(
    st.none(),
    st.integers(-3, 3),
    st.sampled_from([2**63 - 1, -(2**63), 2**62, -(2**62), 2**53 + 1, 10**15]),
    st.sampled_from([0.0, 1.0, 2.0, -1.5, 2.5, 0.1, 0.2, 0.7, 1e16, 1e300, 3.0]),
    st.sampled_from(
        ["a", "A", "b", "B", "a ", "ab", "", "1", "2", "1.0", "x'y", "é", "É", "1e1", "12ab"]
    ),
    st.sampled_from([b"", b"a", b"1", b"z\x00"]),
)


@st.composite
def tables(draw: Any) -> tuple[list[tuple[str, str]], list[dict[str, Any]]]:
    """Columns, and for each segment the columns it has and its rows; None for no table."""
    columns = [(name, draw(st.sampled_from(TYPES))) for name in NAMES[: draw(st.integers(2, 5))]]
    segments: list[Any] = []
    for _ in range(draw(st.integers(1, 4))):
        kind = draw(st.sampled_from(["whole"] * 6 + ["lacking", "missing"]))
        mine = list(columns)
        if kind == "lacking":
            mine.remove(draw(st.sampled_from(columns)))
            mine = list(draw(st.permutations(mine)))
        rows = draw(st.lists(st.tuples(*[values] * len(mine)), max_size=6))
        segments.append(None if kind == "missing" else (mine, rows))
    assume(any(each is not None for each in segments))
    return columns, segments


class Queries:
    """Draws queries over table t; what is in them decides how answers are compared."""

    def __init__(self, draw: Any, columns: list[str]) -> None:
        self.draw = draw
        self.columns = columns

    def one(self, *of: str) -> str:
        return self.draw(st.sampled_from(of))

    def column(self) -> str:
        return self.one(*self.columns)

    def literal(self) -> str:
        return self.one(
            "1", "0", "'a'", "'1'", "2.5", "NULL", "x'61'", "-1", "'B'", "9223372036854775807"
        )

    def row(self) -> str:
        c, d = self.column(), self.column()
        return self.one(
            c, c, c, f"+{c}", f"{c} + 1", f"lower({c})", f"substr({c}, 1, 1)", f"{c} || 'x'",
            f"CAST({c} AS TEXT)", f"CAST({c} AS INTEGER)",
            f"CASE WHEN {c} > 1 THEN 'hi' ELSE {d} END",
            f"typeof({c})", f"coalesce({c}, {d})", f"{c} COLLATE NOCASE", f"{c} = {d}",
            f"{c} IS NULL", f"{c} IS NOT NULL", f"length({c})", f"{c} % 3", f"nullif({c}, {d})",
            f"-{c}", f"{c} * 0.5", f"CAST({c} AS NUMERIC)", f"{c} BETWEEN 0 AND {d}", f"t.{c}",
        )  # fmt: skip

    def condition(self, depth: int = 0) -> str:
        if depth < 2 and self.draw(st.integers(0, 3)) == 0:
            word = self.one("AND", "OR")
            return f"({self.condition(depth + 1)}) {word} NOT ({self.condition(depth + 1)})"
        operator = self.one("=", "<>", "<", ">=", "IS", "IS NOT")
        return self.one(
            f"{self.row()} {operator} {self.literal()}",
            f"{self.column()} {operator} {self.column()}",
            f"{self.column()} IN ({self.literal()}, {self.literal()})",
            f"{self.column()} LIKE 'a%'",
            f"{self.column()} NOT BETWEEN {self.literal()} AND {self.literal()}",
            self.column(),
            "_segment = 's1'",
            "_segment IN ('s0', 's2', 'zz')",
        )

    def where(self) -> str:
        return f" WHERE {self.condition()}" if self.draw(st.booleans()) else ""

    def aggregate(self) -> tuple[str, bool]:
        """An aggregate, and whether its value may be any of several that are equal."""
        function, loose = self.draw(
            st.sampled_from(
                [
                    *(("count", False), ("sum", False), ("total", False), ("avg", False)),
                    *(("min", True), ("max", True)),
                ]
            )
        )
        if function == "count" and self.draw(st.booleans()):
            call = "count(*)"
        else:
            distinct = self.one("", "", "DISTINCT ")
            loose = loose or (distinct != "" and function != "count")
            call = f"{function}({distinct}{self.row()})"
        if self.draw(st.integers(0, 4)) == 0:
            call += f" FILTER (WHERE {self.row()} > {self.literal()})"
        return call, loose

    def alias(self) -> str:
        """An alias for an item: none, a new name, or one that a column has."""
        return self.one("", "", "", " AS x", f" AS {self.column()}")

    def limit(self) -> str:
        return self.one("", "", " LIMIT 3", " LIMIT 2 OFFSET 1", " LIMIT 0", " LIMIT -1 OFFSET 2")

    def order(self, items: list[str], exact_ties: bool, first: str = "") -> str:
        """An ORDER BY that leaves nothing to chance but rows that are equal."""
        count = len(items)
        places = self.draw(st.permutations(range(1, count + 1)))
        terms = [f"{first}{self.one('', ' DESC')}{self.one('', ' NULLS LAST')}"] if first else []
        for place in places:
            nulls = self.one("", "", " NULLS FIRST", " NULLS LAST")
            collate = self.one("", "", " COLLATE NOCASE") if exact_ties else ""
            terms.append(f"{place}{collate}{self.one('', ' DESC', ' ASC')}{nulls}")
        if exact_ties:
            terms += [f"{place} COLLATE BINARY" for place in places]
            # 1 and 1.0 are equal, too.
            terms += [f"typeof({item})" for item in items if item != "_segment"]
        return f" ORDER BY {', '.join(terms)}"


@st.composite
def plain_queries(draw: Any, columns: list[str]) -> tuple[str, list[bool]]:
    """Rows, some ordered and limited, some DISTINCT."""
    q = Queries(draw, columns)
    items = [q.row() for _ in range(draw(st.integers(1, 3)))]
    if draw(st.integers(0, 5)) == 0:
        items.append("_segment")
    distinct = draw(st.integers(0, 2)) == 0
    told = ", ".join(item + q.alias() for item in items)
    text = f"SELECT {'DISTINCT ' if distinct else ''}{told} FROM t{q.where()}"
    if draw(st.booleans()):
        first = "" if distinct else q.one("", q.row(), "x", f"x {q.one('IS', '<')} {q.column()}")
        first = first if "x" not in first.split() or " AS x" in told else ""
        text += q.order(items, not distinct, first) + q.limit()
    return text, [distinct] * len(items)


@st.composite
def grouped_queries(draw: Any, columns: list[str]) -> tuple[str, list[bool]]:
    """Aggregates, with and without groups."""
    q = Queries(draw, columns)
    keys = [q.row() for _ in range(draw(st.integers(0, 2)))]
    if draw(st.integers(0, 5)) == 0:
        keys.append("_segment")
    items = [(key, True) for key in keys]
    if keys and draw(st.integers(0, 3)) == 0:
        items.append((f"{keys[0]} {q.one('=', '<', 'IS')} {q.literal()}", False))
    for _ in range(draw(st.integers(1, 3))):
        call, loose = q.aggregate()
        if draw(st.integers(0, 4)) == 0:
            call = q.one(
                f"{call} > 1", f"coalesce({call}, 0) = 0", f"{call} IS NULL", f"7 / {call}",
                f"2 - {call} / 3", f"{call} || 'x'", f"-{call}", f"-1 << {call}",
            )  # fmt: skip
        items.append((call, loose))
    items = list(draw(st.permutations(items)))
    told = ", ".join(item + q.alias() for item, _ in items)
    text = f"SELECT {told} FROM t{q.where()}"
    if keys:
        text += f" GROUP BY {', '.join(keys)}"
    if draw(st.integers(0, 2)) == 0:
        text += f" HAVING {q.aggregate()[0]} {q.one('>', '<', 'IS NOT')} {q.one('1', '0', 'NULL')}"
    if draw(st.booleans()):
        first = q.one("", q.aggregate()[0], f"coalesce({q.aggregate()[0]}, 7)")
        text += q.order([item for item, _ in items], False, first) + q.limit()
    return text, [loose for _, loose in items]


@st.composite
def shipped_queries(draw: Any, columns: list[str]) -> tuple[str, list[bool]]:
    """What needs all rows at once."""
    q = Queries(draw, columns)
    c, d = q.column(), q.column()
    text = q.one(
        f"SELECT x.{c}, y.{d} FROM t x JOIN t y ON x.{c} = y.{c}{q.where().replace('t.', 'x.')}",
        f"SELECT {c}, count(*) OVER (PARTITION BY {c}) FROM t{q.where()}",
        f"SELECT {c} FROM t WHERE {d} IN (SELECT {c} FROM t)",
        f"SELECT {c} FROM t UNION SELECT {d} FROM t",
        f"SELECT {c} FROM t WHERE {q.condition()} EXCEPT SELECT {d} FROM t",
        f"WITH w AS (SELECT {c} AS k, count(*) AS n FROM t GROUP BY 1) SELECT sum(n) FROM w",
        f"SELECT (SELECT count(*) FROM t AS u WHERE u.{c} = t.{c}), {d} FROM t{q.where()}",
        f"SELECT count(*) FROM (SELECT DISTINCT {c}, {d} FROM t{q.where()})",
        f"SELECT x.{c} FROM t x LEFT JOIN t y ON x.{c} = y.{d} AND y.{d} > 0 WHERE x.{c} > 0",
    )
    return text, [True] * 3


def union_of(columns: list[tuple[str, str]], segments: list[Any], with_segment: bool) -> Any:
    """One database with the rows of all segments."""
    connection = sqlite_helpers.connect()
    told = [f"{name} {kind}" for name, kind in columns]
    connection.execute(f"CREATE TABLE t ({', '.join(told + ['_segment TEXT'] * with_segment)})")
    for number, segment in enumerate(segments):
        if segment is None:
            continue
        mine, rows = segment
        names = [name for name, _ in mine] + ["_segment"] * with_segment
        for row in rows:
            row = (*row, f"s{number}") if with_segment else row
            marks = ", ".join("?" * len(row))
            connection.execute(f"INSERT INTO t ({', '.join(names)}) VALUES ({marks})", row)
    return connection


def strict(value: Any) -> Any:
    """A value that equals only itself: 1 is not 1.0."""
    if isinstance(value, float):
        return ("real", repr(value + 0.0))
    return (type(value).__name__, value)


def loose(value: Any) -> Any:
    """A value that equals all that some collation holds for equal."""
    if isinstance(value, (int, float)):
        return ("number", float(value) if math.isinf(value) else value)
    if isinstance(value, str):
        return ("text", value.rstrip(" ").translate(_LOWER))
    return (type(value).__name__, value)


_LOWER = {code: code + 32 for code in range(ord("A"), ord("Z") + 1)}


def comparable(rows: list[tuple], how: list[bool], ordered: bool) -> list:
    told = [
        tuple(loose(v) if loosely else strict(v) for v, loosely in zip(row, how, strict=False))
        for row in rows
    ]
    return told if ordered else sorted(told, key=repr)


def check(columns: Any, segments: Any, sql: str, how: list[bool]) -> None:
    """The gathered answer is the union's, or both are refused for the same reason."""
    union = union_of(columns, segments, "_segment" in sql)
    try:
        expected = union.execute(sql).fetchall()
    except sqlite3.OperationalError as error:
        # Whether a sum overflows on its way depends on the order of the rows, in SQLite.
        assume("no such column" not in str(error))
        return
    cluster = Cluster()
    for number, segment in enumerate(segments):
        mine, rows = segment or ([("other", "")], [])
        table = "t" if segment else "u"
        ddl = f"CREATE TABLE {table} ({', '.join(' '.join(each) for each in mine)})"
        cluster.add(f"s{number}", ddl, {table: rows})
    got = cluster.gather(sql)
    ordered = "ORDER BY" in sql
    assert comparable(got, how, ordered) == comparable(expected, how, ordered)


CONFIGURATION = settings(
    max_examples=200, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True
)


def names_of(data: Any) -> list[str]:
    columns, segments = data
    there = {name for each in segments if each is not None for name, _ in each[0]}
    return [name for name, _ in columns if name in there]


def agrees(data: Any, queries: Any) -> None:
    table = data.draw(tables())
    sql, how = data.draw(queries(names_of(table)))
    check(*table, sql, how)


@pytest.mark.slow
@CONFIGURATION
@given(st.data())
def test_rows_are_the_unions(data: Any) -> None:
    """Rows, ordered and limited and DISTINCT, are those of one table of all rows."""
    agrees(data, plain_queries)


@pytest.mark.slow
@CONFIGURATION
@given(st.data())
def test_groups_are_the_unions(data: Any) -> None:
    """Groups and aggregates are those of one table of all rows."""
    agrees(data, grouped_queries)


@pytest.mark.slow
@CONFIGURATION
@given(st.data())
def test_shipped_rows_give_the_unions_answer(data: Any) -> None:
    """What needs all rows at once is answered as over one table of all rows."""
    agrees(data, shipped_queries)


JOINS = (
    "SELECT t.k, u.v FROM t JOIN u ON t.k = u.k WHERE t.v > 0 AND u.v IS NOT 2",
    "SELECT t.k, u.v FROM t LEFT JOIN u ON t.k = u.k WHERE u.v IS NULL OR t.v = 1",
    "SELECT t.v, count(u.k) FROM t, u WHERE t.v = u.v AND t.k <> 'a' GROUP BY t.v",
    "SELECT k FROM t WHERE v = (SELECT max(v) FROM u WHERE u.k = t.k AND u.v < 3)",
    "SELECT k, v FROM t WHERE v > 0 UNION ALL SELECT k, v FROM u WHERE v < 2",
    "SELECT count(*) FROM t FULL JOIN u USING (k) WHERE u.v > 1",
    "SELECT t.v FROM t LEFT JOIN u USING (k, v)",
    "SELECT 1 FROM t NATURAL JOIN u",
    "WITH t AS (SELECT k, v FROM u WHERE v > 1) SELECT k, v FROM t WHERE v < 3",
    "SELECT _segment FROM t WHERE v IN (SELECT v FROM u) AND k > 'a'",
    "SELECT x.k FROM t x JOIN u y ON x._segment = y._segment AND x.k = y.k",
)
KEYS = st.one_of(st.none(), st.integers(0, 3), st.sampled_from(["a", "A", "b", "1"]))
PAIRS = st.none() | st.lists(st.tuples(KEYS, KEYS), max_size=4)


@pytest.mark.slow
@CONFIGURATION
@given(st.lists(st.tuples(PAIRS, PAIRS), min_size=1, max_size=4), st.sampled_from(JOINS))
def test_joins_are_the_unions(segments: list[Any], sql: str) -> None:
    """Rows of all segments meet, of those tables that a segment has."""
    assume(all(any(each[place] is not None for each in segments) for place in (0, 1)))
    cluster, union = Cluster(), sqlite_helpers.connect()
    # Only where it is named: NATURAL JOIN would compare it as well.
    tagged = "_segment" in sql
    for table in "tu":
        more = ", _segment TEXT" if tagged else ""
        union.execute(f"CREATE TABLE {table} (k TEXT COLLATE NOCASE, v{more})")
    for number, pair in enumerate(segments):
        there = {table: rows for table, rows in zip("tu", pair, strict=True) if rows is not None}
        script = ";".join(f"CREATE TABLE {table} (k TEXT COLLATE NOCASE, v)" for table in there)
        cluster.add(f"s{number}", script, there)
        for table, rows in there.items():
            told = [(*row, f"s{number}") if tagged else row for row in rows]
            marks = "?, ?, ?" if tagged else "?, ?"
            union.executemany(f"INSERT INTO {table} VALUES ({marks})", told)
    expected = union.execute(sql).fetchall()
    assert comparable(cluster.gather(sql), [True] * 2, False) == comparable(
        expected, [True] * 2, False
    )
