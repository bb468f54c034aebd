"""Sums in GATHER: no rounding but one, and no overflow but of the whole."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import permutations
from typing import Any

import pytest
from gather_support import Cluster
from hypothesis import given, settings
from hypothesis import strategies as st

from trough import errors
from trough.gather import sqlite_helpers

REALS = st.floats(allow_nan=False, allow_infinity=False)
NUMBERS = st.one_of(st.none(), REALS, st.integers(-(2**63), 2**63 - 1))


def cluster_of(segments: list[list[Any]], kind: str = "") -> Cluster:
    """Segments with one column of these values."""
    cluster = Cluster()
    for number, values in enumerate(segments):
        rows = [(value,) for value in values]
        cluster.add(f"s{number}", f"CREATE TABLE t (x {kind})", {"t": rows})
    return cluster


def rounded(values: list[Any]) -> float:
    """The sum of numbers, rounded once."""
    exact = sum((Fraction(value) for value in values), Fraction())
    try:
        return exact.numerator / exact.denominator
    except OverflowError:
        return -math.inf if exact < 0 else math.inf


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.lists(NUMBERS, max_size=6), min_size=1, max_size=4), st.sampled_from(["", "REAL"])
)
def test_sums_are_rounded_once(segments: list[list[Any]], kind: str) -> None:
    """However the values are spread over segments, their sum is the true one, rounded."""
    values = [value for segment in segments for value in segment if value is not None]
    if kind == "REAL":
        values = [float(value) for value in values]
    cluster = cluster_of(segments, kind)
    [(total, average, count)] = cluster.gather("SELECT total(x), avg(x), count(x) FROM t")
    expected = rounded(values)
    if all(isinstance(value, int) for value in values):
        expected = float(sum(values))
    assert (total, count) == (expected, len(values))
    assert average == (expected / len(values) if values else None)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.lists(st.integers(-(2**63), 2**63 - 1), max_size=5), min_size=1, max_size=4))
def test_sums_of_integers_overflow_as_a_whole_or_not_at_all(segments: list[list[int]]) -> None:
    """What is too large on its way, in a segment or between two, does not matter."""
    values = [value for segment in segments for value in segment]
    cluster = cluster_of(segments)
    if not values:
        assert cluster.gather("SELECT sum(x) FROM t") == [(None,)]
    elif -(2**63) <= sum(values) < 2**63:
        [(found,)] = cluster.gather("SELECT sum(x) FROM t")
        assert found == sum(values) and isinstance(found, int)
    else:
        with pytest.raises(errors.BadSql, match="integer overflow"):
            cluster.gather("SELECT sum(x) FROM t")


@pytest.mark.parametrize("values", list(permutations([2**63 - 1, -(2**63), -(2**62)])))
def test_sums_of_distinct_integers_overflow_as_a_whole_or_not_at_all(values: tuple[int]) -> None:
    """Neither does the order matter in which they are told apart."""
    query = "SELECT sum(DISTINCT x), count(*) FROM t GROUP BY x > 0 OR x < 0"
    for segments in ([[*values]], [[value] for value in values], [[*values], [*values]]):
        [(found, _)] = cluster_of(segments).gather(query)
        assert found == sum(values)
    with pytest.raises(errors.BadSql, match="integer overflow"):
        cluster_of([[2**63 - 1], [1]]).gather(query)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.decimals(-9999, 9999, places=2), max_size=40), min_size=1, max_size=4))
def test_sums_of_ordinary_reals_are_sqlites_own(segments: list[list[Any]]) -> None:
    """For amounts, durations and the like SQLite's compensated sum is the true one as well."""
    numbers = [[float(value) for value in segment] for segment in segments]
    union = sqlite_helpers.connect()
    union.execute("CREATE TABLE t (x REAL)")
    for segment in numbers:
        union.executemany("INSERT INTO t VALUES (?)", [(value,) for value in segment])
    query = "SELECT sum(x), avg(x), total(x) FROM t"
    assert cluster_of(numbers, "REAL").gather(query) == union.execute(query).fetchall()


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=5), st.integers(0, 5))
def test_sums_of_reals_are_next_to_what_some_order_gives(values: list[float], cut: int) -> None:
    """The answer is one of those that SQLite gives for the rows in one order or another, or,
    where SQLite's compensation lost a bit, next to it."""
    [(found,)] = cluster_of([values[:cut], values[cut:]]).gather("SELECT sum(x) FROM t")
    connection = sqlite_helpers.connect()
    possible = set()
    for order in permutations(values):
        rows = ", ".join(f"({value!r})" for value in order)
        possible |= set(connection.execute(f"SELECT sum(column1) FROM (VALUES {rows})").fetchone())
    if found is not None:
        possible |= {math.nextafter(each, to) for each in possible for to in (-math.inf, math.inf)}
    assert found in possible


@pytest.mark.parametrize(
    "values",
    [
        ["12", "1e1", "abc", "12abc", " 7 ", b"3", b"x", ""],
        [math.inf, 1.0],
        [-math.inf, 5],
        [math.inf, -math.inf, 1],
        [0.0, -0.0],
        [5e-324, 1.7976931348623157e308],
        ["9223372036854775807", 1.5],
        [None, None],
        [],
    ],
)
def test_odd_values_are_summed_as_sqlite_does(values: list[Any]) -> None:
    """Texts and BLOBs that look like numbers, infinities, the smallest and the largest."""
    union = sqlite_helpers.connect()
    union.execute("CREATE TABLE t (x)")
    union.executemany("INSERT INTO t VALUES (?)", [(value,) for value in values])
    cluster = cluster_of([values[::2], [], values[1::2]])
    for x in ("x", "DISTINCT x"):
        query = f"SELECT sum({x}), total({x}), avg({x}), count({x}), typeof(sum({x})) FROM t"
        assert cluster.gather(query) == union.execute(query).fetchall()


def test_segments_are_asked_again_only_where_a_sum_is_not_an_integer() -> None:
    """The cheap form is right for most, and the exact one for the rest."""
    cluster = cluster_of([[1, 2], [3], [0.5]])
    assert cluster.gather("SELECT sum(x), avg(x) FROM t") == [(6.5, 1.625)]
    assert [segments for _, segments in cluster.asked[1:]] == [("s0", "s1", "s2"), ("s2",)]


def test_a_column_of_reals_is_asked_exactly_at_once() -> None:
    """Its type tells that the cheap form would not do."""
    cluster = cluster_of([[1, 2], [3], [0.5]], "REAL")
    assert cluster.gather("SELECT sum(x) FROM t") == [(6.5,)]
    assert [segments for _, segments in cluster.asked[1:]] == [("s0", "s1", "s2")]


def test_large_groups_of_reals_travel_as_few_numbers() -> None:
    """Reals of ordinary size are added up in the segments, without a rounding."""
    values = [0.01 * number for number in range(5000)]
    cluster = cluster_of([values], "REAL")
    sent = []
    for _, connection in cluster.segments.items():
        connection.set_trace_callback(sent.append)
    assert cluster.gather("SELECT sum(x) FROM t") == [(rounded(values),)]
    rows = cluster.segments["s0"].execute(cluster.asked[-1][0]).fetchall()
    assert len(rows) == 1


def test_sums_of_reals_that_come_together_are_asked_for_again() -> None:
    """A column beside the sum keeps an executor from adding up, and so from looking at it."""
    cluster = Cluster()
    for number in range(9):
        cluster.add(f"s{number}", "CREATE TABLE t (k INTEGER, x)", {"t": [(1, 0.1), (1, 1e16)]})
    assert cluster.gather("SELECT k, sum(x), avg(x) FROM t") == [(1, 9e16 + 1, (9e16 + 1) / 18)]
    assert cluster.merged > 9
