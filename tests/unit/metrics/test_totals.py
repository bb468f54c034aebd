"""What is counted of requests."""

from trough.metrics.totals import BOUNDS, ExecutorTotals, RequestTotals


def test_requests_are_counted_by_verb_and_outcome():
    """And their latencies by verb; one that takes exactly a bound is within it."""
    totals = RequestTotals()
    for seconds in (0.0, BOUNDS[0], BOUNDS[0] * 1.01, 10_000.0):
        totals.of("line", "QUERY").add("ok", seconds)
    totals.of("line", "QUERY").add("bad-sql", 0.0)
    totals.of("http", "read").add("ok", 0.0)
    totals.of("line", "PING")  # nobody asked it yet
    counted = totals.of("line", "QUERY")
    assert counted.buckets[:2] == [3, 1]
    assert counted.buckets[-1] == 1
    assert sum(counted.buckets) == 5
    assert counted.seconds > 10_000
    assert totals.status() == {"line QUERY": {"ok": 4, "bad-sql": 1}, "http read": {"ok": 1}}


def test_a_failed_segment_has_no_rows():
    """Its bytes were sent all the same."""
    totals = ExecutorTotals()
    totals.add(10, 3)
    totals.add(5, -2)
    assert totals.status() == {"bytes": 15, "changes": 0, "rows": 3, "writes": 0}
