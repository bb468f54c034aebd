"""One answer, from the line protocol's bytes to the bytes of an HTTP body.

The input is what an executor writes for one segment: the lines COLS, ROWS, DONE and FAIL of
``PROTOCOL.rst``. The output is one of :data:`FORMATS`, compressed if the client wants that.
Bytes come in portions of any size, and no more than one line and one batch of a columnar format
is held. Nothing in here does any I/O.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from trough import errors
from trough.formats import columnar, text

#: Levels of compression that cost less processor time than making the rows does.
_GZIP_LEVEL, _ZSTD_LEVEL = 4, 3


class _Writer(Protocol):
    def rows(self, rows: Sequence[Sequence[Any]], size: int) -> bytes: ...

    def end(self) -> bytes: ...


class _TextWriter:
    """A renderer of text, as bytes."""

    def __init__(self, renderer: text.Renderer) -> None:
        self._renderer = renderer
        self._begun = False

    def rows(self, rows: Sequence[Sequence[Any]], size: int) -> bytes:
        return (self._head() + self._renderer.rows(rows)).encode("utf-8", "replace")

    def end(self) -> bytes:
        return (self._head() + self._renderer.end()).encode("utf-8", "replace")

    def _head(self) -> str:
        begun, self._begun = self._begun, True
        return "" if begun else self._renderer.begin()


def _text(kind: type[text.Renderer]) -> Callable[[Sequence[str]], _Writer]:
    return lambda columns: _TextWriter(kind(columns, text.RenderOptions()))


def _columns(open_writer: Callable[[Any, Any], Any]) -> Callable[[Sequence[str]], _Writer]:
    return lambda columns: columnar.ColumnarWriter(columns, open_writer)


_WRITERS: dict[str, Callable[[Sequence[str]], _Writer]] = {
    "jsonl": _text(text.JsonLines),
    "csv": _text(text.Csv),
    "tsv": _text(text.Tsv),
    "markdown": _text(text.Markdown),
    "arrow": _columns(columnar.open_arrow_stream),
    "parquet": _columns(columnar.open_parquet),
}

#: Names of the formats. ``json`` is what comes in already, and is only compressed.
FORMATS = ("json", *_WRITERS)

#: Those that need pyarrow.
COLUMNAR = frozenset({"arrow", "parquet"})


class Encoder:
    """Turns the bytes of one answer into those of a format.

    :param name: one of :data:`FORMATS`
    :param compression: ``gzip``, ``zstd``, or empty
    """

    def __init__(self, name: str, compression: str = "") -> None:
        self._make = _WRITERS.get(name)
        self._compressor = _compressor(compression)
        self._writer: _Writer | None = None
        # Pieces of the line that has not ended.
        self._begun: list[bytes] = []

    def receive(self, data: bytes) -> bytes:
        """Take some bytes, and return those that are ready.

        :raises trough.errors.TroughError: the answer failed, or does not fit the format
        """
        return self._compressed(data if self._make is None else self._lines(data))

    def end(self) -> bytes:
        """The last bytes, after all that came in."""
        data = b"" if self._make is None else self._written_for(()).end()
        if self._compressor is None:
            return data
        return bytes(self._compressor.compress(data) + self._compressor.flush())

    def _compressed(self, data: bytes) -> bytes:
        if self._compressor is None or not data:
            return data
        # Flushed, so that a reader has each row soon.
        compressed = self._compressor.compress(data)
        return bytes(compressed + self._compressor.flush(_sync(self._compressor)))

    def _lines(self, data: bytes) -> bytes:
        first, *more = data.split(b"\n")
        self._begun.append(first)
        if not more:
            return b""
        lines = [b"".join(self._begun), *more[:-1]]
        self._begun = more[-1:]
        return b"".join([self._line(line) for line in lines])

    def _line(self, line: bytes) -> bytes:
        _, kind, _, rest = (*line.split(b" ", 3), b"")[:4]
        if kind == b"ROWS":
            return self._written_for(()).rows(_rows(rest), len(rest))
        if kind == b"COLS":
            self._written_for(json.loads(rest))
        elif kind == b"FAIL":
            code, _, message = rest.decode("utf-8", "replace").partition(" ")
            raise errors.from_code(code, message)
        return b""

    def _written_for(self, columns: Sequence[str]) -> _Writer:
        if self._writer is None:
            assert self._make is not None
            self._writer = self._make(columns)
        return self._writer


def _rows(line: bytes) -> list[list[Any]]:
    rows: list[list[Any]] = json.loads(line)
    if b'{"blob":"' in line:
        return [[_blob(value) if type(value) is dict else value for value in row] for row in rows]
    return rows


def _blob(value: dict[str, str]) -> bytes:
    return base64.b64decode(value["blob"])


def can_compress(name: str) -> bool:
    """Whether a compression's library is there."""
    return name == "gzip" or (name == "zstd" and columnar.is_installed("zstandard"))


def _compressor(name: str) -> Any:
    if name == "gzip":
        return zlib.compressobj(_GZIP_LEVEL, zlib.DEFLATED, zlib.MAX_WBITS | 16)
    if name == "zstd":
        import zstandard

        return zstandard.ZstdCompressor(level=_ZSTD_LEVEL).compressobj()
    return None


def _sync(compressor: Any) -> int:
    """The mode of ``flush`` that ends a block, and not the stream."""
    if hasattr(compressor, "copy"):
        return zlib.Z_SYNC_FLUSH
    import zstandard

    return zstandard.COMPRESSOBJ_FLUSH_BLOCK
