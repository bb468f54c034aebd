"""The text that a segment runs, for segments of any shape.

Every text begins with a guard: where the segment's tables are not the ones that the text
was made for, it answers with its schema instead of rows. So thousands of segments of one
shape cost one pass, and one of another shape cannot slip in unseen. For such a segment
the text is made again, with NULL for a column that it lacks and no rows for a table.

The schema comes in a column of its own, the last one, in which every row of data has NULL:
no value in a segment can be taken for a schema.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from sqlglot import exp

from trough.gather import sqlite_helpers
from trough.gather.dialect import parse
from trough.gather.pushdown import Adapt, Pushdown
from trough.gather.schema import SCHEMA_VALUE, Schema, Table
from trough.sql.statements import quoted

_OBJECT = "FROM sqlite_schema WHERE type IN ('table', 'view') AND name = {} COLLATE NOCASE"


@dataclass(frozen=True, slots=True)
class Ask:
    """What a plan asks of a segment.

    :ivar sql: the text
    :ivar core: the part of it behind the guard
    :ivar width: number of columns of a row of data, without the schema's
    :ivar exact: it is the exact form
    """

    sql: str
    core: str
    width: int
    exact: bool = False


def guard(tables: Iterable[str], variant: Schema, width: int) -> str:
    """A SELECT that answers the schema behind `width` columns of NULL, in a segment whose
    `tables` are not as in `variant`, and else nothing.

    :param tables: names in lower case
    """
    conditions = []
    for name in sorted(tables):
        table = variant.tables.get(name)
        there = _OBJECT.format(quoted(table.name if table else name))
        if table is None:
            conditions.append(f"NOT EXISTS (SELECT 1 {there})")
        else:
            conditions.append(f"(SELECT sql {there}) IS {quoted(table.sql)}")
    # Names of their own, for answers that come as objects.
    nulls = "".join(f"NULL AS c{place}, " for place in range(width))
    schema = f"({SCHEMA_VALUE}) AS c{width}"
    return f"SELECT {nulls}{schema} WHERE NOT ({' AND '.join(conditions)})"


def guarded(
    core: str, tables: frozenset[str], variant: Schema, width: int, exact: bool = False
) -> Ask:
    """What a segment is asked that should be of the shape `variant`.

    :param core: a SELECT of `width` columns
    """
    text = f"{guard(tables, variant, width)} UNION ALL SELECT *, NULL FROM ({core})"
    return Ask(text, core, width, exact)


def guard_only(tables: frozenset[str], variant: Schema) -> Ask:
    """Asks a segment that has nothing to say if it is of the shape `variant` whether it is."""
    return Ask(guard(tables, variant, 1), "", 1)


def pushed_text(
    pushed: Pushdown, tables: frozenset[str], union: Schema, variant: Schema, exact: bool
) -> Ask | None:
    """What a segment runs of a query that is divided; None where it has nothing to say."""
    relation = pushed.relation
    if relation.only_table and relation.only_table not in variant.tables:
        return None
    width = _width(pushed, exact)
    changed = _changed(tables, union, variant)
    core = pushed.core(_adapter(changed), exact)
    return guarded(core, tables, variant, width, exact)


def _width(pushed: Pushdown, exact: bool) -> int:
    return max(1, len(pushed.asked(exact)))


def _changed(tables: frozenset[str], union: Schema, variant: Schema) -> dict[str, str]:
    """What makes tables of `variant` look like those of `union`, where they do not."""
    return {
        name: replaced
        for name in sorted(tables)
        if (replaced := look_alike(union.tables.get(name), variant.tables.get(name)))
    }


def _adapter(changed: dict[str, str]) -> Adapt:
    """Changes a tree so that it reads SELECTs in the place of tables."""
    if not changed:
        return lambda node: node
    return lambda node: node.transform(_replacer(changed))


def _replacer(changed: dict[str, str]) -> Callable[[exp.Expr], exp.Expr]:
    def replace(node: exp.Expr) -> exp.Expr:
        # Only tables of the union are written with a database.
        key = sqlite_helpers.folded(node.name) if isinstance(node, exp.Table) and node.db else ""
        if key not in changed:
            return node
        query = parse(changed[key])
        assert query is not None
        return exp.Subquery(this=query, alias=node.args["alias"].copy())

    return replace


def look_alike(whole: Table | None, table: Table | None) -> str | None:
    """A SELECT that gives `table` the columns of `whole`; None where it has them as it is."""
    if whole is None or whole.is_view:
        return None
    mine = table.column_names if table is not None else frozenset()
    if table is not None and mine == whole.column_names:
        # Their order does not matter, as the normal form names every column.
        return None
    columns = [
        sqlite_helpers.name(column.name)
        if sqlite_helpers.folded(column.name) in mine
        else f"NULL AS {sqlite_helpers.name(column.name)}"
        for column in whole.columns
    ]
    if table is None:
        return f"SELECT {', '.join(columns)} WHERE 0"
    # A table of WITH may stand in its place.
    return f"SELECT {', '.join(columns)} FROM main.{sqlite_helpers.name(table.name)}"
