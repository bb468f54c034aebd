"""Where the rows of a large answer come from, and how they are framed.

A source gives a number of rows and their JSON, again and again, about a piece at a time. It
is suspended in between. Both sources give the same bytes for the same rows. One has SQLite make
the JSON. The other makes it itself, for values that SQLite would write differently.
"""

from __future__ import annotations

import itertools
from collections.abc import Generator, Iterator
from time import monotonic

from trough.model import segment_word
from trough.sql import rows
from trough.sql.queries import OBJECTS, ONE_ROW, PIECE, Answer, ColumnNames, Query, too_many
from trough.sql.rows import Row
from trough.sql.sqlite import Cursor

#: Numbers of rows, each with those rows' JSON.
Source = Generator[tuple[int, bytes], None, None]

#: Rows to begin with; how many fit into a piece is found out.
_FIRST_BATCH = 8

#: Seconds after which a piece is handed on though it is small.
_PATIENCE = 0.01


class _Batches:
    """How many rows to fetch next: as many as fill a piece, or the patience."""

    def __init__(self, cursor: Cursor, limit: int, fetched: int = 0) -> None:
        self._cursor = cursor
        self._limit = limit
        self._fetched = fetched
        self._size = _FIRST_BATCH
        self._began = 0.0

    def fetch(self) -> list[Row]:
        """The next rows, none at the end.

        :raises trough.errors.LimitExceeded: there is a row too many
        """
        self._began = monotonic()
        size = self._size
        if self._limit:
            size = min(size, self._limit - self._fetched)
            if size <= 0:
                if self._fetched > self._limit or self._cursor.fetchone() is not None:
                    raise too_many(self._limit)
                return []
        found = self._cursor.fetchmany(size)
        self._fetched += len(found)
        return found

    def were(self, length: int) -> None:
        """Record how many bytes the rows fetched last were."""
        elapsed = monotonic() - self._began
        wanted = min(PIECE / max(length, 1), _PATIENCE / max(elapsed, 1e-6))
        self._size = max(1, int(self._size * min(max(wanted, 0.1), 8.0)))


def from_sqlite(query: Query, cursor: Cursor) -> Source:
    """Rows of a query that :func:`trough.sql.rows.json_query` made, as bytes."""
    separator = b",\n" if query.framing is OBJECTS else b","
    batches = _Batches(cursor, query.limit)
    while found := batches.fetch():
        texts: list[bytes] = [*itertools.chain.from_iterable(found)]  # type: ignore[list-item]
        text = separator.join(texts)
        batches.were(len(text))
        if len(text) > ONE_ROW and len(texts) > 1:
            del text
            for one in texts:
                yield 1, rows.valid_utf8(one)
            continue
        yield len(found), rows.valid_utf8(text)
    cursor.close()


def by_python(query: Query, cursor: Cursor, found: list[Row], names: tuple[str, ...]) -> Source:
    """Rows as values; `found` are those that were fetched already."""
    batches = _Batches(cursor, query.limit, len(found))
    if query.limit and len(found) > query.limit:
        raise too_many(query.limit)
    as_objects = query.framing is OBJECTS
    while found:
        text = _json(names, found, as_objects)
        if len(text) > ONE_ROW and len(found) > 1:
            for row in found:
                yield 1, _json(names, [row], as_objects)
        else:
            yield len(found), text
        batches.were(len(text))
        found = batches.fetch()
    cursor.close()


def _json(names: tuple[str, ...], found: list[Row], as_objects: bool) -> bytes:
    if as_objects:
        return rows.objects_of_rows(names, found).encode()
    return rows.array_of_rows(found)[1:-1].encode()


def lines(
    answer: Answer, query: Query, segment: str, names: ColumnNames, source: Source
) -> Iterator[bytes]:
    """The pieces of an answer in lines; counts its rows."""
    tag = query.tag
    head = rows.columns_line(tag, segment, names.json).encode()
    prefix = f"{tag} ROWS {segment_word(segment)} [".encode()
    for count, text in source:
        answer.count += count
        yield b"%b%b%b]\n" % (head, prefix, text)
        head = b""
    # Before the bytes are out: the receiver of the last line must know that it is the last.
    answer.over = True
    yield head + rows.done_line(tag, segment, answer.count).encode()


def objects(
    answer: Answer, query: Query, segment: str, names: ColumnNames, source: Source
) -> Iterator[bytes]:
    """The pieces of an answer in objects; counts its rows."""
    before = b"["
    for count, text in source:
        answer.count += count
        yield before + text
        before = b",\n"
    answer.over = True
    yield b"]\n" if before != b"[" else b"[]\n"
