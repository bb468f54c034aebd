"""Columns that segments declare in different ways: what a query may still ask of them.

In the union each value of such a column is as its segment stored it, and it is undefined how the
column compares. Most uses do not depend on that: its value, whether it is NULL, a cast of it.
SQLite decides: it compiles the query with the column declared as in each segment. If all programs
are the same, nothing in the query depends on the declaration.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from trough.gather.schema import Column, SegmentSchema
from trough.gather.sqlite_helpers import folded
from trough.gather.union_database import UnionDatabase

#: Reading a REAL column takes one instruction more, and comparing it is comparing numbers.
_COMPARED = {"INT": "NUM", "REAL": "NUM"}


def deciding_conflict(
    sql: str,
    parameters: Mapping[str, Any],
    schema: SegmentSchema,
    reads: Iterable[tuple[str, str]],
    with_segment: bool,
) -> str:
    """What segments disagree about that the answer depends on; or empty.

    :param schema: the union, in which such columns have no type
    :param reads: pairs of table and column in lower case
    """
    met = sorted(key for key in reads if key in schema.conflicts)
    if not met:
        return ""
    program = _program(sql, parameters, schema, with_segment)
    ways = {key: _ways(schema, key) for key in met}
    for key in met:
        for column in ways[key]:
            if _program(sql, parameters, _declared(schema, {key: column}), with_segment) != program:
                return schema.conflicts[key]
    # Together as well: two columns that are compared are so by both declarations.
    for place in range(max(map(len, ways.values()))):
        columns = {key: columns[place % len(columns)] for key, columns in ways.items()}
        if _program(sql, parameters, _declared(schema, columns), with_segment) != program:
            return schema.conflicts[met[0]]
    return ""


def _ways(schema: SegmentSchema, key: tuple[str, str]) -> list[Column]:
    declared = schema.declared[key]
    compared = {
        (_COMPARED.get(each.affinity, each.affinity), each.collation): each for each in declared
    }
    return [
        replace(each, affinity=affinity, collation=collation)
        for (affinity, collation), each in sorted(compared.items())
    ]


def _declared(schema: SegmentSchema, columns: Mapping[tuple[str, str], Column]) -> SegmentSchema:
    """The union with columns declared otherwise."""
    tables = dict(schema.tables)
    for (table, name), column in columns.items():
        mine = tables[table].columns
        tables[table] = replace(
            tables[table],
            columns=tuple(column if folded(each.name) == name else each for each in mine),
        )
    return replace(schema, tables=tables)


def _program(
    sql: str, parameters: Mapping[str, Any], schema: SegmentSchema, with_segment: bool
) -> list[tuple[Any, ...]] | None:
    catalogue = UnionDatabase(schema, with_segment)
    try:
        return catalogue.program(sql, parameters)
    finally:
        catalogue.close()
