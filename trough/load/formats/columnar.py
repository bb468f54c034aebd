"""Parquet and Arrow files. Needs ``pyarrow`` (the extra ``arrow``).

A row's number takes the place of a line's.
"""

from __future__ import annotations

import base64
import contextlib
import datetime
import decimal
import json
import math
import uuid
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from trough import errors
from trough.load.records import (
    DamagedEnd,
    FormatOptions,
    Record,
    RecordRow,
    Records,
    Skipped,
    UnusableRecord,
    alike,
)
from trough.load.sources import Source

#: Rows that are read from the file at once.
_BATCH = 2000


def parquet(source: Source, reading: FormatOptions) -> Records:
    """Rows of a Parquet file."""
    pyarrow = _pyarrow()
    from pyarrow.parquet import ParquetFile

    with _readable(pyarrow):
        file = ParquetFile(_seekable(source), page_checksum_verification=True)
        names = file.schema_arrow.names
    return _rows(pyarrow, names, lambda: file.iter_batches(_BATCH))


def arrow(source: Source, reading: FormatOptions) -> Records:
    """Rows of an Arrow IPC file (Feather) or stream."""
    pyarrow = _pyarrow()
    from pyarrow import ipc

    with _readable(pyarrow):
        if source.head.startswith(b"ARROW1"):
            file = ipc.open_file(_seekable(source))
            names = file.schema.names
            batches = lambda: map(file.get_batch, range(file.num_record_batches))  # noqa: E731
        else:
            stream = ipc.open_stream(source.raw)
            names, batches = stream.schema.names, lambda: iter(stream)
    return _rows(pyarrow, names, batches)


def _pyarrow() -> Any:
    try:
        import pyarrow
    except ImportError as error:
        raise errors.BadRequest(
            "Parquet and Arrow files need pyarrow, which is not installed",
            "pip install 'trough[arrow]'",
        ) from error
    return pyarrow


def _seekable(source: Source) -> Any:
    if not source.raw.seekable():
        raise errors.BadRequest("its end is read first, and a pipe has none", "name a file")
    return source.raw


@contextlib.contextmanager
def _readable(pyarrow: Any) -> Iterator[None]:
    try:
        yield
    except (pyarrow.ArrowException, OSError) as error:
        raise DamagedEnd(f"cannot be read: {str(error).splitlines()[0]}") from error


def _rows(pyarrow: Any, names: list[str], batches: Callable[[], Iterator[Any]]) -> Iterator[Record]:
    columns, number = tuple(names), 0
    if same := alike(columns):
        raise errors.BadRequest(f"two columns of one name, {same[0]}", "rename one of them")
    with _readable(pyarrow):
        for batch in batches():
            for place in range(0, batch.num_rows, _BATCH):
                part = batch.slice(place, _BATCH)
                # In a damaged file, offsets may point anywhere in memory.
                part.validate(full=True)
                columns_of_values = [_values(pyarrow, column) for column in part.columns]
                for values in zip(*columns_of_values, strict=True):
                    number += 1
                    try:
                        yield RecordRow(
                            number, number, columns, [stored(value) for value in values]
                        )
                    except UnusableRecord as reason:
                        yield Skipped(number, number, str(reason))


class _Unread(NamedTuple):
    """A value for which Python has no type."""

    reason: str


def _values(pyarrow: Any, column: Any) -> list[Any]:
    """The values of a column, in Python's types."""
    if getattr(column.type, "unit", "") == "ns":
        return _of_nanoseconds(pyarrow, column)
    if (coarser := _in_microseconds(pyarrow, column.type)) != column.type:
        return _cast(pyarrow, column, coarser)
    try:
        found: list[Any] = column.to_pylist()
    except (ValueError, OverflowError):
        return [_value(each) for each in column]
    return found


def _in_microseconds(pyarrow: Any, kind: Any) -> Any:
    """A type with microseconds in place of all nanoseconds within it.

    Python's own types have no nanoseconds. Pyarrow converts nanoseconds to pandas values, but only
    if pandas is installed.
    """
    types = pyarrow.types
    if getattr(kind, "unit", "") == "ns":
        if types.is_timestamp(kind):
            return pyarrow.timestamp("us", kind.tz)
        return pyarrow.time64("us") if types.is_time(kind) else pyarrow.duration("us")
    if types.is_struct(kind):
        fields = [kind.field(place) for place in range(kind.num_fields)]
        return pyarrow.struct(
            [each.with_type(_in_microseconds(pyarrow, each.type)) for each in fields]
        )
    if types.is_map(kind):
        inner = (_in_microseconds(pyarrow, each) for each in (kind.key_type, kind.item_type))
        return pyarrow.map_(*inner)
    if types.is_fixed_size_list(kind):
        return pyarrow.list_(_in_microseconds(pyarrow, kind.value_type), kind.list_size)
    if types.is_large_list(kind):
        return pyarrow.large_list(_in_microseconds(pyarrow, kind.value_type))
    if types.is_list(kind):
        return pyarrow.list_(_in_microseconds(pyarrow, kind.value_type))
    return kind


def _cast(pyarrow: Any, column: Any, kind: Any) -> list[Any]:
    """The values of a column as another type. Values that do not fit it are not read."""
    try:
        found: list[Any] = column.cast(kind).to_pylist()
    except (pyarrow.ArrowException, ValueError, OverflowError):
        if len(column) == 1:
            return [_Unread("a value that cannot be read: nanoseconds within it")]
        rows = (column.slice(place, 1) for place in range(len(column)))
        return [value for row in rows for value in _cast(pyarrow, row, kind)]
    return found


def _value(scalar: Any) -> Any:
    try:
        return scalar.as_py()
    except OverflowError:
        return _Unread("a time before the year 1 or after 9999")
    except ValueError as error:
        return _Unread(f"a value that cannot be read: {str(error)[:80]}")


def _of_nanoseconds(pyarrow: Any, column: Any) -> list[Any]:
    """Times as texts, because Python's own types have no nanoseconds."""
    made: Callable[[int], Any] = lambda micros: datetime.timedelta(microseconds=micros)  # noqa: E731
    if pyarrow.types.is_timestamp(column.type):
        made = lambda micros: _EPOCH + datetime.timedelta(microseconds=micros)  # noqa: E731
    elif pyarrow.types.is_time(column.type):
        made = lambda micros: (_EPOCH + datetime.timedelta(microseconds=micros)).time()  # noqa: E731
    found: list[str | None] = []
    for value in column.cast(pyarrow.int64()).to_pylist():
        if value is None:
            found.append(None)
            continue
        micros, nanos = divmod(value, 1000)
        text = _text(made(micros))
        if nanos:
            text = f"{text if '.' in text else f'{text}.000000'}{nanos:03d}"
        found.append(text)
    return found


#: The origin of times; times with a zone are counted in UTC.
_EPOCH = datetime.datetime(1970, 1, 1)


def stored(value: Any) -> Any:
    """A value of Arrow as it is stored: times as SQLite's texts, nested values as JSON.

    :raises Unusable: it cannot be stored unchanged
    """
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, float):
        if math.isnan(value):
            raise UnusableRecord("NaN, which SQLite would store as NULL")
        return value
    if isinstance(value, int):
        if not -(2**63) <= value < 2**63:
            raise UnusableRecord(f"an integer of more than 64 bits: {value}")
        return value
    if isinstance(value, bytes):
        return bytearray(value)
    if isinstance(value, _Unread):
        raise UnusableRecord(value.reason)
    if isinstance(value, dict | list | tuple):
        try:
            return json.dumps(value, ensure_ascii=False, allow_nan=False, default=_nested)
        except ValueError as error:
            raise UnusableRecord("a number within a list that JSON has no text for") from error
    return _text(value)


def _nested(value: Any) -> Any:
    return {"blob": base64.b64encode(value).decode()} if isinstance(value, bytes) else _text(value)


def _text(value: Any) -> str:
    if isinstance(value, datetime.datetime):
        if value.tzinfo is not None:
            value = value.astimezone(datetime.UTC).replace(tzinfo=None)
        return value.isoformat(" ")
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, decimal.Decimal | datetime.timedelta | uuid.UUID):
        return str(value)
    raise UnusableRecord(f"a value of the type {type(value).__name__}, which SQLite has not")
