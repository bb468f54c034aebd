"""GATHER reads names as SQLite does, whatever letters they are written in."""

from __future__ import annotations

from typing import Any

import pytest
from gather_support import Cluster

from trough.gather import GatherSession
from trough.sql.sqlite import sqlite3

KELVIN = "\u212a"


@pytest.mark.parametrize(("first", "second"), [("É", "é"), (KELVIN, "k"), ("İ", "i̇")])
def test_only_the_letters_a_to_z_lose_their_case(first: str, second: str) -> None:
    """Two columns that SQLite tells apart are two, though other tools would fold their names."""
    cluster = Cluster()
    columns = (f'"{first}" INTEGER', f'"{second}" TEXT COLLATE NOCASE')
    cluster.add("one", f"CREATE TABLE t ({', '.join(columns)})", {"t": [(1, "a"), (2, "b")]})
    cluster.add("two", f"CREATE TABLE t ({', '.join(columns[::-1])})", {"t": [("A", 3)]})
    rows = f'SELECT "{first}", "{second}" FROM t ORDER BY 1'
    assert cluster.gather(rows) == [(1, "a"), (2, "b"), (3, "A")]
    groups = f'SELECT sum("{first}"), count(*) FROM t GROUP BY "{second}" ORDER BY 1'
    assert cluster.gather(groups) == [(2, 1), (4, 2)]
    shipped = f'SELECT group_concat("{second}", "" ORDER BY "{first}") FROM t'
    assert cluster.gather(shipped) == [("abA",)]


def test_tables_whose_names_only_look_alike_are_two() -> None:
    """The same holds for tables: each has its own rows and columns."""
    cluster = Cluster()
    cluster.add("one", "CREATE TABLE É (a); CREATE TABLE é (b)", {"É": [(1,)], "é": [(2,), (3,)]})
    cluster.add("two", "CREATE TABLE é (b)", {"é": [(4,)]})
    assert cluster.gather("SELECT sum(a) FROM É") == [(1,)]
    assert cluster.gather("SELECT É.a, é.b FROM É JOIN é ON é.b > 2 ORDER BY 2") == [(1, 3), (1, 4)]


@pytest.mark.parametrize(
    ("sql", "parameters"),
    [
        ("SELECT ?, ?2 + count(*), 'a' FROM t", (1, 2)),
        ("SELECT ?1 FROM t", (1,)),
        ("SELECT ?, a FROM t ORDER BY 1", (1,)),
        ("SELECT :x, $x || a, @x AS y FROM t", {"x": 1}),
        ("SELECT ?, (SELECT ? FROM t) FROM t", (1, 2)),
    ],
)
def test_columns_of_parameters_are_called_as_they_were_written(sql: str, parameters: Any) -> None:
    """A parameter becomes another one on its way, which no name of a column shows."""
    cluster, union = Cluster(), sqlite3.connect(":memory:")
    cluster.add("one", "CREATE TABLE t (a)", {"t": [(1,)]})
    union.execute("CREATE TABLE t (a)")
    expected = union.execute(sql, parameters).description
    gathering = GatherSession(sql, ["one"], parameters)
    cluster.answer(gathering)
    assert list(gathering.names) == [each[0] for each in expected]


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT main.t.a FROM main.t WHERE main.t.a > 0 ORDER BY main.t.a",
        "SELECT main.t.a FROM t WHERE main.t.a > 0 AND random() IS NOT NULL ORDER BY 1",
        "SELECT a FROM t WHERE a IN (SELECT main.t.a FROM main.t WHERE main.t.a > 0) ORDER BY a",
        "SELECT sum(DISTINCT main.t.a) FROM main.t WHERE a > 0 GROUP BY main.t.a ORDER BY 1",
        "WITH t AS (SELECT 5 AS a) SELECT main.t.a FROM main.t WHERE main.t.a > 0 ORDER BY 1",
    ],
)
def test_names_may_say_that_they_are_of_the_main_database(sql: str) -> None:
    """Also in segments whose tables lack a column, where something else stands for the table."""
    cluster = Cluster()
    cluster.add("one", "CREATE TABLE t (a, b)", {"t": [(0, 0), (2, 0)]})
    cluster.add("two", "CREATE TABLE t (a)", {"t": [(1,)]})
    assert cluster.gather(sql) == [(1,), (2,)]
