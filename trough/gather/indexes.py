"""Indexes for the final step over shipped rows.

Segments have indexes, and the scratch database has none. SQLite makes an index by itself for a join
of two tables, but not below OR. For a correlated subquery it makes one again for each row. So
columns of tables that are compared with columns of other sources get an index.
"""

from __future__ import annotations

from collections.abc import Iterable

from sqlglot import exp

from trough.gather import sqlite_helpers
from trough.gather.scopes import source_of, table_of
from trough.gather.shipping import Shipped

#: In one query: each costs about as much as its table's rows did.
_MOST = 8


def join_indexes(tree: exp.Expr, shipped: Iterable[Shipped]) -> tuple[str, ...]:
    """Statements that create indexes for what a query joins.

    :param tree: in normal form
    """
    tables = {sqlite_helpers.folded(each.table.name): each for each in shipped}
    found: dict[tuple[str, str], None] = {}
    for node in tree.find_all(exp.EQ):
        sides = (node.this, node.expression)
        columns = [side for side in sides if isinstance(side, exp.Column)]
        if len(columns) < 2 or columns[0].table == columns[1].table:
            continue
        for column in columns:
            table = table_of(source_of(column))
            if table in tables and column.name in tables[table].columns:
                found[table, column.name] = None
    return tuple(
        f"CREATE INDEX `trough index {number}` ON "
        f"{sqlite_helpers.name(tables[table].table.name)} ({sqlite_helpers.name(column)})"
        for number, (table, column) in enumerate(list(found)[:_MOST])
    )
