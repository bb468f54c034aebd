"""A range never excludes a value that SQLite finds in the column."""

from __future__ import annotations

from base64 import b64decode
from contextlib import closing
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trough.sql.column_ranges import FUNCTION, IS_UTF8, is_key, is_outside, key_of, made_range
from trough.sql.sqlite import sqlite3

TEXTS = st.one_of(
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=40),
    st.sampled_from(["", "a" * 32, "a" * 32 + "b", "a" * 33, "é", "\U0001f600", "\uffff"]),
)
NUMBERS = st.one_of(
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    st.sampled_from([0.0, -0.0, 2**53 + 1, float(2**53), float("inf"), 5e-324, -1, 2**63 - 1]),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.one_of(TEXTS, NUMBERS), min_size=2, max_size=8))
def test_keys_are_in_the_order_of_sqlite(values: list[Any]) -> None:
    """The lesser value never has the greater key."""
    with closing(sqlite3.connect(":memory:")) as database:
        database.execute("CREATE TABLE t (v)")
        database.executemany("INSERT INTO t VALUES (?)", [(value,) for value in values])
        ordered = [row[0] for row in database.execute("SELECT v FROM t ORDER BY v")]
    keys = [key_of(value) for value in ordered]
    assert keys == sorted(keys) and all(map(is_key, keys))


def range_of(encoding: str, *values: Any) -> bytes | None:
    """The range that SQLite makes of these, or None."""
    with closing(sqlite3.connect(":memory:")) as database:
        database.create_function(FUNCTION, 3, made_range)
        database.execute(f"PRAGMA encoding = '{encoding}'")
        database.execute("CREATE TABLE t (v)")
        database.executemany("INSERT INTO t VALUES (?)", [(value,) for value in values])
        text = database.execute(f"SELECT {FUNCTION}(min(v), max(v), {IS_UTF8}) FROM t").fetchone()[
            0
        ]
    return None if text is None else b64decode(text)


@pytest.mark.parametrize(
    ("values", "low", "high", "outside"),
    [
        ((1, 5), 6, None, True),
        ((1, 5), 5, None, False),
        ((1, 5), None, 0.5, True),
        ((1, 5), None, 1, False),
        ((1, 5), 2, 3, False),
        ((1, 5), "", None, True),
        ((1, "x"), 7, None, False),
        ((1, b"x"), 7, None, False),
        ((1, b"x"), "zz", None, False),
        ((b"x",), None, "zz", True),
        ((None, 3), None, 2, True),
        ((None,), None, 2, True),
        ((), 2, None, True),
        (("a\0b",), "a", None, False),
        (("a\0b",), None, "a\1", False),
        ((2**53 + 1,), None, 2**53, False),
        ((float("inf"),), 2**63 - 1, None, False),
        ((-0.0,), 0, 0, False),
    ],
)
def test_what_is_outside(values: tuple[Any, ...], low: Any, high: Any, outside: bool) -> None:
    """NULLs do not count, numbers are before texts, and texts before BLOBs."""
    made = range_of("UTF-8", *values)
    keys = [None if bound is None else key_of(bound) for bound in (low, high)]
    assert made is not None and is_outside(made, *keys) == outside


def test_there_is_none_of_texts_in_another_encoding() -> None:
    """SQLite compares their bytes there, in another order."""
    for encoding in ("UTF-16le", "UTF-16be"):
        assert range_of(encoding, "a", 1) is None
        assert range_of(encoding, "a") is None
        assert range_of(encoding, 1, 2) == range_of("UTF-8", 1, 2)
        # A text would be the greater end.
        assert range_of(encoding, 1, b"x") == range_of("UTF-8", 1, b"x")
