"""median() and its sisters, beside an oracle of Python's own and inside GATHER."""

from __future__ import annotations

import statistics

import pytest
from gather_support import Cluster
from hypothesis import given
from hypothesis import strategies as st

from trough import errors
from trough.gather.sqlite_helpers import connect
from trough.sql.functions import Functions

numbers = st.lists(
    st.integers(-(2**40), 2**40) | st.floats(-1e12, 1e12) | st.none(), min_size=1, max_size=40
)


def asked(values, sql):
    connection = connect()
    connection.execute("CREATE TABLE t (n INTEGER PRIMARY KEY, x)")
    connection.executemany("INSERT INTO t (x) VALUES (?)", [(value,) for value in values])
    return [row[0] for row in connection.execute(sql)]


@given(numbers)
def test_the_median_is_pythons(values):
    """NULLs do not count; of no value it is NULL."""
    real = [float(value) for value in values if value is not None]
    [found] = asked(values, "SELECT median(x) FROM t")
    if not real:
        assert found is None
    else:
        assert found == pytest.approx(statistics.median(real), rel=1e-12, abs=1e-9)


@given(numbers, st.integers(0, 100))
def test_percentiles_agree_with_each_other(values, share):
    """percentile_cont is percentile of another scale; percentile_disc is one of the values."""
    sql = (
        f"SELECT percentile(x, {share}) FROM t UNION ALL"
        f" SELECT percentile_cont(x, {share} / 100.0) FROM t UNION ALL"
        f" SELECT percentile_disc(x, {share} / 100.0) FROM t"
    )
    of_hundred, of_one, one_of_them = asked(values, sql)
    real = [float(value) for value in values if value is not None]
    if real:
        assert of_hundred == pytest.approx(of_one, rel=1e-9, abs=1e-6)
        assert one_of_them in real and min(real) <= one_of_them <= of_hundred
    else:
        assert (of_hundred, of_one, one_of_them) == (None, None, None)


@given(st.lists(st.integers(-9, 9) | st.none(), min_size=1, max_size=15))
def test_a_window_forgets_what_it_moved_past(values):
    """Each row has the median of itself and its neighbours."""
    sql = (
        "SELECT median(x) OVER (ORDER BY n ROWS BETWEEN 1 PRECEDING AND 1 FOLLOWING)"
        " FROM t ORDER BY n"
    )
    expected = []
    for place in range(len(values)):
        near = [v for v in values[max(place - 1, 0) : place + 2] if v is not None]
        expected.append(statistics.median(near) if near else None)
    assert asked(values, sql) == expected


def test_a_gather_has_the_median_of_all_rows():
    """Not that of the segments' medians; by groups, too."""
    cluster = Cluster()
    rows = {"a": [(1, 1), (1, 100)], "b": [(1, 2), (2, 7)], "c": [(1, 3), (2, 9)]}
    for name, some in rows.items():
        cluster.add(name, "CREATE TABLE t (k, x)", {"t": some})
    assert cluster.gather("SELECT median(x), percentile(x, 100) FROM t") == [(5.0, 100.0)]
    sql = "SELECT k, median(x) AS m FROM t GROUP BY k HAVING m > 1 ORDER BY k"
    assert cluster.gather(sql) == [(1, 2.5), (2, 8.0)]


@pytest.mark.parametrize(
    ("name", "rows", "reason"),
    [
        ("MEDIAN", [("a",)], "takes numbers, and there is 'a'"),
        ("MEDIAN", [(b"1",)], "takes numbers"),
        ("MEDIAN", [(float("inf"),)], "no infinity"),
        ("PERCENTILE", [(1, 101)], "no number between 0.0 and 100.0"),
        ("PERCENTILE", [(1, None)], "no number between 0.0 and 100.0"),
        ("PERCENTILE_CONT", [(1, 0.5), (1, 0.6)], "differs between rows"),
    ],
)
def test_what_has_no_percentile_is_refused_with_the_reason(name, rows, reason):
    """The reason is kept for the one who asked, as SQLite would replace it."""
    functions = Functions()
    aggregate = functions.aggregates[name][1]()
    with pytest.raises(errors.BadSql, match=reason):
        for row in rows:
            aggregate.step(*row)
    assert reason in str(functions.problem)
