"""A GATHER process that has no memory left says so, and does not die."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Generator
from typing import Any

import pytest

from trough import errors
from trough.gather import messages
from trough.gather.blocking import BlockingGathering

#: Bytes of one row; 300 of them are more than the process may have.
ROW = 3_000_000


def result_of(steps: Generator[None, None, Any]) -> Any:
    """What a generator returns at its end."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


def answer(gathering: BlockingGathering, count: int, size: int) -> None:
    """Have each of its segments answer with so many rows, until nothing is asked any more."""
    database = sqlite3.connect(":memory:")
    database.execute("CREATE TABLE t (a)")
    while requests := result_of(gathering.next_requests(1.0)):
        for segments, sql, *_ in requests:
            width = len(database.execute(sql).description)
            rows = [list(row) for row in database.execute(sql)]
            if "AS c0 FROM (SELECT" not in sql:  # no question for a schema
                rows = [["y" * size] + [None] * (width - 1)] * count
            for segment in segments:
                for row in rows:
                    message = (messages.ROWS, segment, json.dumps([row]).encode())
                    result_of(gathering.send(message, 1.0))
                result_of(gathering.send((messages.DONE, segment, len(rows)), 1.0))


@pytest.mark.parametrize(
    ("sql", "segments", "rows", "partial"),
    [
        ("SELECT a FROM t", 1, 300, True),
        ("SELECT group_concat(a) FROM t", 300, 1, False),
        ("SELECT DISTINCT a FROM t", 300, 1, False),
        ("SELECT a FROM t ORDER BY a LIMIT 400", 400, 1, False),
    ],
)
def test_more_rows_than_it_has_memory_for(
    sql: str, segments: int, rows: int, partial: bool
) -> None:
    """Rows that wait, in Python or in SQLite, are too many at some time."""
    ids = [f"s{number}" for number in range(segments)]
    gathering = BlockingGathering(sql, ids, None, partial=partial, within=False, now=0.0)
    try:
        with pytest.raises(errors.LimitExceeded, match="more memory"):
            answer(gathering, rows, ROW)
            result_of(gathering.more(1.0))
    finally:
        gathering.close()


def test_a_row_that_is_too_large_is_not_passed_on() -> None:
    """It is refused before it takes memory of the process."""
    gathering = BlockingGathering("SELECT a FROM t", ["s"], None, partial=0, within=0, now=0.0)
    try:
        with pytest.raises(errors.LimitExceeded, match="segment s sent a row"):
            answer(gathering, 1, 5_000_000)
    finally:
        gathering.close()
