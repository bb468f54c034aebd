"""What the segments' tables are, and what their union is.

A segment sends its schema as the texts in ``sqlite_schema``. A column matters by its name, its
affinity and its collation. SQLite itself reports these: the texts are run in an empty database. The
union has each table that any segment has, with every column that any segment has in it. Columns
come in the order in which they were first seen.

This module does not know how texts travel, and never guesses about segments that disagree. A column
with two affinities or collations has none in the union. It is kept as a conflict, for the query
that depends on it (:mod:`trough.gather.conflicts`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from trough.gather import sqlite_helpers
from trough.sql.sandbox import ALLOWED, DENIED, Action
from trough.util.quoting import quoted

#: Answered by every segment with one value: its tables and views as JSON.
SCHEMA_VALUE = (
    "SELECT json_group_array(json_array(type, name, sql)) FROM sqlite_schema "
    "WHERE type IN ('table', 'view') AND sql IS NOT NULL AND substr(name, 1, 7) <> 'sqlite_'"
)

# Affinities, as the types that SQLite gives to the columns of CREATE TABLE ... AS.
# INT and NUM differ in CAST alone, which a column's declaration has no part in.
_SAME = {"INT": "NUM"}


@dataclass(frozen=True, slots=True)
class Column:
    """The properties of a column that queries depend on.

    :ivar affinity: ``INT``, ``TEXT``, ``NUM``, ``REAL``, or empty for none
    :ivar collation: ``BINARY``, ``NOCASE`` ...
    """

    name: str
    affinity: str
    collation: str

    @property
    def declaration(self) -> str:
        """The column in a CREATE TABLE."""
        return f"{sqlite_helpers.name(self.name)} {self.affinity} COLLATE {self.collation}"

    def agrees_with(self, other: Column) -> bool:
        """Whether both mean the same to every query."""
        mine = (_SAME.get(self.affinity, self.affinity), self.collation.upper())
        return mine == (_SAME.get(other.affinity, other.affinity), other.collation.upper())


@dataclass(frozen=True, slots=True)
class TableShape:
    """A table, or a view (then without columns, and `sql` is all there is to it).

    :ivar is_index: it is a full-text index of fts5, a virtual table
    :ivar hidden: its columns that ``*`` leaves out: one called as the index is, and ``rank``
    """

    name: str
    sql: str
    columns: tuple[Column, ...] = ()
    is_view: bool = False
    is_index: bool = False
    hidden: tuple[Column, ...] = ()

    @property
    def column_names(self) -> frozenset[str]:
        """In lower case."""
        return frozenset(sqlite_helpers.folded(column.name) for column in self.columns)


@dataclass(frozen=True)
class SegmentSchema:
    """The tables and views of a segment, or of a union, by name in lower case.

    :ivar unusable: why a table cannot be gathered, by name in lower case
    :ivar conflicts: what segments disagree about, by table and column in lower case
    :ivar declared: the column as each of them declares it, by the same
    """

    tables: dict[str, TableShape] = field(default_factory=dict)
    unusable: dict[str, str] = field(default_factory=dict)
    conflicts: dict[tuple[str, str], str] = field(default_factory=dict)
    declared: dict[tuple[str, str], tuple[Column, ...]] = field(default_factory=dict)


@lru_cache(maxsize=256)
def read_schema(text: str) -> SegmentSchema:
    """The schema that a segment sent.

    :param text: the value of :data:`SCHEMA_VALUE`
    :raises ValueError: it is not a schema
    """
    objects = json.loads(text)
    if not isinstance(objects, list):
        raise ValueError(f"not a schema: {quoted(text, 80)}")
    schema = SegmentSchema()
    connection = sqlite_helpers.connect()
    # A text is not trusted. It creates something, or nothing.
    connection.set_progress_handler(lambda: 1, 100 * sqlite_helpers.STEPS)
    try:
        # An index of fts5 makes the tables that it keeps its content in.
        virtual = [each for each in objects if each[2].startswith("CREATE VIRTUAL TABLE ")]
        for _, table, sql in virtual:
            _add_index(schema, connection, table, sql)
        for shadow, owner in _shadows(connection):
            schema.unusable[shadow] = f"{owner} keeps its content in it"
        for kind, table, sql in objects:
            if sqlite_helpers.folded(table) not in {*schema.tables, *schema.unusable}:
                _add(schema, connection, kind, table, sql)
    finally:
        connection.close()
    return schema


def _add_index(schema: SegmentSchema, connection: Any, table: str, sql: str) -> None:
    key = sqlite_helpers.folded(table)
    connection.set_authorizer(_creates_index)
    try:
        connection.execute(sql)
    except sqlite_helpers.Error as error:
        # An option or a tokenizer that this SQLite does not have; or another module.
        schema.unusable[key] = (
            "it is a virtual table, whose content does not lie in rows"
            if "not authorized" in str(error)
            else f"its definition does not work here: {error}"
        )
        return
    finally:
        connection.set_authorizer(None)
    described = connection.execute(f"PRAGMA table_xinfo({sqlite_helpers.name(table)})").fetchall()
    columns = [Column(row[1], "", "BINARY") for row in described if not row[6]]
    hidden = [Column(row[1], "", "BINARY") for row in described if row[6]]
    schema.tables[key] = TableShape(table, sql, tuple(columns), is_index=True, hidden=tuple(hidden))


def _creates_index(action: int, first: Any, second: Any, *_: Any) -> int:
    if action == Action.CREATE_VTABLE:
        return ALLOWED if str(second).lower() == "fts5" else DENIED
    return _creates_only(action)


def _shadows(connection: Any) -> list[tuple[str, str]]:
    """Tables that an index keeps its content in, in lower case, and the index."""
    listed = connection.execute("PRAGMA table_list").fetchall()
    names = [sqlite_helpers.folded(row[1]) for row in listed if row[2] == "shadow"]
    return [(name, name.rpartition("_")[0]) for name in names]


def _add(schema: SegmentSchema, connection: Any, kind: str, table: str, sql: str) -> None:
    key = sqlite_helpers.folded(table)
    if kind == "view" and sql.startswith("CREATE VIEW "):
        schema.tables[key] = TableShape(table, sql, is_view=True)
        return
    connection.set_authorizer(_creates_only)
    try:
        connection.execute(sql)
        connection.set_authorizer(None)
        schema.tables[key] = TableShape(table, sql, _columns(connection, table))
    except sqlite_helpers.Error as error:
        schema.unusable[key] = f"its definition does not work here: {error}"
    finally:
        connection.set_authorizer(None)


_CREATING = frozenset(
    {
        *(Action.CREATE_TABLE, Action.CREATE_INDEX, Action.REINDEX),
        *(Action.INSERT, Action.UPDATE, Action.READ, Action.SELECT, Action.FUNCTION),
    }
)


def _creates_only(action: int, *_: Any) -> int:
    return ALLOWED if action in _CREATING else DENIED


def _columns(connection: Any, table: str) -> tuple[Column, ...]:
    quoted = sqlite_helpers.name(table)
    # CREATE TABLE ... AS gives each column the type of its affinity, and an index shows
    # each column's collation: declarations are not parsed.
    connection.execute(f"CREATE TABLE `trough affinities` AS SELECT * FROM {quoted}")
    described = connection.execute("PRAGMA table_info(`trough affinities`)").fetchall()
    connection.execute("DROP TABLE `trough affinities`")
    names = [item[0] for item in connection.execute(f"SELECT * FROM {quoted}").description]
    columns = ", ".join(sqlite_helpers.name(each) for each in names)
    connection.execute(f"CREATE INDEX `trough collations` ON {quoted} ({columns})")
    indexed = connection.execute("PRAGMA index_xinfo(`trough collations`)").fetchall()
    connection.execute("DROP INDEX `trough collations`")
    collations = [row[4] for row in indexed if row[5]]
    return tuple(
        Column(each, row[2], collation)
        for each, row, collation in zip(names, described, collations, strict=True)
    )


def unite(schemas: Iterable[SegmentSchema]) -> SegmentSchema:
    """The union of segments' schemas; see the module."""
    union = SegmentSchema()
    for schema in schemas:
        union.unusable.update(schema.unusable)
        for key, table in schema.tables.items():
            known = union.tables.get(key)
            union.tables[key] = table if known is None else _united(union, known, table)
    for key in union.unusable:
        union.tables.pop(key, None)
    return union


def _united(union: SegmentSchema, known: TableShape, other: TableShape) -> TableShape:
    key = sqlite_helpers.folded(known.name)
    if known.is_view or other.is_view:
        if (known.is_view, known.sql) != (other.is_view, other.sql):
            union.unusable[key] = "segments define this view differently, or as a table"
        return known
    if known.is_index or other.is_index:
        if known.sql != other.sql:
            union.unusable[key] = "segments define this full-text index differently"
        return known
    columns = {sqlite_helpers.folded(column.name): column for column in known.columns}
    for column in other.columns:
        name = sqlite_helpers.folded(column.name)
        mine = columns.setdefault(name, column)
        declared = union.declared.get((key, name), (mine,))
        if any(each.agrees_with(column) for each in declared):
            continue
        union.declared[key, name] = (*declared, column)
        union.conflicts.setdefault(
            (key, name),
            f"column {column.name} of table {known.name} is {_told(mine)} in one "
            f"segment and {_told(column)} in another",
        )
        # Each value is what its segment stored, and is stored here as it is.
        columns[name] = Column(mine.name, "", "BINARY")
    return TableShape(known.name, known.sql, tuple(columns.values()))


def _told(column: Column) -> str:
    return f"{column.affinity or 'without type'} COLLATE {column.collation}"
