"""Examines the table of a segment, before anything is provisioned.

An existing segment returns its columns. For a new one, the schema runs in memory, so a wrong name
leaves no empty segment behind. This module also declares columns for ``--create`` and
``--alter``.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Mapping, Sequence
from time import monotonic
from typing import Any, NamedTuple

from trough import errors
from trough.client import TroughClient, TroughException, TroughSegmentNotFound
from trough.load.records import Quoted, RecordRow, folded_name
from trough.sql import sqlite
from trough.sql.text import quoted_name


class TargetTable(NamedTuple):
    """A table as it is, or as it will be.

    :ivar types: declared type by folded name; empty: there is no such table
    :ivar is_new: the segment does not exist yet
    :ivar trial: a database in memory with the schema of a new segment
    """

    types: dict[str, str]
    is_new: bool = False
    trial: Trial | None = None


def keeps_type(declared: str | None) -> bool:
    """Whether a column keeps the type of a stored value, by SQLite's rules.

    :param declared: its type; None for no column
    """
    if declared is None:
        return False
    if any(word in declared.upper() for word in ("INT", "CHAR", "CLOB", "TEXT")):
        return False
    # REAL and NUMERIC convert texts to numbers by themselves. Only ANY of a strict table does not,
    # and for any other table it makes no difference.
    return not declared or "BLOB" in declared.upper() or declared.upper() == "ANY"


_BROKEN_RULE = re.compile("constraint failed|datatype mismatch|cannot store")


class Trial:
    """A schema's empty database in memory, in which rows can be tried."""

    def __init__(self, schema_sql: str) -> None:
        self._end = monotonic() + sqlite.SCHEMA_SECONDS
        self._engine = sqlite.Engine(lambda: int(monotonic() > self._end))
        self._connection = self._engine.open_private()
        sqlite.run_schema(self._engine, self._connection, schema_sql)

    def types(self, table: str) -> dict[str, str]:
        """Declared type by column."""
        rows = self._engine.own(self._connection, _columns_of(table)).fetchall()
        return {folded_name(row[1]): row[2] for row in rows}

    def tables(self) -> list[str]:
        """Names of the tables."""
        rows = self._engine.own(
            self._connection,
            "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'",
        ).fetchall()
        return [row[0] for row in rows]

    def refusal(self, sql: str) -> str | None:
        """Why a segment of this schema will never accept these rows, or None. Nothing is kept."""
        self._end = monotonic() + sqlite.SCHEMA_SECONDS
        self._engine.own(self._connection, "BEGIN IMMEDIATE")
        try:
            self._engine.write(self._connection, sql)
        except (*sqlite.Error, errors.TroughError) as error:
            # For any error but a row that breaks a rule, the worker decides.
            return str(error) if _BROKEN_RULE.search(str(error)) else None
        finally:
            with contextlib.suppress(*sqlite.Error):
                self._engine.own(self._connection, "ROLLBACK")
        return None


def _columns_of(table: str) -> str:
    return f"PRAGMA table_info({quoted_name(table)})"


def look(client: TroughClient, segment: str, schema: str, table: str, create: bool) -> TargetTable:
    """The table to load into. Nothing is changed.

    :param create: the table need not exist
    :raises trough.errors.TroughError: there is no such schema or table, or no answer
    """
    try:
        rows = client.read(segment, _columns_of(table), None)
    except TroughSegmentNotFound:
        return _of_schema(client, segment, schema, table, create)
    types = {folded_name(row["name"]): row["type"] for row in rows}
    if not types and not create:
        raise errors.BadRequest(
            f"segment {segment} has no table {table}",
            "--table names another one, --create makes it",
        )
    return TargetTable(types)


def _of_schema(
    client: TroughClient, segment: str, schema: str, table: str, create: bool
) -> TargetTable:
    known = client.schema(schema)
    names = ", ".join(sorted(each["name"] for each in client.schemas()))
    if known is None:
        raise errors.NoSuchSchema(f"there is no schema {schema}; known: {names}")
    try:
        trial = Trial(known[0][schema])
    except (*sqlite.Error, errors.TroughError):
        return TargetTable({}, is_new=True)  # the worker decides
    types = trial.types(table)
    if not types and not create:
        made = ", ".join(trial.tables()) or "no table"
        raise errors.BadRequest(
            f"segment {segment} is new, and the schema {schema} makes {made}, not {table}",
            f"--schema names another one (known: {names}), --table another table, "
            "--create makes the table",
        )
    return TargetTable(types, is_new=True, trial=trial)


# -- declaring columns -------------------------------------------------------------

#: The known types of the columns of captures.
CAPTURE_TYPES = {
    "timestamp": "DATETIME",
    "status_code": "INTEGER",
    "size": "BIGINT",
    "payload_size": "BIGINT",
    "url": "VARCHAR(4000)",
    "hop_path": "VARCHAR(255)",
    "via": "VARCHAR(255)",
    "mimetype": "VARCHAR(255)",
    "content_digest": "VARCHAR(255)",
    "seed": "VARCHAR(4000)",
    "is_duplicate": "INTEGER(1)",
    "warc_filename": "VARCHAR(255)",
    "warc_offset": "VARCHAR(255)",
    "warc_content_bytes": "BIGINT",
    "host": "VARCHAR(255)",
}


def inferred(rows: Iterable[RecordRow], read_as_text: bool) -> dict[str, str]:
    """Types for the columns of some rows, by name.

    :param read_as_text: the file has texts only; if all texts of a column are numbers, they
        mean numbers
    """
    values: dict[str, list[Any]] = {}
    for row in rows:
        for name, value in zip(row.columns, row.values, strict=True):
            values.setdefault(name, [])
            if value is not None:
                values[name].append(value)
    return {name: _type_of(found, read_as_text) for name, found in values.items()}


def _type_of(values: Sequence[Any], read_as_text: bool) -> str:
    kinds = {_kind(value, read_as_text) for value in values}
    if kinds in ({"INTEGER"}, {"REAL"}, {"TEXT"}):
        return kinds.pop()
    numbers = kinds & {"INTEGER", "REAL"}
    if kinds == numbers and kinds:
        # A column without a type keeps each value unchanged; REAL would round large ones.
        large = any(_is_large(value) for value in values)
        return "" if large else "REAL"
    if read_as_text and "BLOB" not in kinds and not ("NUMBER IN QUOTES" in kinds and numbers):
        return "TEXT"
    return "" if kinds else "TEXT"


def _is_large(value: Any) -> bool:
    """Whether a number is an integer that REAL cannot hold exactly."""
    try:
        return abs(int(value)) > 2**53
    except (ValueError, OverflowError):
        return False


def _kind(value: Any, read_as_text: bool) -> str:
    if isinstance(value, str) and read_as_text:
        kind = _kind_of_text(value)
        return "NUMBER IN QUOTES" if kind != "TEXT" and isinstance(value, Quoted) else kind
    if isinstance(value, str):
        return "TEXT"
    if isinstance(value, bytes | bytearray):
        return "BLOB"
    return "REAL" if isinstance(value, float) else "INTEGER"


def _kind_of_text(text: str) -> str:
    # Only a number that is written as Python writes it: 007 and +1 are texts.
    try:
        if text.isascii() and str(int(text)) == text and -(2**63) <= int(text) < 2**63:
            return "INTEGER"
    except ValueError:
        pass
    try:
        if repr(float(text)) == text and text[-1:].isdigit():
            return "REAL"
    except ValueError:
        pass
    return "TEXT"


def create_sql(table: str, types: Mapping[str, str]) -> str:
    """SQL that creates a table if there is none."""
    columns = ", ".join(f"{quoted_name(name)} {kind}".rstrip() for name, kind in types.items())
    return f"CREATE TABLE IF NOT EXISTS {quoted_name(table)} ({columns});"


def alter_sql(table: str, types: Mapping[str, str]) -> str:
    """SQL that adds columns to a table."""
    return "".join(
        f"ALTER TABLE {quoted_name(table)} ADD COLUMN {quoted_name(name)} {kind}".rstrip() + ";"
        for name, kind in types.items()
    )


def no_answer(error: TroughException) -> str:
    """A server's answer, without the data sent to it."""
    return (error.returned_message or str(error)).removeprefix("500 Server Error: ").strip()
