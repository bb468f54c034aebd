"""Random segments for the search of GATHER: tables, views, rows, and shapes that differ."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

from gather_support import Cluster, tables_of, union_of

from trough.gather import sqlite_helpers

#: Names of columns; those of the second line are hard to read without care.
PLAIN = ("a", "b", "c", "d", "x", "y", "n")
ODD = ("select", "current_date", "order by", "now", "true", "b c", "count", "_x", "A b", "é", "t")
TYPES = (
    "INTEGER", "TEXT", "REAL", "", "NUMERIC", "TEXT COLLATE NOCASE", "INT", "BLOB", "VARCHAR(9)",
)  # fmt: skip
TEXTS = (
    "x", "X", "y", "z", "a", "1", "2", "10", "", "x ", "now", "2001-02-03", "é", "x'y", "%",
    "[1,2]",
)  # fmt: skip


@dataclass
class World:
    """Segments, and SQLite databases with all of their rows, inserted in different orders.

    :ivar tables: names of columns by table or view
    :ivar conflicts: segments declare a column in different ways
    :ivar index: columns of the full-text index ``f``, if there is one
    :ivar kinds: how segments declare each column of each table
    """

    cluster: Cluster
    unions: list[Any]
    tables: dict[str, list[str]]
    script: str
    conflicts: bool = False
    index: list[str] = field(default_factory=list)
    kinds: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    parts: list[tuple[str, dict[str, list[tuple[Any, ...]]]]] = field(default_factory=list)

    def respread(self, rng: random.Random) -> Cluster:
        """Other segments with the same rows."""
        cluster = Cluster()
        count = rng.randint(1, 4)
        spread: list[dict[str, list[tuple[Any, ...]]]] = [{} for _ in range(count)]
        for table, rows in self.rows().items():
            for row in rows:
                spread[rng.randrange(count)].setdefault(table, []).append(row)
        for number, rows_of in enumerate(spread):
            cluster.add(f"r{number}", self.script, rows_of)
        return cluster

    def alone(self, segment: str) -> Any:
        """A database with the rows of one segment, and all tables."""
        return union_of(Cluster({segment: self.cluster.segments[segment]}), self.script)

    def shuffled(self, rng: random.Random) -> Any:
        """A database with all rows, in another order."""
        union = sqlite_helpers.connect()
        union.executescript(self.script)
        for table, rows in self.rows().items():
            for row in rng.sample(rows, len(rows)):
                marks = ", ".join("?" * len(row))
                union.execute(f"INSERT INTO {quoted(table)} VALUES ({marks})", row)
        return union

    def rows(self) -> dict[str, list[tuple[Any, ...]]]:
        """All rows of the union's tables."""
        union = self.unions[0]
        return {
            name: union.execute(f'SELECT * FROM "{name}"').fetchall() for name in tables_of(union)
        }


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def value(rng: random.Random, declared: str) -> Any:
    """A value for a column; sums of the reals are exact in any order."""
    kind = rng.random()
    if kind < 0.15:
        return None
    if kind < 0.3:
        return rng.choice(
            [rng.choice(TEXTS), rng.randint(-3, 9), rng.randint(-8, 8) / 4, b"x", b"1"]
        )
    if "TEXT" in declared or "CHAR" in declared:
        return rng.choice(TEXTS)
    if declared == "REAL":
        return rng.randint(-12, 12) / 4
    return rng.randint(-3, 9)


def world(rng: random.Random) -> World:
    """One world."""
    columns: dict[str, list[tuple[str, str]]] = {}
    for table in ("t", "u", "w"):
        names = rng.sample(PLAIN, 1 if table == "w" else rng.randint(2, 4))
        names += rng.sample(ODD, rng.choice([0, 0, 1, 2])) if table != "w" else []
        columns[table] = [(name, rng.choice(TYPES)) for name in names]
    views = _views(rng, columns)
    tables = {table: [name for name, _ in each] for table, each in columns.items()}
    script = "".join(_create(table, each) for table, each in columns.items())
    made = World(Cluster(), [], tables, script + "".join(text for _, text, _ in views))
    for name, _, names in views:
        tables[name] = names
    if rng.random() < 0.3:
        made.index = rng.sample(PLAIN, rng.randint(1, 2))
        made.script += _create_index(made.index)
    changing = (
        {(table, rng.choice(tables[table])) for table in rng.sample("tu", rng.randint(0, 2))}
        if rng.random() < 0.25
        else set()
    )
    for number in range(rng.randint(1, 4)):
        _segment(rng, made, f"s{number}", columns, views, changing)
    made.conflicts = any(len(set(map(_kind, made.kinds[key]))) > 1 for key in changing)
    if changing:
        untyped = {
            table: [(name, _united(made.kinds, (table, name), kind)) for name, kind in each]
            for table, each in columns.items()
        }
        made.script = "".join(_create(table, each) for table, each in untyped.items())
        made.script += "".join(text for _, text, _ in views)
        made.script += _create_index(made.index) if made.index else ""
    segments = list(made.cluster.segments.items())
    for order in (segments, segments[::-1], rng.sample(segments, len(segments))):
        made.cluster.segments = dict(order)
        made.unions.append(union_of(made.cluster, made.script))
    made.cluster.segments = dict(segments)
    return made


def _kind(declared: str) -> tuple[str, str]:
    """Affinity and collation of a declaration, as far as comparisons can tell."""
    affinity = "none" if declared in ("", "BLOB") else "text"
    affinity = "real" if declared == "REAL" else affinity
    affinity = "number" if declared in ("INTEGER", "INT", "NUMERIC") else affinity
    return affinity, declared.partition("COLLATE")[2]


def _united(kinds: dict[tuple[str, str], list[str]], key: tuple[str, str], declared: str) -> str:
    """How the union declares a column; not at all where segments disagree: each value is there
    as it is stored."""
    found = kinds.get(key, [declared])
    return found[0] if len(set(map(_kind, found))) == 1 else ""


def _create(table: str, columns: list[tuple[str, str]], more: str = "") -> str:
    listed = ", ".join(f"{quoted(name)} {declared}" for name, declared in columns)
    return f"CREATE TABLE {table} ({listed}){more};\n"


def _create_index(columns: list[str]) -> str:
    return f"CREATE VIRTUAL TABLE f USING fts5({', '.join(columns)});\n"


def _views(
    rng: random.Random, columns: dict[str, list[tuple[str, str]]]
) -> list[tuple[str, str, list[str]]]:
    t, u, w = ([name for name, _ in columns[table]] for table in "tuw")
    first, last = quoted(t[0]), quoted(t[-1])
    joined = f"SELECT {first}, {quoted(u[0])} FROM t, u WHERE {last} = {quoted(u[-1])}"
    made = [
        ("v", "SELECT * FROM t", t),
        ("v2", f"SELECT {first} AS k, count(*) AS n FROM t GROUP BY {first}", ["k", "n"]),
        ("v3", f"SELECT {last} AS k FROM v WHERE {first} > 1", ["k"]),
        ('v4(p, "q r")', joined, ["p", "q r"]),
        ("v5", f"WITH t AS (SELECT {quoted(w[0])} AS z FROM w) SELECT z FROM t", ["z"]),
        ("v6", f"SELECT {first} AS i FROM t UNION ALL SELECT {quoted(w[0])} FROM w", ["i"]),
    ]  # fmt: skip
    return [
        (name.partition("(")[0], f"CREATE VIEW {name} AS {text};\n", names)
        for name, text, names in rng.sample(made, rng.randint(0, 4))
        if not (text.count("FROM v") and "v" not in [each[0] for each in made[:1]])
    ]


def _segment(
    rng: random.Random,
    made: World,
    name: str,
    columns: dict[str, list[tuple[str, str]]],
    views: list[tuple[str, str, list[str]]],
    changing: set[tuple[str, str]],
) -> None:
    script, rows = "", {}
    whole = not made.cluster.segments
    for table, listed in columns.items():
        mine = [
            (name, rng.choice(TYPES) if (table, name) in changing else declared)
            for name, declared in listed
        ]
        if not whole and rng.random() < 0.15:
            continue
        if not whole and rng.random() < 0.25:
            rng.shuffle(mine)
        if not whole and len(mine) > 1 and rng.random() < 0.25:
            mine.remove(rng.choice(mine))
        for column, declared in mine:
            made.kinds.setdefault((table, column), []).append(declared)
        script += _create(table, mine)
        rows[table] = [
            tuple(value(rng, declared) for _, declared in mine) for _ in range(rng.randint(0, 5))
        ]
    script += "".join(text for _, text, _ in views if whole or rng.random() < 0.8)
    if made.index and (whole or rng.random() < 0.85):
        script += _create_index(made.index)
        rows["f"] = [
            tuple(" ".join(rng.choices(TEXTS, k=rng.randint(1, 4))) for _ in made.index)
            for _ in range(rng.randint(0, 5))
        ]
    made.cluster.add(name, script, rows)
    made.parts.append((script, rows))
