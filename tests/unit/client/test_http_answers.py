"""What HTTP answers mean to the blocking client."""

from __future__ import annotations

from trough.client.responses import gathered


def test_a_missing_segment_may_be_called_blob():
    """Values that are BLOBs are told from what is said of a segment of that name."""
    body = (
        b'{"columns":["a","b"],"rows":[[{"blob":"AP8="},"{}"],[null,9e999]],'
        b'"missing":{"blob":{"error":"it took too long","code":"timeout"}}}'
    )
    rows, missing = gathered(body)
    assert rows == [{"a": b"\x00\xff", "b": "{}"}, {"a": None, "b": float("inf")}]
    assert missing == {"blob": {"error": "it took too long", "code": "timeout"}}


def test_marks_of_segments_that_are_stale() -> None:
    """They are attributes of the rows, as what is missing is; empty where there are none."""
    rows, _ = gathered(b'{"columns":["a"],"rows":[[1]],"missing":{},"stale":{"s1":"unconfirmed"}}')
    assert rows == [{"a": 1}] and rows.stale == {"s1": "unconfirmed"} and rows.missing == {}
    rows, _ = gathered(b'{"columns":["a"],"rows":[],"missing":{"s2":{"code":"timeout"}}}')
    assert rows == [] and rows.stale == {} and rows.missing == {"s2": {"code": "timeout"}}
