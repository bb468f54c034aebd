"""What a process keeps of the last hour."""

from __future__ import annotations

from twisted.internet.defer import Deferred

from trough.metrics.history import KEPT, History, requests_so_far


def test_an_hour_is_kept() -> None:
    """The oldest samples are forgotten; the names are those of the numbers."""
    now, number = [0.0], [0]
    history = History(lambda: {"n_total": number[0], "size": 2}, lambda: now[0])
    assert history.status()["rows"] == []
    for _ in range(KEPT + 5):
        number[0] += 1
        now[0] += 10
        assert Deferred.fromCoroutine(history.take()).result is None
    status = history.status()
    assert status["columns"] == ["time", "n_total", "size"]
    assert len(status["rows"]) == KEPT
    assert status["rows"][0] == [60.0, 6, 2]
    assert status["rows"][-1] == [now[0], number[0], 2]


def test_requests_and_errors() -> None:
    """All outcomes count; all but ``ok`` are errors."""
    assert requests_so_far({}) == {"requests_total": 0, "errors_total": 0}
    outcomes = {"http read": {"ok": 3, "bad-sql": 1}, "line QUERY": {"lost": 2}}
    assert requests_so_far(outcomes) == {"requests_total": 6, "errors_total": 3}
