"""Compares two states of one segment, table by table, for a person who has to choose.

Rows count as equal if all their values are; their order and rowids do not count. A table with more
rows than :data:`MOST_ROWS` is compared by their number alone, for each row takes memory.
"""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from trough.sql import statements
from trough.sql.sqlite import Connection, Engine, Error

#: Rows of a table that are compared one by one.
MOST_ROWS = 1_000_000

#: Rows between two looks at whether to go on.
_PORTION = 10_000

_TABLES = (
    "SELECT name FROM sqlite_schema"
    " WHERE type = 'table' AND rootpage > 0 AND name NOT LIKE 'sqlite_%'"
)

Progress = Callable[[], None]


def compare(
    engine: Engine, kept: str, canonical: str, destination: str, progress: Progress
) -> None:
    """Write to `destination`, as JSON, what each table of two databases has.

    Of each table: ``kept`` and ``canonical``, the rows there, None where the table is missing; and
    ``only_kept`` and ``only_canonical``, the rows that only one of them has, None where that
    is not known.

    :param progress: called now and then; raises to give up
    :raises trough.errors.CorruptSegment: one of them is damaged
    """
    try:
        with (
            contextlib.closing(engine.open_reader(kept, False)) as first,
            contextlib.closing(engine.open_reader(canonical, False)) as second,
        ):
            sides = (_Side(engine, first), _Side(engine, second))
            names = sorted(sides[0].tables | sides[1].tables)
            found = {name: _compare_table(name, *sides, progress) for name in names}
    except Error as error:
        raise engine.error(error, kept) from error
    Path(destination).write_text(json.dumps(found), encoding="utf-8")


class _Side:
    """One of the two databases."""

    def __init__(self, engine: Engine, connection: Connection) -> None:
        self._engine = engine
        self._connection = connection
        rows = engine.own(connection, _TABLES).fetchall()
        self.tables = {str(name) for (name,) in rows}
        # Text need not be UTF-8.
        connection.text_factory = bytes

    def count(self, name: str) -> int | None:
        """The number of rows; None without the table."""
        if name not in self.tables:
            return None
        sql = f"SELECT count(*) FROM {statements.quoted(name)}"
        return int(self._engine.own(self._connection, sql).fetchone()[0])

    def rows(self, name: str, progress: Progress) -> Counter[int]:
        """How many times there is each row."""
        found: Counter[int] = Counter()
        cursor = self._engine.own(self._connection, f"SELECT * FROM {statements.quoted(name)}")
        while rows := cursor.fetchmany(_PORTION):
            found.update(map(hash, rows))
            progress()
        return found


def _compare_table(
    name: str, kept: _Side, canonical: _Side, progress: Progress
) -> dict[str, int | None]:
    counts = kept.count(name), canonical.count(name)
    only: tuple[int | None, int | None] = None, None
    if None in counts:
        only = counts
    elif max(count or 0 for count in counts) <= MOST_ROWS:
        first, second = kept.rows(name, progress), canonical.rows(name, progress)
        only = (first - second).total(), (second - first).total()
    return {
        "kept": counts[0],
        "canonical": counts[1],
        "only_kept": only[0],
        "only_canonical": only[1],
    }
