"""Values written into SQL text, for clients that have no other way to bind them.

The texts mean to SQLite what the values mean to Python, for any content. A value for which
there is no such text is refused. This module does not know where the text goes.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Iterable
from typing import Any

from trough import errors

_INTEGERS = range(-(2**63), 2**63)


def sql_value(value: Any) -> str | int | float:
    """`value` as it is written in SQL.

    ==================  =================================================================
    None, NaN           ``null``, which is what SQLite makes of a NaN
    bool                1 or 0
    int, float          the number; infinities as ``9e999``, which SQLite reads as such
    str                 a text
    bytes               a text where they are UTF-8, else a BLOB: existing clients pass
                        URLs and digests as bytes and compare them with texts
    bytearray,          a BLOB, whatever is in it
    memoryview
    datetime            ``datetime('...')``: to SQLite a text ``YYYY-MM-DD HH:MM:SS``, which
                        sorts by time; one with a time zone in UTC, one without as it is,
                        and fractions of a second are dropped
    ==================  =================================================================

    :raises trough.errors.BadRequest: anything else, an integer of more than 64 bits, or a
        text with lone surrogates
    """
    if value is None:
        return "null"
    writer = _WRITERS.get(type(value))
    if writer is None:
        writer = next((w for kind, w in _WRITERS.items() if isinstance(value, kind)), None)
    if writer is None:
        raise errors.BadRequest(f"don't know how to make an sql value from {type(value)!r}")
    return writer(value)


def quoted_name(name: str) -> str:
    """A table's or column's name as it is written in SQL, for any content.

    :raises trough.errors.BadRequest: it holds a NUL, which no name can
    """
    if "\0" in name:
        raise errors.BadRequest(f"a NUL in the name {name!a}")
    return '"' + name.replace('"', '""') + '"'


def filled_in(template: str, values: Iterable[Any] | None) -> str:
    """`template` with each ``%s`` replaced by the next value, and ``%%`` by a percent sign.

    :param values: None returns `template` as it is
    :raises trough.errors.BadRequest: more or fewer placeholders than values, or a value
        that :func:`sql_value` refuses
    """
    if values is None:
        return template
    texts = tuple(sql_value(value) for value in values)
    try:
        return template % texts
    except (TypeError, ValueError) as error:
        raise errors.BadRequest(
            f"{len(texts)} values do not fit the template {template[:200]!r}: {error}",
            "one %s for each value, and %% for a percent sign",
        ) from error


def _integer(value: int) -> int:
    if value not in _INTEGERS:
        raise errors.BadRequest(f"an integer of SQLite has 64 bits: {value}")
    return int(value)


def _real(value: float) -> str | float:
    if math.isnan(value):
        return "null"
    if math.isinf(value):
        return "9e999" if value > 0 else "-9e999"
    return float(value)


def _text(value: str) -> str:
    if value.isascii() and "\0" not in value:
        return "'" + value.replace("'", "''") + "'"
    try:
        encoded = value.encode()
    except UnicodeEncodeError as error:
        raise errors.BadRequest(f"a text that is not Unicode: {value[:80]!a}: {error}") from error
    if b"\0" in encoded:
        # A NUL would end the whole SQL text.
        return f"cast(X'{encoded.hex()}' as text)"
    return "'" + value.replace("'", "''") + "'"


def _text_or_blob(value: bytes) -> str:
    try:
        return _text(value.decode())
    except UnicodeDecodeError:
        return _blob(value)


def _blob(value: bytes | bytearray | memoryview) -> str:
    return f"X'{bytes(value).hex()}'"


def _moment(value: datetime.datetime) -> str:
    if value.tzinfo is not None:
        # Offsets with seconds, which SQLite does not read, are gone in UTC.
        value = value.astimezone(datetime.UTC).replace(tzinfo=None)
    return f"datetime('{value.isoformat()}')"


_WRITERS: dict[type, Any] = {
    str: _text,
    bool: int,
    int: _integer,
    float: _real,
    bytes: _text_or_blob,
    bytearray: _blob,
    memoryview: _blob,
    datetime.datetime: _moment,
}
