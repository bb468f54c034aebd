"""A filter never lacks what is in the column, and nearly always what is not."""

import sqlite3
from base64 import b64decode
from contextlib import closing

import pytest

from trough.sql import column_filters
from trough.sql.column_filters import FUNCTION, ColumnFilter, digest, lacks, make_filter


@pytest.mark.parametrize("count", [0, 1, 6, 7, 1000, 40_000])
def test_what_is_there_is_not_lacking(count):
    """For any number of texts; one percent of others, at most, is taken for one of them."""
    there = [digest(f"http://example.com/{number}", False) for number in range(count)]
    made = make_filter(there)
    assert not any(lacks(made, number) for number in there)
    others = [digest(f"http://example.org/{number}", False) for number in range(2000)]
    assert sum(not lacks(made, number) for number in others) <= 20


def test_case_counts_as_in_sqlite():
    """That of A to Z alone."""
    with closing(sqlite3.connect(":memory:")) as database:
        for left, right in (("Ab", "aB"), ("É", "é"), ("ß", "SS"), ("K", "\u212a"), ("a", "a ")):
            sql = "SELECT ? = ? COLLATE NOCASE"
            equal = database.execute(sql, (left, right)).fetchone()[0]
            assert (digest(left, True) == digest(right, True)) == bool(equal), (left, right)
    assert digest("a", False) != digest("A", False)


def filter_of(*values):
    """The filter that SQLite makes of these, or None."""
    with closing(sqlite3.connect(":memory:")) as database:
        database.create_aggregate(FUNCTION, 2, ColumnFilter)
        database.execute("CREATE TABLE t (v)")
        database.executemany("INSERT INTO t VALUES (?)", [(value,) for value in values])
        text = database.execute(f"SELECT {FUNCTION}(v, 0) FROM t").fetchone()[0]
    return None if text is None else b64decode(text)


def test_an_integer_is_there_as_its_text():
    """A column of type TEXT compares it so; a BLOB is equal to no text, nor is NULL."""
    made = filter_of(12, "a", b"b", None)
    assert [lacks(made, digest(text, False)) for text in ("12", "a", "b")] == [False, False, True]


def test_there_is_none_of_reals_and_of_very_many_rows(monkeypatch):
    """SQLite writes some reals in another way than Python."""
    assert filter_of("a", 1.5) is None
    monkeypatch.setattr(column_filters, "MOST_ROWS", 2)
    assert filter_of("a", "b") is not None
    assert filter_of("a", "b", None) is None
