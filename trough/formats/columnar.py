"""PARQUET and ARROW: columns with types, for pandas, DuckDB and spreadsheets.

SQLite gives each value a type and these formats give one to each column. The type comes from
the first rows; a later value of another type is refused, and the error names the column.
Needs pyarrow (the extra ``arrow``).

A renderer returns text. The bytes of these formats travel in it by ``surrogateescape``, and a
file that is opened with the same error handler gets them back exactly
(https://peps.python.org/pep-0383/). Who wants bytes takes a :class:`ColumnarWriter`.
"""

from __future__ import annotations

import functools
import importlib.util
import io
from collections.abc import Callable, Sequence
from typing import Any

from trough import errors
from trough.formats.text import Renderer, RenderOptions, distinct
from trough.util.safe_text import safe

#: The error handler of a file that one of these formats is written to.
ERRORS = "surrogateescape"

#: Rows that are looked at for the types of the columns, and rows of one row group.
_BATCH = 20_000

#: Bytes of rows, as their source counts them, after which a batch is written before it is full.
_BATCH_SIZE = 8 << 20


class ColumnarWriter:
    """Rows to the bytes of a typed format; no more than a batch of them is held.

    :param open_writer: makes pyarrow's writer for a file and a schema
    """

    def __init__(self, columns: Sequence[str], open_writer: Callable[[Any, Any], Any]) -> None:
        self._columns = columns
        self._open = open_writer
        self._held: list[Sequence[Any]] = []
        self._size = 0
        self._bytes = io.BytesIO()
        self._schema: Any = None
        self._writer: Any = None

    def rows(self, rows: Sequence[Sequence[Any]], size: int = 0) -> bytes:
        """Take rows, and return bytes that are ready.

        :param size: about how many bytes the rows have
        :raises trough.errors.BadRequest: a column has values of several types
        """
        self._held += rows
        self._size += size
        full = len(self._held) >= _BATCH or self._size >= _BATCH_SIZE
        return self._write() if full else b""

    def end(self) -> bytes:
        """The last bytes."""
        data = self._write() if self._held or self._writer is None else b""
        self._writer.close()
        return data + self._taken()

    def _write(self) -> bytes:
        import pyarrow

        names = distinct(self._columns)
        columns = list(zip(*self._held, strict=True)) or [()] * len(names)
        if self._schema is None:
            types = [_type_of(pyarrow, values) for values in columns]
            self._schema = pyarrow.schema(list(zip(names, types, strict=True)))
            self._writer = self._open(_Forward(self._bytes), self._schema)
        arrays = [
            _array(pyarrow, field, values)
            for field, values in zip(self._schema, columns, strict=True)
        ]
        self._held, self._size = [], 0
        self._writer.write_table(pyarrow.Table.from_arrays(arrays, schema=self._schema))
        return self._taken()

    def _taken(self) -> bytes:
        data = self._bytes.getvalue()
        self._bytes.seek(0)
        self._bytes.truncate()
        return data


def open_parquet(file: Any, schema: Any) -> Any:
    """A writer of a Parquet file."""
    from pyarrow.parquet import ParquetWriter

    return ParquetWriter(file, schema, compression="zstd")


def open_arrow_file(file: Any, schema: Any) -> Any:
    """A writer of an Arrow IPC file."""
    from pyarrow import ipc

    return ipc.new_file(file, schema)


def open_arrow_stream(file: Any, schema: Any) -> Any:
    """A writer of an Arrow IPC stream."""
    from pyarrow import ipc

    return ipc.new_stream(file, schema)


class Columnar(Renderer):
    """A typed file as the shell writes it."""

    for_programs = True
    is_document = True
    _open_writer: Callable[[Any, Any], Any]

    def __init__(self, columns: Sequence[str], options: RenderOptions) -> None:
        super().__init__(columns, options)
        self._writer = ColumnarWriter(columns, type(self)._open_writer)

    def rows(self, rows: Sequence[Sequence[Any]]) -> str:
        return self._writer.rows(rows).decode("utf-8", ERRORS)

    def end(self) -> str:
        return self._writer.end().decode("utf-8", ERRORS)


class Parquet(Columnar):
    """A Parquet file."""

    _open_writer = staticmethod(open_parquet)


class Arrow(Columnar):
    """An Arrow IPC file."""

    _open_writer = staticmethod(open_arrow_file)


class _Forward(io.RawIOBase):
    """Bytes to a buffer that others empty meanwhile; it tells how many there were in all."""

    def __init__(self, buffer: io.BytesIO) -> None:
        self._buffer = buffer
        self._count = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        count = self._buffer.write(data)
        self._count += count
        return count

    def tell(self) -> int:
        return self._count


@functools.cache
def is_installed(module: str) -> bool:
    """Whether there is a module of this name; it is not loaded."""
    return importlib.util.find_spec(module) is not None


def check_installed(name: str) -> None:
    """Refuse a format whose library is not there.

    :raises trough.errors.BadRequest: naming what to install
    """
    # Not imported: that takes a second and 60 MB, which a server's front process has no use for.
    if not is_installed("pyarrow"):
        raise errors.BadRequest(f"{name} needs pyarrow", "pip install 'trough[arrow]'")


def _type_of(pyarrow: Any, values: Sequence[Any]) -> Any:
    kinds = {type(value) for value in values} - {type(None)}
    if kinds == {int}:
        return pyarrow.int64()
    if kinds and kinds <= {int, float}:
        return pyarrow.float64()
    return pyarrow.binary() if kinds == {bytes} else pyarrow.string()


def _array(pyarrow: Any, field: Any, values: Sequence[Any]) -> Any:
    kinds: dict[Any, set[type]] = {
        pyarrow.int64(): {int},
        pyarrow.float64(): {int, float},
        pyarrow.binary(): {bytes},
    }
    wanted = kinds.get(field.type, {str})
    if not set(map(type, values)) - {type(None)} <= wanted:
        raise errors.BadRequest(
            f"column {safe(field.name)} holds values of several types, and a column of"
            f" this format has one",
            f"for example CAST({field.name} AS TEXT)",
        )
    try:
        return pyarrow.array(values, field.type)
    except (pyarrow.ArrowInvalid, UnicodeEncodeError) as error:
        raise errors.BadRequest(f"column {safe(field.name)}: {error}") from error
