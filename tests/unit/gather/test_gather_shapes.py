"""GATHER against SQLite over segments of every shape: tables without rowids, generated and
missing columns, names in any letters and case, and the expressions that people write.

Values are such that no two are equal and yet different to some comparison, so every answer
has to be SQLite's to the type of each value.
"""

from __future__ import annotations

from random import Random

import pytest
from gather_support import Cluster
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from test_gather_union import strict

from trough import errors
from trough.gather import sqlite_helpers
from trough.sql.sqlite import sqlite3

KINDS = {
    "i": ("INTEGER", [None, 0, 1, 2, -3, 7, 2**31, 2**53 + 1]),
    "r": ("REAL", [None, 0.5, -0.5, 2.25, 3.75, -7.125]),
    "s": ("TEXT COLLATE NOCASE", [None, "a", "b", "ab", "é", "", "it's", "2026-01-31", "[1,2]"]),
    "x": ("", [None, 4, 1.5, "q", "12ab", b"", b"\x00z"]),
}
#: Names of the columns of these kinds, and of the table.
NAMES = (
    ("a", "b", "c", "d", "t"),
    ("É", "é", "c c", "select", "T x"),
    ("\u212a", "k", 'x"y', "e`e", "é"),
    ("i", "İ", "ß", "[d]", "order"),
)


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


class Shapes:
    """Segments of one union, and that union: `columns` are its columns by kind."""

    def __init__(self, random: Random) -> None:
        *names, table = random.choice(NAMES)
        self.columns = dict(zip(KINDS, map(quoted, names), strict=True))
        self.table = quoted(table)
        self.cluster, self.union = Cluster(), sqlite_helpers.connect()
        told = [f"{name} {KINDS[kind][0]}" for kind, name in self.columns.items()]
        self.union.execute(f"CREATE TABLE {self.table} ({', '.join(told)}, made INT)")
        for number in range(random.randint(1, 4)):
            self._add(random, f"s{number}", random.sample(list(KINDS), len(KINDS)))

    def _add(self, random: Random, segment: str, kinds: list[str]) -> None:
        shape = random.choice(["plain", "plain", "keyed", "case", "made", "lacking"])
        if shape == "lacking" and self.cluster.segments:
            kinds = kinds[1:]
        names = [self.columns[kind] for kind in kinds]
        if shape == "case" and all(name.isascii() for name in [*names, self.table]):
            names = [name.upper() for name in names]
        told = [f"{name} {KINDS[kind][0]}" for name, kind in zip(names, kinds, strict=True)]
        if shape == "made":
            kind = random.choice(["STORED", "VIRTUAL"])
            told.append(f"made INT AS ({self.columns['i']} % 3) {kind}")
        key, without = f", PRIMARY KEY ({', '.join(names)})", " WITHOUT ROWID"
        key, without = (key, without) if shape == "keyed" else ("", "")
        connection = sqlite_helpers.connect()
        connection.execute(f"CREATE TABLE {self.table} ({', '.join(told)}{key}){without}")
        count = random.randint(0, 5)
        rows = [[random.choice(KINDS[kind][1]) for kind in kinds] for _ in range(count)]
        marks = ", ".join("?" * len(kinds))
        into = f"INTO {self.table} ({', '.join(names)}) VALUES ({marks})"
        connection.executemany(f"INSERT OR IGNORE {into}", rows)
        self.cluster.segments[segment] = connection
        names += ["made"] * (shape == "made")
        there = connection.execute(f"SELECT {', '.join(names)} FROM {self.table}").fetchall()
        marks = ", ".join("?" * len(names))
        into = f"INTO {self.table} ({', '.join(names)}) VALUES ({marks})"
        self.union.executemany(f"INSERT {into}", there)


class Expressions:
    """Draws expressions over the columns of :class:`Shapes`."""

    def __init__(self, random: Random, shapes: Shapes) -> None:
        self.random = random
        self.shapes = shapes

    def one(self, *of: str) -> str:
        return self.random.choice(of)

    def column(self, kinds: str = "irsx") -> str:
        return self.shapes.columns[self.one(*kinds)]

    def number(self, depth: int = 0) -> str:
        if depth > 1:
            return self.one(self.column("ir"), "2", "-1", "0x10", "NULL")
        a, b = self.number(depth + 1), self.number(depth + 1)
        return self.one(
            self.column("ir"), f"{a} {self.one('+', '-', '*', '/', '%', '&', '<<')} {b}", f"-{a}",
            f"abs({self.column('r')})", f"length({self.text(depth + 1)})", f"round({a}, 1)",
            f"CAST({self.column()} AS {self.one('INTEGER', 'REAL', 'NUMERIC', 'DECIMAL(9, 2)')})",
            f"CASE {a} WHEN 2 THEN {b} ELSE {a} END", f"iif({self.condition(2)}, {a}, {b})",
            f"coalesce({a}, {b})", f"max({a}, {b})", f"({a}, {b}) < (1, 2)",
            f"({self.condition(2)})", f"unixepoch({self.column('s')})",
            f"instr({self.column('s')}, 'b')", "0", "7",
        )  # fmt: skip

    def text(self, depth: int = 0) -> str:
        if depth > 1:
            return self.one(self.column("s"), "'a'", "''", "NULL")
        a, b = self.text(depth + 1), self.column()
        return self.one(
            self.column("s"), f"{a} || {a}", f"upper({a})", f"substr({a}, -1)", f"quote({b})",
            f"typeof({b})", f"CAST({b} AS TEXT)", f"date({a}, '+1 month')", f"json_array({a}, 1)",
            f"json_object('k', {a}) ->> 'k'", f"json_object('k', {a}) -> '$.k'", f"hex({a})",
            f"printf('%s|%d', {a}, {self.column('i')})", f"nullif({a}, 'b')", "'x'",
        )  # fmt: skip

    def any(self) -> str:
        return self.one(self.number(), self.text(), self.column())

    def condition(self, depth: int = 0) -> str:
        a = self.column()
        is_ = self.one("=", "<>", "<", ">=", "IS", "IS NOT", "IS DISTINCT FROM")
        parts = [
            f"{a} {is_} {self.one('2', chr(39) + 'B' + chr(39), 'NULL', self.column())}",
            f"{a} IN (1, 'A', 2.25, x'')", f"{a} NOT IN (SELECT 2)", f"{a} NOT BETWEEN 0 AND 'b'",
            f"{self.column('s')} LIKE 'A%'", f"{a} IS NOT NULL", f"({a}, 1) IS (2, 1)",
            f"{a} IN ()", f"{self.column('s')} = 'A' COLLATE BINARY", f"{a} REGEXP '^[a-z]'",
        ]  # fmt: skip
        told = self.one(*parts)
        if depth == 0:
            told = self.one(told, f"{told} {self.one('AND', 'OR')} NOT {self.condition(1)}")
        return told

    def aggregate(self) -> str:
        argument = self.number()
        distinct = self.one("", "", "DISTINCT ")
        text = self.text()
        call = self.one(
            "count(*)", f"count({distinct}{self.any()})", f"sum({distinct}{argument})",
            f"total({argument})", f"avg({distinct}{argument})", f"min({self.any()})",
            f"max({distinct}{argument})", f"max({text})",
            f"group_concat({text}, '-' ORDER BY {text} COLLATE BINARY)",
            f"json_group_array({text} ORDER BY {text} COLLATE BINARY)",
        )  # fmt: skip
        call += self.one("", "", f" FILTER (WHERE {self.condition()})")
        other = self.one("1", "'a'", "NULL")
        return self.one(
            call, call, call, f"{call} > {other}", f"coalesce({call}, {other})", f"typeof({call})",
            f"json_array({call})", f"{call} || '!'", f"CASE WHEN {call} IS {other} THEN 'x' END",
            f"-{call} / 2", f"{call} IN (1, 2)", f"CAST({call} AS TEXT) LIKE '%1%'",
        )  # fmt: skip

    def where(self) -> str:
        return self.one("", f" WHERE {self.condition()}")

    def order(self, count: int) -> str:
        """A total order, and how many of its rows."""
        places = self.random.sample(range(1, count + 1), count)
        terms = [f"{place}{self.one('', ' DESC', ' DESC NULLS LAST')}" for place in places]
        terms += [f"{place} COLLATE BINARY" for place in places]
        limit = self.one(
            "", " LIMIT 2", " LIMIT 1 + 1 OFFSET 1", " LIMIT (SELECT 3)", " LIMIT 1, 2"
        )
        return f" ORDER BY {', '.join(terms)}{limit}"

    def query(self) -> str:
        table, key, other = self.shapes.table, self.any(), self.any()
        rows = f"SELECT {self.one('', 'DISTINCT ')}{key}, {other} FROM {table}{self.where()}"
        groups = f"SELECT {key}, {self.aggregate()} FROM {table}{self.where()}"
        groups += f" GROUP BY {self.one('1', key)}"
        same = f"SELECT {self.column('i')}, {self.column('s')} FROM {table}{self.where()}"
        compound = self.one("UNION", "UNION ALL", "EXCEPT", "INTERSECT")
        having = f" HAVING {self.aggregate()} IS NOT NULL"
        return self.one(
            rows, rows + self.order(2), groups, groups + having, groups + self.order(2),
            f"SELECT {self.aggregate()}, {self.aggregate()} FROM {table}{self.where()}",
            f"SELECT {self.aggregate()} FROM {table}{having}",
            f"{same} {compound} {same}", f"{same} {compound} {same}{self.order(2)}",
            f"WITH w AS ({rows}) SELECT count(*), count(DISTINCT 1) FROM w",
            f"SELECT k, count(*) FROM (SELECT {key} AS k FROM {table}) GROUP BY k HAVING k > 0",
            f"SELECT {key} FROM {table} WHERE {self.column()} IN"
            f" (SELECT {self.column()} FROM {table})",
            f"SELECT made, {self.aggregate()} FROM {table} GROUP BY made",
            f"SELECT {key}, count(*) OVER (PARTITION BY {other}) FROM {table}",
        )  # fmt: skip


@pytest.mark.slow
@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True)
@given(st.randoms(use_true_random=True))
def test_every_shape_of_segment_is_the_unions(random: Random) -> None:
    """The answer is SQLite's over one table, value by value, or refused where that is."""
    shapes = Shapes(random)
    sql = Expressions(random, shapes).query()
    # A column that no segment has is refused; in double quotes the union has a text for it.
    there = [c.execute(f"SELECT * FROM {shapes.table}") for c in shapes.cluster.segments.values()]
    assume("made" not in sql or any(each.description[-1][0] == "made" for each in there))
    try:
        expected = shapes.union.execute(sql).fetchall()
    except sqlite3.OperationalError as error:
        try:
            shapes.cluster.gather(sql)
        except errors.BadRequest:
            return
        # Whether a sum overflows on its way depends on the order of the rows, in SQLite.
        assert "integer overflow" in str(error)
        return
    got = shapes.cluster.gather(sql)
    told, wanted = ([tuple(map(strict, row)) for row in rows] for rows in (got, expected))
    if "ORDER BY 1" in sql or "ORDER BY 2" in sql:
        assert told == wanted
    else:
        assert sorted(told, key=repr) == sorted(wanted, key=repr)
