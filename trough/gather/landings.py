"""The tables of the scratch database that segments' rows come into."""

from __future__ import annotations

from dataclasses import dataclass

from trough.gather import sqlite_helpers
from trough.gather.pushdown import Pushdown
from trough.gather.schema import TableShape
from trough.gather.scopes import ROWIDS
from trough.gather.shipping import Shipped
from trough.gather.union_database import SEGMENT, definition


@dataclass(frozen=True, slots=True)
class Landing:
    """A table of the scratch database that segments' rows go to.

    :ivar columns: those that rows fill, in their order; `segment`, whether the segment's
        name is put behind them
    :ivar rowid: a name of its rows' numbers that no column has
    """

    definition: str
    name: str
    columns: tuple[str, ...]
    segment: bool
    rowid: str = "rowid"


def of_partial_rows(pushed: Pushdown, columns: tuple[str, ...]) -> Landing:
    """Where partial rows land.

    :param columns: those that segments send
    """
    uses_segment = SEGMENT in (pushed.exact_final or pushed.final)
    declared = [each.declaration for each in pushed.partials]
    declared += [f"{SEGMENT} TEXT"] if uses_segment else []
    name = sqlite_helpers.name(pushed.table)
    # A table has at least one column.
    create = f"CREATE TABLE {name} ({', '.join(declared or ['nothing'])})"
    return Landing(create, pushed.table, columns, uses_segment)


def of_rows(shipped: Shipped, with_segment: bool) -> Landing:
    """Where the rows of a table land."""
    table: TableShape = shipped.table
    return Landing(
        definition(table, with_segment),
        table.name,
        shipped.columns,
        with_segment and SEGMENT not in table.column_names,
        next(name for name in ROWIDS if name not in table.column_names),
    )
