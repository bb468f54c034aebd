"""The union's tables, empty, in a private database: what SQLite reports about a query.

SQLite reports here whether a text is one valid query, and which columns of which tables the text
reads (through any view). It also reports the names of the result's columns, the program of the
text, and the affinity and collation of an expression. So Trough does not implement SQLite's rules
of names, types and collations a second time.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trough import errors
from trough.gather import sqlite_helpers
from trough.gather.dialect import without_limit
from trough.gather.schema import SegmentSchema, TableShape
from trough.sql.sandbox import Action

#: The column that names a row's segment.
SEGMENT = "_segment"

_KEY_INFO = re.compile(r"k\((\d+)(?:,(.*))?\)")


@dataclass(frozen=True, slots=True)
class Prepared:
    """What SQLite reported about a text.

    :ivar names: of the result's columns
    :ivar reads: pairs of table and column in lower case; the column is empty where only
        the number of rows matters
    :ivar functions: called, in lower case
    """

    names: tuple[str, ...]
    reads: frozenset[tuple[str, str]]
    functions: frozenset[str]

    @property
    def tables(self) -> frozenset[str]:
        """Names of everything that is read, in lower case."""
        return frozenset(table for table, _ in self.reads)


class UnionDatabase:
    """See the module.

    :param schema: the union
    :param with_segment: give each table a last column :data:`SEGMENT`
    :param pragmas: texts may read the rows of pragmas about tables
    """

    def __init__(
        self, schema: SegmentSchema, with_segment: bool = False, pragmas: bool = False
    ) -> None:
        self.schema = schema
        self.with_segment = with_segment
        self.pragmas = pragmas
        self._connection = sqlite_helpers.connect()
        for table in schema.tables.values():
            self._connection.execute(definition(table, with_segment))
        listed = self._connection.execute("PRAGMA table_list").fetchall()
        self._shadows = {sqlite_helpers.folded(row[1]) for row in listed if row[2] == "shadow"}
        self._indexes = self._opened_as()
        #: Functions that texts may call besides those of any text.
        self.own: frozenset[str] = frozenset()
        self._aggregates: frozenset[str] | None = None

    def close(self) -> None:
        """Close the database."""
        self._connection.close()

    def _opened_as(self) -> dict[bytes, str]:
        """What a program of this connection calls each full-text index, and its name."""
        found = {}
        for key, table in self.schema.tables.items():
            if table.is_index:
                text = f"EXPLAIN SELECT * FROM {sqlite_helpers.name(table.name)}"
                rows = self._connection.execute(text).fetchall()
                found.update({row[5].encode(): key for row in rows if row[1] == "VOpen"})
        return found

    def prepare(self, sql: str, parameters: Mapping[str, Any] | Sequence[Any]) -> Prepared:
        """Let SQLite read `sql`, and run it on empty tables.

        :raises trough.errors.BadSql: it is not exactly one query, or SQLite refused it
        """
        reads: set[tuple[str, str]] = set()
        functions: set[str] = set()

        def watch(action: int, first: Any, second: Any, *_: Any) -> None:
            if action == Action.READ:
                if sqlite_helpers.folded(str(first)) in self._shadows:
                    # The index's own statement; _opened refuses one of the text.
                    return
                reads.add(
                    (sqlite_helpers.folded(str(first)), sqlite_helpers.folded(str(second or "")))
                )
            elif action == Action.FUNCTION:
                functions.add(str(second).lower())

        sqlite_helpers.confine(self._connection, watch, pragmas=self.pragmas)
        # Over empty tables only a query that reads none of them runs for long. It is described
        # without being run, and runs once, at the end.
        self._connection.set_progress_handler(lambda: 1, 1000 * sqlite_helpers.STEPS)
        try:
            description = self._description(sql, parameters)
        except sqlite_helpers.Error as error:
            raise self._explained(error, sql) from error
        finally:
            self._connection.set_progress_handler(None, 0)
            sqlite_helpers.release(self._connection)
        if not description:
            raise errors.BadSql(
                "GATHER takes one SELECT, and there is none", sqlite_helpers.shown(sql)
            )
        reads |= self._opened(self.program(sql, parameters) or [])
        return Prepared(
            tuple(item[0] for item in description), frozenset(reads), frozenset(functions)
        )

    def _description(self, sql: str, parameters: Mapping[str, Any] | Sequence[Any]) -> Any:
        """The cursor's description of the columns of `sql`.

        The module steps a statement before it describes it. Over empty tables a step may fail
        where rows would make it succeed: ``LIMIT (SELECT max(n) FROM t)`` is NULL there. Or it may
        take long. Then the columns are those of the same text with LIMIT 0, which computes nothing.
        """
        try:
            return self._described(sql, parameters)
        except sqlite_helpers.Error as error:
            if not (sqlite_helpers.was_interrupted(error) or self._compiles(sql, parameters)):
                raise
            positional = bool(parameters) and not isinstance(parameters, Mapping)
            highest = f"?{len(parameters)}" if positional else "0"
            try:
                # The number keeps the count of positional parameters that a LIMIT names.
                return self._described(f"{without_limit(sql)}\nLIMIT 0 AND {highest}", parameters)
            except sqlite_helpers.Error:
                raise error from None

    def _described(self, sql: str, parameters: Mapping[str, Any] | Sequence[Any]) -> Any:
        cursor = self._connection.execute(sql, parameters)
        try:
            return cursor.description
        finally:
            cursor.close()

    def _compiles(self, sql: str, parameters: Mapping[str, Any] | Sequence[Any]) -> bool:
        try:
            self._connection.execute(f"EXPLAIN {sql}", parameters).close()
        except sqlite_helpers.Error:
            return False
        return True

    def _opened(self, program: list[tuple[Any, ...]]) -> set[tuple[str, str]]:
        """The columns of tables that a program reads.

        The authorizer is not asked about columns that USING and NATURAL name.
        """
        listed = self._connection.execute(
            "SELECT lower(name), rootpage FROM sqlite_schema WHERE type = 'table'"
        ).fetchall()
        roots = {
            root: self.schema.tables[name] for name, root in listed if name not in self._shadows
        }
        shadows = {root: name for name, root in listed if name in self._shadows}
        reads: set[tuple[str, str]] = set()
        cursors: dict[int, TableShape] = {}
        for operation, cursor, second, *_ in program:
            if operation == b"OpenRead" and second in shadows:
                raise errors.BadSql(
                    f"a full-text index keeps its content in table {shadows[second]}",
                    "ask for the columns of the index itself",
                )
            if operation == b"OpenRead" and second in roots:
                cursors[cursor] = roots[second]
                reads.add((sqlite_helpers.folded(roots[second].name), ""))
            elif operation == b"OpenDup" and second in cursors:
                cursors[cursor] = cursors[second]
        for operation, cursor, second, *_ in program:
            if operation == b"Column" and cursor in cursors:
                table = cursors[cursor]
                # Behind the last one is the segment's name.
                if second < len(table.columns):
                    reads.add(
                        (
                            sqlite_helpers.folded(table.name),
                            sqlite_helpers.folded(table.columns[second].name),
                        )
                    )
        return reads

    def _explained(self, error: Exception, sql: str) -> errors.TroughError:
        told = sqlite_helpers.refused(error, sql, self._connection)
        if not isinstance(told, errors.BadSql):
            return told
        table = (
            sqlite_helpers.folded(told.message)
            .removeprefix("no such table: ")
            .removeprefix("main.")
        )
        if table in self.schema.unusable:
            reason = self.schema.unusable[table]
            return errors.BadSql(f"table {table} cannot be gathered: {reason}", told.hint)
        return told

    def program(
        self, sql: str, parameters: Mapping[str, Any] | Sequence[Any]
    ) -> list[tuple[Any, ...]] | None:
        """What SQLite compiles `sql` into, or None where it does not take it.

        Cursors are numbered in the order in which the program comes to them: SQLite's own
        numbers depend on whether a view was written out.
        """
        # Constants are shown as the bytes that they are, BLOBs too.
        self._connection.text_factory = bytes
        sqlite_helpers.confine(self._connection, own=self.own, pragmas=self.pragmas)
        try:
            rows = self._connection.execute(f"EXPLAIN {sql}", parameters).fetchall()
        except sqlite_helpers.Error:
            return None
        finally:
            sqlite_helpers.release(self._connection)
            self._connection.text_factory = str
        return _renumbered(rows, self._indexes)

    def takes(self, sql: str, parameters: Mapping[str, Any]) -> bool:
        """Whether SQLite takes `sql`."""
        return self.program(sql, parameters) is not None

    def collations(
        self, select: str, count: int, parameters: Mapping[str, Any]
    ) -> list[str] | None:
        """The collations by which the columns of a SELECT are compared and ordered.

        :param select: without ORDER BY and LIMIT
        :param count: of its columns
        :return: None if SQLite does not report them
        """
        # SQLite needs no sorter for rowids alone, and for chance it does.
        order = ", ".join(str(position) for position in range(1, count + 1))
        program = self.program(f"{select} ORDER BY random(), {order}", parameters) or []
        told = [row[4].decode() for row in program if row[0] == b"SorterOpen"]
        match = _KEY_INFO.fullmatch(told[-1]) if told else None
        if match is None or match[2] is None:
            return None
        found = [_collation(each) for each in match[2].split(",")][1:]
        return found if len(found) == count else None

    def affinities(self, select: str, parameters: Mapping[str, Any]) -> list[str] | None:
        """The affinities of the columns of a SELECT, as in :class:`Column`, or None if
        SQLite does not report them."""
        table = "`trough affinities`"
        try:
            self._connection.execute(f"CREATE TABLE {table} AS {select}", parameters)
        except sqlite_helpers.Error:
            return None
        try:
            return [row[2] for row in self._connection.execute(f"PRAGMA table_info({table})")]
        finally:
            self._connection.execute(f"DROP TABLE {table}")

    def columns_of_function(self, name: str) -> list[tuple[str, bool]] | None:
        """Columns of a function in FROM and whether ``*`` leaves them out; None for no function."""
        quoted = sqlite_helpers.name(name)
        described = self._connection.execute(f"PRAGMA table_xinfo({quoted})").fetchall()
        return [(row[1], row[6] == 1) for row in described] or None

    @property
    def aggregates(self) -> frozenset[str]:
        """Names of SQLite's aggregate functions, in lower case."""
        if self._aggregates is None:
            listed = self._connection.execute(
                "SELECT lower(name) FROM pragma_function_list WHERE type IN ('a', 'w')"
            )
            self._aggregates = frozenset(row[0] for row in listed)
        return self._aggregates


#: Instructions whose first operand is a cursor, and those whose third one is, too.
_CURSORS = frozenset(
    b"OpenRead OpenDup OpenEphemeral OpenAutoindex OpenPseudo SorterOpen Close VOpen VFilter "
    b"VColumn VNext SeekLT SeekLE SeekGE SeekGT SeekScan SeekHit SeekRowid SeekEnd IfNoHope "
    b"NoConflict NotFound Found NotExists Sequence SequenceTest NewRowid Insert Delete RowData "
    b"SorterCompare SorterData SorterSort SorterNext SorterInsert Rowid NullRow Last Sort Rewind "
    b"Prev Next IdxInsert IdxRowid IdxLE IdxGT IdxLT IdxGE DeferredSeek FinishSeek Column Offset "
    b"ColumnsUsed IfNullRow Count ResetSorter ReopenIdx".split()
)
_SECOND = frozenset({b"OpenDup"})
_THIRD = frozenset({b"SorterData", b"DeferredSeek"})


def _renumbered(rows: list[tuple[Any, ...]], indexes: Mapping[bytes, str]) -> list[tuple[Any, ...]]:
    numbers: dict[int, int] = {}

    def number(cursor: int) -> int:
        return numbers.setdefault(cursor, len(numbers))

    program = []
    for _, operation, first, second, third, fourth, flags, *_ in rows:
        if operation == b"Explain":
            # Words about what follows, with the names that the text gave to its tables.
            fourth = None
        if operation == b"BeginSubrtn":
            # The subquery's number, which a view before it changes.
            fourth = fourth and fourth.partition(b",")[2]
        if operation == b"VOpen":
            fourth = indexes.get(fourth, fourth)
        if operation in _CURSORS:
            first = number(first)
        if operation in _SECOND:
            second = number(second)
        if operation in _THIRD:
            third = number(third)
        program.append((operation, first, second, third, fourth, flags))
    return program


def _collation(told: str) -> str:
    # "-" marks DESC, "N." NULLS LAST; BINARY is shortened.
    told = told.removeprefix("-").removeprefix("N.")
    return "BINARY" if told == "B" else told


def definition(table: TableShape, with_segment: bool) -> str:
    """The statement that creates a table of the union: columns and no constraints."""
    if table.is_view:
        return table.sql
    if table.is_index:
        # Options may stand between its columns, so that the end is a place for one more.
        more = f", {SEGMENT} UNINDEXED" if with_segment else ""
        return f"{table.sql.rstrip().removesuffix(')')}{more})"
    columns = [column.declaration for column in table.columns]
    if with_segment and SEGMENT not in table.column_names:
        columns.append(f"{SEGMENT} TEXT")
    return f"CREATE TABLE {sqlite_helpers.name(table.name)} ({', '.join(columns)})"
