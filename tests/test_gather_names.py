"""GATHER reads names as SQLite does, whatever letters they are written in."""

from __future__ import annotations

import pytest
from gather_support import Cluster

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
