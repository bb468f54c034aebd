"""A bulk of equal events is one line in the log, and one more each minute."""

from twisted.logger import capturedLogs

from trough.util.log_digest import PERIOD, LogDigest


def test_one_line_for_each_cause_and_minute():
    """The first at once, the number of the others later, and the next one at once again when a
    minute went by without any."""
    time = [0.0]
    digest = LogDigest(lambda: time[0])
    with capturedLogs() as events:
        _run(digest, time, lambda: [(each["cause"], each["count"]) for each in events])


def _run(digest, time, lines):
    assert [digest.is_first("away") for _ in range(10_000)] == [True] + [False] * 9_999
    assert digest.is_first("full")
    digest.flush()
    assert lines() == []
    time[0] = PERIOD
    digest.flush()
    assert lines() == [("away", 9_999)]
    assert not digest.is_first("away") and digest.is_first("full")
    time[0] = 2 * PERIOD
    digest.flush()
    time[0] = 3 * PERIOD
    digest.flush()
    assert lines() == [("away", 9_999), ("away", 1)]
    assert digest.is_first("away")
