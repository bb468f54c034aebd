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
from collections.abc import Callable, Iterator
from typing import Any

from trough import errors
from trough.load.records import DamagedEnd, Reading, Record, Records, Row, Skipped, Unusable, alike
from trough.load.sources import Source

#: Rows that are taken out of the file at once.
_BATCH = 2000


def parquet(source: Source, reading: Reading) -> Records:
    """Rows of a Parquet file."""
    pyarrow = _pyarrow()
    from pyarrow.parquet import ParquetFile

    with _readable(pyarrow):
        file = ParquetFile(_seekable(source))
        names = file.schema_arrow.names
    return _rows(pyarrow, names, lambda: file.iter_batches(_BATCH))


def arrow(source: Source, reading: Reading) -> Records:
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
                for values in zip(*(column.to_pylist() for column in part.columns), strict=True):
                    number += 1
                    try:
                        yield Row(number, number, columns, [stored(value) for value in values])
                    except Unusable as reason:
                        yield Skipped(number, number, str(reason))


def stored(value: Any) -> Any:
    """A value of Arrow as it is stored: times as SQLite's texts, nested values as JSON.

    :raises Unusable: it cannot be stored as what it is
    """
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, float):
        if math.isnan(value):
            raise Unusable("NaN, which SQLite would store as NULL")
        return value
    if isinstance(value, int):
        if not -(2**63) <= value < 2**63:
            raise Unusable(f"an integer of more than 64 bits: {value}")
        return value
    if isinstance(value, bytes):
        return bytearray(value)
    if isinstance(value, dict | list | tuple):
        try:
            return json.dumps(value, ensure_ascii=False, allow_nan=False, default=_nested)
        except ValueError as error:
            raise Unusable("a number within a list that JSON has no text for") from error
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
    if isinstance(value, decimal.Decimal | datetime.timedelta):
        return str(value)
    raise Unusable(f"a value of the type {type(value).__name__}, which SQLite has not")
