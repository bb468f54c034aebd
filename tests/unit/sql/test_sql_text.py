"""Values written into SQL text, checked by what SQLite makes of them."""

import datetime
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pysqlite3 import dbapi2 as sqlite3

from trough import errors
from trough.sql.text import filled_in, sql_value


def as_sqlite_reads(value):
    connection = sqlite3.connect(":memory:")
    try:
        text = filled_in("SELECT %s AS v, typeof(%s)", (value, value))
        return connection.execute(text).fetchone()
    finally:
        connection.close()


@given(st.text() | st.text("'\\\0\"%;-\n"))
def test_text_survives(value):
    """Any text comes back as the text it was: quotes, backslashes, NULs, percent signs."""
    assert as_sqlite_reads(value) == (value, "text")


@given(st.integers(-(2**63), 2**63 - 1))
def test_integers_survive(value):
    """Every integer of 64 bits comes back as that integer."""
    assert as_sqlite_reads(value) == (value, "integer")


@given(st.floats(allow_nan=False))
def test_reals_survive(value):
    """Every real comes back as that real, the infinities included."""
    assert as_sqlite_reads(value) == (value, "real")


@given(st.binary())
def test_bytes_are_text_where_they_can_be(value):
    """Bytes are a text where they are UTF-8, as existing clients rely on, else a BLOB."""
    try:
        expected = (value.decode(), "text")
    except UnicodeDecodeError:
        expected = (value, "blob")
    assert as_sqlite_reads(value) == expected


@given(st.binary())
def test_byte_arrays_are_always_blobs(value):
    """A caller who wants a BLOB whatever is in it says so by the type."""
    for kind in (bytearray, memoryview):
        assert as_sqlite_reads(kind(value)) == (value, "blob")


def test_null_booleans_and_nan():
    """None and NaN are null, and booleans are the integers that SQLite has for them."""
    assert as_sqlite_reads(None) == (None, "null")
    assert as_sqlite_reads(math.nan) == (None, "null")
    assert as_sqlite_reads(True) == (1, "integer")
    assert as_sqlite_reads(False) == (0, "integer")


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        (datetime.datetime(2014, 1, 26, 20, 6, 24), "2014-01-26 20:06:24"),
        (datetime.datetime(2014, 1, 26, 20, 6, 24, 123456), "2014-01-26 20:06:24"),
        (datetime.datetime(2014, 1, 26, 20, 6, 24, tzinfo=datetime.UTC), "2014-01-26 20:06:24"),
        (
            datetime.datetime(
                2014,
                1,
                26,
                20,
                6,
                24,
                tzinfo=datetime.timezone(datetime.timedelta(hours=5, minutes=53, seconds=28)),
            ),
            "2014-01-26 14:12:56",
        ),
    ],
    ids=["naive", "fraction", "utc", "odd-offset"],
)
def test_moments_are_texts_that_sort(value, stored):
    """A datetime is stored as SQLite's own text for it, in UTC where it has a time zone."""
    assert as_sqlite_reads(value) == (stored, "text")


@pytest.mark.parametrize("value", [Ellipsis, [1], 2**63, -(2**63) - 1, "\ud800"], ids=ascii)
def test_what_has_no_text_is_refused(value):
    """A value that SQL cannot say is an error, not another value."""
    with pytest.raises(errors.BadRequest):
        sql_value(value)


@pytest.mark.parametrize(
    ("template", "values"),
    [("SELECT %s", ()), ("SELECT 1", (1,)), ("SELECT %s, %s", (1,)), ("LIKE 'a%'", ())],
)
def test_templates_that_do_not_fit_are_refused(template, values):
    """Too many values, too few, or a lone percent sign: the error says how to mend it."""
    with pytest.raises(errors.BadRequest, match="one %s for each value"):
        filled_in(template, values)


def test_a_template_without_values_can_be_left_alone():
    """No values at all (None) leaves percent signs alone; an empty tuple does not."""
    assert filled_in("LIKE 'a%'", None) == "LIKE 'a%'"
    assert filled_in("LIKE 'a%%'", ()) == "LIKE 'a%'"
