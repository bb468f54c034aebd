"""Full-text indexes of fts5 in GATHER: what segments answer alone, and what has no answer.

Each segment has an index of its own. Whether a row matches depends on that row alone, so a query
over one index is divided like one over a table. How well a row matches (``rank``, ``bm25()``)
depends on all rows of an index, and no index covers all segments. Rows of an index are not shipped
either: ``MATCH`` would have nothing to search there.
"""

from __future__ import annotations

from collections.abc import Iterable

from sqlglot import exp

from trough import errors
from trough.gather.schema import SegmentSchema
from trough.gather.scopes import source_of, table_of
from trough.gather.shipping import Shipped
from trough.gather.sqlite_helpers import folded
from trough.gather.union_database import Prepared

#: Functions whose first argument is the index.
_OF_INDEXES = frozenset({"bm25", "highlight", "snippet"})


def check_ranks(prepared: Prepared, schema: SegmentSchema, within: bool) -> None:
    """Refuse what depends on all rows of an index, but for each segment's own.

    :raises trough.errors.BadSql: there is no such index of all segments
    """
    indexes = {name for name in prepared.tables if _is_index(schema, name)}
    ranks = sorted(name for name in indexes if (name, "rank") in prepared.reads)
    if within or not indexes or not (ranks or "bm25" in prepared.functions):
        return
    raise errors.BadSql(
        f"rank and bm25() of {min(ranks or indexes)} count the rows of one segment's index, and "
        "no index has those of all segments",
        "GATHER WITHIN SEGMENTS answers with each segment's own; or order by a column",
    )


def check_hidden(tree: exp.Expr, schema: SegmentSchema) -> None:
    """Refuse the column that is called as its index is, but where it stands for the index.

    :param tree: in normal form
    :raises trough.errors.BadSql: its value means nothing
    """
    indexes = {name for name in schema.tables if _is_index(schema, name)}
    for column in tree.find_all(exp.Column) if indexes else ():
        name = folded(column.name)
        if name not in indexes or table_of(source_of(column)) != name:
            continue
        parent = column.parent
        matched = isinstance(parent, exp.Match) and parent.this is column
        given = isinstance(parent, exp.Anonymous) and parent.name.lower() in _OF_INDEXES
        if not matched and not given:
            raise errors.BadSql(
                f"{name}.{name} is the full-text index itself and has no value",
                f"{name} MATCH '...' searches in it",
            )


def check_shipped(shipped: Iterable[Shipped], reason: str) -> None:
    """Refuse to ship rows of an index.

    :param reason: why the query is not divided
    :raises trough.errors.BadSql: an index is among the tables
    """
    for each in shipped:
        if each.table.is_index:
            raise errors.BadSql(
                f"{each.table.name} is a full-text index of each segment, and the query is not "
                f"divided: {reason}",
                f"search in a subquery, FROM (SELECT ... FROM {each.table.name} WHERE "
                f"{each.table.name} MATCH '...'), or GATHER WITHIN SEGMENTS",
            )


def _is_index(schema: SegmentSchema, name: str) -> bool:
    table = schema.tables.get(name)
    return table is not None and table.is_index
