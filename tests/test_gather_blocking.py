"""GATHER for blocking clients."""

from __future__ import annotations

import threading

import pytest

from trough import errors
from trough.gather import Gathering, database
from trough.gather.blocking import gather_blocking
from trough.sql.sqlite import sqlite3


class Segments:
    """Databases that any thread asks, as over HTTP: an object a row."""

    def __init__(self, count: int, objects: bool) -> None:
        self._lock = threading.Lock()
        self._objects = objects
        self.asked = 0
        self.databases = {}
        for number in range(count):
            connection = self.databases[f"s{number}"] = database.connect()
            connection.execute("CREATE TABLE t (k, n)")
            rows = [(row % 2, number) for row in range(4)]
            connection.executemany("INSERT INTO t VALUES (?, ?)", rows)

    def ask(self, segment, sql, parameters):
        with self._lock:
            self.asked += 1
            try:
                cursor = self.databases[segment].execute(sql, parameters or {})
                rows = cursor.fetchall()
            except sqlite3.Error as error:
                raise errors.BadSql(str(error)) from error
        if not self._objects:
            return rows
        names = [item[0] for item in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in rows]


@pytest.mark.parametrize("objects", [False, True])
@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SELECT k, sum(n), count(*), k FROM t GROUP BY k", [(0, 870, 60, 0), (1, 870, 60, 1)]),
        ("SELECT n FROM t WHERE n > 27 AND k", [(28,), (28,), (29,), (29,)]),
        ("SELECT x.n FROM t x, t y WHERE x.n = 3 AND y.n = 4 AND x.k AND y.k", [(3,)] * 4),
    ],
)
def test_answers_are_those_of_any_client(objects: bool, sql: str, expected: list) -> None:
    """Rows as values or as objects, all questions over some threads."""
    segments = Segments(30, objects)
    gathering = Gathering(sql, segments.databases)
    assert sorted(map(tuple, gather_blocking(gathering, segments.ask))) == expected


def test_it_asks_no_more_than_it_needs() -> None:
    """Once there are enough rows the other segments are left alone."""
    segments = Segments(200, False)
    gathering = Gathering("SELECT n FROM t LIMIT 2", segments.databases)
    assert len(list(gather_blocking(gathering, segments.ask, 2))) == 2
    assert segments.asked < 50


def test_errors_are_the_segments_own() -> None:
    """A segment's error fails the answer."""
    segments = Segments(3, False)
    del segments.databases["s1"]

    def ask(segment, sql, parameters):
        if segment == "s1":
            raise errors.NoSuchSegment("no worker serves s1")
        return segments.ask(segment, sql, parameters)

    gathering = Gathering("SELECT count(*) FROM t", ["s0", "s1", "s2"])
    with pytest.raises(errors.Unavailable, match="s1: no-segment"):
        list(gather_blocking(gathering, ask))
