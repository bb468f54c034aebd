"""The contents of a file: rows, and records that are no rows, with their lines.

The unit is the record. It is stored whole, or skipped whole with its first line, its last line
and the reason. A format (:mod:`trough.load.formats`) turns a file into records. This module reads
and writes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from trough import errors

#: Longest record, in bytes; a longer one is skipped, in bounded memory.
MAX_RECORD = 8 << 20


class RecordRow(NamedTuple):
    """One row.

    :ivar first: number of its first line in the file, from 1
    :ivar last: number of its last line
    :ivar columns: names, the same object for rows of one shape
    :ivar values: one for each column
    """

    first: int
    last: int
    columns: tuple[str, ...]
    values: tuple[Any, ...] | list[Any]


class Quoted(str):
    """A text that had quotes in its file. There they distinguish it from a number."""

    __slots__ = ()


class Skipped(NamedTuple):
    """A record that is no row, and why."""

    first: int
    last: int
    reason: str

    @property
    def lines(self) -> str:
        """Its lines, for messages: ``7`` or ``7-9``."""
        return str(self.first) if self.first == self.last else f"{self.first}-{self.last}"


Record = RecordRow | Skipped
Records = Iterator[Record]


class UnusableRecord(Exception):
    """Why a record is no row."""


class DamagedEnd(errors.TroughError):
    """A file ends early, or cannot be read further. What came before it is whole."""


class PartDamaged(Exception):
    """A part of a compressed file ends early, or cannot be decompressed."""


class FormatOptions(NamedTuple):
    """What a format needs besides the file.

    :ivar fields: names of the fields of a file without a header, or None
    :ivar keeps_type: whether a column, by its name, keeps the type of a stored value.
        Only there, text that looks like a number must be converted to one.
    :ivar is_column: whether the table has a column of this name already
    :ivar types_known: whether the columns have their types by now. Until then texts of CSV and
        TSV stay texts, and those with quotes are :class:`Quoted`
    :ivar delimiter: of the fields of CSV, one ASCII character
    :ivar max_record: bytes of the longest record that is a row
    :ivar note: takes a remark for the person who loads
    """

    fields: tuple[str, ...] | None = None
    keeps_type: Callable[[str], bool] = lambda _: False
    is_column: Callable[[str], bool] = lambda _: False
    types_known: Callable[[], bool] = lambda: True
    delimiter: str = ","
    max_record: int = MAX_RECORD
    note: Callable[[str], None] = lambda _: None


def count_of_fields(count: int) -> str:
    """A number of fields, for messages."""
    return "1 field" if count == 1 else f"{count} fields"


def alike(columns: tuple[str, ...] | list[str]) -> list[str]:
    """The names that are equal to SQLite, which ignores the case of A to Z only."""
    folded = [folded_name(name) for name in columns]
    return [name for name, key in zip(columns, folded, strict=True) if folded.count(key) > 1]


_LOWER = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}


def folded_name(name: str) -> str:
    """A name, folded so that two names are equal if they are equal to SQLite."""
    return name.translate(_LOWER)
