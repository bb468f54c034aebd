"""Segments in memory, and the database that holds their union, for the tests of GATHER."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any
from zlib import crc32

from trough import errors
from trough.gather import GatherSession, Limits, sqlite_helpers
from trough.sql.column_filters import FilterTest
from trough.sql.row_merging import RowMerger
from trough.sql.rows import array_of_rows
from trough.sql.sqlite import sqlite3


@dataclass
class Cluster:
    """Segments that answer texts as a worker does: rows in bunches, segments interleaved.

    :ivar tested: how often a segment had a filter for a query; `lacking`, and showed by it that it
        has no rows
    :ivar merged: answers that were merged with others
    """

    segments: dict[str, Any] = field(default_factory=dict)
    asked: list[tuple[str, tuple[str, ...]]] = field(default_factory=list)
    broken: dict[str, errors.TroughError] = field(default_factory=dict)
    tested: int = 0
    lacking: int = 0
    merged: int = 0

    def add(self, segment: str, script: str, rows: Mapping[str, Sequence[Sequence[Any]]]) -> None:
        """A segment made by `script`, with rows for its tables."""
        connection = sqlite_helpers.connect()
        connection.executescript(script)
        for table, values in rows.items():
            for row in values:
                marks = ", ".join("?" * len(row))
                connection.execute(f"INSERT INTO {table} VALUES ({marks})", row)
        self.segments[segment] = connection

    def answer(self, gathering: GatherSession) -> list[tuple]:
        """Drive a gathering to its end; all rows of the answer."""
        answer: list[Sequence[Any]] = []
        try:
            while requests := gathering.next_requests():
                for request in requests:
                    self.asked.append((request.sql, request.segments))
                    self._run(gathering, request, answer)
            answer += gathering.result()
        finally:
            gathering.close()
        return [tuple(row) for row in answer]

    def _run(self, gathering: GatherSession, request: Any, answer: list) -> None:
        merged = self._merge(gathering, request) if request.merge else set()
        alone = [each for each in request.segments if each not in merged]
        running = [self._conversation(gathering, each, request) for each in alone]
        while running:
            # One step of each in turn, until it has no more.
            running = [each for each in running if next(each, None)]
            answer += chain.from_iterable(gathering.take())

    def _merge(self, gathering: GatherSession, request: Any) -> set[str]:
        """Have some segments answer together, as an executor does: two in three, and not the same
        ones for each text."""
        merger = RowMerger(request.merge)
        merged: list[str] = []
        for segment in request.segments:
            if segment in self.broken or crc32(f"{segment} {request.sql}".encode()) % 3 == 0:
                continue
            try:
                answer = self.segments[segment].execute(request.sql, request.parameters or {})
                rows = answer.fetchall()
            except (sqlite3.OperationalError, errors.TroughError):
                continue  # it fails again, by itself
            if merger.add(rows):
                lacking = self._lacks(segment, request.tests)
                assert lacking is None or not rows, f"{segment} lacks the text of {lacking}"
                merged.append(segment)
        if merged:
            self.merged += len(merged)
            gathering.merged(merged, array_of_rows(merger.take()).encode("utf-8", "replace"))
        return set(merged)

    def _conversation(self, gathering: GatherSession, segment: str, request: Any) -> Iterator[bool]:
        try:
            cursor = self.segments[segment].execute(request.sql, request.parameters or {})
            lacking = self._lacks(segment, request.tests)
            gathering.columns(segment, [item[0] for item in cursor.description])
            count = 0
            while flush_batch := cursor.fetchmany(2):
                assert lacking is None, f"{segment} has rows, and lacks the text of {lacking}"
                count += len(flush_batch)
                # As a worker sends them.
                gathering.rows(segment, array_of_rows(flush_batch).encode("utf-8", "replace"))
                yield True
        except sqlite3.OperationalError as error:
            gathering.failed(segment, errors.BadSql(str(error)))
            return
        except errors.TroughError as error:
            gathering.failed(segment, error)
            return
        if segment in self.broken:
            gathering.failed(segment, self.broken[segment])
        else:
            gathering.done(segment, count)

    def _lacks(self, segment: str, tests: Sequence[FilterTest]) -> FilterTest | None:
        """A test by which a worker would not have opened a segment."""
        for test in tests:
            answer = self.segments[segment].execute(test.sql).fetchall()
            if len(answer) == 1 and answer[0][0] is not None and answer[0][1] is None:
                made = b64decode(answer[0][0])
                self.tested += 1
                if test.fails(made):
                    self.lacking += 1
                    return test
        return None

    def gather(self, sql: str, parameters: Any = None, **options: Any) -> list[tuple]:
        """The answer to a GATHER over all segments."""
        return self.answer(GatherSession(sql, self.segments, parameters, **options))


SMALL = Limits(rows=1_000_000, bytes=64 << 20, kept_rows=100_000)


def union_of(cluster: Cluster, script: str) -> Any:
    """One SQLite database with the rows of all segments.

    :param script: creates the union's tables and views; a table that has a column
        ``_segment`` gets the segments' names in it
    """
    union = sqlite_helpers.connect()
    union.executescript(script)
    for segment, source in cluster.segments.items():
        for table in tables_of(union):
            known = _columns_of(source, table)
            names = [name for name in _columns_of(union, table) if name in known]
            tagged = "_segment" in _columns_of(union, table) and "_segment" not in known
            if not known:
                continue
            listed = ", ".join(f'"{name}"' for name in names)
            rows = source.execute(f'SELECT {listed} FROM "{table}"').fetchall()
            values = [(*row, segment) if tagged else row for row in rows]
            listed += ", _segment" * tagged
            marks = ", ".join("?" * (len(names) + tagged))
            union.executemany(f'INSERT INTO "{table}" ({listed}) VALUES ({marks})', values)
    return union


def tables_of(connection: Any) -> list[str]:
    # Not the tables in which a full-text index keeps its content.
    listed = connection.execute(
        "SELECT name FROM pragma_table_list WHERE schema = 'main' "
        "AND type IN ('table', 'virtual') AND name NOT LIKE 'sqlite!_%' ESCAPE '!'"
    )
    return [row[0] for row in listed]


def _columns_of(connection: Any, table: str) -> list[str]:
    """Of a table, without generated ones."""
    listed = connection.execute(f'PRAGMA table_xinfo("{table}")')
    return [row[1] for row in listed if row[6] == 0]


def exactly(value: Any) -> Any:
    """A value that equals only itself: 1 is not 1.0."""
    if isinstance(value, float):
        return ("real", repr(value + 0.0))
    return (type(value).__name__, value)


def exact_rows(rows: list[tuple], ordered: bool) -> list:
    """Rows to compare, in their order or in any."""
    exact = [tuple(map(exactly, row)) for row in rows]
    return exact if ordered else sorted(exact, key=repr)
